"""Named streams: the same for the same name, another one for another."""

from __future__ import annotations

import random

import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pellucid.seeds import derive, fixed_draws, generator, reseed

NAMES = st.tuples(
    st.integers(0, 2**40),
    st.sampled_from(["split", "init", "shuffle", "augment/crop", "step"]),
    st.integers(0, 10**6),
)


@given(NAMES, NAMES)
def test_names_and_streams_correspond(a: tuple[int, str, int], b: tuple[int, str, int]) -> None:
    assert (derive(*a) == derive(*b)) == (a == b)
    assert 0 <= derive(*a) < 2**63


def test_the_parts_of_a_name_do_not_run_together() -> None:
    assert derive(1, "step", 11) != derive(1, "step", 1, 1) != derive(11, "step", 1)


def test_reseed_depends_on_nothing_that_happened_before() -> None:
    def drawn() -> torch.Tensor:
        reseed(3, "step", 5, 0)
        return torch.rand(4)

    first = drawn()
    torch.rand(random.randrange(1, 99))
    assert torch.equal(drawn(), first)
    assert not torch.equal(torch.rand(4), first)


def test_streams_are_not_alike() -> None:
    """Two thousand neighbouring streams: their first draws are spread evenly (chi-square)."""
    draws = torch.stack([torch.rand(1, generator=generator(0, "augment", s)) for s in range(2000)])
    counts = torch.histc(draws, bins=20, min=0, max=1)
    statistic = float(((counts - 100) ** 2 / 100).sum())
    assert statistic < 43.8  # the 99.9 % point of chi-square with 19 degrees of freedom


@given(st.integers(0, 2**31), st.lists(st.integers(0, 2**40), min_size=1, max_size=9))
def test_a_number_for_each_image_is_that_of_splitmix64(seed: int, index: list[int]) -> None:
    """Beside the same formula on Python's integers, which know no overflow."""
    found = fixed_draws(seed, "turn-first", torch.tensor(index))
    for at, number in zip(index, found.tolist(), strict=True):
        bits = (at + derive(seed, "turn-first")) % 2**64
        bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        bits = (bits ^ bits >> 27) * 0x94D049BB133111EB % 2**64
        assert number == ((bits ^ bits >> 31) >> 11) / 2**53


def test_numbers_of_images_are_uniform_and_independent() -> None:
    numbers = fixed_draws(0, "turn-first", torch.arange(20_000)).numpy()
    assert stats.kstest(numbers, "uniform").pvalue > 0.001
    assert abs(stats.spearmanr(numbers[:-1], numbers[1:]).statistic) < 0.03
