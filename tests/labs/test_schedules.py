"""The lab on schedules: wrong computations fail."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pellucid.labs import schedules

right = schedules.plateau


def eager(metrics: Any, factor: float, patience: int, threshold: float, cooldown: int) -> Any:
    """The plateau rule, one value too early."""
    return right(metrics, factor, max(patience - 1, 0), threshold, cooldown)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("plateau", eager),
        ("plateau", lambda m, f, p, t, c: right(m, f, p, t, 0)),
        ("plateau", lambda m, f, p, t, c: right(m, f, p, 0.0, c)),
        ("plateau", lambda m, f, p, t, c: right(m, f * f, p, t, c)),
        ("FORMULAS", {**schedules.FORMULAS, "step": lambda t: 0.1 ** ((t + 1) // 10)}),
        ("FORMULAS", {**schedules.FORMULAS, "cosine": lambda t: math.cos(math.pi * t / 60)}),
        ("FORMULAS", {**schedules.FORMULAS, "linear": lambda t: 1 - t / 29}),
    ],
)
def test_a_wrong_computation_fails_a_claim(
    name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedules, name, wrong)
    assert schedules.run().failed


def test_a_cut_is_where_the_rate_falls() -> None:
    found = schedules.run(metrics=(1.0, 1.0, 1.0, 0.5), patience=0, cooldown=0, factor=0.5)
    assert found.values["rates"] == [1, 0.5, 0.25, 0.25]
    assert found.values["cuts"] == [1, 2]
