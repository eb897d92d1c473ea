"""What units want, judged by what they get; and how images lie to each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import procrustes
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

from pellucid import good, steps, train
from pellucid.inspection.representation import (
    align,
    cka,
    cka_by_features,
    neighbours,
    plane,
    turned,
)
from pellucid.inspection.visualise import Ascent, Wanted, ascend, flat
from pellucid.models.mnist_cnn import MnistCNN
from pellucid.recipe import RecordSpec
from pellucid.seeds import generator, reseed
from pellucid.views import features as view
from pellucid.views import features_proofs as proofs
from pellucid.views import representation as half
from pellucid.views.options import BadOption, Options
from pellucid.views.subject import Subject, of_run
from tests.views.subjects import Own, digits, splits


def subject(model: nn.Module | None = None) -> Subject:
    reseed(0, "init")
    return Subject.of(model or MnistCNN((1, 28, 28), 10), splits(digits()))


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator(0, "x"), dtype=torch.float64)


def first_layer(smooth: bool, steps: int = 96, seed: int = 0) -> tuple[Ascent, Tensor, float]:
    """The optimum of a linear unit of a 5x5 convolution in a ball of radius 2.5."""
    reseed(3, "init")
    net = nn.Conv2d(2, 3, 5)
    mask = torch.zeros(11, 11, dtype=torch.bool)
    mask[3:8, 2:7] = True
    wanted = Wanted(0, [1], (3, 2), mask, torch.tensor([2.5]))
    found = ascend(net, wanted, 2, smooth=smooth, steps=steps, seed=seed)
    return found, net.weight[1].detach(), float(net.bias.detach()[1])  # type: ignore[union-attr]


def test_view_A12_of_a_linear_unit_the_optimum_is_its_kernel() -> None:
    found, weight, bias = first_layer(smooth=False)
    patch = found.pictures[0][:, 3:8, 2:7]
    cosine = float((patch * weight).sum() / (patch.norm() * weight.norm()))
    assert cosine >= 0.999
    assert float(found.values[0]) == pytest.approx(2.5 * float(weight.norm()) + bias, rel=1e-4)
    assert float(found.pictures[0].norm()) == pytest.approx(2.5, rel=1e-5)
    outside = found.pictures[0].clone()
    outside[:, 3:8, 2:7] = 0
    assert not outside.any()


@pytest.mark.parametrize("smooth", [False, True])
def test_view_A12_the_best_so_far_never_falls_and_the_seed_decides(smooth: bool) -> None:
    found, _, _ = first_layer(smooth, steps=20)
    assert bool((found.course[1:] >= found.course[:-1]).all())
    assert torch.equal(found.values, found.course[-1])
    assert torch.equal(first_layer(smooth, steps=20)[0].pictures, found.pictures)
    assert not torch.equal(first_layer(smooth, steps=20, seed=1)[0].pictures, found.pictures)


def test_view_A12_a_flat_result_and_a_dead_unit_are_failures() -> None:
    """lucent#34: an optimum of one grey is no feature. So is one that nothing moves."""
    reseed(0, "init")
    net = nn.Sequential(nn.Conv2d(1, 3, 5), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 576, 10))
    net[0].weight.data[0] = 1.0  # wants all of its window as bright as can be
    net[0].weight.data[1] = 0.0
    data = view.compute(subject(net), Options(layer="0"))
    assert data.ok, [proof.line for proof in data.proofs if not proof.ok]
    bright, dead, usual = data.numbers["units"]
    assert bright["says"] == "failed: a picture of one colour: it shows no pattern"
    assert dead["says"] == "failed: no pixel has any effect on this unit"
    assert usual["verdict"] != "failed"


def test_view_A12_the_verdict_follows_from_the_values() -> None:
    base = {"plain_value": 5.0, "start": 0.0, "flat": False, "best_real": 2.0, "best_noise": 1.0}
    assert view.verdict(base)[0] == "above"
    assert "2.5 times" in view.verdict(base)[1]
    assert view.verdict({**base, "best_real": 5.0})[0] == "inside"
    assert view.verdict({**base, "best_real": -1.0})[1].startswith("above the data range: 6 more")
    assert view.verdict({**base, "best_noise": 5.0})[0] == "failed"
    assert view.verdict({**base, "flat": True})[0] == "failed"
    assert view.verdict({**base, "start": 5.0})[0] == "failed"
    assert flat(torch.full((3, 4, 4), 0.7), torch.ones(4, 4, dtype=torch.bool))
    assert not flat(torch.eye(4)[None], torch.ones(4, 4, dtype=torch.bool))


def test_view_A12_pictures_are_possible_and_no_stronger_than_real_ones() -> None:
    one = subject(Own())
    data = view.compute(one, Options(count=30))
    for unit in data.numbers["units"]:
        raw = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
        side = unit["plain"].shape[1]
        raw[0, :, :side, :side] = unit["plain"]
        x = one.prepare(raw)[0, :, :side, :side]
        assert float(x.norm()) <= unit["radius"] * 1.01  # whole grey values
        assert unit["plain_value"] >= unit["smooth_value"] * 0.9 - 0.1
        assert unit["best_real"] == pytest.approx(float(unit["real"].max()))


def test_view_A12_a_class_is_a_unit_too(subject: Subject) -> None:
    data = view.compute(subject, Options(target="3", count=50))
    assert data.ok
    assert data.numbers["units"][0]["plain"].shape == (1, 28, 28)
    assert data.title.startswith("What the logit of 3 wants")
    with pytest.raises(BadOption, match="either --target or"):
        view.compute(subject, Options(target="3", unit=1))
    with pytest.raises(BadOption, match='no class "ten"'):
        view.compute(subject, Options(target="ten"))


def test_view_A12_layers_and_units_that_do_not_exist_are_named() -> None:
    with pytest.raises(BadOption, match='no layer "conv9".*There are: first, second, out'):
        view.compute(subject(Own()), Options(layer="conv9", count=10))
    with pytest.raises(BadOption, match="layer conv1 has no unit 32"):
        view.compute(subject(), Options(layer="conv1", unit=32, count=10))


def test_view_A14_cka_of_the_same_is_1_and_blind_to_turns_and_size() -> None:
    x, y = random(30, 12), random(30, 12) @ random(12, 12) + 1
    assert cka(x, x) == pytest.approx(1, abs=1e-12)
    q, _ = torch.linalg.qr(random(12, 12))
    assert cka(x, 7 * x @ q + 3) == pytest.approx(1, abs=1e-12)
    assert cka(turned(x, generator(0, "t")), y) == pytest.approx(cka(x, y), abs=1e-12)
    assert cka(x, y) == pytest.approx(cka_by_features(x, y), abs=1e-12)
    stretched = x * torch.linspace(0.1, 5, 12, dtype=torch.float64)
    assert cka(x, stretched) < 0.9  # it is not blind to everything
    centred = x - x.mean(0), y - y.mean(0)
    k, other = (c @ c.T for c in centred)
    by_hand = float((k * other).sum() / (k.norm() * other.norm()))
    assert cka(x, y) == pytest.approx(by_hand, abs=1e-12)


def test_view_A14_pca_is_that_of_scikit_learn() -> None:
    x = random(40, 9) * torch.arange(1, 10)
    found, oracle = plane(x), PCA(2).fit(x.numpy())
    assert found.shares[:2].numpy() == pytest.approx(oracle.explained_variance_ratio_, rel=1e-9)
    assert float(found.shares.sum()) <= 1 + 1e-12
    other = oracle.transform(x.numpy())
    assert np.abs(found.points.numpy()) == pytest.approx(np.abs(other), abs=1e-9)


def test_view_A14_alignment_is_never_worse_and_is_that_of_scipy() -> None:
    for seed in range(20):
        draws = generator(seed, "points")
        a, b = (torch.randn(15, 2, generator=draws, dtype=torch.float64) for _ in range(2))
        a, b = a - a.mean(0), b - b.mean(0)
        found = align(a, b)
        assert found.after <= found.before + 1e-12
        assert float(found.points.norm()) == pytest.approx(float(a.norm()))
        # scipy scales as well: its smallest squared distance is 1 - (1 - d^2 / 2)^2
        assert 1 - (1 - found.after**2 / 2) ** 2 == pytest.approx(
            procrustes(b.numpy(), a.numpy())[2]
        )
    angle = torch.tensor(0.7)
    c, s = float(angle.cos()), float(angle.sin())
    assert align(b @ torch.tensor([[c, s], [s, -c]]).double(), b).after < 1e-7


def test_view_A14_neighbours_are_those_of_scikit_learn() -> None:
    labels = torch.arange(60) % 3
    x = random(60, 4) + labels[:, None] * 0.8
    right = 0
    for i in range(60):
        rest = [j for j in range(60) if j != i]
        model = KNeighborsClassifier(5).fit(x[rest].numpy(), labels[rest].numpy())
        right += int(model.predict(x[i : i + 1].numpy())[0] == int(labels[i]))
    assert neighbours(x, labels, 3) == pytest.approx(right / 60)


def test_view_A14_over_the_run_it_ends_at_the_model_itself(subject: Subject) -> None:
    data = view.compute(subject, Options(count=60))
    assert data.ok, [proof.line for proof in data.proofs if not proof.ok]
    rest = data.numbers["representation"]
    assert rest["steps"][0] == 0
    assert rest["steps"][-1] == subject.step
    assert rest["procrustes"][-1] == pytest.approx(0, abs=1e-6)
    assert rest["cka_over"][:, -1].tolist() == pytest.approx([1.0] * 4)
    assert rest["cka_layers"].diagonal().tolist() == pytest.approx([1.0] * 4)
    assert torch.equal(rest["cka_layers"], rest["cka_layers"].T)
    assert rest["neighbours"][-1] > rest["neighbours"][0] - 0.05
    assert all(0 <= sum(shares) <= 1 for shares in rest["shares"])
    assert data.numbers["representation"]["panels"][-1] == len(rest["steps"]) - 1


@pytest.mark.slow
def test_view_A14_a_run_without_copies_is_shown_as_it_is_and_says_why(tmp_path: Path) -> None:
    recipe = good("digits").with_(length=steps(2), record=RecordSpec(snapshots=0), batch_size=8)
    data = view.compute(of_run(train(recipe, tmp_path), device="cpu"), Options(count=12))
    assert data.ok
    assert data.numbers["representation"]["steps"] == [2]
    assert "Train with --record.snapshots 12" in data.notes[-1]


def test_view_A14_a_model_that_is_no_run_has_no_past() -> None:
    alone = view.compute(subject(Own()), Options(count=12))
    assert alone.numbers["representation"]["steps"] == [None]
    assert "a model, not a run" in alone.notes[-1]


def test_view_A14_a_model_without_a_linear_last_layer_says_so() -> None:
    net = nn.Sequential(nn.Conv2d(1, 10, 28), nn.Flatten())
    data = view.compute(subject(net), Options(count=10))
    assert data.ok
    assert data.numbers["representation"] is None
    assert "not shown" in data.notes[-1]


MUTANTS = {
    "value": (proofs, "values_of", lambda plain: lambda m, x, w: plain(m, x, w) + 0.01),
    "CKA by images": (half, "cka_by_features", lambda plain: lambda x, y: plain(x + 1, y * y)),
    "turned": (half, "turned", lambda plain: lambda x, draws: x * (1 + x.abs())),
    "alignment": (
        half,
        "align",
        lambda plain: lambda a, b: type(w := plain(a, b))(w.points, w.after, w.before + 1),
    ),
    "shares": (half, "plane", lambda plain: lambda x: type(p := plain(x))(p.points, 2 * p.shares)),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_view_A12_A14_mutants(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, what, broken = MUTANTS[name]
    monkeypatch.setattr(where, what, broken(getattr(where, what)))
    data = view.compute(subject(Own()), Options(count=15))
    assert not data.ok
    wrong = [proof.identity for proof in data.proofs if not proof.ok]
    assert len(wrong) == 1, wrong


def test_view_A12_mutant_a_gradient_that_is_shifted_or_smoothed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = proofs.ascend
    monkeypatch.setattr(proofs, "ascend", lambda m, w, c, *, smooth: plain(m, w, c, smooth=True))
    data = view.compute(subject(Own()), Options(count=15))
    assert not data.proofs[0].ok
    assert not data.proofs[1].ok


def test_view_A12_mutant_a_picture_that_may_be_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wanted, "allowed", lambda self, x: x)
    data = view.compute(subject(Own()), Options(count=15))
    wrong = " ".join(proof.identity for proof in data.proofs if not proof.ok)
    assert "norm of a picture" in wrong
    assert "beyond those of pixels" in wrong


def test_view_A12_mutant_the_last_picture_instead_of_the_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = view.ascend

    def last(*args, **kwargs):  # type: ignore[no-untyped-def]
        found = plain(*args, **kwargs)
        return type(found)(found.pictures, found.values, found.course.flip(0))

    monkeypatch.setattr(view, "ascend", last)
    data = view.compute(subject(Own()), Options(count=15))
    assert ["fall" in p.identity for p in data.proofs if not p.ok] == [True]
