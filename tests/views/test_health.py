"""View A20: signals and gradients over a run, with planted illnesses."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid import good, steps, train
from pellucid.inspection import health as signs
from pellucid.inspection.activations import find_sites, values_at
from pellucid.inspection.trace import looking
from pellucid.recipe import RecordSpec
from pellucid.runs.folder import Run
from pellucid.runs.snapshots import snapshots
from pellucid.seeds import reseed
from pellucid.viewdata import ViewData
from pellucid.views import health
from pellucid.views.options import BadOption, Options
from pellucid.views.subject import Subject, of_run
from tests.views.subjects import digits, splits, subject_of


def kinds(data: ViewData) -> set[tuple[str, str]]:
    return {(alarm["kind"], alarm["layer"]) for alarm in data.numbers["alarms"]}


def failed(data: ViewData) -> list[str]:
    return [proof.identity.split(" - ")[0] for proof in data.proofs if not proof.ok]


def deep(*layers: nn.Module) -> Subject:
    reseed(0, "init")
    net = nn.Sequential(nn.Flatten(), *layers)
    for part in net.modules():
        if isinstance(part, nn.Linear):
            part.reset_parameters()
    return Subject.of(net, splits(digits()))


def test_view_A20_bins_hold_every_value_and_are_those_of_numpy(subject: Subject) -> None:
    data = health.compute(subject, Options(count=40))
    many = subject.part("train")
    x = subject.prepare(many.pixels(torch.arange(40) * len(many) // 40))
    where = find_sites(subject.model, x[:1])
    with looking(subject.model), torch.no_grad():
        values, _ = values_at(subject.model, x, where)
    bounds = data.numbers["edges"].numpy().copy()
    bounds[0], bounds[-1] = -np.inf, np.inf
    assert data.numbers["steps"] == [0, 10, 20, 30, 40]
    for site, found in zip(where, data.numbers["signals"], strict=True):
        seen = values[site.op].double().numpy()
        assert found["counts"].sum(1).tolist() == [seen.size] * 5
        assert found["counts"][-1].tolist() == np.histogram(seen, bounds)[0].tolist()
        assert found["mean"][-1] == pytest.approx(seen.mean())
        assert found["std"][-1] == pytest.approx(seen.std())
        assert found["zeros"][-1] == pytest.approx((seen == 0).mean())


def test_view_A20_gradients_are_those_of_backward_and_of_the_runs_own_rows(
    subject: Subject,
) -> None:
    data = health.compute(subject, Options())
    assert data.proofs[-1].identity.startswith("norm of the gradient - what the run wrote down")
    assert "at 3 steps" in data.proofs[-1].identity
    assert data.proofs[-1].ok
    many = subject.part("train")
    index = (torch.arange(2000) * len(many) // 2000)[torch.arange(128) * 2000 // 128]
    model = subject.model.eval()
    F.cross_entropy(model(subject.prepare(many.pixels(index))), many.label(index)).backward()
    for layer, found in data.numbers["weights"].items():
        part = model.get_submodule(layer)
        grads = [p.grad for p in part.parameters() if p.grad is not None]
        size = math.sqrt(sum(float(g.double().square().sum()) for g in grads))
        assert found["gradient"][-1] == pytest.approx(size, rel=1e-4)
    model.zero_grad()


def test_view_A20_sampled_steps_are_marked_as_sampled(subject: Subject) -> None:
    data = health.compute(subject, Options(count=8))
    assert data.numbers["sampled"] is True
    assert any(note.startswith("Sampled at 5 moments, steps 0 to 40;") for note in data.notes)
    words = [axis.get_xlabel() for part in health_figure(data) for axis in part]
    assert "step (only these columns were looked at)" in words


def health_figure(data: ViewData):  # type: ignore[no-untyped-def]
    from pellucid.figures.health import draw_health

    body = draw_health(data).subfigs[1]
    return [part.axes for part in body.subfigs]


def test_view_A20_a_sound_run_rings_no_alarm(subject: Subject) -> None:
    data = health.compute(subject, Options())
    assert kinds(data) == set()
    assert data.title.endswith("no alarm")


def test_view_A20_a_dead_layer_is_named_and_no_other() -> None:
    subject = subject_of("own")
    subject.model.second.weight.data.zero_()  # type: ignore[union-attr]
    subject.model.second.weight.data -= 1e3  # type: ignore[union-attr]
    data = health.compute(subject, Options())
    assert {pair for pair in kinds(data) if pair[0] == "dead"} == {("dead", "second")}
    assert data.numbers["signals"][1]["dead"] == [list(range(8))]
    assert data.ok


def test_view_A20_sigmoids_in_a_row_lose_the_gradient() -> None:
    layers: list[nn.Module] = [nn.Linear(784, 20), nn.Sigmoid()]
    for _ in range(5):
        layers += [nn.Linear(20, 20), nn.Sigmoid()]
    data = health.compute(deep(*layers, nn.Linear(20, 10)), Options())
    assert kinds(data) == {("vanish", "1")}
    assert data.ok


def test_view_A20_saturated_and_exploding_layers_are_named() -> None:
    stuck = deep(nn.Linear(784, 20), nn.Tanh(), nn.Linear(20, 10))
    stuck.model.get_submodule("1").weight.data *= 1e4  # type: ignore[union-attr, operator]
    assert ("saturated", "1") in kinds(health.compute(stuck, Options()))
    wild = deep(nn.Linear(784, 20), nn.ReLU(), nn.Linear(20, 10))
    wild.model.get_submodule("3").weight.data *= 1e4  # type: ignore[union-attr, operator]
    data = health.compute(wild, Options())
    assert kinds(data) == {("explode", "all")}
    assert data.ok


def test_view_A20_a_layer_that_rests_does_not_move(tmp_path: Path) -> None:
    recipe = good("digits").with_(length=steps(2), record=RecordSpec(snapshots=2), batch_size=8)
    run = train(recipe, tmp_path)
    for step, file in snapshots(run.path).items():
        weights = safetensors.torch.load_file(file)
        weights["conv1.weight"].fill_(0.1)
        if step == 1:
            weights["fc2.bias"][0] = float("nan")
        file.write_bytes(safetensors.torch.save(weights))
    subject = of_run(run, step=0, device="cpu")
    data = health.compute(subject, Options(count=8))
    assert data.numbers["weights"]["conv1"]["update"][1:] == [0.0]
    assert data.numbers["weights"]["fc1"]["update"][1] > 0
    assert data.numbers["steps"] == [0, 2]
    assert kinds(data) == {("not finite", "fc2.bias")}
    assert "nothing can be shown" in data.notes[0]


def test_view_A20_a_run_without_copies_is_seen_as_it_is(tmp_path: Path) -> None:
    recipe = good("digits").with_(length=steps(2), record=RecordSpec(snapshots=0), batch_size=8)
    subject = of_run(train(recipe, tmp_path), device="cpu")
    data = health.compute(subject, Options())
    assert data.numbers["steps"] == [2]
    assert data.ok
    assert all(math.isnan(w["update"][0]) for w in data.numbers["weights"].values())
    with pytest.raises(BadOption, match="at least 1"):
        health.compute(subject, Options(count=0))


def test_view_A20_mutant_a_histogram_without_what_lies_beyond_the_bins(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inner(values: Tensor) -> Tensor:
        counts = np.histogram(values.double().numpy(), signs.edges().numpy() / 1e4)[0]
        return torch.from_numpy(counts)

    monkeypatch.setattr(signs, "histogram", inner)
    assert "values in the bins" in failed(health.compute(subject, Options(count=8)))


def test_view_A20_mutant_bins_that_stand_elsewhere(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = signs.histogram
    monkeypatch.setattr(signs, "histogram", lambda values: plain(values).roll(5))
    assert failed(health.compute(subject, Options(count=8))) == ["mean"]


def test_view_A20_mutant_gradients_that_were_added_up_twice(
    run: Run, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = signs.gradients

    def twice(model: nn.Module, objective: Tensor) -> dict[str, Tensor]:
        return {name: 2 * slope for name, slope in plain(model, objective).items()}

    monkeypatch.setattr(signs, "gradients", twice)
    assert failed(health.compute(subject, Options())) == [
        "slope of the loss along the gradient", "norm of the gradient",
    ]  # fmt: skip


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_view_A20_a_capped_relu_can_be_dead_and_a_hardtanh_cannot(low: float) -> None:
    subject = deep(nn.Linear(784, 20), nn.Hardtanh(low, 6.0), nn.Linear(20, 10))
    subject.model.get_submodule("1").bias.data.fill_(-1e3)  # type: ignore[union-attr, operator]
    data = health.compute(subject, Options())
    dead = [alarm for alarm in data.numbers["alarms"] if alarm["kind"] == "dead"]
    assert [alarm["layer"] for alarm in dead] == (["1"] if low == 0 else [])
