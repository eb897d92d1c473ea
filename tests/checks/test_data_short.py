"""The short check before training."""

from __future__ import annotations

from dataclasses import replace

import torch

from pellucid.checks.data_short import short_check
from pellucid.data.digits import Digits
from pellucid.data.split import split
from pellucid.values import Splits


def digits() -> Splits:
    return split(Digits().load(), 0.1, 0.0, seed=0)


def test_sound_digits_say_nothing() -> None:
    assert short_check(digits()) == ()


def test_images_in_two_parts_are_named() -> None:
    splits = digits()
    train, validation = splits.train, splits.validation
    images = train.images.clone()
    images[validation.rows[7]] = images[train.rows[3]]
    images[validation.rows[9]] = images[train.rows[4]]
    held = replace(validation, images=images)
    notes = short_check(replace(splits, train=replace(train, images=images), validation=held))
    assert len(notes) == 1
    assert notes[0].startswith("2 images of digits/validation are also in digits/train")
    assert f"{validation.describe(7)} = {train.describe(3)}" in notes[0]
    assert f"{validation.describe(9)} = {train.describe(4)}" in notes[0]


def test_leaks_into_the_test_part() -> None:
    splits = digits()
    leaked = replace(splits, test=splits.train.part(torch.arange(5), "digits/test"))
    assert short_check(leaked)[0].startswith("5 images of digits/test are also in digits/train")


def test_small_classes() -> None:
    splits = digits()
    keep = torch.cat(
        [(splits.train.targets == k).nonzero().flatten()[: 9 if k == 3 else 10] for k in range(10)]
    )
    notes = short_check(replace(splits, train=splits.train.part(keep)))
    assert notes == ("Fewer than 10 images to train on: 3 (9).",)
