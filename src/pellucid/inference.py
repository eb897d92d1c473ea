"""Using a trained model: the network with its preprocessing and its class names."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pellucid.assemble import build_state
from pellucid.catalogue import from_toml, from_tree
from pellucid.data.decode import NotAnImage
from pellucid.data.files import read_file
from pellucid.data.preprocessing import Preprocessing
from pellucid.data.workers import Workers
from pellucid.engine import Engine
from pellucid.errors import BadCheckpoint, BadData, BadRun, UnreadableImages
from pellucid.evaluate import predict
from pellucid.recipe import Recipe
from pellucid.runs.checkpoint import Checkpoint, read
from pellucid.runs.folder import Run
from pellucid.runs.listing import find
from pellucid.values import ImageSet, Predictions

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
"""What is taken from a folder; a file that is named itself may have any name."""


class Classifier(nn.Module):
    """A trained network that takes pixels and gives logits.

    Attributes:
        network: the bare module.
        preprocessing: from pixels to the network's input.
        classes: names, in the order of the logits.
        step: the optimizer step after which these weights were saved.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Preprocessing,
        classes: tuple[str, ...],
        step: int,
        engine: Engine,
    ) -> None:
        super().__init__()
        self.network = network
        self.preprocessing = preprocessing
        self.classes = classes
        self.step = step
        self.engine = engine
        self._prepare = preprocessing.on(engine.device)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, classes) for uint8 images (B, C, H, W) of the size trained on.

        Raises:
            BadData: if type or shape differ from what the network was trained on.
        """
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != self.preprocessing.shape:
            raise BadData(
                f"The images must be uint8 of shape (B, {self._shape}). "
                f"Got {images.dtype} of shape {tuple(images.shape)}. Files of any size: predict()."
            )
        logits: Tensor = self.network(self._prepare(images.to(self.engine.device)))
        return logits

    def predict(self, files: Sequence[str | Path]) -> Predictions:
        """Return what the network says about each of `files`, in order; targets are all -1.

        Each is decoded and fitted to the network's size as in training.

        Raises:
            UnreadableImages: naming each file that cannot be read, with the reason.
        """
        images = self._decode([Path(file) for file in files])
        labels = torch.full((len(files),), -1)
        data = ImageSet.of(images, labels, self.classes, "files", tuple(map(str, files)))
        return self.predict_set(data)

    def predict_set(self, data: ImageSet) -> Predictions:
        """Return what the network says about each image of `data`, in order."""
        if len(data) and data.shape != self.preprocessing.shape:
            raise BadData(
                f"The images are {'x'.join(map(str, data.shape))}; the network was trained on "
                f"{self._shape.replace(', ', 'x')}. Give --data.size or images of that size."
            )
        return predict(self.engine, self.network, data, self._prepare)

    @property
    def _shape(self) -> str:
        return ", ".join(map(str, self.preprocessing.shape))

    def _decode(self, files: list[Path]) -> Tensor:
        channels, height, width = self.preprocessing.shape
        pixels, bad = [], []
        with Workers() as workers:
            one = partial(_fitted, workers, self.preprocessing.shape)
            for file, found in zip(files, workers.each(one, files), strict=True):
                if isinstance(found, str):
                    bad.append((str(file), found))
                else:
                    pixels.append(torch.from_numpy(found))
        if bad:
            raise unreadable(bad)
        shape = (0, channels, height, width)
        return torch.stack(pixels) if pixels else torch.empty(shape, dtype=torch.uint8)


def _fitted(workers: Workers, shape: tuple[int, int, int], file: Path) -> NDArray[np.uint8] | str:
    """Return the pixels of an image file, or why there are none."""
    try:
        return workers.fitted(read_file(str(file)), shape)
    except (OSError, NotAnImage) as error:
        return getattr(error, "strerror", None) or str(error)


def load(run: str | Path, device: str = "auto") -> Classifier:
    """Return the trained model of a run: its best checkpoint, or the newest that verifies.

    Args:
        run: a path, a name in the folder of runs, or `latest`.
        device: `auto` takes a GPU if there is one; or `cpu`, `cuda`, `mps`.

    Raises:
        BadRun: if there is no such run, or no checkpoint in it yet.

    Warns:
        UserWarning: if the best checkpoint is damaged and another one is taken.
    """
    opened = find(run)
    found = judged(opened)
    for problem in found.problems:
        warnings.warn(problem, stacklevel=2)
    return classifier(opened, found.checkpoint, device)


@dataclass(frozen=True)
class Judged:
    """The checkpoint that counts, and what is wrong with better ones."""

    checkpoint: Checkpoint
    problems: tuple[str, ...]


def judged(run: Run) -> Judged:
    """Return the best checkpoint of `run` by validation, or else the newest that verifies.

    Raises:
        BadRun: if there is none.
    """
    newest, problems = run.checkpoints.latest()
    if newest is None:
        raise BadRun(
            f"{run.path} holds no good checkpoint{': ' + ' '.join(problems) if problems else '.'} "
            f"Train it: pellucid resume {run.path}"
        )
    best = newest.facts["best"]["step"]
    if best not in (0, newest.step):
        try:
            newest = read(run.checkpoints.path(best))
        except BadCheckpoint as error:
            problems.append(f"{error} Taking the newest one, after step {newest.step}, instead.")
    return Judged(newest, tuple(problems))


def classifier(
    run: Run, checkpoint: Checkpoint, device: str = "auto", recipe: Recipe | None = None
) -> Classifier:
    """Return the model in `checkpoint`, built by the recipe that the checkpoint carries.

    Args:
        run: for messages.
        checkpoint: verified already.
        device: where it shall run.
        recipe: needed only if its model was given from Python.
    """
    facts = checkpoint.facts
    recipe = recipe or from_tree(_with_known_data(from_toml(facts["recipe"])), f"{run.path}")
    engine = Engine.start(recipe.engine_on(device))
    trained = checkpoint.facts.get("engine", {})
    if trained.get("device") == engine.device.type:  # elsewhere its kernels were not checked
        engine.precision = trained["precision"]
    preprocessing = Preprocessing(
        tuple(facts["preprocessing"]["shape"]),
        tuple(facts["preprocessing"]["mean"]),
        tuple(facts["preprocessing"]["std"]),
    )
    state = build_state(recipe, engine, preprocessing.shape, len(facts["classes"]))
    state.load(checkpoint.tensors, facts)
    network = state.ema.model.eval()
    classes = tuple(facts["classes"])
    return Classifier(network, preprocessing, classes, checkpoint.step, engine)


def image_files(paths: Iterable[str | Path]) -> list[Path]:
    """Return the image files that `paths` mean: files as they are, folders with all below them.

    Raises:
        BadData: if a path leads nowhere or a folder holds no image.
    """
    files: list[Path] = []
    for given in paths:
        path = Path(given)
        if path.is_dir():
            found = sorted(
                p
                for p in path.rglob("*")
                if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
            )
            if not found:
                raise BadData(f"{path} holds no image: no file named *{', *'.join(SUFFIXES)}.")
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise BadData(f"There is no file or folder {path}.")
    return files


def unreadable(bad: Sequence[tuple[str, str]]) -> UnreadableImages:
    """Return the error that names up to ten files of `bad`, each with its reason."""
    shown = "".join(f"\n  {file}: {reason}" for file, reason in bad[:10])
    more = f"\n  ... and {len(bad) - 10} more" if len(bad) > 10 else ""
    noun = "file is" if len(bad) == 1 else "files are"
    return UnreadableImages(f"{len(bad)} {noun} no image that can be read:{shown}{more}", bad)


def _with_known_data(tree: dict[str, object]) -> dict[str, object]:
    """Return the recipe `tree` with data that a file can name: a model needs none to be used."""
    data = tree["data"]
    given = isinstance(data, dict) and "python" in data
    return {**tree, "data": {"name": "digits"}} if given else tree
