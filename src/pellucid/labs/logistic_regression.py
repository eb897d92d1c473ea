"""Logistic regression, beside linear regression; and why accuracy is not what is trained."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.labs.options import lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, at_least, at_most, equals, is_true
from pellucid.seeds import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@lab
def run(
    *,
    gap: Annotated[float, ranged("distance of the two clouds' middles", 0, 8)] = 2.5,
    points: Annotated[int, ranged("in each cloud", 10, 500)] = 60,
    penalty: Annotated[float, ranged("L2 penalty on the weights", 1e-4, 10)] = 0.01,
    seed: Annotated[int, ranged("of the clouds", 0, 10**6)] = 0,
) -> LabResult:
    """Separate two clouds of points by a line, and draw three losses over its weights."""
    x, y = clouds(gap, points, seed)
    fitted = fit(x, y, penalty)
    line = least_squares(x, y)
    z = x @ fitted
    hard = losses(x, y, fitted[None])
    text = f"""
        Two clouds of {points} points each, {gap:g} apart. A linear model gives each point a score
        z = w1 x1 + w2 x2 + b. Linear regression wants z to be the label 0 or 1 itself; logistic
        regression makes it a probability first:

            p = sigmoid(z) = 1 / (1 + e^-z)
            loss = -mean of y ln p + (1 - y) ln (1 - p)      gradient = mean of (p - y) x

        Fitted: w = ({float(fitted[0]):.4g}, {float(fitted[1]):.4g}), b = {float(fitted[2]):.4g},
        with the loss {float(hard["cross-entropy"]):.4g} and the accuracy
        {100 * accuracy(z, y):.1f} %; by least squares
        {100 * accuracy(x @ line - 0.5, y):.1f} %. One point far on its own right side
        leaves the logistic line almost where it is, and turns the other one.

        Why not train the accuracy? It does not change when a weight moves a little: its gradient
        is 0 almost everywhere, so there is nothing to follow. A right answer at 0.6 is no better
        than one at 0.51, and no worse than one at 0.99. The squared error of p has a gradient, but
        where p is far wrong it is p (1 - p) small, and its surface is not convex. Cross-entropy is
        convex, and pulls hardest where the answer is most wrong.

        Where a line separates the clouds fully, cross-entropy has no best weights: twice as long
        ones are always better, and they grow without end, slowly. A penalty gives them an end.
    """
    rows = [(p, -_log(p), (1 - p) ** 2, "right" if p > 0.5 else "wrong")
            for p in (0.01, 0.4, 0.51, 0.6, 0.7, 0.99)]  # fmt: skip
    head = ("p of the right class", "cross-entropy", "squared error", "accuracy says")
    claims = [*_fit(x, y, penalty, fitted), *_accuracy(x, y), *_curvature(x, y), *_endless(),
              *_outlier()]  # fmt: skip
    return LabResult(
        text, claims, partial(_draw, x, y, fitted, line), [Table(head, rows)],
        {"weights": fitted.tolist(), "accuracy": accuracy(z, y)},
    )  # fmt: skip


def clouds(gap: float, points: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return points with a 1 behind each, (2N, 3), and their labels 0 and 1."""
    x = torch.randn(2 * points, 2, generator=generator(seed, "lab"), dtype=torch.float64)
    y = torch.arange(2 * points) % 2
    x = x + gap / 2 * (2 * y[:, None] - 1) * torch.tensor([0.8, 0.6], dtype=torch.float64)
    return torch.cat([x, torch.ones(2 * points, 1, dtype=torch.float64)], 1), y.double()


def objective(x: Tensor, y: Tensor, w: Tensor, penalty: float) -> Tensor:
    """Return the mean cross-entropy and half the penalty times the squared weights, without b."""
    loss = F.binary_cross_entropy_with_logits(x @ w, y)
    return loss + penalty / 2 * w[:2].square().sum()


def fit(x: Tensor, y: Tensor, penalty: float) -> Tensor:
    """Return the weights of logistic regression, by Newton's method with careful steps."""
    w = torch.zeros(3, dtype=torch.float64)
    ridge = penalty * torch.diag(torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64))
    for _ in range(100):
        p = torch.sigmoid(x @ w)
        slope = x.T @ (p - y) / len(y) + ridge @ w
        bend = (x.T * (p * (1 - p))) @ x / len(y) + ridge
        step = torch.linalg.solve(bend, slope)
        size = 1.0
        while size > 1e-6 and objective(x, y, w - size * step, penalty) > objective(
            x, y, w, penalty
        ):
            size /= 2
        w = w - size * step
    return w


def least_squares(x: Tensor, y: Tensor) -> Tensor:
    """Return the weights of linear regression of the labels."""
    solution: Tensor = torch.linalg.lstsq(x, y[:, None]).solution
    return solution.flatten()


def accuracy(z: Tensor, y: Tensor) -> float:
    """Return the share of scores that are above 0 where the label is 1, and not where it is 0."""
    return float(((z > 0) == y.bool()).double().mean())


def losses(x: Tensor, y: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Return three mean losses for each of `weights` (N, 3)."""
    z = weights @ x.T
    p = torch.sigmoid(z)
    return {
        "cross-entropy": F.binary_cross_entropy_with_logits(
            z, y.expand_as(z), reduction="none"
        ).mean(1),
        "squared error": (p - y).square().mean(1),
        "0-1 loss": ((z > 0) != y.bool()).double().mean(1),
    }


def _log(p: float) -> float:
    return float(torch.tensor(p, dtype=torch.float64).log())


def _fit(x: Tensor, y: Tensor, penalty: float, fitted: Tensor) -> list[Claim]:
    leaf = fitted.clone().requires_grad_()
    (slope,) = torch.autograd.grad(objective(x, y, leaf, penalty), leaf)
    start = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64, requires_grad=True)
    (by_torch,) = torch.autograd.grad(objective(x, y, start, 0.0), start)
    by_hand = x.T @ (torch.sigmoid(x @ start.detach()) - y) / len(y)
    return [
        agrees("The gradient by hand, mean of (p - y) x, is autograd's", by_hand, by_torch, 1e-12),
        at_most("At the fitted weights it is 0, with the penalty's", slope.abs().max(), 1e-8),
    ]


def _accuracy(x: Tensor, y: Tensor) -> list[Claim]:
    """Return how often the accuracy moves at all when the weights move a little."""
    weights = torch.randn(300, 3, generator=generator(1, "lab"), dtype=torch.float64)
    moved = losses(x, y, weights + 1e-7)["0-1 loss"] != losses(x, y, weights)["0-1 loss"]
    sure = [(_log(p) < 0, p > 0.5) for p in (0.51, 0.6, 0.7, 0.99)]
    return [
        equals("Of 300 lines moved by 1e-7, none changes its accuracy", float(moved.sum()), 0, 0,
               "T5.10"),
        is_true("From 0.6 to 0.7 the accuracy says nothing, and 0.51 counts like 0.99",
                len({right for _, right in sure}) == 1, "T5.10"),
    ]  # fmt: skip


def _curvature(x: Tensor, y: Tensor) -> list[Claim]:
    """Return the least eigenvalue of the Hessian of both losses over many weights."""
    lowest = {"cross": 1.0, "square": 1.0}
    for w in 3 * torch.randn(40, 3, generator=generator(2, "lab"), dtype=torch.float64):
        p = torch.sigmoid(x @ w)
        s = p * (1 - p)
        for name, second in (("cross", s), ("square", _bend_of_square(p, y))):
            bend = (x.T * second) @ x / len(y)
            lowest[name] = min(lowest[name], float(torch.linalg.eigvalsh(bend)[0]))
    z = torch.tensor(-10.0, dtype=torch.float64, requires_grad=True)
    (square,) = torch.autograd.grad((torch.sigmoid(z) - 1) ** 2, z)
    (cross,) = torch.autograd.grad(F.softplus(-z), z)
    w = torch.tensor([0.4, -0.3, 0.2], dtype=torch.float64)
    p = torch.sigmoid(x @ w)
    by_hand = (x.T * _bend_of_square(p, y)) @ x / len(y)
    by_torch = torch.autograd.functional.hessian(
        lambda v: (torch.sigmoid(x @ v) - y).square().mean(), w
    )
    return [
        at_least("Cross-entropy is convex: least eigenvalue of 40 Hessians", lowest["cross"],
                 -1e-12, "T5.9"),
        at_most("The squared error is not", lowest["square"], -1e-6, "T5.9"),
        agrees("whose Hessian by hand is autograd's", by_hand, by_torch, 1e-10),
        at_most("A far wrong answer (logit -10): pull of the squared error", square.abs(), 1e-4,
                "T5.9"),
        at_least("and of cross-entropy", cross.abs(), 0.999, "T5.9"),
    ]  # fmt: skip


def _bend_of_square(p: Tensor, y: Tensor) -> Tensor:
    """Return the second derivative of (p - y)^2 by the score."""
    s = p * (1 - p)
    return 2 * s * s + 2 * (p - y) * s * (1 - 2 * p)


def _endless() -> list[Claim]:
    """Train on clouds that a line separates, without a penalty, and with one."""
    x, y = clouds(8.0, 40, 0)
    w = torch.zeros(3, dtype=torch.float64)
    sizes = []
    for step in range(1, 4001):
        w = w - x.T @ (torch.sigmoid(x @ w) - y) / len(y)
        if step in (40, 400, 4000):
            sizes.append(float(w.norm()))
    ended = fit(x, y, 0.01)
    return [
        equals("Far clouds: a line separates all", accuracy(x @ w, y), 1, 0),
        at_least("and the weights keep growing: steps 40 to 400", sizes[1] / sizes[0], 1.2,
                 "T5.11"),
        at_least("and 400 to 4,000", sizes[2] / sizes[1], 1.2, "T5.11"),
        at_most("with a penalty of 0.01 they end, below", float(ended.norm()), sizes[0], "T5.11"),
    ]  # fmt: skip


def _outlier() -> list[Claim]:
    """Add one point far on its own right side."""
    x, y = clouds(4.0, 50, 0)
    far = torch.tensor([[60.0, -60.0, 1.0]], dtype=torch.float64)
    far[:, :2] += 40 * torch.tensor([0.8, 0.6])
    more, labels = torch.cat([x, far]), torch.cat([y, torch.ones(1, dtype=torch.float64)])
    turns = []
    for solve, shift in ((partial(fit, penalty=0.01), 0.0), (least_squares, 0.5)):
        before, after = solve(x, y), solve(more, labels)
        turns.append(accuracy(x @ before - shift, y) - accuracy(x @ after - shift, y))
    return [
        at_most("One far point costs logistic regression (accuracy on the others)", turns[0], 0.02),
        at_least("and least squares more", turns[1] - turns[0], 0.01),
    ]


def _draw(x: Tensor, y: Tensor, fitted: Tensor, line: Tensor) -> Figure:
    from pellucid.labs.drawing import BLUE, GOLD, GREEN, RED, finish, sheet

    figure, (plane, *surfaces) = sheet("Logistic regression, and three losses over its weights", 2,
                                       2, size=(11, 9))  # fmt: skip
    for label, colour in ((0, RED), (1, BLUE)):
        plane.plot(*x[y == label, :2].T, ".", color=colour, label=f"label {label}")
    low, high = float(x[:, :2].min()) - 0.5, float(x[:, :2].max()) + 0.5
    for w, shift, colour, name in ((fitted, 0.0, GREEN, "logistic"),
                                   (line, 0.5, GOLD, "least squares")):  # fmt: skip
        a, b, c = w.tolist()
        if abs(b) > 1e-9:
            ends = [low, high]
            plane.plot(ends, [(shift - c - a * e) / b for e in ends], color=colour, label=name)
    plane.set(xlim=(low, high), ylim=(low, high))
    finish(plane, "points and lines", "x1", "x2", legend=True)
    reach = 1.5 * float(fitted[:2].abs().max()) + 1
    ticks = torch.linspace(-reach, reach, 90, dtype=torch.float64)
    w1, w2 = torch.meshgrid(ticks, ticks, indexing="xy")
    weights = torch.stack([w1, w2, fitted[2].expand_as(w1)], 2).view(-1, 3)
    for axis, (name, values) in zip(surfaces, losses(x, y, weights).items(), strict=True):
        shown = axis.pcolormesh(w1.numpy(), w2.numpy(), values.view(90, 90).numpy(),
                                cmap="viridis", shading="auto")  # fmt: skip
        figure.colorbar(shown, ax=axis)
        axis.plot(*fitted[:2].tolist(), "*", color="white", markersize=12, markeredgecolor="black")
        finish(axis, f"{name} (star: fitted)", "w1", "w2")
    return figure
