"""Finding runs: by path, by name, or the latest."""

from __future__ import annotations

from pathlib import Path

from pellucid.errors import BadRun, did_you_mean
from pellucid.runs.folder import LATEST, RECIPE, Run

RUNS = Path("runs")
"""Where runs go unless told otherwise, as TensorBoard expects it."""


def all_runs(runs: Path = RUNS) -> list[Run]:
    """Return the runs in the folder `runs`, oldest first."""
    if not runs.is_dir():
        return []
    found = [p for p in runs.iterdir() if (p / RECIPE).is_file() and not p.is_symlink()]
    return [Run(p) for p in sorted(found, key=lambda p: (_stamp(p), p.name))]


def find(given: str | Path, runs: Path = RUNS) -> Run:
    """Return the run that `given` means: a path, a name in `runs`, or `latest`.

    Raises:
        BadRun: if there is none; the message names what there is.
    """
    path = Path(given)
    if path.name == LATEST and (given == LATEST or path.parent.is_dir()):
        folder = runs if str(given) == LATEST else path.parent
        known = all_runs(folder)
        if not known:
            raise BadRun(f"There is no run in {folder} yet. Start one: pellucid train")
        return known[-1]
    for candidate in (path, runs / path):
        if (candidate / RECIPE).is_file():
            return Run.open(candidate)
    if path.is_dir():
        return Run.open(path)  # says what is missing
    names = [run.name for run in all_runs(runs)]
    raise BadRun(
        f'There is no run "{given}"{did_you_mean(str(given), names) or "."} '
        f"A run is a path, a name in {runs} (pellucid runs list), or latest."
    )


def _stamp(path: Path) -> float:
    """Return when the folder was made, by the one file that is written then and never again."""
    return (path / RECIPE).stat().st_mtime_ns
