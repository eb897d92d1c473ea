"""Two models on the same images: against SciPy, and against resampling the images one by one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from torch import Tensor

from pellucid.metrics.paired import (
    McNemar,
    fair_coin,
    holm,
    mcnemar,
    paired_bootstrap,
    verdict,
)


def pair(both: int, only_a: int, only_b: int, neither: int) -> tuple[Tensor, Tensor]:
    a = torch.tensor([True] * both + [True] * only_a + [False] * only_b + [False] * neither)
    b = torch.tensor([True] * both + [False] * only_a + [True] * only_b + [False] * neither)
    order = torch.randperm(len(a), generator=torch.Generator().manual_seed(1))
    return a[order], b[order]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_p_is_scipys(only_a: int, only_b: int) -> None:
    test = mcnemar(*pair(40, only_a, only_b, 10))
    assert (test.n, test.only_a, test.only_b) == (50 + only_a + only_b, only_a, only_b)
    tosses = only_a + only_b
    expected = binomtest(only_a, tosses, 0.5).pvalue if tosses else 1.0
    assert test.p == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("heads", "tails"), [(480, 521), (499, 502), (4900, 5100), (2000, 90_000), (10**6, 10**6 + 900)]
)
def test_large_numbers_of_tosses_too(heads: int, tails: int) -> None:
    expected = binomtest(heads, heads + tails, 0.5).pvalue
    assert fair_coin(heads, tails) == pytest.approx(expected, rel=1e-6, abs=1e-300)
    assert fair_coin(heads, tails) == fair_coin(tails, heads)


def test_the_bootstrap_is_that_of_the_images_themselves() -> None:
    a, b = pair(800, 70, 40, 90)
    found = paired_bootstrap(a, b, seed=3)
    assert found.n == 1000
    assert found.value == pytest.approx(0.03)
    gain = a.double() - b.double()
    stream = torch.Generator().manual_seed(7)
    drawn = torch.randint(1000, (4000, 1000), generator=stream)
    ends = torch.quantile(gain[drawn].mean(1), torch.tensor([0.025, 0.975]).double())
    assert found.interval == pytest.approx(tuple(ends.tolist()), abs=0.0025)
    assert paired_bootstrap(a, b, seed=3) == found != paired_bootstrap(a, b, seed=4)
    swapped = paired_bootstrap(b, a, seed=3)
    assert swapped.value == -found.value
    assert swapped.interval == pytest.approx((-found.interval[1], -found.interval[0]), abs=0.0025)


def test_the_interval_holds_its_level() -> None:
    """Of 300 experiments with a true difference of 0.1, about 95 % hold it."""
    stream = torch.Generator().manual_seed(5)
    held = 0
    for seed in range(300):
        kind = torch.multinomial(torch.tensor([0.6, 0.2, 0.1, 0.1]), 300, True, generator=stream)
        low, high = paired_bootstrap(kind <= 1, kind % 2 == 0, seed, draws=500).interval
        held += low <= 0.1 <= high
    assert 0.91 <= held / 300 <= 0.98


def test_equal_models_differ_by_nothing() -> None:
    a, _ = pair(5, 0, 0, 5)
    assert paired_bootstrap(a, a, 0).interval == (0.0, 0.0)
    assert mcnemar(a, a).p == 1.0
    ones = torch.ones(4, dtype=torch.bool)
    assert paired_bootstrap(ones, ~ones, 0).interval == (1.0, 1.0)


def test_what_is_not_of_the_same_images_is_refused() -> None:
    ones = torch.ones(4, dtype=torch.bool)
    with pytest.raises(ValueError, match="the same images"):
        mcnemar(ones, ones[:3])
    with pytest.raises(ValueError, match="no images"):
        paired_bootstrap(ones[:0], ones[:0], 0)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holms_rule(ps: list[float]) -> None:
    adjusted = holm(ps)
    order = sorted(range(len(ps)), key=ps.__getitem__)
    for rank, i in enumerate(order):
        below = [min(1.0, (len(ps) - k) * ps[j]) for k, j in enumerate(order[: rank + 1])]
        assert adjusted[i] == max(below)


def test_the_sentence_says_no_difference_shown_where_none_is() -> None:
    assert verdict("x", "y", mcnemar(*pair(90, 6, 4, 0))) == (
        "no difference shown between x and y: of 100 images 6 only x, 4 only y (p = 0.75)"
    )
    assert verdict("x", "y", mcnemar(*pair(60, 2, 38, 0))).startswith("y is better than x: ")
    assert verdict("x", "y", mcnemar(*pair(60, 38, 2, 0))).startswith("x is better than y: ")
    assert verdict("x", "y", McNemar(100, 9, 1, 0.02), 0.06).startswith("no difference shown")
