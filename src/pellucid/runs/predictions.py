"""The tables of predictions: written, and read again. Every metric is a function of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pellucid.errors import BadRun
from pellucid.metrics.labels import Suspects
from pellucid.metrics.mistakes import Mistake
from pellucid.runs.tables import cell, uncell
from pellucid.values import ImageSet, Predictions

FIXED = ("id", "file", "label", "prediction")
LOGIT, SHARE, FOLD = "logit:", "p:", "fold"


@dataclass(frozen=True, eq=False)
class PredictionTable:
    """A table of predictions, as read.

    Args:
        predictions: logits and labels; `index` holds the ids, positions in the set as loaded.
        files: N names; empty texts where the images have none.
        folds: N numbers of the fold that the image was held out of; empty where the table is not
            of a k-fold.
    """

    predictions: Predictions
    files: tuple[str, ...]
    folds: tuple[int, ...] = ()


def prediction_table(
    data: ImageSet, predictions: Predictions, folds: Sequence[int] | None = None
) -> str:
    """Return CSV: one row an image, with everything that a metric needs.

    Columns: id (position in the set as loaded), file, label, prediction, then `logit:<class>`
    with nine digits, which is float32 exactly, and `p:<class>`, the softmax of the logits.

    Args:
        data: the images that were judged.
        predictions: what was said of them.
        folds: the fold that each image was held out of; then a column `fold` follows.
    """
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    names = [cell(name) for name in data.classes]
    columns = [f"{LOGIT}{name}" for name in names] + [f"{SHARE}{name}" for name in names]
    table.writerow([*FIXED, *columns, *([FOLD] if folds is not None else [])])
    shares = predictions.logits.double().softmax(1)
    rows = zip(
        predictions.index.tolist(), predictions.targets.tolist(), predictions.labels.tolist(),
        predictions.logits.tolist(), shares.tolist(), strict=True,
    )  # fmt: skip
    for place, (index, target, label, logits, p) in enumerate(rows):
        numbers = [f"{value:.9g}" for value in logits] + [f"{value:.6g}" for value in p]
        if folds is not None:
            numbers.append(str(folds[place]))
        row = int(data.rows[index])
        table.writerow([row, cell(data.file(index)), names[target], names[label], *numbers])
    return out.getvalue()


def read_predictions(path: Path, classes: Sequence[str] | None = None) -> PredictionTable:
    """Read what `prediction_table` wrote; the columns `p:` are left, since logits give them.

    Args:
        path: the CSV file.
        classes: those of the model that is said to have made it.

    Raises:
        BadRun: if there is no such file, if it is damaged, or if it is of another model.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return _read(path, csv.reader(file), classes)
    except FileNotFoundError:
        raise BadRun(
            f"{path} is missing: nothing was predicted for this part, or the run is not finished. "
            "pellucid evaluate RUN makes it."
        ) from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadRun(f"{path} is no table of predictions: {error}.") from None


def _read(path: Path, rows: Iterator[list[str]], classes: Sequence[str] | None) -> PredictionTable:
    head = next(rows, [])
    if tuple(head[:4]) != FIXED:
        raise BadRun(
            f"{path} is no table of predictions: its columns must begin with {', '.join(FIXED)}. "
            f"Got {', '.join(head[:4]) or 'nothing'}."
        )
    logits = [i for i, name in enumerate(head) if name.startswith(LOGIT)]
    names = tuple(uncell(head[i].removeprefix(LOGIT)) for i in logits)
    if classes is not None and names != tuple(classes):
        raise BadRun(
            f"{path} was made by another model: its classes are {_short(names)}; those of this "
            f"model are {_short(classes)}."
        )
    position = {name: i for i, name in enumerate(names)}
    fold = head.index(FOLD) if FOLD in head else None
    first, last = (logits[0], logits[-1] + 1) if logits else (0, 0)
    ids, files, targets, numbers, folds, said = [], [], [], [], [], []
    for line, row in enumerate(rows, 2):
        try:
            if len(row) != len(head):
                raise ValueError(f"{len(row)} columns instead of {len(head)}")
            ids.append(int(row[0]))
            files.append(uncell(row[1]))
            targets.append(position[uncell(row[2])])
            said.append(position[uncell(row[3])])
            numbers.append([float(value) for value in row[first:last]])
            if fold is not None:
                folds.append(int(row[fold]))
        except KeyError as error:
            raise BadRun(f"{path}, line {line}: {error} is none of its classes.") from None
        except ValueError as error:
            raise BadRun(f"{path}, line {line}, is damaged: {error}.") from None
    table = Predictions(
        torch.tensor(numbers, dtype=torch.float32).reshape(len(ids), len(names)),
        torch.tensor(targets, dtype=torch.int64),
        torch.tensor(ids, dtype=torch.int64),
        names,
    )
    wrong = (table.labels != torch.tensor(said, dtype=torch.int64)).nonzero().flatten().tolist()
    if wrong:
        raise BadRun(
            f"{path}, line {wrong[0] + 2}: the prediction is not the class with the highest logit; "
            "the table was changed by hand."
        )
    return PredictionTable(table, tuple(files), tuple(folds))


def mistake_table(mistakes: Sequence[Mistake], data: ImageSet) -> str:
    """Return CSV: one row a mistake, the worst first.

    Args:
        mistakes: of predictions on `data`.
        data: the images that were judged.
    """
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(
        [*FIXED, "p_true", "p_predicted", "runner_up", "p_runner_up", "margin", "loss", "rank"]
    )
    for found in mistakes:
        table.writerow([
            int(data.rows[found.row]), cell(data.file(found.row)),
            cell(found.true), cell(found.predicted),
            f"{found.p_true:.6g}", f"{found.p_predicted:.6g}",
            cell(found.runner_up), f"{found.p_runner_up:.6g}",
            f"{found.margin:.6g}", f"{found.loss:.6g}", found.rank,
        ])  # fmt: skip
    return out.getvalue()


def suspect_table(
    suspects: Suspects, table: PredictionTable, fingerprints: Mapping[int, str] | None = None
) -> str:
    """Return CSV of labels that are probably wrong, the most suspicious first, to be gone through.

    The column `relabel` is empty: a person writes the right class there, or `?` to leave the image
    out. Then `--data.relabel FILE` trains with these labels.

    Args:
        suspects: found in the predictions of `table`.
        table: that names the images.
        fingerprints: SHA-256 of the pixels by id, as in `split.csv`: later they show that a line
            means this very image.
    """
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow([*FIXED[:3], "suggested", "p_label", "p_suggested", "relabel", "sha256"])
    for found in suspects.found:
        number = int(table.predictions.index[found.row])
        rows.writerow([
            number, cell(table.files[found.row]), cell(found.label), cell(found.suggested),
            f"{found.p_label:.6g}", f"{found.p_suggested:.6g}", "",
            (fingerprints or {}).get(number, ""),
        ])  # fmt: skip
    return out.getvalue()


def _short(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
