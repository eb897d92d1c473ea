"""What a view looks at: a model with its preprocessing, its classes, its data and its past."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from pellucid.assemble import build_model
from pellucid.catalogue import from_toml, from_tree
from pellucid.data.preprocessing import Preprocessing
from pellucid.data.split import split
from pellucid.errors import BadRun
from pellucid.inference import classifier, judged
from pellucid.recipe import Recipe
from pellucid.runs.checkpoint import Checkpoint, read
from pellucid.runs.folder import Run
from pellucid.runs.listing import find
from pellucid.runs.snapshots import snapshots
from pellucid.values import ImageSet, Splits
from pellucid.viewdata import DoesNotApply
from pellucid.views.options import choose

PARTS = ("validation", "train", "test")


@dataclass(frozen=True, eq=False)
class Subject:
    """A model and all that is known of it.

    Args:
        model: takes prepared images (B, C, H, W), gives logits (B, classes).
        preprocessing: from pixels to what the model takes.
        classes: names, in the order of the logits.
        parts: returns the data, in its three parts; raises where there is none.
        run: where it was trained, or None.
        step: optimizer steps done, or None if it is not known.
        recipe: of the run, or None.
        past: copies of the weights by step, as files.
        start: returns the weights that the run began with, or None if they cannot be had.
        facts: more on where the model comes from, for JSON.
    """

    model: nn.Module
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    parts: Callable[[], Splits]
    run: Run | None = None
    step: int | None = None
    recipe: Recipe | None = None
    past: Mapping[int, Path] | None = None
    facts: Mapping[str, Any] | None = None

    @classmethod
    def of(
        cls,
        model: nn.Module,
        data: Splits | ImageSet | None = None,
        *,
        shape: tuple[int, int, int] | None = None,
        classes: tuple[str, ...] = (),
        preprocessing: Preprocessing | None = None,
    ) -> Subject:
        """Return a model of one's own as a subject.

        Args:
            model: takes prepared images, gives logits.
            data: images for the views that need some; a set alone counts as `validation`.
            shape: channels, height and width, where neither data nor preprocessing says it.
            classes: names, where there is no data.
            preprocessing: else pixels are only scaled to [0, 1].

        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> Subject.of(net, shape=(1, 2, 2), classes=("cat", "dog")).shape
        (1, 2, 2)
        """
        if isinstance(data, ImageSet):
            none = torch.arange(0)
            data = Splits(data.part(none), data, data.part(none))
        if preprocessing is None:
            shape = data.train.shape if data else shape
            if shape is None:
                raise ValueError("give data, preprocessing or shape")
            zeros, ones = (0.0,) * shape[0], (1.0,) * shape[0]
            preprocessing = Preprocessing(shape, zeros, ones)
        known = data

        def parts() -> Splits:
            if known is None:
                raise DoesNotApply("This view needs images, and none were given with the model.")
            return known

        _check_weights(model, "the model")
        return cls(model, preprocessing, data.train.classes if data else classes, parts)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images."""
        return self.preprocessing.shape

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    def prepare(self, pixels: Tensor) -> Tensor:
        """Return uint8 images (B, C, H, W) as the model takes them."""
        return self.preprocessing.on(self.device)(pixels.to(self.device))

    def part(self, name: str | None) -> ImageSet:
        """Return a part of the data; by default validation, or training where there is none.

        Raises:
            BadOption: if there is no such part.
            DoesNotApply: if the part is empty.
        """
        splits = self.parts()
        if name is None:
            name = "validation" if len(splits.validation) else "train"
        data: ImageSet = getattr(splits, choose("part", name, PARTS))
        if not len(data):
            raise DoesNotApply(f"The part {name} of the data is empty. Choose another with --on.")
        return data

    def initial(self) -> dict[str, Tensor] | None:
        """Return the weights at step 0, or None if no copy was kept."""
        return self.snapshot(0) if self.past and 0 in self.past else None

    def snapshot(self, step: int) -> dict[str, Tensor]:
        """Return the weights that were kept after `step` steps."""
        assert self.past is not None
        return safetensors.torch.load_file(self.past[step])

    def provenance(self, **more: Any) -> dict[str, Any]:
        """Return where the numbers of a view come from, for JSON."""
        return {
            "run": self.run.name if self.run else None,
            "model": type(self.model).__name__,
            "step": self.step,
            **(self.facts or {}),
            "precision": "fp32",
            "mode": "eval",
            **more,
        }


def of_run(
    run: str | Path | Run,
    *,
    step: int | None = None,
    recipe: Recipe | None = None,
    device: str = "auto",
) -> Subject:
    """Return the model of a run as a subject: its best checkpoint, or the one after `step`.

    A run that is still training can be looked at too.

    Args:
        run: a path, a name in the folder of runs, or `latest`.
        step: a checkpoint or a copy of the weights to look at instead of the best.
        recipe: needed only if its model or data were given from Python.
        device: `auto` takes a GPU if there is one.

    Raises:
        BadRun: if there is no such run or step, or its weights are not finite.
    """
    opened = run if isinstance(run, Run) else find(run)
    past = snapshots(opened.path)
    newest = judged(opened).checkpoint
    checkpoint = newest if step is None else _at(opened, newest, step, past)
    model = classifier(opened, checkpoint, device, recipe)
    if step is not None and checkpoint.step != step:
        model.network.load_state_dict(safetensors.torch.load_file(past[step]))
    else:
        step = checkpoint.step
    _check_weights(model.network, f"{opened.path} after step {step:,}")
    tree = from_toml(checkpoint.facts["recipe"])
    given = isinstance(tree["data"], dict) and "python" in tree["data"]
    known = recipe or (None if given else from_tree(tree, str(opened.path)))
    facts = _facts(checkpoint, opened, step)

    @functools.cache
    def parts() -> Splits:
        if known is None:
            raise DoesNotApply(
                "This view needs images, and the data of this run was given from Python: pass its "
                "recipe, of_run(run, recipe=recipe)."
            )
        splits = split(known.data.load(), known.data.validation, known.data.test, known.seed)
        if splits.digest != checkpoint.facts["data_digest"]:
            raise BadRun(
                f"The data of {opened.path} has changed since the run was started. Restore it: "
                "a view on other images would not be of this run."
            )
        return splits

    return Subject(
        model.network, model.preprocessing, model.classes, parts, opened, step, known, past, facts
    )


def initial_model(subject: Subject) -> nn.Module | None:
    """Return the network of a run as the seed draws it, or None where that is not known."""
    if subject.recipe is None:
        return None
    return build_model(subject.recipe, subject.shape, len(subject.classes))


def _at(run: Run, newest: Checkpoint, step: int, past: Mapping[int, Path]) -> Checkpoint:
    """Return the checkpoint after `step`, or any one if only a copy of the weights is there."""
    saved = run.checkpoints.steps()
    if step in saved:
        return read(run.checkpoints.path(step))
    if step in past:
        return newest
    there = ", ".join(f"{known:,}" for known in sorted({*saved, *past}))
    raise BadRun(f"{run.path} kept nothing of step {step:,}. It kept: {there}.")


def _facts(checkpoint: Checkpoint, run: Run, step: int) -> dict[str, Any]:
    rows = [row for row in run.rows(run.metrics.name) if row["kind"] == "evaluation"]
    epochs = {row["step"]: row["epoch"] for row in rows}
    seed = from_toml(checkpoint.facts["recipe"]).get("seed")
    return {"epoch": epochs.get(step), "seed": seed}


def _check_weights(model: nn.Module, where: str) -> None:
    """Raise if a weight is no finite number: every view would show nonsense."""
    bad = [
        f"{name} ({int((~tensor.isfinite()).sum()):,} of {tensor.numel():,})"
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point() and not bool(tensor.isfinite().all())
    ]
    if bad:
        shown = ", ".join(bad[:3]) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")
        raise BadRun(
            f"{where} has weights that are not finite numbers: {shown}. Nothing can be seen in "
            "it. Look at an earlier step (--step N)."
        )
