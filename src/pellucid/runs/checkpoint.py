"""Checkpoints: a folder each, whole or absent, verified when read.

    step-00004500/
      model.safetensors  optimizer.safetensors  [ema.safetensors]
      state.json         everything that is not a tensor
      manifest.json      size and SHA-256 of each other file, and of itself; written last

The folder is written under another name beside the target, each file and then the folder is
synced, and the rename makes it a checkpoint. Nothing older is removed before that and before the
new one was read back. The truth is "the highest step that verifies"; no pointer is needed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from pellucid.errors import BadCheckpoint, SaveFailed
from pellucid.runs.disk import DISK, Disk

FORMAT = 1
MANIFEST = "manifest.json"
STATE = "state.json"
NAME = re.compile(r"step-(\d{8,})")

Tensors = dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Args:
        step: optimizer steps done.
        tensors: by file (`model`, `optimizer`, `ema`) and by name.
        facts: everything else.
        path: its folder.
    """

    step: int
    tensors: Tensors
    facts: dict[str, Any]
    path: Path


class Checkpoints:
    """The folder `checkpoints/` of one run.

    Args:
        folder: need not exist yet.
        disk: what writes; tests pass one that fails or dies.
    """

    def __init__(self, folder: Path, disk: Disk = DISK) -> None:
        self.folder = folder
        self.disk = disk

    def path(self, step: int) -> Path:
        """Return the folder of the checkpoint after `step` steps, there or not."""
        return self.folder / f"step-{step:08d}"

    def steps(self) -> list[int]:
        """Return the steps of all checkpoints by name, ascending; they are not verified."""
        if not self.folder.is_dir():
            return []
        found = (NAME.fullmatch(entry.name) for entry in self.folder.iterdir())
        return sorted(int(match.group(1)) for match in found if match)

    def save(self, tensors: Tensors, facts: dict[str, Any]) -> Path:
        """Write a checkpoint after step `facts["step"]`, and read it back.

        The tensors may lie in memory in any order; the files hold the usual one.

        Raises:
            SaveFailed: if the disk refused; then nothing that was there before is touched.
        """
        files = {f"{name}.safetensors": serialised(group) for name, group in tensors.items()}
        files[STATE] = _json(facts)
        files[MANIFEST] = _manifest(facts["step"], files)
        needed = sum(map(len, files.values()))
        target = self.path(facts["step"])
        partial = self.folder / f".writing-{target.name}"
        try:
            self._write(partial, target, files)
        except OSError as error:
            free = self._clean_up(partial)
            raise SaveFailed(
                f"The checkpoint {target} could not be saved ({error.strerror or error}): "
                f"it needs {needed:,} bytes, {free} are free. Earlier checkpoints are untouched."
            ) from error
        files.clear()  # it is read back file by file: less memory while training goes on
        for _ in _intact(target):
            pass
        return target

    def _write(self, partial: Path, target: Path, files: dict[str, bytes]) -> None:
        self.disk.remove(partial)  # left by a process that died here
        self.disk.make_folder(partial)
        for name, data in files.items():
            self.disk.write(partial / name, data)
        self.disk.sync_folder(partial)
        if target.exists():  # damaged, or written by this run before it was set back
            self.disk.rename(target, aside := self.folder / f".replaced-{target.name}")
            self.disk.rename(partial, target)
            self.disk.sync_folder(self.folder)
            self.disk.remove(aside)
        else:
            self.disk.rename(partial, target)
            self.disk.sync_folder(self.folder)

    def _clean_up(self, partial: Path) -> str:
        try:
            self.disk.remove(partial)
            return f"{self.disk.free(self.folder):,}"
        except OSError:
            return "an unknown number of bytes"

    def prune(self, keep: Iterable[int]) -> None:
        """Remove the checkpoints of all steps but those in `keep`, and what dead saves left."""
        wanted = set(keep)
        for step in self.steps():
            if step not in wanted:
                self.disk.remove(self.path(step))
        for entry in list(self.folder.glob(".writing-step-*")) + list(
            self.folder.glob(".replaced-step-*")
        ):
            self.disk.remove(entry)

    def latest(self) -> tuple[Checkpoint | None, list[str]]:
        """Return the newest checkpoint that verifies, and what is wrong with newer ones."""
        problems: list[str] = []
        for step in reversed(self.steps()):
            try:
                return read(self.path(step)), problems
            except BadCheckpoint as error:
                problems.append(str(error))
        return None, problems


def read(path: Path) -> Checkpoint:
    """Return the checkpoint in the folder `path`, verified first.

    Raises:
        BadCheckpoint: naming the file that is wrong.
    """
    files = verify(path)
    try:
        facts = json.loads(files.pop(STATE))
        tensors = {
            name.removesuffix(".safetensors"): safetensors.torch.load(data)
            for name, data in files.items()
        }
    except (ValueError, KeyError, SafetensorError) as error:
        raise BadCheckpoint(f"{path} verifies but cannot be read: {error}.") from None
    return Checkpoint(facts["step"], tensors, facts, path)


def verify(path: Path) -> dict[str, bytes]:
    """Return the files of the checkpoint `path`, but for the manifest, by name.

    Raises:
        BadCheckpoint: if the manifest is missing or not what was written, or if a file is
            missing, longer, shorter or different; the message names it.
    """
    return dict(_intact(path))


def _intact(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file that the manifest lists, checked; raise as `verify`."""
    manifest = _read(path / MANIFEST)
    try:
        content = json.loads(manifest)
        listed: dict[str, dict[str, Any]] = content["files"]
        intact = manifest == _seal({k: v for k, v in content.items() if k != "digest"})
    except (ValueError, KeyError, TypeError, AttributeError):
        intact = False
    if not intact:
        raise BadCheckpoint(f"{path / MANIFEST} is damaged.")
    if content["format"] != FORMAT:
        raise BadCheckpoint(
            f"{path} has format {content['format']}; this version of pellucid reads {FORMAT}."
        )
    for name, expected in listed.items():
        data = _read(path / name)
        if len(data) != expected["size"] or hashlib.sha256(data).hexdigest() != expected["sha256"]:
            raise BadCheckpoint(
                f"{path / name} is damaged: {len(data):,} bytes, {expected['size']:,} expected; "
                "its SHA-256 is not the one in the manifest."
            )
        yield name, data


def serialised(group: dict[str, Tensor]) -> bytes:
    """Return named tensors as the content of a safetensors file, in the usual memory order."""
    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in group.items()})


def _manifest(step: int, files: dict[str, bytes]) -> bytes:
    return _seal(
        {
            "format": FORMAT,
            "step": step,
            "files": {
                name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                for name, data in files.items()
            },
        }
    )


def _seal(content: dict[str, Any]) -> bytes:
    """Return `content` with its own digest as JSON; any other bytes are not this manifest."""
    digest = hashlib.sha256(_json(content)).hexdigest()
    return _json({**content, "digest": digest})


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadCheckpoint(f"{path} cannot be read: {error.strerror or error}.") from None
