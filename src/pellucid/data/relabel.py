"""Labels that a person has corrected: a table laid over the labels that the data brings.

The files of the data are never changed. Parts are drawn by the labels that the data brings, so that
each image stays in its part and the test part is the same with and without the table.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pellucid.data.classes import tidy
from pellucid.errors import BadData, DataNotFound, did_you_mean, nearest
from pellucid.values import ImageSet, Relabelled

LEAVE_OUT = "?"
"""Written for a label, it takes the image out."""

COLUMNS = ("id", "file", "label", "relabel", "sha256")
GUARD = ("=", "+", "-", "@", "\t", "\r", "'")

Parts = tuple[ImageSet, ImageSet, ImageSet]


class Line(NamedTuple):
    """A line of the table, checked by itself.

    Args:
        number: in the file, from 1.
        id: position in the set as loaded; empty if the line has none.
        file: name of the image; empty if the images have none.
        label: the class that the data gives.
        relabel: the right class, `?`, or empty for an image that nobody has decided on.
        sha256: of the pixels, 32 hexadecimal digits; empty if it is not to be compared.
    """

    number: int
    id: str
    file: str
    label: str
    relabel: str
    sha256: str

    @property
    def image(self) -> str:
        """What a person calls the image."""
        return self.file or f"image {self.id}"


class Place(NamedTuple):
    """Where an image is.

    Args:
        part: 0 for training, 1 for validation, 2 for test.
        row: in the tensor of its part's images.
    """

    part: int
    row: int


def fingerprint(pixels: Tensor) -> str:
    """Return the first half of the SHA-256 of an image, uint8 (C, H, W), as 32 digits.

    >>> fingerprint(torch.zeros(1, 2, 2, dtype=torch.uint8))
    'df3f619804a92fdb4057192dc43dd748'
    """
    return fingerprints(pixels[None])[0]


def fingerprints(pixels: Tensor) -> list[str]:
    """Return what `fingerprint` says of each image, uint8 (B, C, H, W)."""
    rows = pixels.contiguous().numpy()
    return [hashlib.sha256(row).hexdigest()[:32] for row in rows]


def relabelled(parts: Parts, path: str) -> tuple[Parts, Relabelled]:
    """Return the three parts with the labels that the table corrects, and what it did.

    Args:
        parts: training, validation and test part, as drawn.
        path: CSV, UTF-8, with the columns `label` and `relabel`, and `file` or `id`; `sha256` is
            compared where it is filled in. Other columns are ignored. Images with an empty
            `relabel` keep their label; those with `?` are left out. The table of suspicious labels
            that a k-fold writes has these columns.

    Raises:
        DataNotFound: if there is no such table.
        BadData: naming the line, if the table is damaged, if it names a class or an image that is
            not there, an image twice, or one of the test part, or if an image is not the one meant.
    """
    table = Path(path).expanduser()
    content = _content(table)
    lines = list(_lines(table, content))
    find = _finder(parts)
    places = [_place(table, line, find) for line in lines]
    _check_twice(table, lines, places)
    changed, left_out = [0, 0], [0, 0]
    labels = [parts[0].labels.clone(), parts[1].labels.clone()]
    gone: list[list[int]] = [[], []]
    for line, place in zip(lines, places, strict=True):
        data = parts[place.part]
        _check_image(table, line, data, place.row)
        wanted = _wanted(table, line, data.classes)
        if wanted is None:
            left_out[place.part] += 1
            gone[place.part].append(place.row)
        elif wanted != int(data.labels[place.row]):
            changed[place.part] += 1
            labels[place.part][place.row] = wanted
    train, held = (
        replace(part, labels=labels[i], rows=_without(part.rows, gone[i]))
        for i, part in enumerate(parts[:2])
    )
    sha256 = hashlib.sha256(content).hexdigest()
    return (train, held, parts[2]), Relabelled(path, sha256, tuple(changed), tuple(left_out))


def _content(table: Path) -> bytes:
    try:
        return table.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise DataNotFound(
            f"The table of corrected labels {table} does not exist (--data.relabel). A k-fold "
            "writes one to begin with: predictions/suspects.csv"
        ) from None
    except OSError as error:
        raise BadData(f"The table {table} cannot be read: {error.strerror or error}.") from None


def _lines(table: Path, content: bytes) -> Iterator[Line]:
    """Yield the lines of the table, each checked by itself."""
    try:
        # utf-8-sig: spreadsheets put a mark in front, which would become part of the first name.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadData(f"The table {table} is not UTF-8 ({error}). Save it as UTF-8.") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(table, header)
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) != len(header):
                raise BadData(
                    f"{table}, line {reader.line_num}: {len(cells)} cells under {len(header)} "
                    "columns. Texts with a comma need quotes."
                )
            row = dict(zip(header, map(_plain, cells), strict=True))
            yield Line(reader.line_num, *(row.get(name, "") for name in COLUMNS))
    except csv.Error as error:
        raise BadData(f"{table}, line {reader.line_num}: {error}.") from None


def _plain(cell: str) -> str:
    """Return what a cell says; a mark that keeps spreadsheets from calculating is taken away."""
    cell = cell.strip()
    return tidy(cell[1:] if cell[:1] == "'" and cell[1:2] in GUARD else cell)


def _check_header(table: Path, header: Sequence[str]) -> None:
    missing = [name for name in ("label", "relabel") if header.count(name) != 1]
    if missing or not {"file", "id"} & set(header) or len(set(header)) != len(header):
        separator = " They seem to be separated by semicolons; save them with commas."
        raise BadData(
            f"{table}, line 1: the columns must be label, relabel, and file or id, each once; "
            f"sha256 may follow. Got {', '.join(header) or 'nothing'}."
            f"{separator if len(header) == 1 and ';' in header[0] else ''}"
        )


class _Finder(NamedTuple):
    files: dict[str, Place]
    rows: dict[int, Place]


def _finder(parts: Parts) -> _Finder:
    """Return where each image is, by its file and by its position in the set as loaded."""
    finder = _Finder({}, {})
    for number, part in enumerate(parts):
        for row in part.rows.tolist():
            place = Place(number, row)
            if part.files:
                finder.files[part.files[row]] = place
            elif part.images is parts[0].images:  # else its positions are those of another set
                finder.rows[row] = place
    return finder


def _place(table: Path, line: Line, find: _Finder) -> Place:
    """Return where the image of a line is.

    Raises:
        BadData: if it is nowhere, or in the test part.
    """
    where = f"{table}, line {line.number}"
    if find.files:
        if not line.file:
            raise BadData(f"{where}: the file is empty. The images of this data are named by it.")
        found, known = find.files.get(line.file), list(find.files)
        hint = did_you_mean(line.file, known[:20_000]) if found is None else ""
    else:
        if not line.id.isdecimal():
            raise BadData(f'{where}: the id must be a position in the data. Got "{line.id}".')
        found, hint = find.rows.get(int(line.id)), ""
    if found is None:
        raise BadData(
            f"{where}: {line.image} is not among the images of this data"
            f"{hint or '.'} The table is of other data, or the image was removed: then take the "
            "line out."
        )
    if found.part == 2:
        raise BadData(
            f"{where}: {line.image} is in the test part, whose labels stay as the data gives "
            "them: corrected by what a model says, they would flatter it. Take the line out; if "
            "the label is wrong, correct the data."
        )
    return found


def _check_twice(table: Path, lines: Sequence[Line], places: Sequence[Place]) -> None:
    first: dict[Place, Line] = {}
    for line, place in zip(lines, places, strict=True):
        other = first.setdefault(place, line)
        if other is not line:
            raise BadData(
                f"{table}: {line.image} stands in line {other.number} and in line {line.number}. "
                "Keep one of them."
            )


def _check_image(table: Path, line: Line, data: ImageSet, row: int) -> None:
    """Refuse a line that means another image than the one that it names.

    Raises:
        BadData: if label or pixels differ.
    """
    label = data.classes[int(data.labels[row])]
    if line.label != label:
        raise BadData(
            f"{table}, line {line.number}: {line.image} has the label {label} in the data, and "
            f'"{line.label}" by the table. The table is of other data, or the data was changed.'
        )
    if line.sha256 and line.sha256.lower() != fingerprint(data.images[row]):
        raise BadData(
            f"{table}, line {line.number}: the pixels of {line.image} are not those that the table "
            "was made for (sha256). The image was changed, or it is read in another size or colour "
            "(--data.size). If it is the one that is meant, empty the column sha256."
        )


def _wanted(table: Path, line: Line, classes: Sequence[str]) -> int | None:
    """Return the class that a line asks for, or None to leave the image out."""
    wanted = line.relabel or line.label
    if wanted in classes:
        return classes.index(wanted)
    if wanted == LEAVE_OUT:
        return None
    raise BadData(
        f'{table}, line {line.number}: there is no class "{wanted}"'
        f"{did_you_mean(wanted, classes) or '.'} Known: "
        f"{', '.join(nearest(wanted, classes)[:20])}; {LEAVE_OUT} leaves the image out."
    )


def _without(rows: Tensor, gone: Sequence[int]) -> Tensor:
    return rows[~torch.isin(rows, torch.tensor(gone, dtype=torch.int64))] if gone else rows
