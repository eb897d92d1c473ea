"""View `excite`: give an image or a drawing, see which kernels it excites most."""

from __future__ import annotations

from typing import Any

import torch

from pellucid.inspection.convolution import Convolution, cells, convolutions
from pellucid.inspection.excite import Excitement, excitement, score
from pellucid.viewdata import Proof, ViewData
from pellucid.views.options import IMAGE, Options, choose
from pellucid.views.picture import picture
from pellucid.views.sample import sample
from pellucid.views.subject import Subject

TAKES = (*IMAGE, "layer", "count")
TOP = 8
FAINT = 1e-3
"""Share of the strongest response below which a kernel hardly responds."""
MOST = 1000


def compute(subject: Subject, options: Options) -> ViewData:
    """Return the kernels of a layer, ranked by how unusual their response to the image is.

    By default of the first convolution. `count` is the number of training images.

    Raises:
        BadOption: if the layer does not exist.
        DoesNotApply: if the model has no convolution.
    """
    shown = picture(subject, options)
    layers = convolutions(subject.model, shown.x)
    names = [layer.name for layer in layers]
    layer = layers[names.index(choose("convolution", options.layer or names[0], names))]
    many = sample(subject, Options(count=options.count), MOST, "train")
    found = excitement(subject.model, layer.out, layer.op, (x for x, _ in many.batches()))
    order = found.ranking()
    top = [_strongest(layer, unit) for unit in order[:TOP]]
    scale = float(layer.out.abs().max()) or 1.0
    worst = max(abs(best["dot"] + best["bias"] - best["value"]) for best in top) / max(1.0, scale)
    again = _tripled(found, layer, order[1::2])
    numbers = {
        "image": shown.pixels[0], "steps": shown.steps, "layer": layer.name, "ranking": order,
        "mean": found.mean, "maximum": found.maximum, "z": found.z,
        "usual": found.usual, "spread": found.spread, "n": found.n, "top": top,
        "limit": max(float(best["map"].max()) for best in top),
        "kernel_limit": max(float(best["kernel"].abs().max()) for best in top),
        "patch_limit": max(float(best["patch"].abs().max()) for best in top),
    }  # fmt: skip
    best_by_mean = int(found.mean.argmax())
    best_by_max = int(found.maximum.argmax())
    return ViewData(
        "excite",
        f"{layer.name}: the {len(top)} kernels that {shown.name} excites most, by z-score against "
        f"{found.n:,} training images",
        numbers,
        (
            Proof("kernel . patch + bias - value at the best place", worst, 1e-5),
            Proof("places of the ranking that change when every second kernel and bias are tripled",
                  sum(a != b for a, b in zip(order, again, strict=True)), 0),
        ),
        ("rank", "kernel", "z", "mean", "usual mean", "max", "at", "kernel . patch", "bias"),
        tuple(_row(rank, best, found) for rank, best in enumerate(top, 1)),
        (
            f"By mean response kernel {best_by_mean} is first, by maximum kernel {best_by_max}; "
            "both grow with the kernel's norm and the image's brightness, z does not.",
            "Excitement is not effect: see the view ablation.",
            *_faint(top, found),
        ),
        subject.provenance(image=shown.name, layer=layer.name, training=many.text),
    )  # fmt: skip


def _strongest(layer: Convolution, unit: int) -> dict[str, Any]:
    """Return the strongest place of a kernel, and what lies there."""
    width = layer.out.shape[2]
    at = int(layer.out[unit].flatten().argmax())
    place = (at // width, at % width)
    found = cells(layer, unit, place)
    return {
        "unit": unit, "place": place, "value": found.value, "bias": found.bias,
        "dot": float(found.products.sum()), "kernel": found.kernel, "patch": found.patch,
        "map": layer.out[unit].clamp_min(0),
    }  # fmt: skip


def _faint(top: list[dict[str, Any]], found: Excitement) -> tuple[str, ...]:
    """Return a word on kernels that lead the ranking and yet hardly respond."""
    least = FAINT * float(found.maximum.max())
    faint = [str(best["unit"]) for best in top if float(found.maximum[best["unit"]]) < least]
    if not faint:
        return ()
    return (f"Kernel {', '.join(faint)}: less than a thousandth of the strongest response. z "
            "compares a kernel with itself on other images, however faint it is.",)  # fmt: skip


def _row(rank: int, best: dict[str, Any], found: Excitement) -> tuple[str, ...]:
    unit = best["unit"]
    y, x = best["place"]
    return (
        str(rank), str(unit), f"{float(found.z[unit]):+.2f}", f"{float(found.mean[unit]):.4f}",
        f"{float(found.usual[unit]):.4f}", f"{float(found.maximum[unit]):.3f}", f"({y}, {x})",
        f"{best['dot']:.4f}", f"{best['bias']:+.4f}",
    )  # fmt: skip


def _tripled(found: Excitement, layer: Convolution, units: list[int]) -> list[int]:
    """Return the ranking if these kernels and their biases were three times as large.

    A response is linear in both before ReLU, and ReLU keeps a factor above 0: so it is three times
    as large for every image.
    """
    factor = torch.ones_like(found.mean)
    factor[units] = 3.0
    maps = layer.out.double() * factor.to(layer.out.device)[:, None, None]
    response = maps.clamp_min(0)
    usual = found.all * factor
    return score(response.mean((1, 2)), response.amax((1, 2)), usual).ranking()
