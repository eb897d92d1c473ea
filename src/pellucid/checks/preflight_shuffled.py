"""Are right labels learned in a few steps, and shuffled ones not?

Fresh models are trained by the loop itself, and not kept. Validation images are predicted on, test
images never.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.assemble import Assembled
from pellucid.checks.check import Check, Verdict
from pellucid.checks.preflight_data import spread
from pellucid.checks.preflight_learning import fresh, unjudged
from pellucid.engine import Engine
from pellucid.evaluate import predict
from pellucid.loop import fit
from pellucid.recipe import Recipe
from pellucid.seeds import generator
from pellucid.values import Batch, Pieces, Predictions

STEPS = 60
"""Steps of the two short trainings."""
JUDGED = 2000
"""Validation images, at most, that these are judged on."""
SURE = 3.0
"""Standard errors by which a share must leave chance to count."""


@dataclass(frozen=True)
class Relabelled:
    """The batches of `train`, with the labels of `labels` (N,) in the place of their own."""

    train: Pieces
    labels: Tensor

    def index(self, step: int) -> Tensor:
        """Return the positions of the images in the batch of `step`."""
        return self.train.index(step)

    def pieces(self, step: int) -> Iterator[Batch]:
        """Yield the pieces of the batch of `step`."""
        for batch in self.train.pieces(step):
            yield replace(batch, targets=self.labels[batch.index])


@dataclass(frozen=True)
class Short:
    """A short training.

    Args:
        accuracy: share of right predictions on validation images.
        belief: mean probability that was given to the right class.
        luck: what both would be if the predictions had nothing to do with the images.
        n: validation images.
        step_seconds: the median time of a step.
        judge_seconds: time to predict one image.
    """

    accuracy: float
    belief: float
    luck: float
    n: int
    step_seconds: float
    judge_seconds: float

    @property
    def bound(self) -> float:
        """The upper end of the binomial interval around chance, `SURE` standard errors up."""
        return self.luck + SURE * math.sqrt(self.luck * (1 - self.luck) / self.n)


def short(
    recipe: Recipe, engine: Engine, built: Assembled, steps: int = STEPS, *, shuffled: bool
) -> Short:
    """Train a fresh model for `steps`, on labels as they are or shuffled; judge it on validation.

    Its schedule is the recipe's, run through in these few steps.
    """
    state, engine = fresh(recipe, engine, built)
    plan, schedule = built.task.plan, built.task.schedule
    task = replace(
        unjudged(built.task, steps), schedule=lambda step: schedule(step * plan.steps // steps)
    )
    if shuffled:
        labels = built.splits.train.targets
        draws = generator(recipe.seed, "preflight/shuffle")
        mixed = labels[torch.randperm(len(labels), generator=draws)]
        task = replace(task, train=Relabelled(task.train, mixed))
    times = [time.perf_counter()]
    for step in fit(state, task, engine):
        float(step.loss)  # waits for the device
        times.append(time.perf_counter())
    sample = spread(built.splits.validation, JUDGED)
    said = predict(engine, state.ema.model, sample, task.prepare)
    judging = time.perf_counter() - times[-1]
    lasted = sorted(b - a for a, b in zip(times, times[1:], strict=False))
    return _summed(said, lasted[len(lasted) // 2], judging / len(sample))


def _summed(said: Predictions, step_seconds: float, judge_seconds: float) -> Short:
    shares = said.logits.double().softmax(1)
    given = F.one_hot(said.targets, said.logits.shape[1]).double()
    return Short(
        accuracy=float((said.labels == said.targets).double().mean()),
        belief=float((shares * given).sum(1).mean()),
        luck=float((shares.mean(0) * given.mean(0)).sum()),
        n=len(said),
        step_seconds=step_seconds,
        judge_seconds=judge_seconds,
    )


def shuffled_labels(right: Short, mixed: Short, steps: int = STEPS) -> Check:
    """Check that right labels are learned in a few steps, and shuffled ones are not.

    Judged on validation images with their right labels. For shuffled labels it is the mean
    probability of the right class that counts: a network gives images of one class much the same
    answer, so its accuracy is that of a few coins, not of n, and leaves the binomial interval
    easily (seen: 2 to 17 % at a chance of 10 %, n = 500); the probability stays near chance (seen:
    9.8 to 10.1 %).
    """
    verdict: Verdict = "ok"
    advice = ""
    gain, rest = right.accuracy - right.luck, mixed.belief - mixed.luck
    if not mixed.belief <= mixed.bound:
        verdict = "failed" if rest > gain / 2 else "warning"
        advice = (
            "The right classes were guessed without having been shown: the model knows them from "
            "elsewhere (pretrained weights?), or what is judged is not what was predicted."
        )
    elif not right.accuracy > right.bound:
        verdict = "failed"
        advice = (
            f"{steps} steps with right labels taught nothing. Look at the other checks, then at "
            "the learning rate: pellucid preflight --lr-range."
        )
    return Check(
        "shuffled labels",
        verdict,
        f"right labels: {right.accuracy:.1%} right; shuffled: {mixed.accuracy:.1%} right, "
        f"probability of the right class {mixed.belief:.3f}; n = {right.n:,}",
        f"right above {right.bound:.1%}; shuffled: probability at most {mixed.bound:.3f} (chance "
        f"{mixed.luck:.3f})",
        advice,
    )


def unjudgeable() -> Check:
    """Say that there is nothing to judge short trainings on."""
    return Check(
        "shuffled labels", "warning", "not tried: no validation images", "learned by nobody",
        "Set --data.validation above 0.",
    )  # fmt: skip


def duration(right: Short, built: Assembled) -> Check:
    """Say how long a step takes, and how long the run will; there is nothing to fail."""
    plan, task = built.task.plan, built.task
    judged = math.ceil(plan.steps / plan.evaluate) if plan.evaluate else 1
    images = len(task.validation) + len(task.probe)
    seconds = plan.steps * right.step_seconds + judged * images * right.judge_seconds
    return Check(
        "time",
        "ok",
        f"{1000 * right.step_seconds:.3g} ms a step; {plan.steps:,} steps and {judged:,} "
        f"evaluations: about {in_words(seconds)}",
        "-",
    )


def in_words(seconds: float) -> str:
    """Return a length of time as a person says it.

    >>> in_words(7), in_words(200), in_words(9000)
    ('7 s', '3 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
