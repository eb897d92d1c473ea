"""Labels that are probably wrong, where models that did not train on the image have judged it."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from pellucid.catalogue import read_toml
from pellucid.metrics.labels import Suspect, suspects
from pellucid.report.tiles import tile
from pellucid.runs.folder import RECIPE, Run
from pellucid.runs.predictions import PredictionTable, read_predictions
from pellucid.values import ImageSet, Splits

OUT_OF_FOLD = "predictions/out_of_fold.csv"
TABLE = "predictions/suspects.csv"
SHOWN = 24
"""Labels in a report."""


@dataclass(frozen=True)
class Shown:
    """One suspicious label.

    Args:
        suspect: what is given, what is proposed, and both probabilities.
        id: position in the set as loaded.
        name: file or place.
        picture: of the image; empty without data.
    """

    suspect: Suspect
    id: int
    name: str
    picture: str


@dataclass(frozen=True)
class Suspicious:
    """What a report says of suspicious labels.

    Args:
        n: images that were judged by a model that had not seen them; 0 if there is no k-fold.
        count: labels of them that are suspicious.
        shown: the most suspicious ones.
        place: of the k-fold, as text; empty without one.
        how: how to get such predictions, or how to correct the labels: a command.
    """

    n: int = 0
    count: int = 0
    shown: list[Shown] = field(default_factory=list)
    place: str = ""
    how: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as plain values for JSON, without pictures."""
        rows = [{**asdict(s.suspect), "id": s.id, "name": s.name} for s in self.shown]
        return {"n": self.n, "count": self.count, "shown": rows}


def suspicious_labels(run: Run, splits: Splits | None) -> Suspicious:
    """Return the suspicious labels of the data of `run`, or how to get them.

    They are looked for where `run` is a fold or the last model of a k-fold: in the predictions that
    the folds made out of their own training images.

    Args:
        run: that is finished.
        splits: its images, or None.

    Raises:
        BadRun: if the table of the k-fold is damaged.
    """
    recipe = shlex.quote(str(run.path / RECIPE))
    folder = run.path.absolute().parent
    near = run.path.parent if run.path.name not in ("", "..") else folder
    if not (folder / OUT_OF_FOLD).is_file():
        given = read_toml(run.path / RECIPE).get("data", {})
        fold = "pellucid.experiments.kfold.kfold(recipe, 5, title) in Python"
        return Suspicious(
            how=fold if "python" in given else f"pellucid kfold --recipe {recipe} --folds 5"
        )
    table = read_predictions(folder / OUT_OF_FOLD)
    found = suspects(table.predictions, table.folds)
    parts = [splits.train, splits.validation] if splits else []
    shown = [_shown(suspect, table, parts) for suspect in found.found[:SHOWN]]
    again = f"pellucid train --recipe {recipe} --data.relabel {shlex.quote(str(near / TABLE))}"
    return Suspicious(found.n, len(found.found), shown, folder.name, again)


def _shown(suspect: Suspect, table: PredictionTable, parts: list[ImageSet]) -> Shown:
    number = int(table.predictions.index[suspect.row])
    name, picture = table.files[suspect.row], ""
    for part in parts:
        place = (part.rows == number).nonzero().flatten()
        if len(place):
            name = part.describe(int(place[0]))
            picture = tile(part.pixels(torch.tensor([int(place[0])]))[0])
            break
    return Shown(suspect, number, name or f"image {number}", picture)
