"""Lengths: any unit, rounded up, and when something is due."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.plan import Duration, Plan, due, epochs, steps


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12 epochs", 5628), ("1 epoch", 469), ("0.5 epochs", 235), ("500 steps", 500),
        ("1 step", 1), ("1280 examples", 10), ("1281 examples", 11), ("10 percent", 100),
        ("10 %", 100), ("2EPOCHS", 938),
    ],
)  # fmt: skip
def test_a_length_in_steps(text: str, expected: int) -> None:
    assert Duration.parse(text).steps(per_epoch=469, batch_size=128, total=1000) == expected


@pytest.mark.parametrize("text", ["", "12", "epochs", "-1 epochs", "1 week", "1e3 steps", "nan %"])
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match='such as "12 epochs"'):
        Duration.parse(text)


@given(
    st.decimals(0, 10_000, places=3), st.sampled_from(["steps", "epochs", "examples", "percent"])
)
def test_a_length_survives_writing_and_reading(amount: object, unit: str) -> None:
    length = Duration.parse(f"{amount} {unit}")
    again = Duration.parse(str(length))
    assert again.unit == length.unit
    assert math.isclose(again.amount, length.amount, rel_tol=1e-5)


@given(st.integers(1, 50), st.integers(0, 60))
def test_due_at_each_multiple_and_at_the_end(total: int, every: int) -> None:
    happened = [step for step in range(1, total + 1) if due(step, every, total)]
    assert happened[-1] == total
    assert set(happened) == {s for s in range(1, total + 1) if every and s % every == 0} | {total}


@given(st.integers(1, 500), st.integers(1, 60))
def test_an_epoch_has_its_steps(total: int, per_epoch: int) -> None:
    plan = Plan(total, per_epoch, per_epoch)
    counted = [plan.epoch(step) for step in range(1, total + 1)]
    for epoch in set(counted) - {counted[-1]}:
        assert counted.count(epoch) == per_epoch
    assert counted == sorted(counted)


def test_equality_and_text() -> None:
    assert epochs(3) == Duration(Fraction(3), "epochs")
    assert hash(epochs(3)) == hash(Duration.parse("3 epochs"))
    assert epochs(3) != steps(3)
    assert repr(epochs(3)) == 'Duration.parse("3 epochs")'
