"""The big sets, where they are to be had: each trains from the command line."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from pellucid.cli.main import run

SHORT = ["--length", "12 steps", "--evaluate", "12 steps", "--json", "--quiet"]


@pytest.mark.parametrize(
    ("data", "test", "shape"),
    [("mnist", 10_000, "1x28x28"), ("fashion-mnist", 10_000, "1x28x28"),
     ("cifar10", 10_000, "3x32x32")],
)  # fmt: skip
def test_a_known_set(
    sets: Path, data: str, test: int, shape: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", data, "--recipe", "notes", *SHORT]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["test"]["n"] == test
    assert summary["test"]["accuracy"] > 0.15  # twelve steps, chance is 0.1
    log = (Path(summary["run"]) / "log.txt").read_text(encoding="utf-8")
    assert shape in log


def test_a_folder_of_photos(sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tarfile.open(sets / "flowers-128.tar.gz") as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # from Python 3.11.4 on
        archive.extractall(tmp_path)
    words = ["train", str(tmp_path / "flowers"), "--data.size", "32", "--recipe", "notes"]
    assert run([*words, *SHORT]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["test"]["n"] == 430
    assert summary["parameters"] == 94_565
    classes = json.loads((Path(summary["run"]) / "environment.json").read_text())["data"]["classes"]
    assert classes == ["daisy", "dandelion", "rose", "sunflower", "tulip"]
    assert run(["predict", summary["run"], str(tmp_path / "flowers/rose"), "--csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(list((tmp_path / "flowers/rose").iterdir()))
