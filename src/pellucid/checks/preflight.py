"""Start-up checks: is there anything wrong that a look before the run can find?"""

from __future__ import annotations

from collections.abc import Iterator

from pellucid.assemble import Assembled
from pellucid.checks.check import Check
from pellucid.checks.preflight_data import data_checks, labels, prepared, spread
from pellucid.checks.preflight_gradients import (
    gradient_norms,
    gradients,
    parameters,
    samples_apart,
)
from pellucid.checks.preflight_learning import overfit
from pellucid.checks.preflight_shuffled import duration, short, shuffled_labels, unjudgeable
from pellucid.checks.preflight_start import look, output, start_loss
from pellucid.engine import Engine
from pellucid.recipe import Recipe

LOOKED_AT = 300
"""Training images that the untrained model is shown."""


def preflight(recipe: Recipe, engine: Engine, built: Assembled) -> Iterator[Check]:
    """Yield the checks of a recipe, each when it is done.

    Everything is tried on copies and on fresh models; `built` can be trained afterwards as if
    nothing had been. Test images are counted, never predicted on. What cannot be computed after
    a fault is left out.

    Args:
        recipe: what `built` was made of.
        engine: likewise.
        built: at step 0.

    >>> from pellucid import good
    >>> from pellucid.assemble import assemble
    >>> recipe = good("digits")
    >>> engine = Engine.start(recipe.engine)
    >>> check = next(preflight(recipe, engine, assemble(recipe, engine)))
    >>> check.name, check.verdict
    ('labels', 'ok')
    """
    found = data_checks(built, engine)
    yield from found
    if any(check.name == "labels" and check.verdict == "failed" for check in found):
        return
    seen = look(built, engine, LOOKED_AT)
    yield output(seen)
    if not seen.sound:
        return
    yield start_loss(seen)
    norms = gradient_norms(built, engine)
    yield gradients(norms)
    yield samples_apart(built, engine)
    yield parameters(built)
    if not any(norms.values()):
        return
    yield overfit(recipe, engine, built)
    if not len(built.splits.validation):
        yield unjudgeable()
    else:
        right = short(recipe, engine, built, shuffled=False)
        yield shuffled_labels(right, short(recipe, engine, built, shuffled=True))
        yield duration(right, built)


def quick_checks(built: Assembled, engine: Engine) -> list[Check]:
    """Return the checks that cost no more than a training step each, and change nothing.

    Labels, input, output, loss at the start, gradients.

    Args:
        built: at step 0; a run on it goes the same way, bit for bit, with and without this.
        engine: what it was built with.
    """
    train = built.splits.train
    count = min(LOOKED_AT, 2 * len(built.task.train.index(0)))
    numbered = labels(built.splits)
    checks = [numbered, prepared(spread(train, count), built.task.prepare, engine)]
    if numbered.verdict == "failed":
        return checks
    seen = look(built, engine, count)
    checks.append(output(seen))
    if seen.sound:
        checks += [start_loss(seen), gradients(gradient_norms(built, engine))]
    return checks
