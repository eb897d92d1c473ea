"""Views `filters` and `kinds`: the first layer, trained, as it began, and shuffled."""

from __future__ import annotations

import math
from collections import Counter

import torch
from torch import Tensor

from pellucid.inspection.filters import (
    SHUFFLES,
    First,
    Measures,
    cosines,
    first_filters,
    measure_filters,
    near_duplicates,
    shuffled,
)
from pellucid.inspection.kinds import LEVEL, Kinds, kinds, parts_of
from pellucid.viewdata import Proof, ViewData
from pellucid.views.options import Options
from pellucid.views.subject import Subject

TAKES: tuple[str, ...] = ()


def compute(subject: Subject, options: Options) -> ViewData:
    """Return the filters of the first layer with their measures, beside two baselines.

    Raises:
        DoesNotApply: if the first layer does not see pixels.
    """
    del options
    first, sets = _sets(subject)
    trained = sets["trained"]
    tries = _tries(trained)
    measures = {name: measure_filters(weights, tries) for name, weights in sets.items()}
    found = kinds(trained, tries)
    turned = cosines(trained, sets["at the start"]) if "at the start" in sets else None
    twins = near_duplicates(trained)
    limit = max(float(weights.abs().max()) for weights in sets.values())
    numbers = {
        "layer": first.layer, "over_pixels": first.over_pixels, "scale": limit,
        "sets": sets, "kinds": list(found.words),
        "measures": {name: _plain(m) for name, m in measures.items()},
        "cosine_to_start": turned, "near_duplicates": twins,
    }  # fmt: skip
    stored = dict(subject.model.named_parameters())[first.parameter].detach()
    proofs = (
        Proof("power of the weights - power of their spectrum (Parseval, relative)",
              max(float(m.parseval.max()) for m in measures.values()), 1e-6),
        Proof("weights shown - weights of the model",
              float((first.shaped(stored) - trained).abs().max()), 0),
        Proof("end of the colour scale - largest absolute weight",
              abs(limit - max(float(w.abs().max()) for w in sets.values())), 0),
    )  # fmt: skip
    n, c, h, w = trained.shape
    return ViewData(
        "filters", f"{first.layer}: {n} filters of {c}x{h}x{w}, {_beside(sets)}", numbers, proofs,
        ("filter", "norm", "sum", "angle", "one direction", "low freq.", "p", "cos start", "kind"),
        tuple(_row(i, measures["trained"], turned, found) for i in range(n)),
        _notes(measures, twins, sets), subject.provenance(layer=first.layer),
    )  # fmt: skip


def compute_kinds(subject: Subject, options: Options) -> ViewData:
    """Return what kind of pattern each filter of the first layer is, with a test against chance.

    Raises:
        DoesNotApply: if the first layer does not see pixels.
    """
    del options
    first, sets = _sets(subject)
    tries = _tries(sets["trained"])
    found = {name: kinds(weights, tries) for name, weights in sets.items()}
    trained = found["trained"]
    worst = 0.0
    for weights in sets.values():
        whole, parts = parts_of(weights)
        worst = max(worst, float(((whole - parts).abs() / whole.clamp_min(1e-300)).max()))
    rest = max(float((k.shares.sum(1) - 1).abs().max()) for k in found.values())
    counts = {name: Counter(k.kind) for name, k in found.items()}
    names = ("edge", "line", "spot", "blur", "none")
    numbers = {
        "layer": first.layer, "weights": sets["trained"],
        "scale": float(sets["trained"].abs().max()),
        "kind": list(trained.kind), "words": list(trained.words),
        "shares": trained.shares, "p": trained.p,
        "counts": {name: {kind: c[kind] for kind in names} for name, c in counts.items()},
    }  # fmt: skip
    summary = "; ".join(
        f"{name}: {c.total() - c['none']} of {c.total()} filters have a kind"
        for name, c in counts.items()
    )
    return ViewData(
        "kinds", f"{first.layer}: what kind each filter is, against chance", numbers,
        (
            Proof("power of the parts - power of the filter (relative)", worst, 1e-9),
            Proof("sum of the shares - 1", rest, 1e-9),
        ),
        ("filter", "kind", "edge", "line", "spot", "mean", "rest", "p edge", "p line", "p spot",
         "p blur"),
        tuple(
            (str(i), trained.words[i], *(f"{100 * s:.0f} %" for s in trained.shares[i].tolist()),
             *(f"{p:.3f}" for p in trained.p[i].tolist()))
            for i in range(len(trained.kind))
        ),
        (
            summary + ".",
            f"A kind counts if p < {LEVEL} / 4 against the same weights at shuffled places (blur: "
            "with random signs). By chance alone about one filter in twenty gets one.",
        ),
        subject.provenance(layer=first.layer),
    )  # fmt: skip


def _sets(subject: Subject) -> tuple[First, dict[str, Tensor]]:
    """Return the first layer, and its filters: trained, at the start, and shuffled."""
    image = torch.zeros(1, *subject.shape, device=subject.device)
    first = first_filters(subject.model, image)
    sets = {"trained": first.weights.contiguous()}
    start = subject.initial()
    if start and first.parameter in start:
        sets["at the start"] = first.shaped(start[first.parameter])
    sets["shuffled"] = shuffled(first.weights)
    return first, sets


def _tries(weights: Tensor) -> int:
    """Return how many shuffles are drawn: fewer for the large filters of a dense layer."""
    return SHUFFLES if weights.numel() <= 50_000 else SHUFFLES // 5


def _beside(sets: dict[str, Tensor]) -> str:
    others = [name for name in sets if name != "trained"]
    names = {"at the start": "as this run began", "shuffled": "with shuffled weights"}
    return "trained, beside the same " + " and ".join(names[name] for name in others)


def _plain(m: Measures) -> dict[str, Tensor]:
    return {
        "norm": m.norm, "sum": m.total, "angle": m.angle, "anisotropy": m.anisotropy,
        "low_frequency": m.low, "p_structure": m.p,
    }  # fmt: skip


def _row(i: int, m: Measures, turned: Tensor | None, found: Kinds) -> tuple[str, ...]:
    angle = float(m.angle[i])
    return (
        str(i), f"{float(m.norm[i]):.3f}", f"{float(m.total[i]):+.3f}",
        "-" if math.isnan(angle) else f"{angle:.0f} deg", f"{float(m.anisotropy[i]):.2f}",
        f"{100 * float(m.low[i]):.0f} %", f"{float(m.p[i]):.3f}",
        "-" if turned is None else f"{float(turned[i]):+.2f}", found.words[i],
    )  # fmt: skip


def _notes(
    measures: dict[str, Measures], twins: list[tuple[int, int, float]], sets: dict[str, Tensor]
) -> tuple[str, ...]:
    counts = "; ".join(
        f"{name}: {int((m.p < LEVEL).sum())} of {len(m.p)}" for name, m in measures.items()
    )
    notes = [
        f"Filters with structure, p < {LEVEL} against their own weights at shuffled places: "
        f"{counts}. By chance one in twenty.",
        "angle: in which direction edges or lines run, from horizontal, counter-clockwise; one "
        "direction: from 0 to 1; p: of structure; cos start: cosine to its own initial weights.",
    ]
    if twins:
        shown = ", ".join(f"{i} and {j} ({c:+.2f})" for i, j, c in twins[:5])
        notes.append(f"Near duplicates: {shown}{' and more' if len(twins) > 5 else ''}.")
    if "at the start" not in sets:
        notes.append(
            "No copy of the initial weights was kept (record.snapshots 0), so they are not shown."
        )
    return tuple(notes)
