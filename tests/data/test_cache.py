"""The cache of decoded images: same pixels, noticed changes, nothing half done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pellucid.data.cache import cache_folder
from pellucid.data.folder import Folder
from pellucid.data.workers import Workers
from pellucid.errors import BadData


@pytest.fixture
def root(tmp_path, plant) -> Path:
    return plant(tmp_path / "p", {"a": 4, "b": 4})


@pytest.fixture
def decodings(patched) -> list[int]:
    """Grows by one with each decoded image."""
    seen: list[int] = []
    true = Workers.decode

    def counted(workers, data, channels, size):
        seen.append(1)
        return true(workers, data, channels, size)

    patched.setattr(Workers, "decode", counted)
    return seen


def folders() -> list[Path]:
    return [path for path in (cache_folder() / "decoded").iterdir() if path.is_dir()]


def test_where_the_cache_is(patched, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    patched.delenv("PELLUCID_CACHE")
    patched.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "pellucid"
    patched.delenv("XDG_CACHE_HOME")
    patched.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "pellucid"


def test_the_second_load_decodes_nothing(root, decodings):
    first = Folder(str(root)).load()
    assert len(decodings) == 8
    second = Folder(str(root)).load()
    assert len(decodings) == 8
    assert torch.equal(first.train.images, second.train.images)
    assert first.train.files == second.train.files
    assert first.notes == second.notes
    manifest = json.loads((folders()[0] / "manifest.json").read_text())
    assert manifest["format"] == 1
    assert manifest["shape"] == [8, 3, 12, 12]


def test_other_options_are_another_entry(root, decodings):
    assert Folder(str(root)).load().train.shape == (3, 12, 12)
    assert Folder(str(root), size=8).load().train.shape == (3, 8, 8)
    assert Folder(str(root)).load().train.shape == (3, 12, 12)
    assert len(decodings) == 16
    Folder(str(root), validation=0.5, test=0.2).load()  # decide no pixels
    assert len(decodings) == 16


def change_content_keeping_size_and_mtime(root: Path, picture) -> None:
    path = root / "a" / "00.png"
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def add(root: Path, picture) -> None:
    picture(99).save(root / "a" / "99.png")


def remove(root: Path, picture) -> None:
    (root / "a" / "00.png").unlink()


def rename(root: Path, picture) -> None:
    (root / "a" / "00.png").rename(root / "a" / "zz.png")


def move_to_the_other_class(root: Path, picture) -> None:
    (root / "a" / "00.png").rename(root / "b" / "zz.png")


@pytest.mark.parametrize(
    "change", [change_content_keeping_size_and_mtime, add, remove, rename, move_to_the_other_class]
)
def test_a_changed_source_is_noticed(root, decodings, picture, change):
    Folder(str(root)).load()
    change(root, picture)
    count = len(decodings)
    loaded = Folder(str(root)).load()
    assert len(decodings) == count + len(list(root.rglob("*.png")))
    assert any("files changed since they were last decoded" in note for note in loaded.notes)
    assert not any("changed" in note for note in Folder(str(root)).load().notes)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("memory", [2.0, 0.0], ids=["read", "mapped"])
@pytest.mark.parametrize("damage", [flip, cut, Path.unlink], ids=["flipped", "cut", "gone"])
@pytest.mark.parametrize("file", ["images.u8", "contents.json", "manifest.json"])
def test_damage_is_noticed_and_repaired(root, decodings, file, damage, memory):
    before = Folder(str(root), memory=memory).load()
    expected = before.train.images.clone()
    damage(folders()[0] / file)
    loaded = Folder(str(root), memory=memory).load()
    assert torch.equal(loaded.train.images, expected)
    assert loaded.train.files == before.train.files
    assert len(decodings) == 16
    assert any(
        "images in the cache were damaged" in note or "files changed" in note
        for note in loaded.notes
    )
    assert Folder(str(root), memory=memory).load().notes == before.notes


def test_large_sets_are_mapped_and_never_written_to(root):
    small = Folder(str(root)).load().train.images
    mapped = Folder(str(root), memory=0).load().train.images
    assert torch.equal(small, mapped)
    stored = folders()[0] / "images.u8"
    before = stored.read_bytes()
    mapped += 1
    assert stored.read_bytes() == before
    with open("/proc/self/maps") as maps:
        assert str(stored) in maps.read()


def test_an_interrupted_decoding_leaves_nothing_that_counts(root, patched, decodings):
    class Stop(BaseException):
        pass

    def stop(workers, data, channels, size):
        raise Stop

    with patched.context() as patch:
        patch.setattr(Workers, "decode", stop)
        with pytest.raises(Stop):
            Folder(str(root)).load()
    assert folders() == []
    leftover = cache_folder() / "decoded" / "p-x.partial"
    leftover.mkdir()
    assert len(Folder(str(root)).load().train) == 8
    assert Folder(str(root)).load().notes == Folder(str(root)).load().notes


def test_leftovers_of_a_killed_process_are_swept(root):
    Folder(str(root)).load()
    folder = folders()[0]
    folder.rename(folder.with_suffix(".partial"))
    (folder.with_suffix(".partial") / "manifest.json").unlink()
    loaded = Folder(str(root)).load()
    assert len(loaded.train) == 8
    assert folders() == [folder]


def test_a_cache_that_cannot_be_written(root, cache, patched):
    expected = Folder(str(root)).load().train.images
    cache.rename(cache.with_name("aside"))
    cache.write_text("a file where the folder should be")
    loaded = Folder(str(root)).load()
    assert torch.equal(loaded.train.images, expected)
    assert any(f"The cache folder {cache} cannot be written" in note for note in loaded.notes)
    with pytest.raises(BadData, match=r"memory budget is 0.00 GB \(--data.memory\), and the cache"):
        Folder(str(root), memory=0).load()


def test_a_disk_that_fills_up(root, decodings):
    """In a process that may not write files beyond 1 kB, as if the disk ended there."""
    code = (
        "import resource, signal, sys\n"
        "from pellucid.data.folder import Folder\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))\n"
        "loaded = Folder(sys.argv[1]).load()\n"
        "print(len(loaded.train), *loaded.notes)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("8 ")
    assert "cannot be written (File too large)" in run.stdout
    assert folders() == []


def test_two_processes_decode_once(root, tmp_path):
    code = (
        "import sys\n"
        "from pellucid.data.folder import Folder\n"
        "from pellucid.data.workers import Workers\n"
        "true = Workers.decode\n"
        "def slow(workers, data, channels, size):\n"
        "    import time; time.sleep(0.05)\n"
        "    print('decoded', flush=True)\n"
        "    return true(workers, data, channels, size)\n"
        "Workers.decode = slow\n"
        "said = []\n"
        "loaded = Folder(sys.argv[1]).load(lambda what, done, total: said.append(what))\n"
        "print('waited' if any('another process' in what for what in said) else 'first')\n"
        "print('sum', int(loaded.train.images.long().sum()))\n"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    texts = [run.communicate(timeout=60)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert sum(text.count("decoded") for text in texts) == 8
    assert len({text.split("sum")[1] for text in texts}) == 1
