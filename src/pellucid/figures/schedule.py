"""The learning rate over a run, before it is trained."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

RATE, RISE = "#1b6ca8", "#f2dfb5"


def schedule_figure(
    points: Sequence[tuple[int, float]],
    steps: int,
    steps_per_epoch: int,
    title: str,
    note: str = "",
) -> Figure:
    """Return the planned learning rate over epochs and steps, on a linear and a logarithmic axis.

    Args:
        points: pairs of steps done and rate of the next step, in order.
        steps: of the whole run.
        steps_per_epoch: steps in which each training image is seen once.
        title: shown above all.
        note: a line below it.
    """
    figure = Figure(figsize=(9, 6), layout="constrained")
    figure.suptitle(f"{title}\n{note}" if note else title, fontsize=11)
    x = [step / steps_per_epoch for step, _ in points]
    y = [lr for _, lr in points]
    top = max(range(len(y)), key=y.__getitem__)
    axes = figure.subplots(2, 1, sharex=True)
    for axis, scale in zip(axes, ("linear", "log"), strict=True):
        if top:
            text = f"rises for {points[top][0]:,} steps ({x[top]:.3g} epochs)"
            axis.axvspan(0, x[top], color=RISE, label=text)
        axis.plot(x, y, color=RATE, drawstyle="steps-post", label=f"at most {y[top]:.3g}")
        axis.set_yscale(scale)
        axis.set(ylabel=f"learning rate ({scale})", xlim=(0, steps / steps_per_epoch))
        axis.grid(alpha=0.25)
    axes[0].legend(fontsize=9)
    axes[0].set_ylim(0, 1.08 * y[top])
    above = axes[0].secondary_xaxis(
        "top", functions=(lambda e: e * steps_per_epoch, lambda s: s / steps_per_epoch)
    )
    above.set_xlabel(f"steps ({steps_per_epoch:,} an epoch)")
    axes[1].set_xlabel("epochs")
    return figure
