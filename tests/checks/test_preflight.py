"""The checks together: sound recipes pass, a run is not touched, test images stay sealed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pellucid import Engine, Recipe, fit, good, notes, steps
from pellucid.assemble import Assembled, assemble
from pellucid.checks.check import Check, worst
from pellucid.checks.preflight import preflight, quick_checks
from pellucid.models.init import Bad, Default
from pellucid.models.mlp import MLPSpec
from pellucid.models.resnet import ResNetSpec
from pellucid.optim.specs import SGD
from pellucid.recipe import EMASpec
from pellucid.values import ImageSet

NAMES = [
    "labels", "classes", "balance", "image size", "pixels", "blank images", "input",
    "training input", "output", "loss at the start", "gradients", "samples apart", "parameters",
    "one batch by heart", "shuffled labels", "time",
]  # fmt: skip


def checked(recipe: Recipe) -> list[Check]:
    engine = Engine.start(recipe.engine)
    return list(preflight(recipe, engine, assemble(recipe, engine)))


def sound(recipe: Recipe) -> None:
    found = checked(recipe)
    assert [check.name for check in found] == NAMES
    assert [check for check in found if check.verdict != "ok"] == []
    engine = Engine.start(recipe.engine)
    quick = quick_checks(assemble(recipe, engine), engine)
    assert [check.name for check in quick] == [
        "labels", "input", "output", "loss at the start", "gradients",
    ]  # fmt: skip
    assert worst(quick) == "ok"


def test_a_small_network_on_digits_passes() -> None:
    sound(good("digits").with_(model=MLPSpec()))


def test_the_good_recipe_for_digits_passes() -> None:
    sound(good("digits"))


@pytest.mark.slow
@pytest.mark.parametrize("data", ["digits", "mnist", "cifar10"])
@pytest.mark.parametrize("recipe", [good, notes])
def test_all_named_recipes_pass(
    recipe: type, data: str, sets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PELLUCID_DATA", str(sets))
    sound(recipe(data))


def test_without_validation_images_it_is_said() -> None:
    tree = good("digits")
    few = replace(tree, model=MLPSpec(), data=type(tree.data)(validation=0.0))
    last = checked(few)[-1]
    assert (last.name, last.verdict) == ("shuffled labels", "warning")
    assert "no validation images" in last.measured


def demanding() -> Recipe:
    """A recipe with all that has a memory or draws numbers: BatchNorm, averages, augmentation."""
    return good("digits").with_(
        model=ResNetSpec(depth=8, width=8), ema=EMASpec(decay=0.5), batch_size=32, length=steps(3)
    )


def trained(built: Assembled, engine: Engine) -> dict[str, Tensor]:
    """Return all tensors after the run."""
    for _ in fit(built.state, built.task, engine):
        pass
    return {
        f"{file}/{name}": value
        for file, tensors in built.state.tensors().items()
        for name, value in tensors.items()
    }


@pytest.mark.parametrize("quick", [True, False], ids=["quick", "all"])
def test_a_run_goes_the_same_way_with_and_without(quick: bool) -> None:
    recipe = demanding()
    engine = Engine.start(recipe.engine)
    plain = trained(assemble(recipe, engine), engine)
    built = assemble(recipe, engine)
    facts = built.state.facts()
    if quick:
        assert worst(quick_checks(built, engine)) == "ok"
    else:
        for check in preflight(recipe, engine, built):
            if check.name == "one batch by heart":
                break  # what comes after it trains as this did
    assert built.state.facts() == facts
    assert built.state.model.training
    after = trained(built, engine)
    assert after.keys() == plain.keys()
    assert [name for name in plain if not torch.equal(plain[name], after[name])] == []


def test_they_say_the_same_whatever_was_drawn_before() -> None:
    recipe = demanding().with_(model=MLPSpec(hidden=(20,)))
    engine = Engine.start(recipe.engine)
    built = assemble(recipe, engine)
    first = list(preflight(recipe, engine, built))
    torch.rand(17)
    second = list(preflight(recipe, engine, built))
    assert [c for c in first if c.name != "time"] == [c for c in second if c.name != "time"]


class Sealed(ImageSet):
    """Images that may be counted, but not looked at."""

    def pixels(self, index: Tensor) -> Tensor:
        raise AssertionError("test images were looked at")


def test_test_images_stay_sealed() -> None:
    recipe = good("digits").with_(model=MLPSpec())
    engine = Engine.start(recipe.engine)
    built = assemble(recipe, engine)
    test = built.splits.test
    sealed = Sealed(test.images, test.labels, test.classes, test.name, test.rows)
    closed = replace(built, splits=replace(built.splits, test=sealed))
    assert [check.name for check in preflight(recipe, engine, closed)] == NAMES
    assert len(quick_checks(closed, engine)) == 5


def test_the_worst_verdict_counts() -> None:
    assert worst([]) == "ok"
    verdicts = [Check("", "ok", "", ""), Check("", "failed", "", ""), Check("", "warning", "", "")]
    assert worst(verdicts) == "failed"


@pytest.mark.parametrize(
    ("init", "failed"),
    [
        (Default(), []),
        (Bad(std=0.001), ["shuffled labels"]),
        (Bad(std=1.0), ["loss at the start"]),
    ],
    ids=["default", "0.001", "1"],
)
def test_initial_weights_that_stall_or_blow_up(init: Default | Bad, failed: list[str]) -> None:
    """Three layers with ReLU and SGD at 0.1; PyTorch's own initialisation trains well."""
    recipe = good("digits").with_(
        model=Plain(), init=init, optimizer=SGD(lr=0.1, momentum=0.0, nesterov=False)
    )
    found = checked(recipe)
    verdicts = {check.name: check.verdict for check in found}
    assert [name for name in failed if verdicts[name] != "failed"] == []
    assert (worst(found) == "ok") == (not failed)


class Plain:
    """The layers of `MLP`, with PyTorch's own initial weights."""

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(),
            nn.Linear(200, classes),
        )  # fmt: skip


def test_a_tiny_set_is_checked_too(tiny: Recipe) -> None:
    """36 training images: nothing breaks where there are fewer than are asked for."""
    found = checked(tiny)
    assert [check.name for check in found] == NAMES
    assert {c.name: c.verdict for c in found}["one batch by heart"] == "ok"
