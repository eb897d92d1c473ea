"""Findings about copies: in two parts, in one part, with two labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pellucid.checks.data_duplicates import PARTS, Copies, Pair
from pellucid.checks.data_text import DataFinding, listed, plural

MANY = 0.01
"""From this share of equal images in another part on, the figures of a part mean little."""
CROSSINGS = ((1, 0), (2, 0), (2, 1))
"""Pairs of parts: the one that judges first."""

Found = Mapping[tuple[int, int], list[Pair]]


class Known(NamedTuple):
    """What is known of the images whose copies are told.

    Args:
        names: of the images.
        labels: their labels.
        classes: names of the classes.
        counts: readable images of each of PARTS.
        apart: chance that the split of a run puts two training images into two parts, in [0, 1].
    """

    names: Sequence[str]
    labels: Sequence[int]
    classes: Sequence[str]
    counts: Sequence[int]
    apart: float

    def differ(self, pair: Pair) -> bool:
        """Return whether the two have different labels."""
        return self.labels[pair.one] != self.labels[pair.other]

    def item(self, pair: Pair) -> dict[str, Any]:
        """Return a pair as a row for people and machines."""
        item: dict[str, Any] = {"file": self.names[pair.one], "copy": self.names[pair.other]}
        if self.differ(pair):
            labels = [self.classes[self.labels[at]] for at in (pair.one, pair.other)]
            item["labels"] = " and ".join(labels)
        if pair.exact and not pair.same_file:
            item["stored"] = "differently"
        if not pair.exact:
            item["distance"] = round(pair.distance, 4)
        if pair.mirrored:
            item["mirrored"] = "yes"
        return item


def copy_findings(copies: Copies, known: Known) -> Iterator[DataFinding]:
    """Yield what is to be said of copies."""
    exact = {crossing: copies.exact(*crossing) for crossing in CROSSINGS}
    nearly = {crossing: copies.nearly(*crossing) for crossing in CROSSINGS}
    yield from _leaks("copies-in-two-parts", exact, "pixel by pixel", known)
    yield from _leaks("near-copies-in-two-parts", nearly, "nearly the same", known)
    inside = range(len(PARTS))
    within = {(part, part): copies.exact(part, part) for part in inside}
    alike = {(part, part): copies.nearly(part, part) for part in inside}
    yield from _within("copies", "pixel by pixel the same as another", within, known)
    yield from _within("near-copies", "nearly the same as another", alike, known)
    every = [pair for found in (exact, nearly, within, alike) for pair in _flat(found)]
    yield from _conflicts([pair for pair in every if known.differ(pair)], known)


def _flat(found: Found) -> list[Pair]:
    return [pair for pairs in found.values() for pair in pairs]


def _leaks(name: str, found: Found, how: str, known: Known) -> Iterator[DataFinding]:
    """Yield what is to be said of images that are in two parts."""
    told = {crossing: pairs for crossing, pairs in found.items() if pairs}
    if not told:
        return
    texts, numbers, share = [], {}, 0.0
    for (part, other), pairs in told.items():
        n, of = len(pairs), known.counts[part]
        share = max(share, n / of)
        texts.append(
            f"{n:,} of {of:,} {PARTS[part]} images ({n / of:.2%}) are also in {PARTS[other]}, {how}"
        )
        numbers[f"{PARTS[part]}_in_{PARTS[other]}"] = n
    much = name == "copies-in-two-parts" and share >= MANY
    yield DataFinding(
        name,
        "error" if much else "warning",
        "; ".join(texts) + (". A score on them says little of new images." if much else "."),
        numbers,
        "Keep all copies of an image in one part: remove those in the part that judges.",
        tuple(known.item(pair) for pair in _flat(told)),
    )


def _within(name: str, how: str, found: Found, known: Known) -> Iterator[DataFinding]:
    """Yield what is to be said of copies inside the parts."""
    pairs = _flat(found)
    if not pairs:
        return
    training = len(found[0, 0])
    verb = "is" if len(pairs) == 1 else "are"
    text = f"{plural(len(pairs), 'image')} of {sum(known.counts):,} {verb} {how} of its part."
    if known.apart and training:
        text += (
            " A run draws parts from the training images, and tears a pair apart with a chance of "
            f"{known.apart:.0%}: about {known.apart * training:,.1f} of {training:,} here."
        )
    yield DataFinding(
        name,
        "warning",
        text,
        {"n": len(pairs), "of": sum(known.counts), "training": training},
        "Remove all but one of each, or they count twice and get to both sides of a split.",
        tuple(known.item(pair) for pair in pairs),
    )


def _conflicts(pairs: list[Pair], known: Known) -> Iterator[DataFinding]:
    """Yield what is to be said of copies whose labels differ."""
    if not pairs:
        return
    equal = sum(pair.exact for pair in pairs)
    near = len(pairs) - equal
    texts = [f"{plural(equal, 'pair')} of equal images"] if equal else []
    texts += [f"{plural(near, 'pair')} of nearly equal images"] if near else []
    verb = "has" if len(pairs) == 1 else "have"
    yield DataFinding(
        "copies-with-two-labels",
        "warning",
        f"{listed(texts)} {verb} different labels.",
        {"equal": equal, "near": near},
        "At least one label of each pair is wrong, or the classes overlap: look at them.",
        tuple(known.item(pair) for pair in pairs),
    )
