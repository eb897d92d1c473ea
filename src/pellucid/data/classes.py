"""Classes of images in files: their names, their order, and what makes them fit for training."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from pellucid.errors import BadData

PARTS = ("train", "validation", "test")


def tidy(name: str) -> str:
    """Return `name` in Unicode's composed form (NFC), so that equal looks are equal texts.

    Bytes of a file name that are no UTF-8 are shown as `\\xNN`.
    """
    raw = name.encode("utf-8", "surrogateescape")
    return unicodedata.normalize("NFC", raw.decode("utf-8", "backslashreplace"))


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Return the class names sorted by their UTF-8 bytes, whatever the locale.

    >>> ordered(["b", "a", "B", "10", "9"])
    ('10', '9', 'B', 'a', 'b')
    """
    return tuple(sorted(set(names), key=str.encode))


def check_spelling(place: str, names: Iterable[str]) -> None:
    """Refuse names that differ only in case, composition or dots and blanks at the end.

    On some file systems they are one folder. `names` are as they were found, before `tidy`.

    Raises:
        BadData: naming both, escaped where they would look alike.
    """
    seen: dict[str, str] = {}
    for name in sorted(set(names)):
        first = seen.setdefault(tidy(name).casefold().rstrip(". "), name)
        if first != name:
            raise BadData(
                f"Two classes of {place} have names that differ only in case, accents or dots: "
                f"{first!a} and {name!a}. Rename one, or put their images together."
            )


def check_classes(
    place: str, classes: Sequence[str], labels: Sequence[int], parts: Sequence[str]
) -> None:
    """Refuse data that cannot be learnt from, or judged by.

    Raises:
        BadData: if there are no images, or only one class, or a class has no images in one of the
            parts, or fewer than two to train on.
    """
    if not labels:
        raise BadData(f"There are no images in {place}.")
    counts = {part: Counter[int]() for part in PARTS}
    for label, part in zip(labels, parts, strict=True):
        counts[part][label] += 1
    if len(classes) < 2:
        raise BadData(
            f"A classifier needs at least two classes. {place} has one: "
            f'"{classes[0]}" with {len(labels)} images.'
        )
    used = [part for part in PARTS if counts[part]]
    for label, name in enumerate(classes):
        found = {part: counts[part][label] for part in used}
        shown = ", ".join(f"{count} in {part}" for part, count in found.items())
        if not any(found.values()):
            raise BadData(
                f'The class "{name}" of {place} is empty. Add images to it, or remove it.'
            )
        if not all(found.values()) or "train" not in found:
            raise BadData(
                f'The class "{name}" of {place} is missing in a part: {shown}. '
                "Each class needs images in every part that the data brings."
            )
        if found["train"] < 2:
            raise BadData(
                f'The class "{name}" of {place} has one image to train on ({shown}); '
                "it needs at least two. Add images, or remove the class."
            )
