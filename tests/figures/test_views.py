"""Pictures of the views: drawn for every kind of model, with proof and origin on them."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from pellucid.figures import shapes
from pellucid.figures.frame import BAD, GOOD, balanced
from pellucid.figures.render import png
from pellucid.figures.shapes import draw_shapes
from pellucid.viewdata import DoesNotApply, Proof
from pellucid.views.catalogue import VIEWS, View, find_view
from pellucid.views.options import Options
from tests.views.subjects import subject_of

ALL = [pytest.param(view, id=view.name) for view in VIEWS]


def texts(figure: Figure) -> list[tuple[str, str]]:
    return [
        (t.get_text().replace("\xa0", " "), to_hex(t.get_color()))
        for part in figure.subfigs
        for t in part.texts
    ]


@pytest.mark.parametrize("kind", ["own", pytest.param("resnet", marks=pytest.mark.slow)])
@pytest.mark.parametrize("view", ALL)
def test_a_picture_says_what_it_shows_and_what_it_rests_on(view: View, kind: str) -> None:
    few = view.name in (
        "activations", "excite", "receptive-field", "ablation", "health", "patches", "landscape",
        "robustness",
    )  # fmt: skip
    try:
        data = view.compute(subject_of(kind), Options(count=8) if few else Options())
    except DoesNotApply:
        pytest.skip("not for this model")
    figure = view.draw(data)
    found = texts(figure)
    assert any(data.title[:20] in text for text, _ in found)
    for proof in data.proofs:
        assert any(proof.line.startswith(text[:30]) for text, _ in found), proof.line
    picture = png(figure, dpi=50)
    assert picture.startswith(b"\x89PNG")
    width, height = figure.get_size_inches()
    assert width <= 16
    assert height <= 40


def test_a_failed_identity_is_red_and_says_so() -> None:
    view = find_view("shapes")
    data = view.compute(subject_of("own"), Options())
    bad = dataclasses.replace(data, proofs=(Proof("a - b", 0.5, 0.1), Proof("c - d", 0, 0)))
    found = texts(view.draw(bad))
    assert ("a - b = 0.5, tolerance 0.1: DOES NOT HOLD", BAD) in found
    assert ("c - d = 0, tolerance 0: ok", GOOD) in found
    assert BAD == "#c00000"


def test_rows_that_are_left_out_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    data = find_view("shapes").compute(subject_of("own"), Options())
    whole = len(data.numbers["layers"])
    title = draw_shapes(data).subfigs[1].axes[0].get_title()
    assert title == "out shape, by formula"
    monkeypatch.setattr(shapes, "MOST", 3)
    title = draw_shapes(data).subfigs[1].axes[0].get_title()
    assert f"(3 of {whole} operations" in title


@pytest.mark.parametrize("name", ["logits", "microscope", "filters", "kinds", "attribution"])
def test_a_model_whose_weights_are_all_0_is_drawn(name: str) -> None:
    subject = subject_of("own")
    with torch.no_grad():
        for parameter in subject.model.parameters():
            parameter.zero_()
    view = find_view(name)
    data = view.compute(subject, Options())
    assert data.ok, [proof.line for proof in data.proofs if not proof.ok]
    assert png(view.draw(data), dpi=50).startswith(b"\x89PNG")


def test_words_stay_whole_and_lines_alike() -> None:
    assert balanced("12 of 100 %", 9) == ["12 of", "100\xa0%"]
    assert balanced("a title of one line", 80) == ["a title of one line"]


def test_nothing_positive_is_written_not_stretched() -> None:
    view = find_view("attribution")
    data = view.compute(subject_of("own"), Options())
    data.numbers["methods"]["Grad-CAM"]["evidence"] = "no positive evidence"
    figure = view.draw(data)
    words = [t.get_text().replace("\n", " ") for part in figure.subfigs
             for sub in part.subfigs for axis in sub.axes for t in axis.texts]  # fmt: skip
    assert "no positive evidence" in words
