"""Dropout: another mask at each step of training, nothing in evaluation.

Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting (2014).
"""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor, nn

from pellucid.labs.options import lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, at_least, equals, is_true
from pellucid.seeds import generator, reseed

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@lab
def run(
    *,
    p: Annotated[float, ranged("probability to drop a value", 0.05, 0.9)] = 0.5,
    masks: Annotated[int, ranged("how many are drawn", 1000, 50_000)] = 10_000,
    seed: Annotated[int, ranged("of the masks", 0, 10**6)] = 0,
) -> LabResult:
    """Draw masks, and find mean and variance of what they leave."""
    ones = torch.ones(6, dtype=torch.float64)
    drawn = dropped(ones.expand(masks, 6), p, generator(seed, "lab"))
    shown = "\n".join(
        f"            step {step + 1}:  {'  '.join(f'{v:4.3g}' for v in row)}"
        for step, row in enumerate(drawn[:4].tolist())
    )
    text = f"""
        In training each value is dropped, made 0, with probability p = {p:g}, anew at each step;
        those that are kept are divided by 1 - p = {1 - p:g}. Six ones:

{shown}

        So the mean stays: over {masks:,} masks it is {float(drawn.mean()):.4f}. The variance is p /
        (1 - p) = {p / (1 - p):.4f} times the square of the value; measured
        {float(drawn.var(correction=0)):.4f}.

        In evaluation dropout does nothing. Nothing has to be scaled there: the division in training
        has done it ("inverted" dropout; the first paper multiplied in evaluation instead). `p` is
        the probability to drop, not to keep.

        A network of n units with dropout is as many as 2^n smaller ones that share their
        weights; evaluation is close to the mean of all, and for one linear layer exactly it. The
        noise raises the training loss; it may lower that of validation.
    """
    rows = [
        (q, 1 / (1 - q), float(found.mean()), q / (1 - q), float(found.var(correction=0)))
        for q in (0.1, 0.25, 0.5, 0.8)
        for found in [dropped(ones.expand(masks, 6), q, generator(seed, "lab", 1))]
    ]
    head = ("p", "kept ones become", "mean", "p / (1 - p)", "variance")
    claims = [*_moments(drawn, p), *_as_torch(p, masks, seed), *_modes(p), *_small_nets(p)]
    return LabResult(
        text, claims, partial(_draw, drawn, p, masks, seed),
        [Table(head, rows, f"Of ones, {masks:,} masks of 6")],
        {"mean": float(drawn.mean()), "variance": float(drawn.var(correction=0))},
    )  # fmt: skip


def dropped(x: Tensor, p: float, draws: torch.Generator) -> Tensor:
    """Return `x` with each value dropped with probability `p`, the others divided by 1 - p."""
    kept = torch.rand(x.shape, generator=draws, dtype=x.dtype) >= p
    return x * kept / (1 - p)


def _theirs(p: float, shape: tuple[int, ...], seed: int) -> Tensor:
    reseed(seed, "lab", 2)
    made: Tensor = nn.Dropout(p)(torch.ones(shape, dtype=torch.float64))
    return made


def _moments(drawn: Tensor, p: float) -> list[Claim]:
    n = drawn.numel()
    noise = 5 * (p / (1 - p) / n) ** 0.5  # five standard errors of the mean
    fourth = ((1 - p) * (p / (1 - p)) ** 4 + p) - (p / (1 - p)) ** 2  # of a centred value
    return [
        equals("The mean of ones stays 1, within five standard errors", drawn.mean(), 1, noise),
        equals("their variance is p / (1 - p), within five standard errors",
               ((drawn - 1) ** 2).mean(), p / (1 - p), 5 * (max(fourth, 1e-12) / n) ** 0.5 + 1e-9,
               "T3.12"),
        equals("The share of zeros is p, within five standard errors",
               (drawn == 0).double().mean(), p, 5 * (p * (1 - p) / n) ** 0.5, "T3.12"),
    ]  # fmt: skip


def _as_torch(p: float, masks: int, seed: int) -> list[Claim]:
    theirs = _theirs(p, (masks, 6), seed)
    ours = dropped(torch.ones(masks, 6, dtype=torch.float64), p, generator(seed, "lab"))
    return [
        agrees("PyTorch's layer makes the same two values", ours.unique(), theirs.unique(), 1e-12,
               "T3.12"),
        equals("and zeros as often", (theirs == 0).double().mean(), (ours == 0).double().mean(),
               7 * (p * (1 - p) / theirs.numel()) ** 0.5, "T3.12"),
    ]  # fmt: skip


def _modes(p: float) -> list[Claim]:
    layer = nn.Dropout(p)
    x = torch.ones(64, 64)
    first, second = layer(x), layer(x)
    noisy = (first - 1).square().mean()
    return [
        is_true("Two steps draw two masks", not torch.equal(first, second), "T3.13"),
        is_true("Evaluation changes nothing", torch.equal(layer.eval()(x), x), "T3.12"),
        at_least("In training a loss that was 0 is noise: (x - 1)^2, at least half of p / (1 - p)",
                 noisy, 0.5 * p / (1 - p), "T3.22"),
    ]  # fmt: skip


def _small_nets(p: float) -> list[Claim]:
    """Return the mean over all 2^6 masks, each with its probability."""
    draws = generator(1, "lab")
    x = torch.randn(6, generator=draws, dtype=torch.float64)
    w = torch.randn(3, 6, generator=draws, dtype=torch.float64)
    mean = torch.zeros(3, dtype=torch.float64)
    for mask in product((0.0, 1.0), repeat=6):
        kept = torch.tensor(mask, dtype=torch.float64)
        chance = float(((1 - p) ** kept * p ** (1 - kept)).prod())
        mean += chance * (w @ (x * kept / (1 - p)))
    words = "A linear layer in evaluation is the mean of its 2^6 small networks"
    return [agrees(words, w @ x, mean, 1e-12)]


def _draw(drawn: Tensor, p: float, masks: int, seed: int) -> Figure:
    from pellucid.labs.drawing import BLUE, RED, finish, sheet

    figure, (mask, course, sums) = sheet(f"Dropout with p = {p:g}", 3, size=(13, 4.4))
    mask.imshow(drawn[:8].numpy(), cmap="Blues", vmin=0, vmax=2 / (1 - p))
    for i, row in enumerate(drawn[:8].tolist()):
        for j, value in enumerate(row):
            mask.text(j, i, f"{value:.3g}", ha="center", va="center", fontsize=9)
    finish(mask, "six ones, eight steps of training", "unit", "step")
    mask.grid(visible=False)
    mean = drawn[:, 0].cumsum(0) / torch.arange(1, masks + 1)
    course.semilogx(range(1, masks + 1), mean.numpy(), color=BLUE)
    course.axhline(1, color=RED, linestyle="--", label="the value in evaluation")
    finish(course, "mean of a unit over the masks so far", "masks", "mean", legend=True)
    width = torch.ones(masks, 40, dtype=torch.float64)
    total = dropped(width, p, generator(seed, "lab", 3)).mean(1)
    sums.hist(total.numpy(), bins=41, color=BLUE)
    sums.axvline(1, color=RED, linestyle="--", label="in evaluation")
    finish(sums, "mean of 40 units, one mask each", "mean", "how many masks", legend=True)
    return figure
