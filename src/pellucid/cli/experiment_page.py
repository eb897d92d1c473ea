"""What the commands that train several runs share: Ctrl-C, and their tables."""

from __future__ import annotations

import sys
from collections.abc import Callable
from textwrap import fill
from typing import Any, TypeVar

from pellucid.cli.stop import Stopper
from pellucid.experiments.work import Asked, Stopped
from pellucid.sinks.console import Console, percent

T = TypeVar("T")


def run_experiment(work: Callable[[Console, Asked], T], quiet: bool) -> T | None:
    """Do `work` under Ctrl-C; return what it returns, or None if the user stopped it."""
    console = Console(None if quiet else sys.stderr)
    stopper = Stopper()
    try:
        with stopper.listening():
            return work(console, lambda: stopper.asked)
    except Stopped:
        console.line("stopped; all is saved. Go on: give the same command again")
        return None
    finally:
        console.close()


def compare_text(summary: dict[str, Any]) -> str:
    """Return the table of a comparison and its verdicts, 80 columns wide."""
    arms = summary["arms"]
    width = max(3, *(len(name) for name in arms))
    lines = [f"{'arm':<{width}}  seeds  {summary['on'] + ' accuracy':<20}  {'lr':>7}  s/run    MB"]
    for name, arm in arms.items():
        if arm["accuracy"] is None:
            lines.append(f"{name:<{width}}  failed: see failures.json")
            continue
        spread = "" if arm["sd"] is None else f" ± {100 * arm['sd']:.2f}"
        memory = arm["memory_peak_mib"]
        score = f"{100 * arm['accuracy']:.2f} %{spread}"
        lines.append(
            f"{name:<{width}}  {len(arm['runs']):>5}  "
            f"{score:<20}  {arm['lr']:>7.3g}  "
            f"{arm['seconds']:>5.0f}  {f'{memory:.0f}' if memory else '-':>4}"
        )
    lines += ["", *(fill(text, 79, subsequent_indent="  ") for text in summary["verdicts"])]
    if any(arm["sd"] is not None for arm in arms.values()):
        lines.append("±: standard deviation over seeds. p: corrected for all arms (Holm).")
    for name, problem in summary["failed"].items():
        lines.append(f"failed: {name}: {problem}")
    lines += [
        f"curves: {summary['experiment']}/figures/curves.png",
        f"experiment: {summary['experiment']}",
    ]
    return "\n".join(lines)


def kfold_text(summary: dict[str, Any]) -> str:
    """Return the table of a k-fold, 80 columns wide."""
    lines = ["fold  validation accuracy"]
    for index, fold in summary["folds"].items():
        lines.append(f"{index:>4}  {percent(fold['correct'], fold['n'])}, loss {fold['loss']:.4f}")
    if summary["sd"] is not None:
        mean, sd = 100 * summary["accuracy"], 100 * summary["sd"]
        lines.append(f"mean over {len(summary['folds'])} folds: {mean:.2f} %, sd {sd:.2f} points")
    whole = summary["out_of_fold"]
    if whole:
        lines.append(f"all images, each judged once: {percent(whole['correct'], whole['n'])}")
    wrong = summary["suspects"]
    if wrong and wrong["count"]:
        lines.append(
            f"labels that look wrong: {wrong['count']:,} of {wrong['n']:,}; look at them in"
        )
        lines.append("  predictions/suspects.csv of the experiment")
    lines += [fill(summary["warning"], 79, initial_indent="note: ", subsequent_indent="  ")]
    final = summary["final"]
    if final and final["test"]:
        score = final["test"]
        lines.append(f"trained on everything, test: {percent(score['correct'], score['n'])}")
        lines.append(f"its run: {final['run']}")
    lines += [f"failed: {name}: {problem}" for name, problem in summary["failed"].items()]
    return "\n".join([*lines, f"experiment: {summary['experiment']}"])


def sweep_text(summary: dict[str, Any]) -> str:
    """Return the best trials of a search and what mattered, 80 columns wide."""
    whole = [trial for trial in summary["trials"] if trial["accuracy"] is not None]
    states = [trial["state"] for trial in summary["trials"]]
    lines = [
        f"{len(states)} trials: {len(whole)} whole, {states.count('pruned')} cut short, "
        f"{states.count('fail')} failed"
    ]
    for trial in sorted(whole, key=lambda trial: -trial["accuracy"])[:5]:
        chosen = ", ".join(
            f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in trial["params"].items()
        )
        head = f"trial {trial['number']:>3}  {100 * trial['accuracy']:.2f} %  "
        lines.append(fill(chosen, 79, initial_indent=head, subsequent_indent=" " * len(head)))
    for key, share in summary["importance"].items():
        lines.append(f"importance: {key} {100 * share:.0f} %")
    if not summary["best"]:
        return "\n".join([*lines, "no trial came to its end", summary["experiment"]])
    lines.append(
        fill(
            f"note: the best of {len(states)} trials looks better on the validation images that "
            "chose it than it will on others.",
            79,
            subsequent_indent="  ",
        )
    )
    folder = summary["experiment"]
    return "\n".join([*lines, f"train it: pellucid train --recipe {folder}/best.toml"])
