"""The labs on normalisation, dropout and embeddings: wrong computations fail."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pellucid.errors import UserError
from pellucid.labs import dropout, embedding, normalization

right_grouped, right_dropped = normalization.grouped, dropout.dropped


def unbiased(x: Any, axes: Any) -> Any:
    """Normalisation by the unbiased variance."""
    return (x - x.mean(axes, keepdim=True)) / (x.var(axes, keepdim=True) + 1e-5).sqrt()


def biased_memory(x: Any) -> Any:
    """Running statistics that keep the biased variance."""
    return 0.1 * x.mean((0, 2, 3)), 0.9 + 0.1 * x.var((0, 2, 3), correction=0)


def slow_memory(x: Any) -> Any:
    """Running statistics that keep 0.1 of the old."""
    return 0.9 * x.mean((0, 2, 3)), 0.1 + 0.9 * x.var((0, 2, 3))


def per_row(x: Any, p: float, draws: Any) -> Any:
    """Dropout of whole rows."""
    return x * right_dropped(torch.ones_like(x[..., :1]), p, draws)


def overwritten(ids: Any, slopes: Any) -> Any:
    """A gradient in which a repeated row keeps its last slope only."""
    found = torch.zeros(embedding.ROWS, slopes.shape[1], dtype=slopes.dtype)
    found[ids] = slopes
    return found


@pytest.mark.parametrize(
    ("module", "name", "wrong"),
    [
        (normalization, "normalise", unbiased),
        (normalization, "EPS", 1e-3),
        (normalization, "remembered", biased_memory),
        (normalization, "remembered", slow_memory),
        (normalization, "grouped", lambda x, groups: right_grouped(x, 2)),
        (normalization, "AXES", {**normalization.AXES, "LayerNorm": (0, 1, 2, 3)}),
        (dropout, "dropped", lambda x, p, d: right_dropped(x, p, d) * (1 - p)),
        (dropout, "dropped", lambda x, p, d: right_dropped(x, 1 - p * 0.9, d)),
        (dropout, "dropped", lambda x, p, d: x),
        (embedding, "gradient", overwritten),
        (embedding, "gradient", lambda ids, slopes: torch.zeros(5, 3).double()),
    ],
)
def test_a_wrong_computation_fails_a_claim(
    module: Any, name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, wrong)
    assert module.run().failed


def test_a_row_that_is_not_in_the_table() -> None:
    with pytest.raises(UserError, match="each from 0 to 4"):
        embedding.run(ids=(0, 5))
