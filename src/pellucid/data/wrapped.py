"""A PyTorch dataset as a source of data: read through once, into memory."""

from __future__ import annotations

import random
from collections.abc import Sized
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from pellucid.data.classes import check_classes
from pellucid.errors import BadData
from pellucid.values import ImageSet, Loaded, Progress, no_progress

RANDOM_NOTE = (
    "Reading the dataset drew random numbers: the images are those of one reading, and a run on "
    "them cannot be resumed exactly. Take the random transforms out, and use the recipe's."
)


@dataclass(frozen=True)
class FromDataset:
    """Images of map-style datasets. From Python only: a recipe cannot write them down.

    Args:
        train: gives `(image, label)` by position. The image is a Pillow image, uint8 (H, W) or
            (H, W, C) of numpy, or a tensor (H, W) or (C, H, W) of uint8 or of float in [0, 1];
            C is 1 or 3. The label is a whole number from 0.
        validation_set: the same for validation, or None to split it off.
        test_set: the same for testing, or None.
        classes: names of the classes; empty takes the dataset's own `classes`, or else numbers.
        validation: share of the training images that becomes validation, in [0, 1).
        test: share of the images that becomes the test part if there is no `test_set`, in [0, 1).
        size: height and width that the images get, as `decode` does it; 0 leaves them as they are,
            and they must then be of one size.
        name: what a person calls the data.
    """

    train: Dataset[Any]
    validation_set: Dataset[Any] | None = None
    test_set: Dataset[Any] | None = None
    classes: tuple[str, ...] = ()
    validation: float = 0.1
    test: float = 0.0
    size: int = 0
    name: str = "dataset"

    def __post_init__(self) -> None:
        for share in ("validation", "test"):
            if not 0 <= getattr(self, share) < 1:
                raise BadData(f"{share} must be in [0, 1). Got {getattr(self, share)}.")

    def load(self, progress: Progress = no_progress) -> Loaded:
        """Return the images, uint8 (M, C, H, W), grey if all are.

        Float images are brought to uint8 by `round(255 x)`. What reads from the datasets' own
        random numbers is noticed by the generators of `random`, numpy and torch.

        Raises:
            BadData: naming part and position, if an item is not as described.
        """
        before = _generators()
        given = (
            ("train", self.train),
            ("validation", self.validation_set),
            ("test", self.test_set),
        )
        items = {
            part: _read(dataset, part, self.size, progress)
            for part, dataset in given
            if dataset is not None
        }
        drew = before != _generators()
        flat = [(image, part) for part, (images, _) in items.items() for image in images]
        labels = [label for _, numbers in items.values() for label in numbers]
        classes = self.classes or _names(self.train, labels)
        _check_labels(items, classes)
        check_classes(self.name, classes, labels, [part for _, part in flat])
        base = _stack([image for image, _ in flat])
        targets = torch.tensor(labels, dtype=torch.int64)
        sets: dict[str, ImageSet] = {}
        start = 0
        for part, (images, _) in items.items():
            rows = torch.arange(start, start + len(images))
            sets[part] = ImageSet(base, targets, classes, f"{self.name}/{part}", rows)
            start += len(images)
        notes = (RANDOM_NOTE,) if drew else ()
        return Loaded(sets["train"], sets.get("validation"), sets.get("test"), notes, drew)


def _generators() -> tuple[Any, ...]:
    """Return the state of the generators that a dataset may draw from."""
    kind, keys, *rest = cast(tuple[Any, ...], np.random.get_state())
    return random.getstate(), kind, keys.tobytes(), rest, torch.get_rng_state().numpy().tobytes()


def _read(
    dataset: Dataset[Any], part: str, size: int, progress: Progress
) -> tuple[list[NDArray[np.uint8]], list[int]]:
    if not isinstance(dataset, Sized):
        raise BadData(f"The {part} dataset has no length; only map-style datasets are read.")
    images, labels = [], []
    for index in range(len(dataset)):
        where = f"{part}[{index}]"
        item = dataset[index]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise BadData(f"{where} is no pair (image, label): {_kind(item)}.")
        image = _pixels(item[0], where)
        # Copied, since a dataset may give the same buffer each time.
        images.append((_fitted(image, size) if size else image).copy())
        labels.append(_label(item[1], where))
        if index % 1000 == 0:
            progress(f"reading the {part} dataset", index, len(dataset))
    for index, image in enumerate(images):
        if image.shape[1:] != images[0].shape[1:]:
            raise BadData(
                f"{part}[{index}] is {image.shape[2]} x {image.shape[1]}, {part}[0] is "
                f"{images[0].shape[2]} x {images[0].shape[1]}. Give a size, such as size=64."
            )
    return images, labels


def _pixels(image: Any, where: str) -> NDArray[np.uint8]:
    """Return uint8 (C, H, W) of what a dataset gave as an image."""
    if isinstance(image, Tensor):
        return _channels_first(_bytes_of(image, where), where)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8:
            raise BadData(f"{where} is an array of {image.dtype}; arrays must be of uint8.")
        array = image if image.ndim != 3 else image.transpose(2, 0, 1)
        return _channels_first(array, where)
    from PIL import Image

    if isinstance(image, Image.Image):
        from pellucid.data.decode import GREY_MODES, flatten

        grey = image.mode in GREY_MODES
        array = np.asarray(flatten(image, "L" if grey else "RGB"), np.uint8)
        return _channels_first(array if grey else array.transpose(2, 0, 1), where)
    raise BadData(
        f"{where} holds {_kind(image)} as an image; it must be a Pillow image, a uint8 array or a "
        "tensor."
    )


def _bytes_of(image: Tensor, where: str) -> NDArray[np.uint8]:
    image = image.detach().cpu()
    if image.dtype == torch.uint8:
        return cast(NDArray[np.uint8], image.numpy())
    if not image.is_floating_point():
        raise BadData(f"{where} is a tensor of {image.dtype}; it must be uint8 or float.")
    if not bool(((image >= 0) & (image <= 1)).all()):
        raise BadData(
            f"{where} has values from {float(image.min()):.3g} to {float(image.max()):.3g}; a "
            "float tensor must be in [0, 1]. Leave normalization to the recipe."
        )
    return cast(NDArray[np.uint8], (image.float() * 255).round().to(torch.uint8).numpy())


def _channels_first(array: NDArray[np.uint8], where: str) -> NDArray[np.uint8]:
    image = array[None] if array.ndim == 2 else array
    if image.ndim != 3 or image.shape[0] not in (1, 3) or 0 in image.shape:
        raise BadData(
            f"{where} has the shape {array.shape} (channels first); it must be (H, W), "
            "or have 1 or 3 channels."
        )
    return image


def _label(label: Any, where: str) -> int:
    number = label
    if isinstance(label, Tensor | np.ndarray | np.generic) and len(label.reshape(-1)) == 1:
        number = label.item()
    if isinstance(number, bool) or not isinstance(number, int):
        raise BadData(f"{where} has {_kind(label)} as its label; it must be a whole number.")
    return number


def _fitted(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    from PIL import Image

    from pellucid.data.decode import fit

    if len(image) == 1:
        return np.asarray(fit(Image.fromarray(image[0]), size))[None]
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    return np.asarray(fit(picture, size)).transpose(2, 0, 1)


def _names(dataset: Dataset[Any], labels: list[int]) -> tuple[str, ...]:
    own = getattr(dataset, "classes", ())
    if own:
        return tuple(str(name) for name in own)
    return tuple(str(number) for number in range(max(labels, default=-1) + 1))


def _check_labels(
    items: dict[str, tuple[list[NDArray[np.uint8]], list[int]]], classes: tuple[str, ...]
) -> None:
    for part, (_, labels) in items.items():
        for index, label in enumerate(labels):
            if not 0 <= label < len(classes):
                raise BadData(
                    f"{part}[{index}] has the label {label}; there are {len(classes)} classes, so "
                    f"labels go from 0 to {len(classes) - 1}."
                )


def _stack(images: list[NDArray[np.uint8]]) -> Tensor:
    """Return all images as one tensor, (M, C, H, W)."""
    shapes = {image.shape[1:] for image in images}
    if len(shapes) > 1:
        raise BadData(f"The parts have images of different sizes: {sorted(shapes)}. Give a size.")
    channels = max(len(image) for image in images)
    base = np.empty((len(images), channels, *images[0].shape[1:]), np.uint8)
    for row, image in enumerate(images):
        base[row] = image  # a grey image among colours fills all three channels
    return torch.from_numpy(base)


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"
