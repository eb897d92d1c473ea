"""A figure as the bytes of a picture, or as SVG for a page. Nothing is written to the disk."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib
from matplotlib.figure import Figure

Drawing = Callable[[], Figure]
"""What draws a figure when it is called."""

INK = "#0a0b0c"
"""Stands for the colour of the page's text while an SVG is drawn."""

DARK = ("#444444", "#000000", "black")
"""Ink that figures use by name; on a page it is the colour of the text as well."""

PAGE: Any = {
    "svg.hashsalt": "pellucid",  # the same ids each time
    "svg.fonttype": "none",  # text stays text, in the reader's own font
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.facecolor": "none",
    **dict.fromkeys(
        (
            "text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor",
            "xtick.color", "ytick.color", "legend.labelcolor",
        ),
        INK,
    ),
}  # fmt: skip

NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def png(figure: Figure, dpi: int = 120) -> bytes:
    """Return `figure` as a PNG picture; the same bytes for the same figure."""
    out = io.BytesIO()
    with _any_script():
        figure.savefig(out, format="png", dpi=dpi, metadata={"Software": None})
    return out.getvalue()


def pdf(figure: Figure) -> bytes:
    """Return `figure` as a PDF document; the same bytes for the same figure."""
    out = io.BytesIO()
    with _any_script():
        figure.savefig(out, format="pdf", metadata={"CreationDate": None, "Producer": None})
    return out.getvalue()


def svg(build: Drawing, prefix: str) -> str:
    """Return the figure that `build` makes as an `<svg>` element to stand in an HTML page.

    It has no background and the page's own text colour, so that it fits light and dark pages.
    All its ids begin with `prefix`, so that several figures fit one page; it holds no address.

    Args:
        build: makes the figure; called once.
        prefix: letters, digits and hyphens.
    """
    out = io.StringIO()
    with matplotlib.rc_context(PAGE), _any_script():
        build().savefig(out, format="svg", metadata=NO_METADATA)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = _own_ids(text, prefix)
    text = re.sub(r' width="[\d.]+pt" height="[\d.]+pt"', "", text, count=1)
    for colour in (INK, *DARK[:2]):
        text = text.replace(colour, "currentColor")
    return text.strip()


def _own_ids(text: str, prefix: str) -> str:
    """Return an SVG with `prefix` before each id, and numbers for those that are hashes.

    Matplotlib hashes places to their last bit, and its layout engine does not repeat that bit.
    """
    numbers: dict[str, str] = {}

    def named(found: re.Match[str]) -> str:
        name = found[2]
        if re.fullmatch("[a-z]*[0-9a-f]{10}", name):
            name = numbers.setdefault(name, f"n{len(numbers)}")
        return f"{found[1]}{prefix}-{name}"

    return re.sub(r'( id="|url\(#|href="#)([^")]+)', named, text)


@contextlib.contextmanager
def _any_script() -> Iterator[None]:
    """Draw names in any script without a warning each; a letter that the font lacks is a box."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield
