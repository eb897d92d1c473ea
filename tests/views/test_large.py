"""Views of networks that cost more, such as those of timm: fewer images, fewer rows, said so."""

from __future__ import annotations

import dataclasses

import pytest

from pellucid.figures.receptive import draw_receptive
from pellucid.models.timm import TimmSpec
from pellucid.recipe import Recipe
from pellucid.views import ablation, classes, firststep, health, landscape, life, receptive, step
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


def test_health_looks_at_fewer_copies_of_a_network_that_costs_more(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "WORK", 1)
    data = health.compute(subject, Options(count=8))
    assert data.numbers["steps"] == [0, 10, 30, 40]
    assert any("Sampled at 4 moments, steps 0 to 40 of 5, since" in note for note in data.notes)
    assert data.ok


def test_classes_takes_fewer_images_of_a_network_that_costs_more(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert classes.compute(subject, Options()).provenance["images"].startswith("500 of ")
    monkeypatch.setattr(classes, "WORK", 1)
    data = classes.compute(subject, Options())
    assert data.provenance["images"].startswith("100 of ")
    assert data.ok


def test_the_stages_of_a_run_do_not_pay_for_the_proofs_of_its_first_step(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def costs(*given: object) -> None:
        raise AssertionError(given)

    monkeypatch.setattr(firststep, "check_step", costs)
    assert life.compute(subject, Options()).ok
    with pytest.raises(AssertionError):
        step.compute(subject, Options())


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
