"""Is one recipe better than another, over images and over seeds? scipy is the oracle."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from pellucid.metrics.paired import mcnemar
from pellucid.metrics.replicates import Answers, replicated, student_p


def answers(right: Tensor, first: int = 0) -> Answers:
    return Answers(torch.arange(first, first + len(right)), right)


def drawn(seed: int, n: int, accuracy: float) -> Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(seed)) < accuracy


@pytest.mark.parametrize("df", [1, 2, 3, 4, 7, 10, 29])
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0, 2.5, 12.7, 300.0])
def test_student_p_is_that_of_scipy(t: float, df: int) -> None:
    assert student_p(t, df) == pytest.approx(2 * scipy.stats.t.sf(t, df), abs=1e-12)
    assert student_p(-t, df) == student_p(t, df)


def test_p_over_seeds_is_the_paired_t_test() -> None:
    a = [answers(drawn(seed, 200, 0.8)) for seed in range(5)]
    b = [answers(drawn(seed, 200, 0.83)) for seed in range(10, 15)]
    found = replicated(a, b)
    scores = [[float(one.right.double().mean()) for one in side] for side in (b, a)]
    assert found.p_seeds == pytest.approx(scipy.stats.ttest_rel(*scores).pvalue, rel=1e-9)
    assert found.value == pytest.approx(np.mean(scores[0]) - np.mean(scores[1]))
    wide = scipy.stats.ttest_rel(*scores).confidence_interval()
    assert found.interval == pytest.approx((wide.low, wide.high), abs=1e-6) or (
        found.interval[1] - found.interval[0] > wide.high - wide.low
    )


@pytest.mark.parametrize(("one", "other"), [(0.8, 0.8), (0.8, 0.86), (0.5, 0.9)])
def test_with_one_seed_it_is_the_test_of_mcnemar(one: float, other: float) -> None:
    a, b = drawn(1, 300, one), drawn(2, 300, other)
    found = replicated([answers(a)], [answers(b)])
    assert found.p_images == pytest.approx(mcnemar(a, b).p, abs=0.015)
    assert found.p == found.p_images
    assert found.p_seeds is None


def test_the_interval_over_images_is_that_of_the_bootstrap() -> None:
    a, b = drawn(1, 400, 0.7), drawn(2, 400, 0.8)
    low, high = replicated([answers(a)], [answers(b)]).interval
    gain = b.double().numpy() - a.double().numpy()
    theirs = scipy.stats.bootstrap(
        (gain,), np.mean, n_resamples=5000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.006)


def test_an_image_counts_once_however_many_seeds_see_it() -> None:
    """Five copies of one pair of models know no more of the images than one pair does."""
    a, b = answers(drawn(1, 200, 0.8)), answers(drawn(2, 200, 0.87))
    once, five = replicated([a], [b]), replicated([a] * 5, [b] * 5)
    assert five.p_images == pytest.approx(once.p_images, abs=0.01)
    assert five.n == 5 * once.n
    apart = replicated(
        [Answers(a.images + 1000 * i, a.right) for i in range(5)],
        [Answers(b.images + 1000 * i, b.right) for i in range(5)],
    )
    assert apart.p_images < once.p_images / 4  # other images do know more


def test_both_sources_of_chance_have_to_be_ruled_out() -> None:
    """Seeds that agree on five images show nothing, nor do many images with seeds at odds."""
    few = torch.tensor([True, True, False, False, False])
    better = torch.tensor([True, True, True, False, False])
    agreed = replicated([answers(few)] * 4, [answers(better)] * 4)
    assert agreed.p_seeds == 0
    assert agreed.p == agreed.p_images > 0.9
    a = [answers(drawn(i, 4000, 0.80), 4000 * i) for i in range(3)]
    b = [answers(drawn(50 + i, 4000, p), 4000 * i) for i, p in enumerate((0.95, 0.74, 0.84))]
    split = replicated(a, b)
    assert split.p_images < 0.001
    assert split.p == split.p_seeds
    assert split.p is not None
    assert split.p > 0.2


def test_chance_alone_is_rarely_called_a_difference() -> None:
    """200 comparisons of equals: at most 5 % and three standard errors of false alarms."""
    alarms = 0
    for trial in range(200):
        a = [answers(drawn(1000 * trial + s, 150, 0.8)) for s in range(3)]
        b = [answers(drawn(1000 * trial + 500 + s, 150, 0.8)) for s in range(3)]
        alarms += replicated(a, b, seed=trial).p < 0.05
    assert alarms <= 19


def test_the_order_of_seeds_and_the_sign_are_what_they_should_be() -> None:
    a, b = (
        [answers(drawn(s, 100, 0.6)) for s in (1, 2)],
        [answers(drawn(s, 100, 0.9)) for s in (3, 4)],
    )
    forth, back = replicated(a, b), replicated(b, a)
    assert forth.value == -back.value > 0
    assert forth.p == pytest.approx(back.p)
    assert forth == replicated(a, b)


def test_equal_answers_are_no_difference() -> None:
    a = [answers(drawn(s, 50, 0.6)) for s in (1, 2)]
    found = replicated(a, a)
    assert (found.value, found.p, found.interval) == (0.0, 1.0, (0.0, 0.0))


def test_the_interval_stays_where_differences_can_be() -> None:
    """Two seeds that disagree: Student's t with one degree of freedom goes far beyond."""
    a = [answers(drawn(s, 200, 0.5)) for s in (1, 2)]
    b = [answers(drawn(3, 200, 0.1)), answers(drawn(4, 200, 0.5))]
    found = replicated(a, b)
    assert found.interval == (-1.0, 1.0)


def test_sides_that_do_not_fit_are_refused() -> None:
    a = answers(drawn(1, 10, 0.5))
    with pytest.raises(ValueError, match="same images"):
        replicated([a], [Answers(a.images + 1, a.right)])
    with pytest.raises(ValueError, match="longer|shorter"):
        replicated([a, a], [a])
