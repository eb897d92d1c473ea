"""Three small tasks outside image classification, each for many settings and seeds at once.

Words of Zipf's frequencies, a generator against a discriminator on a line, and a walk in a corridor
that is learned from its length alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.labs.small_net import Rule
from pellucid.seeds import generator

WORDS, WIDTH, KINDS = 300, 16, 4
CELLS, LIMIT, EPISODES = 6, 20, 16
UNITS = 16


def words(
    rule: Rule, rates: Tensor, seeds: int, seed: int, steps: int = 200
) -> tuple[Tensor, Tensor]:
    """Return which share of the 20 commonest and of the 200 rarest words is learned, (R, seeds).

    Each of 300 words belongs to one of four kinds; word k is seen 1/k as often as the first, 64
    words in a batch. The network is an embedding of 16 numbers and a linear layer.
    """
    draws = generator(seed, "lab", 9)
    kind = torch.randint(KINDS, (WORDS,), generator=draws)
    often = 1 / torch.arange(1, WORDS + 1).float()
    table = 0.1 * torch.randn(seeds, WORDS * WIDTH, generator=draws)
    layer = torch.randn(seeds, WIDTH * KINDS, generator=draws) / WIDTH**0.5
    w = torch.cat([table, layer], 1).expand(len(rates), -1, -1)

    def logits(w: Tensor, ids: Tensor) -> Tensor:
        rows = w[..., : WORDS * WIDTH].unflatten(-1, (WORDS, WIDTH))[..., ids, :]
        z: Tensor = rows @ w[..., WORDS * WIDTH :].unflatten(-1, (WIDTH, KINDS))
        return z

    def gradient(w: Tensor) -> Tensor:
        ids = often.multinomial(64, replacement=True, generator=draws)
        leaf = w.detach().requires_grad_()
        lp = logits(leaf, ids).log_softmax(-1)
        picked = lp.gather(-1, kind[ids].expand(lp.shape[:-1])[..., None])
        (slope,) = torch.autograd.grad(-picked.sum() / 64, leaf)
        return slope

    *_, w = islice(rule(gradient, w, rates[:, None, None]), steps)
    right = (logits(w, torch.arange(WORDS)).argmax(-1) == kind).float()
    return right[..., :20].mean(-1), right[..., 100:].mean(-1)


def corridor(
    rule: Rule, rates: Tensor, seeds: int, seed: int, updates: int = 100
) -> tuple[Tensor, Tensor]:
    """Return the mean reward of the first and of the last ten updates, (R, seeds).

    Six cells in a row; each step left or right costs 1, the last cell ends the walk, and so do 20
    steps: -5 is the best there is. The policy has two logits for each cell, and learns by
    REINFORCE (Williams, 1992) from 16 walks at a time.
    """
    draws = generator(seed, "lab", 7)
    rewards: list[Tensor] = []

    def gradient(w: Tensor) -> Tensor:
        leaf = w.detach().requires_grad_()
        policy = leaf.unflatten(-1, (CELLS, 2)).log_softmax(-1)
        shape = (len(rates), seeds, EPISODES)
        cell, done = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
        reward, chosen = torch.zeros(shape), torch.zeros(shape)
        for _ in range(LIMIT):
            choices = policy.gather(2, cell[..., None].expand(*shape, 2))
            right = torch.rand(seeds, EPISODES, generator=draws) < choices[..., 1].exp()
            taken = choices.gather(-1, right.long()[..., None]).squeeze(-1)
            chosen = chosen + taken * ~done
            reward = reward - (~done).float()
            cell = torch.where(done, cell, (cell + 2 * right.long() - 1).clamp(min=0))
            done = done | (cell == CELLS - 1)
        rewards.append(reward.mean(-1))
        better = reward - reward.mean(-1, keepdim=True)
        (slope,) = torch.autograd.grad(-(better * chosen).mean(-1).sum(), leaf)
        return slope

    w = torch.zeros(len(rates), seeds, CELLS * 2)
    for _ in islice(rule(gradient, w, rates[:, None, None]), updates):
        pass
    course = torch.stack(rewards)
    return course[:10].mean(0), course[-10:].mean(0)


def duel(
    rates: Sequence[float], beta1: Sequence[float], seeds: int, seed: int, steps: int = 800
) -> Tensor:
    """Return how far a GAN's numbers are from the true ones, (steps / 10, settings, seeds).

    The true numbers are normal, mean 3 and spread 0.5. Generator and discriminator have 16 units;
    both learn by Adam, beta2 0.999, with the non-saturating loss (Goodfellow et al., 2014), in
    turns. The distance is Wasserstein's: the mean distance of sorted numbers.
    """
    draws = generator(seed, "lab", 5)
    lr, first = (torch.tensor(values)[:, None, None] for values in (rates, beta1))
    begin = [_first(seeds, draws).expand(len(rates), -1, -1) for _ in range(2)]
    maker, judge = _Adam(begin[0], lr, first), _Adam(begin[1], lr, first)
    wanted = 3 + 0.5 * math.sqrt(2) * torch.erfinv((2 * torch.arange(256) + 1) / 256 - 1)
    far = []
    for step in range(1, steps + 1):
        real = 3 + 0.5 * torch.randn(seeds, 64, generator=draws)
        noise = torch.randn(seeds, 64, generator=draws)
        made = _curve(maker.w, noise)
        leaf = judge.w.detach().requires_grad_()
        loss = F.softplus(-_curve(leaf, real)).mean(-1) + F.softplus(_curve(leaf, made)).mean(-1)
        judge.step(torch.autograd.grad(loss.sum(), leaf)[0])
        leaf = maker.w.detach().requires_grad_()
        loss = F.softplus(-_curve(judge.w, _curve(leaf, noise))).mean(-1)
        maker.step(torch.autograd.grad(loss.sum(), leaf)[0])
        if step % 10 == 0:
            sample = _curve(maker.w, torch.randn(seeds, 256, generator=draws))
            far.append((sample.sort(-1).values - wanted).abs().mean(-1))
    return torch.stack(far)


class _Adam:
    """Adam's rule for two players, who move in turns; `rules.adam` asks for one gradient."""

    def __init__(self, w: Tensor, lr: Tensor, beta1: Tensor) -> None:
        self.w, self.lr, self.beta1 = w, lr, beta1
        self.m, self.v, self.t = torch.zeros_like(w), torch.zeros_like(w), 0

    def step(self, g: Tensor) -> None:
        """Move against the gradient `g`."""
        self.t += 1
        self.m = self.beta1 * self.m + (1 - self.beta1) * g
        self.v = 0.999 * self.v + 0.001 * g * g
        root = (self.v / (1 - 0.999**self.t)) ** 0.5
        self.w = self.w - self.lr * self.m / (1 - self.beta1**self.t) / (root + 1e-8)


def _first(seeds: int, draws: torch.Generator) -> Tensor:
    """Return first weights (seeds, 49) of a curve."""
    slope, bend, out = (torch.randn(seeds, UNITS, generator=draws) for _ in range(3))
    return torch.cat([slope, bend / 2, out / UNITS**0.5, torch.zeros(seeds, 1)], 1)


def _curve(w: Tensor, x: Tensor) -> Tensor:
    """Return the numbers (..., N) that networks (..., 49) of one input and one output give."""
    w1, b1, w2, b2 = w.split([UNITS, UNITS, UNITS, 1], -1)
    h = F.leaky_relu(x[..., None] * w1[..., None, :] + b1[..., None, :], 0.2)
    y: Tensor = (h @ w2[..., None]).squeeze(-1) + b2
    return y
