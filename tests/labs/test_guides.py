"""The guides to optimizers and schedules, the race and the noise: wrong computations fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pellucid.errors import UserError
from pellucid.labs import (
    fair_race,
    guide_toys,
    rules,
    schedule_guide,
    scheduled,
    sgd_noise,
    small_net,
    small_tasks,
)
from pellucid.labs import optimizer_guide as guide
from pellucid.labs.result import Claim
from pellucid.labs.scheduled import Course
from pellucid.labs.small_net import parts, verdict
from pellucid.labs.surfaces import himmelblau

Mutant = tuple[Any, str, Any]


def lost(claims: list[Claim]) -> int:
    return sum(not claim.holds for claim in claims)


def test_three_parts_of_the_training_images_and_no_test_image() -> None:
    teach, choose, judge = parts()
    assert [len(part.y) for part in (teach, choose, judge)] == [2000, 1000, 2000]
    together = torch.cat([teach.x, choose.x, judge.x])
    assert together.shape == (5000, 196)
    assert float(together.max()) <= 1


def test_many_networks_at_once_are_each_of_them_alone() -> None:
    rates = torch.tensor([0.01, 0.1])
    rule = guide.RULES["momentum"]
    *_, both = small_net.trained(rule, rates, 2, 0, 5)
    *_, one = small_net.trained(rule, rates[1:], 2, 0, 5)
    assert torch.allclose(both[1], one[0], atol=1e-6)


def test_a_network_is_that_of_torch() -> None:
    w = small_net.starts(1, 0)[0]
    w1, b1, w2, b2 = w.split([6272, 32, 320, 10])
    net = torch.nn.Sequential(torch.nn.Linear(196, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    with torch.no_grad():
        for p, values in zip(net.parameters(), (w1.view(196, 32).T, b1, w2.view(32, 10).T, b2),
                             strict=True):  # fmt: skip
            p.copy_(values)
    x, y = parts()[1]
    assert torch.allclose(small_net.network(w, x), net(x), atol=1e-5)
    loss = torch.nn.functional.cross_entropy(net(x), y)
    assert float(small_net.loss_of(small_net.network(w, x), y)) == pytest.approx(
        float(loss.detach())
    )


def test_a_verdict_asks_for_more_than_chance() -> None:
    assert verdict(torch.tensor([0.2, 0.1, -0.1]), "a", "b").startswith("no difference shown")
    assert verdict(torch.tensor([0.1, 0.2]), "a", "b").startswith("no difference shown")
    assert verdict(-torch.tensor([0.20, 0.21, 0.19]), "a", "b") == "b ahead by 0.2000"
    assert verdict(torch.zeros(3), "a", "b").startswith("no difference shown")


def still(gradient: Any, w: Tensor, lr: Tensor) -> Any:
    """A rule that goes nowhere."""
    while True:
        gradient(w)
        yield w


def right_way(reward: float) -> Callable[..., tuple[Tensor, Tensor]]:
    """A corridor whose rewards do not depend on what was learned."""
    return lambda rule, rates, seeds, seed: (
        torch.full((len(rates), seeds), -16.0), torch.full((len(rates), seeds), reward)
    )  # fmt: skip


def slow(*mutant: Any) -> Any:
    return pytest.param(*mutant, marks=pytest.mark.slow)


def toys() -> list[Claim]:
    return guide_toys.claims(*guide_toys.tasks(guide.RULES, 0))


@pytest.mark.slow
def test_the_toys_of_the_guide_do_what_it_says() -> None:
    assert lost(toys()) == 0


@pytest.mark.parametrize(
    ("module", "name", "wrong"),
    [
        (guide.RULES, "Adam", still),
        slow(guide.RULES, "AdamW", guide.RULES["SGD"]),
        slow(small_tasks, "corridor", right_way(-9.0)),
        slow(small_tasks, "duel", lambda rates, *_: torch.ones(80, len(rates), 5)),
    ],
)
def test_a_wrong_toy_fails_a_claim(
    module: Any, name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_tasks, "duel", lambda rates, *_: torch.tensor(
        [2.0, 2.0, 0.2, 0.3, 0.2, 0.9])[None, :, None].expand(80, -1, 5))  # fmt: skip
    if isinstance(module, dict):
        monkeypatch.setitem(module, name, wrong)
        if name == "AdamW":  # both of the text's rules
            monkeypatch.setattr(rules, "adamw", lambda g, w, **k: rules.sgd(g, w, lr=k["lr"]))
    else:
        monkeypatch.setattr(module, name, wrong)
    assert lost(toys()) > 0


def swept() -> dict[str, guide.Sweep]:
    """Numbers of the kind that the runs give."""
    peak = {"SGD": 8, "momentum": 6, "Adagrad": 6, "RMSprop": 3, "Adam": 4, "AdamW": 4}
    found = {}
    for name, at in peak.items():
        places = torch.arange(9.0)
        accuracy = (0.9 - 0.04 * (places - at).abs() ** 2).clamp(min=0.1)[:, None].expand(9, 3)
        early = (0.5 + 0.25 * (places - at).abs()) * (1.3 if name == "SGD" else 1)
        found[name] = guide.Sweep(early, accuracy, accuracy, accuracy)
    return found


def test_the_claims_on_images_can_fail() -> None:
    assert lost(guide._images(swept())) == 0
    for name, other in (("momentum", "Adagrad"), ("AdamW", "SGD"), ("Adam", "SGD")):
        wrong = swept()
        bad = wrong[name]
        worse = bad._replace(judging=bad.judging - 0.2, early=wrong[other].early + 0.5)
        assert lost(guide._images({**wrong, name: worse})) > 0
    same = guide._decay(swept(), swept()["momentum"]._replace(
        judging=swept()["momentum"].judging[6:7] - 0.1))  # fmt: skip
    assert lost(same) == 1


def soon_late(epochs: int) -> Any:
    """A step that is to come early, and comes late."""
    return scheduled.StepDecay(epochs=6)


class Longer:
    """A cosine that is planned for twice as long as the run."""

    def build(self, lr: float, steps: int, epoch: int) -> Any:
        return scheduled.Cosine().build(lr, 2 * steps, epoch)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name", "wrong"),
    [
        (scheduled, "fixed", lambda schedule: lambda step, w: torch.tensor(1.0)),
        (scheduled, "PATIENCE", 0),
        (schedule_guide, "FEW", 1000),
        (schedule_guide, "StepDecay", soon_late),
        (schedule_guide, "Cosine", Longer),
    ],
)
def test_a_wrong_schedule_fails_a_claim(
    module: Any, name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, wrong)
    assert schedule_guide.run().failed


def falling(share: float, losses: float, accuracy: float = 0.9) -> Course:
    """A course of 20 looks at three rates that ends at a share of the rate, and at a loss."""
    way = torch.linspace(0, 1, 20)[:, None, None].expand(20, 3, 3)
    return Course(2 + (losses - 2) * way, 1 + (share - 1) * way, torch.full((3, 3), accuracy),
                  torch.full((3, 3), accuracy))  # fmt: skip


def courses() -> dict[str, Course]:
    """Numbers of the kind that the runs give."""
    best = {name: falling(0.0, 0.3) for name in scheduled.known(10)}
    crossed = falling(1.0, 0.3)
    losses = crossed.losses.clone()
    losses[-1] = torch.tensor([0.28, 0.3, 0.5])[:, None]
    return {**best, "constant": crossed._replace(losses=losses),
            "plateau": falling(1.0, 0.3)}  # fmt: skip


def test_the_claims_on_schedules_can_fail() -> None:
    found, early = courses(), falling(0.0, 0.4, accuracy=0.8)
    half = falling(0.0, 0.3)._replace(losses=falling(0.0, 0.3).losses[1::2],
                                      shares=falling(0.0, 0.3).shares[1::2])  # fmt: skip
    assert lost(schedule_guide._ends(found, early)) == 0
    assert lost(schedule_guide._ends(found, found["step"])) == 2  # it did not come too early
    assert lost(schedule_guide._ends({**found, "cosine": found["constant"]}, early)) == 2
    assert lost(schedule_guide._alike(found)) == 0
    assert lost(schedule_guide._alike({**found, "linear": early})) == 1
    assert lost(schedule_guide._length(found, half)) == 0
    cosine = found["cosine"]
    broken = half._replace(losses=cosine.losses[:10], shares=cosine.shares[:10])
    assert lost(schedule_guide._length(found, broken)) == 2
    assert lost(schedule_guide._length({**found, "cosine": half}, half)) == 2


def test_a_plateau_of_other_patience_fails_a_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    found, small = courses(), falling(0.1, 0.3)
    assert lost(schedule_guide._looks(found, small)) == 0
    assert lost(schedule_guide._looks(found, found["plateau"])) == 1
    monkeypatch.setattr(scheduled, "PATIENCE", 0)
    assert lost(schedule_guide._looks(found, small)) == 1


def test_a_wrong_one_cycle_fails_a_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lost(schedule_guide._onecycle(400)) == 0
    monkeypatch.setattr(schedule_guide, "OneCycle", schedule_guide.Cosine)
    assert lost(schedule_guide._onecycle(400)) > 1


NOISE: dict[str, Mutant] = {
    "lr squared": (sgd_noise, "stationary", lambda c, lr, b: lr * lr * sgd_noise.noise(c, b)),
    "no 2 - lr lambda": (
        sgd_noise, "stationary",
        lambda c, lr, b: lr * sgd_noise.noise(c, b) / torch.tensor(sgd_noise.CURVES)),
    "batch not divided by": (sgd_noise, "noise", lambda c, b: c.var(0, correction=0)),
    "descent on a batch": (sgd_noise, "descent", lambda c, lr, n: c[0] - c.mean(0)),
}  # fmt: skip


@pytest.mark.parametrize("name", NOISE)
def test_wrong_noise_fails_a_claim(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not sgd_noise.run().failed
    monkeypatch.setattr(*NOISE[name])
    assert sgd_noise.run().failed


@pytest.mark.parametrize("seed", range(1, 6))
def test_noise_and_race_hold_for_other_seeds(seed: int) -> None:
    assert not sgd_noise.run(seed=seed).failed
    assert not fair_race.run(seed=seed, steps=60, rates=6).failed


def unfair(*args: Any) -> dict[str, Tensor]:
    """A race in which one of them begins somewhere else."""
    found = right_race(*args)
    return {name: v * (0.5 if name == "Adam" else 1) for name, v in found.items()}


right_race = fair_race.race


def test_an_unfair_race_fails_a_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_race, "race", unfair)
    assert fair_race.run(steps=30, rates=4).failed


def test_a_race_at_other_rates_fails_a_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_race, "race", lambda f, b, r, n: right_race(f, b, r / 3, n))
    assert fair_race.run(steps=30, rates=4).failed


def test_a_race_counts_what_is_left() -> None:
    start = torch.tensor([[3.0, 2.0]], dtype=torch.float64) + 0.1
    left = right_race(himmelblau, start, torch.tensor([0.01, 10.0]).double(), 200)
    assert float(left["gradient descent"][0, 0]) < 1e-12
    assert float(left["gradient descent"][1, 0]) == 1  # diverged: nothing gained


def test_a_race_on_a_formula_needs_a_floor() -> None:
    assert not fair_race.run(formula="x^2 + y^4", steps=30, rates=4).failed
    with pytest.raises(UserError, match="goes below. Add a constant"):
        fair_race.run(formula="x^2 - y^2", steps=30, rates=4)
