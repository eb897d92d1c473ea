"""A judgement as text, at most 80 columns wide."""

from __future__ import annotations

import textwrap
from typing import Any

Facts = dict[str, Any]

MANY = 20
"""Above this number of classes only the weakest are listed."""

WIDTH = 24
"""Letters of a class name that are shown."""


def judgement_page(facts: Facts) -> str:
    """Return all numbers of `evaluation/<part>.json` as lines for a person."""
    parts = [_head(facts), _classes(facts), _pairs(facts), _confidence(facts), _coverage(facts)]
    return "\n".join(line for part in parts for line in part)


def percent(value: float | None, digits: int = 2) -> str:
    """Return a share as percent; `n/a` where it is undefined.

    >>> percent(0.98125), percent(None)
    ('98.12 %', 'n/a')
    """
    return "n/a" if value is None else f"{100 * value:.{digits}f} %"


def number(value: float | None, digits: int = 4) -> str:
    """Return a number; `n/a` where it is undefined."""
    return "n/a" if value is None else f"{value:.{digits}f}"


def between(interval: Any, factor: float = 100, digits: int = 2) -> str:
    """Return a 95 % interval, or nothing where there is none.

    >>> between([0.9766, 0.9917])
    '95 %: 97.66-99.17'
    """
    if not interval:
        return "95 %: n/a"
    low, high = interval
    return f"95 %: {factor * low:.{digits}f}-{factor * high:.{digits}f}"


def short(name: str) -> str:
    """Return a class name that fits a column.

    >>> short("a" * 30)
    'aaaaaaaaaaaaaaaaaaaaa...'
    """
    return name if len(name) <= WIDTH else name[: WIDTH - 3] + "..."


def _head(facts: Facts) -> list[str]:
    accuracy, balanced, loss = facts["accuracy"], facts["balanced_accuracy"], facts["loss"]
    rows = [
        ("accuracy", percent(accuracy["value"]), between(accuracy["interval"])),
        ("balanced accuracy", percent(balanced["value"]), between(balanced["interval"])),
        ("loss (nats)", number(loss["value"]), between(loss["interval"], 1, 4)),
    ]
    rows += [
        (f"top-{top['k']}", percent(top["accuracy"]), between(top["interval"]))
        for top in facts["top"]
        if top["k"] > 1
    ]
    lines = [f"{name:<18} {value:>9}  ({interval})" for name, value, interval in rows]
    return [f"{facts['part']}: {facts['correct']:,} of {facts['n']:,} images right", *lines]


def _classes(facts: Facts) -> list[str]:
    scores = facts["per_class"]
    shown = scores
    if len(scores) > MANY:
        known = [score for score in scores if score["f1"] is not None]
        shown = sorted(known, key=lambda score: score["f1"])[:MANY]
    width = max(12, *(len(short(score["name"])) for score in shown)) if shown else 12
    title = "class" if shown is scores else f"weakest {len(shown)} of {len(scores)}"
    width = max(width, len(title))
    lines = ["", f"{title:<{width}}  images  precision     recall         F1"]
    for score in shown:
        cells = "  ".join(f"{percent(score[key]):>9}" for key in ("precision", "recall", "f1"))
        lines.append(f"{short(score['name']):<{width}}  {score['support']:>6,}  {cells}")
    for average in facts["averages"]:
        cells = "  ".join(f"{percent(average[key]):>9}" for key in ("precision", "recall", "f1"))
        lines.append(f"{average['name']:<{width}}  {facts['n']:>6,}  {cells}")
    for average in facts["averages"]:
        text = f"{average['name']}: {average['sentence']}"
        lines += textwrap.wrap(text, 78, initial_indent="  ", subsequent_indent="    ")
    return lines


def _pairs(facts: Facts) -> list[str]:
    lines = ["", "most confused (label taken for answer):"]
    for pair in facts["pairs"]:
        names = f"{short(pair['true'])} taken for {short(pair['predicted'])}"
        lines.append(f"  {names}: {pair['n']:,} of {pair['support']:,} ({percent(pair['share'])})")
    return lines if facts["pairs"] else [*lines, "  none"]


def _confidence(facts: Facts) -> list[str]:
    sure, calibration = facts["confidence"], facts["calibration"]
    wrong = facts["n"] - facts["correct"]
    width, mass = calibration["equal_width"], calibration["equal_mass"]
    lines = [
        "",
        f"confidence: right answers {percent(sure['mean_right'])}, "
        f"wrong ones {percent(sure['mean_wrong'])} on average;",
        f"  {sure['sure_wrong']:,} of {wrong:,} wrong answers at least 90 % sure",
        "calibration error (ECE):",
        *(
            f"  {percent(bins['ece'])} ({between(bins.get('interval'))}; by chance "
            f"{percent(bins['floor'])}) in {len(bins['n'])} bins of equal {kind}"
            for kind, bins in (("width", width), ("mass", mass))
        ),
        f"Brier score: {number(calibration['brier']['value'])} "
        f"({between(calibration['brier']['interval'], 1, 4)})",
    ]
    found = calibration["tempered"]
    if found:
        own = " (these very images)" if found["fitted_on"] == facts["part"] else ""
        lines += [
            f"temperature: {found['value']:.3f}, fitted on {found['fitted_n']:,} "
            f"{found['fitted_on']} images{own}:",
            f"  loss {number(calibration['nll']['value'])} -> {number(found['nll'])}, ECE "
            f"{percent(width['ece'])} -> {percent(found['ece'])}",
            f"  ({between(found.get('ece_interval'))}); in bins of equal mass "
            f"{percent(found['ece_equal_mass'])}",
            f"  ({between(found.get('ece_equal_mass_interval'))})",
        ]
    return lines


def _coverage(facts: Facts) -> list[str]:
    lines = ["", "when unsure answers are refused:", "   answered   if sure of      right"]
    seen = set()
    for row in facts["coverage"]:
        if row["n"] not in seen:
            seen.add(row["n"])
            lines.append(
                f"  {percent(row['coverage']):>9}    {percent(row['threshold']):>9}  "
                f"{percent(row['accuracy']):>9}  ({between(row['interval'])})"
            )
    return lines if len(lines) > 3 else []
