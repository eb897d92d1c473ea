"""The regression gate of the glass box: our loop, recording as it does by default, and a bare one.

Only a ratio is judged, of two loops that take turns in one process, so that a slow or busy machine
slows both. The threshold moves with the spread that the pairs show: noise makes the gate less
sharp, not red. Absolute times are printed and never judged.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.tax_steps import Sides
from benchmarks.turns import stretch
from pellucid import notes
from tests.conftest import FewDigits

LEAST = 0.92
"""Images per second of ours by those of the bare loop; about 0.97 on these small steps."""
SPREADS = 3
WARM, FEWEST, PAIRS, SECONDS = 4, 20, 120, 6.0
"""Pairs that are not counted, pairs at least and at most, and when to end between the two."""
RECIPE = notes("digits").with_(data=FewDigits(per_class=(40,) * 10), batch_size=32)


def verdict(ratios: list[float]) -> tuple[float, float]:
    """Return the median of `ratios`, and the least that it may be.

    Three times the standard error of the median below `LEAST`: the spread is taken from the median
    absolute deviation, which a few pairs that were interrupted do not move.
    """
    middle = statistics.median(ratios)
    deviation = 1.4826 * statistics.median(abs(ratio - middle) for ratio in ratios)
    return middle, LEAST - SPREADS * 1.2533 * deviation / math.sqrt(len(ratios))


def race(ours: Iterator[object], bare: Iterator[object]) -> tuple[list[float], dict[str, float]]:
    """Let both take a step each, in turns; return time of bare / ours, and milliseconds of each."""
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    sides = [("ours", ours), ("bare", bare)]
    end = time.perf_counter() + SECONDS
    for number in range(WARM + PAIRS):
        for name, loop in sides:
            times[name].append(stretch(loop, 1))
        sides.reverse()
        if number >= WARM + FEWEST and time.perf_counter() > end:
            break
    ratios = [b / a for a, b in zip(times["ours"], times["bare"], strict=True)][WARM:]
    return ratios, {name: 1000 * statistics.median(found) for name, found in times.items()}


def test_looking_on_costs_next_to_nothing(tmp_path: Path) -> None:
    sides = Sides(RECIPE, tmp_path)
    with sides.loops() as (ours, bare):
        ratios, milliseconds = race(ours, bare)
    middle, least = verdict(ratios)
    text = f"{middle:.3f} of the bare loop, at least {least:.3f} is wanted; {len(ratios)} pairs"
    print(text, milliseconds)
    assert middle >= least, text


def test_the_two_loops_do_the_same_work(tmp_path: Path) -> None:
    """Else the ratio says nothing; six steps, over the end of an epoch."""
    sides = Sides(RECIPE, tmp_path)
    steps = 2 * sides.mine.task.plan.steps_per_epoch + 2
    with sides.loops() as (ours, bare):
        stretch(ours, steps)
        assert not sides.equal
        stretch(bare, steps)
        assert sides.equal


def drawn(middle: float, spread: float, n: int, seed: int) -> list[float]:
    draws = random.Random(seed)
    return [math.exp(draws.gauss(math.log(middle), spread)) for _ in range(n)]


def test_a_loop_a_fifth_slower_is_seen() -> None:
    """With the spread of a quiet machine, and with that of a busy one."""
    for spread in (0.02, 0.1):
        for seed in range(50):
            middle, least = verdict(drawn(1 / 1.2, spread, 120, seed))
            assert middle < least


def test_noise_alone_is_never_red() -> None:
    """Even where it is of the size of what is measured, and the pairs are few."""
    for spread in (0.02, 0.2, 0.5):
        for n in (FEWEST, PAIRS):
            for seed in range(50):
                middle, least = verdict(drawn(0.97, spread, n, seed))
                assert middle >= least


def test_a_few_interrupted_pairs_change_nothing() -> None:
    ratios = drawn(0.97, 0.02, 100, 0)
    middle, least = verdict([*ratios, *[5.0] * 8, *[0.2] * 8])
    quiet, wanted = verdict(ratios)
    assert abs(middle - quiet) < 0.01
    assert abs(least - wanted) < 0.01
