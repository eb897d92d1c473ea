"""The interval of a calibration error holds the true error as often as it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pellucid.metrics.calibration import equal_mass, equal_width
from pellucid.metrics.calibration_interval import ece_interval
from pellucid.metrics.judgement import Temperature, judge
from pellucid.metrics.ranked import binned, ranked
from pellucid.runs.evaluation import headline
from pellucid.values import Predictions

EDGES = np.linspace(0, 1, 16)


def chance(sure: np.ndarray, gap: float) -> np.ndarray:
    """The chance to be right of answers that are so sure; `gap` makes them too sure."""
    return np.clip(sure - gap * (sure - 0.2), 0, 1)


def drawn(n: int, source: np.random.Generator) -> np.ndarray:
    return 0.4 + 0.6 * source.beta(2, 1.5, n)


def true_error(gap: float) -> float:
    """Over a million answers, in the bins of equal width."""
    sure = drawn(1_000_000, np.random.default_rng(1))
    place = np.searchsorted(EDGES[1:-1], sure)
    return float(np.abs(np.bincount(place, sure - chance(sure, gap))).sum() / len(sure))


@pytest.mark.parametrize(("gap", "times"), [(0.0, 120), (0.1, 120)])
def test_it_holds_the_true_error_19_times_of_20(gap: float, times: int) -> None:
    """At least 90 % of 120 draws: at a level of 95 % fewer come up once in 100 tries."""
    source, true = np.random.default_rng(7), true_error(gap)
    held, plain = 0, 0
    for _ in range(times):
        sure = drawn(400, source)
        right = source.random(400) < chance(sure, gap)
        found = equal_width(ranked(torch.tensor(sure), torch.tensor(right)))
        assert found.interval is not None
        assert found.ece is not None
        held += found.interval[0] <= true <= found.interval[1]
        plain += found.ece > 1.5 * true
        assert 0 <= found.interval[0] <= found.interval[1] <= 1
    assert held >= 0.9 * times, held
    if gap == 0:  # the value itself is never the true one, which is 0
        assert plain == times


def test_it_is_narrower_with_more_images_and_leaves_0_where_the_error_is_real() -> None:
    source = np.random.default_rng(3)
    widths = []
    for n in (500, 8000):
        sure = drawn(n, source)
        right = torch.tensor(source.random(n) < chance(sure, 0.3))
        for bins in (equal_width, equal_mass):
            found = bins(ranked(torch.tensor(sure), right))
            assert found.interval is not None
            assert found.interval[0] > 0.05
            widths.append(found.interval[1] - found.interval[0])
    assert widths[2] < widths[0] / 2.5
    assert widths[3] < widths[1] / 2.5


def test_one_bin_is_the_usual_interval() -> None:
    """With one bin far from 0 the error is a plain mean: +-1.96 standard errors."""
    low, high = ece_interval(torch.tensor([0.3]).double(), torch.tensor([0.02]).double())
    assert low == pytest.approx(0.3 - 1.96 * 0.02, abs=0.004)
    assert high == pytest.approx(0.3 + 1.96 * 0.02, abs=0.004)


def test_the_noise_of_a_bin_is_that_of_its_images() -> None:
    """The sum of squares of confidence minus rightness, counted image by image."""
    source = np.random.default_rng(5)
    sure = drawn(300, source)
    right = source.random(300) < chance(sure, 0.2)
    found = binned(ranked(torch.tensor(sure), torch.tensor(right)), EDGES.tolist())
    place = np.searchsorted(EDGES[1:-1], sure)
    expected = np.bincount(place, (sure - right) ** 2, 15)
    assert found.squares == pytest.approx(expected.tolist())


def test_undefined_is_none() -> None:
    for n in (0, 1):
        empty = torch.zeros(n, dtype=torch.float64)
        assert equal_width(ranked(empty, empty > 1)).interval is None
        assert equal_mass(ranked(empty, empty > 1)).interval is None
    sure = torch.ones(50, dtype=torch.float64)
    assert equal_width(ranked(sure, sure > 0)).interval == (0.0, 0.0)  # all sure, all right


def test_it_stands_in_the_numbers_that_are_kept() -> None:
    logits = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(200) % 5
    judged = judge(Predictions(logits, labels, torch.arange(200), tuple("abcde")))
    facts, kept = headline(judged), judged.as_dict()["calibration"]
    assert list(kept["equal_width"]["interval"]) == list(facts["ece_interval"])
    assert list(kept["equal_mass"]["interval"]) == list(facts["ece_equal_mass_interval"])
    assert facts["brier_interval"] == judged.calibration.brier.interval
    low, high = facts["ece_interval"]
    assert 0 < low < facts["ece"] < high  # random answers are far too sure
    assert judge(Predictions(logits, labels, torch.arange(200), tuple("abcde"))).as_dict() == (
        judged.as_dict()
    )


@pytest.mark.parametrize("value", [0.5, 3.0])
def test_with_a_temperature_it_is_that_of_the_changed_confidences(value: float) -> None:
    """The logits divided by hand, and judged without a temperature, give the same interval."""
    logits = 3 * torch.randn(300, 5, generator=torch.Generator().manual_seed(0)).double()
    labels = torch.arange(300) % 5
    table = Predictions(logits, labels, torch.arange(300), tuple("abcde"))
    by_hand = judge(Predictions(logits / value, labels, torch.arange(300), tuple("abcde")))
    judged = judge(table, Temperature(value, "validation", 100))
    found = judged.calibration.tempered
    assert found is not None
    for mine, true, plain in (
        (found.ece_interval, by_hand.calibration.equal_width, judged.calibration.equal_width),
        (found.ece_equal_mass_interval, by_hand.calibration.equal_mass,
         judged.calibration.equal_mass),
    ):  # fmt: skip
        assert mine == pytest.approx(true.interval)
        assert mine != pytest.approx(plain.interval)
    assert found.ece_interval != found.ece_equal_mass_interval
    kept = judged.as_dict()["calibration"]["tempered"]
    assert kept["ece_interval"] == list(found.ece_interval or ())
    assert headline(judged)["temperature"]["ece_interval"] == found.ece_interval
    one = judge(
        Predictions(logits[:1], labels[:1], torch.arange(1), tuple("abcde")),
        Temperature(value, "validation", 100),
    )
    assert one.calibration.tempered is not None
    assert one.calibration.tempered.ece_interval is None
