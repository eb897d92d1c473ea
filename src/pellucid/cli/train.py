"""`pellucid train` and `pellucid resume`."""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

Settings = Annotated[dict[str, Any] | None, Parameter(parse=False)]


def train(
    data: str | None = None,
    /,
    *,
    recipe: str = "good",
    out: Path = Path("runs"),
    epochs: str | None = None,
    seed: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    compile: bool = False,
    deterministic: bool = False,
    json: bool = False,
    quiet: bool = False,
    dry_run: bool = False,
    settings: Settings = None,
) -> int:
    """Train a classifier, judge it on the sealed test part, keep everything in a run folder.

    Every value of a recipe is a setting: --optimizer.lr 0.01 --model.name resnet
    --model.depth 20 --augment.flip on --data.validation 0.2 --batch-size 64.
    `pellucid recipes show good DATA` prints all of them.

    Parameters
    ----------
    data
        A known name (`pellucid data list`), an image folder, or a CSV file; digits if left out.
    recipe
        good, notes, or a file: FILE.toml.
    out
        The folder that collects runs.
    epochs
        Length of the run, a number; the same as --length "N epochs".
    seed
        Names all random streams; a whole number.
    device
        auto, cpu, cuda, cuda:1, mps.
    precision
        fp32; bf16, on a CPU only if its kernels pass a check; fp16, on a GPU.
    compile
        Compile the model with torch.compile first, and say when that pays.
    deterministic
        On a GPU, only kernels that give the same bits each time.
    json
        Print one JSON object on standard output.
    quiet
        No progress on standard error.
    dry_run
        Print the resolved recipe and the plan, and stop.
    """
    from pellucid.cli.resolve import Options, resolve
    from pellucid.engine import Engine
    from pellucid.training import train as train_recipe

    options = Options(
        recipe, epochs, seed, device, precision, compile, deterministic, settings or {}
    )
    resolved = resolve(data, options)
    if dry_run:
        from pellucid.cli.dry_run import dry_run as plan

        return plan(resolved, Engine.start(resolved.engine), json)
    return _run(
        lambda console, stop: train_recipe(resolved, out, console=console, stop=stop), json, quiet
    )


def resume(run: str, /, *, json: bool = False, quiet: bool = False) -> int:
    """Go on with a run from its newest good checkpoint, as if it had never stopped.

    Parameters
    ----------
    run
        A path, a run's name, or latest.
    json
        Print one JSON object on standard output.
    quiet
        No progress on standard error.
    """
    from pellucid.training import resume as resume_run

    return _run(lambda console, stop: resume_run(run, console=console, stop=stop), json, quiet)


def _run(work: Any, json: bool, quiet: bool) -> int:
    """Do `work` under Ctrl-C, show its result, return the exit code."""
    from pellucid.cli.stop import Stopper
    from pellucid.finish import result_text
    from pellucid.sinks.console import Console

    console = Console(None if quiet else sys.stderr)
    stopper = Stopper()
    try:
        with stopper.listening():
            run = work(console, stopper)
    finally:
        console.close()
    summary = run.summary()
    if json:
        result = summary or {"run": str(run.path), "stopped": True}
        print(json_text.dumps(result, ensure_ascii=False))
    elif summary:
        print(result_text(summary))
    return 0 if summary else 130
