"""What the runs of a comparison came to: numbers of each arm, differences, verdicts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pellucid.catalogue import from_toml
from pellucid.experiments.arms import Arm
from pellucid.metrics.paired import LEVEL, holm, p_text
from pellucid.metrics.replicates import Answers, Replicated, replicated
from pellucid.optim.schedules import PlateauSpec
from pellucid.recipe import Recipe
from pellucid.runs.folder import METRICS, RECIPE, TIMING, Run
from pellucid.runs.predictions import read_predictions


def summarise(
    arms: Sequence[Arm], runs: dict[tuple[str, int], Run], on: str = "validation"
) -> dict[str, Any]:
    """Return the numbers of a comparison, for JSON.

    Args:
        arms: in order; the first is what the others are compared with.
        runs: finished ones, by arm and seed.
        on: the part on whose images the arms are compared.
    """
    table = {
        arm.name: _arm({seed: run for (name, seed), run in runs.items() if name == arm.name}, on)
        for arm in arms
    }
    base = arms[0].name
    compared: dict[str, Replicated] = {}
    for arm in arms[1:]:
        both = sorted({s for n, s in runs if n == arm.name} & {s for n, s in runs if n == base})
        if both:
            compared[arm.name] = replicated(
                [_answers(runs[base, seed], on) for seed in both],
                [_answers(runs[arm.name, seed], on) for seed in both],
            )
    corrected = holm([found.p for found in compared.values()])
    pairs = [
        {
            "arm": name,
            "against": base,
            **asdict(found),
            "interval": list(found.interval),
            "p_corrected": p,
        }
        for (name, found), p in zip(compared.items(), corrected, strict=True)
    ]
    return {
        "on": on,
        "against": base,
        "arms": table,
        "differences": pairs,
        "verdicts": [verdict(pair) for pair in pairs],
    }


def verdict(pair: dict[str, Any]) -> str:
    """Return what a difference says, in a sentence."""
    arm, base, value = pair["arm"], pair["against"], 100 * pair["value"]
    low, high = (100 * end for end in pair["interval"])
    seeds = f"{pair['seeds']} seed{'s' * (pair['seeds'] > 1)}"
    facts = (
        f"{value:+.2f} points (95 %: {low:+.2f} to {high:+.2f}), {p_text(pair['p_corrected'])}, "
        f"{seeds}, n = {pair['n']:,}"
    )
    if pair["p_corrected"] > LEVEL:
        few = pair["p_images"] <= LEVEL and pair["seeds"] > 1
        more = " On these images there is one; for other seeds, give more: --seeds." if few else ""
        return f"No difference shown between {arm} and {base}: {facts}.{more}"
    only = " For this one seed; other seeds were not asked." if pair["seeds"] == 1 else ""
    return f"{arm} is {'better' if value > 0 else 'worse'} than {base}: {facts}.{only}"


def _arm(runs: dict[int, Run], on: str) -> dict[str, Any]:
    """Return what the runs of one arm came to."""
    summaries = {seed: run.summary() or {} for seed, run in runs.items()}
    scores = {seed: summary[on] for seed, summary in summaries.items()}
    accuracy = [score["accuracy"] for score in scores.values()]
    trees = [from_toml((run.path / RECIPE).read_text(encoding="utf-8")) for run in runs.values()]
    peaks = [row["memory_peak_mib"] for run in runs.values() for row in run.rows(TIMING)
             if row.get("memory_peak_mib")]  # fmt: skip
    return {
        "runs": {str(seed): str(run.path) for seed, run in runs.items()},
        "accuracy": statistics.fmean(accuracy) if accuracy else None,
        "sd": statistics.stdev(accuracy) if len(accuracy) > 1 else None,
        "by_seed": {str(seed): score["accuracy"] for seed, score in scores.items()},
        "loss": statistics.fmean(s["loss"] for s in scores.values()) if scores else None,
        "n": [score["n"] for score in scores.values()],
        "seconds": statistics.fmean(s["seconds"] for s in summaries.values()) if runs else None,
        "memory_peak_mib": max(peaks, default=None),
        "lr": trees[0]["optimizer"].get("lr") if trees else None,
    }


def _answers(run: Run, on: str) -> Answers:
    said = read_predictions(run.path / f"predictions/{on}.csv").predictions
    order = said.index.argsort()
    return Answers(said.index[order], (said.labels == said.targets)[order])


def rates_of(run: Run, recipe: Recipe) -> list[tuple[int, float]]:
    """Return steps done and the rate of the next one, over a finished run of `recipe`."""
    if isinstance(recipe.schedule, PlateauSpec):  # what is planned is before the cuts
        return [(row["step"], row["lr"]) for row in run.rows(METRICS) if "lr" in row]
    return [(step, lr) for step, lr in (run.read_json("figures/curves.json") or {})["schedule"]]
