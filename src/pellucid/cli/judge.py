"""What `pellucid evaluate` does: a run's model on one of its parts or on other data."""

from __future__ import annotations

from typing import Any

import torch

from pellucid.assemble import assemble
from pellucid.catalogue import from_tree, read_toml
from pellucid.cli.resolve import Options, data_tree, resolve
from pellucid.engine import Engine
from pellucid.errors import BadData, DataChanged
from pellucid.finish import part, record_opening
from pellucid.inference import Classifier, classifier, judged
from pellucid.metrics.accuracy import measure
from pellucid.runs.folder import ENVIRONMENT, OPENINGS, RECIPE, Run
from pellucid.runs.listing import find
from pellucid.sinks.console import Console
from pellucid.values import ImageSet

PARTS = ("validation", "test", "train")


def judge_run(given: str, on: str, device: str, console: Console) -> dict[str, Any]:
    """Return loss, accuracy, n, interval and where they come from.

    Raises:
        UserError: if there is no such run, part or data, or if they do not fit.
    """
    run = find(given)
    found = judged(run)
    for problem in found.problems:
        console.line(f"warning: {problem}")
    model = classifier(run, found.checkpoint, device)
    data = _own(run, on, console) if on in PARTS else _other(on, model, console)
    if not len(data):
        raise BadData(f"The run has no {on} images.")
    if on == "test":
        record_opening(run, model.step, len(data), "pellucid evaluate")
    scores = part(measure(model.predict_set(data)))
    assert scores is not None
    openings = len(run.rows(OPENINGS))
    return {
        "run": str(run.path),
        "on": on,
        **scores,
        "checkpoint": model.step,
        "openings": openings,
    }


def _own(run: Run, on: str, console: Console) -> ImageSet:
    recipe = from_tree(read_toml(run.path / RECIPE), str(run.path / RECIPE))
    splits = assemble(
        recipe, Engine.start(recipe.engine_on("cpu")), console.progress, start=False
    ).splits
    stored = (run.read_json(ENVIRONMENT) or {}).get("data", {}).get("data_digest")
    if stored != splits.digest:
        raise DataChanged(f"The data of {run.path} has changed since the run was started.")
    data: ImageSet = getattr(splits, on)
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
        raise BadData(
            f"The model does not know the classes {', '.join(unknown[:10])} of {on}. "
            f"It knows {', '.join(model.classes)}."
        )
    order = torch.tensor([model.classes.index(name) for name in loaded.train.classes])
    pixels = torch.cat([p.images[p.rows] for p in parts])
    labels = torch.cat([order[p.targets] for p in parts])
    return ImageSet.of(pixels, labels, model.classes, loaded.train.name.rsplit("/", 1)[0])
