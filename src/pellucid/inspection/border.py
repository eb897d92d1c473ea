"""The border between two answers of a model: where it is, and where it is nearer.

Steps by the gradient lead over it; between a point on either side it is found by chords.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

STEPS = 50
"""Steps towards the border, at most."""
SHARES = (1.0, 0.5, 0.2, 0.05)
"""Of the way to the nearest point of the tangent, as they are tried."""
OTHERS, KEPT = 10, 3
"""Other answers that are looked at first, those with the largest logits; and how many of them, the
nearest by the gradient at the image, are looked at from then on."""
ROUGHLY, EXACTLY = 1e-3, 1e-7
"""Share of the way to which the border is found: during the search, and at the end."""
BEYOND = 1e-4
"""Share of a step by which it goes beyond the border."""
HALVINGS = 24

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
class Search:
    """A search for the border around the answer of an image.

    Args:
        logits: the model.
        image: where it begins, (1, ...).
        before: the answer there.
        target: the answer to reach; None for any other.
        within: the values that an image can have; None for any.
        others: the answers whose gradients are looked at, of `candidates`.
    """

    logits: Logits
    image: Tensor
    before: int
    target: int | None
    within: Range | None
    others: tuple[int, ...] = ()

    def length(self, x: Tensor) -> float:
        """Return the distance of `x` from the image."""
        return float((x - self.image).norm())

    def run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return `x` as something to derive by, and its logits."""
        at = x.detach().clone().requires_grad_()
        with torch.enable_grad():
            return at, self.logits(at)[0]

    def over(self, out: Tensor) -> bool:
        """Whether these logits give the answer that is wanted."""
        answer = int(out.argmax())
        return answer == self.target if self.target is not None else answer != self.before

    def gap(self, x: Tensor) -> float:
        """Return by how much the wanted answer is ahead at `x`; below 0 where it is behind."""
        with torch.no_grad():
            out = self.logits(x)[0].detach()
        mine = self.before if self.target is None else self.target
        rest = out.clone()
        rest[mine] = -torch.inf
        ahead = float(rest.max() - out[mine]) * (1 if self.target is None else -1)
        return max(ahead, 1e-300) if self.over(out) else min(ahead, -1e-300)

    def candidates(self) -> tuple[int, ...]:
        """Return the answers that are nearest to the image, as far as its gradient tells."""
        if self.target is not None:
            return (self.target,)
        at, out = self.run(self.image)
        order: list[int] = out.detach().argsort(descending=True, stable=True).tolist()
        most = [other for other in order if other != self.before][:OTHERS]
        near = {other: self._step(at, out, self.before, other)[0] for other in most}
        return tuple(sorted(most, key=lambda other: near[other])[:KEPT])

    def cross(self, x: Tensor) -> Tensor | None:
        """Return a point over the border."""
        for _ in range(STEPS):
            at, out = self.run(x)
            if self.over(out.detach()):
                return x
            top = self._leader(out)
            steps = [self._step(at, out, top, other) for other in self.others]
            _, margin, slope = min(steps, key=lambda step: step[0])
            size = float((slope**2).sum())
            if not size:
                return None
            there = self.towards(x, slope, -margin + BEYOND * abs(margin) + 1e-9)
            if torch.equal(there, x):
                return None
            x = there
        return x if self.gap(x) > 0 else None

    def _step(
        self, at: Tensor, out: Tensor, top: int, other: int
    ) -> tuple[float, float, Tensor]:  # fmt: skip
        """Return how far `other` is by the gradient, how far behind, and the slope of that."""
        with torch.enable_grad():
            gap = out[other] - out[top]
        slope = torch.autograd.grad(gap, at, retain_graph=True)[0]
        margin, size = float(gap.detach()), max(float(slope.norm()), 1e-300)
        return abs(margin) / size, margin, slope

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

    def back(self, x: Tensor, width: float) -> Tensor:
        """Return a point over the border, on the way from the image to `x`, `width` from it.

        By the chord between both sides (the Illinois method), which takes a few looks where
        halving takes one for each bit; every third look halves, so that it always ends.
        """
        way = x - self.image
        low, high = 0.0, 1.0
        under, above = self.gap(self.image), self.gap(x)
        last = looks = 0
        while high - low > width and looks < 4 * HALVINGS:
            looks += 1
            chord = high - above * (high - low) / max(above - under, 1e-300)
            at = (low + high) / 2 if looks % 3 == 0 else chord
            at = min(max(at, low + 0.3 * width), high - 0.3 * width)
            gap = self.gap(self.image + at * way)
            side = 1 if gap > 0 else -1
            if side > 0:
                high, above, under = at, gap, under / 2 if last == side else under
            else:
                low, under, above = at, gap, above / 2 if last == side else above
            last = side
        return self.image + high * way

    def nearer(self, x: Tensor) -> Tensor | None:
        """Return a point over the border that is nearer to the image, from the tangent at `x`.

        Where the border is bent, the nearest point of the tangent may be off: then a part of the
        way to it is tried.
        """
        _, margin, slope = self.edge(x)
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

    def edge(self, x: Tensor) -> tuple[int, float, Tensor]:
        """Return the answer at `x`, how far it is ahead of the next, and the slope of that."""
        at, out = self.run(x)
        after = int(out.argmax())
        rest = out.detach().clone()
        rest[after] = -torch.inf
        with torch.enable_grad():
            gap = out[after] - out[int(rest.argmax())]
        return after, float(gap.detach()), torch.autograd.grad(gap, at)[0]

    def aligned(self, x: Tensor, slope: Tensor) -> float:
        """Return the cosine of the change and the slope at `x`, over the cells that can move."""
        change = x - self.image
        if self.within is not None:
            free = (x > self.within.low) & (x < self.within.high)
            slope, change = slope * free, change * free
        size = float(slope.norm() * change.norm())
        return float((slope * change).sum()) / size if size else 0.0
