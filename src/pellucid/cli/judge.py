"""What `pellucid evaluate` does: a run's model on one of its parts or on other data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from pellucid.averaging import Averaged
from pellucid.cli.resolve import Options, data_tree, resolve
from pellucid.errors import BadData
from pellucid.finish import record_opening
from pellucid.inference import Classifier, classifier, judged
from pellucid.report.draw import draw_evaluation
from pellucid.report.opened import splits_of
from pellucid.runs.evaluation import (
    headline,
    keep_evaluation,
    stored_temperature,
    temperature_from,
)
from pellucid.runs.folder import OPENINGS, Run
from pellucid.runs.listing import find
from pellucid.sinks.console import Console
from pellucid.values import ImageSet

PARTS = ("validation", "test", "train")


def judge_run(
    given: str, on: str, device: str, console: Console, views: str = "one"
) -> dict[str, Any]:
    """Judge a run's model; keep tables, numbers and figures in the run folder; return the numbers.

    With several views of each image they are kept beside those of one, under a name of their own.

    Raises:
        UserError: if there is no such run, part or data, or if they do not fit.
    """
    run = find(given)
    found = judged(run)
    for problem in found.problems:
        console.line(f"warning: {problem}")
    model = classifier(run, found.checkpoint, device)
    if views != "one":
        model.network = Averaged(model.network, views)
    data = _own(run, on, console) if on in PARTS else _other(on, model, console)
    if not len(data):
        raise BadData(f"The run has no {on} images.")
    if on == "test":
        record_opening(run, model.step, len(data), "pellucid evaluate")
    said = model.predict_set(data)
    part = on if on in PARTS else f"data-{re.sub(r'[^0-9A-Za-z_.-]+', '-', Path(on).stem or on)}"
    suffix = "" if views == "one" else f"-{views}"
    part += suffix
    fitted_on = f"validation{suffix}"
    own = part == fitted_on
    temperature = temperature_from(said, part) if own else stored_temperature(run, fitted_on)
    result = keep_evaluation(run, data, said, part, model.step, temperature)
    draw_evaluation(run, part, data)
    return {
        "run": str(run.path),
        "on": on,
        "part": part,
        "views": views,
        "checkpoint": model.step,
        "openings": len(run.rows(OPENINGS)),
        **headline(result),
        "evaluation": result.as_dict(),
    }


def _own(run: Run, on: str, console: Console) -> ImageSet:
    data: ImageSet = getattr(splits_of(run, console.progress), on)
    return data


def _other(on: str, model: Classifier, console: Console) -> ImageSet:
    """Return all images of other data, its classes brought into the model's order."""
    tree = data_tree(on)
    if tree["name"] in ("folder", "csv"):
        tree["size"] = model.preprocessing.shape[1]
    recipe = resolve(None, Options(settings={"data": tree}))
    loaded = recipe.data.load(console.progress)
    parts = [p for p in (loaded.train, loaded.validation, loaded.test) if p is not None]
    unknown = sorted(set(loaded.train.classes) - set(model.classes))
    if unknown:
        missing = sorted(set(model.classes) - set(loaded.train.classes))
        marks = [f"+ {name}" for name in unknown] + [f"- {name}" for name in missing]
        more = f", and {len(marks) - 20} more" if len(marks) > 20 else ""
        raise BadData(
            f"The model does not know the classes {', '.join(unknown[:10])} of {on}. "
            f"It knows {', '.join(model.classes)}. Against the model's classes the data has: "
            f"{', '.join(marks[:20])}{more}. Rename or leave out what is marked +."
        )
    order = torch.tensor([model.classes.index(name) for name in loaded.train.classes])
    pixels = torch.cat([p.images[p.rows] for p in parts])
    labels = torch.cat([order[p.targets] for p in parts])
    return ImageSet.of(pixels, labels, model.classes, loaded.train.name.rsplit("/", 1)[0])
