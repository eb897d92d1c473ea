"""The tables of a run folder: which image is where, the metrics as CSV.

Of predictions: `predictions.py` beside this file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from pellucid.data.relabel import fingerprints as image_digests
from pellucid.values import ImageSet, Splits

GUARDED = ("=", "+", "-", "@", "\t", "\r", "'")
"""A cell that begins with one of these gets an apostrophe in front."""


def split_table(splits: Splits) -> str:
    """Return CSV: part, position, file, label and SHA-256 (first 16 bytes) of each image's pixels.

    Equal pixels have equal hashes, so a leak between parts can be found without any model.
    """
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["part", "id", "file", "label", "sha256"])
    for part in ("train", "validation", "test"):
        data: ImageSet = getattr(splits, part)
        labels, ids = data.targets.tolist(), data.rows.tolist()
        names = [cell(name) for name in data.classes]
        for chunk in torch.arange(len(data)).split(1000):
            for i, digest in zip(chunk.tolist(), image_digests(data.pixels(chunk)), strict=True):
                table.writerow([part, ids[i], cell(data.file(i)), names[labels[i]], digest])
    return out.getvalue()


def fingerprints(path: Path, part: str) -> dict[int, str]:
    """Return the SHA-256 of each image of `part` by id, from what `split_table` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        return {int(row["id"]): row["sha256"] for row in rows if row["part"] == part}


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


def cell(text: str) -> str:
    """Return `text` so that no spreadsheet takes it for a formula; `uncell` undoes it.

    >>> cell("=1+1"), cell("ant"), uncell(cell("'=1")) == "'=1"
    ("'=1+1", 'ant', True)
    """
    return f"'{text}" if text[:1] in GUARDED else text


def uncell(text: str) -> str:
    """Return what `cell` was given."""
    return text[1:] if text[:1] == "'" and text[1:2] in GUARDED else text
