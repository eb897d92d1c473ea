"""The data check: what is wrong with a set of images, before anyone trains on it.

Every image is read once, decoded whole, and compared with all others; nothing is written where the
images lie. What it looks for stands in docs/data-check.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.checks.data_classes import class_findings
from pellucid.checks.data_duplicates import PARTS, find_copies
from pellucid.checks.data_files import Pile, Rows, archive_pile, pile_of
from pellucid.checks.data_kinds import kind_findings, sizes
from pellucid.checks.data_leakage import Known, copy_findings
from pellucid.checks.data_order import looks_of, order_findings
from pellucid.checks.data_pictures import EXAMPLES, Pictures, measure
from pellucid.checks.data_text import DataFinding, sorted_findings
from pellucid.errors import BadData
from pellucid.values import DataSource, Progress, no_progress


@dataclass(frozen=True)
class DataReport:
    """What a data check found.

    Args:
        name: what a person calls the data.
        place: where it lies.
        classes: names of the classes.
        counts: readable images by class and part, (K, 3); parts are PARTS.
        files: all images, also those that could not be read.
        kinds: number of images by format and mode.
        sizes: widths and heights, see `data_kinds.sizes`.
        mean: of each channel over the training part, pixels in [0, 1], each image counting alike.
        std: likewise, the standard deviation.
        findings: errors first.
        notes: what was noticed while listing.
        examples: by class: small pictures, uint8 (H, W, 3).
    """

    name: str
    place: str
    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    files: int
    kinds: dict[str, int]
    sizes: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    findings: list[DataFinding]
    notes: tuple[str, ...]
    examples: dict[str, list[NDArray[np.uint8]]]

    def worst(self) -> str:
        """Return the gravest severity among the findings, or `ok`."""
        return self.findings[0].severity if self.findings else "ok"


def check_data(source: DataSource | Path, progress: Progress = no_progress) -> DataReport:
    """Look at all images of `source`, and say what is wrong with them.

    Args:
        source: what a recipe's `data` holds, or the path of an archive.
        progress: told how far this is.

    Raises:
        DataNotFound: if there is nothing.
        BadData: if there are no images, the layout is none that is known, or an archive is damaged
            or refused.

    >>> from pellucid.data.digits import Digits
    >>> report = check_data(Digits())
    >>> report.files, report.worst()
    (6000, 'ok')
    """
    archive = isinstance(source, Path)
    pile = archive_pile(source) if isinstance(source, Path) else pile_of(source, progress)
    shares = (0.0, 0.0) if isinstance(source, Path) else (source.validation, source.test)
    pictures = measure(pile.items, pile.total, progress)
    total = len(pictures) + len(pictures.unreadable)
    rows = pile.rows()
    if archive:
        total = len(rows.at)
        pictures = _chosen(pictures, rows)
    if not total:
        raise BadData(f"There are no images in {pile.place}.")
    return _report(pile, pictures, rows, total, shares, progress)


def _report(
    pile: Pile,
    pictures: Pictures,
    rows: Rows,
    total: int,
    shares: tuple[float, float],
    progress: Progress,
) -> DataReport:
    where = {at: row for row, at in enumerate(rows.at)}
    picked = [where[at] for at in pictures.at.tolist()]
    labels = np.array(rows.labels, np.int64)[picked]
    parts = np.array(rows.parts, np.int64)[picked]
    counts = np.zeros((len(rows.classes), len(PARTS)), np.int64)
    np.add.at(counts, (labels, parts), 1)
    progress("comparing images", 0, 1)
    copies = find_copies(pictures, parts)
    progress("comparing images", 1, 1)
    validation, test = (
        0.0 if counts[:, part].any() else share for part, share in enumerate(shares, 1)
    )
    apart = _apart(validation, test)
    known = Known(pictures.names, labels.tolist(), rows.classes, counts.sum(0).tolist(), apart)
    train = parts == 0
    mean, std = _statistics(pictures, train)
    return DataReport(
        name=pile.name,
        place=pile.place,
        classes=rows.classes,
        counts=counts,
        files=total,
        kinds=dict(Counter(pictures.kinds).most_common()),
        sizes=sizes(pictures),
        mean=mean,
        std=std,
        findings=sorted_findings(
            [
                *rows.findings,
                *kind_findings(pictures, labels, rows.classes, total),
                *class_findings(rows.classes, counts, rows.named),
                *copy_findings(copies, known),
                *order_findings(
                    lambda some: looks_of(
                        pictures.thumbs[some], pictures.mean[some], pictures.square[some]
                    ),
                    labels,
                    parts,
                    rows.classes,
                ),
            ]
        ),
        notes=rows.notes,
        examples=_examples(pictures, labels, rows.classes),
    )


def _apart(validation: float, test: float) -> float:
    """Return the chance that drawing these shares puts two images of a class into two parts."""
    rest = 1 - test
    shares = (test, rest * validation, rest * (1 - validation))
    return 1 - sum(share**2 for share in shares)


def _chosen(pictures: Pictures, rows: Rows) -> Pictures:
    """Return the pictures whose files have a class, in the same order."""
    there = set(rows.at)
    keep = [position for position, at in enumerate(pictures.at.tolist()) if at in there]
    new = {position: number for number, position in enumerate(keep)}
    return Pictures(
        names=[pictures.names[position] for position in keep],
        at=pictures.at[keep],
        files=pictures.files[keep],
        pixels=pictures.pixels[keep],
        hashes=pictures.hashes[keep],
        mirrored=pictures.mirrored[keep],
        thumbs=pictures.thumbs[keep],
        channels=pictures.channels,
        sizes=pictures.sizes[keep],
        kinds=[pictures.kinds[position] for position in keep],
        odd={
            name: found
            for name, positions in pictures.odd.items()
            if (found := [new[position] for position in positions if position in new])
        },
        flat=[new[position] for position in pictures.flat if position in new],
        mean=pictures.mean[keep],
        square=pictures.square[keep],
        unreadable=[row for row in pictures.unreadable if row[0] in there],
        previews={new[p]: image for p, image in pictures.previews.items() if p in new},
    )


def _statistics(
    pictures: Pictures, train: NDArray[np.bool_]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if not train.any():
        return (), ()
    channels = pictures.channels
    mean = pictures.mean[train, :channels].mean(0)
    square = pictures.square[train, :channels].mean(0)
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return tuple(mean.tolist()), tuple(std.tolist())


def _examples(
    pictures: Pictures, labels: NDArray[np.int64], classes: Sequence[str]
) -> dict[str, list[NDArray[np.uint8]]]:
    """Return at most EXAMPLES pictures of each class, spread over those that were kept."""
    kept: dict[str, list[NDArray[np.uint8]]] = {}
    for position, image in sorted(pictures.previews.items()):
        kept.setdefault(classes[int(labels[position])], []).append(image)
    return {
        name: [images[i * len(images) // EXAMPLES] for i in range(EXAMPLES)]
        if len(images) > EXAMPLES
        else images
        for name in classes
        if (images := kept.get(name))
    }
