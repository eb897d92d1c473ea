"""Capacity: too little underfits, too much overfits; what counts is not the number of weights.

Bias and variance: Geman, Bienenstock and Doursat (1992). Random labels: Zhang et al.,
Understanding deep learning requires rethinking generalization (2017).
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor

from pellucid.labs.options import lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, at_least, at_most, equals, is_true
from pellucid.labs.sized_nets import DEEP, FLAT, JUDGE, SIZES, TEACH, Net, on_digits
from pellucid.seeds import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEGREES, DRAWS = tuple(range(13)), 400


@lab
def run(
    *,
    samples: Annotated[int, ranged("houses in each data set", 16, 40)] = 20,
    noise: Annotated[float, ranged("deviation of the prices, in 100,000", 0.1, 0.4)] = 0.2,
    seed: Annotated[int, ranged("of houses, digits and weights", 0, 10**6)] = 0,
) -> LabResult:
    """Fit prices with polynomials of degree 0 to 12, and digits with networks of many sizes."""
    x = torch.linspace(-1, 1, samples, dtype=torch.float64)
    y = prices(x) + noise * torch.randn(DRAWS, samples, generator=generator(seed, "lab"),
                                        dtype=torch.float64)  # fmt: skip
    again = prices(x) + noise * torch.randn(DRAWS, samples, generator=generator(seed, "lab", 1),
                                            dtype=torch.float64)  # fmt: skip
    fits = torch.stack([fitted(x, y, d) for d in DEGREES])  # (degrees, draws, samples)
    train = (fits - y).square().mean((1, 2))
    fresh = (fits - again).square().mean((1, 2))
    bias = (fits.mean(1) - prices(x)).square().mean(1)
    variance = fits.var(1, correction=0).mean(1)
    best = int(fresh.argmin())
    nets, random = on_digits(seed), on_digits(seed, random=True)
    least, most = nets[0], nets[SIZES.index(("width", 128))]
    learned = random[SIZES.index(("width", 128))]
    text = f"""
        Prices of {samples} houses over their area. The truth is curved, the prices have noise of
        {noise:g}. A polynomial of degree d has d + 1 weights. Judged on new prices of the same
        houses:

            degree 1, a line      on its own {float(train[1]):.4f}   on new {float(fresh[1]):.4f}
            degree {best}, the best     on its own {float(train[best]):.4f}   on new {
        float(fresh[best]):.4f}
            degree 12             on its own {float(train[12]):.4f}   on new {float(fresh[12]):.4f}

        The line underfits: it is wrong in the same way on each data set. Degree 12 overfits: it
        goes through the noise. Error on its own points only falls, so it cannot choose.
        Over {DRAWS} data sets the error on new prices falls into three:

            noise^2 + bias^2 + variance
            degree 1:   {noise**2:.4f} + {float(bias[1]):.4f} + {float(variance[1]):.4f}
            degree 12:  {noise**2:.4f} + {float(bias[12]):.4f} + {float(variance[12]):.4f}

        Bias is how far the mean fit lies from the truth, variance how much fits differ; for least
        squares it is noise^2 * (d + 1) / n = {noise**2 * 13 / samples:.4f} for degree 12.

        Networks: {TEACH} digits teach, {JUDGE:,} judge. {least.name} reaches {least.train:.1%} on
        its own images and {least.validation:.1%} on others: it underfits. Width 128 reaches
        {most.train:.1%} and {most.validation:.1%}. It could learn anything by heart: with labels
        drawn at random it reaches {learned.train:.1%} too, and {learned.validation:.1%} on others,
        chance. Yet on true labels the largest network is not the worst: the rise at the
        right of the curve of prices is not seen here. A wide gap to training is not yet a reason
        for a smaller network. Three layers of 32 units reach {nets[DEEP].validation:.1%},
        one {nets[FLAT].validation:.1%}: depth is no gain here.

        The number of weights is a weak measure of capacity. Two linear layers in a row have more
        weights than one, and can do no more; a CNN of 16 channels has {nets[-1].weights:,} weights,
        width 128 {most.weights:,}: the CNN reaches {nets[-1].validation:.1%}.
    """
    rows = [
        (d, d + 1, float(train[d]), float(fresh[d]), float(bias[d]), float(variance[d]))
        for d in DEGREES
    ]
    head = ("degree", "weights", "on its own", "on new", "bias^2", "variance")
    table = [
        (a.name, a.weights, a.train, a.validation, b.train, b.validation)
        for a, b in zip(nets, random, strict=True)
    ]
    tables = [
        Table(head, rows, f"Mean square error, {DRAWS} data sets"),
        Table(("network", "weights", "train", "validation", "random: train", "validation"), table,
              f"Accuracy on digits of 14x14, {TEACH} teach, {JUDGE:,} judge; chance: 0.1"),
    ]  # fmt: skip
    claims = [
        *_prices(train, fresh, best), *_three(fits, again, bias, variance, noise, samples),
        *_networks(nets, random), *_weak_measure(seed),
    ]  # fmt: skip
    return LabResult(
        text, claims, partial(_draw, x, y, (train, fresh, bias, variance), best, nets, random),
        tables, {"best": best, "fresh": fresh.tolist(), "validation": [n.validation for n in nets]},
    )  # fmt: skip


def prices(x: Tensor) -> Tensor:
    """Return the true price, in 100,000, at an area of `x`, from -1 (small) to 1 (large)."""
    return 2 + 1.2 * x - 0.8 * x**2 + 0.5 * torch.sin(3 * x)


def basis(x: Tensor, degree: int) -> Tensor:
    """Return orthonormal columns that span the polynomials up to `degree` at `x`."""
    powers = torch.stack([torch.cos(k * x.clamp(-1, 1).acos()) for k in range(degree + 1)], -1)
    found: Tensor = torch.linalg.qr(powers).Q
    return found


def fitted(x: Tensor, y: Tensor, degree: int) -> Tensor:
    """Return the values at `x` of the least-squares polynomials to each row of `y`."""
    q = basis(x, degree)
    return y @ q @ q.T


def _prices(train: Tensor, fresh: Tensor, best: int) -> list[Claim]:
    return [
        at_most("On its own points the error only falls with the degree (largest change)",
                train.diff().max(), 1e-12),
        at_least("A line underfits: its error on new prices over the least", fresh[1] / fresh[best],
                 1.05),
        at_least("Degree 12 overfits: its error over the least", fresh[12] / fresh[best], 1.05),
        is_true("The best degree lies between them", 1 < best < 12),
        at_most("On its own points degree 12 looks better than the best",
                train[12] / train[best], 0.95),
    ]  # fmt: skip


def _three(
    fits: Tensor, again: Tensor, bias: Tensor, variance: Tensor, noise: float, samples: int
) -> list[Claim]:
    each = (fits - again).square().mean(2)  # (degrees, draws)
    off = (each.mean(1) - (noise**2 + bias + variance)).abs()
    errors = off / (each.std(1) / math.sqrt(DRAWS))
    weights = torch.tensor([d + 1.0 for d in DEGREES], dtype=torch.float64)
    known = noise**2 * weights / samples * (1 - 1 / DRAWS)
    spread = 5 * known * (2 / (weights * DRAWS)).sqrt()
    return [
        at_most("noise^2 + bias^2 + variance is the error on new prices: largest difference, in "
                "standard errors", errors.max(), 5),
        at_most("variance is noise^2 (d + 1) / n: largest difference, in five standard errors",
                ((variance - known).abs() / spread).max(), 1),
        at_least("The line's error is more bias than variance: ratio", bias[1] / variance[1], 1),
        at_least("that of degree 12 more variance than bias", variance[12] / bias[12], 5),
    ]  # fmt: skip


def _networks(nets: list[Net], random: list[Net]) -> list[Claim]:
    width = {size: i for i, (kind, size) in enumerate(SIZES) if kind == "width"}
    channels = [i for i, (kind, _) in enumerate(SIZES) if kind == "channels"]
    three = 3 * math.sqrt(0.09 / JUDGE)
    return [
        at_most("Width 1 underfits: accuracy on its own images", nets[width[1]].train, 0.6),
        at_least("Width 128 learns all of them", nets[width[128]].train, 0.99),
        at_least("and is better on others than width 1, by",
                 nets[width[128]].validation - nets[width[1]].validation, 0.2),
        at_least("and no worse than width 32, but for 0.04: by",
                 nets[width[128]].validation - nets[width[32]].validation, -0.04, "T2.14"),
        at_least("16 channels are better than 1, by", nets[channels[-1]].validation
                 - nets[channels[0]].validation, 0.05),
        at_most("Three layers of 32 are better than one by at most",
                nets[DEEP].validation - nets[FLAT].validation, 0.04),
        at_least("16 channels come within 0.05 of width 128, with a quarter of its weights",
                 nets[channels[-1]].validation - nets[width[128]].validation, -0.05, "T7.15"),
        at_least("Random labels, width 128: accuracy on its own images", random[width[128]].train,
                 0.9),
        equals("and on others, chance within three standard errors",
               random[width[128]].validation, 0.1, three),
        at_most("Width 1 cannot learn them by heart", random[width[1]].train, 0.5),
    ]  # fmt: skip


def _weak_measure(seed: int) -> list[Claim]:
    draws = generator(seed, "lab", 3)
    first = torch.randn(50, 2, generator=draws, dtype=torch.float64)
    second = torch.randn(3, 50, generator=draws, dtype=torch.float64)
    x = torch.randn(20, 2, generator=draws, dtype=torch.float64)
    return [
        agrees("Two linear layers, 250 weights, are one of 6", x @ first.T @ second.T,
               x @ (second @ first).T, 1e-12, "T7.15"),
    ]  # fmt: skip


def _draw(
    x: Tensor, y: Tensor, parts: tuple[Tensor, Tensor, Tensor, Tensor], best: int,
    nets: list[Net], random: list[Net],
) -> Figure:  # fmt: skip
    from pellucid.labs.drawing import BLUE, GOLD, GREEN, GREY, RED, finish, sheet

    figure, (fit, error, digits) = sheet("Capacity: too little, enough, too much", 3,
                                         size=(15, 4.8))  # fmt: skip
    fine = torch.linspace(-1, 1, 201, dtype=torch.float64)
    fit.plot(x, y[0], "k.", label="prices")
    fit.plot(fine, prices(fine), color=GREY, linestyle="--", label="truth")
    for degree, colour, style in ((1, RED, "-"), (best, BLUE, "-"), (12, GOLD, "-.")):
        powers = torch.stack([torch.cos(k * x.acos()) for k in range(degree + 1)], -1)
        w = torch.linalg.lstsq(powers, y[0][:, None]).solution[:, 0]
        wide = torch.stack([torch.cos(k * fine.acos()) for k in range(degree + 1)], -1)
        fit.plot(fine, wide @ w, style, color=colour, label=f"degree {degree}")
    fit.set_ylim(float(y[0].min()) - 0.5, float(y[0].max()) + 0.5)
    finish(fit, "one data set", "area (scaled)", "price, 100,000", legend=True)
    named = ("on its own points", "on new prices", "bias^2", "variance")
    styles = ("o-", "s-", "v--", "^:")
    for values, name, colour, style in zip(parts, named, (RED, BLUE, GREY, GREEN), styles,
                                           strict=True):  # fmt: skip
        error.semilogy(DEGREES, values.clamp(min=1e-9), style, color=colour, label=name)
    error.set_ylim(bottom=2e-5)
    finish(error, f"mean of {DRAWS} data sets", "degree", "mean square error", legend=True)
    places = range(len(nets))
    for found, label, colour, fill in ((nets, "true labels", BLUE, "full"),
                                       (random, "random labels", RED, "none")):  # fmt: skip
        digits.plot(places, [n.train for n in found], "^", color=colour, fillstyle=fill,
                    label=f"{label}: its own images")  # fmt: skip
        digits.plot(places, [n.validation for n in found], "o", color=colour, fillstyle=fill,
                    label=f"{label}: others")  # fmt: skip
    digits.axhline(0.1, color=GREY, linestyle=":", label="chance")
    digits.set_xticks(list(places), [n.name for n in nets], rotation=60, ha="right")
    digits.set_ylim(0, 1.45)  # room for the legend
    digits.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    finish(digits, f"networks on {TEACH} digits", "", "accuracy", legend=True)
    return figure
