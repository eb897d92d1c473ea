"""What `pellucid bench` shows: three tables of at most 80 columns."""

from __future__ import annotations

import textwrap

from pellucid.bench.clocked import PHASES, StepTimes
from pellucid.bench.measure import Bench
from pellucid.bench.proposals import Trial
from pellucid.bench.yardsticks import Yardstick

BAR = 28
"""Width of the bar of a phase that takes all the time."""


def bench_text(found: Bench) -> str:
    """Return what was measured, for a person."""
    lines = [
        f"this machine: {found.device}, PyTorch {found.torch}",
        *map(_yardstick, found.yardsticks),
        "",
        f"one step: {found.step.images} images, {found.precision}, n = {found.step.n}",
        *_phases(found.step),
        f"  {found.step.images_per_second:,.0f} images/s, "
        f"{found.step.flops_per_second / 1e9:,.1f} GFLOP/s: {found.share:.0%} of what the "
        "convolution above reaches",
    ]
    if found.trials:
        lines += ["", *_trials(found.trials), "", *_proposed(found)]
    return "\n".join(lines)


def _yardstick(found: Yardstick) -> str:
    return (
        f"  {found.name:<32} {found.value:>8,.1f} {found.unit:<9} "
        f"({found.low:,.1f} to {found.high:,.1f}, n = {found.n})"
    )


def _phases(step: StepTimes) -> list[str]:
    lines = []
    for phase in PHASES:
        seconds = step.seconds[phase]
        share = min(1.0, seconds / step.whole)
        lines.append(
            f"  {phase:<10} {1e3 * seconds:>9.2f} ms {share:>5.0%}  {'#' * round(BAR * share)}"
        )
    return [*lines, f"  {'all':<10} {1e3 * step.whole:>9.2f} ms"]


def _trials(trials: tuple[Trial, ...]) -> list[str]:
    lines = [
        "settings that were tried, each beside the recipe as it is, in pairs",
        f"  {'setting':<24} {'time an image':>14}  {'range':<14} {'n':>2}  changes",
    ]
    for trial in trials:
        if trial.ratio is None:
            text = f"  {trial.setting:<24} {trial.reason}"
            lines += textwrap.wrap(text, 80, subsequent_indent=" " * 27)
            continue
        spread = f"{trial.low:.2f} to {trial.high:.2f}"
        lines.append(
            f"  {trial.setting:<24} {trial.ratio:>13.2f}x  {spread:<14} {trial.n:>2}  "
            f"{trial.changes}"
        )
    return lines


def _proposed(found: Bench) -> list[str]:
    if not found.proposals:
        return ["No setting was faster in all pairs by more than 3 %: leave it as it is."]
    lines = ["Faster in all pairs, and by more than 3 %:"]
    for trial in found.proposals:
        assert trial.ratio is not None
        lines.append(f"  {trial.setting}  saves {1 - trial.ratio:.0%}; it changes {trial.changes}")
    return lines
