"""The kernels that an image excites most."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pellucid.figures.frame import COLOURS, divided, frame, positive, show_pixels, symmetric
from pellucid.viewdata import ViewData


def draw_excite(data: ViewData) -> Figure:
    """Return the image, the scores of all kernels, and the first eight with map and patch.

    Args:
        data: of the view `excite`.
    """
    n = data.numbers
    top = n["top"]
    figure, body = frame(data, 13.5, 8.2)
    above, below = divided(body, heights=[1, 2.1])
    steps = dict(n["steps"])
    axes: Any = above.subplots(1, 2 + len(steps), width_ratios=[1] * (1 + len(steps)) + [3.2])
    for axis, (name, pixels) in zip(axes, steps.items(), strict=False):
        show_pixels(axis, pixels, f"drawing: {name}")
    show_pixels(axes[-2], n["image"], "image, as the network gets it")
    _scores(axes[-1], n)
    grid: Any = below.subplots(3, len(top), squeeze=False)
    for column, best in enumerate(top):
        unit = best["unit"]
        kernel = symmetric(grid[0, column], best["kernel"].mean(0), n["kernel_limit"])
        grid[0, column].set_title(f"kernel {unit}\nz = {float(n['z'][unit]):+.2f}", fontsize=9)
        shown = positive(grid[1, column], best["map"], n["limit"])
        y, x = best["place"]
        grid[1, column].add_patch(
            Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor="#e69f00", linewidth=2)
        )
        patch = symmetric(grid[2, column], best["patch"].mean(0), n["patch_limit"])
        grid[2, column].set_xlabel(
            f"times kernel {best['dot']:.3f}\n{best['bias']:+.3f} bias = {best['value']:.3f}",
            fontsize=8,
        )
    channels = top[0]["kernel"].shape[0]
    mean = "" if channels == 1 else f"\n(mean of {channels} channels)"
    names = (f"kernel{mean}", "response,\nafter ReLU", f"strongest\npatch{mean}")
    for axis, text in zip(grid[:, 0], names, strict=True):
        axis.set_ylabel(text, fontsize=9)
    for row, drawn in zip(grid, (kernel, shown, patch), strict=True):
        below.colorbar(drawn, ax=list(row), shrink=0.8, pad=0.01).ax.tick_params(labelsize=7)
    return figure


def _scores(axis: Axes, n: Any) -> None:
    order = n["ranking"]
    z = n["z"].tolist()
    top = {best["unit"] for best in n["top"]}
    axis.bar(range(len(order)), [z[unit] for unit in order],
             color=[COLOURS[1] if unit in top else "#bbbbbb" for unit in order])  # fmt: skip
    axis.set_xticks(range(len(order)), [str(unit) for unit in order], fontsize=6, rotation=90)
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set_title(
        f"z-score of the mean response, {n['n']:,} training images (first eight coloured)",
        fontsize=9,
    )
    axis.set_xlabel("kernel", fontsize=8)
    axis.set_ylabel("standard deviations", fontsize=8)
    axis.tick_params(axis="y", labelsize=7)
