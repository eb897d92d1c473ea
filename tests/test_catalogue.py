"""Recipes as files: a closed set of names, one check, messages that say the way out."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid import Recipe, good
from pellucid.augment.pipeline import AugmentSpec
from pellucid.catalogue import (
    SECTIONS,
    differences,
    from_toml,
    from_tree,
    names,
    overlay,
    read_toml,
    to_toml,
    to_tree,
)
from pellucid.errors import BadRecipe
from pellucid.optim.specs import SGD
from pellucid.recipes.named import NAMES, named, offered

TREE = to_tree(good("digits"))
ALL = [(recipe, data) for data in names("data") for recipe in offered(data)]


@pytest.mark.parametrize(("recipe", "data"), ALL)
def test_every_named_recipe_survives_writing_and_reading(recipe: str, data: str) -> None:
    value = named(recipe, data)
    tree = to_tree(value)
    assert from_toml(to_toml(tree)) == tree
    assert from_tree(tree) == value


def test_a_recipe_that_there_is_not_for_this_data_is_refused() -> None:
    for data in names("data"):
        for recipe in set(NAMES) - set(offered(data)):
            with pytest.raises(BadRecipe, match=f'a recipe {recipe} for [^"]*, not for "{data}"'):
                named(recipe, data)


@pytest.mark.parametrize(("data", "most"), [("mnist", 310_000), ("fashion-mnist", 999_999)])
def test_best_is_a_small_network(data: str, most: int) -> None:
    model = named("best", data).model.build((1, 28, 28), 10)
    assert sum(p.numel() for p in model.parameters()) <= most


@given(st.data())
def test_any_optimizer_survives(data: st.DataObject) -> None:
    share = st.floats(0, 0.999)
    spec = SGD(
        lr=data.draw(st.floats(1e-12, 1e6)),
        momentum=data.draw(share),
        nesterov=False,
        weight_decay=data.draw(share),
    )
    value = good("digits").with_(optimizer=spec)
    assert from_tree(from_toml(to_toml(to_tree(value)))) == value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": {"name": "adamx"}},
         r'one of adam, adamw, adagrad, muon, rmsprop, sgd. Got "adamx"; did you mean "adam"\?'),
        ({"optimizer": {"lr": "-1"}}, r'optimizer.lr must be a number > 0.0. Got "-1"'),
        ({"optimizer": {"lr": "fast"}}, r'optimizer.lr must be a number. Got "fast"'),
        ({"optimizer": {"lrr": 1}}, r'no setting "optimizer.lrr" .* did you mean "lr"\?'),
        ({"optimzer": {}}, r'no setting "optimzer" .* did you mean "optimizer"\?'),
        ({"optimizer": "adam"}, "optimizer is a table: write --optimizer.name sgd"),
        ({"augment": {"crop": {"paddin": 3}}}, r'no setting "augment.crop.paddin" .* "padding"\?'),
        ({"augment": {"fli": {}}}, r'no setting "augment.fli" .* did you mean "flip"\?'),
        ({"length": "12"}, 'length: a length is a number and a unit .*; got "12"'),
        ({"batch_size": "0"}, "batch_size must be a whole number >= 1"),
        ({"seed": "1.5"}, 'seed must be a whole number. Got "1.5"'),
        ({"max_grad_norm": "nan"}, "max_grad_norm must be a number > 0"),
        ({"engine": {"precision": "fp8"}}, 'must be one of fp32, bf16, fp16. Got "fp8"'),
        ({"engine": {"deterministic": "maybe"}}, 'must be true or false. Got "maybe"'),
        ({"model": {"name": "resnet", "depth": "21"}}, r"depth must be 6 n \+ 2: .*; got 21"),
        ({"optimizer": {"name": "sgd", "momentum": 0}}, "nesterov needs a momentum above 0"),
        ({"optimizer": {"betas": [0.9]}}, "optimizer.betas must be a list of length 2"),
        ({"format": 2}, "has format 2; this version of pellucid reads format 1"),
        ({"data": {"python": "my.Data"}}, r"was given from Python \(my.Data\)"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRecipe, match=message):
        from_tree(overlay(TREE, changes))


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize(
    "name",
    ["os.system", "pellucid.seeds.reseed", "__import__('os')", "builtins.eval", "_count", "../x"],
)
def test_no_string_chooses_code(section: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that look like code are refused, and nothing at all is imported for them."""
    for key in ("name", "python", "_target_", "cls", "import"):
        tree = {**TREE, section: {**TREE.get(section, {"count": 2}), key: name}}
        with monkeypatch.context() as patch:  # left before a failure is shown, which imports
            patch.setattr(builtins, "__import__", _refuse)
            with pytest.raises(BadRecipe):
                from_tree(tree)


def _refuse(name: str, *rest: Any) -> None:
    raise AssertionError(f"{name} is imported")


def test_a_missing_part_is_named() -> None:
    tree = {key: value for key, value in TREE.items() if key != "loss"}
    with pytest.raises(BadRecipe, match='"loss" is missing in the recipe'):
        from_tree(tree)


def test_overlay() -> None:
    assert overlay(TREE, {})["optimizer"] == TREE["optimizer"]
    changed = from_tree(overlay(TREE, {"augment": {"crop": "off", "flip": "on"}}))
    assert isinstance(changed.augment, AugmentSpec)
    assert changed.augment.crop is None
    assert changed.augment.flip is not None
    other = overlay(TREE, {"optimizer": {"name": "sgd"}})
    assert other["optimizer"] == {"name": "sgd"}  # adam's settings would be unknown


def test_differences_name_each_setting() -> None:
    other = overlay(TREE, {"optimizer": {"lr": 0.5}, "augment": {"crop": "off"}, "seed": 1})
    assert sorted(differences(TREE, other)) == [
        "augment.crop: {'padding': 2} -> -", "optimizer.lr: 0.003 -> 0.5", "seed: 0 -> 1",
    ]  # fmt: skip


@pytest.mark.parametrize("content", [b"[optimizer\n", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_what_is_no_toml_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.toml").write_bytes(content)
    with pytest.raises(BadRecipe, match=r"x.toml is not a TOML file"):
        read_toml(tmp_path / "x.toml")


def test_a_part_from_python_is_described_and_not_brought_back(tiny: Recipe) -> None:
    tree = to_tree(tiny)
    assert tree["data"]["python"].endswith("FewDigits")
    with pytest.raises(BadRecipe, match="Pass the recipe again"):
        from_tree(tree)
