"""Figures as elements of a page: their ids are their own, and the same each time."""

from __future__ import annotations

import re

from matplotlib.figure import Figure

from pellucid.figures.render import svg


def drawing(shift: float) -> Figure:
    """Two axes with lines that are clipped at places that differ by less than is written."""
    figure = Figure(figsize=(4, 2))
    for left in (0.1, 0.6):
        axis = figure.add_axes((left + shift, 0.2, 0.3, 0.6))
        axis.plot([0, 1], [0, 1])
    return figure


def test_ids_do_not_depend_on_the_last_bits_of_a_place() -> None:
    first, again = svg(lambda: drawing(0.0), "one"), svg(lambda: drawing(1e-13), "one")
    assert first == again


def test_ids_are_unique_and_each_use_finds_its_own() -> None:
    pages = [svg(lambda: drawing(0.0), prefix) for prefix in ("one", "other")]
    ids = [name for page in pages for name in re.findall(r' id="([^"]+)"', page)]
    assert len(ids) == len(set(ids))
    for page in pages:
        used = re.findall(r'(?:url\(#|href="#)([^")]+)', page)
        assert any("n0" in name for name in used)
        assert set(used) <= set(re.findall(r' id="([^"]+)"', page))
    clips = re.findall(r"clip-path=\"url\(#([^)]+)", pages[0])
    assert len(set(clips)) == 2  # each axis has a clip of its own
