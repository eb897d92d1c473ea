"""The walk from an image to its logits."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pellucid.figures.frame import (
    COLOURS,
    balanced,
    blank,
    divided,
    frame,
    labels,
    positive,
    show_pixels,
    symmetric,
)
from pellucid.viewdata import ViewData


def draw_logits(data: ViewData) -> Figure:
    """Return image, contributions by place and channel, logits and softmax; reasons below.

    Args:
        data: of the view `logits`.
    """
    n = data.numbers
    a, b = (n["classes"][n[key]] for key in ("target", "against"))
    figure, body = frame(data, 13.5, 7.6)
    above, below = divided(body, heights=[1, 1.12])
    image, place, channel, logits, softmax = above.subplots(
        1, 5, width_ratios=[1, 1.15, 1.1, 1.1, 1.1]
    )
    show_pixels(image, n["image"], "image")
    _places(above, place, n, a, b)
    _channels(channel, n, a, b)
    _bars(logits, n["logits"].tolist(), n, "logit")
    _bars(softmax, (100 * n["softmax"]).tolist(), n, "softmax: probability (%)")
    softmax.set_xlim(0, 125)
    _reasons(below, n, a, b)
    return figure


def _places(above: Any, axis: Axes, n: Any, a: str, b: str) -> None:
    values = n["difference_by_place"]
    if values.numel() == 1:
        blank(axis, f"the inputs of {n['layer']} have no place")
        axis.set_box_aspect(1)
        return
    shown = symmetric(axis, values, float(values.abs().max()))
    size = f"{values.shape[0]}x{values.shape[1]}"
    axis.set_title(f"by place ({size}),\nsum over channels", fontsize=9)
    bar = above.colorbar(shown, ax=axis, shrink=0.6)
    bar.ax.tick_params(labelsize=7)
    axis.set_xlabel(f"red: for {a}, blue: for {b}", fontsize=8)


def _channels(axis: Axes, n: Any, a: str, b: str) -> None:
    names = [name for name, _ in n["difference_bars"]]
    shown = [value for _, value in n["difference_bars"]]
    axis.barh(range(len(shown)), shown, color=["#b2182b" if v > 0 else "#2166ac" for v in shown])
    labels(axis, names, 7)
    axis.axvline(0, color="black", linewidth=0.8)
    title = f"by channel of the inputs of {n['layer']}: logit {a} - logit {b}"
    axis.set_title("\n".join(balanced(title, 34)), fontsize=9)
    axis.tick_params(axis="x", labelsize=7)


def _bars(axis: Axes, values: list[float], n: Any, title: str) -> None:
    order = list(range(len(values)))
    if len(order) > 12:
        order = sorted(order, key=lambda c: -values[c])[:12]
    colours = {n["target"]: COLOURS[1], n["against"]: COLOURS[0]}
    axis.barh(range(len(order)), [values[c] for c in order],
              color=[colours.get(c, "#bbbbbb") for c in order])  # fmt: skip
    labels(axis, [n["classes"][c] for c in order])
    axis.axvline(0, color="black", linewidth=0.8)
    for at, c in enumerate(order):
        axis.text(max(values[c], 0), at, f" {values[c]:.2f}", va="center", fontsize=7)
    low, high = min(*values, 0.0), max(*values, 0.0)
    axis.set_xlim(1.05 * low, high + 0.25 * ((high - low) or 1.0))  # all may be 0
    axis.set_title(title, fontsize=9)
    axis.tick_params(axis="x", labelsize=7)


def _reasons(below: Any, n: Any, a: str, b: str) -> None:
    """Draw the maps of the first reasons, each with its place; as bars where there is none."""
    hop = n["hops"][-1]
    below.suptitle(
        f"The {len(hop['reasons'])} strongest reasons for {a} and not {b}, among the "
        f"{n['features'].numel():,} inputs of {hop['layer']}: "
        "value x (weight difference) = contribution", fontsize=10,
    )  # fmt: skip
    shown = hop["reasons"][:10]
    if n["features"].shape[1:].numel() == 1:
        axis = below.subplots()
        axis.barh(range(len(shown)), [r["contribution"] for r in shown], color="#b2182b")
        names = [f"feature {r['place'][0]}" for r in shown]
        labels(axis, names)
        for at, r in enumerate(shown):
            text = f" {r['value']:.3g} x {r['weight']:.3g} = {r['contribution']:.3g}"
            axis.text(max(r["contribution"], 0), at, text, va="center", fontsize=9)
        axis.margins(x=0.2)
        axis.set_xlabel(f"for {a}, not {b}", fontsize=9)
        return
    axes: Any = below.subplots(1, max(1, len(shown)), squeeze=False)
    limit = float(n["features"].abs().max())
    draw = symmetric if float(n["features"].min()) < 0 else positive
    for axis, reason in zip(axes[0], shown, strict=False):
        channel, y, x = reason["place"]
        image = draw(axis, n["features"][channel], limit)
        axis.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor="#d55e00",
                                 linewidth=2.5))  # fmt: skip
        axis.set_title(f"channel {channel}, row {y}, column {x}", fontsize=9)
        text = f"{reason['value']:.3g} x {reason['weight']:.3g}\n= {reason['contribution']:.3g}"
        axis.set_xlabel(text, fontsize=9)
    if shown:
        bar = below.colorbar(image, ax=list(axes[0]), shrink=0.8, aspect=25, pad=0.01)
        bar.ax.tick_params(labelsize=7)
        bar.set_label("value of the input", fontsize=8)
