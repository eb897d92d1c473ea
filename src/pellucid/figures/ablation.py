"""What each unit is worth, class by class."""

from __future__ import annotations

from matplotlib.figure import Figure

from pellucid.figures.frame import COLOURS, SIGNED, frame
from pellucid.viewdata import ViewData


def draw_ablation(data: ViewData) -> Figure:
    """Return units by classes: the change of accuracy; and over all classes as bars.

    Args:
        data: of the view `ablation`.
    """
    n = data.numbers
    units = n["units"]
    figure, body = frame(data, max(9.0, 0.22 * len(units) + 3.0), 7.4)
    bars, zero, mean = body.subplots(3, 1, sharex=True, height_ratios=[1, 1.3, 1.3])
    for at, (key, label) in enumerate((("zero_all", "set to 0"), ("mean_all", "set to its mean"))):
        places = [unit + (at - 0.5) * 0.4 for unit in range(len(units))]
        bars.bar(places, n[key].tolist(), 0.4, label=label, color=COLOURS[at])
    bars.axhline(0, color="black", linewidth=0.8)
    bars.set_ylabel("all classes\n(points)", fontsize=9)
    bars.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    limit = max(float(n["zero"].abs().max()), float(n["mean"].abs().max())) or 1.0
    for axis, key, name in ((zero, "zero", "set to 0"), (mean, "mean", "set to its mean")):
        shown = axis.imshow(
            n[key].T.numpy(), cmap=SIGNED, vmin=-limit, vmax=limit, aspect="auto",
            interpolation="nearest",
        )  # fmt: skip
        classes = n["classes"]
        if len(classes) <= 20:
            axis.set_yticks(range(len(classes)), classes, fontsize=8)
        axis.set_ylabel(f"class\n({name})", fontsize=9)
    mean.set_xticks(range(len(units)), [str(unit) for unit in units], fontsize=7, rotation=90)
    mean.set_xlabel("unit", fontsize=9)
    bar = body.colorbar(shown, ax=[zero, mean], shrink=0.8, aspect=30)
    bar.set_label("change of accuracy (points)", fontsize=9)
    return figure
