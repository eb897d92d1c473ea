"""The labs on splits and on modules: wrong computations fail."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pellucid.labs import modules, splits

right_validated, right_sequence = splits.validated, modules.as_sequence


def leaky(x: Any, y: Any, fold: Any, k: int, inside: bool) -> float:
    """Cross-validation that always chooses the features before."""
    return right_validated(x, y, fold, k, inside=False)


def without_pooling(hidden: int) -> nn.Sequential:
    """The row of layers with a mean where the maximum is meant."""
    row = right_sequence(hidden)
    row[2] = nn.AvgPool2d(2)
    return row


class Remembering(modules.Forgetful):
    """A network whose list is known."""

    def __init__(self) -> None:
        super().__init__()
        self.listed = nn.ModuleList(self.listed)  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("module", "name", "wrong"),
    [
        (splits, "validated", leaky),
        (splits, "validated", lambda *args, inside: right_validated(*args, inside=True)),
        (splits, "choose", lambda x, y: torch.arange(splits.CHOSEN)),
        (splits, "folds", lambda labels, k, seed, groups=None: torch.arange(len(labels)) // 9 % k),
        (splits, "nearest", lambda x, y, asked: torch.zeros(len(asked), dtype=torch.int64)),
        (modules, "carry", lambda source, target: None),
        (modules, "as_sequence", without_pooling),
        (modules, "Forgetful", Remembering),
    ],
)
def test_a_wrong_computation_fails_a_claim(
    module: Any, name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, wrong)
    assert module.run().failed
