"""Labels of one part that mean other classes: found by the pixels, and only where they do."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pellucid.checks.data_check import check_data
from pellucid.checks.data_order import Answers, looks_of, order_findings, renaming
from pellucid.checks.data_text import DataFinding
from pellucid.cli.main import run as command
from pellucid.data.digits import Digits
from pellucid.data.folder import Folder
from pellucid.data.known import Cifar10, FashionMnist, Mnist
from pellucid.values import ImageSet, Loaded

NAME = "labels-in-another-order"


def few(data: ImageSet, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Some images, evenly spread, as floats (N, C, H, W), and their labels."""
    rows = np.arange(min(len(data), most)) * len(data) // min(len(data), most)
    return data.images[data.rows[rows]].numpy(), data.targets[rows].numpy()


def findings(
    loaded: Loaded, renamed: np.ndarray | None = None, test: int = 2000
) -> list[DataFinding]:
    """What is said where the test labels are renamed."""
    assert loaded.test is not None
    (images, labels), (more, others) = few(loaded.train, 6000), few(loaded.test, test)
    pixels = np.concatenate([images, more])
    labels = np.concatenate([labels, others if renamed is None else renamed[others]])
    parts = np.repeat([0, 2], [len(images), len(more)])
    grey = pixels.mean(1)
    side = grey.shape[1] // 2  # 14 or 16: the check itself has 16
    thumbs = grey.reshape(-1, side, 2, side, 2).mean((2, 4)).astype(np.uint8)
    flat = pixels.reshape(*pixels.shape[:2], -1) / 255
    looks = looks_of(thumbs, flat.mean(2), (flat**2).mean(2))
    return list(order_findings(lambda rows: looks[rows], labels, parts, loaded.train.classes))


def test_nothing_is_said_of_the_digits() -> None:
    assert findings(Digits().load()) == []


@pytest.mark.parametrize("test", [200, 1000])
def test_every_swap_of_two_digits_is_found_and_named(test: int) -> None:
    loaded = Digits().load()
    for i, j in ((3, 5), (4, 9), (0, 1), (7, 9)):
        renamed = np.arange(10)
        renamed[[i, j]] = [j, i]
        (found,) = findings(loaded, renamed, test)
        assert (found.name, found.severity) == (NAME, "warning")
        assert [(item["file"], item["reason"]) for item in found.items] == [
            (str(i), f"looks like {j} of train"), (str(j), f"looks like {i} of train"),
        ]  # fmt: skip
        assert f"2 classes of test have images that look like those of another: {i}" not in (
            found.sentence
        )
        assert f"{i} looks like {j} of train" in found.sentence


def test_numbers_that_begin_at_1_and_an_order_by_text() -> None:
    """Each label shifted by one; and the order in which 10 stands before 2."""
    shifted = (np.arange(10) + 1) % 10
    (found,) = findings(Digits().load(), shifted)
    named = {item["file"]: item["reason"].split()[2] for item in found.items}
    assert named == {str((i + 1) % 10): str(i) for i in range(10)}


def test_a_few_wrong_labels_and_a_few_images_say_nothing() -> None:
    loaded = Digits().load()
    assert findings(loaded, np.roll(np.arange(10), 1), test=50) == []  # 5 images of a class
    assert loaded.test is not None
    labels = loaded.test.labels.clone()
    labels[::10] = (labels[::10] + 1) % 10  # each tenth label is wrong, in the order of classes
    noisy = Loaded(loaded.train, test=ImageSet.of(loaded.test.images, labels, *loaded_names()))
    assert findings(noisy) == []


def loaded_names() -> tuple[tuple[str, ...], str]:
    return tuple("0123456789"), "digits/test"


def test_one_class_alone_is_no_order() -> None:
    """Its images may simply be of another kind."""
    own = Answers(np.eye(4) * 0.9 + 0.025, np.full(4, 100))
    shown = own.share.copy()
    shown[0] = own.share[1]
    assert renaming(Answers(shown, np.full(4, 100)), own) == {0: 1}
    images = np.eye(4)[np.repeat(np.arange(4), 50)]
    looks = np.concatenate([images, images]) + np.random.default_rng(0).normal(0, 0.01, (400, 4))
    labels = np.tile(np.repeat(np.arange(4), 50), 2)
    parts = np.repeat([0, 2], 200)
    looks[200:250] = looks[50:100] + 0.001  # class 0 of test looks like class 1, no other moves
    assert not list(order_findings(lambda rows: looks[rows], labels, parts, "abcd"))
    looks[250:300] = looks[0:50] + 0.001
    assert len(list(order_findings(lambda rows: looks[rows], labels, parts, "abcd"))) == 1


def test_each_class_is_shown_by_one_other() -> None:
    """All images of a part that look like one class are no other order, but another kind."""
    own = Answers(np.eye(4) * 0.9 + 0.025, np.full(4, 100))
    shown = np.repeat(own.share[:1], 4, 0)
    assert len(renaming(Answers(shown, np.full(4, 100)), own)) <= 1


def test_what_chance_explains_is_not_told() -> None:
    """Classes that look alike, and classes with few images."""
    alike = np.array([[0.52, 0.48], [0.48, 0.52]])
    many = np.full(2, 500)
    assert renaming(Answers(alike[::-1], many), Answers(alike, many)) == {}
    own, shown = np.array([[0.7, 0.3], [0.3, 0.7]]), np.array([[0.4, 0.6], [0.6, 0.4]])
    few = np.full(2, 12)
    assert renaming(Answers(shown, few), Answers(own, few)) == {}
    assert renaming(Answers(shown, many), Answers(own, many)) == {0: 1, 1: 0}


def test_there_has_to_be_something_to_compare() -> None:
    looks, labels = np.zeros((12, 3)), np.arange(12) % 2
    for parts in (np.zeros(12, int), np.full(12, 2), np.array([0] * 6 + [2] * 6)):
        assert not list(order_findings(lambda rows: looks[rows], labels, parts, "ab"))
    assert not list(order_findings(lambda rows: looks[rows], labels * 0, np.arange(12) % 3, "a"))


@pytest.mark.parametrize("swapped", [False, True])
def test_the_command_on_a_folder(
    swapped: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = Digits().load()
    assert loaded.test is not None
    names = {"train": "359", "test": "539" if swapped else "359"}
    for part, data in (("train", loaded.train), ("test", loaded.test)):
        images, labels = few(data, 1500 if part == "train" else 600)
        for name, digit in zip("abc", names[part], strict=True):
            (tmp_path / f"d/{part}/{name}").mkdir(parents=True)
            for number, image in enumerate(images[labels == int(digit), 0]):
                Image.fromarray(image).save(tmp_path / f"d/{part}/{name}/{number}.png")
    code = command(["data", "check", str(tmp_path / "d"), "--json"])
    found = {f["name"]: f for f in json.loads(capsys.readouterr().out)["findings"]}
    assert code == 0
    assert (NAME in found) == swapped
    if swapped:
        assert [item["file"] for item in found[NAME]["items"]] == ["a", "b"]
        report = check_data(Folder(str(tmp_path / "d")))
        assert "2 classes of test have images that look like those of another class of train" in (
            next(f for f in report.findings if f.name == NAME).sentence
        )


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Mnist, FashionMnist, Cifar10])
def test_nothing_is_said_of_the_real_sets(kind: type) -> None:
    if not os.environ.get("PELLUCID_DATA"):
        pytest.skip("PELLUCID_DATA is not set, so there are no real data sets to read")
    loaded = kind().load()
    for test in (200, 1000, 4000):
        assert findings(loaded, test=test) == []
    renamed = np.roll(np.arange(10), 1)
    if kind is not Cifar10:
        assert len(findings(loaded, renamed)) == 1
