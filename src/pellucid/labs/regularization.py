"""L2 and L1 penalty: what they do to a curve and to weights, and which simplicity each prefers.

Hoerl and Kennard, Ridge regression (1970); Tibshirani, Regression shrinkage and selection via the
lasso (1996); Loshchilov and Hutter, Decoupled weight decay regularization (2019).
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.labs.options import lab, ranged
from pellucid.labs.penalties import gram, lasso, ridge, shrink
from pellucid.labs.result import Claim, LabResult, Table, agrees, at_least, at_most, equals
from pellucid.labs.small_net import some_digits
from pellucid.labs.weight_decay import decay
from pellucid.seeds import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEGREE, DRAWS = 12, 40
LAMBDAS = (0.0, *(10.0**k for k in range(-5, 2)))
ON_DIGITS = (0.0, 0.001, 0.01, 0.2)
"""None, little, much, too much: for L1 on the weights of a classifier."""


@lab
def run(
    *,
    samples: Annotated[
        int, ranged("points of each data set; more leave little to gain", 15, 18)
    ] = 15,
    noise: Annotated[float, ranged("deviation of the noise on them", 0.1, 0.4)] = 0.2,
    seed: Annotated[int, ranged("of data and weights", 0, 10**6)] = 0,
) -> LabResult:
    """Fit with no, little, enough and too much penalty: polynomials, digits, a sparse truth."""
    x, y = points(samples, noise, seed)
    g, c = gram(features(x), y)
    fits = {"L2": ridge(g, c, LAMBDAS), "L1": lasso(g, c, LAMBDAS)}  # (lambdas, draws, degree)
    train, truth = ({k: errors(x, y, w)[i] for k, w in fits.items()} for i in (0, 1))
    best = {kind: int(truth[kind].argmin()) for kind in fits}
    size = {kind: w.norm(dim=2).mean(1) for kind, w in fits.items()}
    weights, right = digits(seed)
    zeros = (weights == 0).double().mean((1, 2))
    contest = {name: contested(active, seed) for name, active in (("sparse", 5), ("dense", 100))}
    text = f"""
        A penalty is added to the loss, and pulls the weights towards 0:

            L2:  loss + lambda * sum(w^2)     pull 2 lambda w: weaker near 0
            L1:  loss + lambda * sum(|w|)     pull lambda sign(w): as strong near 0

        {samples} points of a curve with noise {noise:g}, a polynomial of degree {DEGREE}, {DRAWS}
        data sets. Without a penalty it goes through the noise: error on the points
        {float(train["L2"][0]):.4f}, against the true curve {float(truth["L2"][0]):.3g}. With L2 and
        lambda = {LAMBDAS[best["L2"]]:g} it is {float(train["L2"][best["L2"]]):.4f} and
        {float(truth["L2"][best["L2"]]):.3g}; with lambda = {LAMBDAS[-1]:g}, too much, only a flat
        line is left: {float(train["L2"][-1]):.3f} and {float(truth["L2"][-1]):.3f}. The training
        error only ever rises with lambda: it cannot choose lambda. Validation can.

        L2 makes all weights smaller and none 0; L1 makes the small ones exactly 0. Where features
        are at right angles and of length 1, both are formulas, c the fit without penalty:

            L2:  w = c / (1 + lambda)
            L1:  w = sign(c) * max(|c| - lambda / 2, 0)

        Exactly 0 takes such a step, which cuts at 0. Adding lambda sign(w) to the gradient, as
        frameworks do, only lets weights jump about 0 by lr * lambda.

        The penalty in the loss and `weight_decay` are one for plain SGD, with weight_decay = 2
        lambda. In Adam the gradient of the penalty is divided by the root of v as all gradients
        are; AdamW takes lr * weight_decay * w off directly. Biases and norms are usually left out.
        Nor are these the L2 loss (squared error), or the L2 norm (its root).

        On digits, L1 with lambda = 0.001 makes {float(zeros[1]):.0%} of the weights 0 at accuracy
        {float(right[1]):.1%}, without {float(right[0]):.1%}: not better, only simpler. 0.01 makes
        {float(zeros[2]):.0%} of them 0, and costs: {float(right[2]):.1%}.

        Occam's razor: of two models that explain the data, the simpler. A penalty is that wish
        as a number, and it is a bet. With 100 weights, 60 samples: if 5 weights make the truth,
        L1's error is {contest["sparse"]["L1"]:.3g}, L2's {contest["sparse"]["L2"]:.3g}; if all
        100 do, {contest["dense"]["L1"]:.3g} and {contest["dense"]["L2"]:.3g}.
    """
    rows = [
        (lam, kind, float(train[kind][i]), float(truth[kind][i]), float(size[kind][i]),
         f"{float((w[i] == 0).double().mean()):.0%}")
        for kind, w in fits.items() for i, lam in enumerate(LAMBDAS)
    ]  # fmt: skip
    head = ("lambda", "penalty", "error on points", "against truth", "norm of w", "exactly 0")
    shown = [
        (lam, f"{float(z):.0%}", float(a))
        for lam, z, a in zip(ON_DIGITS, zeros, right, strict=True)
    ]
    tables = [
        Table(head, rows, f"Polynomials of degree {DEGREE}: means of {DRAWS} data sets"),
        Table(("lambda, L1", "weights exactly 0", "validation accuracy"), shown,
              "Softmax regression on 300 digits of 14x14, 1,000 for validation"),
    ]  # fmt: skip
    claims = [
        *_curves(fits, train, truth, size), *_solved(g, c, fits), *_at_right_angles(),
        *_on_digits(weights, right, zeros, seed), *_bets(contest), *decay(seed),
    ]  # fmt: skip
    return LabResult(
        text, claims, partial(_draw, x, y, fits, truth, best, weights, right), tables,
        {"best": {kind: LAMBDAS[i] for kind, i in best.items()}, "contest": contest,
         "accuracy": right.tolist(), "zeros": zeros.tolist()},
    )  # fmt: skip


def curve(x: Tensor) -> Tensor:
    """Return the truth behind the points."""
    return torch.sin(math.pi * x) + 0.5 * x


def points(samples: int, noise: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return places (N,) from -1 to 1, and DRAWS sets of values there (DRAWS, N)."""
    x = torch.linspace(-1, 1, samples, dtype=torch.float64)
    draws = torch.randn(DRAWS, samples, generator=generator(seed, "lab"), dtype=torch.float64)
    return x, curve(x) + noise * draws


def features(x: Tensor) -> Tensor:
    """Return the Chebyshev polynomials 1 to DEGREE at `x`, (N, DEGREE): as a basis, tame."""
    return torch.stack([torch.cos(k * x.clamp(-1, 1).acos()) for k in range(1, DEGREE + 1)], -1)


def errors(x: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean squared error on the points, and against the truth between them, by lambda.

    The bias is the mean of the values less that of the fit.
    """
    f, grid = features(x), torch.linspace(-1, 1, 201, dtype=torch.float64)
    bias = y.mean(-1) - (w @ f.T).mean(-1)
    on_points = (w @ f.T + bias[..., None] - y).square().mean((1, 2))
    against = (w @ features(grid).T + bias[..., None] - curve(grid)).square().mean((1, 2))
    return on_points, against


def digits(seed: int, steps: int = 300) -> tuple[Tensor, Tensor]:
    """Return the weights of softmax regressions, (lambdas, 196, 10), and validation accuracies.

    L1 by steps down the loss, each followed by a shrinking one (ISTA).
    """
    x, y, judged, labels = _images(seed)
    lambdas = torch.tensor(ON_DIGITS, dtype=torch.float64)[:, None]
    rate = 2 * len(x) / float(torch.linalg.matrix_norm(x, 2)) ** 2  # 1 / the largest bend
    w = torch.zeros(196, len(ON_DIGITS), 10, dtype=torch.float64)
    once = F.one_hot(y, 10)[:, None]
    for _ in range(steps):
        wrong = (x @ w.flatten(1)).view(len(x), -1, 10).softmax(-1) - once
        slope = (x.T @ wrong.flatten(1)).view_as(w) / len(x)
        w = shrink(w - rate * slope, rate * lambdas)
    w = w.transpose(0, 1)
    return w, ((judged @ w).argmax(-1) == labels).double().mean(-1)


def _images(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, y = some_digits(1300, generator(seed, "lab"))
    return x[:300].double(), y[:300], x[300:].double(), y[300:]


def contested(active: int, seed: int, sets: int = 8) -> dict[str, float]:
    """Return the error of each penalty, at its best lambda, where `active` of 100 weights count.

    Truths have length 1; the error is the squared distance from the truth, a mean of `sets` sets.
    """
    draws = generator(seed, "lab", active)
    x = torch.randn(sets, 60, 100, generator=draws, dtype=torch.float64)
    truth = torch.randn(sets, 100, generator=draws, dtype=torch.float64)
    truth[:, active:] = 0
    truth /= truth.norm(dim=1, keepdim=True)
    noise = torch.randn(sets, 60, generator=draws, dtype=torch.float64)
    g, c = gram(x, (x @ truth[..., None]).squeeze(-1) + 0.1 * noise)
    grid = tuple(10 ** (k / 2) for k in range(-3, 2))
    fits = {"L2": ridge(g, c, grid), "L1": lasso(g, c, grid, 60)}
    return {k: float((w - truth).square().sum(-1).mean(1).min()) for k, w in fits.items()}


def _curves(
    fits: dict[str, Tensor], train: dict[str, Tensor], truth: dict[str, Tensor],
    size: dict[str, Tensor],
) -> list[Claim]:  # fmt: skip
    none = fits["L2"][0]
    claims = []
    for kind in fits:
        claims += [
            at_least(f"{kind}: with lambda the error on the points never falls (smallest change)",
                     train[kind].diff().min(), -1e-9),
            at_least(f"{kind}: too much is worse than enough: errors against the truth, ratio",
                     truth[kind][-1] / truth[kind].min(), 2),
            at_least(f"{kind}: none is worse than enough: ratio",
                     truth[kind][0] / truth[kind].min(), 1.05),
        ]  # fmt: skip
    return [
        *claims,
        at_most("L2: the norm of the weights never rises with lambda (largest change)",
                size["L2"].diff().max(), 1e-12),
        equals("L2 makes no weight exactly 0", (fits["L2"] == 0).sum(), 0, 0),
        equals("L1 with the largest lambda makes all of them so",
               (fits["L1"][-1] != 0).sum(), 0, 0),
        at_least("and with 0.1 a good part (share)", (fits["L1"][5] == 0).double().mean(), 0.4),
        agrees("Lambda 0 is the fit without a penalty", fits["L1"][0], none, 1e-9),
    ]  # fmt: skip


def _solved(g: Tensor, c: Tensor, fits: dict[str, Tensor]) -> list[Claim]:
    """The conditions of a minimum: the pull of the data is the pull of the penalty."""
    lambdas = torch.tensor(LAMBDAS, dtype=torch.float64)[:, None, None]
    pull = {kind: 2 * (c - w @ g) for kind, w in fits.items()}
    w = fits["L1"]
    apart = torch.where(w == 0, (pull["L1"].abs() - lambdas).clamp(min=0),
                        (pull["L1"] - lambdas * w.sign()).abs())  # fmt: skip
    return [
        agrees("L2, at its minimum: the data pull by 2 lambda w", pull["L2"],
               2 * lambdas * fits["L2"], 1e-9),
        at_most("L1: by lambda sign(w); at weights of 0, by at most lambda", apart.max(), 1e-5),
    ]  # fmt: skip


def _at_right_angles() -> list[Claim]:
    c = torch.tensor([2.0, -0.3, 0.1, -1.0], dtype=torch.float64)
    g = torch.eye(4, dtype=torch.float64)
    return [
        agrees("Features at right angles: L2 divides by 1 + lambda", ridge(g, c, (0.5,))[0],
               c / 1.5, 1e-12),
        agrees("L1 takes lambda / 2 off, down to 0: here (1.75, -0.05, 0, -0.75)",
               lasso(g, c, (0.5,))[0], torch.tensor([1.75, -0.05, 0, -0.75], dtype=torch.float64),
               1e-12),
    ]  # fmt: skip


def _on_digits(weights: Tensor, right: Tensor, zeros: Tensor, seed: int) -> list[Claim]:
    dark = _images(seed)[0].sum(0) == 0
    w = torch.full((196,), 0.003, dtype=torch.float64)
    for _ in range(100):
        w = w - 0.1 * 0.05 * w.sign()
    return [
        at_least("L1 on digits, lambda 0.001: share of weights exactly 0", zeros[1], 0.4),
        equals("at about the accuracy without: difference", right[1] - right[0], 0, 0.025),
        at_least("lambda 0.01: share exactly 0", zeros[2], 0.75),
        at_most("for which accuracy pays", right[2] - right[0], -0.02),
        at_most("Too much, 0.2: accuracy", right[3], 0.6),
        equals("Pixels that are black in all images get no weight, penalty or not",
               weights[:, dark].abs().max() if dark.any() else 0.0, 0, 0),
        equals("Steps by lambda sign(w), without the cut: weights exactly 0 after 100",
               (w == 0).sum(), 0, 0),
        at_most("they stay within lr * lambda = 0.005 of it", w.abs().max(), 0.005),
    ]  # fmt: skip


def _bets(contest: dict[str, dict[str, float]]) -> list[Claim]:
    sparse, dense = contest["sparse"], contest["dense"]
    return [
        at_least("5 of 100 weights count: L2's error over L1's", sparse["L2"] / sparse["L1"], 3),
        at_most("all 100 count: L2's error over L1's", dense["L2"] / dense["L1"], 0.95),
    ]


def _draw(
    x: Tensor, y: Tensor, fits: dict[str, Tensor], truth: dict[str, Tensor], best: dict[str, int],
    weights: Tensor, right: Tensor,
) -> Figure:  # fmt: skip
    from pellucid.labs.drawing import BLUE, GREY, RED, finish, sheet

    figure, axes = sheet("A penalty: none, enough, too much", 4, 2, size=(15, 7.4))
    grid = torch.linspace(-1, 1, 201, dtype=torch.float64)
    f, wide = features(x), features(grid)
    shown = (
        ("none", "L2", [(0, "fit", BLUE, "-")]),
        *(
            (
                kind,
                kind,
                [
                    (best[kind], f"enough: {LAMBDAS[best[kind]]:g}", BLUE, "-"),
                    (-1, f"too much: {LAMBDAS[-1]:g}", RED, "-."),
                ],
            )
            for kind in fits
        ),
    )
    for axis, (words, kind, lines) in zip(axes, shown, strict=False):
        axis.plot(grid, curve(grid), color=GREY, linestyle="--", label="truth")
        axis.plot(x, y[0], "k.", label="points")
        for i, label, colour, style in lines:
            w = fits[kind][i, 0]
            values = wide @ w + y[0].mean() - (f @ w).mean()
            axis.plot(grid, values, style, color=colour, label=label)
        axis.set_ylim(-2.6, 3.2)
        finish(axis, f"degree {DEGREE}, penalty: {words}", "x", "y", legend=True)
    for kind, colour, style in (("L2", BLUE, "o-"), ("L1", RED, "s--")):
        axes[3].loglog(LAMBDAS[1:], truth[kind][1:], style, color=colour, label=kind)
    axes[3].axhline(float(truth["L2"][0]), color=GREY, linestyle=":", label="none")
    finish(axes[3], f"error against the truth, {y.shape[0]} sets", "lambda", "mean square",
           legend=True)  # fmt: skip
    limit = float(weights[2].abs().max())
    for axis, lam, w, accuracy in zip(axes[4:], ON_DIGITS, weights, right, strict=True):
        axis.imshow(w[:, 3].view(14, 14).numpy(), cmap="RdBu", vmin=-limit, vmax=limit)
        zero = float((w == 0).double().mean())
        axis.set_title(f"weights of the 3, L1, lambda = {lam:g}\n"
                       f"{zero:.0%} of all exactly 0, validation {float(accuracy):.1%}",
                       fontsize=10)  # fmt: skip
        axis.set(xticks=[], yticks=[])
    return figure
