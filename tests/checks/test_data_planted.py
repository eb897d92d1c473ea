"""Planted faults in real images: all are found, and nothing else is."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageEnhance

from pellucid.checks.data_check import DataReport, check_data
from pellucid.data.archive import read_archive
from pellucid.data.digits import Digits
from pellucid.data.folder import Folder

Change = Callable[[Image.Image], tuple[str, bytes]]


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def again(quality: int) -> Change:
    return lambda image: ("jpg", encoded(image, "JPEG", quality=quality))


def resized(share: float) -> Change:
    def change(image: Image.Image) -> tuple[str, bytes]:
        size = (round(image.width * share), round(image.height * share))
        return "png", encoded(image.resize(size, Image.Resampling.BICUBIC), "PNG")

    return change


def brighter(share: float) -> Change:
    return lambda image: ("png", encoded(ImageEnhance.Brightness(image).enhance(share), "PNG"))


def mirrored(image: Image.Image) -> tuple[str, bytes]:
    turned = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return "jpg", encoded(turned, "JPEG", quality=90)


PHOTOS: dict[str, tuple[Change, float]] = {
    "re-encoded": (again(80), 0.99), "re-encoded badly": (again(40), 0.99),
    "smaller": (resized(0.6), 0.95), "larger": (resized(1.7), 0.95),
    "brighter": (brighter(1.15), 0.95), "darker": (brighter(0.85), 0.95),
    "mirrored": (mirrored, 0.95),
}  # fmt: skip
"""What is done to a copy, and the share of such copies that must be found."""
DIGITS: dict[str, tuple[Change, float]] = {
    "re-encoded": (again(85), 0.99), "brighter": (brighter(1.1), 0.95),
    "darker": (brighter(0.9), 0.95), "mirrored": (mirrored, 0.95),
}  # fmt: skip


def photos(sets: Path, count: int) -> Iterator[tuple[str, Image.Image]]:
    """Flowers; the set has some photos twice, of which one is taken."""
    files = read_archive(sets / "flowers-128.tar.gz")
    once = {content: name for name, content in files if name.endswith(".jpg")}
    for content, name in list(once.items())[:: len(once) // count]:
        yield name.split("/")[1], Image.open(io.BytesIO(content)).convert("RGB")


def digits() -> Iterator[tuple[str, Image.Image]]:
    train = Digits().load().train
    for at, label in enumerate(train.targets.tolist()):
        yield str(label), Image.fromarray(train.images[at, 0].numpy())


class Planted:
    """A folder with train/ and test/, and what was put into it on purpose."""

    def __init__(self, root: Path, images: Iterator[tuple[str, Image.Image]], count: int) -> None:
        self.root = root
        self.chance = random.Random(1)
        every = list(images)
        self.chance.shuffle(every)
        self.train, rest = every[: 12 * count], every[12 * count : 18 * count]
        self.classes = sorted({label for label, _ in every})
        for at, (label, image) in enumerate(self.train):
            self.write("train", label, f"{at}.png", encoded(image, "PNG"))
        for at, (label, image) in enumerate(rest):
            self.write("test", label, f"{at}.png", encoded(image, "PNG"))

    def write(self, part: str, label: str, name: str, content: bytes) -> str:
        path = self.root / part / label / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return f"{part}/{label}/{name}"

    def copies(self, what: str, change: Change, count: int) -> dict[str, str]:
        """Put changed copies of training images into the test part; return copy to original."""
        pairs = {}
        for at in self.chance.sample(range(len(self.train)), count):
            label, image = self.train[at]
            suffix, content = change(image)
            name = self.write("test", label, f"{what} {at}.{suffix}", content)
            pairs[name] = f"train/{label}/{at}.png"
        return pairs

    def report(self) -> DataReport:
        return check_data(Folder(str(self.root)))


def pairs_of(report: DataReport, *names: str) -> dict[str, str]:
    return {
        item["file"]: item["copy"]
        for finding in report.findings
        for item in finding.items
        if finding.name in names
    }


@pytest.mark.parametrize(
    ("kind", "count"),
    [("digits", 20), ("photos", 20), pytest.param("photos", 100, marks=pytest.mark.slow),
     pytest.param("digits", 100, marks=pytest.mark.slow)],
)  # fmt: skip
def test_leaks(kind: str, count: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    images = digits() if kind == "digits" else photos(request.getfixturevalue("sets"), 18 * count)
    planted = Planted(tmp_path, images, count)
    before = planted.report()
    there = pairs_of(before, "copies-in-two-parts", "near-copies-in-two-parts")
    exact = planted.copies("equal", lambda image: ("png", encoded(image, "PNG")), count)
    stored = planted.copies("stored", lambda image: ("bmp", encoded(image, "BMP")), count)
    changes = PHOTOS if kind == "photos" else DIGITS
    near = {what: planted.copies(what, change, count) for what, (change, _) in changes.items()}
    report = planted.report()

    found = pairs_of(report, "copies-in-two-parts")
    assert found == {**exact, **stored}  # equal pixels: all, and nothing else
    finding = next(f for f in report.findings if f.name == "copies-in-two-parts")
    otherwise = {item["file"] for item in finding.items if item.get("stored") == "differently"}
    assert otherwise == set(stored)
    assert finding.severity == "error"
    assert finding.numbers == {"test_in_train": 2 * count}

    alike = pairs_of(report, "near-copies-in-two-parts")
    for what, pairs in near.items():
        right = sum(alike.get(copy) == original for copy, original in pairs.items())
        print(f"{kind}, {what}: {right} of {len(pairs)} found")
        assert right >= changes[what][1] * len(pairs)
    planted_pairs = {copy: original for pairs in near.values() for copy, original in pairs.items()}
    wrong = {
        copy: other
        for copy, other in alike.items()
        if planted_pairs.get(copy) != other and there.get(copy) != other
    }
    print(f"{kind}: {len(wrong)} of {len(alike)} pairs are none")
    assert len(wrong) <= 0.01 * len(alike)


def test_conflicts_and_broken_files(sets: Path, tmp_path: Path) -> None:
    planted = Planted(tmp_path, photos(sets, 90), 5)
    assert planted.report().worst() in ("ok", "note", "warning")
    conflicts = {}
    for at in range(6):
        label, image = planted.train[at]
        other = planted.classes[(planted.classes.index(label) + 1) % len(planted.classes)]
        content = encoded(image, "PNG") if at < 3 else again(60)(image)[1]
        copy = planted.write("train", other, f"conflict {at}.png", content)
        conflicts[frozenset((copy, f"train/{label}/{at}.png"))] = {label, other}
    label, image = planted.train[7]
    jpeg = encoded(image, "JPEG")
    broken = {
        planted.write("train", label, f"broken {at}.jpg", content): reason
        for at, (content, reason) in enumerate({
            b"": "empty", jpeg[: len(jpeg) // 2]: "truncated",
            jpeg[: len(jpeg) // 2] + b"\xff\xd9": "too early",
            b"<!DOCTYPE html>": "a web page", encoded(image, "PNG")[:-40]: "truncated",
            encoded(image, "TIFF"): "TIFF", b"\xff\xd8\xff": "damaged",
        }.items())
    }  # fmt: skip
    even = planted.write(
        "test", label, "even.png", encoded(Image.new("RGB", (50, 50), "red"), "PNG")
    )
    report = planted.report()
    found = {finding.name: finding for finding in report.findings}
    items = found["unreadable-files"].items
    assert [item["file"] for item in items] == sorted(broken)
    assert all(broken[item["file"]] in item["reason"] for item in items)
    assert found["unreadable-files"].severity == "error"
    assert [item["file"] for item in found["one-colour"].items] == [even]
    told = {
        frozenset((item["file"], item["copy"])): set(item["labels"].split(" and "))
        for item in found["copies-with-two-labels"].items
    }
    assert told == conflicts
    assert found["copies-with-two-labels"].numbers == {"equal": 3, "near": 3}
