"""One run's folder: its files, its lock, its name."""

from __future__ import annotations

import contextlib
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from pellucid.errors import BadRun
from pellucid.runs.checkpoint import Checkpoints
from pellucid.runs.disk import DISK, Disk, replace_file
from pellucid.runs.lock import locked

RECIPE, ENVIRONMENT, SUMMARY = "recipe.toml", "environment.json", "summary.json"
DIAGNOSIS = "diagnosis.json"
METRICS, TIMING, OPENINGS = "metrics.jsonl", "timing.jsonl", "openings.jsonl"
LOG = "log.txt"
LATEST = "latest"


class Run:
    """A run folder.

    Args:
        path: the folder.
        disk: what writes; tests pass one that fails or dies.
    """

    def __init__(self, path: Path, disk: Disk = DISK) -> None:
        self.path = path
        self.disk = disk
        self.checkpoints = Checkpoints(path / "checkpoints", disk)

    @classmethod
    def create(cls, runs: Path, name: str) -> Run:
        """Make a new folder `<time>-<name>` in the folder `runs` and name it the latest.

        A name that is taken gets a number, so that two runs of one second stay apart.
        """
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        for number in range(1, 1000):
            path = runs / (f"{stamp}-{name}" + (f"-{number}" if number > 1 else ""))
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                continue
            except OSError as error:
                raise BadRun(f"The run folder {path} cannot be made: {error.strerror}.") from None
            _point_latest(runs, path.name)
            return cls(path)
        raise BadRun(f"No free name for a run in {runs}.")

    @classmethod
    def make(cls, runs: Path, name: str) -> Run:
        """Make the new folder `name` in the folder `runs`, which is not named the latest.

        What a process left that died before it had begun is taken over.

        Raises:
            BadRun: if there is a run of that name, or it cannot be made.
        """
        path = runs / name
        if (path / RECIPE).exists():
            raise BadRun(f"{path} holds a run. Go on with it: pellucid resume {path}")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadRun(f"The run folder {path} cannot be made: {error.strerror}.") from None
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> Run:
        """Return the run in the folder `path`.

        Raises:
            BadRun: if there is none.
        """
        if not (path / RECIPE).is_file():
            raise BadRun(f"{path} is not a run: it holds no {RECIPE}.")
        return cls(path)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def metrics(self) -> Path:
        """The rows of loss and accuracy."""
        return self.path / METRICS

    def summary(self) -> dict[str, Any] | None:
        """Return the summary, or None while the run is not finished.

        Raises:
            BadRun: if it is damaged.
        """
        summary = self.read_json(SUMMARY)
        if summary is not None and not {"best", "test", "seconds"} <= summary.keys():
            raise BadRun(f"{self.path / SUMMARY} is damaged: it lacks what a summary holds.")
        return summary

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Return the content of the JSON file `name` in this folder, or None without one."""
        return read_json(self.path / name)

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write the JSON file `name`, whole or not at all."""
        self.write(name, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def write(self, name: str, text: str) -> None:
        """Write the text file `name`, whole or not at all."""
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        replace_file(path, text.encode(), self.disk)

    def append(self, name: str, row: dict[str, Any]) -> None:
        """Add a row to the JSON-lines file `name` and wait until it is on the disk."""
        with (self.path / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of the JSON-lines file `name`; none without it.

        A last line that a crash cut off is left out.
        """
        try:
            lines = (self.path / name).read_text(encoding="utf-8").splitlines(keepends=True)
        except FileNotFoundError:
            return []
        rows = []
        for number, line in enumerate(lines, 1):
            if line.endswith("\n"):
                try:
                    rows.append(json.loads(line))
                except ValueError:
                    place = f"{self.path / name}, line {number},"
                    raise BadRun(f"{place} is no row: it is damaged. Restore the file.") from None
        return rows

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Keep other processes from writing to this run; raises `RunBusy` if one does."""
        return locked(self.path)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the content of the JSON file at `path`, or None without one.

    Raises:
        BadRun: if it is damaged.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise BadRun(f"{path} is damaged: {error}.") from None
    return content


def _point_latest(runs: Path, name: str) -> None:
    """Let `runs/latest` name the newest run. A hint for people: we look at the folders."""
    partial = runs / f".{LATEST}.{os.getpid()}"
    with contextlib.suppress(OSError):  # a file system without links
        partial.unlink(missing_ok=True)
        partial.symlink_to(name, target_is_directory=True)
        os.replace(partial, runs / LATEST)
