"""How sure right and wrong answers are, and what refusing unsure ones gains."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

RIGHT, WRONG = "#1b6ca8", "#d1495b"


def confidence_figure(
    confidence: dict[str, Any], coverage: list[dict[str, Any]], title: str
) -> Figure:
    """Return the distribution of confidence, and accuracy over the share of answers that is given.

    Args:
        confidence: `edges`, and counts `right` and `wrong` in between.
        coverage: rows with `coverage`, `accuracy`, `interval`.
        title: shown above all.
    """
    figure = Figure(figsize=(10, 4.2))
    figure.suptitle(title)
    figure.subplots_adjust(left=0.085, right=0.98, bottom=0.13, top=0.84, wspace=0.2)
    counts, gain = figure.subplots(1, 2)
    edges = confidence["edges"]
    for name, colour in (("right", RIGHT), ("wrong", WRONG)):
        total = sum(confidence[name])
        counts.stairs(
            confidence[name], edges, color=colour, fill=True, alpha=0.35,
            label=f"{name} answers (n = {total:,})",
        )  # fmt: skip
        counts.stairs(confidence[name], edges, color=colour)
    counts.set_yscale("symlog", linthresh=1)
    counts.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    highest = max(1, *confidence["right"], *confidence["wrong"])
    counts.set_ylim(0, 6 * highest)  # room for the legend
    counts.set(
        title="Confidence: p of the predicted class", xlabel="confidence",
        ylabel="images (logarithmic above 1)", xlim=(0, 1),
    )  # fmt: skip
    counts.legend(fontsize=9, loc="upper left")
    x = [100 * row["coverage"] for row in coverage]
    gain.fill_between(
        x, [100 * row["interval"][0] for row in coverage],
        [100 * row["interval"][1] for row in coverage], color=RIGHT, alpha=0.2, linewidth=0,
        label="95 % interval",
    )  # fmt: skip
    gain.plot(
        x, [100 * row["accuracy"] for row in coverage], color=RIGHT, marker="o", markersize=4,
        label="accuracy",
    )  # fmt: skip
    gain.set(
        title="Accuracy when unsure answers are refused", xlabel="answered (% of the images)",
        ylabel="right (% of the answered)",
    )  # fmt: skip
    gain.invert_xaxis()
    gain.legend(fontsize=9, loc="lower right")
    for axis in (counts, gain):
        axis.grid(alpha=0.25)
    return figure
