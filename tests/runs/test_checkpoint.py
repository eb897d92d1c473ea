"""A checkpoint is whole or absent, whatever the disk does."""

from __future__ import annotations

import errno
import json
import random
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from pellucid.errors import BadCheckpoint, SaveFailed
from pellucid.runs.checkpoint import Checkpoints, read, verify
from pellucid.runs.disk import Disk

Tensors = dict[str, dict[str, torch.Tensor]]


def content(step: int) -> tuple[Tensors, dict[str, Any]]:
    numbers = torch.arange(20.0) + step
    return {"model": {"weight": numbers}, "optimizer": {"weight/step": numbers}}, {"step": step}


class Died(BaseException):
    """The process ends here."""


class Interrupted(Disk):
    """A disk that lets `happen` run before its `at`-th operation, half-writing if that writes."""

    def __init__(self, at: int, happen: Callable[[], None]) -> None:
        self.at = at
        self.happen = happen
        self.count = 0

    def _tick(self) -> None:
        self.count += 1
        if self.count == self.at:
            self.happen()

    def make_folder(self, path: Path) -> None:
        self._tick()
        super().make_folder(path)

    def write(self, path: Path, data: bytes) -> None:
        self.count += 1
        if self.count == self.at:
            path.write_bytes(data[: len(data) // 2])
            self.happen()
        super().write(path, data)

    def sync_folder(self, path: Path) -> None:
        self._tick()
        super().sync_folder(path)

    def rename(self, old: Path, new: Path) -> None:
        self._tick()
        super().rename(old, new)

    def remove(self, path: Path) -> None:
        self._tick()
        super().remove(path)


def die() -> None:
    raise Died


def operations(folder: Path) -> int:
    disk = Interrupted(0, die)
    save_and_prune(Checkpoints(folder, disk), 3)
    return disk.count


def save_and_prune(checkpoints: Checkpoints, step: int) -> None:
    checkpoints.save(*content(step))
    checkpoints.prune(checkpoints.steps()[-2:])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with the checkpoints of steps 1 and 2."""
    for step in (1, 2):
        Checkpoints(tmp_path / "saved").save(*content(step))
    return tmp_path / "saved"


def test_what_is_read_is_what_was_written(saved: Path) -> None:
    checkpoint, problems = Checkpoints(saved).latest()
    assert checkpoint is not None
    assert problems == []
    tensors, facts = content(2)
    assert checkpoint.facts == facts
    for file, group in tensors.items():
        for name, tensor in group.items():
            assert torch.equal(checkpoint.tensors[file][name], tensor)


def test_any_memory_order_is_written_in_the_usual_one(tmp_path: Path) -> None:
    usual = torch.arange(2.0 * 3 * 4 * 5).view(2, 3, 4, 5)
    last = usual.to(memory_format=torch.channels_last)
    for number, tensor in enumerate((usual, last), 1):
        Checkpoints(tmp_path / f"{number}").save({"model": {"weight": tensor}}, {"step": 1})
    first, second = (Checkpoints(tmp_path / f"{number}").path(1) for number in (1, 2))
    name = "model.safetensors"
    assert (first / name).read_bytes() == (second / name).read_bytes()
    assert not last.is_contiguous()


def test_dying_at_each_operation_of_a_save(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "counted")
    total = operations(tmp_path / "counted")
    assert total > 8
    for at in range(1, total + 1):
        folder = tmp_path / f"{at}"
        shutil.copytree(saved, folder)
        with pytest.raises(Died):
            save_and_prune(Checkpoints(folder, Interrupted(at, die)), 3)
        found, problems = Checkpoints(folder).latest()
        assert found is not None, f"nothing is left after dying at operation {at}"
        assert problems == []
        assert found.step in (2, 3)
        save_and_prune(Checkpoints(folder), 3)  # the next process goes on
        assert Checkpoints(folder).steps() == [2, 3]
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_a_disk_that_refuses_each_operation(saved: Path, tmp_path: Path, code: int) -> None:
    def refuse() -> None:
        raise OSError(code, "refused")

    shutil.copytree(saved, tmp_path / "counted")
    disk = Interrupted(0, die)
    Checkpoints(tmp_path / "counted", disk).save(*content(3))
    for at in range(1, disk.count + 1):
        folder = tmp_path / f"{at}"
        shutil.copytree(saved, folder)
        with pytest.raises(SaveFailed, match=r"needs [\d,]+ bytes, .* free"):
            Checkpoints(folder, Interrupted(at, refuse)).save(*content(3))
        found, _ = Checkpoints(folder).latest()
        assert found is not None
        assert found.step in (2, 3)
        save_and_prune(Checkpoints(folder), 3)
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_every_flipped_bit_is_found(saved: Path) -> None:
    """One bit in each byte of each file, and each file cut short, emptied, longer or gone."""
    folder = Checkpoints(saved).path(2)
    draws = random.Random(0)
    flips = 0
    for path in sorted(folder.iterdir()):
        good = path.read_bytes()
        for i in range(len(good)):
            bad = bytearray(good)
            bad[i] ^= 1 << draws.randrange(8)
            path.write_bytes(bytes(bad))
            with pytest.raises(BadCheckpoint, match=path.name.replace(".", r"\.")):
                verify(folder)
            flips += 1
        for bad_bytes in (good[:-1], b"", good + b"\n", bytes(len(good))):
            path.write_bytes(bad_bytes)
            with pytest.raises(BadCheckpoint, match=path.name.replace(".", r"\.")):
                read(folder)
        path.unlink()
        with pytest.raises(BadCheckpoint, match=path.name.replace(".", r"\.")):
            read(folder)
        path.write_bytes(good)
    assert flips > 800
    verify(folder)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(saved: Path) -> None:
    file = Checkpoints(saved).path(2) / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    found, problems = Checkpoints(saved).latest()
    assert found is not None
    assert found.step == 1
    assert len(problems) == 1
    assert "model.safetensors is damaged" in problems[0]


def test_a_file_that_the_manifest_lacks_is_not_read(saved: Path) -> None:
    folder = Checkpoints(saved).path(2)
    (folder / "extra.safetensors").write_bytes(b"not listed")
    assert "extra" not in read(folder).tensors


def test_a_later_format_is_refused_with_the_reason(saved: Path) -> None:
    from pellucid.runs import checkpoint

    folder = Checkpoints(saved).path(2)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["digest"]
    (folder / "manifest.json").write_bytes(checkpoint._seal({**manifest, "format": 2}))
    with pytest.raises(BadCheckpoint, match="has format 2; this version of pellucid reads 1"):
        read(folder)


def test_no_pickle_in_a_checkpoint(saved: Path) -> None:
    names = {path.suffix for path in Checkpoints(saved).path(2).iterdir()}
    assert names == {".safetensors", ".json"}
    for path in Checkpoints(saved).path(2).iterdir():
        assert not path.read_bytes().startswith((b"\x80", b"PK"))


class Remembering(Disk):
    """A disk that keeps a log of what was asked of it and does it too."""

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []

    def make_folder(self, path: Path) -> None:
        self.log.append(("folder", path))
        super().make_folder(path)

    def write(self, path: Path, data: bytes) -> None:
        self.log.append(("write", path, data))
        super().write(path, data)

    def sync_folder(self, path: Path) -> None:
        self.log.append(("sync", path))
        super().sync_folder(path)

    def rename(self, old: Path, new: Path) -> None:
        self.log.append(("rename", old, new))
        super().rename(old, new)

    def remove(self, path: Path) -> None:
        self.log.append(("remove", path))
        super().remove(path)


Names = dict[Path, bytes | None]


def crash_states(
    log: list[tuple[Any, ...]], before: Names, draws: random.Random
) -> Iterator[Names]:
    """Yield what a disk may hold after power is lost at any point of `log`.

    A file's content is there once `write` returned (it syncs). A change of names (a new entry,
    a rename, a removal) is sure only once the folder was synced; until then the disk may have
    kept any of them, in any combination.
    """
    for end in range(len(log) + 1):
        sure = [_is_sure(log[:end], i) for i in range(end)]
        for _ in range(40):
            state = dict(before)
            for entry, kept in zip(log[:end], sure, strict=True):
                if entry[0] != "sync" and (kept or draws.random() < 0.5):
                    apply(state, entry)
            yield state


def _is_sure(log: list[tuple[Any, ...]], i: int) -> bool:
    """Return whether the folder of the `i`-th change was synced after it."""
    place = log[i][2 if log[i][0] == "rename" else 1].parent
    return ("sync", place) in log[i:]


def apply(names: Names, entry: tuple[Any, ...]) -> None:
    kind, path = entry[0], entry[1]
    if kind == "folder":
        names[path] = None
    elif kind == "write":
        names[path] = entry[2]
    elif kind == "rename":
        for old in [p for p in names if p == path or path in p.parents]:
            names[entry[2] / old.relative_to(path)] = names.pop(old)
    elif kind == "remove":
        for old in [p for p in names if p == path or path in p.parents]:
            del names[old]


def lay_out(names: Names, source: Path, target: Path) -> None:
    for path, data in names.items():
        place = target / path.relative_to(source)
        if data is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)


def good_after(log: list[tuple[Any, ...]], before: Names, source: Path, target: Path) -> list[int]:
    """Return the newest good step of each state that a loss of power can leave."""
    found, seen = [], set()
    for number, state in enumerate(crash_states(log, before, random.Random(0))):
        key = frozenset((path, data) for path, data in state.items() if data is not None)
        if key in seen:
            continue
        seen.add(key)
        lay_out(state, source, target / f"{number}")
        latest, _ = Checkpoints(target / f"{number}").latest()
        found.append(latest.step if latest else 0)
        shutil.rmtree(target / f"{number}", ignore_errors=True)
    return found


def _names(folder: Path) -> Names:
    return {p: p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def test_power_may_be_lost_at_any_point(saved: Path, tmp_path: Path) -> None:
    before = _names(saved)
    disk = Remembering()
    for step in range(3, 9):
        save_and_prune(Checkpoints(saved, disk), step)
    found = good_after(disk.log, before, saved, tmp_path / "states")
    assert len(found) > 150
    assert min(found) >= 2
    assert max(found) == 8


def _without_last_sync(log: list[tuple[Any, ...]], saved: Path) -> list[tuple[Any, ...]]:
    return [entry for entry in log if entry[:2] != ("sync", saved)]


def _remove_first(log: list[tuple[Any, ...]], saved: Path) -> list[tuple[Any, ...]]:
    removals = [("remove", saved / f"step-{step:08d}") for step in (1, 2)]
    return [*removals, ("sync", saved), *log]


def _rename_first(log: list[tuple[Any, ...]], saved: Path) -> list[tuple[Any, ...]]:
    """Publish the folder before its files are written, and prune the old ones after that."""
    rename = next(e for e in log if e[0] == "rename")
    rest = [
        (e[0], rename[2] / e[1].name, *e[2:]) if rename[1] in e[1].parents else e
        for e in log
        if e is not rename and e[0] != "folder" and e[1] != rename[1]
    ]
    writes = [e for e in rest if e[0] == "write"]
    others = [e for e in rest if e[0] != "write"]
    removals = [("remove", saved / f"step-{step:08d}") for step in (1, 2)]
    published = [("folder", rename[1]), rename, ("sync", saved)]
    return [*published, *removals, ("sync", saved), *writes, *others]


@pytest.mark.parametrize("mutant", [_without_last_sync, _remove_first, _rename_first])
def test_a_writer_in_another_order_would_be_caught(
    saved: Path, tmp_path: Path, mutant: Callable[..., list[tuple[Any, ...]]]
) -> None:
    """The test above can fail: no sync, deleting first and renaming first each lose everything."""
    before = _names(saved)
    disk = Remembering()
    checkpoints = Checkpoints(saved, disk)
    checkpoints.save(*content(3))
    checkpoints.prune([3])
    found = good_after(mutant(disk.log, saved), before, saved, tmp_path / "states")
    assert min(found) == 0


def test_pruning_removes_only_checkpoints_of_this_run(saved: Path) -> None:
    (saved / "mine.txt").write_text("a person's own file")
    (saved / "step-of-mine").mkdir()
    Checkpoints(saved).prune([2])
    assert {path.name for path in saved.iterdir()} == {"step-00000002", "mine.txt", "step-of-mine"}


def test_random_saves_prunes_and_deaths_never_leave_nothing(tmp_path: Path) -> None:
    draws = random.Random(0)
    folder = tmp_path / "checkpoints"
    step, best = 1, 1
    Checkpoints(folder).save(*content(1))
    for _ in range(150):
        step += draws.random() < 0.9
        disk = Interrupted(draws.randrange(1, 25), die)
        checkpoints = Checkpoints(folder, disk)
        try:
            checkpoints.save(*content(step))
            checkpoints.prune({best, *checkpoints.steps()[-2:]})
            best = step if draws.random() < 0.3 else best
        except Died:
            pass
        found, problems = Checkpoints(folder).latest()
        assert found is not None
        assert problems == []
        assert found.step in (step, step - 1) or found.step == best or found.step < step
        step = found.step
    assert all(a < b for a, b in pairwise(Checkpoints(folder).steps()))
