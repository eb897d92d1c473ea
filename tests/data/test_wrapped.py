"""Python datasets as a source."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from pellucid.data.wrapped import FromDataset
from pellucid.errors import BadData
from pellucid.values import DataSource


class Listed(Dataset):
    def __init__(self, items, classes=()):
        self.items = items
        if classes:
            self.classes = classes

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        item = self.items[index]
        return item() if callable(item) else item


def array(seed=0, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape or (5, 4, 3), dtype=np.uint8)


def four(image):
    """Two images of each of two classes, the first of which is `image`."""
    return Listed([(image, 0), (image, 1), (image, 1), (image, 0)])


RGB = array(0)
GREY = array(1, 5, 4)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(RGB), RGB.transpose(2, 0, 1)),
        (RGB, RGB.transpose(2, 0, 1)),
        (torch.from_numpy(RGB).permute(2, 0, 1), RGB.transpose(2, 0, 1)),
        (torch.from_numpy(RGB).permute(2, 0, 1) / 255, RGB.transpose(2, 0, 1)),
        (torch.from_numpy(RGB).permute(2, 0, 1).double() / 255, RGB.transpose(2, 0, 1)),
        (Image.fromarray(GREY), GREY[None]),
        (GREY, GREY[None]),
        (GREY[:, :, None], GREY[None]),
        (torch.from_numpy(GREY), GREY[None]),
        (torch.from_numpy(GREY)[None] / 255, GREY[None]),
    ],
)
def test_every_form_of_image_gives_its_pixels(image, expected):
    loaded = FromDataset(four(image)).load()
    assert loaded.train.images.dtype == torch.uint8
    for row in loaded.train.images:
        np.testing.assert_array_equal(row.numpy(), expected)
    assert loaded.train.targets.tolist() == [0, 1, 1, 0]
    assert loaded.train.classes == ("0", "1")
    assert loaded.train.name == "dataset/train"
    assert (loaded.random, loaded.notes) == (False, ())


def test_parts_share_a_tensor_and_bring_their_names():
    source = FromDataset(four(RGB), four(RGB), four(RGB), classes=("cat", "dog"), name="pets")
    loaded = source.load()
    assert loaded.train.images is loaded.validation.images is loaded.test.images
    assert loaded.test.name == "pets/test"
    assert loaded.test.rows.tolist() == [8, 9, 10, 11]
    assert loaded.train.classes == ("cat", "dog")
    typed: DataSource = source
    assert (typed.validation, typed.test) == (0.1, 0.0)
    own = Listed(four(RGB).items, classes=["x", "y"])
    assert FromDataset(own).load().train.classes == ("x", "y")


def test_labels_of_many_kinds():
    labels = [0, np.int64(1), torch.tensor(0), np.array([1])]
    dataset = Listed([(GREY, label) for label in labels])
    assert FromDataset(dataset).load().train.targets.tolist() == [0, 1, 0, 1]
    tensors = TensorDataset(torch.zeros(6, 1, 4, 4), torch.arange(6) % 2)
    assert len(FromDataset(Subset(tensors, [0, 1, 2, 3])).load().train) == 4


def test_a_buffer_that_is_used_again_is_copied():
    buffer = np.zeros((4, 4), np.uint8)

    def item(value, label):
        def make():
            buffer[:] = value
            return buffer, label

        return make

    dataset = Listed([item(value, value % 2) for value in range(4)])
    assert FromDataset(dataset).load().train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "draw", [random.random, np.random.rand, lambda: torch.rand(1)], ids=["random", "numpy", "torch"]
)
def test_random_reading_is_noticed(draw):
    dataset = Listed([lambda label=label: (draw(), (GREY, label))[1] for label in (0, 1, 0, 1)])
    loaded = FromDataset(dataset).load()
    assert loaded.random
    assert "drew random numbers" in loaded.notes[0]


def test_mixed_sizes_need_a_size(picture):
    dataset = Listed([(picture(n, 8 + n, 9), n % 2) for n in range(4)])
    with pytest.raises(BadData, match=r"train\[1\] is 9 x 9, train\[0\] is 8 x 9. Give a size"):
        FromDataset(dataset).load()
    assert FromDataset(dataset, size=6).load().train.shape == (3, 6, 6)
    with pytest.raises(BadData, match="parts have images of different sizes"):
        FromDataset(four(RGB), four(array(0, 9, 9, 3))).load()


def test_size_does_what_the_decoder_does(picture):
    from pellucid.data.decode import fit

    expected = np.asarray(fit(picture(0, 20, 14), 6)).transpose(2, 0, 1)
    for image in (picture(0, 20, 14), np.asarray(picture(0, 20, 14))):
        loaded = FromDataset(four(image), size=6).load()
        np.testing.assert_array_equal(loaded.train.images[0].numpy(), expected)
    assert FromDataset(four(GREY), size=6).load().train.shape == (1, 6, 6)


def test_grey_among_colours_becomes_rgb():
    dataset = Listed([(RGB, 0), (GREY, 0), (RGB, 1), (GREY, 1)])
    images = FromDataset(dataset).load().train.images
    assert images.shape == (4, 3, 5, 4)
    np.testing.assert_array_equal(images[1].numpy(), np.stack([GREY] * 3))


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ((RGB, 2.5), r"train\[2\] has a float as its label"),
        ((RGB, "cat"), r"train\[2\] has a str as its label"),
        ((RGB, True), r"train\[2\] has a bool"),
        ((RGB, torch.tensor([1, 2])), r"train\[2\] has a Tensor as its label"),
        ((RGB, -1), r"train\[2\] has the label -1; there are 2 classes"),
        ((RGB, 7), r"train\[2\] has the label 7; there are 2 classes, so labels go from 0 to 1"),
        (RGB, r"train\[2\] is no pair \(image, label\): a ndarray"),
        (("path.png", 0), r"train\[2\] holds a str as an image"),
        ((RGB.astype(np.float32), 0), r"train\[2\] is an array of float32"),
        ((torch.ones(3, 5, 4) * 255, 0), r"train\[2\] has values from 255 to 255"),
        ((torch.full((3, 5, 4), float("nan")), 0), r"train\[2\] has values from nan"),
        ((torch.ones(3, 5, 4, dtype=torch.int64), 0), r"train\[2\] is a tensor of torch.int64"),
        ((torch.ones(5, 4, 3), 0), r"train\[2\] has the shape \(5, 4, 3\)"),
        ((array(0, 5, 4, 2), 0), r"train\[2\] has the shape"),
    ],
)
def test_what_is_wrong_is_said_with_its_position(bad, text):
    dataset = Listed([(RGB, 0), (RGB, 1), bad, (RGB, 1)])
    with pytest.raises(BadData, match=text):
        FromDataset(dataset, classes=("a", "b")).load()


def test_what_cannot_be_read_at_all():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter([])

    with pytest.raises(BadData, match="has no length"):
        FromDataset(Stream()).load()
    with pytest.raises(BadData, match="There are no images in dataset"):
        FromDataset(Listed([])).load()
    with pytest.raises(BadData, match="at least two classes"):
        FromDataset(Listed([(RGB, 0)] * 3)).load()
    with pytest.raises(BadData, match=r"validation must be in \[0, 1\). Got 1"):
        FromDataset(four(RGB), validation=1)
