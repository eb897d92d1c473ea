"""Views of networks that cost more, such as those of timm: fewer images, fewer rows, said so."""

from __future__ import annotations

import dataclasses

import pytest

from pellucid.figures.receptive import draw_receptive
from pellucid.models.timm import TimmSpec
from pellucid.recipe import Recipe
from pellucid.views import ablation, landscape, life, receptive
from pellucid.views.options import Options
from pellucid.views.subject import Subject
from tests.views.subjects import subject_of


def test_ablation_judges_fewer_images_of_a_network_that_costs_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = subject_of("own")
    assert ablation.compute(subject, Options()).numbers["n"].sum() == 40  # all there are
    monkeypatch.setattr(ablation, "WORK", 1)
    data = ablation.compute(subject, Options())
    assert data.numbers["n"].sum() == ablation.LEAST
    assert "on 32 of 40 images" in data.notes[0]
    assert ablation.compute(subject, Options(count=8)).numbers["n"].sum() == 8
    assert data.ok


def test_the_landscape_takes_fewer_images_of_a_network_that_costs_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(landscape, "SIDE", 3)
    monkeypatch.setattr(landscape, "WORK", 1)
    data = landscape.compute(subject_of("own"), Options())
    assert data.numbers["n"] == landscape.LEAST
    assert data.ok


def test_of_pretrained_weights_only_the_head_is_drawn(subject: Subject) -> None:
    assert life._drawn(subject, 1234, 7) == "1,234 numbers drawn from seed 7"
    assert isinstance(subject.recipe, Recipe)
    recipe = subject.recipe.with_(
        model=TimmSpec(arch="tf_efficientnet_lite0", pretrained="package:efficientnet-lite0")
    )
    other = dataclasses.replace(subject, recipe=recipe)
    assert life._drawn(other, 1234, 7) == (
        "1,234 numbers: the head drawn from seed 7, the rest from package:efficientnet-lite0"
    )


def test_receptive_fields_of_many_layers_leave_rows_out_but_never_the_chosen_one() -> None:
    subject = subject_of("resnet")
    data = receptive.compute(subject, Options(count=2, layer="conv"))
    layers = data.numbers["layers"]
    many = [{**layers[0], "layer": f"layer.{i}"} for i in range(60)]
    many[31]["layer"] = "conv"
    data = dataclasses.replace(data, numbers={**data.numbers, "layers": many})
    axis = draw_receptive(data).subfigs[1].axes[2]
    names = [label.get_text().split(",")[0] for label in axis.get_yticklabels()]
    assert 18 <= len(names) <= 19
    assert {"layer.0", "conv", "layer.59"} <= set(names)
    assert axis.get_xlabel() == f"{60 - len(names)} more layers stand in the table"
