"""`pellucid show`."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App, Parameter

from pellucid.cli.train import Settings

app = App(
    name="show",
    help="Show the training loop beside the values of a recipe.",
    help_format="plaintext",
    default_parameter=Parameter(negative=()),
)


@app.command
def loop(data: str | None = None, /, *, recipe: str = "good", settings: Settings = None) -> int:
    """Print the loop that runs, each line with the values that a recipe gives it.

    Parameters
    ----------
    data
        A known name, an image folder or a CSV file; digits if left out.
    recipe
        good, notes, fast, best, or a file: FILE.toml.
    """
    from pellucid.catalogue import to_tree
    from pellucid.cli.resolve import Options, resolve

    tree = to_tree(resolve(data, Options(recipe, settings=settings)))
    source = Path(__file__).parent.parent / "loop.py"
    for line in source.read_text(encoding="utf-8").splitlines():
        beside = next((text for mark, text in _beside(tree) if mark in line), "")
        print(f"{line:<88}  | {beside}" if beside else line)
    return 0


def _beside(tree: dict[str, object]) -> list[tuple[str, str]]:
    """Return which words of the loop mean which settings of the recipe."""

    def table(section: str) -> str:
        values = tree[section]
        assert isinstance(values, dict)
        return f"{section}: " + (", ".join(f"{k} = {v}" for k, v in values.items()) or "off")

    return [
        ("model = engine.wrap", table("model")),
        ("while state.step < plan.steps", f"length = {tree['length']}"),
        ("reseed(", f"seed = {tree['seed']}"),
        ("lr = set_lr", table("schedule")),
        (
            "in task.train.pieces",
            f"batch_size = {tree['batch_size']}, accumulate = {tree['accumulate']}",
        ),
        ("task.augment(", table("augment")),
        ("engine.forward(", table("engine")),
        ("task.loss(", table("loss")),
        ("state.losses.note", table("sampling")),
        ("engine.clip(", f"max_grad_norm = {tree['max_grad_norm']}"),
        ("engine.step(", table("optimizer")),
        ("state.ema.update", table("ema")),
        ("if due(", f"evaluate = {tree['evaluate']}"),
    ]
