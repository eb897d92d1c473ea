"""Views of a run: its own past, its own first step; and what cannot be looked at."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from pellucid import good, steps, train
from pellucid.data.digits import Digits
from pellucid.errors import BadRun
from pellucid.inspection import evolution as evolution_module
from pellucid.inspection.drawing import prepare_drawing
from pellucid.recipe import RecordSpec
from pellucid.runs.checkpoint import read
from pellucid.runs.folder import METRICS, Run
from pellucid.runs.snapshots import snapshots
from pellucid.viewdata import DoesNotApply
from pellucid.views import (
    activations,
    classes,
    evolution,
    excite,
    filters,
    firststep,
    life,
    logits,
    step,
)
from pellucid.views.options import BadOption, Options
from pellucid.views.subject import Subject, of_run


def test_view_A3_first_column_is_the_start_and_the_last_the_checkpoint(
    run: Run, subject: Subject
) -> None:
    data = evolution.compute(subject, Options(count=32))
    film, chosen = data.numbers["film"], data.numbers["chosen"]
    start = safetensors.torch.load_file(snapshots(run.path)[0])["conv1.weight"]
    end = read(run.checkpoints.path(40)).tensors["model"]["conv1.weight"]
    assert data.numbers["steps"] == [0, 10, 20, 30, 40]
    assert torch.equal(film[0], start[chosen])
    assert torch.equal(film[-1], end[chosen])
    assert [p.identity for p in data.proofs][2:] == [
        "weights drawn anew from the seed - copy of step 0", "checkpoint of step 40 - last copy",
    ]  # fmt: skip
    moved = data.numbers["moved"][chosen]
    assert moved.tolist() == sorted(moved.tolist(), reverse=True)


def test_view_A3_mutant_a_copy_of_another_run(run: Run, subject: Subject) -> None:
    file = snapshots(run.path)[0]
    kept = file.read_bytes()
    weights = safetensors.torch.load(kept)
    weights["fc1.bias"][3] += 1e-6
    try:
        file.write_bytes(safetensors.torch.save(weights))
        data = evolution.compute(subject, Options())
    finally:
        file.write_bytes(kept)
    assert [p.ok for p in data.proofs] == [True, True, False, True]


def test_view_A3_mutant_a_path_that_is_shorter_than_the_displacement(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = evolution_module.course

    def shorter(copies, at):  # type: ignore[no-untyped-def]
        way = plain(copies, at)
        return type(way)(way.displacement, 0.5 * way.path, way.cosine, way.ratio)

    monkeypatch.setattr(evolution_module, "course", shorter)
    assert not evolution.compute(subject, Options()).ok


def test_view_A2_trained_stands_beside_the_runs_own_start(run: Run, subject: Subject) -> None:
    sets = filters.compute(subject, Options()).numbers["sets"]
    start = safetensors.torch.load_file(snapshots(run.path)[0])["conv1.weight"]
    assert torch.equal(sets["at the start"], start)
    assert list(sets) == ["trained", "at the start", "shuffled"]
    assert not torch.equal(sets["trained"], start)


def test_view_A19_the_first_step_is_the_one_that_the_run_took(run: Run, subject: Subject) -> None:
    found = firststep.first_step(subject)
    first = next(row for row in run.rows(METRICS) if row["kind"] == "vitals" and row["step"] == 0)
    assert found.start_miss == 0
    assert found.cleared
    assert first["weights"] == pytest.approx(
        sum(float((w.double() ** 2).sum()) for w in found.seen.before.values()) ** 0.5, rel=1e-5
    )
    data = step.compute(subject, Options())
    assert data.numbers["batch"] == [128, 1, 28, 28]
    assert abs(data.numbers["loss"] - data.numbers["chance"]) < 0.3
    assert data.numbers["chance"] == pytest.approx(2.302585)


def test_view_A19_the_weights_after_it_are_those_of_the_run_after_one_step(
    tmp_path: Path,
) -> None:
    recipe = good("digits").with_(
        length=steps(1), record=RecordSpec(snapshots=1, every=1), batch_size=32
    )
    one = train(recipe, tmp_path)
    subject = of_run(one, device="cpu")
    found = firststep.first_step(subject)
    after = subject.snapshot(1)
    for name, p in found.built.state.model.named_parameters():
        assert torch.equal(p.detach(), after[name]), name
    row = next(r for r in one.rows(METRICS) if r["kind"] == "step")
    assert found.seen.loss == pytest.approx(row["loss"], rel=1e-6)


def test_view_A19_mutant_other_weights_than_the_run_began_with(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Subject.initial
    monkeypatch.setattr(
        Subject, "initial", lambda self: {n: w + 1e-6 for n, w in (plain(self) or {}).items()}
    )
    assert not step.compute(subject, Options()).ok


def test_view_ND11_twelve_stages_each_with_its_line_of_code(subject: Subject) -> None:
    data = life.compute(subject, Options())
    stages = data.numbers["stages"]
    assert len(stages) == 12
    assert all(stage["code"] and stage["value"] for stage in stages)
    source = Path(life.fit.__code__.co_filename).read_text().splitlines()
    for stage in stages:
        file, number = stage["place"].split(", line ")
        if file == "loop.py":
            assert source[int(number) - 1].strip() == stage["code"]
    assert stages[4]["value"].startswith("2.")
    assert "40 steps in all" in stages[8]["value"]


def test_view_ND11_mutant_a_summary_that_is_not_of_these_rows(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Run.rows

    def better(self: Run, name: str) -> list[dict[str, object]]:
        rows = plain(self, name)
        for row in rows:
            if row["kind"] == "evaluation":
                row["validation"]["accuracy"] = 1.0
        return rows

    monkeypatch.setattr(Run, "rows", better)
    data = life.compute(subject, Options())
    assert [p.ok for p in data.proofs] == [True, True, False]


def test_view_A4_drawn_test_images_keep_their_predicted_class(subject: Subject) -> None:
    data = Digits().load().test
    assert data is not None
    drawn = torch.stack([prepare_drawing(image[0]).pixels for image in data.images])[:, None]
    with torch.no_grad():
        before = subject.model(subject.prepare(data.images)).argmax(1)
        after = subject.model(subject.prepare(drawn)).argmax(1)
    assert float((before == after).double().mean()) >= 0.99


def test_a_drawing_is_shown_with_what_was_done_to_it(subject: Subject, drawing: Path) -> None:
    data = excite.compute(subject, Options(drawing=drawing, count=50))
    assert list(data.numbers["steps"]) == ["ink", "cut", "28x28"]
    assert data.numbers["image"].shape == (1, 28, 28)
    assert data.ok


def test_another_step_is_looked_at_and_an_unknown_one_names_those_kept(run: Run) -> None:
    early = of_run(run, step=10, device="cpu")
    kept = safetensors.torch.load_file(snapshots(run.path)[10])
    assert early.step == 10
    for name, tensor in early.model.state_dict().items():
        assert torch.equal(tensor, kept[name])
    with pytest.raises(BadRun, match="kept nothing of step 7. It kept: 0, 10, 20, 30"):
        of_run(run, step=7)


def test_a_run_without_copies_says_so(tmp_path: Path) -> None:
    recipe = good("digits").with_(length=steps(2), record=RecordSpec(snapshots=0), batch_size=8)
    subject = of_run(train(recipe, tmp_path), device="cpu")
    with pytest.raises(DoesNotApply, match="record.snapshots"):
        evolution.compute(subject, Options())
    assert list(filters.compute(subject, Options()).numbers["sets"]) == ["trained", "shuffled"]
    assert classes.compute(subject, Options(count=100)).numbers["steps"] == []
    assert len(step.compute(subject, Options()).proofs) == 3


def test_weights_that_are_not_finite_are_named() -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    net[1].weight.data[3, :5] = float("nan")
    with pytest.raises(BadRun, match=r"1\.weight \(5 of 7,840\)"):
        Subject.of(net, Digits().load().train)


def test_classes_that_have_no_weights_of_their_own_are_named() -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    net[1].weight.data.zero_()
    with pytest.raises(DoesNotApply, match=r"weights of 1 for 0, 1, 2, 3, 4 are the mean"):
        classes.compute(Subject.of(net, Digits().load().train), Options(count=100))


def test_images_parts_and_classes_that_do_not_exist_are_named(subject: Subject) -> None:
    with pytest.raises(BadOption, match="0 to 499"):
        logits.compute(subject, Options(index=500))
    with pytest.raises(BadOption, match="There are: validation, train, test"):
        logits.compute(subject, Options(on="val"))
    with pytest.raises(BadOption, match='no class "ten"'):
        logits.compute(subject, Options(target="ten"))
    with pytest.raises(BadOption, match="at least 1"):
        activations.compute(subject, Options(count=0))
