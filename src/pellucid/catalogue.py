"""The closed set of parts that a recipe file may name; recipe <-> tree <-> TOML.

A string in a file never chooses what is imported: it picks from the types that stand below. A
part of your own is passed from Python (`recipe.with_(model=Mine())`) and needs no entry here.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
import tomli_w

from pellucid.augment.pipeline import AugmentSpec
from pellucid.data.digits import Digits
from pellucid.data.folder import Folder
from pellucid.data.folds import FoldSpec
from pellucid.data.known import Cifar10, Cifar100, FashionMnist, Mnist
from pellucid.data.sampling import Balanced, Hard, Shuffled
from pellucid.data.table import Csv
from pellucid.engine import EngineSpec
from pellucid.errors import BadRecipe, did_you_mean, nearest
from pellucid.models.fast_cnn import FastCNNSpec
from pellucid.models.init import Bad, Default, Kaiming, Xavier
from pellucid.models.mlp import MLPSpec
from pellucid.models.mnist_cnn import MnistCNNSpec
from pellucid.models.resnet import ResNetSpec
from pellucid.models.simple_cnn import SimpleCNNSpec
from pellucid.models.timm import TimmSpec
from pellucid.models.whitening import Whitening
from pellucid.optim.losses import CrossEntropy
from pellucid.optim.schedules import (
    Constant,
    Cosine,
    Exponential,
    Linear,
    MultiStep,
    OneCycle,
    PlateauSpec,
    StepDecay,
)
from pellucid.optim.specs import SGD, Adagrad, Adam, AdamW, Muon, RMSprop
from pellucid.plan import Duration
from pellucid.recipe import EMASpec, Recipe, RecordSpec
from pellucid.stopping import StopSpec

COMMAND_LINE = "the command line"
"""Where settings come from that are no file."""

FORMAT = 1
"""Version of the recipe file. A file of a later version is refused, with the reason."""

Tree = dict[str, Any]

Data = Digits | Mnist | FashionMnist | Cifar10 | Cifar100 | Folder | Csv
Model = MnistCNNSpec | SimpleCNNSpec | MLPSpec | ResNetSpec | FastCNNSpec | TimmSpec
Init = Default | Kaiming | Xavier | Bad | Whitening
Sampling = Shuffled | Balanced | Hard
Optimizer = SGD | Adagrad | RMSprop | Adam | AdamW | Muon
Schedule = Constant | StepDecay | MultiStep | Exponential | Cosine | OneCycle | Linear | PlateauSpec

SECTIONS: dict[str, Any] = {
    "data": Data,
    "model": Model,
    "init": Init,
    "sampling": Sampling,
    "augment": AugmentSpec,
    "loss": CrossEntropy,
    "optimizer": Optimizer,
    "schedule": Schedule,
    "ema": EMASpec,
    "stop": StopSpec,
    "fold": FoldSpec,
    "engine": EngineSpec,
    "record": RecordSpec,
}
"""The tables of a recipe file. A table whose `name` picks a type has a union here."""


class RecipeFile(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a recipe file may hold: `Recipe`, with the concrete types."""

    format: int = FORMAT
    length: Duration
    evaluate: Duration
    batch_size: Annotated[int, msgspec.Meta(ge=1)]
    accumulate: Annotated[int, msgspec.Meta(ge=1)]
    max_grad_norm: Annotated[float, msgspec.Meta(gt=0)]
    max_grad_value: Annotated[float, msgspec.Meta(gt=0)] = math.inf
    seed: Annotated[int, msgspec.Meta(ge=0)]
    data: Data
    model: Model
    init: Init = Default()
    sampling: Sampling = Shuffled()
    augment: AugmentSpec
    loss: CrossEntropy
    optimizer: Optimizer
    schedule: Schedule
    ema: EMASpec
    stop: StopSpec = StopSpec()
    fold: FoldSpec | None = None
    engine: EngineSpec
    record: RecordSpec


SCALARS = tuple(f for f in RecipeFile.__struct_fields__ if f not in SECTIONS and f != "format")


def names(section: str) -> tuple[str, ...]:
    """Return the names that `section` knows; none if its type is not chosen by name.

    >>> names("optimizer")
    ('sgd', 'adagrad', 'rmsprop', 'adam', 'adamw', 'muon')
    """
    return tuple(_by_name(section))


def spec(section: str, name: str) -> type:
    """Return the type that `name` means in `section`.

    Raises:
        BadRecipe: if there is none; the message lists those that there are.
    """
    known = _by_name(section)
    if name not in known:
        raise BadRecipe(
            f"{section}.name must be one of {', '.join(nearest(name, known))}. "
            f'Got "{name}"{did_you_mean(name, known) or "."}'
        )
    return known[name]


def to_tree(recipe: Recipe) -> Tree:
    """Return `recipe` as plain values: what a recipe file holds.

    A part that was given from Python and that no file can name is described by its type, for
    people; `from_tree` refuses it.
    """
    tree: Tree = {"format": FORMAT}
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        if value is None:  # off: no table
            continue
        known = field.name not in SECTIONS or type(value) in _types(field.name)
        tree[field.name] = (
            _lists(msgspec.to_builtins(value, enc_hook=str))
            if known
            else {"python": f"{type(value).__module__}.{type(value).__qualname__}"}
        )
    return tree


def from_tree(tree: Tree, where: str = "the recipe") -> Recipe:
    """Return the recipe that `tree` holds, checked.

    Numbers may be written as text, as on a command line.

    Args:
        tree: as `to_tree` returns it, complete.
        where: what to call it in messages.

    Raises:
        BadRecipe: naming the setting, the rule and what was given.
    """
    if tree.get("format", FORMAT) != FORMAT:
        raise BadRecipe(
            f"{where} has format {tree['format']}; this version of pellucid reads format {FORMAT}."
        )
    for section in SECTIONS:
        given = tree.get(section)
        if isinstance(given, dict) and "python" in given:
            raise BadRecipe(
                f"{section} of {where} was given from Python ({given['python']}), which a file "
                "cannot bring back. Pass the recipe again: pellucid.resume(run, recipe) in Python."
            )
    try:
        read = msgspec.convert(tree, RecipeFile, strict=False, dec_hook=_duration)
    except msgspec.ValidationError as error:
        raise BadRecipe(_explain(str(error), tree, where)) from None
    return Recipe(**{f.name: getattr(read, f.name) for f in fields(Recipe)})


def check(tree: Tree, where: str = "the recipe") -> None:
    """Check all settings of `tree` but those of parts that were given from Python.

    Raises:
        BadRecipe: as `from_tree` does.
    """
    kinds = {field.name: field.type for field in msgspec.structs.fields(RecipeFile)}
    for key, value in tree.items():
        if isinstance(value, dict) and "python" in value:
            continue
        try:
            msgspec.convert(value, kinds[key], strict=False, dec_hook=_duration)
        except msgspec.ValidationError as error:
            rule, _, place = str(error).partition(" - at `$")
            message = f"{rule} - at `$.{key}{place or '`'}"
            raise BadRecipe(_explain(message, tree, where)) from None


def overlay(tree: Tree, changes: Tree) -> Tree:
    """Return `tree` with `changes` laid over it, table by table.

    A change of a table's `name` starts that table anew: settings of another type would be
    unknown. `off` (or `false`) takes a table of `augment` away, `on` adds it with its defaults.

    >>> overlay({"optimizer": {"name": "sgd", "lr": 0.1}}, {"optimizer": {"name": "adam"}})
    {'optimizer': {'name': 'adam'}}
    """
    merged = dict(tree)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            typed = get_args(SECTIONS.get(key))  # its name chooses among types
            renamed = typed and "name" in value and value["name"] != old.get("name")
            merged[key] = dict(value) if renamed else overlay(old, value)
        elif value in ("off", False) and isinstance(old, dict | None) and key not in SECTIONS:
            merged.pop(key, None)
        elif value in ("on", True) and isinstance(old, dict | None) and key not in SCALARS:
            merged[key] = old or {}
        else:
            merged[key] = value
    return merged


def differences(old: Tree, new: Tree, prefix: str = "") -> list[str]:
    """Return one line for each setting in which two trees differ.

    >>> differences({"optimizer": {"lr": 0.1}}, {"optimizer": {"lr": 0.2}})
    ['optimizer.lr: 0.1 -> 0.2']
    """
    lines = []
    for key in [*old, *(key for key in new if key not in old)]:
        a, b = old.get(key, "-"), new.get(key, "-")
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {a} -> {b}")
    return lines


def to_toml(tree: Tree) -> str:
    """Return `tree` as the text of a recipe file."""
    return tomli_w.dumps(tree)


def from_toml(text: str) -> Tree:
    """Return the tree that `to_toml` wrote."""
    return tomllib.loads(text)


def to_json(tree: Tree) -> str:
    """Return `tree` as JSON, which has no infinity: it is the text "inf" there.

    >>> to_json({"max_grad_norm": math.inf})
    '{"max_grad_norm": "inf"}'
    """
    plain = {key: "inf" if value == math.inf else value for key, value in tree.items()}
    return json.dumps(plain, ensure_ascii=False, allow_nan=False)


def read_toml(path: Path) -> Tree:
    """Return the tree in a recipe file, unchecked.

    Raises:
        BadRecipe: if there is no such file, or it is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadRecipe(f"There is no recipe file {path}.") from None
    except IsADirectoryError:
        raise BadRecipe(f"{path} is a folder; a recipe is a TOML file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadRecipe(f"{path} is not a TOML file: {error}.") from None


def _lists(value: Any) -> Any:
    """Return `value` as TOML brings it back: lists for tuples, and nothing for None."""
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items() if item is not None}
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value


def _types(section: str) -> tuple[type, ...]:
    union = SECTIONS[section]
    return get_args(union) or (union,)


def _by_name(section: str) -> dict[str, type]:
    tags = {kind.__struct_config__.tag: kind for kind in _types(section)}  # type: ignore[attr-defined]
    return {tag: kind for tag, kind in tags.items() if tag}


def _duration(kind: type, value: Any) -> Any:
    if kind is Duration:
        return Duration.parse(str(value))
    raise NotImplementedError(kind)  # msgspec's own contract for types it does not know


def _explain(message: str, tree: Tree, where: str) -> str:
    """Turn msgspec's message into ours: place, rule, given, and the known names."""
    rule, _, place = message.partition(" - at ")
    keys = re.findall(r"[^.\[\]]+", place.strip("`").removeprefix("$"))
    setting = ".".join(keys)
    given: Any = tree
    for key in keys:
        given = given.get(key, "nothing") if isinstance(given, dict) else given
    section = keys[0] if keys else ""
    unknown = re.match(r"Object contains unknown field `(.*)`", rule)
    missing = re.match(r"Object missing required field `(.*)`", rule)
    if rule.startswith("Invalid value") and keys[1:] == ["name"]:
        known = names(section)
        rule = f"must be one of {', '.join(nearest(str(given), known))}"
        hint = did_you_mean(str(given), known) or "."
    elif unknown:
        known = _fields(keys, tree)
        name = ".".join([*keys, unknown.group(1)])
        return (
            f'There is no setting "{name}" in {where}{did_you_mean(unknown.group(1), known) or "."}'
            f" Known there: {', '.join(nearest(unknown.group(1), known)) or 'none'}."
        )
    elif missing:
        return f'"{".".join([*keys, missing.group(1)])}" is missing in {where}.'
    elif rule.startswith("Expected `object`"):
        known = names(section)
        ways = f"--{section}.name {known[0]}" if known else f"--{section}.KEY VALUE"
        rule, hint = f"is a table: write {ways}", "."
    elif rule.startswith("Invalid enum value"):
        kind: Any = _types(section)[0]
        hints = {f.name: f.type for f in msgspec.structs.fields(kind)}
        rule, hint = f"must be one of {', '.join(map(str, get_args(hints[keys[-1]])))}", "."
    elif not rule.startswith("Expected"):  # one of our own, which says what was given
        return f"{setting}: {rule}. In {where}."
    else:
        rule, hint = _in_words(rule), "."
    if given is True and where == COMMAND_LINE:
        return f"{setting} needs a value: it {rule}. In {where}."
    shown = f'"{given}"' if isinstance(given, str) else given
    return f"{setting} {rule}. Got {shown}{hint} In {where}."


def _in_words(rule: str) -> str:
    """Turn "Expected `float` < 1.0" into "must be a number < 1.0"."""
    rule = re.sub(r"^Expected (.*?)(, got .*)?$", r"must be \1", rule).replace("`", "")
    for kind, words in (
        ("float", "a number"), ("int", "a whole number"), ("bool", "true or false"),
        ("str", "a text"), ("array", "a list"),
    ):  # fmt: skip
        rule = rule.replace(f"be {kind}", f"be {words}")
    return rule


def _fields(keys: list[str], tree: Tree) -> tuple[str, ...]:
    """Return the settings that are known at the place `keys`."""
    if not keys:
        return (*SCALARS, *SECTIONS)
    given = tree.get(keys[0])
    name = given.get("name") if isinstance(given, dict) else None
    kind: Any = _by_name(keys[0]).get(str(name), _types(keys[0])[0])
    for key in keys[1:]:
        hint = next(f.type for f in msgspec.structs.fields(kind) if f.name == key)
        kind = next(t for t in get_args(hint) or (hint,) if hasattr(t, "__struct_fields__"))
    return tuple(kind.__struct_fields__)
