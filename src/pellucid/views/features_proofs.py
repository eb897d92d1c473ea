"""What the view `features` rests on: the ascent finds what is known, and keeps its promises."""

from __future__ import annotations

import torch
from torch import Tensor

from pellucid.inspection.calls import WEIGHTED
from pellucid.inspection.formulas import argument
from pellucid.inspection.patches import Spot
from pellucid.inspection.receptive import fields
from pellucid.inspection.sites import Site
from pellucid.inspection.trace import looking, trace
from pellucid.inspection.visualise import Ascent, Wanted, ascend, middle, values_of
from pellucid.viewdata import Proof
from pellucid.views.subject import Subject


def linear_proofs(subject: Subject, image: Tensor, unit: int, radius: Tensor) -> tuple[Proof, ...]:
    """Return how the same ascent does where the answer is known: in the first layer.

    There the value is w . x + b: the best picture of norm r is r w / |w|, with value r |w| + b.
    """
    model = subject.model
    with looking(model), torch.no_grad():
        ops = trace(model, image)
    op = next((op for op in ops if op.call in WEIGHTED), None)
    if op is None or op.call not in ("conv2d", "linear") or op.out.dim() not in (2, 4):
        return ()
    weight: Tensor = argument(op, 1, "weight", None)
    bias: Tensor | None = argument(op, 2, "bias", None)
    unit = unit % len(weight)
    shape = (subject.shape[1], subject.shape[2])
    site = Site(op.name, op.index, op.call, tuple(op.out.shape[1:]))
    if op.call == "linear":
        if weight.shape[1] != image[0].numel():
            return ()
        spot = Spot(site, None)
    else:
        field = fields(ops)[op.index]
        if isinstance(field, str) or field is None or op.sources[:1] != (-1,):
            return ()
        spot = Spot(site, field)
    place, mask = middle(spot, shape)
    kernel = weight[unit].detach()
    if int(mask.sum()) * subject.shape[0] != kernel.numel() or float(kernel.norm()) == 0:
        return ()
    wanted = Wanted(op.index, [unit], place, mask.to(subject.device), radius)
    found = ascend(model, wanted, subject.shape[0], smooth=False)
    picture, kernel = found.pictures[0][:, mask].double().flatten(), kernel.double().flatten()
    length = float(radius) * float(kernel.norm())
    cosine = float(picture @ kernel) / float(picture.norm() * kernel.norm())
    expected = length + (0.0 if bias is None else float(bias[unit].detach()))
    name = f"{op.name}, unit {unit}, before its nonlinearity"
    return (
        Proof(f"1 - cosine of the optimum found and the weights ({name})", abs(1 - cosine), 1e-3),
        Proof("value of that optimum - (norm of the picture x |w| + b) (relative)",
              abs(float(found.values[0]) - expected) / max(length, 1e-12), 1e-3),
    )  # fmt: skip


def kept_proofs(subject: Subject, wanted: Wanted, *ascents: Ascent) -> tuple[Proof, ...]:
    """Return how well `ascents` keep to what pictures may be, and to what they recorded."""
    falls, apart, strong, outside = 0.0, 0.0, 0.0, 0.0
    assert wanted.low is not None
    assert wanted.high is not None
    low, high = (v.view(-1, 1, 1) for v in (wanted.low, wanted.high))
    for found in ascents:
        falls = max(falls, float((found.course[:-1] - found.course[1:]).max()))
        for at, unit in enumerate(wanted.units):
            alone = Wanted(wanted.op, [unit], wanted.place, wanted.mask, wanted.radius[at : at + 1])
            x = found.pictures[at : at + 1]
            with looking(subject.model), torch.no_grad():
                value = float(values_of(subject.model, x, alone)[0])
            scale = max(1.0, abs(value))
            apart = max(apart, abs(value - float(found.values[at])) / scale)
            strong = max(strong, float(x.norm() / wanted.radius[at]) - 1)
            outside = max(outside, float((low - x[0]).max()), float((x[0] - high).max()))
    return (
        Proof("value of each picture, alone - value recorded (relative)", apart, 1e-4),
        Proof("fall of the best value so far, along the ascents", max(0.0, falls), 0),
        Proof("norm of a picture / norm allowed - 1, where larger", max(0.0, strong), 1e-5),
        Proof("values of a picture beyond those of pixels", max(0.0, outside), 1e-6),
    )
