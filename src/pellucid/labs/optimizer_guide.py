"""Choosing an optimizer: a decision tree that is often given, and what small runs say about it.

Each statement has a run. They are small: 14x14 digits and 32 units, and toy tasks for what lies
outside image classification. What they do not show, they do not refute.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, NamedTuple

import torch
from torch import Tensor

from pellucid.labs import rules, small_net
from pellucid.labs.guide_toys import DUELS, TASK_RATES, TextRuns, ending, learned, tasks
from pellucid.labs.guide_toys import claims as toys
from pellucid.labs.options import lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, at_least, at_most
from pellucid.labs.small_net import Rule, verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0)
EARLY = 50
RULES: dict[str, Rule] = {
    "SGD": lambda g, w, lr: rules.sgd(g, w, lr=lr),  # type: ignore[arg-type]
    "momentum": lambda g, w, lr: rules.sgd(g, w, lr=lr, momentum=0.9, weight_decay=1e-4),  # type: ignore[arg-type]
    "Adagrad": lambda g, w, lr: rules.adagrad(g, w, lr=lr),  # type: ignore[arg-type]
    "RMSprop": lambda g, w, lr: rules.rmsprop(g, w, lr=lr),  # type: ignore[arg-type]
    "Adam": lambda g, w, lr: rules.adam(g, w, lr=lr),  # type: ignore[arg-type]
    "AdamW": lambda g, w, lr: rules.adamw(g, w, lr=lr, weight_decay=0.01),  # type: ignore[arg-type]
}
USES = {
    "SGD": "to learn from", "momentum": "images, long runs", "Adagrad": "sparse inputs",
    "RMSprop": "recurrent nets", "Adam": "GAN, RL", "AdamW": "text, a first try",
}  # fmt: skip


class Sweep(NamedTuple):
    """One optimizer at all rates.

    Args:
        early: loss on the choosing part after 50 steps, mean over the seeds, by rate.
        choosing: accuracy on the part that chooses the rate, (rates, seeds).
        judging: accuracy on the part that chose nothing, (rates, seeds).
        training: accuracy on the images that taught, (rates, seeds).
    """

    early: Tensor
    choosing: Tensor
    judging: Tensor
    training: Tensor

    @property
    def best(self) -> int:
        """The place of the rate that the choosing part prefers."""
        return int(self.choosing.mean(1).argmax())

    @property
    def good(self) -> int:
        """How many rates are within 5 points of the best one."""
        means = self.choosing.mean(1)
        return int((means >= means.max() - 0.05).sum())


@lab
def run(
    *,
    steps: Annotated[int, ranged("on batches of 50 digits, of each", 200, 500)] = 300,
    seeds: Annotated[int, ranged("networks at each rate", 2, 5)] = 3,
    seed: Annotated[int, ranged("of first weights, batches and tasks", 0, 10**6)] = 0,
) -> LabResult:
    """Run what a guide to optimizers says, statement by statement."""
    swept = {name: sweep(rule, RATES, seeds, seed, steps) for name, rule in RULES.items()}
    bare = sweep(lambda g, w, lr: rules.sgd(g, w, lr=lr, momentum=0.9), (0.1,), seeds, seed, steps)  # type: ignore[arg-type]
    text_runs, walks, duels = tasks(RULES, seed)
    heavy, adamw = swept["momentum"], swept["AdamW"]
    at = RATES.index
    best = max(float(s.judging[s.best].mean()) for s in swept.values())
    text = f"""
        A guide that is often given:

            images                   SGD, momentum 0.9, lr 0.1, decay 1e-4
                                     or AdamW, lr 1e-3, decay 0.01
            text                     AdamW, lr 1e-4, betas 0.9 and 0.98, decay 0.01
            reinforcement learning   Adam, lr 1e-4
            GAN                      Adam, lr 2e-4, betas 0.5 and 0.999

        Images: a network of {small_net.SIZE:,} weights learns digits of 14x14 pixels for {steps}
        steps, with each of six optimizers at {len(RATES)} rates, {seeds} networks each. Every one
        gets the rate that 1,000 images choose, and is judged on 2,000 others: the best of all has
        {best:.1%}. The guide's SGD has {float(heavy.judging[at(0.1)].mean()):.1%}, its AdamW
        {float(adamw.judging[at(1e-3)].mean()):.1%}; here AdamW likes {RATES[adamw.best]:g} best,
        since a short run must take large steps.

        A rate belongs to an optimizer and to a length: none of these numbers is one to copy. At
        its own best rate each of the six learns this task; what differs is how soon, and how many
        rates will do.

        The other lines are tried on toys: words, each seen as often as in real text; a generator
        of numbers on a line against its discriminator; a walk in a corridor of six cells.
        Transformers, GANs of images and games are not run here: that 1e-4 and 2e-4 suit those is
        neither shown nor refuted. What the toys show is the reason that is given.
    """
    claims = [
        *_images(swept), *_decay(swept, bare), *toys(text_runs, walks, duels)
    ]  # fmt: skip
    rows = [
        (name, RATES[s.best], float(s.judging[s.best].mean()),
         float((s.training - s.judging)[s.best].mean()), float(s.early.min()), s.good, USES[name])
        for name, s in swept.items()
    ]  # fmt: skip
    head = ("optimizer", "best lr", "accuracy", "gap", f"loss at {EARLY}", "good rates",
            "often used for")  # fmt: skip
    return LabResult(
        text, claims, partial(_draw, swept, text_runs, walks, duels, seeds),
        [
            Table(head, rows, "Six optimizers: speed, generalisation, sensitivity, use"),
            Table(("statement", "verdict of these runs"),
                  _verdicts(swept, bare, text_runs, walks, duels), "The guide, line by line"),
        ],
        {"best_lr": {name: RATES[s.best] for name, s in swept.items()},
         "accuracy": {name: float(s.judging[s.best].mean()) for name, s in swept.items()}},
    )  # fmt: skip


def sweep(rule: Rule, rates: tuple[float, ...], seeds: int, seed: int, steps: int) -> Sweep:
    """Train with `rule` at all rates and judge the networks."""
    teach, choose, judge = small_net.parts()
    early = torch.zeros(len(rates))
    w = torch.zeros(0)
    for step, w in enumerate(
        small_net.trained(rule, torch.tensor(rates), seeds, seed, steps), start=1
    ):
        if step == EARLY:
            early = small_net.judged(w, choose)[0].mean(1)
    return Sweep(early, *(small_net.judged(w, part)[1] for part in (choose, judge, teach)))


def _verdicts(
    swept: dict[str, Sweep], bare: Sweep, texts: TextRuns, walks: TextRuns, duels: Tensor
) -> list[tuple[str, str]]:
    tuned = {name: s.judging[s.best] for name, s in swept.items()}
    heavy, adam, adamw = swept["momentum"], swept["Adam"], swept["AdamW"]
    at = RATES.index
    late = ending(duels)
    gain = {name: last - first for name, (first, last) in walks.items()}
    rare = {name: rare.mean(1).max() for name, (_, rare) in texts.items()}
    return [
        ("images: momentum or AdamW, tuned",
         verdict(tuned["momentum"] - tuned["AdamW"], "momentum", "AdamW")),
        ("lr 0.1 suits momentum",
         f"{float(tuned['momentum'].mean() - heavy.judging[at(0.1)].mean()):+.4f} to its best"),
        ("lr 1e-3 suits AdamW",
         f"{float(tuned['AdamW'].mean() - adamw.judging[at(1e-3)].mean()):+.4f} to its best"),
        ("decay 1e-4 helps momentum",
         verdict(heavy.judging[at(0.1)] - bare.judging[0], "with", "without")),
        ("decay 0.01 helps AdamW",
         verdict(adamw.judging[adam.best] - adam.judging[adam.best], "with", "without")),
        ("momentum is faster than SGD",
         f"loss at {EARLY}: {float(heavy.early.min()):.3f}, {float(swept['SGD'].early.min()):.3f}"),
        ("Adam is fast at first",
         f"loss at {EARLY}: {float(adam.early.min()):.3f}"),
        ("Adam takes more rates than SGD",
         f"{adam.good} and {swept['SGD'].good} of {len(RATES)} within 5 points"),
        ("SGD generalises better than Adam", verdict(tuned["momentum"] - tuned["Adam"],
                                                     "momentum", "Adam")),
        ("text: AdamW, for rare words", f"{learned(texts['AdamW, 0.98'])[1]:.0%} of them, SGD "
                                        f"{learned(texts['SGD'])[1]:.0%}, common ones known"),
        ("the same, each tuned", f"{float(rare['AdamW, 0.98']):.0%} and {float(rare['SGD']):.0%}"),
        ("text: beta2 0.98, not 0.999",
         f"{float(rare['AdamW, 0.98']):.0%} and {float(rare['AdamW, 0.999']):.0%} of rare words"),
        ("RL: Adam, lr 1e-4", f"reward {float(gain['Adam'][0].mean()):+.2f} here: far too slow"),
        ("RL: Adam, not SGD, each tuned",
         f"{float(walks['Adam'][1].mean(1).max()):.2f} and "
         f"{float(walks['SGD'][1].mean(1).max()):.2f}, -5 is best"),
        ("GAN: lr 2e-4", f"distance {float(late[0].mean()):.2f} here: far too slow"),
        ("GAN: beta1 0.5 at lr 2e-3", verdict(late[3] - late[2], "0.5", "0.9")),
        ("GAN: beta1 0.5 at lr 0.02", verdict(late[5] - late[4], "0.5", "0.9")),
    ]  # fmt: skip


def _images(swept: dict[str, Sweep]) -> list[Claim]:
    tuned = {name: float(s.judging[s.best].mean()) for name, s in swept.items()}
    guide = float(swept["momentum"].judging[RATES.index(0.1)].mean())
    four = [tuned[name] for name in ("momentum", "RMSprop", "Adam", "AdamW")]
    early = {name: float(s.early.min()) for name, s in swept.items()}
    best = {name: RATES[s.best] for name, s in swept.items()}
    return [
        at_most("Images: SGD with lr 0.1, momentum 0.9, decay 1e-4 is near the best of all, by",
                max(tuned.values()) - guide, 0.04),
        at_least("Images: AdamW's best rate in so short a run is not below 1e-3",
                 best["AdamW"], 1e-3),
        at_most("Momentum, RMSprop, Adam and AdamW, each at its best rate: largest gap",
                max(four) - min(four), 0.04, "T6.3"),
        at_least("SGD's best rate is far above Adam's: ratio", best["SGD"] / best["Adam"], 5,
                 "T6.3"),
        at_most(f"Speed: Adam's loss after {EARLY} steps, over SGD's, each at the rate that "
                "has the least then", early["Adam"] / early["SGD"], 0.9),
        at_most("Speed: at one rate, 0.03, momentum's over SGD's",
                swept["momentum"].early[RATES.index(0.03)] / swept["SGD"].early[RATES.index(0.03)],
                0.85),
        at_least("Sensitivity: rates within 5 points of the best, Adam's less SGD's",
                 swept["Adam"].good - swept["SGD"].good, 0),
        at_most("and still the wrong rate ruins Adam: its accuracy at lr 1",
                swept["Adam"].judging[-1].mean(), 0.3, "T6.3"),
    ]  # fmt: skip


def _decay(swept: dict[str, Sweep], bare: Sweep) -> list[Claim]:
    """Return what decay did: nothing that a run this short could show."""
    heavy = swept["momentum"].judging[RATES.index(0.1)] - bare.judging[0]
    decoupled = (swept["AdamW"].judging - swept["Adam"].judging)[swept["Adam"].best]
    return [
        at_most("Decay 1e-4 in so short a run: accuracy with and without differ by",
                heavy.mean().abs(), 0.02),
        at_most("Decay 0.01 of AdamW, against Adam without: by", decoupled.mean().abs(), 0.02),
    ]  # fmt: skip


def _draw(
    swept: dict[str, Sweep], texts: TextRuns, walks: TextRuns, duels: Tensor, seeds: int
) -> Figure:
    from pellucid.labs.drawing import COLOURS, finish, key_below, sheet

    figure, axes = sheet("A guide to optimizers, and what small runs say", 3, 2, size=(14, 9.4))
    accuracy, speed, gap, text, walk, duel = axes
    for place, ((name, s), colour, mark) in enumerate(
        zip(swept.items(), COLOURS, "os^vDx", strict=False)
    ):
        accuracy.plot(RATES, s.judging.mean(1), color=colour, marker=mark, label=name)
        speed.plot(RATES, s.early.clamp(max=3), color=colour, marker=mark, label=name)
        lowest, highest = s.judging[s.best].min(), s.judging[s.best].max()
        gap.plot([lowest, highest], [place, place], color=colour, linewidth=3)
        gap.plot(s.judging[s.best].mean(), place, marker=mark, color=colour, markersize=9)
    gap.set_yticks(range(len(swept)), list(swept))
    gap.invert_yaxis()
    for (name, (common, rare)), colour in zip(texts.items(), COLOURS, strict=False):
        text.plot(TASK_RATES, common.mean(1), color=colour, linestyle="--", marker=".")
        text.plot(TASK_RATES, rare.mean(1), color=colour, marker="o", label=name)
    for (name, (_, last)), colour in zip(walks.items(), COLOURS, strict=False):
        walk.plot(TASK_RATES, last.mean(1), color=colour, marker="o", label=name)
    for (rate, beta), course, colour in zip(DUELS, duels.mean(2).unbind(1), COLOURS, strict=False):
        duel.plot(range(10, 10 * len(duels) + 1, 10), course, color=colour,
                  linestyle="-" if beta == 0.5 else "--",
                  label=f"lr {rate:g}, beta1 {beta:g}")  # fmt: skip
    for axis in (accuracy, speed, text, walk):
        axis.set_xscale("log")
    finish(accuracy, "digits: accuracy on images that chose nothing", "lr", "accuracy")
    finish(speed, f"digits: loss after {EARLY} steps (cut at 3)", "lr", "loss")
    finish(gap, f"the six: accuracy at the best rate, range of {seeds}", "accuracy")
    finish(text, "words learned: rare (lines), common (dashed)", "lr", "share")
    finish(walk, "corridor: reward after 100 updates (best -5)", "lr", "reward")
    finish(duel, "GAN: distance from the true numbers", "steps", "distance")
    for axis in (accuracy, speed, text, walk, duel):
        key_below(axis, 3)
    return figure
