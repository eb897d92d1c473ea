"""An image before and after the smallest change that flips the answer."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from pellucid.figures.frame import (
    COLOURS,
    balanced,
    blank,
    divided,
    frame,
    labels,
    show_pixels,
    symmetric,
)
from pellucid.viewdata import ViewData, short


def draw_flip(data: ViewData) -> Figure:
    """Return before, change, after, a square that does the same; probabilities; the way.

    Args:
        data: of the view `flip`.
    """
    n = data.numbers
    figure, body = frame(data, 14, 7.2)
    above, below = divided(body, heights=[1.2, 1])
    image, change, after, erased = above.subplots(1, 4)
    show_pixels(image, n["image"], f"image: the model says {n['before']}")
    mean = n["change"].mean(0)
    limit = float(mean.abs().max())
    shown = symmetric(change, mean, limit)
    of = "" if n["change"].shape[0] == 1 else f", mean of {n['change'].shape[0]} channels"
    size = f"length {short(n['distance'])}, largest {n['max_grey']:.1f}"
    text = f"change, on its own scale (grey values of 255{of}; {size})"
    change.set_title("\n".join(balanced(text, 44)), fontsize=9)
    bar = above.colorbar(shown, ax=change, shrink=0.8, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    show_pixels(after, n["changed"], f"image with the change: {n['after']}")
    _erased(erased, n)
    bars, way = below.subplots(1, 2)
    _bars(bars, n)
    _way(way, n)
    return figure


def _erased(axis: Axes, n: Any) -> None:
    square = n["square"]
    if square is None:
        blank(axis, "no square up to half of the image flips the answer")
        axis.set_box_aspect(1)
        return
    size = square["size"]
    text = f"smallest square painted over\n({size}x{size}) that flips: {square['after']}"
    show_pixels(axis, square["pixels"], text)
    axis.add_patch(Rectangle((square["left"] - 0.5, square["top"] - 0.5), size, size, fill=False,
                             edgecolor="#e69f00", linewidth=2))  # fmt: skip


def _bars(axis: Axes, n: Any) -> None:
    order = n["order"]
    rows = range(len(order))
    for at, (key, name) in enumerate((("p_before", "image"), ("p_after", "with the change"))):
        values: Tensor = n[key]
        axis.barh([row + (at - 0.5) * 0.4 for row in rows],
                  [100 * float(values[c]) for c in order], 0.4, color=COLOURS[at],
                  label=name)  # fmt: skip
    labels(axis, [n["classes"][c] for c in order])
    axis.set_xlim(0, 100)
    axis.set_xlabel("probability (%)", fontsize=9)
    beyond = f"the changed image lies {100 * (n['over'] - 1):.3g} % beyond the border"
    axis.set_title(f"what the model says ({beyond})", fontsize=9)
    axis.legend(fontsize=8, loc="lower right")


def _way(axis: Axes, n: Any) -> None:
    along = n["along"].tolist()
    axis.plot(along, n["logits_before"].tolist(), color=COLOURS[0], label=f"logit {n['before']}")
    axis.plot(along, n["logits_after"].tolist(), color=COLOURS[1], label=f"logit {n['after']}")
    axis.axvline(1, color="black", linestyle="--", linewidth=1)
    axis.text(1.02, 0.02, "border", transform=axis.get_xaxis_transform(), fontsize=8)
    axis.set_xlabel("share of the change (0: the image, 1: the border)", fontsize=9)
    axis.set_title(
        f"along the way. Of {n['tried']} random changes of this length {n['random']} flip the "
        "answer", fontsize=9,
    )  # fmt: skip
    axis.legend(fontsize=8)
    axis.grid(alpha=0.25)
