"""Looks inside the model, as they stand in a report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from pellucid import Run, good, steps, train
from pellucid.inspection import attribution
from pellucid.recipe import RecordSpec
from pellucid.report import inside
from pellucid.report.content import images_of
from pellucid.report.inside import looks_inside
from pellucid.report.report import write_report
from pellucid.runs.listing import find
from pellucid.runs.predictions import read_predictions
from pellucid.sinks.console import Console
from pellucid.values import Splits

NAMES = ["filters", "evolution", "activations", "attribution"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A short run of a convolutional network, with its report."""
    recipe = good("digits").with_(length=steps(6), record=RecordSpec(snapshots=2), batch_size=32)
    finished = train(recipe, tmp_path_factory.mktemp("runs"))
    write_report(finished.path)
    return find(finished.path)


@pytest.fixture(scope="module")
def splits(run: Run) -> Splits:
    found, _ = images_of(run, Console())
    assert found is not None
    return found


def test_four_looks_stand_in_the_page_with_picture_proof_and_origin(run: Run) -> None:
    page = (run.path / "report.html").read_text(encoding="utf-8")
    part = page[page.index('<h2 id="inside">') : page.index('<h2 id="diagnosis">')]
    assert part.count("<svg") == 4
    assert "Not here" not in part
    assert "DOES NOT HOLD" not in part
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]+"', "", part)
    block = re.search(r'<script type="application/json" id="numbers">(.*?)</script>', page, re.S)
    assert block
    found: dict[str, Any] = json.loads(block.group(1))["inside"]
    assert list(found) == NAMES
    for look in found.values():
        assert look["ok"]
        assert look["proofs"]
        for proof in look["proofs"]:
            assert proof["identity"][:30].replace("&", "&amp;") in part
    assert len(page) < 3e6


def test_the_worst_mistakes_are_those_of_the_table_and_their_sums_are_logits(
    run: Run, splits: Splits
) -> None:
    look = looks_inside(run, splits, "cpu")[-1]
    assert look.data is not None
    table = read_predictions(run.path / "predictions/validation.csv").predictions
    worst = torch.nn.functional.cross_entropy(table.logits, table.targets, reduction="none")
    wrong = worst.where(table.logits.argmax(1) != table.targets, torch.tensor(-1.0))
    found = look.data.numbers["mistakes"]
    assert [one["row"] for one in found] == wrong.topk(4).indices.tolist()
    subject = inside.of_run(run, device="cpu")
    for one in found:
        pixels = splits.validation.pixels(torch.tensor([one["row"]]))
        assert torch.equal(one["image"], pixels[0])
        with torch.no_grad():
            x, black = subject.prepare(pixels), subject.prepare(torch.zeros_like(pixels))
            change = (subject.model.eval()(x) - subject.model(black))[0]
        for key, name in (("for_answer", one["answer"]), ("for_label", one["label"])):
            real = float(change[subject.classes.index(name)])
            assert float(one[key].sum()) == pytest.approx(real, abs=0.01 * max(abs(real), 0.1))


def test_test_images_are_not_looked_at(run: Run) -> None:
    assert len(run.rows("openings.jsonl")) == 1


def test_mutant_gradients_at_the_image_only_do_not_add_up(
    run: Run, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        inside, "integrated_gradients", lambda q, steps: attribution.gradient_x_input(q)
    )
    look = looks_inside(run, splits, "cpu")[-1]
    assert look.data is not None
    assert not look.data.ok


def test_a_look_that_fails_says_why_and_the_others_stand(
    run: Run, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object) -> None:
        raise RuntimeError("an odd network\nwith a long story")

    monkeypatch.setattr(inside.filters, "compute", broken)
    monkeypatch.setattr(inside, "WORK", 1)
    looks = looks_inside(run, splits, "cpu")
    assert looks[0].why == "This look failed: RuntimeError: an odd network"
    assert looks[0].as_dict() == {"why": looks[0].why}
    assert looks[1].data is not None
    assert f"too large for a quick report; see pellucid inspect {run.name}" in looks[3].why
    assert looks[3].picture == ""


def test_without_images_or_validation_only_weights_are_seen(tmp_path: Path, run: Run) -> None:
    looks = looks_inside(run, None, "cpu")
    assert [look.name for look in looks if look.data][:2] == ["filters", "evolution"]
