"""The network of `small_net.py` under a schedule: at three rates at once, with several seeds.

SGD with momentum 0.9 on batches of 50.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pellucid.labs import rules, small_net
from pellucid.labs.small_net import Part
from pellucid.optim.schedules import Constant, Cosine, Exponential, Linear, OneCycle, StepDecay

RATES = (0.03, 0.1, 0.3)
EVERY = 20
EPOCH = 2000 // small_net.BATCH
FACTOR, PATIENCE, THRESHOLD = 0.1, 2, 1e-4
Share = Callable[[int, Tensor], Tensor]
"""The rate of the next step as a share of the first, from steps done and weights."""


class Course(NamedTuple):
    """What a schedule did at all rates.

    Args:
        losses: on the choosing part, every 20 steps, (K, rates, seeds).
        shares: of the first rate at the same steps, (K, rates, seeds).
        choosing: accuracy on the part that chooses the rate, (rates, seeds).
        judging: accuracy on the part that chose nothing, (rates, seeds).
    """

    losses: Tensor
    shares: Tensor
    choosing: Tensor
    judging: Tensor

    @property
    def best(self) -> int:
        """The place of the rate that the choosing part prefers."""
        return int(self.choosing.mean(1).argmax())


def known(epochs: int) -> dict[str, Share]:
    """Return the schedules of a run of so many epochs."""
    specs: dict[str, Constant | StepDecay | Exponential | Cosine | Linear | OneCycle] = {
        "constant": Constant(),
        "step": StepDecay(epochs=round(0.6 * epochs)),
        "exponential": Exponential(gamma=0.01 ** (1 / epochs)),
        "cosine": Cosine(),
        "linear": Linear(),
        "one-cycle": OneCycle(),
    }
    shares: dict[str, Share] = {
        name: fixed(spec.build(1.0, epochs * EPOCH, EPOCH)) for name, spec in specs.items()
    }
    return {**shares, "plateau": Plateau(1000)}


def fixed(schedule: Callable[[int], float]) -> Share:
    """Make a share of a schedule that looks at nothing but the step."""
    return lambda step, w: torch.tensor(schedule(step))


class Plateau:
    """The plateau rule for many networks, each with counters of its own.

    Args:
        images: how many of the choosing part it looks at.
    """

    def __init__(self, images: int) -> None:
        x, y = small_net.parts()[1]
        self.part = Part(x[:images], y[:images])
        self.seen: list[Tensor] = []
        self.share = self.best = self.bad = torch.zeros(0)

    def __call__(self, step: int, w: Tensor) -> Tensor:
        """Look at the loss every 20 steps, and return the shares, (rates, seeds)."""
        if step == 0:
            self.seen = []
            self.share, self.bad = torch.ones(w.shape[:-1]), torch.zeros(w.shape[:-1])
            self.best = torch.full(w.shape[:-1], math.inf)
        elif step % EVERY == 0:
            loss = small_net.judged(w, self.part)[0]
            self.seen.append(loss)
            gain = loss < self.best * (1 - THRESHOLD)
            self.best = torch.where(gain, loss, self.best)
            self.bad = torch.where(gain, 0, self.bad + 1)
            cut = self.bad > PATIENCE
            self.share = torch.where(cut, self.share * FACTOR, self.share)
            self.bad = torch.where(cut, 0, self.bad)
        return self.share


def course(share: Share, seeds: int, seed: int, steps: int) -> Course:
    """Train at all rates, each multiplied by `share` from step to step."""
    rates = torch.tensor(RATES)[:, None]
    lr = torch.zeros(len(RATES), seeds, 1)  # the rule reads it at each step
    path = small_net.trained(
        lambda g, w, _: rules.sgd(g, w, lr=lr, momentum=0.9),  # type: ignore[arg-type]
        torch.tensor(RATES), seeds, seed, steps,
    )  # fmt: skip
    w = small_net.starts(seeds, seed).expand(len(RATES), seeds, -1)
    _, choose, judge = small_net.parts()
    losses, shares = [], []
    for step in range(steps):
        now = share(step, w).expand(len(RATES), seeds)
        lr.copy_((rates * now)[..., None])
        w = next(path)
        if (step + 1) % EVERY == 0:
            losses.append(small_net.judged(w, choose)[0])
            shares.append(now.clone())
    return Course(torch.stack(losses), torch.stack(shares), small_net.judged(w, choose)[1],
                  small_net.judged(w, judge)[1])  # fmt: skip
