"""Signals and gradients over the run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from pellucid.figures.frame import BAD, POSITIVE, divided, frame
from pellucid.viewdata import ViewData

LAYERS = 24
"""Rows of a heat strip, at most; evenly spread over the model."""
SHADES = 6
"""Layers of which a histogram is drawn."""
TICKS = (-100.0, -10.0, -1.0, -0.1, 0.0, 0.1, 1.0, 10.0, 100.0)


def draw_health(data: ViewData) -> Figure:
    """Return heat strips, layers by moments, and under them the histogram of some layers.

    A red square marks an alarm.

    Args:
        data: of the view `health`.
    """
    n = data.numbers
    signals, weights = _spread(n["signals"]), _spread(list(n["weights"]))
    rows = max(len(signals), len(weights))
    tall = 1.3 + max(1.3, 0.22 * rows)
    figure, body = frame(data, 15, tall + 2.7)
    above, below = divided(body, heights=[tall, 2.7])
    axes: Any = above.subplots(1, 4)
    alarms = n["alarms"]
    names = [s["layer"] for s in signals]
    steps = n["steps"]
    _strip(above, axes[0], [s["std"] for s in signals], names, steps, "deviation of the values",
           _marks(alarms, ("saturated",), names, steps))  # fmt: skip
    _strip(above, axes[1], [s["zeros"] for s in signals], names, steps, "share of zeros",
           _marks(alarms, ("dead",), names, steps), log=False)  # fmt: skip
    found = n["weights"]
    _strip(above, axes[2], [found[w]["gradient"] for w in weights], weights, steps,
           "norm of the gradient", _marks(alarms, ("vanish",), weights, steps))  # fmt: skip
    _strip(above, axes[3], [found[w]["update"] for w in weights], weights, steps,
           "update / weight, per step", [])  # fmt: skip
    _histograms(below, _spread(n["signals"], SHADES), steps, n["edges"].tolist())
    return figure


def _spread(every: Sequence[Any], most: int = LAYERS) -> list[Any]:
    """Return at most `most`, evenly spread, first and last among them."""
    if len(every) <= most:
        return list(every)
    return [every[round(i * (len(every) - 1) / (most - 1))] for i in range(most)]


def _marks(
    alarms: Sequence[Any], kinds: Sequence[str], names: Sequence[str], steps: Sequence[int]
) -> list[tuple[int, int]]:
    return [
        (steps.index(a["step"]), names.index(a["layer"]))
        for a in alarms
        if a["kind"] in kinds and a["layer"] in names and a["step"] in steps
    ]


def _strip(
    figure: SubFigure, axis: Axes, rows: Sequence[Sequence[float]], names: Sequence[str],
    steps: Sequence[int], title: str, marks: Sequence[tuple[int, int]], *, log: bool = True,
) -> None:  # fmt: skip
    table = torch.tensor([list(row) or [math.nan] * len(steps) for row in rows]).double()
    shown = torch.where(table > 0, table, torch.nan).log10() if log else table
    known = shown[shown.isfinite()]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    low, high = (low, max(high, low + 0.1)) if log else (0.0, 1.0)
    axis.set_facecolor("#eeeeee")
    image = axis.imshow(
        shown.numpy(), cmap=POSITIVE, vmin=low, vmax=high, aspect="auto", interpolation="nearest"
    )
    for at in range(1, len(steps)):
        axis.axvline(at - 0.5, color="white", linewidth=1.5)
    for x, y in marks:
        axis.plot([x], [y], marker="s", color=BAD, markersize=7, markeredgecolor="white")
    _steps(axis, steps)
    axis.set_yticks(range(len(names)), [_tail(name) for name in names], fontsize=7)
    axis.set_title(title + (" (red: alarm)" if marks else ""), fontsize=9)
    bar = figure.colorbar(image, ax=axis, aspect=25, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    if log:
        bar.ax.yaxis.set_major_formatter(lambda value, _: f"{10**value:.2g}")


def _histograms(
    figure: SubFigure, layers: Sequence[Any], steps: Sequence[int], bounds: list[float]
) -> None:
    axes: Any = figure.subplots(1, len(layers), squeeze=False)
    for axis, layer in zip(axes[0], layers, strict=True):
        shares = layer["counts"].T.double() / layer["values"]
        used = (shares.sum(1) > 0).nonzero().flatten()
        low, high = max(int(used.min()) - 1, 0), min(int(used.max()) + 2, len(shares))
        axis.set_facecolor("#eeeeee")
        image = axis.imshow(
            torch.where(shares > 0, shares, torch.nan).log10().numpy(), cmap=POSITIVE, vmin=-5,
            vmax=0, aspect="auto", interpolation="nearest", origin="lower",
        )  # fmt: skip
        axis.set_ylim(low - 0.5, high - 0.5)
        places = [_place(value, bounds) for value in TICKS]
        kept = [i for i, place in enumerate(places) if low <= place < high]
        axis.set_yticks([places[i] for i in kept], [f"{TICKS[i]:g}" for i in kept], fontsize=7)
        _steps(axis, steps)
        axis.set_title(f"{_tail(layer['layer'])}, after {layer['after']}", fontsize=8)
    axes[0, 0].set_ylabel("value (even near 0,\nlogarithmic beyond)", fontsize=7)
    bar = figure.colorbar(image, ax=list(axes[0]), aspect=25, pad=0.01)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{100 * 10**value:g} %")
    bar.ax.tick_params(labelsize=7)
    bar.set_label("of the values", fontsize=7)


def _place(value: float, bounds: list[float]) -> float:
    """Return where `value` stands on the axis of the bins."""
    for at, (low, high) in enumerate(zip(bounds, bounds[1:], strict=False)):
        if low <= value < high:
            return at
    return len(bounds)


def _steps(axis: Axes, steps: Sequence[int]) -> None:
    shown = _spread(range(len(steps)), 5)
    axis.set_xticks(shown, [f"{steps[i]:,}" for i in shown], fontsize=7)
    axis.set_xlabel("step (only these columns were looked at)", fontsize=7)


def _tail(name: str, most: int = 18) -> str:
    return name if len(name) <= most else "..." + name[3 - most :]
