"""Choosing a schedule: the guide of the lab `schedules`, and one-cycle, each sentence with a run.

Digits of 14x14 pixels, 32 units; how they are trained stands in `scheduled.py`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor

from pellucid.labs import schedules
from pellucid.labs.options import lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, at_least, at_most, equals, is_true
from pellucid.labs.scheduled import (
    EPOCH,
    EVERY,
    FACTOR,
    PATIENCE,
    RATES,
    THRESHOLD,
    Course,
    Plateau,
    course,
    fixed,
    known,
)
from pellucid.labs.small_net import verdict
from pellucid.optim.schedules import Cosine, OneCycle, StepDecay

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEW = 20


@lab
def run(
    *,
    epochs: Annotated[int, ranged("of 40 steps, of each; this is on short runs", 10, 12)] = 10,
    seeds: Annotated[int, ranged("networks at each rate", 3, 5)] = 3,
    seed: Annotated[int, ranged("of first weights and batches", 0, 10**6)] = 0,
) -> LabResult:
    """Train with seven schedules at three rates, and take the guide at its word."""
    steps = epochs * EPOCH
    found, small, half, early = runs(epochs, seeds, seed)
    last = {name: c.losses[-1].mean(1) for name, c in found.items()}
    text = f"""
        The lab schedules says how each schedule goes, and when to take which. Here each sentence
        gets a run: {steps} steps on 2,000 digits, {seeds} networks at each of the rates
        {", ".join(f"{r:g}" for r in RATES)}. The rate is chosen on 1,000 images, accuracy is
        measured on 2,000 others.

        Large steps to get far, small ones to settle. At lr 0.3 a constant rate ends at a loss of
        {float(last["constant"][2]):.3f}, cosine at {float(last["cosine"][2]):.3f}. At lr 0.03 it is
        the other way round, {float(last["constant"][0]):.3f} and
        {float(last["cosine"][0]):.3f}: there, small steps are all there is, and making them smaller
        only stops the way. So compare at the best rate of each. It is
        {RATES[found["constant"].best]:g} for constant and {RATES[found["cosine"].best]:g} for
        cosine.

        One-cycle rises from 1/25 of the rate to all of it in the first 30 % of the run, and falls
        to almost 0. With a rate of its own it is one more schedule that ends small. PyTorch's lets
        the momentum swing as well; ours does not.

        Where two do not differ by more than the seeds do, the verdict is: no difference shown.
    """
    rows = [
        (name, RATES[c.best], float(c.judging[c.best].mean()), *map(float, last[name]))
        for name, c in found.items()
    ]
    head = ("schedule", "best lr", "accuracy", *(f"loss, lr {r:g}" for r in RATES))
    claims = [
        *_ends(found, early), *_alike(found), *_length(found, half), *_looks(found, small),
        *_onecycle(steps),
    ]  # fmt: skip
    return LabResult(
        text, claims, partial(_draw, found, small),
        [
            Table(head, rows, "Seven schedules, losses on the part that chooses"),
            Table(("statement", "verdict of these runs"), _verdicts(found, small, half, early),
                  "The guide, sentence by sentence"),
        ],
        {"best_lr": {name: RATES[c.best] for name, c in found.items()},
         "accuracy": {name: float(c.judging[c.best].mean()) for name, c in found.items()}},
    )  # fmt: skip


def runs(epochs: int, seeds: int, seed: int) -> tuple[dict[str, Course], Course, Course, Course]:
    """Train with all schedules; with a plateau of few images; for half as long; cut early."""
    steps = epochs * EPOCH
    soon = StepDecay(epochs=max(1, epochs // 7))
    return (
        {name: course(share, seeds, seed, steps) for name, share in known(epochs).items()},
        course(Plateau(FEW), seeds, seed, steps),
        course(fixed(Cosine().build(1.0, steps // 2, EPOCH)), seeds, seed, steps // 2),
        course(fixed(soon.build(1.0, steps, EPOCH)), seeds, seed, steps),
    )


def cuts(c: Course) -> float:
    """Return how often a network was cut in the end, mean of those at lr 0.03 and 0.1."""
    return float(-c.shares[-1, :2].log10().mean())


def _tuned(c: Course) -> Tensor:
    return c.judging[c.best]


def _verdicts(
    found: dict[str, Course], small: Course, half: Course, early: Course
) -> list[tuple[str, str]]:
    loss = {name: c.losses[-1] for name, c in found.items()}
    middle = found["cosine"].losses[len(half.losses) - 1]
    flat = found["constant"].losses[len(half.losses) - 1]
    return [
        ("large steps first, then small ones", verdict(loss["constant"][2] - loss["cosine"][2],
                                                       "cosine", "constant") + ", loss, lr 0.3"),
        ("the same, each tuned",
         verdict(_tuned(found["cosine"]) - _tuned(found["constant"]), "cosine", "constant")),
        ("cosine or linear", verdict(_tuned(found["cosine"]) - _tuned(found["linear"]), "cosine",
                                     "linear")),
        ("cosine or exponential", verdict(_tuned(found["cosine"]) - _tuned(found["exponential"]),
                                          "cosine", "exponential")),
        ("one-cycle or cosine", verdict(_tuned(found["one-cycle"]) - _tuned(found["cosine"]),
                                        "one-cycle", "cosine")),
        ("step: the place of its cut matters", verdict(_tuned(found["step"]) - _tuned(early),
                                                       "late cut", "early cut")),
        ("cosine must know the length", verdict(middle[2] - half.losses[-1][2], "planned",
                                                "broken off") + ", loss, lr 0.3"),
        ("constant does not, but is no better there", verdict(flat[2] - half.losses[-1][2],
                                                              "planned cosine", "constant")),
        (f"plateau: {FEW} images or 1,000",
         f"{cuts(small):.1f} and {cuts(found['plateau']):.1f} cuts, up to lr 0.1"),
        ("plateau or cosine", verdict(_tuned(found["plateau"]) - _tuned(found["cosine"]),
                                      "plateau", "cosine")),
    ]  # fmt: skip


def _ends(found: dict[str, Course], early: Course) -> list[Claim]:
    last = {name: c.losses[-1].mean(1) for name, c in found.items()}
    claims = [
        at_most(f"At lr 0.3 {name} ends with a lower loss than constant: ratio",
                last[name][2] / last["constant"][2], 0.92)
        for name in ("step", "exponential", "cosine", "linear", "one-cycle")
    ]  # fmt: skip
    return [
        *claims,
        at_least("At lr 0.03 cosine ends with a higher one: ratio",
                 last["cosine"][0] / last["constant"][0], 1.03, "T6.3"),
        is_true("The best rate of cosine is not below that of constant",
                found["cosine"].best >= found["constant"].best),
        at_least("A step that comes too early stops the way: loss at lr 0.1, over that of a late "
                 "one", early.losses[-1].mean(1)[1] / last["step"][1], 1.15),
        at_least("also at the best rate of each: accuracy lost",
                 _tuned(found["step"]).mean() - _tuned(early).mean(), 0.005),
    ]  # fmt: skip


def _alike(found: dict[str, Course]) -> list[Claim]:
    cosine = _tuned(found["cosine"]).mean()
    return [
        at_most(f"Cosine and {name}, each at its best rate: accuracies differ by",
                (cosine - _tuned(found[name]).mean()).abs(), 0.02)
        for name in ("linear", "one-cycle", "step", "exponential")
    ]  # fmt: skip


def _length(found: dict[str, Course], half: Course) -> list[Claim]:
    middle = found["cosine"].losses[len(half.losses) - 1].mean(1)
    return [
        at_most("Half the steps, lr 0.3: cosine planned for that length ends below one that is "
                "broken off there: ratio", half.losses[-1].mean(1)[2] / middle[2], 0.95, "T6.24"),
        equals("A cosine that is planned ends at rate", half.shares[-1, 0, 0], 0, 0.01, "T6.24"),
        at_least("one that is broken off stops at rate",
                 found["cosine"].shares[len(half.losses) - 1, 0, 0], 0.4, "T6.24"),
    ]  # fmt: skip


def _looks(found: dict[str, Course], small: Course) -> list[Claim]:
    rule = Plateau(FEW)
    course(rule, 1, 0, 12 * EVERY)
    seen = torch.stack(rule.seen)[:, -1, 0]
    events = schedules.plateau(tuple(seen.tolist()), FACTOR, PATIENCE, THRESHOLD, 0)
    return [
        agrees("The plateau rule used here is that of the lab schedules",
               rule.share[-1, 0].double(), torch.tensor(events[-1].rate).double(), 1e-6, "T2.12"),
        at_least(f"Noise is taken for a plateau: up to lr 0.1, {FEW} images cut more often than "
                 "1,000, by", cuts(small) - cuts(found["plateau"]), 0.1),
    ]  # fmt: skip


def _onecycle(steps: int) -> list[Claim]:
    cycle = OneCycle().build(1.0, steps, EPOCH)
    shares = torch.tensor([cycle(step) for step in range(steps)])
    return [
        equals("One-cycle begins at 1/25 of the rate", shares[0], 0.04, 1e-6),
        equals("has all of it once, after 30 % of the run", shares.argmax() / steps, 0.3, 0.01),
        at_most("and ends at almost nothing", shares[-1], 1e-5),
    ]


def _draw(found: dict[str, Course], small: Course) -> Figure:
    from pellucid.labs.drawing import COLOURS, RED, finish, sheet

    figure, (shares, losses, rates, cuts) = sheet(
        "Seven schedules on digits: what the rate does, and what comes of it", 2, 2, size=(12, 8)
    )
    styles = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)))
    for (name, c), colour, style in zip(found.items(), COLOURS, styles, strict=True):
        at = range(EVERY, EVERY * len(c.losses) + 1, EVERY)
        shares.plot(at, c.shares[:, 1].mean(1), color=colour, linestyle=style, label=name)
        losses.plot(at, c.losses[:, 2].mean(1), color=colour, linestyle=style, label=name)
        rates.plot(RATES, c.losses[-1].mean(1), color=colour, linestyle=style, marker="o",
                   label=name)  # fmt: skip
    for c, colour, label in ((found["plateau"], COLOURS[0], "1,000 images"),
                             (small, RED, f"{FEW} images")):  # fmt: skip
        at = range(EVERY, EVERY * len(c.losses) + 1, EVERY)
        for k in range(c.shares.shape[2]):
            cuts.step(at, c.shares[:, 1, k], color=colour, where="post",
                      linestyle="-" if colour == RED else "--",
                      label=label if k == 0 else None)  # fmt: skip
    losses.set_ylim(0, 1.5)
    rates.set_xscale("log")
    rates.set_xticks(RATES, [f"{rate:g}" for rate in RATES])
    rates.minorticks_off()
    cuts.set_yscale("log")
    finish(shares, "seven schedules at lr 0.1", "steps", "share of the first rate")
    finish(losses, "loss at lr 0.3", "steps", "loss")
    finish(rates, "last loss over the first rate", "lr", "loss")
    finish(cuts, "plateau at lr 0.1: what it looks at decides", "steps",
           "share of the first rate", legend=True)  # fmt: skip
    figure.legend(*shares.get_legend_handles_labels(), loc="outside lower center", ncols=7,
                  title="the schedules of the first three pictures", fontsize=9)  # fmt: skip
    return figure
