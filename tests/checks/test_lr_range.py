"""The learning-rate range test: its rules on known curves, and on real digits."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

import msgspec
import pytest
import torch

from pellucid import Engine, Recipe, epochs, fit, notes
from pellucid.assemble import assemble
from pellucid.checks.lr_range import LRRange, analyse, lr_range
from pellucid.figures.lr_range import lr_range_figure
from pellucid.models.mlp import MLPSpec
from pellucid.optim.specs import SGD, Adam
from pellucid.seeds import generator

RATES = [1e-6 * 10 ** (step / 40) for step in range(240)]
PLAIN = notes("digits").with_(model=MLPSpec(hidden=(50,)), length=epochs(3), evaluate=epochs(3))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """So small a network only loses by a second thread, and much of it on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def at(recipe: Recipe, lr: float) -> Recipe:
    return recipe.with_(optimizer=msgspec.structs.replace(recipe.optimizer, lr=lr))


def curve(middle: float, blow: float, depth: float = 2.0, noise: float = 0.0) -> list[float]:
    """Return a loss that falls around the rate `middle`, and explodes from `blow` on."""
    draws = torch.randn(len(RATES), generator=generator(0, "test")).tolist()
    losses = []
    for rate, draw in zip(RATES, draws, strict=True):
        fallen = depth / (1 + (middle / rate) ** 2)
        blown = 5 * max(0.0, math.log10(rate / blow))
        losses.append(2.3 - fallen + blown + noise * draw)
    return losses


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize(("middle", "blow"), [(1e-4, 1e-2), (1e-3, 0.1), (1e-5, 1e-3)])
def test_both_rules_on_a_known_curve(middle: float, blow: float, noise: float) -> None:
    found = analyse(RATES, curve(middle, blow, noise=noise))
    assert found.steepest is not None
    assert found.edge is not None
    assert found.proposal is not None
    assert abs(math.log10(found.steepest / middle)) < 0.25  # the curve is smoothed over 0.5
    assert -0.5 < math.log10(found.edge / blow) < 0.1
    assert found.proposal == pytest.approx(found.edge / 3, rel=0.06)
    assert f"{found.proposal:g}" in found.why
    assert (len(found.rates), len(found.losses), len(found.smoothed)) == (240, 240, 240)


def test_the_first_swing_counts() -> None:
    """The loss falls, swings, and falls lower still: who goes up step by step stops before that."""
    losses = curve(1e-5, 1e9, depth=1.0)
    for step in range(140, 240):
        losses[step] = 2.0 if step < 180 else 0.5
    found = analyse(RATES, losses)
    assert found.edge is not None
    assert RATES[120] < found.edge < RATES[140]


def test_on_a_plateau_it_is_the_last_rate_before_the_swing() -> None:
    """The loss stands still over three powers of ten; the notes' rule takes the largest."""
    found = analyse(RATES, curve(1e-5, 0.05))
    assert found.edge is not None
    assert found.edge > 0.02


@pytest.mark.parametrize(
    "losses",
    [
        [2.3] * 240,
        curve(1e-3, 1e9, depth=0.0, noise=0.1),
        curve(1e-3, 1e9, depth=0.0, noise=0.5),
        [2.3 + 0.01 * step for step in range(240)],
        [2.3, 9.0, math.nan],
        [math.nan],
        [2.3 - 0.1 * step for step in range(18)],
    ],
    ids=["flat", "noise", "loud", "rising", "explodes", "no number", "too short"],
)
def test_nothing_is_proposed_where_nothing_was_learned(losses: list[float]) -> None:
    found = analyse(RATES[: len(losses)], losses)
    assert (found.proposal, found.edge, found.steepest) == (None, None, None)
    assert "nothing to propose" in found.why


@pytest.mark.parametrize("last", [math.nan, math.inf, 1e30])
def test_an_explosion_does_not_reach_back(last: float) -> None:
    calm = curve(1e-4, 1e9)
    found = analyse(RATES, [*calm[:200], *[last] * 40])
    assert found.edge is not None
    assert 0.3 * RATES[199] < found.edge < RATES[199]
    assert all(math.isfinite(value) for value in found.smoothed)
    assert max(found.smoothed) < 5


def ranged(recipe: Recipe) -> LRRange:
    engine = Engine.start(recipe.engine)
    return lr_range(recipe, engine, assemble(recipe, engine))


def accuracy(recipe: Recipe) -> float:
    engine = Engine.start(recipe.engine)
    built = assemble(recipe, engine)
    *_, last = fit(built.state, built.task, engine)
    assert last.evaluation is not None
    return last.evaluation.validation.accuracy


SGD_PLAIN = PLAIN.with_(optimizer=SGD())


def test_the_rates_in_the_recipe_play_no_part() -> None:
    found = [ranged(at(SGD_PLAIN, lr)) for lr in (1e-6, 50.0)]
    assert found[0].rates == found[1].rates
    assert found[0].losses == found[1].losses
    assert found[0].proposal is not None


def test_the_rate_grows_by_a_constant_factor_from_where_the_optimizer_needs_it() -> None:
    for recipe, first in ((SGD_PLAIN, 1e-4), (PLAIN.with_(optimizer=Adam()), 1e-6)):
        rates = ranged(recipe).rates
        assert rates[0] == pytest.approx(first)
        steps = [b / a for a, b in zip(rates, rates[1:], strict=False)]
        assert steps == pytest.approx([10 ** (1 / 40)] * len(steps))


def test_it_ends_when_the_loss_explodes() -> None:
    found = ranged(SGD_PLAIN)
    assert len(found.rates) < 281
    assert not max(found.losses[-5:]) < 3 * min(found.smoothed)


@pytest.mark.parametrize("optimizer", [SGD(), Adam()], ids=["sgd", "adam"])
def test_the_proposal_trains_where_wrong_rates_do_not(optimizer: SGD | Adam) -> None:
    recipe = PLAIN.with_(optimizer=optimizer)
    proposal = ranged(at(recipe, 1e-6)).proposal
    assert proposal is not None
    assert accuracy(at(recipe, 1e-6)) < 0.3
    assert accuracy(at(recipe, 50.0)) < 0.7
    assert accuracy(at(recipe, proposal)) > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [SGD(), Adam()], ids=["sgd", "adam"])
def test_the_proposal_holds_its_own_beside_the_default(optimizer: SGD | Adam) -> None:
    """Three seeds of the MNIST CNN: not more than 3 points behind the rate in the recipe."""
    base = notes("digits").with_(optimizer=optimizer, length=epochs(4), evaluate=epochs(4))
    behind = []
    for seed in range(3):
        recipe = base.with_(seed=seed)
        proposal = ranged(recipe).proposal
        assert proposal is not None
        behind.append(accuracy(recipe) - accuracy(at(recipe, proposal)))
    assert statistics.mean(behind) < 0.03


def test_nothing_is_touched() -> None:
    engine = Engine.start(PLAIN.engine)
    built = assemble(PLAIN, engine)
    before = {name: value.clone() for name, value in built.state.model.state_dict().items()}
    facts = built.state.facts()
    lr_range(PLAIN, engine, built)
    assert built.state.facts() == facts
    for name, value in built.state.model.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_picture() -> None:
    losses = [*curve(1e-4, 1e-2)[:200], math.nan]
    found = analyse(RATES[:201], losses)
    assert found.edge is not None
    marks = [("edge", found.edge), ("mine", 1e-3)]
    figure = lr_range_figure(found.rates, found.losses, found.smoothed, marks, "a test")
    (axis,) = figure.axes
    assert axis.get_xscale() == "log"
    raw, smooth, *lines = axis.get_lines()
    assert len(raw.get_xdata()) == 201
    assert list(smooth.get_ydata()) == list(found.smoothed)
    assert [line.get_xdata()[0] for line in lines] == [found.edge, 1e-3]
    assert axis.get_ylim()[0] == 0
    assert "mine: 0.001" in [text.get_text() for text in axis.get_legend().get_texts()]
