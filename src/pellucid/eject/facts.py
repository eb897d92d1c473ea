"""What a script has to know of a run, and whether a script can be had of it at all."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

import msgspec
from torch import Tensor

from pellucid.augment.geometry import Flip
from pellucid.augment.pipeline import AugmentSpec
from pellucid.catalogue import differences, from_toml, from_tree, to_toml, to_tree
from pellucid.data.sampling import Balanced, Hard, Shuffled
from pellucid.engine import EngineSpec
from pellucid.errors import RecipeMismatch, UserError
from pellucid.inference import judged
from pellucid.models.fast_cnn import FastCNNSpec
from pellucid.models.init import Bad, Default, Kaiming, Xavier
from pellucid.models.mlp import MLPSpec
from pellucid.models.mnist_cnn import MnistCNNSpec
from pellucid.models.resnet import ResNetSpec
from pellucid.models.simple_cnn import SimpleCNNSpec
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
from pellucid.recipe import EMASpec, Recipe
from pellucid.runs.environment import fingerprint
from pellucid.runs.folder import ENVIRONMENT, Run
from pellucid.stopping import StopSpec

PARTS: dict[str, tuple[type, ...]] = {
    "model": (MnistCNNSpec, SimpleCNNSpec, MLPSpec, ResNetSpec, FastCNNSpec),
    "init": (Default, Kaiming, Xavier, Bad, Whitening),
    "sampling": (Shuffled, Balanced, Hard),
    "augment": (AugmentSpec,),
    "loss": (CrossEntropy,),
    "optimizer": (SGD, Adagrad, RMSprop, Adam, AdamW, Muon),
    "schedule": (
        *(Constant, StepDecay, MultiStep, Exponential, Cosine, OneCycle, Linear, PlateauSpec),
    ),
    "ema": (EMASpec,),
    "stop": (StopSpec,),
    "engine": (EngineSpec,),
}
"""The parts whose source is read at one place, and says all: these can be written out."""

SETTINGS: dict[type, tuple[str, ...]] = {
    Recipe: (
        *("data", "length", "evaluate", "batch_size", "accumulate", "max_grad_norm"),
        *("max_grad_value", "seed", "record", *PARTS),
    ),
    AugmentSpec: (
        *("flip", "crop", "rotate", "translate", "scale", "brightness", "contrast", "saturation"),
        *("hue", "greyscale", "erase", "cutout", "mixup", "cutmix"),
    ),
    Flip: ("p", "alternate"),
    CrossEntropy: ("label_smoothing", "class_weights"),
    EMASpec: ("decay", "every", "pull", "growth"),
    StopSpec: ("patience", "min_change", "watch"),
    EngineSpec: ("device", "precision", "threads", "deterministic"),
}
"""The settings of which the frame of a script knows what they mean. A later one is refused where
it is set, rather than left out without a word."""


class CannotEject(UserError):
    """A run of which no script can be written; the message names the part and the reason."""


@dataclass(frozen=True)
class Facts:
    """A run, as far as its script needs it.

    Args:
        run: the run.
        recipe: what it trained, with the settings of its last checkpoint.
        classes: names.
        shape: channels, height and width of the images.
        parts: number of images of training, validation and test.
        precision: in which it was computed: `fp32` or `bf16`.
        environment: of the run.
        data_digest: SHA-256 of its data.
        weights_digest: SHA-256 of its last weights; None while the run is not finished.
        summary: of the run; None while it is not finished.
    """

    run: Run
    recipe: Recipe
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    parts: Mapping[str, int]
    precision: str
    environment: Mapping[str, Any]
    data_digest: str
    weights_digest: str | None
    summary: Mapping[str, Any] | None

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch."""
        return -(-self.parts["train"] // self.recipe.batch_size)

    @property
    def steps(self) -> int:
        """Steps that were planned."""
        return self.recipe.length.steps(self.per_epoch, self.recipe.batch_size)

    @property
    def whole_epochs(self) -> bool:
        """Whether the length was given as a whole number of epochs."""
        length = self.recipe.length
        return length.unit == "epochs" and length.amount.denominator == 1

    @property
    def moved(self) -> bool:
        """Whether the run was resumed where other bits are computed."""
        first = fingerprint(dict(self.environment))
        return any(fingerprint(later) != first for later in self.environment.get("resumed", []))

    def table(self) -> list[tuple[str, str, str]]:
        """Return part, file and class of each image of the run, in order."""
        return split_rows(self.run)


def facts(run: Run, recipe: Recipe | None = None) -> Facts:
    """Return what the script of `run` needs.

    Args:
        run: with at least one checkpoint.
        recipe: needed only if its data were given from Python; else the run's own.

    Raises:
        CannotEject: naming what cannot be written as a script.
        BadRun: if the run holds no checkpoint.
        RecipeMismatch: if `recipe` is not that of the run.
    """
    judged(run)  # says what to do when there is none
    last, _ = run.checkpoints.latest()
    assert last is not None
    tree = from_toml(last.facts["recipe"])
    _refuse_python(tree, recipe)
    if recipe is None:
        recipe = from_tree(tree, f"{run.path}")
    elif changed := differences(tree, from_toml(to_toml(to_tree(recipe)))):
        lines = "\n  ".join(changed)
        raise RecipeMismatch(f"The recipe is not the one of {run.path}:\n  {lines}")
    environment = run.read_json(ENVIRONMENT) or {}
    engine = last.facts["engine"]
    check_parts(recipe)
    _check_machine(engine, environment)
    summary = run.summary()
    counts = {"train": 0, "validation": 0, "test": 0}
    for part, _, _ in split_rows(run):
        counts[part] += 1
    channels, height, width = last.facts["preprocessing"]["shape"]
    return Facts(
        run=run,
        recipe=recipe,
        classes=tuple(last.facts["classes"]),
        shape=(channels, height, width),
        parts=counts,
        precision=engine["precision"],
        environment=environment,
        data_digest=last.facts["data_digest"],
        weights_digest=weights_digest(last_weights(run)) if summary else None,
        summary=summary,
    )


def last_weights(run: Run) -> dict[str, Tensor]:
    """Return the weights of the last checkpoint by name; averages are called `ema/NAME`."""
    last, _ = run.checkpoints.latest()
    assert last is not None
    averages = {n: t for n, t in last.tensors.get("ema", {}).items() if n != "updates"}
    return {**last.tensors["model"], **{f"ema/{name}": t for name, t in averages.items()}}


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names and numbers, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(weights):
        total.update(name.encode() + weights[name].numpy().tobytes())
    return total.hexdigest()


def split_rows(run: Run) -> list[tuple[str, str, str]]:
    """Return part, file and class of each image of `run`, as its `split.csv` lists them."""
    with (run.path / "split.csv").open(encoding="utf-8", newline="") as file:
        return [
            (row["part"], _bare(row["file"]), _bare(row["label"])) for row in csv.DictReader(file)
        ]


def check_parts(recipe: Recipe) -> None:
    """Raise for a part of `recipe` that cannot be written as a script.

    Raises:
        CannotEject: naming the part and the reason.
    """
    for section, kinds in PARTS.items():
        part = getattr(recipe, section)
        if type(part) not in kinds:
            name = getattr(type(part), "__struct_config__", None)
            tag = str(name.tag) if name and name.tag else type(part).__name__
            raise CannotEject(
                f"{section} {tag} cannot be written as a script: its numbers come from more than "
                f"its own source ({type(part).__module__}), such as weights or a library. "
                "Everything else of such a recipe could be; take another "
                f"{section} to see it."
            )
    assert isinstance(recipe.augment, AugmentSpec)  # as was just made sure of
    operations = recipe.augment.operations().values()
    for value in (recipe, *(getattr(recipe, section) for section in PARTS), *operations):
        for name, default in _defaults(value).items():
            known = SETTINGS.get(type(value))
            if known is not None and name not in known and getattr(value, name) != default:
                raise CannotEject(_unknown(value, name))


def _unknown(value: Any, name: str) -> str:
    if name == "compile":
        return (
            "engine.compile cannot be written as a script: the kernels that torch.compile makes "
            "need not round alike in another process. Train without --compile."
        )
    return f"{type(value).__name__}.{name} is a setting that a script cannot follow yet."


def _defaults(value: Any) -> dict[str, Any]:
    """Return the settings of `value` with their defaults."""
    if isinstance(value, msgspec.Struct):
        return {f.name: f.default for f in msgspec.structs.fields(value)}
    return {f.name: f.default for f in fields(value) if f.default is not MISSING}


def _refuse_python(tree: Mapping[str, Any], recipe: Recipe | None) -> None:
    for section, given in tree.items():
        if not (isinstance(given, dict) and "python" in given):
            continue
        if section == "data":
            if recipe is None:
                raise CannotEject(
                    f"The data of this run were given from Python ({given['python']}), which the "
                    "command line cannot bring back. In Python, with the recipe at hand: "
                    'pellucid.eject.eject(run, recipe, arrays="data.npz")'
                )
            continue
        raise CannotEject(
            f"{section} was given from Python ({given['python']}): its source is yours, and may "
            "use anything. Copy it into a script of your own, or take a part that pellucid names."
        )


def _check_machine(engine: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
    if engine["device"] != "cpu":
        raise CannotEject(
            f"This run was trained on {environment.get('device', engine['device'])}; scripts are "
            "written for runs on a CPU, where equal bits are promised and tested."
        )
    if int(environment.get("processes", 1)) > 1:
        raise CannotEject(
            f"This run was trained by {environment['processes']} processes; a script is one "
            "process. Train the recipe in one, and eject that run."
        )


def _bare(text: str) -> str:
    """Undo what keeps a spreadsheet from taking `text` for a formula."""
    return text[1:] if text[:1] == "'" and text[1:2] in ("=", "+", "-", "@", "\t", "\r") else text
