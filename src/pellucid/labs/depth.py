"""Depth: how initial weights make signals and gradients shrink or grow from layer to layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from torch import Tensor

from pellucid.labs.options import about, lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, at_least, at_most, equals, is_true
from pellucid.seeds import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VARIANCES: dict[str, Callable[[int], float]] = {  # of a weight, by fan-in = fan-out
    "he": lambda n: 2 / n,
    "xavier": lambda n: 2 / (n + n),
    "default": lambda n: 1 / (3 * n),
    "small": lambda n: 0.01**2,
    "large": lambda n: 1.0,
}
MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "none": lambda x: x,
}  # fmt: skip
Moments = tuple[list[float], list[float]]


@lab
def run(
    *,
    init: Annotated[
        Literal["he", "xavier", "default", "small", "large"],
        about("small: deviation 0.01, large: 1; default is PyTorch's"),
    ] = "default",
    activation: Annotated[
        Literal["relu", "tanh", "sigmoid", "none"], about("after each layer")
    ] = "relu",
    depth: Annotated[int, ranged("layers", 1, 50)] = 20,
    width: Annotated[int, ranged("units of each layer", 16, 1024)] = 256,
    seed: Annotated[int, ranged("of the weights", 0, 10**6)] = 0,
) -> LabResult:
    """Send signals forwards and gradients backwards through many layers, and measure both."""
    variance = VARIANCES[init](width)
    signals, gradients = moments(variance, activation, depth, width, seed)
    per_layer = factor(signals)
    expected = width * variance / (2 if activation == "relu" else 1)
    text = f"""
        A layer adds up n = {width} products of weight and signal. With independent weights of
        variance v the mean square grows by n v; ReLU lets half of it pass:

            {init}: v = {variance:.4g}      n v = {width * variance:.4g}      with ReLU n v / 2 = {
        width * variance / 2:.4g}

        Here, with {activation}, signals changed by the factor {per_layer:.4g} per layer on average
        {_expected(activation, expected)}. After {depth} layers the mean square has gone from
        {signals[0]:.3g} to {signals[-1]:.3g}, and that of the gradient, on its way back, from
        {gradients[-1]:.3g} to {gradients[0]:.3g}.

        He's 2 / n keeps both for ReLU. Xavier's 2 / (fan-in + fan-out) keeps them where the slope
        is about 1: linear layers, and tanh near 0. PyTorch's default is 1 / (3 n), a sixth of He's:
        fine for three layers, not for thirty. What vanishes is a product of weights and slopes;
        equal scale through depth is all that initial weights promise. Zero they must not be: units
        that start alike stay alike.
    """
    rows = [
        (layer, signals[layer], gradients[layer])
        for layer in sorted({0, 1, depth // 4, depth // 2, 3 * depth // 4, depth})
    ]
    head = ("after layer", "mean square of the signal", "of the gradient")
    claims = [*_variance(init, width), *_factors(), *_slopes(), *_alike()]
    return LabResult(
        text, claims, partial(_draw, activation, depth, width, seed), [Table(head, rows)],
        {"factor": per_layer, "signals": signals, "gradients": gradients},
    )  # fmt: skip


def moments(variance: float, activation: str, depth: int, width: int, seed: int) -> Moments:
    """Return the mean squares of signals and gradients, before the first layer and after each."""
    draws = generator(seed, "lab", width)
    x = torch.randn(128, width, generator=draws).requires_grad_()
    signals = [x]
    for _ in range(depth):
        weight = math.sqrt(variance) * torch.randn(width, width, generator=draws)
        signals.append(MAPS[activation](signals[-1] @ weight))
    out = torch.randn(128, width, generator=draws)
    gradients = torch.autograd.grad((signals[-1] * out).sum(), signals)
    return [_square(s) for s in signals], [_square(g) for g in gradients]


def factor(values: list[float]) -> float:
    """Return the mean factor from one layer to the next; 0 if nothing is left."""
    if len(values) < 2 or not (values[0] > 0 and values[-1] > 0):
        return 0.0
    return math.exp(math.log(values[-1] / values[0]) / (len(values) - 1))


def _square(x: Tensor) -> float:
    return float(x.detach().double().square().mean())


def _expected(activation: str, factor: float) -> str:
    if activation in ("relu", "none"):
        return f"(expected {factor:.4g})"
    return "(it bends, so n v is only where it starts from)"


def _variance(init: str, width: int) -> list[Claim]:
    """Return whether PyTorch draws with the variance that is said."""
    layer = torch.nn.Linear(width, width)
    if init == "he":
        torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    elif init == "xavier":
        torch.nn.init.xavier_uniform_(layer.weight)
    elif init != "default":
        torch.nn.init.normal_(layer.weight, std=math.sqrt(VARIANCES[init](width)))
    found = float(layer.weight.detach().double().var()) / VARIANCES[init](width)
    noise = 8 / width  # about five standard errors of a variance of width^2 numbers
    return [equals(f"PyTorch's {init} weights have that variance (ratio)", found, 1, noise, "T4.8")]


def _factors() -> list[Claim]:
    """Return the factors per layer at width 1,024, where little is left to chance."""
    found = {
        name: moments(VARIANCES[name](1024), activation, 6, 1024, 0)
        for name, activation in (("he", "relu"), ("default", "relu"), ("xavier", "none"))
    }
    layers = {name: factor(signals[1:]) for name, (signals, _) in found.items()}
    back = {name: factor(gradients[:0:-1]) for name, (_, gradients) in found.items()}
    return [
        equals("He and ReLU: the signal keeps its mean square, factor 1", layers["he"], 1, 0.1,
               "T4.22"),
        equals("and so does the gradient", back["he"], 1, 0.1, "T4.22"),
        equals("PyTorch's default and ReLU: 1/6 per layer", layers["default"], 1 / 6, 0.1 / 6,
               "T4.7"),
        equals("and the gradient 1/6", back["default"], 1 / 6, 0.1 / 6, "T4.7"),
        equals("Xavier without activation: 1", layers["xavier"], 1, 0.1, "T4.8"),
    ]  # fmt: skip


def _slopes() -> list[Claim]:
    """Return how the slopes of the sigmoid and too large weights work on the gradient."""
    signals, gradients = moments(1 / 128, "sigmoid", 10, 128, 0)
    _, large = moments(1.0, "sigmoid", 10, 128, 0)
    grown, _ = moments(1.0, "relu", 10, 128, 0)
    return [
        at_most("Sigmoid, n v = 1: the slope of 1/4 leaves at most 1/16 per layer",
                factor(gradients[:0:-1]), 1 / 16, "T4.10"),
        is_true("though its signals are not small", signals[-1] > 0.1, "T4.10"),
        at_least("Weights of deviation 1 make ReLU's signals grow by the factor", factor(grown), 50,
                 "T4.10"),
        at_most("but with the sigmoid they saturate: median slope-free gradient, first to last",
                large[0] / large[-1], 1e3, "T4.10"),
    ]  # fmt: skip


def _alike() -> list[Claim]:
    """Return how many different units a layer has after training from equal weights."""
    x = torch.randn(32, 4, generator=generator(0, "lab"), dtype=torch.float64)
    y = x[:, :1] * x[:, 1:2]
    kinds = []
    for start in (torch.full((6, 4), 0.3), torch.randn(6, 4, generator=generator(1, "lab"))):
        first = start.double().requires_grad_()
        second = torch.full((1, 6), 0.3, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD([first, second], lr=0.05)
        for _ in range(50):
            optimizer.zero_grad()
            (torch.tanh(x @ first.T) @ second.T - y).square().mean().backward()
            optimizer.step()
        kinds.append(len(first.detach().round(decimals=6).unique(dim=0)))
    return [
        equals("Six units that start alike stay one unit", kinds[0], 1, 0, "T4.9"),
        equals("from random weights they stay six", kinds[1], 6, 0, "T4.9"),
    ]


def _draw(activation: str, depth: int, width: int, seed: int) -> Figure:
    from pellucid.labs.drawing import COLOURS, finish, sheet

    figure, (forwards, backwards) = sheet(f"{depth} layers of {width} units, {activation}", 2,
                                          size=(12, 4.8))  # fmt: skip
    for (name, variance), colour in zip(VARIANCES.items(), COLOURS, strict=False):
        signals, gradients = moments(variance(width), activation, depth, width, seed)
        forwards.plot(_visible(signals), color=colour, marker=".", label=name)
        backwards.plot(_visible(gradients), color=colour, marker=".", label=name)
    for axis in (forwards, backwards):
        axis.set_yscale("log")
        axis.locator_params(axis="x", integer=True)
    finish(
        forwards, "signals, from left to right", "layer", "mean square, cut at 1e30", legend=True
    )
    finish(
        backwards, "gradients, from right to left", "layer", "mean square, cut at 1e30", legend=True
    )
    return figure


def _visible(values: list[float]) -> list[float]:
    return [min(max(value, 1e-30), 1e30) for value in values]
