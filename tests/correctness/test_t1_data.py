"""Traps T1 of `docs/correctness.md`: data."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing import get_all_start_methods, get_context

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset, random_split

from pellucid import Console, Engine, FromDataset, Recipe, Run, good, resume, steps, train
from pellucid.assemble import Assembled, assemble
from pellucid.augment.geometry import Crop, Flip
from pellucid.augment.pipeline import AugmentSpec
from pellucid.cli.judge import judge_run
from pellucid.data.batches import Batches
from pellucid.data.digits import Digits
from pellucid.data.preprocessing import Preprocessing
from pellucid.data.split import split
from pellucid.engine import EngineSpec
from pellucid.errors import BadData
from pellucid.evaluate import predict
from pellucid.runs.folder import OPENINGS
from pellucid.seeds import generator
from pellucid.values import Batch, ImageSet, Loaded, Progress, Splits, no_progress

CPU = EngineSpec(device="cpu")
MEAN, STD = 0.1307, 0.3081  # of the 60,000 training images of MNIST, pixels in [0, 1]

with_workers = [
    pytest.mark.skipif("fork" not in get_all_start_methods(), reason="no fork on this system"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small tensors gain nothing from more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits() -> Loaded:
    return Digits().load()


@pytest.fixture(scope="module")
def built() -> Assembled:
    return assemble(good("digits"), Engine.start(CPU))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    recipe = good("digits").with_(length=steps(4), engine=CPU)
    return train(recipe, tmp_path_factory.mktemp("runs"))


@dataclass(frozen=True)
class Few:
    """The first 300 training digits and 200 test digits; these with labels moved on by `moved`."""

    moved: int = 0
    validation: float = 0.1
    test: float = 0.0

    def load(self, progress: Progress = no_progress) -> Loaded:
        digits = Digits().load(progress)
        test = digits.test.part(torch.arange(200))
        test = replace(test, labels=(test.labels + self.moved) % 10)
        return Loaded(digits.train.part(torch.arange(300)), test=test)


class Pictures(Dataset):
    """The first digits as a usual PyTorch dataset of Pillow images, with a transform or without."""

    def __init__(self, transform=None, n=200):
        part = Digits().load().train.part(torch.arange(n))
        self.items = [
            (Image.fromarray(image[0].numpy()), int(label))
            for image, label in zip(part.pixels(torch.arange(n)), part.targets, strict=True)
        ]
        self.transform = transform

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        image, label = self.items[i]
        return (self.transform(image) if self.transform else image), label


def few(**changes: object) -> Recipe:
    return good("digits").with_(data=Few(), length=steps(4), engine=CPU).with_(**changes)


def pixels(data: ImageSet) -> Tensor:
    return data.pixels(torch.arange(len(data)))


def rows(run: Run, name: str) -> list[dict[str, str]]:
    with (run.path / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def nearest_mean(digits: Loaded, images: Tensor) -> Tensor:
    """Return the digit whose mean training image is nearest: a classifier without any training."""
    known = pixels(digits.train).float().flatten(1)
    means = torch.stack([known[digits.train.targets == digit].mean(0) for digit in range(10)])
    return torch.cdist(images.float().flatten(1), means).argmin(1)


def seen_as(digits: Loaded, images: Tensor) -> float:
    """Return the accuracy of `nearest_mean` on changed test images."""
    return float((nearest_mean(digits, images) == digits.test.targets).float().mean())


def batch_of(data: ImageSet, n: int) -> Batch:
    index = torch.arange(n)
    return Batch(data.pixels(index), data.label(index), index, index, n)


def test_trap_T1_1_two_parts_of_a_random_split_share_one_transform(built: Assembled):
    parts = random_split(Pictures(transform=lambda image: "augmented"), [150, 50])
    parts[1].dataset.transform = lambda image: "plain"
    assert parts[0].dataset is parts[1].dataset
    assert parts[0][0][0] == "plain"  # training lost its augmentation, unasked

    # Ours: parts are positions in shared pixels, and augmentation belongs to training batches.
    splits = built.splits
    assert splits.train.images is splits.validation.images
    before = splits.train.images.clone()
    for batch in built.task.train.pieces(0):
        plain = built.task.prepare(batch.images)
        assert not torch.equal(built.task.augment(batch, 0).images, plain)
    assert torch.equal(splits.train.images, before)


def test_trap_T1_2_split_comes_before_augmentation(digits: Loaded, built: Assembled, run: Run):
    copies = torch.arange(1000).repeat_interleave(4)  # four augmented views of each image
    parts = random_split(copies, [3600, 400], generator=generator(0, "split"))
    left, right = ({int(copies[i]) for i in part.indices} for part in parts)
    assert len(left & right) > 0.9 * len(right)

    mine, held = (set(part.rows.tolist()) for part in (built.splits.train, built.splits.validation))
    assert not mine & held
    assert len(mine | held) == len(digits.train) == 5000
    place = {}
    for row in rows(run, "split.csv"):
        assert place.setdefault(row["sha256"], row["part"]) == row["part"]


def test_trap_T1_3_statistics_are_those_of_the_training_part(digits: Loaded, built: Assembled):
    x = pixels(built.splits.train).double() / 255
    assert built.preprocessing.mean == pytest.approx([float(x.mean())], rel=1e-12)
    assert built.preprocessing.std == pytest.approx([float(x.std(correction=0))], rel=1e-12)

    everything = torch.cat([pixels(digits.train), pixels(digits.test)]).double() / 255
    for other in (everything, pixels(digits.train).double() / 255):
        assert abs(built.preprocessing.mean[0] - float(other.mean())) > 1e-6
    fold = assemble(good("digits").with_(seed=1), Engine.start(CPU))
    assert fold.preprocessing.mean != built.preprocessing.mean  # another fold, other statistics


def test_trap_T1_4_test_part_decides_nothing_and_is_opened_once(run: Run, tmp_path):
    stopped = train(few(), tmp_path, stop=lambda _: True)
    assert not stopped.rows(OPENINGS)
    assert not (stopped.path / "predictions").exists()
    for _ in range(2):  # the second call finds a finished run
        first = resume(stopped.path, few())
        assert [row["n"] for row in first.rows(OPENINGS)] == [200]

    other = train(few(data=Few(moved=1)), tmp_path)  # the same, but every test label is wrong
    for name in ("metrics.jsonl", "predictions/validation.csv"):
        assert (first.path / name).read_bytes() == (other.path / name).read_bytes()
    assert first.summary()["best"] == other.summary()["best"]
    assert first.summary()["test"] != other.summary()["test"]

    opened = run.rows(OPENINGS)
    assert [(row["checkpoint"], row["n"]) for row in opened] == [(4, 1000)]
    assert judge_run(str(run.path), "validation", "cpu", Console())["openings"] == 1
    assert judge_run(str(run.path), "test", "cpu", Console())["openings"] == 2
    assert len(run.rows(OPENINGS)) == 2


def test_trap_T1_5_random_split_needs_strata_groups_and_a_look_for_duplicates(
    digits: Loaded, built: Assembled, tmp_path
):
    def counts(labels: Tensor) -> list[int]:
        return torch.bincount(labels, minlength=10).tolist()

    loose = random_split(digits.train.targets, [4500, 500], generator=generator(0, "split"))[1]
    assert len(set(counts(torch.stack(list(loose))))) > 1
    assert counts(built.splits.validation.targets) == [50] * 10

    # Groups (writers, sources) are split by whoever knows them; such a part is kept as it is.
    group = digits.train.part(torch.arange(100))
    rest = digits.train.part(torch.arange(100, 5000))
    kept = split(Loaded(rest, group, digits.test), 0.1, 0.0, seed=0)
    assert kept.validation is group
    assert kept.train is rest

    # A duplicate across parts is to be seen in split.csv, without any model.
    some = list(zip(pixels(digits.train)[:300], digits.train.targets[:300].tolist(), strict=True))
    source = FromDataset(some, validation_set=some[:100], test_set=some[100:200])
    twice = train(few(data=source, length=steps(1)), tmp_path)
    parts: dict[str, set[str]] = {}
    for row in rows(twice, "split.csv"):
        parts.setdefault(row["sha256"], set()).add(row["part"])
    assert Counter(frozenset(p) for p in parts.values() if len(p) > 1) == {
        frozenset({"train", "validation"}): 100,
        frozenset({"train", "test"}): 100,
    }


def test_trap_T1_6_augmentation_gives_other_views_not_more_images(built: Assembled):
    plain = assemble(good("digits").with_(augment=AugmentSpec()), Engine.start(CPU)).task
    task = built.task
    assert task.plan == plain.plan
    assert task.plan.steps_per_epoch == 36

    views: list[dict[int, Tensor]] = []
    for epoch in range(2):
        views.append({})
        for step in range(36 * epoch, 36 * (epoch + 1)):
            for batch in task.train.pieces(step):
                seen = task.augment(batch, step)
                assert torch.equal(seen.targets, built.splits.train.label(batch.index))
                views[-1].update(zip(batch.index.tolist(), seen.images, strict=True))
    assert len(views[0]) == len(views[1]) == 4500
    changed = sum(not torch.equal(views[0][i], views[1][i]) for i in range(4500))
    assert changed > 0.9 * 4500


def test_trap_T1_7_a_flip_does_not_keep_every_label(digits: Loaded):
    test = pixels(digits.test)
    mirrored = Flip(p=1).apply(test, torch.ones(len(test), dtype=torch.bool))
    assert torch.equal(mirrored, test.flip(3))
    assert seen_as(digits, test) > 0.75
    assert seen_as(digits, mirrored) < 0.55
    turned = nearest_mean(digits, test[digits.test.targets == 6].rot90(2, (2, 3)))
    assert (turned == 9).sum() > 10 * (turned == 6).sum()

    assert good("digits").augment.flip is None
    assert good("mnist").augment.flip is None
    assert good("fashion-mnist").augment.flip is not None
    assert good("cifar10").augment.flip is not None
    assert "spoils" in Flip.__doc__


def test_trap_T1_8_padding_after_normalisation_is_grey_not_black(built: Assembled):
    background = (0 - MEAN) / STD
    assert background == pytest.approx(-0.4242, abs=1e-4)
    assert 0 * STD + MEAN == MEAN > 0  # what a padded zero means, read back as a pixel
    x = torch.full((1, 1, 4, 4), background)
    kernel = torch.ones(1, 1, 3, 3)
    by_layer = F.conv2d(x, kernel, padding=1)
    assert torch.equal(by_layer, F.conv2d(F.pad(x, (1, 1, 1, 1)), kernel))  # zeros, so grey
    assert by_layer[0, 0, 0, 0] > by_layer[0, 0, 1, 1]  # lighter than the plain background

    # Ours shifts the stored pixels, so what comes in is the background to the last bit.
    augment = AugmentSpec(crop=Crop(padding=2)).build(0, built.task.prepare)
    batch = batch_of(built.splits.train, 200)
    black = built.task.prepare(torch.zeros(1, 1, 28, 28, dtype=torch.uint8))[0, 0, 0, 0]
    draws = Crop(padding=2).draw(200, (1, 28, 28), generator(0, "augment/crop", 0))
    padded = F.pad(built.task.prepare(batch.images), (2,) * 4, value=float(black))
    expected = [x[:, y : y + 28, z : z + 28] for x, (y, z) in zip(padded, draws, strict=True)]
    assert torch.equal(augment(batch, 0).images, torch.stack(expected))


def test_trap_T1_9_a_drawing_must_be_prepared_as_mnist_was(digits: Loaded):
    sides = []
    for image in torch.cat([pixels(digits.train)[:500], pixels(digits.test)[:500]]).double():
        ink = image[0].nonzero()
        sides.append(int((ink.max(0).values - ink.min(0).values + 1).max()))
        lines = torch.arange(28.0).double()
        centre = torch.stack([(image[0].sum(d) * lines).sum() / image.sum() for d in (0, 1)])
        assert bool(((centre - 14).abs() <= 0.51).all())
    assert max(sides) == 20
    assert sides.count(20) > 990

    test = pixels(digits.test)
    assert seen_as(digits, test) > 0.75
    assert seen_as(digits, stretched(test)) < 0.5  # drawn over the whole 28 x 28
    assert seen_as(digits, test.roll((4, 4), (2, 3))) < 0.5  # not centred
    assert seen_as(digits, test.transpose(2, 3)) < 0.5  # stored as EMNIST stores them
    assert seen_as(digits, 255 - test) < 0.5  # dark ink on light paper


def stretched(images: Tensor) -> Tensor:
    out = []
    for image in images.float():
        (top, left), (bottom, right) = (
            f(image[0].nonzero(), 0).values for f in (torch.min, torch.max)
        )
        box = image[:, top : bottom + 1, left : right + 1]
        out.append(F.interpolate(box[None], (28, 28), mode="bilinear")[0])
    return torch.stack(out)


def test_trap_T1_10_bytes_are_scaled_and_turned_channels_first_other_types_are_not():
    colour = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 14  # H, W, C
    bare = torch.from_numpy(colour)
    assert bare.shape == (2, 3, 3)
    assert bare.dtype == torch.uint8
    assert (
        torch.from_numpy(colour.astype(np.float32)).max() == colour.max()
    )  # a cast scales nothing

    for item in (Image.fromarray(colour), colour):
        read = FromDataset([(item, 0), (item, 1)] * 2, test=0.0).load().train
        assert read.shape == (3, 2, 3)
        assert torch.equal(read.images[0], bare.permute(2, 0, 1))
        x = Preprocessing((3, 2, 3), (0.0,) * 3, (1.0,) * 3).on(torch.device("cpu"))(read.images)
        torch.testing.assert_close(x[0], bare.permute(2, 0, 1) / 255)

    for wrong in (
        colour.astype(np.int16),
        colour.astype(np.float32),
        torch.from_numpy(colour).int(),
    ):
        with pytest.raises(BadData, match="uint8"):
            FromDataset([(wrong, 0), (wrong, 1)] * 2).load()
    with pytest.raises(BadData, match=r"must be in \[0, 1\]"):
        FromDataset([(bare.permute(2, 0, 1).float(), 0)]).load()  # not scaled by anyone


def test_trap_T1_11_training_is_shuffled_evaluation_is_not(built: Assembled, run: Run):
    class Numbers(Dataset):
        def __len__(self):
            return 50

        def __getitem__(self, i):
            return i

    shuffled = DataLoader(Numbers(), batch_size=50, shuffle=True, generator=generator(0, "shuffle"))
    assert next(iter(shuffled)).tolist() != list(range(50))  # row 0 is not image 0

    task = built.task
    epochs = [torch.cat([task.train.index(36 * e + i) for i in range(36)]) for e in range(2)]
    for order in epochs:
        assert torch.equal(order.sort().values, torch.arange(4500))
        assert not torch.equal(order, torch.arange(4500))
    assert not torch.equal(*epochs)

    engine, model = Engine.start(CPU), built.state.model
    data = built.splits.validation.part(torch.arange(499, -1, -7))
    table = predict(engine, model, data, task.prepare)
    assert torch.equal(table.index, torch.arange(len(data)))
    assert torch.equal(table.targets, data.targets)
    for i in (0, 5, len(data) - 1):
        alone = predict(engine, model, data.part(torch.tensor([i])), task.prepare).logits[0]
        torch.testing.assert_close(table.logits[i], alone)
    stored = [row for row in rows(run, "split.csv") if row["part"] == "validation"]
    judged = rows(run, "predictions/validation.csv")
    assert [(r["id"], r["label"]) for r in judged] == [(r["id"], r["label"]) for r in stored]


class Draws(Dataset):
    """Random numbers, drawn in four ways: what a transform in `__getitem__` may do."""

    def __init__(self, way: str):
        self.way = way
        self.own = np.random.default_rng(0)

    def __len__(self):
        return 8

    def __getitem__(self, i):
        if self.way == "numpy":
            return float(np.random.rand())
        if self.way == "own":
            return float(self.own.random())
        if self.way == "torch":
            return float(torch.rand((), dtype=torch.float64))
        return float(torch.rand((), dtype=torch.float64, generator=generator(0, "augment", i)))

    def drawn(self, workers: int) -> list[float]:
        context = get_context("fork") if workers else None
        seeds = generator(0, "loader")
        loader = DataLoader(
            self, batch_size=1, num_workers=workers, multiprocessing_context=context,
            generator=seeds,
        )  # fmt: skip
        return [float(x) for x in loader]


class TestWorkers:
    pytestmark = with_workers

    def test_trap_T1_12_workers_repeat_only_generators_of_your_own(self):
        assert len(set(Draws("numpy").drawn(workers=2))) == 8
        own = Draws("own")
        first = own.drawn(workers=2)
        assert first[0::2] == first[1::2]  # each worker has a copy at the same place
        assert own.drawn(workers=2) == first  # and the next epoch starts from it again

    def test_trap_T1_13_number_of_workers_changes_random_numbers(self, built: Assembled):
        none, one, two = (Draws("torch").drawn(workers) for workers in (0, 1, 2))
        assert none != one != two != none
        fixed = Draws("by image")
        assert fixed.drawn(0) == fixed.drawn(2)

        # Ours has no workers; a batch in three pieces is augmented as a whole one.
        whole, pieces = (Batches(built.splits.train, 128, parts, 0) for parts in (1, 3))
        seen = [
            torch.cat([built.task.augment(batch, 5).images for batch in batches.pieces(5)])
            for batches in (whole, pieces)
        ]
        assert torch.equal(*seen)


def test_trap_T1_14_validation_images_are_not_counted_as_training_images(
    digits: Loaded, built: Assembled
):
    sixty = digits.train.part(torch.arange(5000).repeat(12))  # as many as MNIST has
    assert Batches(sixty, 128, 1, 0).steps_per_epoch == 469
    splits = split(Loaded(sixty, test=digits.test), 0.1, 0.0, seed=0)
    assert (len(splits.train), len(splits.validation)) == (54000, 6000)
    assert Batches(splits.train, 128, 1, 0).steps_per_epoch == 422

    assert built.task.plan.steps_per_epoch == math.ceil(4500 / 128) == 36 != math.ceil(5000 / 128)
    assert built.task.plan.steps == 10 * 36


def test_trap_T1_15_random_split_and_a_loader_are_no_pipeline():
    data = Pictures()
    part, _ = random_split(data, [150, 50])
    with pytest.raises(TypeError, match="PIL"):
        next(iter(DataLoader(part, batch_size=4)))
    assert random_split(range(1000), [900, 100])[1].indices != (
        random_split(range(1000), [900, 100])[1].indices
    )
    again = [random_split(range(1000), [900, 100], generator=generator(0, "x")) for _ in range(2)]
    assert again[0][1].indices == again[1][1].indices

    def parts(seed: int) -> Splits:
        return split(FromDataset(data).load(), 0.2, 0.2, seed)

    one, same, other = parts(0), parts(0), parts(1)
    assert min(len(one.train), len(one.validation), len(one.test)) > 0
    assert torch.equal(one.validation.rows, same.validation.rows)
    assert not torch.equal(one.validation.rows, other.validation.rows)
    assert torch.equal(one.test.rows, other.test.rows)  # the sealed part stays, whatever the seed
    mine = split(Digits().load(), 0.1, 0.0, 0)
    assert [len(p) for p in (mine.train, mine.validation, mine.test)] == [4500, 500, 1000]


def test_trap_T1_16_sharing_and_copying_and_the_way_back_to_bytes():
    array = np.zeros(3, np.uint8)
    shared, copied = torch.from_numpy(array), torch.tensor(array)
    array[0] = 7
    assert (int(shared[0]), int(copied[0])) == (7, 0)

    grey = torch.arange(256, dtype=torch.uint8)
    unit = grey.float() / 255
    assert torch.equal((unit * 255).round().to(torch.uint8), grey)
    back = ((unit - MEAN) / STD * STD + MEAN) * 255
    assert int((back.to(torch.uint8) != grey).sum()) == 50
    assert torch.equal(back.round().to(torch.uint8), grey)

    image = grey.view(1, 16, 16)
    for floats in (image.float() / 255, image.double() / 255):
        assert torch.equal(
            FromDataset([(floats, 0), (floats, 1)] * 2).load().train.images[3], image
        )

    class OneBuffer(Dataset):
        buffer = np.zeros((4, 4), np.uint8)

        def __len__(self):
            return 4

        def __getitem__(self, i):
            self.buffer[:] = i
            return self.buffer, i % 2

    assert FromDataset(OneBuffer()).load().train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3]


class Calls(TorchDispatchMode):
    """Counts the calls of PyTorch's kernels: each has a price that no image pays for."""

    def __init__(self):
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.n += 1
        return func(*args, **(kwargs or {}))


def test_trap_T1_17_augmenting_a_batch_costs_as_many_calls_as_augmenting_one_image(
    built: Assembled,
):
    augment = AugmentSpec(flip=Flip(), crop=Crop(padding=2)).build(0, built.task.prepare)
    calls, images = {}, {}
    for n in (1, 256):
        with Calls() as counter:
            images[n] = augment(batch_of(built.splits.train, n), 0).images
        calls[n] = counter.n
    assert 0 < calls[256] == calls[1]

    batch = batch_of(built.splits.train, 256)
    alone = [
        replace(batch, images=batch.images[i : i + 1], rows=batch.rows[i : i + 1])
        for i in range(256)
    ]
    with Calls() as counter:
        one_by_one = torch.cat([augment(piece, 0).images for piece in alone])
    assert torch.equal(one_by_one, images[256])
    assert counter.n > 100 * calls[256]


def test_the_run_of_this_file_learned_something(run: Run):
    """What the tests above read from it would mean little if the network said nothing."""
    assert measure_of(run) > 0.15


def measure_of(run: Run) -> float:
    judged = rows(run, "predictions/test.csv")
    return sum(row["label"] == row["prediction"] for row in judged) / len(judged)
