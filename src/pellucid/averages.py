"""Averages of the weights over steps, to be judged and kept in the place of the last weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


def soon(decay: float, steps: int, times: int) -> float:
    """Return `decay`, lower at the first times, so that the random start is soon forgotten.

    Args:
        decay: that is wanted.
        steps: done, this one too.
        times: how often the average was taken before.

    >>> [round(soon(0.99, 10, times), 2) for times in (0, 9, 90, 900)]
    [0.1, 0.53, 0.91, 0.99]
    """
    del steps
    return min(decay, (1 + times) / (10 + times))


@dataclass(frozen=True)
class Grown:
    """A decay that grows with the share of the run that is done, to a power.

    Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU" (2024), section 3.4, with power 3.

    Args:
        steps: of the whole run.
        power: above 0.

    >>> [Grown(100, 3.0)(0.8, step, 0) for step in (0, 50, 100)]
    [0.0, 0.1, 0.8]
    """

    steps: int
    power: float

    def __call__(self, decay: float, steps: int, times: int) -> float:
        """Return it after `steps` steps."""
        del times
        return float(decay * min(1.0, steps / self.steps) ** self.power)


class NoEMA:
    """No averaging: the model that is judged is the one that is trained."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def update(self, model: nn.Module) -> None:
        """Do nothing."""

    def tensors(self) -> dict[str, Tensor]:
        """Return nothing to save."""
        return {}


class EMA:
    """Exponential moving average of the weights; buffers are copied.

    Polyak and Juditsky (1992) average the iterates of stochastic approximation; here recent
    ones count more: average = decay * average + (1 - decay) * weight, once per step. The
    decay is warmed up as min(decay, (1 + n) / (10 + n)) at the n-th time, or as `grown` says.

    With `pull` the model goes on from the average each time: the "k steps forward, 1 step back" of
    Lookahead (Zhang et al., 2019).

    Args:
        model: whose weights are averaged.
        decay: of the average each time.
        every: steps from one time to the next.
        pull: whether the model takes the average over.
        grown: the decay at one time, from that which is wanted, the steps and the times so far.

    Attributes:
        model: a copy of the model that holds the averages.
        updates: the number of steps so far.
    """

    def __init__(
        self,
        model: nn.Module,
        decay: float,
        every: int = 1,
        pull: bool = False,
        grown: Callable[[float, int, int], float] = soon,
    ) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self.every = every
        self.pull = pull
        self.grown = grown
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the averages towards the weights of `model`, if it is time."""
        self.updates += 1
        if self.updates % self.every:
            return
        decay = self.grown(self.decay, self.updates, self.updates // self.every - 1)
        averages: list[Tensor] = list(self.model.parameters())
        weights: list[Tensor] = list(model.parameters())
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)
        if self.pull:
            torch._foreach_copy_(weights, averages)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors to save, by name."""
        return {**self.model.state_dict(), "updates": torch.tensor(self.updates)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `tensors` returned."""
        rest = dict(tensors)
        self.updates = int(rest.pop("updates"))
        self.model.load_state_dict(rest)
