"""The shape and the cost of each layer."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from pellucid.figures.frame import BAD, COLOURS, frame
from pellucid.viewdata import ViewData

MOST = 60
"""Rows that a picture shows, at most: those that are no mere copies of a shape come first."""


def draw_shapes(data: ViewData) -> Figure:
    """Return a row for each layer: shapes on the left, bars of what it costs on the right.

    Args:
        data: of the view `shapes`.
    """
    every = data.numbers["layers"]
    layers = _shown(every)
    broken = data.numbers["broken"]
    names = [f"{_shortened(row['layer'])}  ({row['operation']})" for row in layers]
    height = 0.24 * (len(layers) + bool(broken)) + 1.1
    figure, body = frame(data, 13, height)
    text, *bars = body.subplots(1, 5, sharey=True, width_ratios=[3.2, 1, 1, 1, 1])
    count = len(layers) + bool(broken)
    text.set(xlim=(0, 1), ylim=(count - 0.5, -0.5), xticks=[])
    text.set_yticks(range(count), [*names, *([broken["name"]] if broken else [])], fontsize=8)
    some = f"\n({len(layers)} of {len(every)} operations: the largest; all stand in the table)"
    text.set_title(f"out shape, by formula{some * (len(layers) < len(every))}", fontsize=10)
    for at, row in enumerate(layers):
        wrong = row["predicted"] is not None and tuple(row["predicted"]) != tuple(row["out"])
        formula = "" if row["formula"] in ("", "same") else f"   {row['formula']}"
        text.text(
            0.01, at, f"{'x'.join(map(str, row['out']))}{formula}", va="center", fontsize=8,
            color=BAD if wrong else "black",
        )  # fmt: skip
    if broken:
        text.text(0.01, count - 1, f"breaks: {broken['reason']}. {broken['advice']}", color=BAD,
                  va="center", fontsize=8)  # fmt: skip
    kinds: Any = (
        ("parameters", "parameters"), ("macs", "multiplications\nwith addition"),
        ("receptive_field", "receptive field\n(pixels)"),
        ("kept_bytes", "bytes kept for\nbackward"),
    )  # fmt: skip
    for axis, (key, title), colour in zip(bars, kinds, COLOURS, strict=False):
        values = [_height(row[key]) for row in layers]
        axis.barh(range(len(layers)), values, color=colour)
        axis.set_title(title, fontsize=10)
        axis.set_xlim(0, 1.7 * max([*values, 1]))
        axis.tick_params(axis="x", labelsize=7)
        axis.locator_params(axis="x", nbins=3)
        axis.ticklabel_format(axis="x", style="sci", scilimits=(0, 4))
        axis.grid(axis="x", alpha=0.25)
        for at, (row, value) in enumerate(zip(layers, values, strict=True)):
            label = "all" if row[key] == "whole image" else f"{value:,}" * (value > 0)
            axis.text(value, at, f" {label}", va="center", fontsize=7)
    return figure


def _shown(layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return at most `MOST` rows, in order: those with weights before the others."""
    if len(layers) <= MOST:
        return layers
    order = sorted(range(len(layers)), key=lambda i: (-layers[i]["parameters"], i))
    return [layers[i] for i in sorted(order[:MOST])]


def _height(value: Any) -> int:
    """Return a number to draw: of a receptive field its height."""
    if isinstance(value, tuple | list):
        return int(value[0])
    return 0 if value is None or isinstance(value, str) else int(value)


def _shortened(name: str) -> str:
    return name if len(name) <= 34 else f"...{name[-31:]}"
