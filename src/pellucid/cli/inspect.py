"""`pellucid inspect`."""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path


def inspect(
    run: str,
    view: str | None = None,
    /,
    *,
    all: bool = False,
    image: Path | None = None,
    drawing: Path | None = None,
    index: int | None = None,
    on: str | None = None,
    layer: str | None = None,
    unit: int | None = None,
    place: str | None = None,
    target: str | None = None,
    against: str | None = None,
    count: int | None = None,
    size: str | None = None,
    step: int | None = None,
    device: str = "auto",
    out: Path | None = None,
    json: bool = False,
) -> int:
    """Look inside a run's model: a picture, its numbers, and the identity that they rest on.

    Without a view, lists the views. A view writes RUN/inspect/VIEW.png and VIEW.json. Ends with
    exit code 1 if an identity does not hold. A look at test images is a row in openings.jsonl.

    Parameters
    ----------
    run
        A path, a run's name, or latest.
    view
        Which; each takes some of the options below, and says so.
    all
        All views, and one page of them: RUN/inspect/index.html.
    image
        An image file.
    drawing
        An image file that was drawn by hand; it is prepared as MNIST was.
    index
        Position of an image in a part of the data.
    on
        That part: validation, train, test.
    layer
        Name of a layer.
    unit
        A channel or feature of it, from 0.
    place
        ROW,COLUMN in its map, from 0.
    target
        The class that is asked about; else the one that the model names.
    against
        The class that it is compared with; else the runner-up.
    count
        How many images, where a view looks at many.
    size
        HEIGHTxWIDTH, where only shapes are asked for.
    step
        Look at the weights after this step instead of the best.
    device
        auto, cpu, cuda, mps.
    out
        A folder for the files.
    json
        Print one JSON object on standard output.
    """
    from pellucid.cli.inspect_page import Wanted, inspect_all, inspect_one, list_views
    from pellucid.views.options import BadOption, Options

    options = Options(
        image, drawing, index, on, layer, unit, _pair("place", place, ","), target, against, count,
        _pair("size", size, "x"),
    )  # fmt: skip
    if all and view:
        raise BadOption("Take either a view or --all.")
    wanted = Wanted(run, options, step, device, out, show=not json)
    if all:
        facts = inspect_all(wanted)
    else:
        facts = inspect_one(wanted, view) if view else list_views(show=not json)
    if json:
        print(json_text.dumps(facts, ensure_ascii=False, allow_nan=False))
    sys.stdout.flush()
    return 0 if facts.get("ok", True) else 1


def _pair(name: str, text: str | None, between: str) -> tuple[int, int] | None:
    """Return two whole numbers, `text` being `3,4`; one number counts twice for a size."""
    from pellucid.views.options import BadOption

    if text is None:
        return None
    parts = text.replace(" ", "").split(between)
    parts = parts * 2 if len(parts) == 1 and between == "x" else parts
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise BadOption(f"--{name} must be two whole numbers: 3{between}4. Got {text}.")
    return int(parts[0]), int(parts[1])
