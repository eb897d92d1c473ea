"""The reliability diagram: how often answers are right that are so and so sure."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

DOT, GAP = "#1b6ca8", "#d1495b"


def calibration_figure(
    equal_width: dict[str, Any], equal_mass: dict[str, Any], title: str
) -> Figure:
    """Return two reliability diagrams, with bins of equal width and of equal mass.

    Args:
        equal_width: `edges`, `n`, `confidence`, `accuracy` of the bins, `ece`, `interval`, `floor`.
        equal_mass: likewise.
        title: shown above all.
    """
    figure = Figure(figsize=(10, 5))
    figure.suptitle(title)
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.11, top=0.82, wspace=0.2)
    axes = figure.subplots(1, 2)
    for axis, bins, name in zip(
        axes, (equal_width, equal_mass), ("equal width", "equal mass"), strict=True
    ):
        _diagram(axis, bins)
        axis.set_title(f"{len(bins['n'])} bins of {name}\n{_errors(bins)}", fontsize=10)
    return figure


def _errors(bins: dict[str, Any]) -> str:
    if bins["ece"] is None:
        return "ECE n/a"
    low, high = (100 * end for end in bins.get("interval") or (math.nan, math.nan))
    between = "" if math.isnan(low) else f"95 %: {low:.2f}-{high:.2f}; "
    return f"ECE {100 * bins['ece']:.2f} % ({between}by chance: {100 * bins['floor']:.2f} %)"


def _diagram(axis: Axes, bins: dict[str, Any]) -> None:
    rows = [
        (confidence, accuracy, n)
        for confidence, accuracy, n in zip(
            bins["confidence"], bins["accuracy"], bins["n"], strict=True
        )
        if n
    ]
    total = sum(n for _, _, n in rows) or 1
    low = min([0.95, *(min(confidence, accuracy) for confidence, accuracy, _ in rows)])
    low = max(0.0, low - 0.05)
    axis.plot([0, 1], [0, 1], color="#888888", linestyle="--", label="perfectly calibrated")
    for confidence, accuracy, _ in rows:
        axis.plot([confidence, confidence], [confidence, accuracy], color=GAP, linewidth=1.5)
    axis.scatter(
        [confidence for confidence, _, _ in rows], [accuracy for _, accuracy, _ in rows],
        s=[20 + 380 * n / total for _, _, n in rows], color=DOT, alpha=0.7, linewidths=0, zorder=3,
        label="a bin (area: its images)",
    )  # fmt: skip
    axis.set(
        xlabel="mean confidence of the bin", ylabel="share of right answers",
        xlim=(low, 1.02), ylim=(low, 1.02),
    )  # fmt: skip
    axis.grid(alpha=0.25)
    legend = axis.legend(fontsize=9, loc="best")
    for handle in legend.legend_handles[1:]:
        if handle is not None and hasattr(handle, "set_sizes"):
            handle.set_sizes([40])
