"""The course of a run: loss, accuracy, learning rate, and the gap between the two parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

TRAIN, VALIDATION, BEST = "#1b6ca8", "#d1495b", "#5b8c5a"


def curves(
    rows: list[dict[str, Any]],
    title: str,
    steps_per_epoch: int,
    best_step: int,
    schedule: Sequence[tuple[int, float]] = (),
) -> Figure:
    """Return the four curves of a run.

    Args:
        rows: of `metrics.jsonl`.
        title: shown above all.
        steps_per_epoch: so that the horizontal axes count epochs.
        best_step: the evaluation that counts, which is marked; 0 marks nothing.
        schedule: pairs of step and planned learning rate, drawn behind the rates that were used.
    """
    figure = Figure(figsize=(10, 7), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(2, 2, sharex=True)
    judged = [row for row in rows if row["kind"] == "evaluation"]
    steps = [row for row in rows if row["kind"] == "step"]
    scale = 1 / steps_per_epoch

    loss = axes[0, 0]
    loss.plot(
        [scale * row["step"] for row in steps], [row["loss"] for row in steps],
        color=TRAIN, alpha=0.4, linewidth=1, marker="." if len(steps) < 40 else None,
        label="training batches (running)",
    )  # fmt: skip
    _both(loss, judged, scale, "loss")
    loss.set(title="Loss (mean cross-entropy, nats)")
    losses = [row["loss"] for row in steps] + [_highest(row) for row in judged]
    loss.set_ylim(bottom=0, top=1.08 * max(losses, default=1.0))

    accuracy = axes[0, 1]
    _both(accuracy, judged, scale, "accuracy", factor=100)
    accuracy.set(title="Accuracy (%)")

    rate = axes[1, 0]
    every = sorted(steps + judged, key=lambda row: row["step"])
    if schedule:
        planned = [scale * step for step, _ in schedule], [lr for _, lr in schedule]
        rate.plot(*planned, color="#bbbbbb", linewidth=3, label="schedule")
    rate.plot(
        [scale * row["step"] for row in every], [row["lr"] for row in every],
        color="#444444", label="used", marker="." if len(every) < 40 else None,
    )  # fmt: skip
    rate.set(title="Learning rate")
    rate.set_ylim(bottom=0)

    gap = axes[1, 1]
    compared = [row for row in judged if row["gap"] is not None]
    gap.plot(
        [scale * row["step"] for row in compared], [100 * row["gap"] for row in compared],
        color="#7a4988", marker="o", markersize=3,
    )  # fmt: skip
    gap.set(title="Gap: training minus validation accuracy (points)")
    if compared:
        gap.axhline(0, color="#999999", linewidth=0.8)
    else:
        gap.text(0.5, 0.6, "no validation images", transform=gap.transAxes, ha="center")

    for axis in axes.flat:
        axis.set_xlabel("epochs")
        axis.set_xlim(0, 1.02 * scale * max(row["step"] for row in rows))
        axis.grid(alpha=0.25)
        if best_step:
            x = scale * best_step
            axis.axvline(x, color=BEST, linestyle="--", linewidth=1, label=f"best: epoch {x:.3g}")
    for axis in (loss, accuracy, rate):
        axis.legend(fontsize=8)
    return figure


def _highest(row: dict[str, Any]) -> float:
    return max(float(row[part]["loss"]) for part in ("train", "validation") if row[part])


def _both(
    axis: Axes, judged: list[dict[str, Any]], scale: float, key: str, factor: float = 1
) -> None:
    for part, colour in (("train", TRAIN), ("validation", VALIDATION)):
        rows = [row for row in judged if row[part]]
        if not rows:
            continue
        label = f"{part} (eval mode, n = {rows[-1][part]['n']:,})"
        x = [scale * row["step"] for row in rows]
        y = [factor * row[part][key] for row in rows]
        axis.plot(x, y, color=colour, marker="o", markersize=3, label=label)
