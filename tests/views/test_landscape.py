"""View A22: the loss around the weights, and the way there."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid import good, steps, train
from pellucid.inspection import landscape as hills
from pellucid.inspection.trace import looking, trace
from pellucid.recipe import RecordSpec
from pellucid.runs.snapshots import snapshots
from pellucid.viewdata import ViewData
from pellucid.views import landscape
from pellucid.views.options import BadOption, Options
from pellucid.views.subject import Subject, of_run
from tests.views.subjects import Own, subject_of

FEW = Options(count=16)


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of 5x5 points: the identities are the same."""
    monkeypatch.setattr(landscape, "SIDE", 5)


def failed(data: ViewData) -> list[str]:
    return [proof.identity for proof in data.proofs if not proof.ok]


def batch(subject: Subject, count: int = 16) -> tuple[Tensor, Tensor]:
    many = subject.part("train")
    index = torch.arange(count) * len(many) // count
    return subject.prepare(many.pixels(index)), many.label(index)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    recipe = good("digits").with_(length=steps(6), record=RecordSpec(snapshots=3), batch_size=32)
    return of_run(train(recipe, tmp_path_factory.mktemp("runs")), device="cpu")


def test_view_A22_the_middle_and_the_ends_are_losses_of_real_networks(quick: Subject) -> None:
    data = landscape.compute(quick, FEW)
    x, y = batch(quick)
    n, model = data.numbers, copy.deepcopy(quick.model).eval()
    with torch.no_grad():
        assert float(n["plane"][2, 2]) == n["loss"] == float(F.cross_entropy(model(x), y))
        for step, loss in zip(n["path"]["steps"], n["path"]["loss"], strict=True):
            model.load_state_dict(quick.snapshot(step))
            assert loss == pytest.approx(float(F.cross_entropy(model(x), y)), rel=1e-6)
    assert n["path"]["steps"] == [0, 2, 4, 6]
    assert n["line"]["loss"][0] == n["path"]["loss"][0]
    assert n["line"]["loss"][-1] == n["path"]["loss"][-1] == n["loss"]
    assert n["way"]["places"][-1].tolist() == [0, 0]
    assert len(data.proofs) == 6
    assert data.ok


@pytest.mark.parametrize("kind", ["own", "resnet"])
def test_view_A22_each_filter_of_a_direction_is_as_long_as_the_filter_once(kind: str) -> None:
    model = subject_of(kind).model
    weights = {name: p.detach() for name, p in model.named_parameters()}
    for which in (0, 1):
        raw = hills.raw_direction(model, which)
        found = hills.normalised(weights, raw)
        for name, w in weights.items():
            if w.dim() < 2:  # biases and the numbers of batch norm
                assert not found[name].any()
                continue
            for i in range(len(w)):
                assert float(found[name][i].norm()) == pytest.approx(float(w[i].norm()), rel=1e-5)
                way = F.cosine_similarity(found[name][i].flatten(), raw[name][i].flatten(), 0)
                assert float(way) == pytest.approx(1, abs=1e-5)
        assert hills.norm_miss(weights, found) < 1e-5
    assert not torch.equal(raw[name], hills.raw_direction(model, 0)[name])


def test_view_A22_the_picture_stays_when_one_layer_grows_and_the_next_one_shrinks() -> None:
    subject = subject_of("own")
    x, y = batch(subject)
    exact = (x.double(), y)
    one = subject.model.double()
    other = copy.deepcopy(one)
    assert isinstance(other, Own)
    with torch.no_grad():
        other.first.weight *= 7
        other.first.bias *= 7  # type: ignore[misc, operator]
        other.second.weight /= 7
    pictures = []
    for model in (one, other):
        weights = {name: p.detach() for name, p in model.named_parameters()}
        plane = [hills.normalised(weights, hills.raw_direction(model, i)) for i in (0, 1)]
        ticks = [-1.0, -0.5, 0.0, 0.5, 1.0]
        pictures.append(hills.surface(model, exact, (plane[0], plane[1]), ticks, ticks))
    assert torch.allclose(pictures[0], pictures[1], rtol=1e-10, atol=0)
    assert float(pictures[0].max() - pictures[0].min()) > 0.01
    raw = (hills.raw_direction(one, 0), hills.raw_direction(one, 1))
    bare = [hills.surface(model, exact, raw, ticks, ticks) for model in (one, other)]
    assert not torch.allclose(bare[0], bare[1], rtol=1e-3)


def test_view_A22_layers_that_can_be_scaled_are_found_and_only_these() -> None:
    def pair(kind: str) -> list[str] | None:
        subject = subject_of(kind)
        names = {part: name for name, part in subject.model.named_modules()}
        with looking(subject.model), torch.no_grad():
            found = hills.pair_to_scale(trace(subject.model, batch(subject)[0][:1]))
        return found and [names[part] for part in found]

    assert pair("mnist-cnn") == ["conv1", "conv2"]
    assert pair("own") == ["first", "second"]
    assert pair("resnet") is None  # batch norm, sums
    two = nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.Sigmoid(), nn.Linear(8, 10))
    with torch.no_grad():
        assert hills.pair_to_scale(trace(two, torch.zeros(1, 1, 28, 28))) is None


def test_view_A22_the_plane_of_the_way_is_that_of_numpy(quick: Subject) -> None:
    data = landscape.compute(quick, FEW)
    flat = [
        np.concatenate([quick.snapshot(s)[n].numpy().ravel() for n, _ in
                        quick.model.named_parameters()]).astype(np.float64)
        for s in (0, 2, 4, 6)
    ]  # fmt: skip
    moves = np.stack([copy - flat[-1] for copy in flat[:-1]])
    u, s, _ = np.linalg.svd(moves, full_matrices=False)
    way = data.numbers["way"]
    assert way["shares"] == pytest.approx((s**2 / (s**2).sum())[:2].tolist(), rel=1e-6)
    assert np.allclose(np.abs(way["places"][:-1].numpy()), np.abs(u * s)[:, :2], rtol=1e-5,
                       atol=1e-6)  # fmt: skip


def test_view_A22_a_run_without_copies_and_a_model_show_one_plane(tmp_path: Path) -> None:
    recipe = good("digits").with_(length=steps(2), record=RecordSpec(snapshots=0), batch_size=8)
    alone = landscape.compute(of_run(train(recipe, tmp_path), device="cpu"), FEW)
    assert alone.ok
    assert "way" not in alone.numbers
    assert any("record.snapshots 0?" in note for note in alone.notes)
    model = landscape.compute(subject_of("resnet"), FEW)
    assert model.ok
    assert any("this is no run" in note for note in model.notes)
    assert any("No two layers here can be scaled" in note for note in model.notes)
    with pytest.raises(BadOption, match="at least 1"):
        landscape.compute(subject_of("own"), Options(count=0))


def test_view_A22_copies_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    recipe = good("digits").with_(length=steps(3), record=RecordSpec(snapshots=3), batch_size=8)
    run = train(recipe, tmp_path)
    file = snapshots(run.path)[1]
    weights = safetensors.torch.load_file(file)
    weights["fc2.bias"][0] = float("inf")
    file.write_bytes(safetensors.torch.save(weights))
    data = landscape.compute(of_run(run, step=3, device="cpu"), FEW)
    assert data.numbers["path"]["steps"] == [0, 2, 3]
    assert data.ok


def test_view_A22_mutant_directions_that_are_not_normalised(
    quick: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (hills, landscape):
        monkeypatch.setattr(place, "normalised", lambda weights, raw: dict(raw))
    names = failed(landscape.compute(quick, FEW))
    assert [name.split(" ")[0] for name in names] == ["length", "the"]


def test_view_A22_mutant_directions_that_are_normalised_twice(
    quick: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = hills.normalised

    def twice(weights: hills.Weights, raw: hills.Weights) -> dict[str, Tensor]:
        found = plain(weights, raw)
        return {n: d if d.dim() < 2 else d * d.flatten(1).norm(dim=1).view(-1, *[1] * (d.dim() - 1))
                for n, d in found.items()}  # fmt: skip

    for place in (hills, landscape):
        monkeypatch.setattr(place, "normalised", twice)
    assert failed(landscape.compute(quick, FEW))[0].startswith("length of each filter")


def test_view_A22_mutant_biases_that_move_too(
    quick: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = hills.normalised

    def all_of_it(weights: hills.Weights, raw: hills.Weights) -> dict[str, Tensor]:
        return {n: raw[n] if d.dim() < 2 else d for n, d in plain(weights, raw).items()}

    for place in (hills, landscape):
        monkeypatch.setattr(place, "normalised", all_of_it)
    assert failed(landscape.compute(quick, FEW))[0].startswith("length of each filter")


def test_view_A22_mutant_a_line_that_goes_the_other_way(
    quick: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = hills.between

    def back(model, data, ends, shares, loss):  # type: ignore[no-untyped-def]
        return plain(model, data, (ends[1], ends[0]), shares, loss)

    monkeypatch.setattr(landscape, "between", back)
    assert [name[:16] for name in failed(landscape.compute(quick, FEW))] == ["ends of the line"]


def test_view_A22_mutant_a_middle_beside_the_weights_and_components_askew(
    quick: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, flat = hills.surface, torch.linalg.eigh

    def beside(model, data, plane, along, across, loss):  # type: ignore[no-untyped-def]
        return plain(model, data, plane, [a + 0.01 for a in along], across, loss)

    def askew(table: Tensor) -> tuple[Tensor, Tensor]:
        powers, turns = flat(table)
        return powers, turns.roll(1, 0)

    with monkeypatch.context() as patch:
        patch.setattr(landscape, "surface", beside)
        names = failed(landscape.compute(quick, FEW))
        assert [name.split(" - ")[0] for name in names] == [
            "loss in the middle", "plane of the way: loss at the end",
        ]  # fmt: skip
    monkeypatch.setattr(torch.linalg, "eigh", askew)
    assert failed(landscape.compute(quick, FEW)) == [
        "plane of the way: shares of both directions + share of the rest - 1"
    ]
