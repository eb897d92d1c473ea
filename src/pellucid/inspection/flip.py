"""The smallest change of an image that makes a model give another answer.

By its gradient the model is taken for linear around a point; the nearest point where two of its
logits are then equal lies at |f_a - f_b| / |gradient of f_a - f_b|. Steps like this lead over the
border (DeepFool: Moosavi-Dezfooli et al., 2016); then the nearest point of the border's tangent is
looked for, seen from the image, as long as that brings it nearer. Of a linear model the first step
is exact. Of others the search gives a small change, not surely the smallest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

STEPS = 50
"""Steps towards the border, at most."""
NEARER = 10
"""Steps along the border, at most."""
SHARES = (1.0, 0.5, 0.2, 0.05)
"""Of the way to the nearest point of the tangent, as they are tried."""
OTHERS = 10
"""Other answers that are tried, those with the largest logits."""
HALVINGS, ROUGHLY = 24, 10
"""Of the way between both sides of the border: at the end, and during the search."""
WORTH = 1e-3
"""Share by which a point must be nearer to be worth a further step."""
BEYOND = 1e-4
"""Share of a step by which it goes beyond the border."""

Logits = Callable[[Tensor], Tensor]
"""From images (B, ...) to logits (B, classes)."""


@dataclass(frozen=True, eq=False)
class Range:
    """The values that an image can have; each tensor broadcasts to the image.

    Args:
        low: of the darkest pixel.
        high: of the brightest.
    """

    low: Tensor
    high: Tensor

    def clamp(self, x: Tensor) -> Tensor:
        """Return `x` with each value in the range."""
        return torch.minimum(torch.maximum(x, self.low), self.high)


@dataclass(frozen=True, eq=False)
class Flip:
    """A change that flips the answer.

    Args:
        changed: the image after it (1, ...), just over the border.
        distance: L2 norm of the change.
        before: the answer of the image.
        after: that of the changed image.
        aligned: cosine of the change and the gradient at the border, where values are free to move;
            1 where no small turn would bring it nearer.
    """

    changed: Tensor
    distance: float
    before: int
    after: int
    aligned: float


def smallest_flip(
    logits: Logits, image: Tensor, *, target: int | None = None, within: Range | None = None
) -> Flip | None:
    """Return a small change of `image` that flips the answer of `logits`; None if none is found.

    Args:
        logits: the model.
        image: (1, ...), float; float64 to go as near to the border as can be.
        target: the answer to reach; else any other one.
        within: the values that an image can have; else any.

    >>> weights = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]]).double()
    >>> found = smallest_flip(lambda x: x @ weights.T, torch.tensor([[3.0, 1.0]]).double())
    >>> round(found.distance, 3), round(1 / 5**0.5, 3), found.after
    (0.447, 0.447, 1)
    """
    with torch.no_grad():
        before = int(logits(image)[0].argmax())
    search = _Search(logits, image, before, target, within)
    found = search.cross(image)
    if found is None:
        return None
    best = search.back(found, ROUGHLY)
    for _ in range(NEARER):
        other = search.nearer(best)
        if other is None:
            break
        worth = search.length(other) < search.length(best) * (1 - WORTH)
        best = other
        if not worth:
            break
    best = search.back(best)
    after = search.answer(best)
    return Flip(best, search.length(best), before, after, search.aligned(best, after))


@dataclass(frozen=True, eq=False)
class _Search:
    logits: Logits
    image: Tensor
    before: int
    target: int | None
    within: Range | None

    def answer(self, x: Tensor) -> int:
        with torch.no_grad():
            return int(self.logits(x)[0].argmax())

    def over(self, x: Tensor) -> bool:
        """Whether `x` has the answer that is wanted."""
        answer = self.answer(x)
        return answer == self.target if self.target is not None else answer != self.before

    def length(self, x: Tensor) -> float:
        return float((x - self.image).norm())

    def cross(self, x: Tensor) -> Tensor | None:
        """Return a point over the border."""
        for _ in range(STEPS):
            if self.over(x):
                return x
            margin, slope = self.nearest(x)
            size = float((slope**2).sum())
            if not size:
                return None
            there = self.towards(x, slope, -margin + BEYOND * abs(margin) + 1e-9)
            if torch.equal(there, x):
                return None
            x = there
        return x if self.over(x) else None

    def nearest(self, x: Tensor) -> tuple[float, Tensor]:
        """Return by how much the nearest other answer is behind, and the slope of that."""
        at = x.detach().clone().requires_grad_()
        with torch.enable_grad():
            out = self.logits(at)[0]
            top = self._leader(out)
            steps = []
            for other in self._others(out, top):
                gap = out[other] - out[top]
                slope = torch.autograd.grad(gap, at, retain_graph=True)[0]
                margin, size = float(gap.detach()), max(float(slope.norm()), 1e-300)
                steps.append((abs(margin) / size, margin, slope))
        _, margin, slope = min(steps, key=lambda step: step[0])
        return margin, slope

    def _others(self, out: Tensor, top: int) -> list[int]:
        if self.target is not None:
            return [self.target]
        order: list[int] = out.detach().argsort(descending=True, stable=True).tolist()
        return [other for other in order if other != top][:OTHERS]

    def _leader(self, out: Tensor) -> int:
        """Return the class to get away from: the answer, or the best of all but the target."""
        if self.target is None:
            return self.before
        rest = out.detach().clone()
        rest[self.target] = -torch.inf
        return int(rest.argmax())

    def towards(self, x: Tensor, slope: Tensor, gain: float) -> Tensor:
        """Return the point nearest to `x` at which a linear function with `slope` gains `gain`.

        Within a range it is x + t * slope, cut to the range, for some t, which halving finds.
        """
        t = gain / float((slope**2).sum())
        there = x + t * slope
        if self.within is None:
            return there
        low, high = 0.0, t
        for _ in range(40):  # more and more cells are at an end of the range
            if float(((self.within.clamp(x + high * slope) - x) * slope).sum()) >= gain:
                break
            low, high = high, 2 * high
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            reached = float(((self.within.clamp(x + middle * slope) - x) * slope).sum()) >= gain
            low, high = (low, middle) if reached else (middle, high)
        return self.within.clamp(x + high * slope)

    def back(self, x: Tensor, halvings: int = HALVINGS) -> Tensor:
        """Return the first point on the way from the image to `x` that is over the border."""
        way = x - self.image
        low, high = 0.0, 1.0
        for _ in range(halvings):
            middle = (low + high) / 2
            if self.over(self.image + middle * way):
                high = middle
            else:
                low = middle
        return self.image + high * way

    def nearer(self, x: Tensor) -> Tensor | None:
        """Return a point over the border that is nearer to the image, from the tangent at `x`.

        Where the border is bent, the nearest point of the tangent may be off: then a part of the
        way to it is tried.
        """
        margin, slope = self.nearest_at(x)
        gain = float(((x - self.image) * slope).sum()) - margin
        if gain <= 0 or not float((slope**2).sum()):
            return None
        foot = self.towards(self.image, slope, gain * (1 + BEYOND))
        for share in SHARES:
            found = self.cross(x + share * (foot - x))
            if found is not None:
                found = self.back(found, ROUGHLY)
                if self.length(found) < self.length(x):
                    return found
        return None

    def nearest_at(self, x: Tensor) -> tuple[float, Tensor]:
        """Return by how much the answer at `x` is ahead of the next, and the slope of that."""
        after = self.answer(x)
        at = x.detach().clone().requires_grad_()
        with torch.enable_grad():
            out = self.logits(at)[0]
            rest = out.detach().clone()
            rest[after] = -torch.inf
            gap = out[after] - out[int(rest.argmax())]
            slope = torch.autograd.grad(gap, at)[0]
        return float(gap.detach()), slope

    def aligned(self, x: Tensor, after: int) -> float:
        """Return the cosine of the change and the slope at `x`, over the cells that can move."""
        _, slope = self.nearest_at(x)
        change = x - self.image
        if self.within is not None:
            free = (x > self.within.low) & (x < self.within.high)
            slope, change = slope * free, change * free
        size = float(slope.norm() * change.norm())
        return float((slope * change).sum()) / size if size else 0.0


@dataclass(frozen=True)
class Square:
    """A square that flips the answer when it is painted over.

    Args:
        top: its first row.
        left: its first column.
        size: rows and columns.
        after: the answer with it.
        tried: how many squares were tried until then.
    """

    top: int
    left: int
    size: int
    after: int
    tried: int


def smallest_square(
    logits: Logits, image: Tensor, colour: Tensor, *, target: int | None = None
) -> Square | None:
    """Return the smallest square that flips the answer when it is painted over, if one does.

    Squares from a fourteenth to half of the shorter side (an eighth, of large images), half
    overlapping; of several of one size the one that takes most from the old answer.

    Args:
        logits: the model.
        image: (1, C, H, W).
        colour: to paint with, (C,).
        target: the answer to reach; else any other one.
    """
    height, width = image.shape[2:]
    side = min(height, width)
    unit = max(1, side // (28 if side <= 64 else 16))
    tried = 0
    with torch.no_grad():
        before = int(logits(image)[0].argmax())
        for size in range(2 * unit, side // 2 + 1, unit):
            places = _places(height, width, size, max(unit, size // 2))
            gaps, answers = _painted(logits, image, colour, places, size, before)
            tried += len(places)
            flips = answers == target if target is not None else answers != before
            if bool(flips.any()):
                at = int(gaps.masked_fill(~flips, -torch.inf).argmax())
                return Square(*places[at], size, int(answers[at]), tried)
    return None


def _places(height: int, width: int, size: int, step: int) -> list[tuple[int, int]]:
    rows = sorted({*range(0, height - size + 1, step), height - size})
    columns = sorted({*range(0, width - size + 1, step), width - size})
    return [(top, left) for top in rows for left in columns]


def _painted(
    logits: Logits, image: Tensor, colour: Tensor, places: list[tuple[int, int]], size: int,
    before: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return by how much the old answer is behind, and the answer, for each painted square."""
    gaps, answers = [], []
    for part in torch.arange(len(places)).split(128):
        images = image.repeat(len(part), 1, 1, 1)
        for row, at in enumerate(part.tolist()):
            top, left = places[at]
            images[row, :, top : top + size, left : left + size] = colour[:, None, None]
        out = logits(images)
        answers.append(out.argmax(1))
        gaps.append(out.amax(1) - out[:, before])
    return torch.cat(gaps), torch.cat(answers)
