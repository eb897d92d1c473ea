"""The entry point: what is fast is answered at once, the rest goes to the command's own file."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclopts import App

HELP = Path(__file__).parent / "help.txt"

COMMANDS = (
    ("train", "pellucid.cli.train:train", "Train a classifier, judge it, keep everything."),
    ("resume", "pellucid.cli.train:resume", "Go on with a run that was stopped or killed."),
    ("preflight", "pellucid.cli.preflight:preflight", "Check data, model and recipe before a run."),
    ("bench", "pellucid.cli.bench:bench", "Measure machine and step; propose faster settings."),
    ("compare", "pellucid.cli.compare:compare", "Compare recipes on equal terms, with a verdict."),
    ("kfold", "pellucid.cli.kfold:kfold", "Cross-validate a recipe, then train on everything."),
    ("sweep", "pellucid.cli.sweep:sweep", "Search for good settings with Optuna."),
    ("evaluate", "pellucid.cli.evaluate:evaluate", "Judge a run's model again, or on other data."),
    ("report", "pellucid.cli.report:report", "Write a finished run as one page."),
    (
        "compare-runs",
        "pellucid.cli.compare_runs:compare_runs",
        "Compare finished runs on the same images.",
    ),
    ("predict", "pellucid.cli.predict:predict", "Classify image files with a run's model."),
    ("inspect", "pellucid.cli.inspect:inspect", "Look inside a run's model, with proof."),
    ("eject", "pellucid.cli.eject:eject", "Write a run as a script of its own."),
    ("runs", "pellucid.cli.runs:app", "List, show and remove runs."),
    ("recipes", "pellucid.cli.recipes:app", "List and show the named recipes."),
    ("models", "pellucid.cli.models:app", "List the models."),
    ("data", "pellucid.cli.data:app", "List, show and check data sets."),
    ("learn", "pellucid.cli.learn:learn", "Walk six steps on real digits, each with a check."),
    ("lab", "pellucid.cli.lab:app", "Run the labs: one concept each, computed and proved."),
    ("show", "pellucid.cli.show:app", "Show the training loop beside a recipe's values."),
)
"""All commands. The set is closed and held by a test."""


def build(root: bool = False) -> App:
    """Return the command-line application; its commands are imported when they are called.

    Args:
        root: for the root page, on which each command has one line. Elsewhere a command's own
            text explains it.
    """
    from cyclopts import App, Parameter

    app = App(
        name="pellucid",
        help="A glass-box workbench for training image classifiers in PyTorch.",
        help_format="plaintext",
        version=version,
        default_parameter=Parameter(negative=()),  # no `--no-json` beside each flag
    )
    for name, place, text in COMMANDS:
        app.command(place, name=name, help=text if root else None)
    return app


def render_help() -> str:
    """Return the root help page, 80 columns wide, as it is kept in `help.txt`."""
    from io import StringIO

    from rich.console import Console

    page = StringIO()
    build(root=True).help_print([], console=Console(file=page, width=80, no_color=True))
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines()) + "\n"


def version() -> str:
    """Return the version of the installed package."""
    from importlib.metadata import version

    return version("pellucid")


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 good, 1 failed, 2 bad input, 130 stopped by the user."""
    words = list(sys.argv[1:] if words is None else words)
    try:
        code = _at_once(words) or run(words)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of standard output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def _at_once(words: Sequence[str]) -> int:
    """Answer help and version without loading anything; exit if that is what was asked."""
    if not words or list(words) in (["--help"], ["-h"]):
        print(HELP.read_text(encoding="utf-8"), end="", flush=True)
        sys.exit(0)
    if list(words) == ["--version"]:
        print(version(), flush=True)
        sys.exit(0)
    return 0


def run(words: Sequence[str]) -> int:
    """Run the command in `words` and return its exit code; a user's mistake is one message."""
    from cyclopts import CycloptsError

    from pellucid.cli.settings import take_settings
    from pellucid.errors import PellucidError

    settings, rest = take_settings(words)
    try:
        command, bound, ignored = build().parse_args(
            rest, print_error=True, exit_on_error=False, help_on_error=False
        )
    except CycloptsError:
        return 2
    if settings and "settings" not in ignored:
        print(f"error: {words[0]} takes no settings such as {_first(settings)}.", file=sys.stderr)
        return 2
    if "settings" in ignored:
        bound.arguments["settings"] = settings
    try:
        return command(*bound.args, **bound.kwargs) or 0
    except PellucidError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nstopped at once; a run goes on with: pellucid resume latest", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        print(
            f"error: {error.strerror or error}{place}. Checkpoints that were saved before are "
            "untouched; a run goes on with: pellucid resume latest",
            file=sys.stderr,
        )
        return 1


def _first(settings: dict[str, object]) -> str:
    key, value = next(iter(settings.items()))
    return f"--{key}.{next(iter(value))}" if isinstance(value, dict) else f"--{key}"
