"""Two loops in one process, in short turns: both see the same drift of the machine."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping

from benchmarks.pairs import Row

Turn = Callable[[], float]


def stretch(loop: Iterator[object], length: int) -> float:
    """Take `length` steps of `loop`; return the seconds."""
    began = time.perf_counter()
    for _ in range(length):
        next(loop)
    return time.perf_counter() - began


def ratios(a: Turn, b: Turn, count: int) -> list[float]:
    """Return time of `a` / time of `b`, of `count` pairs of turns; who begins changes."""
    found = []
    for number in range(count):
        order = (a, b) if number % 2 else (b, a)
        times = {turn: turn() for turn in order}
        found.append(times[a] / times[b])
    return found


def interval(values: list[float], resamples: int = 10_000) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the median of `values`; the seed is fixed."""
    draws = random.Random(0)
    medians = sorted(
        statistics.median(draws.choices(values, k=len(values))) for _ in range(resamples)
    )
    return medians[int(0.025 * resamples)], medians[int(0.975 * resamples) - 1]


def summary(values: list[float], facts: Mapping[str, object]) -> Row:
    """Return what a benchmark in turns prints: median, interval, extremes, every ratio."""
    low, high = interval(values)
    return {
        "value": round(statistics.median(values), 4),
        "interval": [round(low, 4), round(high, 4)],
        "least": round(min(values), 3),
        "greatest": round(max(values), 3),
        "n": len(values),
        **facts,
        "ratios": [round(value, 4) for value in values],
    }
