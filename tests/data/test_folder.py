"""Folders of images: layouts, what is chosen, what is refused, what is left alone."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from pellucid.data.folder import Folder
from pellucid.errors import BadData, DataNotFound, UnreadableImages
from pellucid.values import DataSource


def pixels(path: Path) -> torch.Tensor:
    image = np.asarray(Image.open(path))
    return torch.from_numpy(image.copy().reshape(*image.shape[:2], -1)).permute(2, 0, 1)


def test_a_split_folder(tmp_path, plant):
    root = plant(
        tmp_path / "pets",
        {f"{part}/{name}": count for part, count in (("train", 4), ("val", 2), ("test", 1))
         for name in ("cat", "dog")},
    )  # fmt: skip
    source = Folder(str(root))
    loaded = source.load()
    train, validation, test = loaded.train, loaded.validation, loaded.test
    assert [part.name for part in (train, validation, test)] == [
        "pets/train", "pets/validation", "pets/test",
    ]  # fmt: skip
    assert [len(part) for part in (train, validation, test)] == [8, 4, 2]
    assert train.images is validation.images is test.images
    assert train.classes == ("cat", "dog")
    assert train.images.dtype == torch.uint8
    assert train.shape == (3, 12, 12)
    for part in (train, validation, test):
        for index in range(len(part)):
            file = part.file(index)
            torch.testing.assert_close(part.pixels(torch.tensor([index]))[0], pixels(root / file))
            assert part.classes[int(part.targets[index])] == file.split("/")[1]
    assert loaded.notes == (
        "Image size 12 was chosen (all images are 12 x 12); --data.size sets another.",
    )
    assert not loaded.random
    typed: DataSource = source
    assert (typed.validation, typed.test) == (0.1, 0.1)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val"])
def test_names_of_the_validation_part(tmp_path, plant, name):
    plant(tmp_path / "p", {f"{part}/{c}": 2 for part in ("Train", name) for c in "ab"})
    loaded = Folder(str(tmp_path / "p")).load()
    assert len(loaded.validation) == 4
    assert loaded.test is None


def test_an_unsplit_folder_and_one_folder_deeper(tmp_path, plant):
    plant(tmp_path / "flat", {"b": 2, "a": 3, "a/deep": 1})
    loaded = Folder(str(tmp_path / "flat")).load()
    assert loaded.validation is None
    assert loaded.test is None
    assert loaded.train.files == (
        "a/00.png", "a/01.png", "a/02.png", "a/deep/00.png", "b/00.png", "b/01.png",
    )  # fmt: skip
    assert loaded.train.targets.tolist() == [0, 0, 0, 0, 1, 1]

    plant(tmp_path / "outer" / "flowers", {"b": 2, "a": 3})
    loaded = Folder(str(tmp_path / "outer")).load()
    assert loaded.train.files[0] == "flowers/a/00.png"
    assert loaded.train.classes == ("a", "b")
    assert "The images lie one folder deeper, in flowers." in loaded.notes

    plant(tmp_path / "outer2" / "d", {f"{part}/{c}": 2 for part in ("train", "test") for c in "ab"})
    assert len(Folder(str(tmp_path / "outer2")).load().test) == 4


def test_the_order_is_that_of_bytes(tmp_path, plant):
    plant(tmp_path / "p", {"b": 2, "B": 2, "a": 2, "ä": 2, "10": 2, "9": 2, "a b": 2}.copy() | {})
    (tmp_path / "p" / "B").rename(tmp_path / "p" / "Z")
    train = Folder(str(tmp_path / "p")).load().train
    assert train.classes == ("10", "9", "Z", "a", "a b", "b", "ä")
    assert train.files == tuple(sorted(train.files, key=str.encode))


def test_size_is_chosen_or_given(tmp_path, plant, picture):
    for number, (width, height) in enumerate([(40, 90), (50, 50), (90, 52), (60, 58)]):
        for name in "ab":
            folder = tmp_path / "p" / name
            folder.mkdir(parents=True, exist_ok=True)
            picture(number, width, height).save(folder / f"{number}.png")
    loaded = Folder(str(tmp_path / "p")).load()
    assert loaded.train.shape == (3, 48, 48)  # median of 40 50 52 58 is 50 or 52: 48
    assert any("Image size 48 was chosen (the shorter sides" in note for note in loaded.notes)
    assert "6 images are not square: their centred square is used." in loaded.notes
    loaded = Folder(str(tmp_path / "p"), size=20).load()
    assert loaded.train.shape == (3, 20, 20)
    assert not any("chosen" in note for note in loaded.notes)


@pytest.mark.parametrize(("side", "chosen"), [(64, 64), (61, 61), (65, 64), (3, 3), (128, 64)])
def test_the_size_of_square_images(tmp_path, plant, side, chosen):
    plant(tmp_path / "p", {"a": 2, "b": 2}, size=side)
    assert Folder(str(tmp_path / "p")).load().train.shape == (3, chosen, chosen)


def test_grey_only_if_all_are(tmp_path, plant, picture):
    plant(tmp_path / "p", {"a": 2, "b": 2}, mode="L")
    loaded = Folder(str(tmp_path / "p")).load()
    assert loaded.train.shape == (1, 12, 12)
    torch.testing.assert_close(loaded.train.images[0], pixels(tmp_path / "p" / "a" / "00.png"))
    picture(9).save(tmp_path / "p" / "b" / "99.png")
    loaded = Folder(str(tmp_path / "p")).load()
    assert loaded.train.shape == (3, 12, 12)
    assert "4 of 5 images are grey; all become RGB." in loaded.notes


def damage(root: Path) -> None:
    good = (root / "a" / "00.png").read_bytes()
    (root / "a" / "bad0.png").write_bytes(good[: len(good) // 2])
    (root / "a" / "bad1.jpg").write_bytes(b"")
    (root / "b" / "bad2.png").write_text("hello")
    Image.new("RGB", (12, 12)).save(root / "b" / "bad3.png", "TIFF")


def test_unreadable_files_are_listed_or_skipped(tmp_path, plant):
    root = plant(tmp_path / "p", {"a": 3, "b": 3})
    damage(root)
    for _ in range(2):
        with pytest.raises(UnreadableImages, match="4 of 10 files") as error:
            Folder(str(root)).load()
    text = str(error.value)
    assert "--data.skip-unreadable" in text
    assert "a/bad0.png: damaged (" in text
    assert "a/bad1.jpg: the file is empty" in text
    assert "b/bad2.png: not an image (PNG, JPEG, WebP, BMP, GIF)" in text
    assert len(error.value.files) == 4
    for _ in range(2):  # decoded, then from the cache
        loaded = Folder(str(root), skip_unreadable=True).load()
        assert any("4 of 10 files were skipped" in note for note in loaded.notes)
        train = loaded.train
        assert len(train) == 6
        assert not any("bad" in train.file(index) for index in range(len(train)))
        for index in range(6):
            shown = train.pixels(torch.tensor([index]))[0]
            torch.testing.assert_close(shown, pixels(root / train.file(index)))
    with pytest.raises(UnreadableImages):  # the cache has them now; the rule holds all the same
        Folder(str(root)).load()


def test_more_than_ten_unreadable_files_are_counted(tmp_path, plant):
    root = plant(tmp_path / "p", {"a": 3, "b": 3})
    for number in range(14):
        (root / "a" / f"x{number:02}.png").write_bytes(b"")
    with pytest.raises(UnreadableImages, match="and 4 more") as error:
        Folder(str(root)).load()
    assert str(error.value).count("the file is empty") == 10
    assert len(error.value.files) == 14


def test_a_class_that_is_empty_once_files_are_skipped(tmp_path, plant):
    root = plant(tmp_path / "p", {"a": 3, "b": 0})
    (root / "b" / "0.png").write_bytes(b"")
    (root / "b" / "1.png").write_bytes(b"")
    with pytest.raises(BadData, match=r'The class "b" of p \(without the unreadable'):
        Folder(str(root), skip_unreadable=True).load()


def test_when_every_file_is_skipped(tmp_path):
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
        (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / name).write_text("no image")
    with pytest.raises(BadData, match="There are no images in p .without the unreadable"):
        Folder(str(tmp_path / "p"), skip_unreadable=True).load()


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ({"a": 3, "b": 0}, 'The class "b" of .* is empty'),
        ({"a": 3}, 'at least two classes. .* has one: "a" with 3 images'),
        ({"a": 3, "b": 1}, r'The class "b" of .* has one image to train on \(1 in train\)'),
        ({"a": 0, "b": 0}, "There are no images in"),
        ({}, "There are no class folders in .* Layouts that work: train/<class>"),
        ({"train/a": 2, "train/b": 2, "val/a": 1}, 'class "b" .* missing in a part: 2 in train, 0'),
        ({"train/a": 2, "train/b": 2, "test/a": 1, "test/b": 0}, 'class "b" .* 2 in train, 0 in t'),
        (
            {"train/a": 2, "train/b": 2, "test/a": 1, "test/b": 1, "test/c": 4},
            'class "c" .* missing in a part: 0 in train, 4 in test',
        ),
        ({"test/a": 2, "test/b": 2}, "has a folder test, but none named train"),
        ({"valid": 2, "invalid": 2}, "has a folder valid, but none named train"),
        ({"train/a": 2, "val/a": 2, "valid/a": 1}, "two folders for one part, val and valid"),
        ({"train/a": 2, "Train/a": 2}, "two folders for one part, Train and train"),
        ({"Cat": 2, "cat": 2, "dog": 2}, "'Cat' and 'cat'"),
        ({"cat": 2, "cat.": 2}, "'cat' and 'cat.'"),
        ({"train/a": 2, "train/B": 2, "test/a": 1, "test/b": 1}, "'B' and 'b'"),
        (
            {unicodedata.normalize("NFC", "né"): 2, unicodedata.normalize("NFD", "né"): 2},
            r"'ne\\u0301' and 'n\\xe9'",
        ),
    ],
)
def test_what_cannot_be_learnt_from(tmp_path, plant, counts, text):
    root = tmp_path / "p"
    root.mkdir()
    plant(root, counts)
    with pytest.raises(BadData, match=text) as error:
        Folder(str(root)).load()
    assert not isinstance(error.value, DataNotFound)


def test_missing_folder(tmp_path):
    with pytest.raises(DataNotFound, match="The folder .*none does not exist"):
        Folder(str(tmp_path / "none")).load()
    (tmp_path / "file").write_text("")
    with pytest.raises(DataNotFound, match="is a file, no folder"):
        Folder(str(tmp_path / "file")).load()


def test_one_class_spelled_in_two_forms_across_parts_is_one_class(tmp_path, plant):
    forms = [unicodedata.normalize(form, "né") for form in ("NFC", "NFD")]
    counts = {"train/a": 2, f"train/{forms[1]}": 2, "test/a": 1, f"test/{forms[0]}": 1}
    loaded = Folder(str(plant(tmp_path / "p", counts))).load()
    assert loaded.train.classes == ("a", forms[0])
    assert all(unicodedata.is_normalized("NFC", file) for file in loaded.train.files)


def test_junk_is_ignored_with_a_count(tmp_path, plant):
    root = plant(tmp_path / "p", {"a": 2, "b": 2})
    (root / ".DS_Store").write_text("x")
    (root / "a" / "Thumbs.db").write_text("x")
    (root / "__MACOSX" / "a").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / "README.txt").write_text("x")
    os.mkfifo(root / "b" / "pipe.png")
    loaded = Folder(str(root)).load()
    assert len(loaded.train) == 4
    assert "4 hidden or system files were ignored." in loaded.notes
    assert "1 pipes, sockets or devices were ignored." in loaded.notes
    assert "1 files outside the class folders were ignored." in loaded.notes


def test_folders_beside_the_parts_are_named(tmp_path, plant):
    root = plant(tmp_path / "p", {"train/a": 2, "train/b": 2, "extra/c": 2})
    loaded = Folder(str(root)).load()
    assert "Folders beside train were ignored: extra." in loaded.notes
    assert len(loaded.train) == 4


def test_links(tmp_path, plant):
    root = plant(tmp_path / "p", {"a": 2, "b": 2})
    (root / "a" / "loop").symlink_to(root)
    (root / "a" / "self").symlink_to(root / "a" / "self2")
    (root / "a" / "self2").symlink_to(root / "a" / "self")
    with pytest.raises(BadData, match="leads nowhere"):
        Folder(str(root)).load()
    (root / "a" / "self").unlink()
    (root / "a" / "self2").unlink()
    (root / "a" / "inside.png").symlink_to(root / "b" / "00.png")
    loaded = Folder(str(root)).load()
    assert len(loaded.train) == 5
    assert "1 links to folders were ignored." in loaded.notes
    outside = plant(tmp_path / "other", {"x": 1}) / "x"
    for target in (outside, outside / "00.png"):
        (root / "b" / "link").symlink_to(target)
        with pytest.raises(BadData, match="leads outside the folder, to .*other"):
            Folder(str(root)).load()
        (root / "b" / "link").unlink()
    (tmp_path / "alias").symlink_to(root)  # the folder that the user names may be a link
    assert len(Folder(str(tmp_path / "alias")).load().train) == 5


def test_the_users_folder_is_not_touched(tmp_path, plant):
    root = plant(tmp_path / "p", {"a": 3, "b": 3})
    damage(root)

    def state() -> list:
        return [
            (str(path), path.stat().st_mtime_ns, path.stat().st_ctime_ns,
             hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
            for path in sorted(root.rglob("*"))
        ]  # fmt: skip

    before = state()
    Folder(str(root), skip_unreadable=True).load()
    assert state() == before


def test_loading_draws_no_random_numbers(tmp_path, plant):
    root = plant(tmp_path / "p", {"a": 3, "b": 3})
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = Folder(str(root)).load()
    second = Folder(str(root)).load()
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    assert torch.equal(first.train.images, second.train.images)


def test_file_names_that_are_no_unicode(tmp_path, plant):
    root = plant(tmp_path / "p", {"a": 2, "b": 2})
    try:
        os.rename(os.fsencode(root / "a" / "00.png"), os.fsencode(root) + b"/a/\xff.png")
    except OSError:
        pytest.skip("this file system refuses names that are not UTF-8")
    assert "a/\\xff.png" in Folder(str(root)).load().train.files


def test_progress_counts_up_to_the_total(tmp_path, plant):
    seen: list[tuple[str, int, int]] = []
    Folder(str(plant(tmp_path / "p", {"a": 40, "b": 40}))).load(lambda *step: seen.append(step))
    assert ("decoding images", 80, 80) in seen
    assert all(done <= total for what, done, total in seen if what != "listing files")


def test_a_recipe_checks_the_ranges():
    good = msgspec.convert({"name": "folder", "path": "x", "size": 32}, Folder)
    assert good == Folder("x", size=32)
    for wrong in ({"validation": 1.0}, {"test": -0.1}, {"size": -1}, {"memory": -1}, {"colour": 1}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"name": "folder", "path": "x", **wrong}, Folder)


def test_more_files_than_one_task_holds_stay_in_order(tmp_path, picture):
    for name in "ab":
        (tmp_path / "p" / name).mkdir(parents=True)
        for number in range(150):
            value = number if name == "a" else 255 - number
            Image.new("L", (2, 2), value).save(tmp_path / "p" / name / f"{number:03}.png")
    train = Folder(str(tmp_path / "p")).load().train
    assert train.images[:, 0, 0, 0].tolist() == [*range(150), *range(255, 105, -1)]
