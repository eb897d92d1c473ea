"""A fair budget: the same number of learning rates is tried for each arm, on validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from pellucid.errors import BadRecipe
from pellucid.experiments.arms import Arm
from pellucid.experiments.folder import Experiment
from pellucid.experiments.work import Asked, Job, run_all
from pellucid.recipe import Recipe
from pellucid.sinks.console import Console

STEP = 10**0.5
"""Ratio of neighbouring rates: two to a decade."""

SEED = 1_000_000
"""Added to the recipe's seed: rates are chosen on other splits and draws than those compared."""


def rates(lr: float, count: int) -> list[float]:
    """Return `count` learning rates around `lr`, two to a decade, with two digits.

    >>> rates(0.1, 3)
    [0.032, 0.1, 0.32]
    """
    first = -(count // 2)
    return [float(f"{lr * STEP ** (first + i):.2g}") for i in range(count)]


def tuned(
    experiment: Experiment,
    arms: Sequence[Arm],
    count: int,
    side_by_side: int,
    console: Console,
    asked: Asked,
) -> tuple[list[Arm], dict[str, Any]]:
    """Return the arms with their best learning rates, and what was tried, for JSON.

    The best rate is that with the highest validation accuracy, of equals the one with the lowest
    loss. The test part stays closed.

    Raises:
        BadRecipe: if the rates cannot be tuned.
        Stopped: if the user stopped.
    """
    if count < 2:
        raise BadRecipe(f"--tune-lr must be at least 2 learning rates. Got {count}.")
    jobs = {
        (arm.name, lr): Job(f"tuning/{arm.name}/lr-{lr:g}", _at(arm, lr))
        for arm in arms
        for lr in rates(_lr(arm), count)
    }
    console.line(f"tuning: {count} learning rates for each of {len(arms)} arms, on validation")
    runs = run_all(experiment, list(jobs.values()), side_by_side, console, asked)
    best, facts = [], {}
    for arm in arms:
        tried = {}
        for lr in rates(_lr(arm), count):
            run = runs.get(jobs[arm.name, lr].name)
            tried[lr] = (run.summary() or {})["validation"] if run else None
        good = {lr: score for lr, score in tried.items() if score}
        if not good:
            raise BadRecipe(
                f"No learning rate of {', '.join(f'{lr:g}' for lr in tried)} trained {arm.name}: "
                "each ended with a loss that is no number. Give the arm a lower optimizer.lr."
            )
        lr = max(good, key=lambda at: (good[at]["accuracy"], -good[at]["loss"]))
        edge = lr in (min(tried), max(tried))
        console.line(
            f"tuning: {arm.name}: lr {lr:g}, validation {100 * good[lr]['accuracy']:.2f} %"
            + (" (the outermost one tried: a better one may lie beyond)" if edge else "")
        )
        best.append(Arm(arm.name, _with_lr(arm, lr)))
        facts[arm.name] = {
            "lr": lr,
            "edge": edge,
            "tried": {f"{at:g}": score and score["accuracy"] for at, score in tried.items()},
        }
    return best, facts


def _lr(arm: Arm) -> float:
    return arm.recipe.optimizer.lr


def _with_lr(arm: Arm, lr: float) -> Recipe:
    optimizer = arm.recipe.optimizer
    if not isinstance(optimizer, msgspec.Struct):
        raise BadRecipe(f"The learning rate of {arm.name} was given from Python; tune it there.")
    return arm.recipe.with_(optimizer=msgspec.structs.replace(optimizer, lr=lr))


def _at(arm: Arm, lr: float) -> Recipe:
    return _with_lr(arm, lr).with_(seed=arm.recipe.seed + SEED)
