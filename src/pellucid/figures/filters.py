"""The filters of the first layer, and what kind each is."""

from __future__ import annotations

from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from pellucid.figures.frame import COLOURS, SIGNED, divided, frame, grid_of
from pellucid.viewdata import ViewData

COLUMNS = 8
MOST = 64


def draw_filters(data: ViewData) -> Figure:
    """Return all filters side by side: trained, at the start, shuffled; one scale for all.

    Args:
        data: of the view `filters`.
    """
    n = data.numbers
    sets: dict[str, Tensor] = n["sets"]
    count = min(MOST, len(n["sets"]["trained"]))
    channels, h, w = n["sets"]["trained"].shape[1:]
    colour = channels == 3
    rows, columns = grid_of(count, COLUMNS // 2 if colour else COLUMNS)
    across = columns * (w * (3 if colour else 1) + max(1, round(0.2 * w)))
    tall = 4.2 * rows * (h + _gap(h, colour)) / across
    wide = 4.2 * len(sets) + 0.9
    figure, body = frame(data, wide, max(2.4, tall + 0.7))
    axes: Any = body.subplots(1, len(sets), squeeze=False)[0]
    for axis, (name, weights) in zip(axes, sets.items(), strict=True):
        shown = mosaic(axis, weights[:count], columns, n["scale"])
        text = f"{name}\n(red, green and blue side by side)" if colour else name
        axis.set_title(text, fontsize=10)
    bar = body.colorbar(shown, ax=list(axes), shrink=0.8)
    bar.set_label("weight", fontsize=9)
    return figure


def draw_kinds(data: ViewData) -> Figure:
    """Return the filters in groups by kind, and how many of each kind there are by chance.

    Args:
        data: of the view `kinds`.
    """
    n = data.numbers
    kinds = [kind for kind in n["counts"]["trained"] if n["counts"]["trained"][kind]]
    groups = {kind: [i for i, k in enumerate(n["kind"]) if k == kind][:MOST] for kind in kinds}
    columns = 8 if n["weights"].shape[1] == 3 else 16
    rows = {kind: grid_of(len(group), columns)[0] for kind, group in groups.items()}
    height = sum(0.62 * r + 0.45 for r in rows.values())
    figure, body = frame(data, 13, max(3.2, height))
    left, right = divided(body, widths=[3, 1])
    axes: Any = left.subplots(len(kinds), 1, squeeze=False,
                              height_ratios=[0.62 * rows[k] + 0.2 for k in kinds])  # fmt: skip
    for axis, kind in zip(axes[:, 0], kinds, strict=True):
        group = groups[kind]
        words = ["" if kind == "none" else _short(n["words"][i]) for i in group]
        shown = mosaic(axis, n["weights"][group], columns, n["scale"], group, words)
        axis.set_anchor("NW")
        axis.set_title(f"{kind}: {n['counts']['trained'][kind]}", fontsize=10, loc="left")
    bar = left.colorbar(shown, ax=list(axes[:, 0]), shrink=0.6, aspect=30)
    bar.set_label("weight", fontsize=9)
    _counts(right.subplots(), n["counts"])
    return figure


def _counts(axis: Axes, counts: dict[str, dict[str, int]]) -> None:
    kinds = list(next(iter(counts.values())))
    width = 0.8 / len(counts)
    for at, (name, found) in enumerate(counts.items()):
        places = [i + (at - (len(counts) - 1) / 2) * width for i in range(len(kinds))]
        bars = axis.bar(places, [found[kind] for kind in kinds], width, label=name,
                        color=COLOURS[at])  # fmt: skip
        axis.bar_label(bars, fontsize=7)
    axis.set_xticks(range(len(kinds)), kinds, fontsize=9)
    axis.set(ylabel="filters", title="how many of each kind")
    axis.legend(fontsize=8)


def mosaic(
    axis: Axes, weights: Tensor, columns: int, limit: float,
    numbers: list[int] | None = None, words: list[str] | None = None,
) -> Any:  # fmt: skip
    """Draw filters (N, C, h, w) as one picture with gaps; three channels stand side by side.

    Args:
        axis: to draw on.
        weights: to draw, each cell exactly its weight.
        columns: filters in a row.
        limit: end of the scale; it begins at -limit.
        numbers: of the filters; else from 0.
        words: below each filter.
    """
    n, channels, h, w = weights.shape
    shown = weights if channels <= 3 else weights.mean(1, keepdim=True)
    wide = shown.permute(0, 2, 1, 3).reshape(n, h, -1)
    width = wide.shape[2]
    gap = _gap(h, channels == 3) if words is None else max(1, round(0.6 * h))
    side = max(1, round(0.2 * w))
    rows, columns = -(-n // columns), min(columns, n) if numbers is None else columns
    sheet = torch.full((rows * (h + gap), columns * (width + side)), torch.nan)
    for i in range(n):
        row, column = divmod(i, columns)
        top, left = row * (h + gap) + gap, column * (width + side)
        sheet[top : top + h, left : left + width] = wide[i].cpu()
        text = str(i if numbers is None else numbers[i])
        if words:
            text += f" {words[i]}"
        axis.text(left - 0.5, top - 0.6, text, fontsize=6, va="bottom")
    axis.axis("off")
    return axis.imshow(sheet.numpy(), cmap=SIGNED, vmin=-limit, vmax=limit, interpolation="nearest")


def _gap(height: int, colour: bool) -> int:
    """Return the cells above each filter, where its number stands."""
    return max(1, round((0.6 if colour else 0.35) * height))


def _short(words: str) -> str:
    first = words.split(" (")[0].removesuffix(" edge").removesuffix(" line")
    for long, brief in (("diagonal ", "diag "), ("horizontal", "horiz"), ("vertical", "vert")):
        first = first.replace(long, brief)
    return first
