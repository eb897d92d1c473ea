"""What a comparison varies: arms, from settings or from the ready-made ones."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pellucid.catalogue import SECTIONS, Tree, from_tree, overlay, to_tree
from pellucid.errors import BadRecipe, did_you_mean, nearest
from pellucid.optim.schedules import MultiStep, StepDecay
from pellucid.recipe import Recipe


@dataclass(frozen=True)
class Arm:
    """One of the recipes that are compared.

    Args:
        name: a short one, which is also its folder.
        recipe: with any seed; the comparison sets it.
    """

    name: str
    recipe: Recipe


def vary(base: Recipe, varied: Sequence[tuple[str, Sequence[str]]]) -> list[Arm]:
    """Return an arm for each combination of values, in order.

    Args:
        base: everything that is not varied.
        varied: pairs of a setting, such as `optimizer.lr`, and its values, as on a command line.

    Raises:
        BadRecipe: if a setting or a value is unknown, or two arms are the same.
    """
    tree, arms = to_tree(base), []
    for values in itertools.product(*(given for _, given in varied)):
        changes: Tree = {}
        words = []
        for (key, _), value in zip(varied, values, strict=True):
            _put(changes, key, value)
            words.append(value if len(varied) == 1 else f"{key.rpartition('.')[2]}-{value}")
        where = ", ".join(f"--{key} {v}" for (key, _), v in zip(varied, values, strict=True))
        arms.append(Arm(_folder("_".join(words)), from_tree(overlay(tree, changes), where)))
    return distinct(arms)


def distinct(arms: Sequence[Arm]) -> list[Arm]:
    """Return `arms`, at least two, all different.

    Raises:
        BadRecipe: if they are not.
    """
    if len(arms) < 2:
        raise BadRecipe(
            "A comparison needs at least two arms. Give several values, with commas: "
            "--vary optimizer.name=sgd,adam"
        )
    for a, b in itertools.combinations(arms, 2):
        if to_tree(a.recipe) == to_tree(b.recipe):
            raise BadRecipe(
                f"The arms {a.name} and {b.name} are the same recipe, so there is nothing to "
                "compare. Take one of them away."
            )
        if a.name == b.name:
            raise BadRecipe(f'Two arms are called "{a.name}". Give them different names.')
    return list(arms)


def preset(name: str, base: Recipe, channels: int) -> list[Arm]:
    """Return the arms of a ready-made comparison.

    - `schedules`: constant, step, multistep, exponential, cosine, onecycle and plateau, with the
      base recipe's optimizer. In a run of 10 epochs or fewer step cuts after each third, multistep
      after a half and three quarters of it; else each is at its defaults.
    - `augmentation`: without any, and with flip, crop, rotation, brightness, contrast, erasing and,
      on colour images, saturation, hue and greyscale.
    - `optimizers`: SGD, momentum, Nesterov, Adagrad, RMSprop, Adam and AdamW at the rates that
      textbooks give them.
    - `init`: PyTorch's default, Kaiming, Xavier, and deliberately bad weights.
    - `batch-size`: 32, 64, 128, 256 and 512, at one learning rate.

    Args:
        name: of the comparison.
        base: everything that it does not vary.
        channels: of the images, 1 or 3.

    Raises:
        BadRecipe: if there is no such preset.
    """
    if name not in PRESETS:
        raise BadRecipe(
            f'--preset must be one of {", ".join(nearest(name, PRESETS))}. Got "{name}"'
            f"{did_you_mean(name, PRESETS) or '.'}"
        )
    tree = to_tree(base)
    return distinct(
        [
            Arm(arm, from_tree(overlay(tree, changes), f"the preset {name}"))
            for arm, changes in PRESETS[name](base, channels)
        ]
    )


def _schedules(base: Recipe, channels: int) -> list[tuple[str, Tree]]:
    del channels
    kinds = ("constant", "step", "multistep", "exponential", "cosine", "onecycle", "plateau")
    settings: dict[str, Tree] = {kind: {"name": kind} for kind in kinds}
    epochs = math.ceil(base.length.amount) if base.length.unit == "epochs" else 0
    if (
        2 < epochs <= max(StepDecay().epochs, *MultiStep().milestones)
    ):  # the defaults would cut after the end
        settings["step"]["epochs"] = -(-epochs // 3)
        settings["multistep"]["milestones"] = sorted({epochs // 2, 3 * epochs // 4})
    return [(kind, {"schedule": table}) for kind, table in settings.items()]


def _augmentation(base: Recipe, channels: int) -> list[tuple[str, Tree]]:
    del base
    off: Tree = dict.fromkeys(SECTIONS["augment"].__struct_fields__, False)
    grey = ("crop", "rotate", "brightness", "contrast", "erase")
    on = grey if channels == 1 else ("flip", *grey, "saturation", "hue", "greyscale")
    return [
        ("without", {"augment": off}),
        ("with", {"augment": {**off, **dict.fromkeys(on, True)}}),
    ]


def _optimizers(base: Recipe, channels: int) -> list[tuple[str, Tree]]:
    del base, channels
    sgd = {"name": "sgd", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "nesterov": False}
    return [
        ("sgd", {"optimizer": sgd}),
        ("momentum", {"optimizer": {**sgd, "lr": 0.05, "momentum": 0.9}}),
        ("nesterov", {"optimizer": {**sgd, "lr": 0.05, "momentum": 0.9, "nesterov": True}}),
        ("adagrad", {"optimizer": {"name": "adagrad", "lr": 0.01}}),
        ("rmsprop", {"optimizer": {"name": "rmsprop", "lr": 0.001}}),
        ("adam", {"optimizer": {"name": "adam", "lr": 0.001}}),
        ("adamw", {"optimizer": {"name": "adamw", "lr": 0.001, "weight_decay": 0.01}}),
    ]


def _init(base: Recipe, channels: int) -> list[tuple[str, Tree]]:
    del base, channels
    return [(name, {"init": {"name": name}}) for name in ("default", "kaiming", "xavier", "bad")]


def _batch_size(base: Recipe, channels: int) -> list[tuple[str, Tree]]:
    del base, channels
    return [(str(size), {"batch_size": size}) for size in (32, 64, 128, 256, 512)]


PRESETS: dict[str, Callable[[Recipe, int], list[tuple[str, Tree]]]] = {
    "schedules": _schedules,
    "augmentation": _augmentation,
    "optimizers": _optimizers,
    "init": _init,
    "batch-size": _batch_size,
}


def _put(tree: Tree, key: str, value: str) -> None:
    *path, last = key.replace("-", "_").split(".")
    for part in path:
        tree = tree.setdefault(part, {})
    tree[last] = value


def _folder(text: str) -> str:
    """Return `text` as the name of a folder on any system."""
    return re.sub(r"[^\w.+-]+", "-", text).strip("-.") or "arm"
