"""`pellucid sweep`."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pellucid.cli.train import Settings


def sweep(
    data: str | None = None,
    /,
    *,
    param: Annotated[list[str] | None, Parameter(negative=())] = None,
    trials: int = 30,
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
    """Search for the settings with the best validation accuracy; needs the extra "sweep".

    Given again, the same command goes on where it was; in a second terminal it helps with the same
    search. The best recipe is written as a file. The test part stays closed. Every other value of
    a recipe is a setting, as for train.

    Parameters
    ----------
    data
        A known name, an image folder, or a CSV file; digits if left out.
    param
        What to choose: optimizer.lr=log:1e-4..1e-1, model.dropout=0..0.5,
        batch-size=32,64,128, model.depth=int:8..20. May be repeated.
    trials
        Trials in all, those of earlier calls included.
    recipe
        good, notes, fast, best, or FILE.toml.
    out
        The folder of this experiment; else one in "experiments".
    epochs
        Length of each run, a number.
    seed
        Of all runs and of the search.
    device
        auto, cpu, cuda, cuda:1, mps.
    precision
        fp32, bf16, fp16.
    json
        Print one JSON object on standard output.
    quiet
        No progress on standard error.
    """
    from pellucid.cli.experiment_arms import title_of
    from pellucid.cli.experiment_page import run_experiment, sweep_text
    from pellucid.cli.resolve import Options, resolve
    from pellucid.experiments.space import param as read_param
    from pellucid.experiments.sweep import sweep as run_sweep

    options = Options(
        recipe, epochs=epochs, seed=seed, device=device, precision=precision, settings=settings
    )
    resolved = resolve(data, options)
    params = [read_param(word) for word in param or []]
    title = title_of(resolved, [], "sweep-" + "-".join(p.key for p in params))
    summary = run_experiment(
        lambda console, asked: run_sweep(
            resolved, params, trials, title, out, console=console, asked=asked
        )[1],
        quiet,
    )
    if summary is None:
        return 130
    print(json_text.dumps(summary, ensure_ascii=False) if json else sweep_text(summary))
    return 0 if summary["best"] else 1
