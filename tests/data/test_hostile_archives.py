"""Hostile archives are refused as a whole, and nothing is written anywhere."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from pellucid.data import archive as module
from pellucid.data.archive import read_archive
from pellucid.errors import BadData
from tests.data.hostile_archives import Case, bombs, cases

CASES = list(cases())


def test_there_are_enough() -> None:
    assert len(CASES) >= 150
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_each_is_refused_with_a_reason(case: Case, tmp_path: Path) -> None:
    refused(case, tmp_path)


def test_bombs(tmp_path: Path) -> None:
    for number, case in enumerate(bombs()):
        (tmp_path / str(number)).mkdir()
        refused(case, tmp_path / str(number))
    assert number >= 9


def refused(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "inner" / f"hostile.{case.suffix}"
    path.parent.mkdir()
    path.write_bytes(case.data)
    with pytest.raises(BadData, match=case.text) as error:
        list(read_archive(path))
    assert str(path) in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500
    assert sorted(tmp_path.rglob("*")) == [path.parent, path]
    assert not Path("/tmp/pellucid-escaped").exists()


def make(kind: str, members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.mkdir("train")
            for name, content in members.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(fileobj=file, mode="w:gz" if kind == "tar.gz" else "w") as tar:
            for _ in range(2):  # archives that were appended to name their folders twice
                folder = tarfile.TarInfo("train")
                folder.type = tarfile.DIRTYPE
                tar.addfile(folder)
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_a_good_archive_is_read(kind: str, tmp_path: Path) -> None:
    members = {
        "train/cat/1.png": b"one", "./train/dog/\u00e9 \u732b.png": b"", "x" * 200: b"abc" * 9999,
        "train/cat/.hidden": b"left out", "inner.zip": b"PK, not opened",
    }  # fmt: skip
    path = tmp_path / "good"
    path.write_bytes(make(kind, members))
    read = dict(read_archive(path))
    del members["train/cat/.hidden"]
    assert read == {name.removeprefix("./"): content for name, content in members.items()}


def test_gzip_in_pieces_and_the_limits(tmp_path: Path, patched: pytest.MonkeyPatch) -> None:
    import gzip

    whole = make("tar", {"a/1": b"x" * 5000, "a/2": b"y" * 5000})
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(whole[:3000]) + gzip.compress(whole[3000:]) + bytes(512))
    assert [name for name, _ in read_archive(path)] == ["a/1", "a/2"]
    patched.setattr(module, "MAX_MEMBERS", 1)
    with pytest.raises(BadData, match="more than 1 files"):
        list(read_archive(path))
    patched.setattr(module, "MAX_BYTES", 9_999)
    with pytest.raises(BadData, match="unpacks to more than 9,999"):
        list(read_archive(path))
