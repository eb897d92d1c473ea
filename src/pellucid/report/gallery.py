"""The worst mistakes with what may explain them: similar training images, and the past."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from pellucid.inference import Classifier
from pellucid.metrics.mistakes import Mistake
from pellucid.runs.folder import Run
from pellucid.runs.snapshots import snapshots
from pellucid.values import ImageSet, Progress, no_progress

NEAREST = 3
SEARCHED = 10_000
"""Training images, at most, among which similar ones are looked for."""


@dataclass(frozen=True)
class Neighbour:
    """A training image that the network holds for similar.

    Args:
        index: position in the training part.
        label: its class.
        name: file or place.
        distance: between the inputs of the last linear layer (Euclidean).
    """

    index: int
    label: str
    name: str
    distance: float


@dataclass(frozen=True)
class Exhibit:
    """One mistake, explained as far as that can be.

    Args:
        mistake: what was answered, and how surely.
        id: position in the set as loaded.
        name: file or place.
        nearest: similar training images, the most similar first; empty where unknown.
        history: whether the image was ever right during training, in words.
    """

    mistake: Mistake
    id: int
    name: str
    nearest: tuple[Neighbour, ...]
    history: str

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        plain = asdict(self)
        return {**plain.pop("mistake"), **plain, "nearest": [asdict(n) for n in self.nearest]}


def exhibits(
    run: Run, search: Search, found: Sequence[Mistake], data: ImageSet, *, past: bool
) -> list[Exhibit]:
    """Return the mistakes `found` with similar training images and their past.

    Args:
        run: whose copies of the weights over time are looked at.
        search: with the model that made the mistakes.
        found: mistakes on `data`.
        data: the images that were judged.
        past: whether the images may be judged under earlier weights; not for test images, which
            are judged once.
    """
    if not found:
        return []
    wrong = data.part(torch.tensor([mistake.row for mistake in found]))
    near = search.nearest(wrong)
    said = history(run, search.model, wrong) if past else [NOT_ASKED] * len(found)
    return [
        Exhibit(m, int(wrong.rows[i]), wrong.describe(i), near[i] if near else (), said[i])
        for i, m in enumerate(found)
    ]


NOT_ASKED = "n/a: test images are not judged under earlier weights"


class Search:
    """Finds training images that a network holds for similar to others.

    At most `SEARCHED` training images, evenly spread over the part, are looked at, once.

    Args:
        model: the network.
        train: the training images.
        progress: told while they are looked at.
    """

    def __init__(
        self, model: Classifier, train: ImageSet, progress: Progress = no_progress
    ) -> None:
        self.model = model
        self.train = train
        self.progress = progress
        count = min(SEARCHED, len(train))
        self.index = torch.arange(count) * len(train) // max(count, 1)

    @functools.cached_property
    def known(self) -> Tensor | None:
        """The features of the training images (M, D); None where the network has none."""
        rows, done = [], 0
        for piece in self.index.split(5000):
            found = features(self.model, self.train.part(piece))
            if found is None:
                return None
            rows.append(found)
            done += len(piece)
            self.progress("similar training images", done, len(self.index))
        return torch.cat(rows)

    def nearest(self, images: ImageSet) -> list[tuple[Neighbour, ...]]:
        """Return the most similar training images of each of `images`.

        Empty where the network has no last linear layer.
        """
        mine = features(self.model, images)
        if mine is None or self.known is None:
            return []
        far = torch.cdist(mine, self.known, compute_mode="donot_use_mm_for_euclid_dist")
        distances, places = far.topk(min(NEAREST, len(self.index)), largest=False)
        train = self.train
        return [
            tuple(
                Neighbour(i, train.classes[int(train.targets[i])], train.describe(i), distance)
                for i, distance in zip(self.index[where].tolist(), row.tolist(), strict=True)
            )
            for where, row in zip(places, distances, strict=True)
        ]


def features(model: Classifier, images: ImageSet) -> Tensor | None:
    """Return what the last linear layer gets for each of `images`, float32 (N, D), or None.

    The network is left as it was.
    """
    layers = [layer for layer in model.network.modules() if isinstance(layer, nn.Linear)]
    if not layers:
        return None
    kept: list[Tensor] = []
    handle = layers[-1].register_forward_pre_hook(
        lambda _, inputs: kept.append(inputs[0].detach().flatten(1).float().cpu())
    )
    try:
        model.predict_set(images)
    finally:
        handle.remove()
    found = torch.cat(kept)
    return found if len(found) == len(images) else None


def history(run: Run, model: Classifier, images: ImageSet) -> list[str]:
    """Return in words when each of `images` was answered rightly, by the copies of the weights."""
    stored = snapshots(run.path)
    if not stored:
        return ["n/a: no copies of the weights were kept"] * len(images)
    steps, right = list(stored), []
    past = Classifier(
        copy.deepcopy(model.network), model.preprocessing, model.classes, model.step, model.engine
    )
    for path in stored.values():
        past.network.load_state_dict(safetensors.torch.load_file(path))
        right.append(past.predict_set(images).labels == images.targets)
    return [_words(steps, column) for column in torch.stack(right).T.tolist()]


def _words(steps: list[int], right: list[bool]) -> str:
    """Return the past of one image.

    >>> _words([0, 10, 20], [False, True, False]), _words([0, 10], [False, False])
    ('right at 1 of 3 looks, last after step 10', 'never right at 2 looks')
    """
    times = [step for step, hit in zip(steps, right, strict=True) if hit]
    if not times:
        return f"never right at {len(steps)} looks"
    return f"right at {len(times)} of {len(steps)} looks, last after step {times[-1]:,}"
