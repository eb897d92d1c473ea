"""View `health`: signals and gradients of each layer over the run, and what rings an alarm."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.assemble import PROBE
from pellucid.checks.diagnosis_signs import EXPLODED, MANY_DEAD, SATURATED, VANISHED
from pellucid.inspection import vitals
from pellucid.inspection.activations import find_sites
from pellucid.inspection.evolution import courses
from pellucid.inspection.health import Pulse, Signal, allowed, edges, moved, pulse, slope_miss
from pellucid.recipe import LossSpec
from pellucid.runs.folder import METRICS
from pellucid.values import Loss
from pellucid.viewdata import DoesNotApply, Proof, ViewData, short
from pellucid.views.health_alarms import Alarm, Moment, alarms_of
from pellucid.views.options import Options
from pellucid.views.sample import Sample, sample, work
from pellucid.views.subject import Subject

TAKES = ("on", "count")
SLOPE = 16
"""Images on which the gradient is compared with a measured slope."""
WORK, LEAST = 24_000_000_000, 4
"""Multiplications of all forward passes, about; moments that are looked at even so."""


def compute(subject: Subject, options: Options) -> ViewData:
    """Return signals, gradients and updates of each layer at each copy of the weights.

    Of a model without a past there is one moment: as it is.

    Raises:
        DoesNotApply: if no layer has units that can be told apart.
    """
    many, own = _sample(subject, options)
    x, targets = next(many.batches(len(many)))
    where = find_sites(subject.model, x[:1])
    if not where:
        raise DoesNotApply("No layer of this model gives values (images, units) or maps.")
    copies, alarms = _copies(subject)
    there = len(copies)
    copies = _spread(copies, WORK // (len(x) * work(subject, x[:1])))
    loss = training_loss(subject, many)
    moments = []
    other = copy.deepcopy(subject.model)
    for step, weights in copies.items():
        other.load_state_dict(weights)
        moments.append(Moment(step, pulse(other, x, targets.to(x.device), where, loss)))
    if not moments:
        raise DoesNotApply("No copy of the weights consists of finite numbers: nothing to be seen.")
    alarms += [alarm for moment in moments for alarm in alarms_of(moment)]
    ways = courses(list(copies.values()), list(copies))
    steps = [moment.step for moment in moments]
    last = moments[-1].pulse
    numbers: dict[str, Any] = {
        "steps": steps, "sampled": True, "n": len(many), "edges": edges(),
        "loss": [m.pulse.loss for m in moments], "total": [m.pulse.total for m in moments],
        "signals": [_course([m.pulse.signals[i] for m in moments]) for i in range(len(where))],
        "weights": {
            name: {"gradient": [m.pulse.gradients[name] for m in moments],
                   "norm": [m.pulse.weights[name] for m in moments],
                   "update": _updates(ways, name, subject.model)}
            for name in last.weights
        },
        "alarms": [alarm._asdict() for alarm in alarms],
        "limits": {"dead": MANY_DEAD, "saturated": SATURATED, "vanished": VANISHED,
                   "exploded": EXPLODED},
    }  # fmt: skip
    text = f"{len(alarms)} alarm{'' if len(alarms) == 1 else 's'}" if alarms else "no alarm"
    return ViewData(
        "health",
        f"Signals and gradients of {len(where)} layers at {_moments(steps)}: {text}", numbers,
        _proofs(subject, moments, (x, targets.to(x.device)), own),
        ("layer", "mean", "std", "zeros", "dead", "|gradient|", "gradient / weight",
         "update / weight"),
        tuple(_row(s, last, numbers["weights"]) for s in last.signals),
        (
            *(f"Alarm, {alarm.kind}: {alarm.text}" for alarm in alarms[:6]),
            *([f"... and {len(alarms) - 6} alarms more in the JSON file."] * (len(alarms) > 6)),
            f"Sampled at {_moments(steps)}{_of(len(steps), there)}; nothing is known of "
            f"the steps between. Judged on {many.text}, in eval mode, without augmentation.",
            "The table is the last of them. dead: units of a ReLU that are 0 for every one of "
            "these images. update / weight: per step, between two copies.",
        ),
        subject.provenance(images=many.text, copies=len(steps)),
    )  # fmt: skip


def _sample(subject: Subject, options: Options) -> tuple[Sample, bool]:
    """Return the images, and whether they are those of the run's own vital signs."""
    if options.given() or not len(subject.parts().train):
        return sample(subject, options, vitals.SAMPLE, "train"), False
    data = vitals.sample(vitals.sample(subject.parts().train, PROBE))
    return Sample(data, f"{len(data):,} images of {data.name}, evenly spread", subject), True


def _copies(subject: Subject) -> tuple[dict[int, dict[str, Tensor]], list[Alarm]]:
    """Return the weights by step, those of the model among them; what is not finite is left out."""
    found = {step: subject.snapshot(step) for step in subject.past or {}}
    now = {name: tensor.cpu() for name, tensor in subject.model.state_dict().items()}
    found.setdefault(subject.step or 0, now)
    alarms = []
    for step in sorted(found):
        bad = [name for name, t in found[step].items()
               if t.is_floating_point() and not bool(t.isfinite().all())]  # fmt: skip
        if bad:
            alarms.append(Alarm("not finite", step, bad[0],
                                f"after step {step:,} {bad[0]} holds numbers that are not finite; "
                                "nothing can be shown of that moment."))  # fmt: skip
            del found[step]
    return dict(sorted(found.items())), alarms


def _spread(copies: dict[int, dict[str, Tensor]], most: int) -> dict[int, dict[str, Tensor]]:
    """Return at most `most` copies or `LEAST`, evenly spread, first and last among them."""
    count, most = len(copies), max(most, LEAST)
    if count <= most:
        return copies
    steps = list(copies)
    kept = [steps[round(i * (count - 1) / (most - 1))] for i in range(most)]
    return {step: copies[step] for step in kept}


def _of(seen: int, there: int) -> str:
    return f" of {there}, since this network costs more" if seen < there else ""


def training_loss(subject: Subject, many: Sample) -> Loss:
    """Return the loss that the run was trained with, or cross-entropy."""
    known = subject.recipe.loss if subject.recipe else F.cross_entropy
    if not isinstance(known, LossSpec):
        return known
    counts = subject.parts().train.targets.bincount(minlength=len(subject.classes))
    return known.build(counts if len(counts) else many.data.targets, subject.device)


def _course(signals: Sequence[Signal]) -> dict[str, Any]:
    """Return one layer over the moments."""
    site = signals[0].site
    return {
        "layer": site.layer, "after": site.call.strip("_"), "units": site.shape[0],
        "values": signals[0].values,
        "mean": [s.mean for s in signals], "std": [s.std for s in signals],
        "zeros": [s.zeros for s in signals], "saturated": [s.saturated for s in signals],
        "dead": [None if s.dead is None else list(s.dead) for s in signals],
        "counts": torch.stack([s.counts for s in signals]),
    }  # fmt: skip


def _updates(ways: Mapping[str, Any], layer: str, model: nn.Module) -> list[float]:
    """Return the update of the layer's matrix relative to it, per step; nan at the first copy."""
    part = model.get_submodule(layer)
    for name, p in part.named_parameters(recurse=False):
        if p.dim() > 1:
            ratio: list[float] = ways[f"{layer}.{name}" if layer else name].ratio.tolist()
            return [math.nan, *ratio[1:]]
    return []


def _proofs(
    subject: Subject, moments: Sequence[Moment], data: tuple[Tensor, Tensor], own: bool
) -> tuple[Proof, ...]:
    x, targets = data
    signals = [s for m in moments for s in m.pulse.signals]
    sizes = [abs(int(s.counts.sum()) - len(x) * math.prod(s.site.shape)) for s in signals]
    found = [
        Proof("values in the bins - images x units x height x width", max(sizes), 0),
        Proof("mean - what the histogram allows, where it is outside (relative)",
              max(allowed(s) for s in signals), 1e-9),
        Proof("slope of the loss along the gradient - norm of the gradient (float64, relative)",
              slope_miss(subject.model, x[:SLOPE], targets[:SLOPE]), 1e-3),
        Proof("logits while looking - logits", moved(subject.model, x), 0),
    ]  # fmt: skip
    noted = _noted(subject) if own else {}
    both = [(m.pulse.total, noted[m.step]) for m in moments if noted.get(m.step)]
    if both:
        found.append(
            Proof(f"norm of the gradient - what the run wrote down, at {len(both)} "
                  f"step{'s' * (len(both) > 1)} (relative)",
                  max(abs(here - there) / there for here, there in both), 1e-3)
        )  # fmt: skip
    return tuple(found)


def _noted(subject: Subject) -> dict[int, float]:
    """Return the norms of the gradient that the run itself wrote down, by step.

    None where they are not of the same weights (an average was kept) or of all parameters.
    """
    if subject.run is None or subject.recipe is None or subject.recipe.ema.decay:
        return {}
    rows = [row for row in subject.run.rows(METRICS) if row["kind"] == "vitals"]
    return {row["step"]: row["grad_norm"] for row in rows
            if row["grad_norm"] and all(layer["trained"] for layer in row["layers"])}  # fmt: skip


def _row(signal: Signal, last: Pulse, weights: Mapping[str, Any]) -> tuple[str, ...]:
    name = signal.site.layer.split("#")[0]
    texts = ["-"] * 3
    if name in last.weights:
        gradient, size = last.gradients[name], last.weights[name]
        update = weights[name]["update"]
        texts = [short(gradient), short(gradient / size) if size else "-",
                 short(update[-1]) if len(update) > 1 else "-"]  # fmt: skip
    dead = "-" if signal.dead is None else f"{len(signal.dead)} of {signal.site.shape[0]}"
    return (signal.site.layer, f"{signal.mean:+.3g}", f"{signal.std:.3g}",
            f"{100 * signal.zeros:.1f} %", dead, *texts)  # fmt: skip


def _moments(steps: Sequence[int]) -> str:
    if len(steps) == 1:
        return f"step {steps[0]:,}" if steps[0] else "one moment"
    return f"{len(steps)} moments, steps {steps[0]:,} to {steps[-1]:,}"
