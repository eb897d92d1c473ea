"""What the pictures of the labs share: words hide no line, files are the same each time."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pellucid.labs import drawing
from pellucid.labs.page import picture


def crowded(columns: int = 3, size: tuple[float, float] = (9, 4.5)) -> Figure:
    figure, (axis, _) = drawing.sheet("many lines", 2, size=size)
    for k in range(6):
        axis.plot([0, 1], [k, 5 - k], label=f"line number {k}")
    drawing.finish(axis, "all over the place", "x", "y")
    drawing.key_below(axis, columns)
    return figure


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("size", [(9.0, 4.5), (7.0, 7.0)])
def test_a_key_below_hides_nothing_and_is_not_cut_off(
    columns: int, size: tuple[float, float]
) -> None:
    figure = crowded(columns, size)
    FigureCanvasAgg(figure).draw()
    axis = figure.axes[0]
    legend = axis.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        f"line number {k}" for k in range(6)
    ]
    words = legend.get_window_extent()
    assert words.y1 <= axis.xaxis.label.get_window_extent().y0
    assert words.y0 >= 0
    assert words.x0 >= 0
    assert words.x1 <= figure.axes[1].get_window_extent().x1


def test_a_key_below_can_name_what_is_no_line() -> None:
    figure, (axis,) = drawing.sheet("patches")
    (bar,) = axis.bar([0], [1])
    bar.set_label("a bar")
    drawing.finish(axis, "one", "x", "y")
    drawing.key_below(axis, 1, [bar])
    legend = axis.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["a bar"]


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_picture_is_the_same_file_each_time(kind: str) -> None:
    assert picture(crowded(), kind) == picture(crowded(), kind)


def test_an_svg_file_stands_alone_on_white_paper() -> None:
    file = picture(crowded(), "svg")
    root = ElementTree.fromstring(file)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root[0].tag.endswith("rect")
    assert root[0].get("fill") == "white"
    assert b"line number 5" in file
