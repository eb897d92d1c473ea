"""The source of a part, as it stands in a script."""

from __future__ import annotations

import pytest

from pellucid.augment.colour import Brightness
from pellucid.augment.geometry import Crop
from pellucid.eject.collect import Collector
from pellucid.models.mlp import MLPSpec
from pellucid.optim.schedules import StepDecay


def test_what_a_part_uses_comes_before_it_and_once() -> None:
    parts = Collector()
    parts.add("pellucid.seeds", "generator")
    parts.add("pellucid.seeds", "reseed")
    parts.add("pellucid.seeds", "generator")
    assert list(parts.pieces) == ["derive", "generator", "reseed"]
    assert sorted(parts.imports) == ["hashlib", "torch"]
    assert "pellucid" not in parts.taken()
    assert parts.taken() == ""


def test_settings_comments_and_docstrings() -> None:
    parts = Collector()
    parts.value(Crop(padding=7), ("draw", "apply"))
    text = parts.pieces["Crop"]
    assert text.startswith('class Crop:\n    """Shifts an image by up to `padding` pixels')
    assert "    padding = 7\n" in text
    assert "# a view: (B, C, y, x, H, W)" in text
    assert "def words" not in text
    assert "equally likely" not in text
    assert "msgspec" not in text


def test_only_what_is_called_comes_along() -> None:
    parts = Collector()
    parts.value(Brightness(), ("draw",))
    assert list(parts.pieces) == ["Shape", "uniform", "Brightness"]


def test_a_method_becomes_a_function() -> None:
    parts = Collector()
    constants = {"epochs": "CUT_EVERY", "gamma": "GAMMA", "warmup": "WARMUP"}
    parts.function(StepDecay(), "build", "rates", constants, {"_warmed": "{0}"}, ("_cuts_within",))
    assert parts.pieces["rates"].splitlines() == [
        "def rates(lr: float, steps: int, steps_per_epoch: int) -> Schedule:",
        '    """Return the function from steps done to the rate of the next step."""',
        "    every = CUT_EVERY * steps_per_epoch",
        "    return lambda step: lr * GAMMA ** (step // every)",
    ]
    assert "_cuts_within" not in parts.pieces
    given = {"shape": "SHAPE", "classes": "10"}
    made = parts.expression(MLPSpec(), "build", {"hidden": "HIDDEN", "dropout": "DROPOUT"}, given)
    assert made == "MLP(SHAPE, 10, HIDDEN, DROPOUT)"


def test_two_parts_of_one_name_are_not_mixed_up() -> None:
    parts = Collector()
    parts.add("pellucid.optim.specs", "Share")
    with pytest.raises(AssertionError, match="both have Share"):
        parts.add("pellucid.optim.schedules", "Share")
