"""`pellucid compare`."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pellucid.cli.train import Settings

Several = Annotated[list[str] | None, Parameter(negative=())]


def compare(
    data: str | None = None,
    /,
    *,
    vary: Several = None,
    preset: str | None = None,
    recipe: Several = None,
    seeds: int = 3,
    test: bool = False,
    tune_lr: int = 0,
    jobs: int = 1,
    out: Path | None = None,
    epochs: str | None = None,
    seed: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    json: bool = False,
    quiet: bool = False,
    settings: Settings = None,
) -> int:
    """Train several recipes with the same seeds, batches and draws; say what differs, if it does.

    The first arm is what the others are compared with, on the same validation images, with an
    interval and a test. Given again, the same command goes on where it was; finished runs are not
    repeated, and --seeds may grow. Every value of a recipe is a setting, as for train.

    Parameters
    ----------
    data
        A known name, an image folder, or a CSV file; digits if left out.
    vary
        A setting and its values: optimizer.name=sgd,adam,adamw. Several make a grid.
    preset
        schedules, augmentation, optimizers, init, batch-size.
    recipe
        good, notes, fast, best, or FILE.toml; several are the arms of the comparison.
    seeds
        How often each arm is trained. One seed says nothing of others.
    test
        Compare on the sealed test images, which each run then opens once; else on validation.
    tune_lr
        Learning rates tried for each arm first, on other splits of the validation part; 0: none.
    jobs
        Runs side by side, each with its share of the cores.
    out
        The folder of this experiment; else one in "experiments".
    epochs
        Length of each run, a number.
    seed
        The first seed.
    device
        auto, cpu, cuda, cuda:1, mps.
    precision
        fp32, bf16, fp16.
    json
        Print one JSON object on standard output.
    quiet
        No progress on standard error.
    """
    from pellucid.cli.experiment_arms import arms_of, title_of
    from pellucid.cli.experiment_page import compare_text, run_experiment
    from pellucid.cli.resolve import Options
    from pellucid.experiments.compare import Comparison
    from pellucid.experiments.compare import compare as compare_arms

    options = Options(
        epochs=epochs, seed=seed, device=device, precision=precision, settings=settings or {}
    )
    arms = arms_of(data, options, vary or [], preset, recipe or [])
    comparison = Comparison(arms, seeds, "test" if test else "validation", tune_lr, jobs)
    title = title_of(arms[0].recipe, vary or [], preset)
    summary = run_experiment(
        lambda console, asked: compare_arms(comparison, title, out, console=console, asked=asked)[
            1
        ],
        quiet,
    )
    if summary is None:
        return 130
    print(json_text.dumps(summary, ensure_ascii=False) if json else compare_text(summary))
    return 0
