"""What a data check is to look at: image files in folders, tables and archives, or known sets.

Unlike for training nothing that can be told is an error here: links that are refused, files that
are missing and classes that are empty become findings, and the rest is looked at all the same.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.checks.data_pictures import Item
from pellucid.checks.data_text import DataFinding, plural
from pellucid.data import table
from pellucid.data.archive import read_archive
from pellucid.data.classes import PARTS, check_spelling, tidy
from pellucid.data.decode import Picture
from pellucid.data.files import read_file
from pellucid.data.folder import Arranged, Folder, arrange
from pellucid.data.listing import JUNK, Found, Listing, check_twins, survey
from pellucid.data.measured import Measured, measured
from pellucid.data.table import Csv
from pellucid.data.workers import Workers
from pellucid.errors import BadData
from pellucid.values import DataSource, ImageSet, Progress


class Rows(NamedTuple):
    """Which class and part each image belongs to.

    Args:
        classes: names of the classes, also of those without images.
        at: positions of the images among all items; the others are of no class.
        labels: of these, positions in `classes`.
        parts: of these, positions in PARTS.
        named: the classes that each part names.
        notes: what was noticed.
        findings: what is wrong.
    """

    classes: tuple[str, ...]
    at: Sequence[int]
    labels: Sequence[int]
    parts: Sequence[int]
    named: dict[str, frozenset[str]]
    notes: tuple[str, ...] = ()
    findings: tuple[DataFinding, ...] = ()


class Pile(NamedTuple):
    """Images that have not been looked at yet.

    Args:
        name: what a person calls them.
        place: where they lie.
        items: the images, in order.
        total: how many there are, 0 if that is only known after `items`.
        rows: called after all of `items` were taken.
    """

    name: str
    place: str
    items: Iterator[Item]
    total: int
    rows: Callable[[], Rows]


def pile_of(source: DataSource, progress: Progress) -> Pile:
    """Return what is to be looked at in `source`.

    Raises:
        DataNotFound: if there is nothing.
        BadData: if its layout is none that is known.
    """
    if isinstance(source, Folder):
        return _folder(source, progress)
    if isinstance(source, Csv):
        return _table(source)
    return _known(source, progress)


def _folder(folder: Folder, progress: Progress) -> Pile:
    place = Path(folder.path).expanduser()
    listing = survey(place, progress)
    found = arrange(folder.path, listing)
    rows = _arranged(folder.path, listing, found)
    return _files(place.resolve().name, str(place), found.rows, rows)


def _files(name: str, place: str, files: Sequence[tuple[Found, str, str]], rows: Rows) -> Pile:
    items = (
        Item(file.name, f"{part}/{label}", partial(_read, file.path)) for file, label, part in files
    )
    return Pile(name, place, items, len(files), lambda: rows)


def _read(path: str, workers: Workers, wanted: bool) -> tuple[Measured, bytes]:
    return _decoded(read_file(path), workers, wanted)


def _decoded(content: bytes, workers: Workers, wanted: bool) -> tuple[Measured, bytes]:
    return workers.measure(content, wanted), hashlib.blake2b(content, digest_size=16).digest()


def _arranged(place: str, listing: Listing, found: Arranged) -> Rows:
    number = {name: label for label, name in enumerate(found.classes)}
    findings = [
        *_refused(listing),
        *_names([partial(check_spelling, place, names) for names in found.spelled.values()]
                + [partial(check_spelling, place, found.classes)]),
        *_names([partial(check_twins, listing.files)]),
    ]  # fmt: skip
    return Rows(
        found.classes,
        range(len(found.rows)),
        [number[label] for _, label, _ in found.rows],
        [PARTS.index(part) for _, _, part in found.rows],
        {part: frozenset(map(tidy, names)) for part, names in found.spelled.items()},
        listing.notes + found.notes,
        tuple(findings),
    )


def _refused(listing: Listing) -> Iterator[DataFinding]:
    if listing.refused:
        yield DataFinding(
            "refused-links", "error",
            f"In the folder: {plural(len(listing.refused), 'link')} to elsewhere or nowhere.",
            {"n": len(listing.refused)},
            "A link may lead to a file inside the folder only: training stops at this.",
            tuple({"file": name, "reason": why} for name, why in sorted(listing.refused)),
        )  # fmt: skip


def _names(checks: Sequence[Callable[[], None]]) -> Iterator[DataFinding]:
    """Yield what checks of names say, the first of them."""
    for check in checks:
        try:
            check()
        except BadData as error:
            yield DataFinding(
                "names-alike", "error", str(error), {},
                "On some file systems they are one; training stops at this.",
            )  # fmt: skip
            return


def _table(source: Csv) -> Pile:
    path = Path(source.path).expanduser()
    root = Path(source.images_root).expanduser() if source.images_root else path.parent
    lines, notes = table.without_repeats(path, list(table.read_lines(path, source.group_column)))
    there = [line for line in lines if os.path.isfile(root / line.path)]
    classes = table.order_of({line.label for line in lines})
    number = {name: label for label, name in enumerate(classes)}
    findings = [*_missing(lines, there), *_names([partial(check_spelling, source.path, classes)])]
    named = {part: frozenset(x.label for x in lines if x.part == part) for part in PARTS}
    rows = Rows(
        classes,
        range(len(there)),
        [number[line.label] for line in there],
        [PARTS.index(line.part) for line in there],
        {part: names for part, names in named.items() if names},
        notes,
        tuple(findings),
    )
    items = (
        Item(tidy(line.path), f"{line.part}/{line.label}", partial(_read, str(root / line.path)))
        for line in there
    )
    return Pile(path.stem, str(path), items, len(there), lambda: rows)


def _missing(lines: Sequence[Any], there: Sequence[Any]) -> Iterator[DataFinding]:
    missing = sorted(set(lines) - set(there))
    if missing:
        yield DataFinding(
            "missing-files", "error",
            f"Not found: {plural(len(missing), 'image')} of {len(lines):,} in the table.",
            {"n": len(missing), "of": len(lines)},
            "Paths are relative to the table, or to --data.images-root.",
            tuple({"file": line.path, "line": line.number} for line in missing),
        )  # fmt: skip


def archive_pile(path: Path) -> Pile:
    """Return the images in an archive, which is read once and not unpacked.

    Raises:
        BadData: while its items are taken, if the archive is damaged or refused.
    """
    listing = Listing()
    order: list[int] = []

    def items() -> Iterator[Item]:
        for name, content in read_archive(path):
            if any(part.startswith(".") or part.lower() in JUNK for part in name.split("/")):
                listing.ignored["hidden or system files were"] += 1
                continue
            listing.files.append(Found(tidy(name), "", len(content), 0, 0))
            group = name.rpartition("/")[0]
            yield Item(tidy(name), group, partial(_decoded, content), len(content))

    def rows() -> Rows:
        position = {id(file): at for at, file in enumerate(listing.files)}
        folders = {name for file in listing.files for name in _folders(file.name)}
        listing.folders = sorted(folders)
        found = arrange(str(path), listing)
        order.extend(position[id(file)] for file, _, _ in found.rows)
        return _arranged(str(path), listing, found)._replace(at=order)

    return Pile(path.name.split(".")[0], str(path), items(), 0, rows)


def _folders(name: str) -> Iterator[str]:
    while name := name.rpartition("/")[0]:
        yield name


def _known(source: DataSource, progress: Progress) -> Pile:
    """Return the images of a set that is read as a whole."""
    loaded = source.load(progress)
    parts = (loaded.train, loaded.validation, loaded.test)
    sets = [(number, part) for number, part in enumerate(parts) if part is not None]
    classes = loaded.train.classes
    rows = Rows(
        classes,
        range(sum(len(part) for _, part in sets)),
        [label for _, part in sets for label in part.targets.tolist()],
        [number for number, part in sets for _ in range(len(part))],
        {PARTS[number]: frozenset(part.classes) for number, part in sets},
        loaded.notes,
    )
    items = (item for number, part in sets for item in _images(part, PARTS[number]))
    name = loaded.train.name.rsplit("/", 1)[0]
    return Pile(name, name, items, len(rows.labels), lambda: rows)


def _images(data: ImageSet, part: str) -> Iterator[Item]:
    labels = data.targets.tolist()
    for position, label in enumerate(labels):
        group = f"{part}/{data.classes[label]}" if 0 <= label < len(data.classes) else part
        yield Item(data.describe(position), group, partial(_stored, data, position))


def _stored(
    data: ImageSet, position: int, _workers: Workers, wanted: bool
) -> tuple[Measured, bytes]:
    from PIL import Image

    pixels = data.images[data.rows[position]].numpy()
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0).copy())
    kind = "pixels grey" if len(pixels) == 1 else "pixels RGB"
    return measured(Picture(image, image.size, kind, ()), wanted), b""
