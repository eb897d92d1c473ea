"""The tables of a run folder: which image is where, what was predicted, the metrics as CSV."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable
from typing import Any

import torch

from pellucid.values import ImageSet, Predictions, Splits


def split_table(splits: Splits) -> str:
    """Return CSV: part, position, file, label and SHA-256 (first 16 bytes) of each image's pixels.

    Equal pixels have equal hashes, so a leak between parts can be found without any model.
    """
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["part", "id", "file", "label", "sha256"])
    for part in ("train", "validation", "test"):
        data: ImageSet = getattr(splits, part)
        labels = data.targets.tolist()
        for chunk in torch.arange(len(data)).split(1000):
            for i, pixels in zip(chunk.tolist(), data.pixels(chunk).numpy(), strict=True):
                digest = hashlib.sha256(pixels.tobytes()).hexdigest()[:32]
                name = data.classes[labels[i]]
                table.writerow([part, int(data.rows[i]), _cell(data.file(i)), _cell(name), digest])
    return out.getvalue()


def prediction_table(data: ImageSet, predictions: Predictions) -> str:
    """Return CSV: one row an image, with everything that a metric needs.

    Columns: id (position in the set as loaded), file, label, prediction, then `logit:<class>`
    with nine digits, which is float32 exactly, and `p:<class>`, the softmax of the logits.
    """
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    names = [_cell(name) for name in data.classes]
    columns = [f"logit:{name}" for name in names] + [f"p:{name}" for name in names]
    table.writerow(["id", "file", "label", "prediction", *columns])
    shares = predictions.logits.double().softmax(1)
    rows = zip(
        predictions.index.tolist(), predictions.targets.tolist(), predictions.labels.tolist(),
        predictions.logits.tolist(), shares.tolist(), strict=True,
    )  # fmt: skip
    for index, target, label, logits, p in rows:
        numbers = [f"{value:.9g}" for value in logits] + [f"{value:.6g}" for value in p]
        row = int(data.rows[index])
        table.writerow([row, _cell(data.file(index)), names[target], names[label], *numbers])
    return out.getvalue()


def metrics_table(rows: Iterable[dict[str, Any]]) -> str:
    """Return CSV of the rows of `metrics.jsonl`, one column a number."""
    flat = [_flatten(row) for row in rows]
    columns = list(dict.fromkeys(key for row in flat for key in row))
    out = io.StringIO()
    table = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(flat)
    return out.getvalue()


def _flatten(row: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in row.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}/"))
        else:
            flat[prefix + key] = "" if value is None else value
    return flat


def _cell(text: str) -> str:
    """Return `text` so that no spreadsheet takes it for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
