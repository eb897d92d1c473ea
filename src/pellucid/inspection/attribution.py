"""Which pixels speak for a class: six ways to say so, on the logit, for one image.

On the logit, not on the softmax: where that is nearly 1 its gradient is nearly 0, and it mixes the
evidence for all classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.inspection.logits import head
from pellucid.inspection.sites import sites
from pellucid.inspection.trace import Op, Tracer, trace
from pellucid.viewdata import DoesNotApply

STEPS, MOST = 256, 2304
"""Pieces of the way of integrated gradients: usually, and where many bends need smaller ones."""
BATCH = 64
"""Images per pass, which bounds the memory."""


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked: why does `model` give `image` this logit for `target`?

    Args:
        model: any, giving (B, classes); within `looking`.
        image: (1, C, H, W), prepared.
        baseline: an image without evidence, of the same shape: what stands for "not there".
        target: the class.
    """

    model: nn.Module
    image: Tensor
    baseline: Tensor
    target: int

    def logits(self, images: Tensor) -> Tensor:
        """Return the logit of the target for images (B, C, H, W), without gradient."""
        with torch.no_grad():
            parts = [self.model(part)[:, self.target] for part in images.split(BATCH)]
        return torch.cat(parts)

    def gradients(self, images: Tensor) -> Tensor:
        """Return the gradient of the logit at images (B, C, H, W), each by itself."""
        found = []
        for part in images.split(BATCH):
            x = part.detach().clone().requires_grad_()
            with torch.enable_grad():
                total = self.model(x)[:, self.target].sum()
            found.append(torch.autograd.grad(total, x)[0])
        return torch.cat(found)


def gradient(q: Question) -> Tensor:
    """Return the gradient of the logit, (C, H, W): how it moves if a pixel does, a little."""
    return q.gradients(q.image)[0]


def gradient_x_input(q: Question) -> Tensor:
    """Return gradient times image, (C, H, W).

    For a net of ReLU, pools and layers without biases it adds up to the logit.
    """
    return gradient(q) * q.image[0]


def integrated_gradients(q: Question, steps: int = STEPS) -> Tensor:
    """Return integrated gradients, (C, H, W) (Sundararajan et al., 2017).

    The mean gradient at the middles of `steps` pieces of the straight way from the baseline to
    the image, times their difference. It adds up to the difference of the two logits.
    """
    middles = (torch.arange(steps, device=q.image.device) + 0.5) / steps
    return ((q.image - q.baseline) * _along(q, middles) / steps)[0]


def settled_gradients(q: Question, gap: float) -> tuple[Tensor, int]:
    """Return integrated gradients that add up to within `gap`, (C, H, W), and the steps it took.

    Each time that they do not, there are three times as many pieces; at most `MOST`. The middles
    of the larger pieces are middles of smaller ones, so what is known is kept.
    """
    change = float((q.logits(q.image) - q.logits(q.baseline))[0])
    way, steps = q.image - q.baseline, STEPS
    total = _along(q, (torch.arange(steps, device=q.image.device) + 0.5) / steps)
    while True:
        found = (way * total / steps)[0]
        if abs(float(found.sum()) - change) <= gap or 3 * steps > MOST:
            return found, steps
        starts = torch.arange(steps, device=q.image.device) / steps
        total = total + _along(q, torch.cat([starts + 1 / 6 / steps, starts + 5 / 6 / steps]))
        steps *= 3


def _along(q: Question, shares: Tensor) -> Tensor:
    """Return the sum of the gradients at these shares of the way from the baseline."""
    total = torch.zeros_like(q.image)
    for part in shares.split(BATCH):
        points = q.baseline + part[:, None, None, None] * (q.image - q.baseline)
        total = total + q.gradients(points.to(q.image)).sum(0, keepdim=True)
    return total


def occlusion(q: Question, size: int, stride: int) -> Tensor:
    """Return how much the logit falls where a square is replaced by the baseline, (H, W).

    Each pixel gets the mean over the squares that cover it (Zeiler and Fergus, 2014).
    """
    height, width = q.image.shape[2:]
    tops, lefts = _starts(height, size, stride), _starts(width, size, stride)
    places = [(y, x) for y in tops for x in lefts]
    whole = q.logits(q.image)
    total = torch.zeros(height, width, device=q.image.device)
    count = torch.zeros_like(total)
    for start in range(0, len(places), BATCH):
        part = places[start : start + BATCH]
        images = q.image.repeat(len(part), 1, 1, 1)
        for i, (y, x) in enumerate(part):
            spot = (slice(y, y + size), slice(x, x + size))
            images[(i, slice(None), *spot)] = q.baseline[(0, slice(None), *spot)]
        for (y, x), fall in zip(part, whole - q.logits(images), strict=True):
            total[y : y + size, x : x + size] += fall
            count[y : y + size, x : x + size] += 1
    return total / count.clamp_min(1)


def _starts(length: int, size: int, stride: int) -> list[int]:
    """Return where the squares begin; the last one ends at the edge."""
    found = list(range(0, max(1, length - size + 1), stride))
    if found[-1] + size < length:
        found.append(length - size)
    return found


def grad_cam(q: Question, op: int) -> tuple[Tensor, Tensor]:
    """Return Grad-CAM of the maps of operation `op`, before and after ReLU, (h, w).

    Maps weighted by the mean of the logit's gradient over each (Selvaraju et al., 2017).
    """
    kept: list[Tensor] = []

    def seen(one: Op) -> Tensor | None:
        if one.index != op:
            return None
        kept.append(one.out)
        return one.out.clone()  # what follows may change its input in place

    x = q.image.detach().clone().requires_grad_()
    with torch.enable_grad(), Tracer(q.model, x, seen):
        logit = q.model(x)[0, q.target]
    slope = torch.autograd.grad(logit, kept[0])[0]
    weights = slope.mean((2, 3), keepdim=True)
    raw = (weights * kept[0].detach()).sum(1)[0]
    return raw, raw.clamp_min(0)


@dataclass(frozen=True, eq=False)
class Pooled:
    """A head of a mean over places and a linear layer.

    Args:
        maps: before the mean, (K, h, w).
        weights: of the linear layer, (classes, K).
        bias: (classes,).
        op: index of the operation that gave the maps.
    """

    maps: Tensor
    weights: Tensor
    bias: Tensor
    op: int


def pooled_head(model: nn.Module, image: Tensor) -> Pooled:
    """Return the head that class activation maps need (within `looking`).

    Raises:
        DoesNotApply: if the model does not end in a mean over places and a linear layer.
    """
    with torch.no_grad():
        ops = trace(model, image)
        last = head(ops)
        features = last.args[0][0].double()
        for op in reversed(ops[: last.index]):
            if op.out.dim() != 4 or op.out.shape[1] != len(features):
                continue
            if op.out.shape[2:].numel() == 1:
                continue
            mean = op.out[0].double().mean((1, 2))
            if torch.allclose(mean, features, rtol=1e-4, atol=1e-5):
                bias = last.args[2] if len(last.args) > 2 else None
                zeros = torch.zeros(len(last.args[1]), device=image.device)
                return Pooled(op.out[0], last.args[1].detach(),
                              zeros if bias is None else bias.detach(), op.index)  # fmt: skip
            break
    raise DoesNotApply("it needs a mean over places right before the last linear layer")


def cam(pooled: Pooled, target: int) -> Tensor:
    """Return the class activation map (h, w): maps times the weights of the class (Zhou, 2016).

    Its mean is the logit without its bias.
    """
    return torch.einsum("k,khw->hw", pooled.weights[target], pooled.maps)


def last_maps(model: nn.Module, image: Tensor) -> tuple[str, int] | None:
    """Return layer and operation of the last maps (H and W above 1), or None (within `looking`)."""
    with torch.no_grad():
        found = [site for site in sites(trace(model, image)) if len(site.shape) == 3]
    for site in reversed(found):
        if site.shape[1] > 1 and site.shape[2] > 1:
            return site.layer, site.op
    return None


def enlarged(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a map (h, w) as large as the image, each cell a block: it knows no more than that."""
    return F.interpolate(values[None, None], size=size, mode="nearest")[0, 0]


def methods(
    q: Question, integrated: Tensor | None = None
) -> Iterator[tuple[str, Callable[[Question], Tensor]]]:
    """Yield each method that this model can have, by name, as a function to a map (H, W).

    Channels are added up: the sign stays.

    Args:
        q: what is asked.
        integrated: its integrated gradients, if they are known.
    """
    size = (int(q.image.shape[2]), int(q.image.shape[3]))
    side = max(1, round(min(size) / 7))
    yield "gradient", lambda a: gradient(a).sum(0)
    yield "gradient x input", lambda a: gradient_x_input(a).sum(0)
    yield (
        "integrated gradients",
        lambda a: (
            integrated if integrated is not None and a is q else integrated_gradients(a)
        ).sum(0),
    )
    yield "occlusion", lambda a: occlusion(a, side, max(1, side // 2))
    found = last_maps(q.model, q.image)
    if found:
        yield "Grad-CAM", lambda a: enlarged(grad_cam(a, found[1])[1], size)
    try:
        pooled_head(q.model, q.image)
    except DoesNotApply:
        return
    yield "CAM", lambda a: enlarged(cam(pooled_head(a.model, a.image), a.target), size)
