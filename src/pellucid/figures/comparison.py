"""Several recipes beside each other: their curves, and the differences that were found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c8c00",
)  # fmt: skip
"""Told apart by people with any colour vision (Okabe and Ito 2008), and an olive."""

STYLES = ("-", "--", ":", "-.")
Rows = Sequence[dict[str, Any]]


def style(number: int) -> dict[str, Any]:
    """Return colour and line style of the arm `number`; 32 of them are different."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": STYLES[number // len(COLOURS) % len(STYLES)],
    }


def lines(
    courses: Mapping[str, Sequence[Rows]],
    rates: Mapping[str, Sequence[tuple[int, float]]],
    title: str,
) -> Figure:
    """Return loss, accuracy and learning rate of all arms: the mean over seeds, and its range.

    Args:
        courses: rows of `metrics.jsonl` of each run of each arm.
        rates: steps done and the rate of the next one, of the first run of each arm.
        title: shown above all.
    """
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    figure.suptitle(title)
    loss, accuracy, rate = figure.subplots(1, 3)
    seeds = max(len(runs) for runs in courses.values())
    for number, (name, runs) in enumerate(courses.items()):
        drawn = style(number)
        for axis, key, factor in ((loss, "loss", 1.0), (accuracy, "accuracy", 100.0)):
            x, low, mean, high = _over_seeds(runs, key, factor)
            mark = "." if len(x) < 30 else None
            label = name if axis is loss else None
            axis.plot(x, mean, linewidth=1.6, marker=mark, label=label, **drawn)
            if len(runs) > 1:
                axis.fill_between(x, low, high, color=drawn["color"], alpha=0.15, linewidth=0)
        used = rates[name]
        same = [other for other in rates if rates[other] == used]
        if len(same) > 1:  # they would cover each other: each gets its turn along the line
            turn = 8 * same.index(name)
            drawn = {**drawn, "linestyle": (turn, (8, 8 * (len(same) - 1)))}
        rate.plot([step for step, _ in used], [lr for _, lr in used], linewidth=1.6, **drawn)
    loss.set(title="Validation loss (nats)", xlabel="optimizer steps")
    accuracy.set(title="Validation accuracy (%)", xlabel="optimizer steps")
    rate.set(title="Learning rate (first seed)", xlabel="optimizer steps")
    for axis in (loss, accuracy, rate):
        axis.grid(alpha=0.25)
        axis.set_xlim(left=0)
    loss.set_ylim(bottom=0)
    highest = [max(lr for _, lr in used) for used in rates.values()]
    if max(highest) > 10 * min(highest):
        rate.set_yscale("log")  # or the smaller rates would lie on the axis
    else:
        rate.set_ylim(bottom=0)
    note = f"line: mean of {seeds} seeds; band: lowest to highest" if seeds > 1 else "one seed"
    figure.legend(loc="outside lower center", ncols=min(len(courses), 6), fontsize=9, title=note)
    return figure


def differences(pairs: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Return the difference of each arm to the first one, in points, with its interval.

    Args:
        pairs: with `arm`, `against`, `value`, `interval`, `p_corrected`, `seeds` and `n`.
        title: shown above all.
    """
    figure = Figure(figsize=(8, 1.8 + 0.45 * len(pairs)), layout="constrained")
    axis = figure.subplots()
    for number, pair in enumerate(pairs):
        low, high = (100 * end for end in pair["interval"])
        shown = pair["p_corrected"] <= 0.05
        colour = "#777777" if not shown else COLOURS[0] if pair["value"] > 0 else COLOURS[1]
        axis.plot([low, high], [number, number], color=colour, linewidth=3, solid_capstyle="butt")
        axis.plot([100 * pair["value"]], [number], "o", color=colour, markersize=7)
    axis.axvline(0, color="#333333", linewidth=1)
    axis.set_yticks(range(len(pairs)), [str(pair["arm"]) for pair in pairs])
    axis.set_ylim(len(pairs) - 0.5, -0.5)
    axis.grid(axis="x", alpha=0.25)
    axis.set_xlabel(
        f"accuracy minus that of {pairs[0]['against']}, in points, with 95 % interval\n"
        "blue: better; orange: worse; grey: no difference shown"
    )
    axis.set_title(title)
    return figure


def _over_seeds(
    runs: Sequence[Rows], key: str, factor: float
) -> tuple[list[int], list[float], list[float], list[float]]:
    """Return steps, and at each the least, the mean and the greatest value over runs."""
    at: dict[int, list[float]] = {}
    for rows in runs:
        for row in rows:
            if row["kind"] == "evaluation" and row["validation"]:
                at.setdefault(row["step"], []).append(factor * row["validation"][key])
    steps = sorted(at)
    return (
        steps,
        [min(at[step]) for step in steps],
        [sum(at[step]) / len(at[step]) for step in steps],
        [max(at[step]) for step in steps],
    )
