"""A search for settings: what each trial came to, and what mattered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

WHOLE, CUT, LINE = "#0072b2", "#999999", "#d55e00"


def search_figure(
    trials: Sequence[Mapping[str, Any]], importance: Mapping[str, float], title: str
) -> Figure:
    """Return accuracy by trial, by each setting, and the importance of the settings.

    Args:
        trials: with `number`, `params`, `accuracy` (None if cut short or failed) and `best_so_far`.
        importance: share of each setting; may be empty.
        title: shown above all.
    """
    keys = list(dict.fromkeys(key for trial in trials for key in trial["params"]))
    panels = 1 + len(keys) + bool(importance)
    columns = min(3, panels)
    rows = -(-panels // columns)
    figure = Figure(figsize=(4.2 * columns, 3.5 * rows), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    whole = [trial for trial in trials if trial["accuracy"] is not None]
    cut = [t for t in trials if t["accuracy"] is None and t["best_so_far"] is not None]
    history = axes[0]
    _dots(history, [(t["number"], t) for t in whole], [(t["number"], t) for t in cut])
    best, course = 0.0, []
    for trial in whole:
        best = max(best, 100 * trial["accuracy"])
        course.append((trial["number"], best))
    history.step(*zip(*course, strict=True), where="post", color=LINE, label="best so far")
    history.set(title="Validation accuracy (%)", xlabel="trial")
    figure.legend(*history.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    for axis, key in zip(axes[1:], keys, strict=False):
        _setting(axis, key, whole, cut)
    used = 1 + len(keys)
    if importance:
        names = sorted(importance, key=importance.__getitem__)
        axes[used].barh(names, [100 * importance[name] for name in names], color=WHOLE)
        axes[used].set(title="Importance (%, PED-ANOVA)", xlim=(0, 100))
        used += 1
    for axis in axes[:used]:
        axis.grid(alpha=0.25)
        axis.set_axisbelow(True)
    for axis in axes[used:]:
        axis.set_axis_off()
    return figure


def _setting(axis: Any, key: str, whole: Sequence[Any], cut: Sequence[Any]) -> None:
    """Draw accuracy over the values of one setting; on a log scale where they span decades."""
    values = [trial["params"][key] for trial in [*whole, *cut] if key in trial["params"]]
    if all(isinstance(value, int | float) for value in values):
        place = {value: value for value in values}
        if min(values) > 0 and max(values) / min(values) > 20:
            axis.set_xscale("log")
    else:
        names = sorted(set(values), key=_as_number)
        place = {name: number for number, name in enumerate(names)}
        axis.set_xticks(range(len(names)), names)
        axis.set_xlim(-0.5, len(names) - 0.5)
    _dots(
        axis,
        [(place[t["params"][key]], t) for t in whole],
        [(place[t["params"][key]], t) for t in cut],
    )
    axis.set(title=key, ylabel="validation accuracy (%)")


def _as_number(name: str) -> tuple[float, str]:
    """Return what sorts names, numbers among them by their value."""
    try:
        return float(name), name
    except ValueError:
        return float("inf"), name


def _dots(axis: Any, whole: Sequence[Any], cut: Sequence[Any]) -> None:
    axis.plot(
        [x for x, _ in whole], [100 * t["accuracy"] for _, t in whole], "o", color=WHOLE, alpha=0.8,
        label="trial",
    )  # fmt: skip
    if cut:
        axis.plot(
            [x for x, _ in cut], [100 * t["best_so_far"] for _, t in cut], "x", color=CUT,
            label="cut short or failed",
        )  # fmt: skip
