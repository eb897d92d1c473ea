"""`pellucid data`."""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path

from cyclopts import App, Parameter

from pellucid.cli.train import Settings

app = App(
    name="data",
    help="List, show and check data sets.",
    help_format="plaintext",
    default_parameter=Parameter(negative=()),
)


@app.command(name="list")
def list_data(*, json: bool = False) -> int:
    """List the known data sets, and where images of your own may lie.

    Parameters
    ----------
    json
        Print one JSON object on standard output.
    """
    from pellucid.catalogue import names, spec
    from pellucid.cli.tables import print_table

    rows = [(name, (spec("data", name).__doc__ or "").partition("\n")[0]) for name in names("data")]
    if json:
        print(json_text.dumps({"data": [{"name": n, "what": w} for n, w in rows]}))
    else:
        print_table(("name", "what"), rows)
        print("\nA folder of images and a CSV file are named by their path: pellucid train PATH")
    return 0


@app.command
def show(data: str = "digits", /, *, json: bool = False, settings: Settings = None) -> int:
    """Load a data set and show its parts, classes and sizes, as a run would use them.

    Parameters
    ----------
    data
        A known name, an image folder or a CSV file.
    json
        Print one JSON object on standard output.
    """
    from pellucid.cli.data_page import data_facts, data_page
    from pellucid.cli.resolve import Options, resolve
    from pellucid.sinks.console import Console

    console = Console(sys.stderr)
    facts = data_facts(resolve(data, Options(settings=settings)), console)
    console.close()
    print(json_text.dumps(facts, ensure_ascii=False) if json else data_page(facts))
    return 0


@app.command
def check(
    data: str = "digits",
    /,
    *,
    strict: bool = False,
    out: Path | None = None,
    json: bool = False,
    settings: Settings = None,
) -> int:
    """Look at every image: what cannot be read, what is double, what leaks from part to part.

    Nothing is written where the images lie. Ends with exit code 1 if there is an error.

    Parameters
    ----------
    data
        A known name, an image folder, a CSV file, or an archive: .tar, .tar.gz, .zip.
    strict
        End with exit code 1 on a warning too.
    out
        A folder for data_check.json and figures/data_check.png, with images of each class.
    json
        Print one JSON object on standard output.
    """
    from pellucid.cli.data_check_page import look, refuse_inside, report_facts, report_page, write
    from pellucid.sinks.console import Console

    if out is not None:
        refuse_inside(data, out)
    console = Console(sys.stderr)
    try:
        report = look(data, settings, console)
    finally:
        console.close()
    facts = report_facts(report)
    if out is not None:
        write(report, facts, out)
    if json:
        print(json_text.dumps(facts, ensure_ascii=False, allow_nan=False))
    else:
        print("\n".join([report_page(report), *(f"written: {file}" for file in facts["files"])]))
    return 1 if report.worst() in ("error", *(("warning",) if strict else ())) else 0


@app.command
def preview(
    data: str = "digits",
    /,
    *,
    recipe: str = "good",
    rows: int = 6,
    draws: int = 4,
    seed: str | None = None,
    out: Path = Path("data_augmentation_demo.png"),
    json: bool = False,
    settings: Settings = None,
) -> int:
    """Draw some training images, and below each what augmentation makes of it.

    The images are made by what training calls. Settings change the recipe's augmentation:
    --augment.flip on --augment.rotate.degrees 30 --augment.crop off.

    Parameters
    ----------
    data
        A known name, an image folder or a CSV file.
    recipe
        good, notes, fast, best, or a file: FILE.toml.
    rows
        How many images, side by side.
    draws
        How many draws of each, below each other.
    seed
        Names all random streams; a whole number.
    out
        The PNG file to write.
    json
        Print one JSON object on standard output, with all that was drawn.
    """
    from pellucid.cli.preview import preview as draw
    from pellucid.cli.resolve import Options, resolve
    from pellucid.sinks.console import Console

    resolved = resolve(data, Options(recipe, seed=seed, settings=settings))
    console = Console(sys.stderr)
    facts = draw(resolved, rows, draws, out, console)
    console.close()
    print(json_text.dumps(facts, ensure_ascii=False) if json else facts["path"])
    return 0
