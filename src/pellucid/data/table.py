"""A table of images: a CSV file that names the class of each image file."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch

from pellucid.data.classes import check_classes, check_spelling, ordered, tidy
from pellucid.data.files import Source, image_files, load_files
from pellucid.data.folder import PART_NAMES, Gigabytes, Share, Size
from pellucid.data.listing import Found, found, stamp
from pellucid.errors import BadData, DataNotFound, did_you_mean
from pellucid.values import ImageSet, Loaded, Progress, no_progress


class Csv(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="csv", tag_field="name"):
    """Images named in a CSV file with the columns `path`, `label` and, if it likes, `split`.

    Classes that are all whole numbers are sorted as numbers, else by their UTF-8 bytes.

    Args:
        path: the CSV file, UTF-8, with a header. `split` is train, val (valid, validation) or test;
            other columns are ignored. Image paths are relative to the file's folder, or absolute.
        images_root: the folder that image paths are relative to, if it is another.
        validation: share of the training images that becomes validation, where no row is for it.
        test: share of the images that becomes the test part, where no row is for it.
        size: height and width that the images get; 0 chooses as `Folder` does.
        memory: gigabytes; larger sets stay on disk and are mapped.
        skip_unreadable: go on without the files that are no readable images.
        group_column: a column that says which images belong together (a patient, a video); those
            of one group are never in two parts that are split off here.
        relabel: a CSV file of corrected labels, such as the predictions/suspects.csv of a k-fold
            once a person has filled it in; the data itself is not changed.
    """

    path: str
    images_root: str = ""
    validation: Share = 0.1
    test: Share = 0.1
    size: Size = 0
    memory: Gigabytes = 2.0
    skip_unreadable: bool = False
    group_column: str = ""
    relabel: str | None = None

    def load(self, progress: Progress = no_progress) -> Loaded:
        """Return the images, decoded or from the cache.

        Raises:
            DataNotFound: if there is no such table, or images that it names are missing.
            UnreadableImages: if files are no images.
            BadData: naming the line, if the table does not say what is needed.
        """
        table = Path(self.path).expanduser()
        root = Path(self.images_root).expanduser() if self.images_root else table.parent
        lines = list(read_lines(table, self.group_column))
        check_spelling(self.path, (line.label for line in lines))
        unique, notes = without_repeats(table, lines)
        rows = _found(table, root, unique, progress)
        classes = order_of({line.label for line in lines})
        files = image_files(classes, rows)
        check_classes(self.path, classes, files.labels, files.parts)
        source = Source(
            name=table.stem,
            place=f"{table.resolve()}\0{root.resolve()}",
            stamp=stamp(rows),
            listing=lambda: files,
            size=self.size,
            memory=self.memory,
            skip_unreadable=self.skip_unreadable,
            notes=notes,
        )
        loaded = replace(load_files(source, progress), relabel=self.relabel)
        return _with_groups(loaded, unique) if self.group_column else loaded


class Line(NamedTuple):
    """A line of the table, checked by itself."""

    number: int
    path: str
    label: str
    part: str
    group: str


def read_lines(table: Path, group: str) -> Iterator[Line]:
    """Yield the lines of the table, each checked by itself."""
    try:
        # utf-8-sig: spreadsheets put a mark in front, which would become part of "path".
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True, skipinitialspace=True)
            header = [name.strip() for name in next(reader, [])]
            _check_header(table, header, group)
            for cells in reader:
                if cells:
                    yield _line(table, reader.line_num, header, cells, group)
    except (FileNotFoundError, NotADirectoryError):
        raise DataNotFound(f"The table {table} does not exist.") from None
    except OSError as error:
        raise BadData(f"The table {table} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError as error:
        raise BadData(f"The table {table} is not UTF-8 ({error}). Save it as UTF-8.") from None
    except csv.Error as error:
        raise BadData(f"{table}, line {reader.line_num}: {error}.") from None


def _check_header(table: Path, header: list[str], group: str) -> None:
    for column in ("path", "label", *([group] if group else [])):
        if header.count(column) != 1:
            given = ", ".join(header) or "nothing"
            raise BadData(
                f'{table}, line 1: there must be one column "{column}". Got {given}'
                f"{did_you_mean(column, header) if column not in header else ''}"
                "\nThe first line names the columns: path,label or path,label,split"
                f"{', and the group column' if group else ''}."
            )


def _line(table: Path, number: int, header: list[str], cells: list[str], group: str) -> Line:
    if len(cells) != len(header):
        raise BadData(
            f"{table}, line {number}: {len(cells)} cells under {len(header)} columns. "
            "Texts with a comma need quotes."
        )
    row = dict(zip(header, (cell.strip() for cell in cells), strict=True))
    for column in ("path", "label", *([group] if group else [])):
        if not row[column]:
            raise BadData(f"{table}, line {number}: the {column} is empty.")
    split = row.get("split", "train")
    part = PART_NAMES.get(split.lower())
    if part is None:
        raise BadData(
            f"{table}, line {number}: split must be one of {', '.join(PART_NAMES)}. "
            f'Got "{split}"{did_you_mean(split, PART_NAMES)}'
        )
    return Line(number, row["path"], tidy(row["label"]), part, row[group] if group else "")


def _with_groups(loaded: Loaded, lines: list[Line]) -> Loaded:
    """Return `loaded` with the groups of its images, which all parts share."""
    names = {tidy(line.path): line.group for line in lines}
    number = {name: i for i, name in enumerate(sorted(set(names.values())))}
    of_row = [number.get(names.get(file, ""), -1) for file in loaded.train.files]
    groups = torch.tensor(of_row)

    def grouped(part: ImageSet | None) -> ImageSet | None:
        return part and replace(part, groups=groups)

    return replace(
        loaded,
        train=replace(loaded.train, groups=groups),
        validation=grouped(loaded.validation),
        test=grouped(loaded.test),
        notes=(*loaded.notes, f"{len(number)} groups of images that stay together"),
    )


def without_repeats(table: Path, lines: list[Line]) -> tuple[list[Line], tuple[str, ...]]:
    """Return one line per image; lines that contradict each other are an error."""
    first: dict[str, Line] = {}
    for line in lines:
        other = first.setdefault(os.path.normpath(line.path), line)
        if other[2:] != line[2:]:
            raise BadData(
                f"{table}: {line.path} is {other.label} ({other.part}) in line {other.number}, "
                f"but {line.label} ({line.part}) in line {line.number}. Remove one of them."
            )
    repeats = len(lines) - len(first)
    notes = (f"{repeats} lines repeat another and were ignored.",) if repeats else ()
    return list(first.values()), notes


def _found(
    table: Path, root: Path, lines: list[Line], progress: Progress
) -> list[tuple[Found, str, str]]:
    """Return file, class and part of each line, in the order of the table."""
    rows: list[tuple[Found, str, str]] = []
    missing: list[Line] = []
    for number, line in enumerate(lines):
        path = os.path.join(root, line.path)
        if os.path.isfile(path):
            rows.append((found(tidy(line.path), path, os.stat(path)), line.label, line.part))
        else:
            missing.append(line)
        if number % 1000 == 0:
            progress("looking for files", number, len(lines))
    if missing:
        shown = "".join(f"\n  line {line.number}: {line.path}" for line in missing[:10])
        more = f"\n  and {len(missing) - 10} more" if len(missing) > 10 else ""
        raise DataNotFound(
            f"{len(missing)} of {len(lines)} images that {table} names are not in {root}:"
            f"{shown}{more}\nPaths are relative to the table, or to --data.images-root."
        )
    return rows


def order_of(names: set[str]) -> tuple[str, ...]:
    """Return class names in order: as numbers if all are whole numbers, else by their bytes."""
    try:
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    except ValueError:
        return ordered(names)
