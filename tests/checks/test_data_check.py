"""The data check on folders, tables, archives and known sets: what it says of each fault."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pellucid.checks.data_check import DataReport, check_data
from pellucid.checks.data_text import DataFinding
from pellucid.data.digits import Digits
from pellucid.data.folder import Folder
from pellucid.data.preprocessing import Preprocessing
from pellucid.data.table import Csv
from pellucid.errors import BadData, DataNotFound


def digits() -> Iterator[Image.Image]:
    images = Digits().load().train.images.numpy()
    for image in images[:, 0]:
        yield Image.fromarray(image)


def plant(root: Path, counts: dict[str, int], **options: Any) -> Path:
    """Write real digits, each once, as `root/<name>/<number>.png`."""
    images = digits()
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            next(images).save(root / name / f"{number:03}.png", **options)
    return root


SOUND = {f"{part}/{label}": n for part, n in (("train", 20), ("test", 10)) for label in "ab"}


def named(report: DataReport) -> dict[str, DataFinding]:
    return {finding.name: finding for finding in report.findings}


def check(root: Path) -> dict[str, DataFinding]:
    return named(check_data(Folder(str(root))))


def test_sound_data_says_nothing(tmp_path: Path) -> None:
    report = check_data(Folder(str(plant(tmp_path / "p", SOUND))))
    assert report.findings == []
    assert report.worst() == "ok"
    assert (report.name, report.files, report.classes) == ("p", 60, ("a", "b"))
    assert report.counts.tolist() == [[20, 0, 10], [20, 0, 10]]
    assert report.kinds == {"PNG grey": 60}
    assert report.sizes["common"] == [[28, 28, 60]]
    assert {name: len(images) for name, images in report.examples.items()} == {"a": 8, "b": 8}


def test_known_digits_and_their_statistics() -> None:
    report = check_data(Digits())
    assert report.findings == []
    expected = Preprocessing.measure(Digits().load().train)
    assert report.mean == pytest.approx(expected.mean, abs=1e-6)
    assert report.std == pytest.approx(expected.std, abs=1e-6)


def test_mean_and_deviation_are_those_of_the_training_part(tmp_path: Path) -> None:
    root = plant(tmp_path / "p", SOUND)
    pixels = [np.asarray(Image.open(path)) / 255 for path in (root / "train").rglob("*.png")]
    report = check_data(Folder(str(root)))
    assert report.mean == pytest.approx([np.mean(pixels)])
    assert report.std == pytest.approx([np.std(pixels)])


def state(root: Path) -> list[tuple[Any, ...]]:
    return sorted(
        (str(path), status.st_mtime_ns, status.st_ctime_ns, status.st_mode, status.st_size,
         hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        for path in [root, *root.rglob("*")]
        if (status := path.lstat())
    )  # fmt: skip


def test_the_files_are_left_alone(tmp_path: Path) -> None:
    root = plant(tmp_path / "p", SOUND)
    (root / "train/a/broken.jpg").write_bytes(b"\xff\xd8\xff")
    (root / "train/a/000.png").chmod(0o400)
    before = state(tmp_path)
    check_data(Folder(str(root)))
    assert state(tmp_path) == before


def test_each_file_is_opened_once(tmp_path: Path) -> None:
    root = plant(tmp_path / "p", SOUND)
    opened: list[str] = []
    import sys

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and str(args[0]).startswith(str(root)) and listening:
            opened.append(str(args[0]))

    listening = True
    sys.addaudithook(hook)
    check_data(Folder(str(root)))
    listening = False
    assert sorted(opened) == sorted(str(path) for path in root.rglob("*.png"))


def test_classes(tmp_path: Path) -> None:
    root = plant(tmp_path / "p", {
        "train/cat": 200, "train/dog": 15, "train/ant": 3, "train/bee": 0, "train/Fox": 12,
        "test/cat": 10, "test/dog": 3, "test/ant": 2, "test/fox": 4,
    })  # fmt: skip
    found = check(root)
    assert found["empty-classes"].items == ({"file": "bee"},)
    assert found["small-classes"].items == ({"file": "ant", "images": 3},)
    assert found["small-classes"].severity == "warning"
    missing = {(item["file"], item["reason"]) for item in found["missing-classes"].items}
    assert missing == {("Fox", "none in test"), ("fox", "none in train")}
    differ = found["class-names-differ"]
    assert {"file": "test/fox", "reason": 'not in train; is it "Fox"?'} in differ.items
    assert {"file": "test/bee", "reason": "missing"} in differ.items
    assert 'take "ant" for class 1 in train and 0 in test' in differ.sentence
    assert "differ only in case" in found["names-alike"].sentence
    assert found["imbalance"].severity == "warning"
    assert found["imbalance"].numbers["ratio"] == pytest.approx(200 / 3)
    errors = {name for name, finding in found.items() if finding.severity == "error"}
    assert errors == {"empty-classes", "missing-classes", "class-names-differ", "names-alike"}


def test_one_class_and_one_image(tmp_path: Path) -> None:
    found = check(plant(tmp_path / "one", {"train/a": 30}))
    assert found["one-class"].severity == "error"
    found = check(plant(tmp_path / "few", {"a": 30, "b": 1}))
    assert found["small-classes"].severity == "error"
    assert found["imbalance"].numbers["smallest"] == 1


def test_a_mild_imbalance_is_a_note(tmp_path: Path) -> None:
    assert check(plant(tmp_path / "p", {"a": 40, "b": 12}))["imbalance"].severity == "note"
    assert "imbalance" not in check(plant(tmp_path / "q", {"a": 30, "b": 12}))


def test_copies_inside_a_part_and_what_a_split_does_to_them(tmp_path: Path) -> None:
    root = plant(tmp_path / "p", {"a": 30, "b": 30})
    content = (root / "a/003.png").read_bytes()
    (root / "a/zz.png").write_bytes(content)
    (root / "b/zz.png").write_bytes(content)
    found = check(root)
    assert {(i["file"], i["copy"]) for i in found["copies"].items} == {
        ("a/zz.png", "a/003.png"), ("b/zz.png", "a/003.png"),
    }  # fmt: skip
    assert "with a chance of 33%: about 0.7 of 2" in found["copies"].sentence  # 10 % and 10 %
    assert found["copies-with-two-labels"].items == (
        {"file": "b/zz.png", "copy": "a/003.png", "labels": "b and a"},
    )
    drawn = named(check_data(Folder(str(root), validation=0.3, test=0.1)))
    assert "with a chance of 52%" in drawn["copies"].sentence
    parted = plant(tmp_path / "q", SOUND)
    (parted / "train/a/zz.png").write_bytes((parted / "train/a/003.png").read_bytes())
    assert "with a chance of 18%" in check(parted)["copies"].sentence  # the test part is there


def test_odd_kinds_and_what_becomes_of_them(tmp_path: Path) -> None:
    root = plant(tmp_path / "p", SOUND)
    images = list(digits())[500:520]
    place = root / "train" / "a"
    wide = Image.fromarray(np.asarray(images[0]).astype(np.uint16) * 257)
    wide.save(place / "16-bit.png")
    images[1].convert("1").save(place / "1-bit.png")
    images[2].convert("P").save(place / "palette.png")
    shade = images[3].convert("RGBA")
    shade.putalpha(images[4])
    shade.save(place / "transparent.png")
    images[5].convert("RGBA").save(place / "opaque.png")
    images[6].convert("CMYK").save(place / "cmyk.jpg")
    turned = Image.Exif()
    turned[0x0112] = 6
    images[7].resize((40, 28)).save(place / "turned.jpg", exif=turned)
    images[8].save(place / "animated.gif", save_all=True, append_images=[images[9]])
    images[10].resize((90, 30)).save(place / "long.png")
    images[11].resize((8, 8)).save(place / "tiny.png")
    report = check_data(Folder(str(root)))
    found = named(report)
    expected = {
        "16-bit": {"16-bit"}, "1-bit": {"1-bit"}, "palette": {"palette", "animated"},
        "transparent": {"transparent"}, "cmyk": {"cmyk"}, "turned": {"turned"},
        "animated": {"animated"}, "long-images": {"long"}, "tiny-images": {"tiny"},
    }  # fmt: skip
    for name, stems in expected.items():
        assert found[name].severity == "note"
        assert {Path(item["file"]).stem for item in found[name].items} == stems
    assert "turned upright" in found["turned"].sentence
    assert "laid on white" in found["transparent"].sentence
    assert "scaled to 8, not clipped" in found["16-bit"].sentence
    assert found["grey-among-colours"].numbers["n"] == 60 + 5
    assert report.kinds["PNG 16-bit grey"] == 1
    assert report.sizes["different"] == 4
    assert report.sizes["largest"] == [90, 40]  # upright


def test_storage_that_tells_the_class(tmp_path: Path) -> None:
    root = plant(tmp_path / "p", {"a": 80, "b": 80})
    assert "storage-tells-class" not in check(root)
    for path in (root / "b").iterdir():
        Image.open(path).convert("RGB").save(path)
    finding = check(root)["storage-tells-class"]
    assert finding.severity == "warning"
    assert finding.numbers == {"told": 1.0, "largest": 0.5, "n": 80}


def test_links_out_of_the_folder_and_names_that_look_alike(tmp_path: Path) -> None:
    root = plant(tmp_path / "p", SOUND)
    (tmp_path / "outside.png").write_bytes((root / "train/a/000.png").read_bytes())
    (root / "train/a/link.png").symlink_to(tmp_path / "outside.png")
    (root / "train/a/nowhere.png").symlink_to("gone.png")
    (root / "train/b/loop").symlink_to(root)
    for name in ("e\u0301.png", "\u00e9.png"):
        next(digits()).save(root / "test/b" / name)
    report = check_data(Folder(str(root)))
    found = named(report)
    reasons = {item["file"]: item["reason"] for item in found["refused-links"].items}
    assert "leads outside the folder" in reasons["train/a/link.png"]
    assert "leads nowhere" in reasons["train/a/nowhere.png"]
    assert "names that look the same" in found["names-alike"].sentence
    assert "1 links to folders were ignored." in report.notes
    with pytest.raises(BadData, match="leads"):
        Folder(str(root)).load()


def test_a_table(tmp_path: Path) -> None:
    plant(tmp_path, {"images": 40})
    table = tmp_path / "table.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split"])
        for number in range(42):
            part = "test" if number % 4 == 0 else "train"
            rows.writerow([f"images/{number:03}.png", "ab"[number % 2], part])
    (tmp_path / "images/041.png").write_bytes((tmp_path / "images/001.png").read_bytes())
    report = check_data(Csv(str(table)))
    found = named(report)
    assert found["missing-files"].items == ({"file": "images/040.png", "line": 42},)
    assert found["copies"].items == ({"file": "images/041.png", "copy": "images/001.png"},)
    assert report.counts.sum(0).tolist() == [31, 0, 10]


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
@pytest.mark.parametrize("lead", ["", "data/"])
def test_an_archive_is_as_the_folder_in_it(kind: str, lead: str, tmp_path: Path) -> None:
    root = plant(tmp_path / "p", SOUND)
    (root / "test/b/leak.png").write_bytes((root / "train/b/005.png").read_bytes())
    (root / "train/a/broken.png").write_bytes(b"no image")
    if not lead:
        (root / "README").write_text("no image either", encoding="utf-8")
    (root / "train/.DS_Store").write_bytes(b"junk")
    path = tmp_path / f"p.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(root.rglob("*"), reverse=True):
                archive.write(file, lead + str(file.relative_to(root)))
    else:
        with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as tar:
            tar.add(root, lead.rstrip("/") or ".")
    inside, outside = check_data(path), check_data(Folder(str(root)))
    assert inside.counts.tolist() == outside.counts.tolist()
    assert (inside.files, outside.files) == (62, 62)
    assert inside.mean == pytest.approx(outside.mean)
    a, b = named(inside), named(outside)
    assert set(a) == set(b) == {"unreadable-files", "copies-in-two-parts"}
    pair = {"file": f"{lead}test/b/leak.png", "copy": f"{lead}train/b/005.png"}
    assert a["copies-in-two-parts"].items == (pair,)
    assert a["unreadable-files"].numbers == {"n": 1, "of": 62}


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match="does not exist"):
        check_data(Folder(str(tmp_path / "gone")))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(BadData, match="no images"):
        check_data(Folder(str(tmp_path)))
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a/../../x.png", b"")
    with pytest.raises(BadData, match="leads out"):
        check_data(archive)


def test_only_broken_files(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"")
    report = check_data(Folder(str(tmp_path)))
    assert set(named(report)) >= {"unreadable-files", "empty-classes"}
    assert report.sizes == {}
    assert report.mean == ()


def test_names_of_files_cannot_move_the_cursor(tmp_path: Path) -> None:
    root = plant(tmp_path / "p", SOUND)
    (root / "train/a" / "x\x1b[31m\n.png").write_bytes(b"")
    (root / "train/a" / os.fsdecode(b"\xff\xfe.png")).write_bytes(b"")
    lines = check(root)["unreadable-files"].lines
    assert all(line.isprintable() for line in lines)
    assert any("x\\x1b[31m\\n.png" in line for line in lines)


def test_many_classes_keep_memory_and_examples_bounded(tmp_path: Path) -> None:
    report = check_data(Folder(str(plant(tmp_path / "p", {f"{i:03}": 12 for i in range(60)}))))
    assert len(report.examples) == 48
    image = next(iter(report.examples.values()))[0]
    assert image.shape == (28, 28, 3)
    assert io.BytesIO(image.tobytes()).getbuffer().nbytes == 28 * 28 * 3
