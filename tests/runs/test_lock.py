"""The lock of a folder, and what the process that had it last left behind."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from pellucid.runs.disk import replace_file
from pellucid.runs.lock import OWNER, locked


def test_only_what_the_last_owner_was_writing_is_removed(tmp_path: Path) -> None:
    """Others may be writing in the folder just now, and a run has hidden files of its own."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    (tmp_path / OWNER).write_text(json.dumps({"pid": dead.pid, "host": "here"}), encoding="utf-8")
    (tmp_path / "predictions").mkdir()
    left = [tmp_path / f".summary.json.{dead.pid}", tmp_path / f"predictions/.a.csv.{dead.pid}"]
    stays = [tmp_path / f"predictions/.b.csv.{os.getpid()}", tmp_path / f"notes.{dead.pid}"]
    for path in [*left, *stays]:
        path.touch()
    with locked(tmp_path):
        replace_file(tmp_path / "predictions/a.csv", b"whole")
    assert [path.exists() for path in left] == [False, False]
    assert [path.exists() for path in stays] == [True, True]


@pytest.mark.parametrize("damaged", ["", "{", "7", "[]", '{"pid": "x"}'])
def test_an_owner_that_cannot_be_read_is_nobody(tmp_path: Path, damaged: str) -> None:
    (tmp_path / OWNER).write_text(damaged, encoding="utf-8")
    with locked(tmp_path):
        assert json.loads((tmp_path / OWNER).read_text(encoding="utf-8"))["pid"] == os.getpid()
