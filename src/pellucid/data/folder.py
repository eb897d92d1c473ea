"""A folder of images: one folder per class, with or without parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec

from pellucid.data.classes import check_classes, check_spelling, ordered, tidy
from pellucid.data.files import Source, image_files, load_files
from pellucid.data.listing import Found, Listing, check_twins, scan, stamp
from pellucid.errors import BadData
from pellucid.values import Loaded, Progress, no_progress

PART_NAMES = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}

Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Size = Annotated[int, msgspec.Meta(ge=0, le=1024)]
Gigabytes = Annotated[float, msgspec.Meta(ge=0)]

LAYOUTS = "train/<class>/*, with val/ and test/ alike if there are any; or just <class>/*"


class Folder(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="folder", tag_field="name"
):
    """Images in folders named as their classes: `train/ val/ test/` by class, or not split.

    Args:
        path: the folder. It is only read.
        validation: share of the training images that becomes validation, where there is no `val/`.
        test: share of the images that becomes the test part, where there is no `test/`.
        size: height and width that the images get, in pixels. 0 chooses: that of the images if
            they are all square of one size up to 64; else the median of the shorter sides, rounded
            down to a multiple of 8, from 8 to 64.
        memory: gigabytes; larger sets stay on disk and are mapped.
        skip_unreadable: go on without the files that are no readable images.
        relabel: a CSV file of corrected labels, such as the predictions/suspects.csv of a k-fold
            once a person has filled it in; the data itself is not changed.
    """

    path: str
    validation: Share = 0.1
    test: Share = 0.1
    size: Size = 0
    memory: Gigabytes = 2.0
    skip_unreadable: bool = False
    relabel: str | None = None

    def load(self, progress: Progress = no_progress) -> Loaded:
        """Return the images, decoded or from the cache.

        Images are grey, (M, 1, H, W), if all files are grey, else RGB; see `decode` for what
        becomes of other kinds.

        Raises:
            DataNotFound: if there is no such folder.
            UnreadableImages: if files are no images.
            BadData: if the folder has no classes, or a class is empty or only in one part.
        """
        name = Path(self.path).expanduser().resolve().name
        loaded = load_files(folder_source(self, name, 0, progress), progress)
        return replace(loaded, relabel=self.relabel)


def folder_source(folder: Folder, name: str, channels: int, progress: Progress) -> Source:
    """Return the images of `folder`, called `name`; `channels` 0 is chosen by the images.

    Raises:
        DataNotFound: if there is no such folder.
        BadData: if it has no classes, or classes that cannot be learnt from.
    """
    place = Path(folder.path).expanduser()
    listing = scan(place, progress)
    found = arrange(folder.path, listing)
    for names in found.spelled.values():
        check_spelling(folder.path, names)
    check_spelling(folder.path, found.classes)
    check_twins(listing.files)
    files = image_files(found.classes, found.rows)
    check_classes(folder.path, found.classes, files.labels, files.parts)
    return Source(
        name=name,
        place=str(place.resolve()),
        stamp=stamp(found.rows),
        listing=lambda: files,
        size=folder.size,
        channels=channels,
        memory=folder.memory,
        skip_unreadable=folder.skip_unreadable,
        notes=listing.notes + found.notes,
    )


class Arranged(NamedTuple):
    """Files by class and part, as their folders say.

    Args:
        classes: names of the classes, also of those without files.
        rows: file, class and part of each image.
        spelled: the classes that each part names, as the file system spells them.
        notes: what was noticed.
    """

    classes: tuple[str, ...]
    rows: list[tuple[Found, str, str]]
    spelled: dict[str, list[str]]
    notes: tuple[str, ...]


def arrange(place: str, listing: Listing) -> Arranged:
    """Return classes and parts of what lies in `place`.

    Raises:
        BadData: if the folders follow none of the layouts.
    """
    parts, notes = _parts(place, listing)
    spelled = _spelled(listing, parts)
    rows: list[tuple[Found, str, str]] = []
    for file in listing.files:
        prefix = next((prefix for prefix in parts if file.name.startswith(prefix)), None)
        if prefix is not None and "/" in (rest := file.name.removeprefix(prefix)):
            rows.append((file, rest.split("/")[0], parts[prefix]))
    if others := len(listing.files) - len(rows):
        notes = (*notes, f"{others} files outside the class folders were ignored.")
    classes = ordered(tidy(name) for names in spelled.values() for name in names)
    return Arranged(classes, rows, spelled, notes)


def _parts(place: str, listing: Listing, base: str = "") -> tuple[dict[str, str], tuple[str, ...]]:
    """Return which part lies below which prefix of the files' names, and notes.

    `base` is a leading folder that all lies in, with `/` at the end.
    """
    below = [tidy(name).removeprefix(base) for name in listing.folders if tidy(name) != base[:-1]]
    tops = [name for name in below if "/" not in name]
    named: dict[str, str] = {}
    for top in tops:
        if part := PART_NAMES.get(top.lower()):
            if part in named:
                raise BadData(
                    f"{place} has two folders for one part, {named[part]} and {top}. Remove one."
                )
            named[part] = top
    if "train" in named:
        others = [top for top in tops if top not in named.values()]
        note = f"Folders beside {', '.join(named.values())} were ignored: {', '.join(others[:5])}."
        return {f"{base}{top}/": part for part, top in named.items()}, (note,) if others else ()
    if named:
        raise BadData(
            f"{place} has a folder {next(iter(named.values()))}, but none named train. "
            f"Layouts that work: {LAYOUTS}."
        )
    if not base and len(tops) == 1 and _only_leads(tops[0], below, listing):
        parts, notes = _parts(place, listing, f"{tops[0]}/")
        return parts, (f"The images lie one folder deeper, in {tops[0]}.", *notes)
    if not tops:
        raise BadData(f"There are no class folders in {place}. Layouts that work: {LAYOUTS}.")
    return {base: "train"}, ()


def _only_leads(top: str, below: list[str], listing: Listing) -> bool:
    """Return whether the folder `top` holds folders and no files."""
    files = (file.name for file in listing.files if file.name.startswith(f"{top}/"))
    return len(below) > 1 and all(name.count("/") > 1 for name in files)


def _spelled(listing: Listing, parts: dict[str, str]) -> dict[str, list[str]]:
    """Return the classes that the folders of each part name, also empty ones."""
    spelled: dict[str, list[str]] = {}
    for prefix, part in parts.items():
        depth = prefix.count("/")
        raw = [name for name in listing.folders if tidy(name).startswith(prefix)]
        spelled[part] = [name.split("/")[depth] for name in raw if name.count("/") == depth]
    return spelled
