"""`pellucid models`."""

from __future__ import annotations

import json as json_text
from typing import Any

from cyclopts import App, Parameter

app = App(
    name="models",
    help="List the models.",
    help_format="plaintext",
    default_parameter=Parameter(negative=()),
)


@app.command(name="list")
def list_models(*, json: bool = False) -> int:
    """List the models that a recipe can name, with their settings and sizes.

    Parameters
    ----------
    json
        Print one JSON object on standard output.
    """
    from pellucid.catalogue import names, spec
    from pellucid.cli.tables import print_table
    from pellucid.models.timm import TimmSpec

    rows: list[tuple[str, list[int | None], str]] = []
    for name in names("model"):
        kind: Any = spec("model", name)
        settings = ", ".join(f"{f} = {getattr(kind(), f)}" for f in kind.__struct_fields__)
        if kind is TimmSpec:  # its size is that of `arch`, and the library takes seconds to load
            rows.append((name, [None, None], settings))
            continue
        sizes: list[int | None] = []
        for shape in ((1, 28, 28), (3, 32, 32)):
            net = kind().build(shape, 10)
            sizes.append(sum(p.numel() for p in net.parameters()))
        rows.append((name, sizes, settings))
    if json:
        content = [
            {"name": n, "parameters": {"1x28x28": s[0], "3x32x32": s[1]}, "settings": t}
            for n, s, t in rows
        ]
        print(json_text.dumps({"models": content}))
        return 0
    head = ("name", "1x28x28", "3x32x32", "settings")
    print("Parameters for 10 classes, by the size of the images:\n")
    shown = [(n, *("by arch" if m is None else f"{m:,}" for m in s), t) for n, s, t in rows]
    print_table(head, shown)
    return 0
