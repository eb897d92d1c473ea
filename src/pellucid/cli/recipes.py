"""`pellucid recipes`."""

from __future__ import annotations

import json as json_text
from pathlib import Path

from cyclopts import App, Parameter

from pellucid.cli.train import Settings

app = App(
    name="recipes",
    help="List, show and plot the named recipes.",
    help_format="plaintext",
    default_parameter=Parameter(negative=()),
)


@app.command(name="list")
def list_recipes(*, json: bool = False) -> int:
    """List the named recipes, for each data that has one.

    Parameters
    ----------
    json
        Print one JSON object on standard output.
    """
    from pellucid.catalogue import names, to_tree
    from pellucid.cli.tables import print_table
    from pellucid.recipes.named import named, offered

    trees = {
        (name, data): to_tree(named(name, data)) for data in names("data") for name in offered(data)
    }
    if json:
        content = [{"recipe": name, "data": data} for name, data in trees]
        print(json_text.dumps({"recipes": content}))
        return 0
    rows = [
        (data, name, tree["model"]["name"], tree["optimizer"]["name"], tree["length"])
        for (name, data), tree in trees.items()
    ]
    print_table(("data", "recipe", "model", "optimizer", "length"), rows)
    print("\nTrain with one: pellucid train DATA --recipe RECIPE")
    return 0


@app.command
def show(recipe: str = "good", data: str | None = None, /, *, json: bool = False) -> int:
    """Print a recipe as the file that --recipe reads: all settings with their values.

    Parameters
    ----------
    recipe
        good, notes, fast, best, or a file: FILE.toml.
    data
        A known name, an image folder or a CSV file; digits if left out.
    json
        Print one JSON object on standard output.
    """
    from pellucid.catalogue import to_json, to_toml, to_tree
    from pellucid.cli.resolve import Options, resolve

    tree = to_tree(resolve(data, Options(recipe)))
    print(to_json(tree) if json else to_toml(tree).rstrip())
    return 0


@app.command
def plot(
    recipe: str = "good",
    data: str | None = None,
    /,
    *,
    out: Path = Path("schedule.png"),
    images: int | None = None,
    json: bool = False,
    settings: Settings = None,
) -> int:
    """Draw the learning rate of a recipe over epochs and steps, without training.

    Parameters
    ----------
    recipe
        good, notes, fast, best, or a file: FILE.toml.
    data
        A known name, an image folder or a CSV file; digits if left out.
    out
        The picture to write.
    images
        Training images, those for validation not counted. Known for known data; folders and
        tables are read if it is left out.
    json
        Print one JSON object on standard output.
    """
    from pellucid.cli.recipe_plot import draw
    from pellucid.cli.resolve import Options, resolve

    facts = draw(resolve(data, Options(recipe, settings=settings or {})), images, out)
    if json:
        print(json_text.dumps(facts))
        return 0
    print(f"{facts['schedule']}: {facts['steps']:,} steps in {facts['epochs']:.3g} epochs")
    print(f"first {facts['first']:.3g}, highest {facts['highest']:.3g}, last {facts['last']:.3g}")
    if facts["note"]:
        print(f"note: {facts['note']}")
    print(f"wrote {facts['figure']}")
    return 0
