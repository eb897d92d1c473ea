"""The curve of a learning-rate range test."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

RAW, CURVE = "#9db9d1", "#1b6ca8"
MARKS = ("#5b8c5a", "#b8860b", "#d1495b", "#7a4988")


def lr_range_figure(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    marks: Sequence[tuple[str, float]],
    title: str,
) -> Figure:
    """Return the loss of each step over its learning rate, on a logarithmic axis.

    Args:
        rates: learning rate of each step, rising.
        losses: of each step's batch; those above what can be shown are cut off.
        smoothed: the curve that the rules look at.
        marks: pairs of text and rate, each drawn as a vertical line.
        title: shown above all.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axis = figure.subplots()
    shown = [loss if math.isfinite(loss) else math.nan for loss in losses]
    axis.plot(rates, shown, color=RAW, linewidth=1, label="each step's batch")
    axis.plot(rates, smoothed, color=CURVE, linewidth=2, label="smoothed")
    for (text, rate), colour in zip(marks, MARKS * len(marks), strict=False):
        axis.axvline(rate, color=colour, linestyle="--", linewidth=1.5, label=f"{text}: {rate:.2g}")
    axis.set_xscale("log")
    axis.set_ylim(0, 1.15 * max(smoothed))
    axis.set(title=title, xlabel="learning rate", ylabel="loss (nats)")
    axis.grid(alpha=0.25)
    axis.legend(fontsize=9, loc="lower left")
    return figure
