"""Corrected labels: the image that is meant gets them, nothing else changes, nothing is guessed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from pellucid.data.digits import Digits
from pellucid.data.folder import Folder
from pellucid.data.folds import FoldSpec
from pellucid.data.known import Cifar10, Cifar100, FashionMnist, Mnist
from pellucid.data.relabel import fingerprint
from pellucid.data.split import split
from pellucid.data.table import Csv
from pellucid.errors import BadData, DataNotFound
from pellucid.values import ImageSet, Splits

COUNTS = {"ant": 10, "bee": 10, "cat": 10}


def parts(data, fold: FoldSpec | None = None) -> Splits:
    return split(data.load(), data.validation, data.test, 0, fold)


def named(data: ImageSet) -> dict[str, str]:
    """The class of each image."""
    labels = data.targets.tolist()
    return {data.describe(i): data.classes[labels[i]] for i in range(len(data))}


@pytest.fixture
def folder(tmp_path, plant) -> Path:
    return plant(tmp_path / "pets", COUNTS)


@pytest.fixture
def table(tmp_path):
    def write(*lines: str, head: str = "file,label,relabel", encoding: str = "utf-8") -> str:
        path = tmp_path / "fix.csv"
        path.write_text("\n".join([head, *lines]) + "\n", encoding=encoding)
        return str(path)

    return write


def tree_of(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(f): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_the_images_that_are_meant_and_no_others(folder, table):
    before, disk = parts(Folder(str(folder))), tree_of(folder)
    train, held = list(named(before.train)), list(named(before.validation))
    bad, gone, sure, open_ = train[0], train[1], train[2], train[-1]
    lines = [f"{bad},ant,bee", f"{gone},ant,?", f"{sure},ant,ant", f"{open_},cat,"]
    lines.append(f"{held[0]},{named(before.validation)[held[0]]},cat")
    after = parts(Folder(str(folder), relabel=table(*lines)))
    expected = {**named(before.train), bad: "bee"}
    del expected[gone]
    assert named(after.train) == expected
    assert named(after.validation) == {**named(before.validation), held[0]: "cat"}
    assert named(after.test) == named(before.test)
    assert after.relabelled is not None
    assert (after.relabelled.changed, after.relabelled.left_out) == ((1, 1), (1, 0))
    assert after.relabelled.sha256 == hashlib.sha256(Path(table(*lines)).read_bytes()).hexdigest()
    assert "1 of training, 1 of validation images; left out: 1 and 0" in after.notes[-1]
    assert "fix.csv" in after.notes[-1]
    assert after.digest != before.digest
    assert tree_of(folder) == disk
    pixels = {
        before.train.file(i): before.train.pixels(torch.tensor([i])) for i in range(len(train))
    }
    for i in range(len(after.train)):  # a label moves, never an image
        assert torch.equal(after.train.pixels(torch.tensor([i])), pixels[after.train.file(i)])


def test_each_image_stays_in_its_part(folder, table):
    """Also where parts are drawn class by class, which other labels would draw anew."""
    before = parts(Folder(str(folder), test=0.3, validation=0.3))
    lines = [f"{name},{label},cat" for name, label in named(before.train).items() if label == "bee"]
    path = table(*lines[:4])
    after = parts(Folder(str(folder), test=0.3, validation=0.3, relabel=path))
    for part in ("train", "validation", "test"):
        assert list(named(getattr(after, part))) == list(named(getattr(before, part)))
    for fold in range(3):
        rule = FoldSpec(3, fold)
        a = parts(Folder(str(folder), test=0.3), rule).validation
        b = parts(Folder(str(folder), test=0.3, relabel=path), rule).validation
        assert list(named(a)) == list(named(b))
        changed = {line.split(",")[0] for line in lines[:4]} & set(named(a))
        assert named(b) == {**named(a), **dict.fromkeys(changed, "cat")}


def test_without_a_table_nothing_is_said(folder):
    assert parts(Folder(str(folder))).relabelled is None
    assert not any("label" in note for note in parts(Folder(str(folder))).notes)


def test_a_table_of_images(folder, table, tmp_path):
    csv = folder / "pets.csv"
    rows = [f"{name}/{n:02}.png,{name}" for name, count in COUNTS.items() for n in range(count)]
    csv.write_text("path,label\n" + "\n".join(rows) + "\n")
    before = parts(Csv(str(csv)))
    name = before.train.file(0)
    after = parts(Csv(str(csv), relabel=table(f"{name},ant,cat")))
    assert named(after.train) == {**named(before.train), name: "cat"}


def test_images_without_files_go_by_position(table):
    """Ids are positions in the set as loaded: those of the test part are others of the same."""
    before = parts(Digits())
    row = int(before.train.rows[7])
    old, print_ = int(before.train.targets[7]), fingerprint(before.train.images[row])
    new = (old + 1) % 10
    path = table(f"{row},,{old},{new},{print_}", head="id,file,label,relabel,sha256")
    after = parts(Digits(relabel=path))
    assert int(after.train.targets[7]) == new
    assert (after.train.targets != before.train.targets).sum() == 1
    assert torch.equal(after.test.targets, before.test.targets)
    assert torch.equal(after.validation.targets, before.validation.targets)


def test_other_images_under_the_same_name_are_noticed(table):
    before = parts(Digits())
    row, other = before.train.rows[:2].tolist()
    old = int(before.train.targets[0])
    print_ = fingerprint(before.train.images[other])
    head = "id,label,relabel,sha256"
    with pytest.raises(BadData, match=rf"line 2: the pixels of image {row} are not those"):
        parts(Digits(relabel=table(f"{row},{old},{(old + 1) % 10},{print_}", head=head)))
    parts(Digits(relabel=table(f"{row},{old},{(old + 1) % 10},", head=head)))


@pytest.mark.parametrize("kind", [Mnist, FashionMnist, Cifar10, Cifar100])
def test_every_known_set_takes_a_table(kind, tmp_path, monkeypatch, table):
    """That it is passed on; what it does there is the same for all."""
    loaded = Digits().load()
    monkeypatch.setattr("pellucid.data.known.locate", lambda *given: loaded)
    assert kind(relabel="x.csv").load().relabel == "x.csv"
    assert kind().load().relabel is None
    with pytest.raises(DataNotFound, match=r"x\.csv does not exist \(--data.relabel\)"):
        parts(kind(relabel="x.csv"))


def test_spreadsheets(folder, table):
    """A mark in front, a guarded formula, blanks, empty lines, other columns."""
    (folder / "ant/00.png").rename(folder / "ant/=1.png")
    before = parts(Folder(str(folder), test=0))
    assert "ant/=1.png" in named(before.train) | named(before.validation)
    path = table(
        "ant ,x, bee ,ant/=1.png", ",,,", "ant,y,,ant/01.png",
        head="label,why, relabel,file", encoding="utf-8-sig",
    )  # fmt: skip
    after = parts(Folder(str(folder), test=0, relabel=path))
    assert (named(after.train) | named(after.validation))["ant/=1.png"] == "bee"


def test_a_mark_against_formulas_is_no_part_of_a_name(plant, table, tmp_path):
    """As our tables write names that a spreadsheet would calculate; other apostrophes stay."""
    folder = plant(tmp_path / "odd", {"=one": 10, "'two": 10})
    path = table("'=one/00.png,'=one,'two", "'two/01.png,'two,'=one")
    after = parts(Folder(str(folder), test=0, relabel=path))
    found = named(after.train) | named(after.validation)
    assert found["=one/00.png"] == "'two"
    assert found["'two/01.png"] == "=one"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["ant/99.png,ant,bee"], r"line 2: ant/99.png is not among .*did you mean \"ant/0"),
        (["ant/00.png,bee,ant"], r'line 2: ant/00.png has the label ant in the data, and "bee" by'),
        (["ant/00.png,bee,"], r"has the label ant in the data"),
        (
            ["ant/00.png,ant,bees"],
            r'there is no class "bees"; did you mean "bee"\? Known: bee, ant, cat; \? leaves',
        ),
        (["ant/00.png,ant,bee", "ant/00.png,ant,cat"], "stands in line 2 and in line 3. Keep one"),
        (["ant/00.png,ant,bee", "ant/00.png,ant,bee"], "stands in line 2 and in line 3"),
        ([",ant,bee"], "line 2: the file is empty"),
        (["ant/00.png,ant"], "line 2: 2 cells under 3 columns"),
        (['ant/00.png,ant,"bee'], "line .*unexpected end of data"),
    ],
)
def test_what_is_wrong_is_named(folder, table, lines, message):
    with pytest.raises(BadData, match=message):
        parts(Folder(str(folder), test=0, relabel=table(*lines)))


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("label,relabel", "file or id, each once.*Got label, relabel"),
        ("file,label", "Got file, label"),
        ("file,label,relabel,relabel", "each once"),
        ("file;label;relabel", "separated by semicolons"),
        ("", "Got nothing"),
    ],
)
def test_columns(folder, table, head, message):
    with pytest.raises(BadData, match=message):
        parts(Folder(str(folder), relabel=table(head=head)))


def test_ids(table):
    for given, message in (("5000", "image 5000 is not among"), ("x", "must be a position")):
        with pytest.raises(BadData, match=message):
            parts(Digits(relabel=table(f"{given},1,2", head="id,label,relabel")))


def test_no_file(folder, tmp_path):
    with pytest.raises(DataNotFound, match="gone.csv does not exist.*suspects.csv"):
        parts(Folder(str(folder), relabel=str(tmp_path / "gone.csv")))
    with pytest.raises(BadData, match="cannot be read"):
        parts(Folder(str(folder), relabel=str(tmp_path)))
    (tmp_path / "latin.csv").write_bytes(b"file,label,relabel\n\xe4,a,b\n")
    with pytest.raises(BadData, match="not UTF-8"):
        parts(Folder(str(folder), relabel=str(tmp_path / "latin.csv")))


def test_the_test_part_stays_as_it_is(folder, table):
    sealed = parts(Folder(str(folder))).test
    name, label = next(iter(named(sealed).items()))
    with pytest.raises(BadData, match=f"line 2: {name} is in the test part, whose labels stay"):
        parts(Folder(str(folder), relabel=table(f"{name},{label},bee")))


def test_a_class_that_loses_all_its_images(folder, table):
    lines = [f"{n},bee,?" for n, label in named(parts(Folder(str(folder))).train).items()
             if label == "bee"]  # fmt: skip
    with pytest.raises(BadData, match="without images there: bee"):
        parts(Folder(str(folder), relabel=table(*lines)))
