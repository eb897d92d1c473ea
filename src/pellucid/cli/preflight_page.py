"""What `pellucid preflight` does and shows."""

from __future__ import annotations

import json as json_text
import math
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pellucid.assemble import Assembled, assemble
from pellucid.checks.check import Check, worst
from pellucid.checks.lr_range import LRRange, lr_range
from pellucid.checks.preflight import preflight
from pellucid.engine import Engine
from pellucid.figures.lr_range import lr_range_figure
from pellucid.figures.render import png
from pellucid.precision import settle_precision
from pellucid.recipe import Recipe
from pellucid.runs.disk import replace_file
from pellucid.sinks.console import Console
from pellucid.sinks.device import process_memory

VERDICT, NAME = 9, 20
"""Widths of the first two columns."""


def check_recipe(
    recipe: Recipe, console: Console, *, lr_range: bool, out: Path | None, show: bool
) -> dict[str, Any]:
    """Run the checks of `recipe`, show each when it is done; return everything for JSON.

    Args:
        recipe: what to check.
        console: where progress goes.
        lr_range: also run the range test.
        out: the folder for files; with the range test there always is one.
        show: print on standard output.
    """
    engine = Engine.start(recipe.engine)
    console.line(f"device: {engine.name}")
    built = assemble(recipe, engine, console.progress)
    console.line(settle_precision(engine, built.state.model, built.first(engine).images))
    checks: list[Check] = []
    for check in preflight(recipe, engine, built):
        checks.append(check)
        _show(check, show)
    if worst(checks) != "failed":
        checks.append(_memory())
        _show(checks[-1], show)
    facts: dict[str, Any] = {
        "verdict": worst(checks),
        "device": engine.name,
        "checks": [asdict(check) for check in checks],
        "files": [],
    }
    learned = any(check.name == "one batch by heart" for check in checks)
    if lr_range:
        out = out or Path("preflight")
    if lr_range and learned and out:
        _range(recipe, engine, built, out, facts, show)
    if out:
        _write(out / "preflight.json", json_text.dumps(facts, indent=2).encode(), facts)
    if show:
        print(_summary(checks, facts["files"], left_out=not learned))
    return facts


def _range(
    recipe: Recipe, engine: Engine, built: Assembled, out: Path, facts: dict[str, Any], show: bool
) -> None:
    """Run the range test, draw it, say what it proposes."""
    found = lr_range(recipe, engine, built)
    facts["lr_range"] = {
        **asdict(found),
        "losses": [loss if math.isfinite(loss) else None for loss in found.losses],
        "configured": recipe.optimizer.lr,
    }
    marks = [
        (text, rate)
        for text, rate in (
            ("steepest descent", found.steepest),
            ("proposal", found.proposal),
            ("largest before it swings", found.edge),
            ("in the recipe", recipe.optimizer.lr),
        )
        if rate is not None
    ]
    name = type(built.state.optimizer).__name__
    title = f"Learning-rate range test: {type(built.state.model).__name__}, {name}"
    figure = lr_range_figure(found.rates, found.losses, found.smoothed, marks, title)
    _write(out / "lr_range.png", png(figure), facts)
    if show:
        print(_range_text(found, recipe.optimizer.lr))


def _range_text(found: LRRange, configured: float) -> str:
    lines = [f"\nlearning-rate range test, {len(found.rates)} steps from {found.rates[0]:g} up:"]
    if found.proposal is None:
        return "\n".join([*lines, *textwrap.wrap(found.why, _width())])
    lines += [
        f"  steepest descent          {found.steepest:.2g}",
        f"  largest before it swings  {found.edge:.2g}",
        f"  in the recipe             {configured:g}",
        f"  proposal                  {found.proposal:g}    --optimizer.lr {found.proposal:g}",
    ]
    return "\n".join([*lines, *textwrap.wrap(found.why, _width())])


def _memory() -> Check:
    """Say how much memory the checks took, which train a little; there is nothing to fail."""
    peak = process_memory()["memory_peak_mib"]
    taken = "unknown on this system" if peak is None else f"{peak:,.0f} MiB at most, so far"
    return Check("memory", "ok", f"{taken}; of a run: train --dry-run", "-")


def _write(path: Path, content: bytes, facts: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, content)
    facts["files"].append(str(path))


def _show(check: Check, show: bool) -> None:
    if not show:
        return
    texts = [check.measured]
    texts += [f"expected: {check.expected}"] if check.expected != "-" else []
    texts += [f"to do: {check.advice}"] if check.advice else []
    before = f"{check.verdict:<{VERDICT}}{check.name:<{NAME}}"
    for text in texts:
        for line in textwrap.wrap(text, max(20, _width() - VERDICT - NAME)):
            print(before + line)
            before = " " * (VERDICT + NAME)


def _summary(checks: Sequence[Check], files: Sequence[str], *, left_out: bool) -> str:
    counts = dict.fromkeys(("ok", "warning", "failed"), 0)
    for check in checks:
        counts[check.verdict] += 1
    text = f"\n{len(checks)} checks: " + ", ".join(
        f"{n} {verdict}" for verdict, n in counts.items()
    )
    if left_out:
        text += "; the others need what failed, and were left out"
    return "\n".join([text, *(f"wrote {file}" for file in files)])


def _width() -> int:
    return shutil.get_terminal_size((80, 24)).columns
