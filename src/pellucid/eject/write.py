"""Writing a script, and the arrays that it may read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pellucid.data.split import split
from pellucid.eject.facts import Facts, facts
from pellucid.eject.script import Script
from pellucid.errors import DataChanged
from pellucid.recipe import Recipe
from pellucid.runs.listing import find
from pellucid.values import Progress, no_progress


def eject(
    run: str | Path,
    recipe: Recipe | None = None,
    *,
    arrays: str | Path | None = None,
    progress: Progress = no_progress,
) -> str:
    """Return the script that trains what `run` trained, with PyTorch and NumPy alone.

    Args:
        run: a path, a name in the folder of runs, or `latest`.
        recipe: needed only if its data were given from Python; else the run's own.
        arrays: a file `.npz` to write the decoded images to, which the script then reads; for
            data that a script cannot read by itself.
        progress: called while images are read for `arrays`.

    Raises:
        CannotEject: naming the part that cannot be written as a script, and the reason.
        BadRun: if there is no such run, or no checkpoint in it.
        DataChanged: if the data are not what the run was started on.

    >>> import tempfile
    >>> from pellucid import good, steps, train
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     script = eject(train(good("digits").with_(length=steps(2)), folder).path)
    >>> "import pellucid" in script
    False
    """
    known = facts(find(run), recipe)
    place = None if arrays is None else Path(arrays)
    text = Script(known, place).text()  # first, since it may be refused
    if place is not None:
        _write(known, place, progress)
    return text


def _write(known: Facts, place: Path, progress: Progress) -> None:
    """Write images and labels of all parts.

    Raises:
        DataChanged: if they are not those of the run.
    """
    recipe = known.recipe
    splits = split(
        recipe.data.load(progress),
        recipe.data.validation,
        recipe.data.test,
        recipe.seed,
        recipe.fold,
    )
    if splits.digest != known.data_digest:
        raise DataChanged(
            f"The data of {known.run.path} has changed since the run was started (digest "
            f"{known.data_digest[:16]}, now {splits.digest[:16]}). Restore it."
        )
    arrays = {}
    for name in ("train", "validation", "test"):
        part = getattr(splits, name)
        arrays[f"{name}_images"] = part.images[part.rows].numpy()
        arrays[f"{name}_labels"] = part.targets.numpy()
    with place.open("wb") as file:  # np.savez would add .npz to a name without it
        np.savez(file, **arrays)
