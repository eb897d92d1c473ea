"""Checks of the data: each is sound on real digits and fails on a planted fault."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pellucid import Engine, good
from pellucid.assemble import Assembled, assemble
from pellucid.checks import preflight_data as checks
from pellucid.checks.preflight import preflight, quick_checks
from pellucid.models.mlp import MLPSpec
from pellucid.values import Batch, ImageSet, Splits

RECIPE = good("digits").with_(model=MLPSpec())
ENGINE = Engine.start(RECIPE.engine)


@pytest.fixture(scope="module")
def built() -> Assembled:
    return assemble(RECIPE, ENGINE)


def relabelled(data: ImageSet, **labels: int) -> ImageSet:
    """Return `data` with other labels at some positions, such as `_3=10`."""
    changed = data.labels.clone()
    for position, label in labels.items():
        changed[data.rows[int(position[1:])]] = label
    return replace(data, labels=changed)


def with_train(splits: Splits, train: ImageSet) -> Splits:
    return replace(splits, train=train)


def painted(data: ImageSet, images: torch.Tensor) -> ImageSet:
    return ImageSet.of(images, data.targets[: len(images)], data.classes, data.name)


def test_real_digits_pass(built: Assembled) -> None:
    found = checks.data_checks(built, ENGINE)
    assert [check.name for check in found] == [
        "labels", "classes", "balance", "image size", "pixels", "blank images", "input",
        "training input",
    ]  # fmt: skip
    assert {check.verdict for check in found} == {"ok"}
    assert not any(check.advice for check in found)


@pytest.mark.parametrize("label", [10, -1])
def test_labels_out_of_range(built: Assembled, label: int) -> None:
    splits = with_train(built.splits, relabelled(built.splits.train, _7=label))
    check = checks.labels(splits)
    assert check.verdict == "failed"
    assert check.measured.startswith(f"outside: 1 of 4,500 in digits/train, such as {label} of ")
    assert built.splits.train.describe(7) in check.measured
    assert check.expected == "whole numbers from 0 to 9"
    assert "count from 1" in check.advice


def test_labels_of_each_part_are_looked_at(built: Assembled) -> None:
    splits = replace(built.splits, test=relabelled(built.splits.test, _0=12))
    assert "digits/test" in checks.labels(splits).measured


def test_nothing_is_computed_with_labels_out_of_range(built: Assembled) -> None:
    splits = with_train(built.splits, relabelled(built.splits.train, _7=10))
    broken = replace(built, splits=splits)
    assert [check.name for check in preflight(RECIPE, ENGINE, broken)][-1] == "training input"
    assert [check.name for check in quick_checks(broken, ENGINE)] == ["labels", "input"]


def test_a_class_that_is_missing(built: Assembled) -> None:
    splits = built.splits
    without = splits.train.part((splits.train.targets != 4).nonzero().flatten())
    check = checks.classes(with_train(splits, without))
    assert (check.verdict, check.measured) == ("failed", "digits/train has none of 4")
    held = splits.validation.part((splits.validation.targets < 2).nonzero().flatten())
    check = checks.classes(replace(splits, validation=held))
    assert check.verdict == "warning"
    assert check.measured == "digits/validation has none of 2, 3, 4 and 5 more"


def test_a_part_that_is_off_is_not_missed(built: Assembled) -> None:
    none = built.splits.validation.part(torch.empty(0, dtype=torch.int64))
    check = checks.classes(replace(built.splits, validation=none))
    assert (check.verdict, check.measured) == ("ok", "10 classes in each of 2 parts")


@pytest.mark.parametrize(("rare", "verdict"), [(45, "ok"), (44, "warning")])
def test_unequal_classes(built: Assembled, rare: int, verdict: str) -> None:
    train = built.splits.train
    threes = (train.targets == 3).nonzero().flatten()
    others = (train.targets != 3).nonzero().flatten()
    check = checks.balance(train.part(torch.cat([others, threes[:rare]])))
    assert check.verdict == verdict
    assert check.measured.startswith(f"{rare} to 450 images a class")
    assert ("--loss.class-weights balanced" in check.advice) == (verdict == "warning")


def test_images_of_two_sizes(built: Assembled) -> None:
    train = built.splits.train
    wider = replace(built.splits.test, images=built.splits.test.images[..., :20])
    check = checks.sizes(replace(built.splits, test=wider), train.shape)
    assert (check.verdict, check.measured) == ("failed", "digits/test 1x28x20")


def test_pixels_that_are_not_stored_as_bytes(built: Assembled) -> None:
    sample = checks.spread(built.splits.train, 50)
    as_float = painted(sample, sample.pixels(torch.arange(50)) / 255)
    assert checks.pixels(as_float).verdict == "failed"
    scaled = painted(sample, (sample.pixels(torch.arange(50)) / 255).to(torch.uint8))
    check = checks.pixels(scaled)
    assert (check.verdict, check.measured) == ("warning", "uint8, 0 to 1, n = 50")
    flat = painted(sample, torch.full((50, 1, 28, 28), 9, dtype=torch.uint8))
    assert checks.pixels(flat).verdict == "failed"


@pytest.mark.parametrize(
    ("blank", "verdict"), [(0, "ok"), (1, "warning"), (3, "warning"), (4, "failed")]
)
def test_blank_images(built: Assembled, blank: int, verdict: str) -> None:
    sample = checks.spread(built.splits.train, 300)
    images = sample.pixels(torch.arange(300)).clone()
    at = torch.tensor([5, 270, 280, 290])[:blank]  # in two chunks
    images[at] = torch.arange(blank, dtype=torch.uint8).view(-1, 1, 1, 1)
    check = checks.blanks(painted(sample, images))
    assert check.verdict == verdict
    assert ("digits/train[5]" in check.advice) == (blank > 0)
    assert ("digits/train[270]" in check.advice) == (blank > 1)


@pytest.mark.parametrize(("channels", "verdict"), [([2], "warning"), ([0, 1, 2], "failed")])
def test_constant_channels(built: Assembled, channels: list[int], verdict: str) -> None:
    sample = checks.spread(built.splits.train, 60)
    images = sample.pixels(torch.arange(60)).repeat(1, 3, 1, 1)
    # A picture, but the same one each time, is no constant channel: it must not vary at all.
    assert checks.blanks(painted(sample, images)).verdict == "ok"
    images[:, channels] = 7
    check = checks.blanks(painted(sample, images))
    assert check.verdict == verdict
    assert f"channel {', '.join(map(str, channels))} is the same in all of 60" in check.measured


@pytest.mark.parametrize("factor", [1.0, 1 / 255, 1 / 127.5], ids=["bytes", "[0, 1]", "[0, 2]"])
def test_input_that_is_not_normalised(built: Assembled, factor: float) -> None:
    sample = checks.spread(built.splits.train, 300)
    check = checks.prepared(sample, lambda images: images.float() * factor, ENGINE)
    assert check.verdict == "failed"
    assert "normalise" in check.advice


def test_input_that_is_no_number(built: Assembled) -> None:
    sample = checks.spread(built.splits.train, 300)
    assert checks.prepared(sample, lambda x: x.float() / 0.0, ENGINE).verdict == "failed"


def test_augmentation_that_forgets_to_normalise(built: Assembled) -> None:
    def forgetful(batch: Batch, step: int) -> Batch:
        return batch.with_images(batch.images.float() / 255)

    broken = replace(built, task=replace(built.task, augment=forgetful))
    verdicts = {c.name: c.verdict for c in checks.data_checks(broken, ENGINE)}
    assert verdicts["input"] == "ok"
    assert verdicts["training input"] == "failed"


def test_mean_and_deviation_are_those_of_numpy(built: Assembled) -> None:
    images = built.splits.train.pixels(torch.arange(120)).repeat(1, 3, 1, 1).float()
    images[:, 1] *= 0.5
    mean, std = checks.statistics(images.split(50))
    np.testing.assert_allclose(mean.numpy(), images.numpy().astype(float).mean((0, 2, 3)))
    np.testing.assert_allclose(std.numpy(), images.numpy().astype(float).std((0, 2, 3)))


def test_a_sample_is_spread_over_the_set(built: Assembled) -> None:
    sample = checks.spread(built.splits.train, 450)
    assert torch.equal(sample.rows, built.splits.train.rows[::10])
    assert len(checks.spread(built.splits.train, 10**6)) == 4500
