"""What a finished run was made of, opened again: its data, its weights over time."""

from __future__ import annotations

from pathlib import Path

from pellucid.assemble import assemble
from pellucid.catalogue import from_tree, read_toml
from pellucid.engine import Engine
from pellucid.errors import DataChanged
from pellucid.runs.folder import ENVIRONMENT, RECIPE, Run
from pellucid.values import ImageSet, Progress, Splits, no_progress


def splits_of(run: Run, progress: Progress = no_progress) -> Splits:
    """Return the three parts of the data that `run` was made on.

    Raises:
        BadData: if the data is not there any more.
        BadRecipe: if it was given from Python, which a file cannot name.
        DataChanged: if it is not the same data.
    """
    recipe = from_tree(read_toml(run.path / RECIPE), str(run.path / RECIPE))
    engine = Engine.start(recipe.engine_on("cpu"))
    splits = assemble(recipe, engine, progress, start=False).splits
    stored = (run.read_json(ENVIRONMENT) or {}).get("data", {}).get("data_digest")
    if stored != splits.digest:
        raise DataChanged(f"The data of {run.path} has changed since the run was started.")
    return splits


def final_part(run: Run) -> str | None:
    """Return the part that has the last word: test if it was judged, else validation, or None."""
    for part in ("test", "validation"):
        if (run.path / "predictions" / f"{part}.csv").exists():
            return part
    return None


def figure_folder(run: Run, part: str) -> Path:
    """Return where the figures of `part` lie, relative to the run: those of the last word first."""
    return Path("figures") if part == final_part(run) else Path("figures") / part


def set_of(splits: Splits, part: str) -> ImageSet:
    """Return the images of `part`: train, validation or test."""
    data: ImageSet = getattr(splits, part)
    return data
