"""The folder of an experiment: what it is, its runs, its results."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pellucid.catalogue import differences
from pellucid.errors import BadRun
from pellucid.runs.disk import DISK, replace_file
from pellucid.runs.folder import RECIPE, Run, read_json
from pellucid.runs.lock import locked

EXPERIMENT, FAILURES, RESULT = "experiment.json", "failures.json", "summary.json"
THREADS = "threads.json"
EXPERIMENTS = Path("experiments")
"""Where experiments go unless told otherwise."""

FORMAT = 1


class Experiment:
    """A folder in which the runs of one experiment nest.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def at(cls, path: Path | None, title: str, definition: dict[str, Any]) -> Experiment:
        """Return the experiment of this definition: a new one, or the one that was begun.

        Args:
            path: its folder; else `experiments/<title>-<digest of the definition>`, so that the
                same command, given again, goes on with the same experiment.
            title: what a person calls it.
            definition: what it is, as JSON; settings that may change in between (seeds to add,
                runs side by side) are not in it.

        Raises:
            BadRun: if the folder holds something else, or another experiment.
        """
        definition = _finite({"format": FORMAT, **definition})
        if path is None:
            text = json.dumps(definition, sort_keys=True)
            path = EXPERIMENTS / f"{title}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
        found = cls(path)
        known = found.read(EXPERIMENT)
        if known is not None:
            before = known["definition"]
            if before != definition:
                changed = differences(_flat(before), _flat(definition))
                lines = "\n  ".join(changed[:12])
                raise BadRun(
                    f"{path} holds another experiment:\n  {lines}\n"
                    "Give this one a folder of its own: --out FOLDER"
                )
            return found
        if path.is_dir() and any(path.iterdir()):
            raise BadRun(f"{path} is not empty and holds no experiment. Give another: --out FOLDER")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadRun(f"The folder {path} cannot be made: {error.strerror}.") from None
        now = datetime.now(UTC).isoformat(timespec="seconds")
        found.write(EXPERIMENT, {"definition": definition, "time": now})
        return found

    def run(self, name: str) -> Run | None:
        """Return the run `name` of this experiment, or None if it has not begun."""
        path = self.path / name
        return Run.open(path) if (path / RECIPE).is_file() else None

    def read(self, name: str) -> dict[str, Any] | None:
        """Return the content of the JSON file `name`, or None without one."""
        return read_json(self.path / name)

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write the JSON file `name`, whole or not at all."""
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        self.write_bytes(name, text.encode())

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write the file `name`, whole or not at all."""
        path = self.path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        replace_file(path, content, DISK)

    def threads(self, wanted: int) -> int:
        """Return the CPU threads of each run: those of the first call, since they decide bits."""
        known = self.read(THREADS)
        if known is None:
            self.write(THREADS, {"threads": wanted})
            return wanted
        return int(known["threads"])

    def failures(self) -> dict[str, str]:
        """Return the runs that ended with an error, each with what it said."""
        return dict(self.read(FAILURES) or {})

    def write_figure(self, name: str, picture: bytes, numbers: dict[str, Any]) -> None:
        """Write the PNG `picture` as `figures/<name>.png`, the numbers it shows beside it."""
        self.write_bytes(f"figures/{name}.png", picture)
        self.write(f"figures/{name}.json", numbers)

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Keep other processes from running this experiment; raises `RunBusy` if one does."""
        return locked(self.path)


def _finite(tree: Any) -> Any:
    """Return `tree` without infinities, which JSON does not have."""
    if isinstance(tree, dict):
        return {key: _finite(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_finite(value) for value in tree]
    return "inf" if isinstance(tree, float) and math.isinf(tree) else tree


def _flat(tree: dict[str, Any]) -> dict[str, Any]:
    """Return `tree` with lists of arms as tables by name, so that a difference names the arm."""
    arms = tree.get("arms")
    if not isinstance(arms, list):
        return tree
    return {**tree, "arms": {arm["name"]: arm for arm in arms}}
