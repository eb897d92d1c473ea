"""Schedules of the learning rate, and the one that looks at validation: plateau."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, NamedTuple

import torch
from torch import Tensor
from torch.optim import lr_scheduler as theirs

from pellucid.labs.options import about, lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, at_most, equals, is_true
from pellucid.seeds import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EPOCHS = 30
FORMULAS: dict[str, Callable[[int], float]] = {
    "constant": lambda t: 1.0,
    "step": lambda t: 0.1 ** (t // 10),
    "exponential": lambda t: 0.9**t,
    "cosine": lambda t: (1 + math.cos(math.pi * t / EPOCHS)) / 2,
    "linear": lambda t: 1 - t / EPOCHS,
}
"""The rate after t of 30 epochs, as a share of the first."""


class Event(NamedTuple):
    """What the plateau rule did with one number: its counters, and the rate after it."""

    value: float
    best: float
    bad: int
    resting: int
    rate: float


@lab
def run(
    *,
    metrics: Annotated[tuple[float, ...], about("validation loss, evaluation by evaluation")] = (
        1.0,
        0.8,
        0.7,
        0.71,
        0.72,
        0.7,
        0.73,
        0.74,
        0.69,
        0.7,
        0.71,
        0.72,
        0.73,
        0.74,
        0.75,
    ),
    factor: Annotated[float, ranged("each cut multiplies the rate by it", 0.01, 0.9)] = 0.1,
    patience: Annotated[int, ranged("evaluations without a gain that are borne", 0, 10)] = 2,
    threshold: Annotated[float, ranged("the least relative gain that counts", 0, 0.1)] = 1e-4,
    cooldown: Annotated[int, ranged("evaluations after a cut that are not counted", 0, 5)] = 1,
) -> LabResult:
    """Draw five schedules, and follow the counters of the plateau rule."""
    events = plateau(metrics, factor, patience, threshold, cooldown)
    cuts = [k for k, (a, b) in enumerate(zip(events, events[1:], strict=False), 1)
            if b.rate < a.rate]  # fmt: skip
    if events and events[0].rate < 1:
        cuts.insert(0, 0)
    said = "none" if not cuts else "after evaluation " + ", ".join(str(k + 1) for k in cuts)
    text = f"""
        Large steps at first, to get far; small ones at the end, for noise keeps steps of one
        size from settling. Over t of T epochs, as a share of the first rate:

            constant      1
            step          gamma^floor(t / 10)       gamma = 0.1
            exponential   gamma^t                   gamma = 0.9
            cosine        (1 + cos(pi t / T)) / 2
            linear        1 - t / T

        These know the length of the run, and nothing else. Plateau knows no length: it looks at
        the validation loss. A gain is a value below best * (1 - {threshold:g}). Values without
        a gain are counted; when the count is more than the patience, {patience}, the rate is
        multiplied by {factor:g}, and the next {cooldown} values are not counted (cooldown).
        Patience {patience} cuts at value {patience + 1} in a row without a gain, not at {patience}.
        Cuts here: {said}.

        Which one? Cosine or linear when the length is known: no places to choose. Step
        when a published recipe says where. Plateau when the length is open, with a validation set
        large enough that its noise is not taken for a plateau. Constant to look at other
        things. Then compare on your data, with the best first rate of each.
    """
    rows = [(k + 1, e.value, e.best, e.bad, e.resting, e.rate) for k, e in enumerate(events)]
    head = ("evaluation", "loss", "best", "without gain", "cooldown left", "rate after")
    ours = torch.tensor([e.rate for e in events], dtype=torch.float64)
    asked = _torch_plateau(metrics, factor, patience, threshold, cooldown)
    claims = [
        agrees("This timeline is that of ReduceLROnPlateau", ours, asked, 1e-12, "T2.12"),
        *_formulas(), *_random_lists(), *_patience(),
    ]  # fmt: skip
    return LabResult(
        text, claims, partial(_draw, events), [Table(head, rows, "Plateau, first rate 1")],
        {"rates": ours.tolist(), "cuts": cuts},
    )  # fmt: skip


def plateau(
    metrics: tuple[float, ...], factor: float, patience: int, threshold: float, cooldown: int
) -> list[Event]:
    """Return what the plateau rule does with each of `metrics`, from rate 1."""
    best, bad, resting, rate = math.inf, 0, 0, 1.0
    events = []
    for value in metrics:
        if value < best * (1 - threshold):
            best, bad = value, 0
        else:
            bad += 1
        if resting > 0:
            resting, bad = resting - 1, 0
        if bad > patience:
            if rate - rate * factor > 1e-8:  # PyTorch leaves out a cut that small
                rate *= factor
            resting, bad = cooldown, 0
        events.append(Event(value, best, bad, resting, rate))
    return events


def _optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


def _torch_plateau(
    metrics: tuple[float, ...], factor: float, patience: int, threshold: float, cooldown: int
) -> Tensor:
    optimizer = _optimizer()
    rule = theirs.ReduceLROnPlateau(
        optimizer, factor=factor, patience=patience, threshold=threshold, cooldown=cooldown
    )
    rates = []
    for value in metrics:
        rule.step(value)
        rates.append(float(optimizer.param_groups[0]["lr"]))
    return torch.tensor(rates, dtype=torch.float64)


def _formulas() -> list[Claim]:
    made: dict[str, Callable[[torch.optim.Optimizer], theirs.LRScheduler]] = {
        "step": lambda o: theirs.StepLR(o, 10, 0.1),
        "exponential": lambda o: theirs.ExponentialLR(o, 0.9),
        "cosine": lambda o: theirs.CosineAnnealingLR(o, EPOCHS),
        "linear": lambda o: theirs.LinearLR(o, 1.0, 0.0, EPOCHS),
    }
    claims = []
    for name, make in made.items():
        optimizer = _optimizer()
        schedule = make(optimizer)
        found = []
        for _ in range(EPOCHS):
            found.append(float(optimizer.param_groups[0]["lr"]))
            with warnings.catch_warnings():  # there is nothing to train here
                warnings.simplefilter("ignore")
                optimizer.step()
                schedule.step()
        ours = torch.tensor([FORMULAS[name](t) for t in range(EPOCHS)], dtype=torch.float64)
        claims.append(agrees(f"The formula of {name} is {type(schedule).__name__}", ours,
                             torch.tensor(found, dtype=torch.float64), 1e-9))  # fmt: skip
    return claims


def _random_lists() -> list[Claim]:
    """Return how far the rule is from PyTorch's on random lists and settings."""
    draws = generator(0, "lab")
    worst, cut = 0.0, 0
    for _ in range(200):
        steps = torch.randint(-2, 3, (25,), generator=draws).double().cumsum(0) / 10
        metrics = tuple((steps - steps.min() + 0.5).tolist())
        patience, cooldown = torch.randint(0, 4, (2,), generator=draws).tolist()
        threshold = (0.0, 1e-4, 0.05)[int(torch.randint(0, 3, (1,), generator=draws))]
        ours = [e.rate for e in plateau(metrics, 0.5, patience, threshold, cooldown)]
        asked = _torch_plateau(metrics, 0.5, patience, threshold, cooldown)
        worst = max(worst, float((torch.tensor(ours, dtype=torch.float64) - asked).abs().max()))
        cut += ours[-1] < 1
    return [
        at_most("200 random lists, with patience, threshold, cooldown: largest difference", worst,
                1e-12, "T2.12"),
        is_true("most of which are cut", cut > 100),
    ]  # fmt: skip


def _patience() -> list[Claim]:
    flat = plateau((1.0,) * 5, 0.1, 2, 1e-4, 0)
    rates = [event.rate for event in flat]
    small = plateau(tuple(1 - 1e-5 * k for k in range(5)), 0.1, 2, 1e-4, 0)
    return [
        is_true("Patience 2 and no gain: cut at the third value after the best, not at the second",
                rates == [1, 1, 1, 0.1, 0.1], "T2.12"),
        equals("Gains below the threshold are none: rate after 5 values", small[-1].rate, 0.1,
               1e-12, "T2.12"),
    ]  # fmt: skip


def _draw(events: list[Event]) -> Figure:
    from pellucid.labs.drawing import BLUE, COLOURS, GREY, RED, finish, key_below, sheet

    figure, (five, line) = sheet("Schedules of the learning rate", 2, size=(12.5, 4.6))
    styles = ("-", "--", "-.", ":", "-")
    for (name, formula), colour, style in zip(FORMULAS.items(), COLOURS, styles, strict=False):
        rates = [formula(t) for t in range(EPOCHS)]
        five.step(range(EPOCHS), rates, color=colour, linestyle=style, where="post", label=name)
    finish(five, "known length: 30 epochs", "epoch", "share of the first rate", legend=True)
    places = range(1, len(events) + 1)
    line.plot(places, [e.value for e in events], color=BLUE, marker="o", label="validation loss")
    line.plot(places, [e.best for e in events], color=GREY, linestyle="--", label="best so far")
    for k, event in enumerate(events):
        words = f"rest {event.resting}" if event.resting else str(event.bad)
        line.annotate(words, (k + 1, event.value), (0, 9), textcoords="offset points",
                      ha="center", fontsize=8,
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})  # fmt: skip
        before = events[k - 1].rate if k else 1.0
        if event.rate < before:
            line.axvline(k + 1, color=RED, linestyle=":")
            line.text(k + 1.1, 0.95, f"rate {event.rate:g}", color=RED, va="top", fontsize=8,
                      transform=line.get_xaxis_transform())  # fmt: skip
    line.margins(0.05, 0.12)
    finish(line, "plateau: the count of values without a gain", "evaluation", "loss")
    key_below(line, 2)
    return figure
