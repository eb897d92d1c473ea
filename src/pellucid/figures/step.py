"""One training step, and the stages of a run."""

from __future__ import annotations

import textwrap
from typing import Any

from matplotlib.figure import Figure

from pellucid.figures.frame import COLOURS, balanced, divided, frame, labels, show_pixels
from pellucid.viewdata import ViewData

MOST = 30


def draw_step(data: ViewData) -> Figure:
    """Return the batch, the loss before and after, the forecast, gradients and changes.

    Args:
        data: of the view `step`.
    """
    n = data.numbers
    rows = n["layers"][:MOST]
    tall = max(3.2, 0.26 * len(rows) + 0.9)
    figure, body = frame(data, 13, 1.5 + tall)
    above, below = divided(body, heights=[1.5, tall])
    above.suptitle(
        f"the first {len(n['images'])} of the {n['batch'][0]} images, as the network gets them",
        fontsize=9,
    )  # fmt: skip
    axes: Any = above.subplots(1, max(1, len(n["images"])), squeeze=False)
    for axis, image, label in zip(axes[0], n["images"], n["labels"], strict=False):
        show_pixels(axis, image, n["classes"][label][:10])
    loss, ratio, gradient, change = below.subplots(1, 4, width_ratios=[0.9, 0.9, 1.2, 1.0])
    bars = (("ln of the\nclasses", n["chance"]), ("before", n["loss"]),
            ("forecast", n["forecast"]), ("after", n["after"]))  # fmt: skip
    for at, ((_, value), colour) in enumerate(
        zip(bars, ("#888888", COLOURS[0], COLOURS[4], COLOURS[1]), strict=True)
    ):
        loss.plot([at], [value], marker="o", markersize=9, color=colour)
        loss.annotate(f"{value:.4f}", (at, value), (0, 8), textcoords="offset points",
                      ha="center", fontsize=8)  # fmt: skip
    loss.grid(axis="y", alpha=0.25)
    loss.set_xticks(range(4), [name for name, _ in bars], fontsize=8)
    loss.set_title("loss of this batch (nats)", fontsize=9)
    loss.margins(x=0.2, y=0.25)
    ratio.plot(n["scales"], n["ratios"], marker="o", color=COLOURS[0])
    ratio.axhline(1, color="black", linestyle="--", linewidth=1)
    ratio.set_xscale("log")
    ratio.set_xlabel("share of the step that is taken", fontsize=8)
    ratio.set_title(f"change of the loss / forecast\n({n['checked']} of the images)", fontsize=9)
    ratio.grid(alpha=0.25)
    names = [row["name"] for row in rows]
    gradient.barh(range(len(rows)), [row["gradient"] for row in rows], color=COLOURS[0])
    labels(gradient, names, 7)
    gradient.set_title("norm of the gradient", fontsize=9)
    change.barh(range(len(rows)), [row["ratio"] for row in rows], color=COLOURS[1])
    labels(change, [""] * len(rows))
    change.ticklabel_format(axis="x", style="sci", scilimits=(0, 0))
    change.set_title("|change| / |weight|", fontsize=9)
    for axis in (gradient, change, loss, ratio):
        axis.tick_params(axis="x", labelsize=7)
        axis.tick_params(axis="y", labelsize=7)
    return figure


def draw_life(data: ViewData) -> Figure:
    """Return the stages of a run, each with its line of code and this run's values.

    Args:
        data: of the view `life`.
    """
    stages = data.numbers["stages"]
    figure, body = frame(data, 13.5, 0.62 * len(stages) + 0.6)
    axis = body.subplots()
    axis.set(xlim=(0, 100), ylim=(len(stages), 0), xticks=[], yticks=[])
    axis.set_frame_on(False)
    for x, name in ((3, "stage"), (17, "line of code"), (62, "in this run")):
        axis.text(x, -0.15, name, fontsize=9, color="#666666", va="bottom")
    for at, stage in enumerate(stages):
        if at % 2 == 0:
            axis.axhspan(at, at + 1, color="#f3f3f3")
        axis.text(1, at + 0.5, str(at + 1), va="center", ha="center", fontsize=10,
                  color=COLOURS[0], fontweight="bold")  # fmt: skip
        axis.text(3, at + 0.5, stage["stage"], va="center", fontsize=9.5)
        code = textwrap.shorten(stage["code"], 78, placeholder="...")
        axis.text(17, at + 0.36, code, va="center", fontsize=7.5, family="monospace")
        axis.text(17, at + 0.74, stage["place"], va="center", fontsize=7, color="#666666")
        axis.text(62, at + 0.5, "\n".join(balanced(stage["value"], 62)), va="center",
                  fontsize=8.5)  # fmt: skip
    return figure
