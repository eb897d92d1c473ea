"""View `landscape`: the loss around the weights, and the way by which the run came there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pellucid.inspection.formulas import macs
from pellucid.inspection.landscape import (
    PathPlane,
    between,
    loss_of,
    norm_miss,
    normalised,
    pair_to_scale,
    path_plane,
    raw_direction,
    scale_miss,
    surface,
)
from pellucid.inspection.trace import looking, trace
from pellucid.values import Loss
from pellucid.viewdata import Proof, ViewData
from pellucid.views.health import training_loss
from pellucid.views.options import Options
from pellucid.views.sample import sample
from pellucid.views.subject import Subject

TAKES = ("on", "count")
MOST, LEAST = 100, 16
"""Images on which the loss is taken: fewer for a network that costs more."""
WORK = 600_000_000
"""Multiplications for one point of the picture, about."""
SIDE = 13
"""Points along each side of a plane."""


class Past(NamedTuple):
    """The way of a run: weights by step, and the loss at each."""

    steps: list[int]
    losses: list[float]
    start: Mapping[str, Tensor]
    plane: PathPlane | None


def compute(subject: Subject, options: Options) -> ViewData:
    """Return the loss on a plane through the weights, on the plane of the run's way, on a line.

    A model without a past has the first of the three only.
    """
    model = subject.model
    data, text, loss = _data(subject, options)
    centre = loss_of(model, data, loss)
    weights = {name: p.detach() for name, p in model.named_parameters()}
    plane = [normalised(weights, raw_direction(model, which)) for which in (0, 1)]
    ticks = [at / (SIDE // 2) - 1 for at in range(SIDE)]  # 0 to the bit in the middle
    found = surface(model, data, (plane[0], plane[1]), ticks, ticks, loss)
    proofs = [
        Proof("loss in the middle - loss of the checkpoint",
              _apart(float(found[SIDE // 2, SIDE // 2]), centre), 0),
        Proof("length of each filter of a direction - length of the filter (relative)",
              max(norm_miss(weights, one) for one in plane), 1e-5),
    ]  # fmt: skip
    numbers: dict[str, Any] = {
        "loss": centre, "n": len(data[1]), "ticks": ticks, "plane": found, "step": subject.step,
    }  # fmt: skip
    notes = [
        f"Loss of {text}, in eval mode. Directions are drawn at random and normalised filter by "
        "filter: 1 is as far as each filter is long. Another draw gives another picture.",
    ]
    pair = _pair(subject, data[0])
    if pair:
        few = (data[0][:LEAST], data[1][:LEAST])
        proofs.append(
            Proof("the plane - the plane after one layer times 3, the next one / 3 (relative)",
                  scale_miss(model, few, pair), 1e-9)
        )  # fmt: skip
    else:
        notes.append(
            "No two layers here can be scaled against each other (batch norm or a sum stands "
            "behind each), so that the picture does not change by it is not shown."
        )
    past = _past(subject, data, loss)
    if past is None:
        why = " (record.snapshots 0?)." if subject.run else "; this is no run."
        notes.append(f"No way is shown: there are no copies of weights from before{why}")
    else:
        numbers |= _way(subject, past, data, loss, proofs, notes)
    return ViewData(
        "landscape", _title(subject, centre, found), numbers, tuple(proofs),
        ("where", "loss"), _rows(numbers, found), tuple(notes), subject.provenance(images=text),
    )  # fmt: skip


def _data(subject: Subject, options: Options) -> tuple[tuple[Tensor, Tensor], str, Loss]:
    one = next(sample(subject, Options(on=options.on, count=1), 1, "train").batches(1))[0]
    with looking(subject.model), torch.no_grad():
        work = sum(macs(op) for op in trace(subject.model, one))
    most = min(MOST, max(LEAST, WORK // max(1, work)))
    many = sample(subject, options, most, "train")
    x, targets = next(many.batches(len(many)))
    return (x, targets.to(x.device)), many.text, training_loss(subject, many)


def _pair(subject: Subject, x: Tensor) -> Any:
    with looking(subject.model), torch.no_grad():
        return pair_to_scale(trace(subject.model, x[:1]))


def _past(subject: Subject, data: tuple[Tensor, Tensor], loss: Loss) -> Past | None:
    """Return the copies up to the step that is looked at, or None if there is none before it."""
    last = subject.step if subject.step is not None else -1
    copies = {step: _placed(subject, step) for step in subject.past or {} if step < last}
    copies = {step: weights for step, weights in copies.items()
              if all(bool(w.isfinite().all()) for w in weights.values())}  # fmt: skip
    if not copies:
        return None
    now = subject.model.state_dict()
    parameters = {name: p.detach() for name, p in subject.model.named_parameters()}
    losses = [between(subject.model, data, (w, w), (1.0,), loss)[0] for w in copies.values()]
    return Past(
        list(copies), [*losses, between(subject.model, data, (now, now), (1.0,), loss)[0]],
        next(iter(copies.values())), path_plane(list(copies.values()), parameters),
    )  # fmt: skip


def _placed(subject: Subject, step: int) -> dict[str, Tensor]:
    return {name: tensor.to(subject.device) for name, tensor in subject.snapshot(step).items()}


def _way(
    subject: Subject, past: Past, data: tuple[Tensor, Tensor], loss: Loss,
    proofs: list[Proof], notes: list[str],
) -> dict[str, Any]:  # fmt: skip
    """Return the line and the plane of the way; add what holds for them, and what must be said."""
    model = subject.model
    shares = [at / (SIDE - 1) for at in range(SIDE)]
    line = between(model, data, (past.start, model.state_dict()), shares, loss)
    proofs.append(
        Proof(f"ends of the line - loss of step {past.steps[0]:,} and of the checkpoint",
              max(_apart(line[0], past.losses[0]), _apart(line[-1], loss_of(model, data, loss))),
              0)
    )  # fmt: skip
    found: dict[str, Any] = {
        "line": {"shares": shares, "loss": line},
        "path": {"steps": [*past.steps, subject.step], "loss": past.losses}, "way": None,
    }  # fmt: skip
    if past.plane is None:
        notes.append("The copies lie on a line, so there is no plane of the way.")
        return found
    plane = past.plane
    along, across = (_ticks(plane.places[:, axis]) for axis in (0, 1))
    heights = surface(model, data, plane.directions, along, across, loss)
    middle = float(heights[across.index(0.0), along.index(0.0)])
    proofs += [
        Proof("plane of the way: loss at the end - loss of the checkpoint",
              _apart(middle, loss_of(model, data, loss)), 0),
        Proof("plane of the way: shares of both directions + share of the rest - 1",
              abs(sum(plane.shares) + plane.rest - 1), 1e-6),
    ]  # fmt: skip
    found["way"] = {
        "along": along, "across": across, "loss": heights, "shares": list(plane.shares),
        "rest": plane.rest, "places": torch.cat([plane.places, torch.zeros(1, 2)]),
    }  # fmt: skip
    notes.append(
        f"The plane of the way holds {sum(plane.shares):.0%} of the squared distances of the "
        "copies to the end. The way itself lies beside it: its losses are in the last panel."
    )
    return found


def _ticks(places: Tensor) -> list[float]:
    """Return points along one direction of the way: all of it, a margin, and 0 to the bit."""
    low, high = min(0.0, float(places.min())), max(0.0, float(places.max()))
    margin = 0.2 * (high - low) or 1.0
    ticks = torch.linspace(low - margin, high + margin, SIDE).tolist()
    nearest = min(range(SIDE), key=lambda i: abs(ticks[i]))
    ticks[nearest] = 0.0
    return ticks


def _apart(a: float, b: float) -> float:
    return 0.0 if a == b else abs(a - b)


def _title(subject: Subject, centre: float, plane: Tensor) -> str:
    at = f" after step {subject.step:,}" if subject.step is not None else ""
    known = plane[plane.isfinite()]
    high = f", up to {float(known.max()):.3g} around it" if len(known) else ""
    return f"The loss around the weights{at}: {centre:.4g} there{high}"


def _rows(numbers: Mapping[str, Any], plane: Tensor) -> tuple[tuple[str, ...], ...]:
    middle = SIDE // 2
    sides = (plane[middle, 0], plane[middle, -1], plane[0, middle], plane[-1, middle])
    rows = [("the checkpoint", f"{numbers['loss']:.4f}")]
    for name, value in zip(("left", "right", "lower", "upper"), sides, strict=True):
        rows.append((f"{name} side of the plane, one filter length away", f"{float(value):.4f}"))
    path: Mapping[str, Sequence[float]] = numbers.get("path", {"steps": [], "loss": []})
    rows += [(f"copy of step {step:,}", f"{loss:.4f}")
             for step, loss in zip(path["steps"], path["loss"], strict=True)]  # fmt: skip
    return tuple(rows)
