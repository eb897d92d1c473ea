"""`pellucid data check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pellucid.cli.main import run
from pellucid.data.digits import Digits

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Real digits, as files: 2 classes, 2 parts."""
    images = iter(Digits().load().train.images.numpy()[:, 0])
    for part, count in (("train", 12), ("test", 10)):
        for label in ("one", "two"):
            place = tmp_path / "set" / part / label
            place.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(next(images)).save(place / f"{number}.png")
    return tmp_path / "set"


def asked(capsys: Capture, *words: str, code: int = 0) -> dict[str, Any]:
    assert run(["data", "check", *words, "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_sound_data(folder: Path, capsys: Capture) -> None:
    assert run(["data", "check", str(folder), "--strict"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "set: 44 images, 2 classes; readable: 24 train, 20 test"
    assert lines[-1] == "0 errors, 0 warnings, 0 notes"
    assert "  one            12          10" in lines
    assert err.splitlines() == [
        "listing files: 44 done", "checking images: 44 done", "comparing images: 1 done",
    ]  # fmt: skip
    assert max(map(len, lines)) <= 80
    assert list(Path().iterdir()) == []


def test_the_exit_code_says_what_was_found(folder: Path, capsys: Capture) -> None:
    (folder / "train/one/again.png").write_bytes((folder / "train/one/0.png").read_bytes())
    facts = asked(capsys, str(folder))
    assert facts["verdict"] == "warning"
    assert asked(capsys, str(folder), "--strict", code=1) == facts
    (folder / "test/two/broken.jpg").write_bytes(b"<html>")
    assert asked(capsys, str(folder), code=1)["verdict"] == "error"
    assert run(["data", "check", str(folder)]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "error unreadable-files: 1 file of 46 cannot be read as an image." in out
    assert "test/two/broken.jpg (not an image (PNG, JPEG, WebP, BMP, GIF) but a web page)" in out
    assert "to do: Repair or remove them; --data.skip-unreadable trains without them." in out
    assert out.endswith("1 error, 1 warning, 0 notes")


def test_notes_are_no_findings_for_strict(folder: Path, capsys: Capture) -> None:
    Image.new("RGB", (28, 28)).save(folder / "train/one/colour.png")
    noise = np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "train/one/colour.png")
    facts = asked(capsys, str(folder), "--strict")
    assert [finding["name"] for finding in facts["findings"]] == ["grey-among-colours"]


def test_for_machines(folder: Path, capsys: Capture) -> None:
    (folder / "test/two/leak.png").write_bytes((folder / "train/two/3.png").read_bytes())
    facts = asked(capsys, str(folder), "--out", "a/b", code=1)
    assert set(facts) == {
        "name", "place", "verdict", "images", "parts", "classes", "kinds", "sizes", "mean", "std",
        "findings", "notes", "files",
    }  # fmt: skip
    assert facts["classes"] == {
        name: {"train": 12, "validation": 0, "test": n} for name, n in (("one", 10), ("two", 11))
    }
    assert facts["findings"][0]["items"] == [
        {"file": "test/two/leak.png", "copy": "train/two/3.png"}
    ]
    assert set(facts["findings"][0]) == {
        "name", "severity", "sentence", "numbers", "advice", "items",
    }  # fmt: skip
    assert facts["files"] == ["a/b/data_check.json", "a/b/figures/data_check.png"]
    kept = json.loads(Path("a/b/data_check.json").read_text(encoding="utf-8"))
    assert kept == facts
    with Image.open("a/b/figures/data_check.png") as picture:
        assert picture.size[0] > 500


def test_nothing_is_written_into_the_data(folder: Path, capsys: Capture) -> None:
    before = sorted(folder.rglob("*"))
    for out in (folder, folder / "new", folder / "x" / ".." / "new"):
        assert run(["data", "check", str(folder), "--out", str(out)]) == 2
        assert "lies in the data" in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before


def test_known_data_and_settings(capsys: Capture) -> None:
    facts = asked(capsys, "digits", "--strict")
    assert (facts["verdict"], facts["images"]) == ("ok", 6000)
    assert run(["data", "check", "nothing-like-this"]) == 2
    assert "There is no data" in capsys.readouterr().err


def test_hostile_archives_end_in_one_message(tmp_path: Path, capsys: Capture) -> None:
    for name, content in (("a.zip", b"PK\x03\x04"), ("b.tar.gz", b"\x1f\x8b"), ("c.tar", b"")):
        (tmp_path / name).write_bytes(content)
        assert run(["data", "check", str(tmp_path / name)]) == 2
        err = capsys.readouterr().err
        assert "is damaged" in err
        assert "Traceback" not in err
