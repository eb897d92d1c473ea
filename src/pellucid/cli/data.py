"""`pellucid data`."""

from __future__ import annotations

import json as json_text
import sys

from cyclopts import App, Parameter

from pellucid.cli.train import Settings

app = App(
    name="data",
    help="List and show the data sets.",
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
