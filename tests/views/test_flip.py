"""The smallest change that flips the answer."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from pellucid.inspection.border import Range, Search
from pellucid.inspection.flip import smallest_flip
from pellucid.inspection.painting import smallest_square
from pellucid.seeds import generator, reseed
from pellucid.viewdata import DoesNotApply
from pellucid.views import flip as view
from pellucid.views.options import BadOption, Options
from pellucid.views.subject import Subject
from tests.views.subjects import digits


def linear(classes: int = 5, features: int = 30) -> tuple[Tensor, Tensor, Tensor]:
    draws = generator(0, "weights")
    weights = torch.randn(classes, features, generator=draws, dtype=torch.float64)
    return (weights, torch.randn(classes, generator=draws, dtype=torch.float64),
            torch.randn(1, features, generator=draws, dtype=torch.float64))  # fmt: skip


def network() -> Subject:
    reseed(0, "init")
    return Subject.of(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), digits())


def test_view_A13_of_a_linear_model_the_distance_is_the_formula() -> None:
    weights, bias, x = linear()
    out = (x @ weights.T + bias)[0]
    a = int(out.argmax())
    formula = (out[a] - out).abs() / (weights[a] - weights).norm(dim=1)
    formula[a] = torch.inf
    found = smallest_flip(lambda h: h @ weights.T + bias, x)
    assert found is not None
    assert found.distance == pytest.approx(float(formula.min()), rel=1e-6)
    assert (found.before, found.after) == (a, int(formula.argmin()))
    assert found.aligned == pytest.approx(1)
    for b in range(5):  # with two classes left nothing stands between
        if b != a:
            two = smallest_flip(lambda h, b=b: (h @ weights.T + bias)[:, [a, b]], x, target=1)
            assert two is not None
            assert two.distance == pytest.approx(float(formula[b]), rel=1e-6)


def test_view_A13_the_nearest_corner_where_another_class_stands_between() -> None:
    """Three classes; class 2 has to overtake two others: scipy finds the nearest point as well."""
    from scipy.optimize import minimize

    weights = torch.tensor([[1.0, 0.0], [0.9, 0.6], [0.0, 1.0]]).double()
    x = torch.tensor([[2.0, 0.0]]).double()
    found = smallest_flip(lambda h: h @ weights.T, x, target=2)
    assert found is not None
    rows = (weights[2] - weights[:2]).numpy()
    best = minimize(
        lambda h: ((h - x[0].numpy()) ** 2).sum(), x[0].numpy(),
        jac=lambda h: 2 * (h - x[0].numpy()),
        constraints=[{"type": "ineq", "fun": lambda h, r=r: r @ h} for r in rows],
    )  # fmt: skip
    assert found.after == 2
    assert found.distance == pytest.approx(float(best.fun) ** 0.5, rel=0.01)


def test_view_A13_within_a_range_it_is_the_nearest_point_there() -> None:
    from scipy.optimize import minimize

    weights, bias, x = linear(2, 12)
    x = x.clamp(-0.5, 0.5)
    bounds = Range(torch.tensor(-0.6).double(), torch.tensor(0.6).double())
    out = (x @ weights.T + bias)[0]
    a = int(out.argmax())
    found = smallest_flip(lambda h: h @ weights.T + bias, x, within=bounds)
    assert found is not None
    assert float(found.changed.abs().max()) <= 0.6
    slope = (weights[1 - a] - weights[a]).numpy()
    best = minimize(
        lambda h: ((h - x[0].numpy()) ** 2).sum(), x[0].numpy(), bounds=[(-0.6, 0.6)] * 12,
        jac=lambda h: 2 * (h - x[0].numpy()),
        constraints={"type": "ineq", "fun": lambda h: slope @ h + float(bias[1 - a] - bias[a])},
    )  # fmt: skip
    free = float(abs(out[0] - out[1]) / (weights[0] - weights[1]).norm())
    assert found.distance == pytest.approx(float(best.fun) ** 0.5, rel=1e-3)
    assert found.distance > 1.01 * free


def test_view_A13_on_a_ring_it_goes_straight_to_the_middle_of_it() -> None:
    """A border that is a circle of radius 2 around a point beside the image."""

    def ring(x: Tensor) -> Tensor:
        r = ((x - torch.tensor([0.5, 0.0])) ** 2).sum(1)
        return torch.stack([4 - r, r - 4], 1)

    found = smallest_flip(ring, torch.tensor([[0.0, 0.1]]).double())
    assert found is not None
    assert found.distance == pytest.approx(2 - (0.25 + 0.01) ** 0.5, rel=2e-3)
    assert found.aligned > 0.99


def test_view_A13_a_quick_search_ends_at_the_border_of_the_exact_model() -> None:
    reseed(0, "init")
    net = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 5)).double()
    rough = copy.deepcopy(net).half().float()  # another border, a thousandth away
    x = torch.randn(1, 20, generator=generator(0, "x"), dtype=torch.float64)

    def quick(h: Tensor) -> Tensor:
        logits: Tensor = rough(h.float()).double()
        return logits

    exact, found = smallest_flip(net, x), smallest_flip(net, x, quick=quick)
    assert exact is not None
    assert found is not None
    assert found.distance == pytest.approx(exact.distance, rel=0.01)
    for one in (exact, found):
        way = one.changed - x
        assert int(net(one.changed).argmax()) == one.after != one.before
        assert int(net(x + (1 - 1e-6) * way).argmax()) == one.before


def test_view_A13_no_way_to_another_answer_is_said() -> None:
    assert smallest_flip(lambda x: x.sum() * 0 + torch.tensor([[1.0, 0.0]]), torch.ones(1, 3)) is (
        None
    )
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    net[1].weight.data.zero_()
    net[1].bias.data = torch.arange(10.0)
    with pytest.raises(DoesNotApply, match=r"No change was found that turns 9 into any other"):
        view.compute(Subject.of(net, digits()), Options())


def test_view_A13_the_class_flips_and_just_before_it_does_not(subject: Subject) -> None:
    data = view.compute(subject, Options(index=3))
    n = data.numbers
    assert data.ok, [proof.line for proof in data.proofs]
    assert n["before"] != n["after"]
    assert int(n["p_after"].argmax()) == subject.classes.index(n["after"])
    assert n["random"] < 10
    assert n["distance_free"] <= n["distance"] * 1.01
    pixels = subject.prepare(n["image"][None]).double()
    change = n["change"] / 255 / subject.preprocessing.std[0]
    with torch.no_grad():
        said = [subject.model((pixels + t * change).float())[0].argmax() for t in (0.99, 1.02)]
    assert [subject.classes[int(c)] for c in said] == [n["before"], n["after"]]
    assert float(change.norm()) == pytest.approx(n["distance"], rel=1e-9)


def test_view_A13_a_class_that_is_asked_for_is_reached(subject: Subject) -> None:
    data = view.compute(subject, Options(target="4", index=0))
    assert data.ok, [proof.line for proof in data.proofs]
    assert data.numbers["after"] == "4"
    nearest = view.compute(subject, Options(index=0)).numbers["distance"]
    assert nearest <= data.numbers["distance"] * 1.05
    with pytest.raises(BadOption, match="says .* already"):
        view.compute(subject, Options(target=data.numbers["before"], index=0))
    with pytest.raises(BadOption, match='no class "ten"'):
        view.compute(subject, Options(target="ten"))


def test_view_A13_of_a_linear_network_the_view_finds_the_formula() -> None:
    one = network()
    net = one.model
    assert isinstance(net, nn.Sequential)
    data = view.compute(one, Options(index=2))
    x = one.prepare(data.numbers["image"][None]).double().flatten()
    weight = net[1].weight.detach().double()
    out = weight @ x + net[1].bias.detach().double()
    a = int(out.argmax())
    formula = (out[a] - out) / (weight[a] - weight).norm(dim=1).clamp_min(1e-300)
    formula[a] = torch.inf
    assert data.ok
    assert data.numbers["distance_free"] == pytest.approx(float(formula.min()), rel=1e-5)


def test_view_A13_the_square_that_hides_what_counts() -> None:
    def logits(x: Tensor) -> Tensor:  # class 1 while the blob at (10, 12) is there
        seen = x[:, 0, 10:13, 12:15].sum((1, 2))
        return torch.stack([torch.full_like(seen, 0.5), seen], 1)

    image = torch.zeros(1, 1, 28, 28)
    image[0, 0, 10:13, 12:15] = 1
    found = smallest_square(logits, image, torch.zeros(1))
    assert found is not None
    assert (found.top, found.left, found.size, found.after) == (10, 12, 3, 0)
    assert smallest_square(lambda x: x.sum((1, 2, 3))[:, None] * 0, image, torch.zeros(1)) is None


def test_view_A13_mutant_a_step_by_half_of_the_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = Search.towards

    def half(self, x, slope, gain):  # type: ignore[no-untyped-def]
        return plain(self, x, slope * (slope.abs() > slope.abs().mean()), gain)

    monkeypatch.setattr(Search, "towards", half)
    data = view.compute(network(), Options())
    assert not data.proofs[3].ok


def test_view_A13_mutant_a_change_that_stops_short_or_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = view.smallest_flip
    for factor, failed in ((0.9, 0), (1.3, 1)):

        def off(logits, image, *, factor=factor, **more):  # type: ignore[no-untyped-def]
            found = plain(logits, image, **more)
            assert found is not None
            changed = image + factor * (found.changed - image)
            return type(found)(changed, found.distance, found.before, found.after, 1.0)

        monkeypatch.setattr(view, "smallest_flip", off)
        data = view.compute(network(), Options())
        assert not data.proofs[failed].ok


def test_view_A13_mutant_no_care_for_what_pixels_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    one = network()
    monkeypatch.setattr(Range, "clamp", lambda self, x: x)
    assert [proof.ok for proof in view.compute(one, Options()).proofs] == [True, True, False, True]
