"""View `evolution`: the filters of the first layer over the run, and how far each layer went."""

from __future__ import annotations

import torch
from torch import Tensor

from pellucid.inspection.evolution import Course, courses
from pellucid.inspection.filters import first_filters
from pellucid.runs.checkpoint import read
from pellucid.viewdata import DoesNotApply, Proof, ViewData
from pellucid.views.options import BadOption, Options
from pellucid.views.subject import Subject, initial_model

TAKES = ("count",)
FILTERS = 8


def compute(subject: Subject, options: Options) -> ViewData:
    """Return the first layer's filters at each copy of the weights, and the way of each layer.

    `count` is the number of filters: those that moved most.

    Raises:
        DoesNotApply: if the run kept no copies, or this is no run.
    """
    steps = sorted(subject.past or {})
    if len(steps) < 2:
        raise DoesNotApply(
            "This needs copies of the weights over the run, and "
            + (f"{subject.run.path} kept fewer than two (record.snapshots 0?). Train with "
               "--record.snapshots 12." if subject.run else "this is a model, not a run.")
        )  # fmt: skip
    copies = [subject.snapshot(step) for step in steps]
    first = first_filters(subject.model, torch.zeros(1, *subject.shape, device=subject.device))
    film = torch.stack([first.shaped(copy[first.parameter]).cpu() for copy in copies])
    moved = (film[-1] - film[0]).flatten(1).norm(dim=1)
    if options.count is not None and options.count < 1:
        raise BadOption(f"--count must be at least 1. Got {options.count}.")
    chosen = moved.argsort(descending=True, stable=True)[: options.count or FILTERS].tolist()
    ways = courses(copies, steps)
    per_epoch = _steps_per_epoch(subject)
    numbers = {
        "layer": first.layer, "steps": steps, "chosen": chosen, "film": film[:, chosen],
        "epochs": [step / per_epoch for step in steps] if per_epoch else None,
        "scale": float(film[:, chosen].abs().max()),
        "moved": moved, "courses": {name: vars(way) for name, way in ways.items()},
    }  # fmt: skip
    return ViewData(
        "evolution",
        f"{first.layer}: the {len(chosen)} filters that moved most, over {steps[-1]:,} steps",
        numbers, _proofs(subject, copies, steps, ways, film, first.parameter),
        ("weights", "displacement", "path", "cosine of start and end", "update / weight, last"),
        tuple(
            (name, f"{float(way.displacement[-1]):.3f}", f"{float(way.path[-1]):.3f}",
             f"{float(way.cosine[0]):+.3f}", f"{float(way.ratio[-1]):.2e}")
            for name, way in ways.items()
        ),
        (
            "displacement: |w - w0| / |w0|; path: length of the way through the copies / |w0|; "
            "update / weight: per optimizer step, between the last two copies.",
        ),
        subject.provenance(copies=len(steps)),
    )  # fmt: skip


def _proofs(
    subject: Subject, copies: list[dict[str, Tensor]], steps: list[int],
    ways: dict[str, Course], film: Tensor, parameter: str,
) -> tuple[Proof, ...]:  # fmt: skip
    shorter = max(float((way.displacement - way.path).max()) for way in ways.values())
    shown = film[0].flatten() - copies[0][parameter].flatten()
    found = [
        Proof("displacement - path, where it is larger", max(0.0, shorter), 1e-9),
        Proof("first column - first copy of the weights", float(shown.abs().max()), 0),
    ]
    start = initial_model(subject) if steps[0] == 0 and not _pretrained(subject) else None
    if start is not None:
        found.append(Proof("weights drawn anew from the seed - copy of step 0",
                           _apart(start.state_dict(), copies[0]), 0))  # fmt: skip
    saved = _saved(subject, steps[-1])
    if saved is not None:
        found.append(Proof(f"checkpoint of step {steps[-1]:,} - last copy",
                           _apart(saved, copies[-1]), 0))  # fmt: skip
    return tuple(found)


def _saved(subject: Subject, step: int) -> dict[str, Tensor] | None:
    """Return the weights in the checkpoint after `step`: the average, where there is one."""
    if subject.run is None or step not in subject.run.checkpoints.steps():
        return None
    tensors = read(subject.run.checkpoints.path(step)).tensors
    return {k: v for k, v in tensors.get("ema", tensors["model"]).items() if k != "updates"}


def _apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(
        (
            float((value.cpu().double() - other[name].cpu().double()).abs().max())
            for name, value in one.items()
            if value.numel()
        ),
        default=float("nan"),
    )


def _pretrained(subject: Subject) -> bool:
    return bool(getattr(subject.recipe.model, "pretrained", "")) if subject.recipe else True


def _steps_per_epoch(subject: Subject) -> float | None:
    """Return steps per epoch as the run's rows have it."""
    if subject.run is None:
        return None
    summary = subject.run.summary()
    best = (summary or {}).get("best", {})
    return best["step"] / best["epoch"] if best.get("epoch") else None
