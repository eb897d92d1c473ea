"""What is measured before the first step: data, loss, batches, preparation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from pellucid import Engine, Recipe
from pellucid.assemble import Assembled, assemble
from pellucid.augment.colour import Brightness, Contrast
from pellucid.augment.erasing import Cutout, Erase
from pellucid.augment.geometry import Crop, Flip, Rotate, Scale
from pellucid.augment.mixing import MixUp
from pellucid.augment.pipeline import AugmentSpec
from pellucid.checks.diagnosis import diagnose
from pellucid.checks.diagnosis_data import agreement, digests, features, look_at_data, neighbours
from pellucid.checks.diagnosis_facts import TaskFacts, facts_of
from pellucid.checks.diagnosis_task import doubling, floor, look_at_task
from pellucid.data.digits import Digits
from pellucid.data.split import split
from pellucid.optim.losses import CrossEntropy
from pellucid.seeds import generator
from pellucid.values import ImageSet, Loaded
from tests.checks.faults_parts import (
    RawPixels,
    Sorted,
    TargetsAstray,
    doubled,
    evaluation_augmented,
    leaking_test,
    shuffled_labels,
    validation_off_by_one,
)
from tests.checks.faults_run import Few

CPU = torch.device("cpu")
NAMES = tuple("0123456789")


def splits(change=lambda loaded: loaded, per_class: int = 40):  # type: ignore[no-untyped-def]
    return split(change(Few(Digits(), per_class, seed=5).load()), 0.25, 0.0, seed=0)


# ---- data -----------------------------------------------------------------------------------


def test_real_parts_share_nothing_and_labels_fit() -> None:
    found = look_at_data(splits())
    assert (found.shared, found.conflicts) == ((), 0)
    assert found.train is not None
    assert found.validation is not None
    assert min(found.train.as_is, found.validation.as_is) > 0.6
    assert found.train.chance == pytest.approx(0.1, abs=0.02)


def test_twins_are_counted_in_every_pair_of_parts() -> None:
    found = {row[:2]: row[2:] for row in look_at_data(splits(leaking_test)).shared}
    in_train, in_validation = (found["test", part] for part in ("train", "validation"))
    assert in_train[0] + in_validation[0] == 200 == in_train[1]
    assert ("validation", "train") not in found
    ((part, other, n, of),) = look_at_data(splits(doubled)).shared
    parts = splits(doubled)
    training = set(digests(parts.train))
    expected = sum(h in training for h in digests(parts.validation))
    assert (part, other, n, of) == ("validation", "train", expected, len(parts.validation))


def test_a_hash_is_of_the_pixels_and_of_nothing_else() -> None:
    images = torch.zeros(4, 1, 5, 5, dtype=torch.uint8)
    images[1, 0, 4, 4] = 1
    first = ImageSet.of(images, torch.arange(4) % 2, ("a", "b"), "x")
    again = ImageSet.of(images.clone(), 1 - first.labels, ("c", "d"), "y", tuple("wxyz"))
    assert digests(first) == digests(again)
    assert len(set(digests(first))) == 2


def test_a_twin_with_another_label_is_a_conflict() -> None:
    loaded = Few(Digits(), 20).load()
    train = loaded.train.part(torch.arange(200))
    images = torch.cat([train.pixels(torch.arange(200)), train.pixels(torch.arange(3))])
    labels = torch.cat([train.targets, (train.targets[:3] + 1) % 10])
    both = Loaded(ImageSet.of(images, labels, train.classes, "x/train"))
    assert look_at_data(split(both, 0.0, 0.0, 0)).conflicts == 6


def test_nearest_neighbours_are_scikit_learns() -> None:
    parts = splits()
    pool, asked = parts.train, parts.validation

    def matrix(data: ImageSet) -> np.ndarray:
        return features(data.pixels(torch.arange(len(data))).float()).numpy()

    theirs = KNeighborsClassifier(1, algorithm="brute").fit(matrix(pool), pool.targets.numpy())
    said = torch.from_numpy(theirs.predict(matrix(asked)))
    assert neighbours(pool, asked) == agreement(asked.targets, said, pool.classes)
    without = KNeighborsClassifier(2, algorithm="brute").fit(matrix(pool), pool.targets.numpy())
    second = without.kneighbors(matrix(pool)[::2], return_distance=False)[:, 1]
    own = neighbours(pool, None)
    assert own == agreement(pool.targets[::2], pool.targets[second], pool.classes)


def test_labels_that_are_shuffled_or_shifted_show() -> None:
    found = look_at_data(splits(shuffled_labels)).train
    assert found is not None
    assert found.as_is < found.chance + found.error
    twins = look_at_data(splits(lambda loaded: doubled(shuffled_labels(loaded)))).train
    assert twins is not None
    assert twins.as_is < twins.chance + 0.1  # a twin would always agree
    moved = look_at_data(splits(validation_off_by_one))
    assert moved.train is not None
    assert moved.validation is not None
    assert moved.train.as_is > 0.6 > 0.1 > moved.validation.as_is
    assert moved.validation.relabelled > 0.5
    label, is_ = moved.validation.example
    assert int(label) == (int(is_) + 1) % 10


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 8))
def test_any_renaming_is_found_and_nothing_is_gained_by_chance(seed: int, classes: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    truth = torch.arange(60 * classes) % classes
    renaming = torch.randperm(classes, generator=draws)
    names = NAMES[:classes]
    found = agreement(renaming[truth], truth, names)
    assert found is not None
    assert found.relabelled == 1
    assert found.as_is == pytest.approx(float((renaming == torch.arange(classes)).float().mean()))
    random = agreement(torch.randint(classes, truth.shape, generator=draws), truth, names)
    assert random is not None
    assert abs(random.relabelled - random.chance) < 2.5 * random.error
    constant = agreement(truth, torch.zeros_like(truth), names)
    assert constant is not None
    assert constant.relabelled <= 1 / classes + 1e-6


def test_too_few_images_say_nothing() -> None:
    assert agreement(torch.arange(10), torch.arange(10), NAMES) is None
    empty = splits().train.part(torch.empty(0, dtype=torch.int64))
    assert neighbours(splits().train, empty) is None


# ---- loss, batches, preparation -------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_floor_is_the_entropy_of_the_target(classes: int, smoothing: float) -> None:
    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets, label_smoothing=smoothing)

    shares = torch.full((classes,), smoothing / classes, dtype=torch.float64)
    shares[0] += 1 - smoothing
    entropy = float(torch.special.entr(shares).sum())
    assert floor(loss, classes, CPU) == pytest.approx(entropy, abs=0.03)


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_two_softmaxes_have_a_floor_that_is_found(classes: int) -> None:
    found = floor(lambda z, t: F.cross_entropy(z.softmax(1), t), classes, CPU)
    least = float(torch.tensor(float(classes - 1) + np.e).log() - 1)
    assert found == pytest.approx(least, abs=1e-5)
    assert found > 0.3 * np.log(classes)


def test_a_sum_doubles_and_a_mean_does_not() -> None:
    assert doubling(lambda z, t: F.cross_entropy(z, t, reduction="sum"), 5, CPU) == pytest.approx(2)
    balanced = CrossEntropy(class_weights="balanced").build(torch.tensor([5, 10, 20]), CPU)
    assert doubling(balanced, 3, CPU) == pytest.approx(1)


def looked(recipe: Recipe, change=lambda built: built) -> TaskFacts:  # type: ignore[no-untyped-def]
    built: Assembled = change(assemble(recipe, Engine.start(recipe.engine)))
    smoothing = float(getattr(recipe.loss, "label_smoothing", 0.0))
    return look_at_task(built.task, built.splits.train, CPU, smoothing)


def more(tiny: Recipe) -> Recipe:
    return tiny.with_(data=Few(Digits(), 20), batch_size=40)


@pytest.mark.parametrize(
    "augment",
    [
        AugmentSpec(),
        AugmentSpec(flip=Flip(p=1.0)),
        AugmentSpec(crop=Crop(padding=4)),
        AugmentSpec(flip=Flip(), crop=Crop(padding=2), mixup=MixUp()),
    ],
)
def test_sound_recipes_look_sound(tiny: Recipe, augment: AugmentSpec) -> None:
    recipe = more(tiny).with_(augment=augment, loss=CrossEntropy(label_smoothing=0.1))
    found = looked(recipe)
    built = assemble(recipe, Engine.start(recipe.engine))
    facts = facts_of(recipe, built.splits, built.task.plan, built.state.model, task=found)
    assert diagnose([], facts) == []
    assert found.unrepeatable == 0
    assert found.seen == 150


def test_looking_leaves_the_random_streams_alone(tiny: Recipe) -> None:
    built = evaluation_augmented(assemble(tiny, Engine.start(tiny.engine)))
    before = torch.get_rng_state()
    look_at_task(built.task, built.splits.train, CPU)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_order_of_batches(tiny: Recipe) -> None:
    shuffled, by_class = looked(more(tiny)), looked(more(tiny).with_(sampling=Sorted()))
    assert shuffled.together == pytest.approx(shuffled.together_expected, abs=0.03)
    assert by_class.together_expected == pytest.approx(shuffled.together_expected, abs=1e-9)
    assert by_class.together > 0.3


HEAVY = AugmentSpec(
    flip=Flip(), crop=Crop(padding=4), rotate=Rotate(), scale=Scale(), brightness=Brightness(),
    contrast=Contrast(), erase=Erase(), cutout=Cutout(),
)  # fmt: skip


def test_images_that_moved_without_their_labels(tiny: Recipe) -> None:
    recipe = tiny.with_(data=Few(Digits(), 40), batch_size=40)
    moved = looked(recipe.with_(augment=TargetsAstray()))
    assert abs(moved.follow) < 0.15
    assert 0 < moved.follow_error < 0.1
    assert moved.seen == 280  # whole batches
    assert looked(recipe.with_(augment=AugmentSpec())).follow == 1
    assert looked(recipe.with_(augment=AugmentSpec(crop=Crop(padding=8)))).follow > 0.8
    assert looked(recipe.with_(augment=HEAVY)).follow > 0.4
    assert math.isnan(looked(recipe.with_(augment=AugmentSpec(mixup=MixUp()))).follow)


def test_inputs_of_both_kinds(tiny: Recipe) -> None:
    found = looked(more(tiny).with_(augment=RawPixels()))
    assert found.train_input[1] > 50
    assert found.evaluation_input == pytest.approx((0, 1), abs=0.1)
    assert looked(more(tiny), evaluation_augmented).unrepeatable > 1


def test_targets_that_are_wrong_in_the_batch(tiny: Recipe) -> None:
    def shifted(built: Assembled) -> Assembled:
        augment = built.task.augment

        def wrong(batch, step: int):  # type: ignore[no-untyped-def]
            return augment(replace(batch, targets=(batch.targets + 1) % 10), step)

        return replace(built, task=replace(built.task, augment=wrong))

    assert looked(more(tiny).with_(augment=AugmentSpec()), shifted).follow < 0.1


def test_the_generator_of_few_is_seeded() -> None:
    first, second = (Few(Digits(), 5, seed=s).load().train.rows for s in (0, 1))
    assert not torch.equal(first, second)
    assert torch.equal(first, Few(Digits(), 5, seed=0).load().train.rows)
    assert generator(0, "few").initial_seed() != generator(1, "few").initial_seed()
