"""`pellucid kfold`."""

from __future__ import annotations

import json as json_text
from pathlib import Path

from pellucid.cli.train import Settings


def kfold(
    data: str | None = None,
    /,
    *,
    folds: int = 5,
    group_column: str | None = None,
    no_refit: bool = False,
    jobs: int = 1,
    recipe: str = "good",
    out: Path | None = None,
    epochs: str | None = None,
    seed: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    json: bool = False,
    quiet: bool = False,
    settings: Settings = None,
) -> int:
    """Judge a recipe by K-fold cross-validation, then train it on everything and test it once.

    Each image is judged by a model that has not seen it; these predictions are kept in one table.
    Given again, the same command goes on where it was. Every value of a recipe is a setting, as
    for train.

    Parameters
    ----------
    data
        A known name, an image folder, or a CSV file; digits if left out.
    folds
        Number of folds; each class needs as many images.
    group_column
        A column of the CSV: images of one group (a patient, a video) stay in one fold.
    no_refit
        Leave out the last model, and so the test.
    jobs
        Runs side by side, each with its share of the cores.
    recipe
        good, notes, fast, best, or FILE.toml.
    out
        The folder of this experiment; else one in "experiments".
    epochs
        Length of each run, a number.
    seed
        Draws the folds, and all else.
    device
        auto, cpu, cuda, cuda:1, mps.
    precision
        fp32, bf16, fp16.
    json
        Print one JSON object on standard output.
    quiet
        No progress on standard error.
    """
    from pellucid.catalogue import overlay
    from pellucid.cli.experiment_arms import title_of
    from pellucid.cli.experiment_page import kfold_text, run_experiment
    from pellucid.cli.resolve import Options, resolve
    from pellucid.experiments.kfold import kfold as run_folds

    given = settings or {}
    if group_column is not None:
        given = overlay(given, {"data": {**given.get("data", {}), "group_column": group_column}})
    options = Options(
        recipe, epochs=epochs, seed=seed, device=device, precision=precision, settings=given
    )
    resolved = resolve(data, options)
    title = title_of(resolved, [], f"{folds}-fold")
    summary = run_experiment(
        lambda console, asked: run_folds(
            resolved, folds, title, out, refit=not no_refit, jobs=jobs, console=console, asked=asked
        )[1],
        quiet,
    )
    if summary is None:
        return 130
    print(json_text.dumps(summary, ensure_ascii=False) if json else kfold_text(summary))
    return 0
