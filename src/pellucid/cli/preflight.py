"""`pellucid preflight`."""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path

from pellucid.cli.train import Settings


def preflight(
    data: str | None = None,
    /,
    *,
    recipe: str = "good",
    lr_range: bool = False,
    out: Path | None = None,
    epochs: str | None = None,
    seed: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    json: bool = False,
    quiet: bool = False,
    settings: Settings = None,
) -> int:
    """Check data, model and recipe before a run: what is wrong is then found in seconds.

    Prints what was measured, what was expected, and what to do. Ends with exit code 1 if a check
    failed. Test images are never predicted on. Every value of a recipe is a setting, as for train.

    Parameters
    ----------
    data
        A known name, an image folder or a CSV file, digits if left out; or a recipe: good, notes,
        fast, best, FILE.toml.
    recipe
        good, notes, fast, best, or a file: FILE.toml.
    lr_range
        Also look for a learning rate: train while it grows, until the loss swings.
    out
        A folder for preflight.json and lr_range.png; "preflight" if a picture needs one.
    epochs
        Length of the run, a number; the same as --length "N epochs".
    seed
        Names all random streams; a whole number.
    device
        auto, cpu, cuda, cuda:1, mps.
    precision
        fp32, bf16, fp16.
    json
        Print one JSON object on standard output.
    quiet
        No progress on standard error.
    """
    from pellucid.cli.preflight_page import check_recipe
    from pellucid.cli.resolve import Options, resolve
    from pellucid.sinks.console import Console

    data, recipe = recipe_in_place_of_data(data, recipe)
    options = Options(
        recipe=recipe, epochs=epochs, seed=seed, device=device, precision=precision,
        settings=settings or {},
    )  # fmt: skip
    resolved = resolve(data, options)
    console = Console(None if quiet else sys.stderr)
    try:
        facts = check_recipe(resolved, console, lr_range=lr_range, out=out, show=not json)
    finally:
        console.close()
    if json:
        print(json_text.dumps(facts, ensure_ascii=False, allow_nan=False))
    return 1 if facts["verdict"] == "failed" else 0


def recipe_in_place_of_data(data: str | None, recipe: str) -> tuple[str | None, str]:
    """Return data and recipe, where the one word that was given may be either."""
    is_file = data is not None and data.endswith(".toml")
    is_name = data in ("good", "notes") and not Path(str(data)).exists()
    if data is not None and recipe == "good" and (is_file or is_name):
        return None, data
    return data, recipe
