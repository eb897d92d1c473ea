"""Against scikit-learn and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, log_loss

from pellucid.metrics.accuracy import measure, wilson
from pellucid.sinks.console import percent
from pellucid.values import Predictions


def table(n: int, classes: int, seed: int) -> Predictions:
    draws = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, classes, generator=draws)
    targets = torch.randint(classes, (n,), generator=draws)
    names = tuple(str(i) for i in range(classes))
    return Predictions(logits, targets, torch.arange(n), names)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 60), st.integers(2, 8), st.integers(0, 10**6))
def test_loss_and_accuracy_are_scikit_learns(n: int, classes: int, seed: int) -> None:
    predictions = table(n, classes, seed)
    measured = measure(predictions)
    labels = predictions.logits.argmax(1).numpy()
    assert measured.accuracy == accuracy_score(predictions.targets.numpy(), labels)
    shares = predictions.logits.double().softmax(1).numpy()
    expected = log_loss(predictions.targets.numpy(), shares, labels=np.arange(classes))
    assert measured.loss == pytest.approx(expected, rel=1e-6)


def test_nothing_to_judge() -> None:
    measured = measure(table(0, 3, 0))
    assert (measured.n, measured.correct) == (0, 0)
    assert math.isnan(measured.loss)
    assert math.isnan(measured.accuracy)
    assert wilson(0, 0) == (0.0, 1.0)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_scipys(case: tuple[int, int]) -> None:
    correct, n = case
    theirs = binomtest(correct, n).proportion_ci(0.95, method="wilson")
    assert wilson(correct, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_an_accuracy_is_never_bare() -> None:
    assert percent(9940, 10_000) == "99.40 % (n = 10,000; 95 %: 99.23-99.53)"
