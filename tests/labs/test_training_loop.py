"""The lab on the loop: wrong computations fail."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from pellucid.labs import training_loop

right_train, right_network = training_loop.train, training_loop.network


def always(missing: str) -> Any:
    """The loop with one line missing in every run."""
    return lambda x, y, lr, seed, without="": right_train(x, y, lr, seed, missing)


def never(x: Any, y: Any, lr: float, seed: int, without: str = "") -> Any:
    """The loop from which no line is left out."""
    return right_train(x, y, lr, seed)


def without_noise(seed: int) -> nn.Sequential:
    """The network without dropout."""
    net = right_network(seed)
    net[3] = nn.Identity()
    return net


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *(("train", always(line)) for line in training_loop.LINES),
        ("train", never),
        ("network", without_noise),
    ],
)
def test_a_wrong_computation_fails_a_claim(
    name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_loop, name, wrong)
    assert training_loop.run().failed
