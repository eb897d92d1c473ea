"""`pellucid bench`."""

from __future__ import annotations

import json as json_text
import sys

from pellucid.cli.preflight import recipe_in_place_of_data
from pellucid.cli.train import Settings


def bench(
    data: str | None = None,
    /,
    *,
    recipe: str = "good",
    steps: int = 50,
    no_settings: bool = False,
    try_compile: bool = False,
    device: str | None = None,
    precision: str | None = None,
    json: bool = False,
    quiet: bool = False,
    settings: Settings = None,
) -> int:
    """Measure this machine, where the time of a step goes, and which settings would save some.

    Each setting is tried beside the recipe as it is, in pairs, one after the other. Some change
    the numbers of a run, and say so; none is applied. Nothing else should run meanwhile. Every
    value of a recipe is a setting, as for train.

    Parameters
    ----------
    data
        A known name, an image folder or a CSV file, digits if left out; or a recipe: good, notes,
        fast, best, FILE.toml.
    recipe
        good, notes, fast, best, or a file: FILE.toml.
    steps
        Steps of which the time is taken.
    no_settings
        Only the machine and the step; try no settings.
    try_compile
        Try torch.compile too, which takes from ten seconds to minutes.
    device
        auto, cpu, cuda, cuda:1, mps.
    precision
        fp32, bf16, fp16.
    json
        Print one JSON object on standard output.
    quiet
        No progress on standard error.
    """
    from pellucid.bench.measure import bench as measure
    from pellucid.cli.bench_page import bench_text
    from pellucid.cli.resolve import Options, resolve
    from pellucid.sinks.console import Console

    data, recipe = recipe_in_place_of_data(data, recipe)
    options = Options(recipe=recipe, device=device, precision=precision, settings=settings or {})
    resolved = resolve(data, options)
    console = Console(None if quiet else sys.stderr)
    try:
        found = measure(
            resolved, steps=steps, compiled=try_compile, settings=not no_settings, console=console
        )
    finally:
        console.close()
    if json:
        print(json_text.dumps(found.as_dict(), ensure_ascii=False, allow_nan=False))
    else:
        print(bench_text(found))
    return 0
