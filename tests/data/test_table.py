"""Tables of images."""

from __future__ import annotations

import os

import pytest
import torch

from pellucid.data.folder import Folder
from pellucid.data.table import Csv
from pellucid.errors import BadData, DataNotFound, UnreadableImages


@pytest.fixture
def table(tmp_path, plant):
    """Write a table beside six images; returns its path."""
    plant(tmp_path / "t", {"cat": 3, "dog": 3})

    def write(text: str, encoding: str = "utf-8") -> str:
        path = tmp_path / "t" / "pets.csv"
        path.write_text(text, encoding=encoding, newline="")
        return str(path)

    return write


ROWS = [(f"{name}/{number:02}.png", name) for name in ("cat", "dog") for number in range(3)]
PLAIN = "path,label\n" + "".join(f"{path},{label}\n" for path, label in ROWS)
SPLIT = "path,label,split\n" + "".join(
    f"{path},{label},{split}\n"
    for (path, label), split in zip(ROWS, ["train", "train", "val"] * 2, strict=True)
)


def test_a_plain_table_is_as_the_folder(table, tmp_path):
    loaded = Csv(table(PLAIN)).load()
    as_folder = Folder(str(tmp_path / "t")).load().train
    assert loaded.train.name == "pets/train"
    assert loaded.train.files == as_folder.files
    assert torch.equal(loaded.train.images, as_folder.images)
    assert torch.equal(loaded.train.targets, as_folder.targets)
    assert (loaded.validation, loaded.test) == (None, None)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "VAL"])
def test_a_split_column(table, name):
    loaded = Csv(table(SPLIT.replace(",val\n", f",{name}\n"))).load()
    assert (len(loaded.train), len(loaded.validation)) == (4, 2)
    assert loaded.validation.file(0) == "cat/02.png"
    assert loaded.train.images is loaded.validation.images


def test_mark_quotes_blank_lines_and_other_columns(table, tmp_path):
    os.rename(tmp_path / "t" / "cat" / "00.png", tmp_path / "t" / "cat" / "a, b.png")
    text = PLAIN.replace("cat/00.png,cat", '"cat/a, b.png",cat').replace("\n", "\r\n")
    text = text.replace("path,label", '"path", label') + "\r\n"
    loaded = Csv(table(text, encoding="utf-8-sig")).load()
    assert "cat/a, b.png" in loaded.train.files
    wide = "id,label,path\n" + "".join(f"7,{label},{path}\n" for path, label in ROWS[1:])
    assert len(Csv(table(wide)).load().train) == 5


def test_paths_from_another_root_or_absolute(table, tmp_path):
    short = PLAIN.replace("cat/0", "0").replace("dog/0", "../dog/0")
    root = str(tmp_path / "t" / "cat")
    assert len(Csv(table(short), images_root=root).load().train) == 6
    absolute = PLAIN.replace("\ncat/", f"\n{tmp_path}/t/cat/")
    assert len(Csv(table(absolute)).load().train) == 6


def test_numeric_classes_are_sorted_as_numbers(table):
    text = PLAIN.replace("0.png,cat", "0.png,cat").replace(",cat", ",10").replace(",dog", ",9")
    assert Csv(table(text)).load().train.classes == ("9", "10")
    assert Csv(table(text.replace(",9", ",x"))).load().train.classes == ("10", "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'line 1: there must be one column "path". Got nothing'),
        ("file,label\nx,y\n", 'line 1: there must be one column "path". Got file, label'),
        ("path,labels\nx,y\n", 'one column "label". Got path, labels; did you mean "labels"?'),
        ("path,label,label\n", 'one column "label"'),
        (PLAIN + "cat/00.png\n", "line 8: 1 cells under 2 columns"),
        (PLAIN + "cat/00.png,a,b\n", "line 8: 3 cells under 2 columns"),
        (PLAIN.replace("01.png,cat", "01.png, "), "line 3: the label is empty"),
        (PLAIN.replace("cat/01.png", ""), "line 3: the path is empty"),
        (
            SPLIT.replace(",val", ",vall", 1),
            'line 4: split must be one of train, val, .* Got "vall"',
        ),
        (SPLIT.replace(",val", ",", 1), 'line 4: split must be .* Got ""'),
        (
            PLAIN + "cat/00.png,dog\n",
            r"cat/00.png is cat \(train\) in line 2, but dog \(train\) in line 8",
        ),
        (SPLIT + "./cat/00.png,cat,val\n", r"is cat \(train\) in line 2, but cat \(validation\)"),
        (PLAIN.replace("00.png,dog", "00.png,Cat"), "'Cat' and 'cat'"),
        ('path,label\n"cat/00.png,cat\n', "line .*unexpected end of data"),
        ("path,label\n", "There are no images in"),
        (SPLIT.replace("dog/02.png,dog,val\n", ""), 'class "dog" .* missing in a part: 2 in train'),
    ],
)
def test_what_is_wrong_is_said_with_its_line(table, text, message):
    with pytest.raises(BadData, match=message):
        Csv(table(text)).load()


def test_missing_images_are_listed(table):
    text = PLAIN + "".join(f"cat/x{number}.png,cat\n" for number in range(12))
    with pytest.raises(DataNotFound, match="12 of 18 images that .* names are not in") as error:
        Csv(table(text)).load()
    assert "line 8: cat/x0.png" in str(error.value)
    assert "and 2 more" in str(error.value)
    assert "--data.images-root" in str(error.value)


def test_missing_table_and_wrong_encoding(table, tmp_path):
    with pytest.raises(DataNotFound, match="The table .* does not exist"):
        Csv(str(tmp_path / "none.csv")).load()
    with pytest.raises(BadData, match="is not UTF-8"):
        Csv(table(PLAIN.replace("cat/", "ä/"), encoding="latin-1")).load()
    with pytest.raises(BadData, match="cannot be read"):
        Csv(str(tmp_path)).load()


def test_repeated_lines_count_once(table):
    loaded = Csv(table(PLAIN + "cat/00.png,cat\n")).load()
    assert len(loaded.train) == 6
    assert "1 lines repeat another and were ignored." in loaded.notes


def test_unreadable_images(table, tmp_path):
    (tmp_path / "t" / "cat" / "00.png").write_bytes(b"")
    with pytest.raises(UnreadableImages, match="cat/00.png: the file is empty"):
        Csv(table(PLAIN)).load()
    assert len(Csv(table(PLAIN), skip_unreadable=True).load().train) == 5


def test_other_labels_are_noticed_behind_the_cache(table):
    assert Csv(table(PLAIN)).load().train.classes == ("cat", "dog")
    loaded = Csv(table(PLAIN.replace(",dog", ",cow"))).load()
    assert loaded.train.classes == ("cat", "cow")
