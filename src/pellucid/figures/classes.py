"""The weights of each class, likeness of classes, and collapse over the run."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pellucid.figures.frame import COLOURS, SIGNED, divided, frame, symmetric
from pellucid.viewdata import ViewData


def draw_classes(data: ViewData) -> Figure:
    """Return centred weights as a table of colours, two matrices of cosines, and two curves.

    Args:
        data: of the view `classes`.
    """
    n = data.numbers
    classes = n["classes"]
    figure, body = frame(data, 13.5, 7.2)
    above, below = divided(body, heights=[1, 1.25])
    axis = above.subplots()
    weights = n["weights"]
    limit = float(weights.abs().max()) or 1.0
    shown = axis.imshow(weights.numpy(), cmap=SIGNED, vmin=-limit, vmax=limit, aspect="auto",
                        interpolation="nearest")  # fmt: skip
    _named(axis, classes, both=False)
    axis.set_xlabel(f"feature: input of {n['layer']} ({weights.shape[1]:,})", fontsize=9)
    axis.set_ylabel("class", fontsize=9)
    axis.set_title("weights of each class, minus their mean over the classes", fontsize=9)
    above.colorbar(shown, ax=axis, pad=0.01).set_label("weight", fontsize=8)
    one, two, curves = below.subplots(1, 3, width_ratios=[1, 1, 1.1])
    for axis, key, title in (
        (one, "weight_cosines", "cosine between class weights"),
        (two, "mean_cosines", "cosine between class means of the features"),
    ):
        table = n[key]
        shown = symmetric(axis, table, 1.0)
        _named(axis, classes, both=True)
        axis.set_title(title, fontsize=9)
        if len(classes) <= 12:
            for y in range(len(classes)):
                for x in range(len(classes)):
                    value = float(table[y, x])
                    axis.text(x, y, f"{value:.1f}".replace("-0.0", "0.0"), ha="center",
                              va="center", fontsize=6,
                              color="white" if abs(value) > 0.6 else "black")  # fmt: skip
    below.colorbar(shown, ax=[one, two], shrink=0.75, location="bottom", aspect=40, pad=0.02)
    _curves(curves, n)
    return figure


def _named(axis: Axes, classes: list[str], *, both: bool) -> None:
    if len(classes) <= 20:
        axis.set_yticks(range(len(classes)), classes, fontsize=8)
        if both:
            lean: Any = {"rotation": 45, "ha": "right"} if max(map(len, classes)) > 3 else {}
            axis.set_xticks(range(len(classes)), classes, fontsize=8, **lean)


def _curves(axis: Axes, n: Any) -> None:
    if not n["steps"]:
        axis.text(0.5, 0.5, f"NC1 {n['nc1']:.3g}\nNC2 {n['nc2']:.3g}\n(no copies of the weights)",
                  transform=axis.transAxes, ha="center", va="center", fontsize=9)  # fmt: skip
        axis.axis("off")
        return
    axis.plot(n["steps"], n["nc1_over"], marker="o", color=COLOURS[0],
              label="NC1: within / between classes")  # fmt: skip
    axis.plot(n["steps"], n["nc2_over"], marker="s", color=COLOURS[1],
              label="NC2: from evenly apart")  # fmt: skip
    axis.set_yscale("log")
    axis.set_xlabel("steps", fontsize=9)
    axis.set_title("neural collapse over the run (lower: more)", fontsize=9)
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False)
    axis.grid(alpha=0.25)
