"""Activations: what they do to a number and to a slope, and why a network needs one."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.labs.options import lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, at_most, equals, is_true
from pellucid.labs.surfaces import gradient_of
from pellucid.seeds import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Map = Callable[[Tensor], Tensor]


class Activation(NamedTuple):
    """A function, its slope by hand, and what PyTorch calls it."""

    f: Map
    slope: Map
    torch: Map


def normal_share(x: Tensor) -> Tensor:
    """Return the share of a standard normal that lies below `x`."""
    return (1 + torch.erf(x / math.sqrt(2))) / 2


def activations(leak: float = 0.01) -> dict[str, Activation]:
    """Return the seven of this lab; `leak` is the slope of LeakyReLU below 0."""
    s = torch.sigmoid
    bell = 1 / math.sqrt(2 * math.pi)
    return {
        "sigmoid": Activation(lambda x: 1 / (1 + (-x).exp()), lambda x: s(x) * (1 - s(x)), s),
        "tanh": Activation(lambda x: 2 * s(2 * x) - 1, lambda x: 1 - torch.tanh(x) ** 2,
                           torch.tanh),
        "ReLU": Activation(lambda x: x * (x > 0), lambda x: (x > 0).to(x.dtype), F.relu),
        "LeakyReLU": Activation(
            lambda x: torch.where(x > 0, x, leak * x),
            lambda x: leak + (1 - leak) * (x > 0).to(x.dtype), partial(F.leaky_relu,
                                                                       negative_slope=leak)),
        "Softplus": Activation(lambda x: x.clamp(min=0) + torch.log1p((-x.abs()).exp()), s,
                               partial(F.softplus, threshold=50.0)),
        "SiLU": Activation(lambda x: x * s(x), lambda x: s(x) * (1 + x * (1 - s(x))), F.silu),
        "GELU": Activation(
            lambda x: x * normal_share(x),
            lambda x: normal_share(x) + x * bell * (-(x**2) / 2).exp(), F.gelu),
    }  # fmt: skip


@lab
def run(
    *,
    x: Annotated[float, ranged("input to look at", -20, 20)] = 1.0,
    reach: Annotated[float, ranged("the curves go from minus this to this", 1, 20)] = 5.0,
    spread: Annotated[float, ranged("standard deviation of the inputs", 0.1, 20)] = 2.0,
    leak: Annotated[float, ranged("slope of LeakyReLU below 0", 0, 0.5)] = 0.01,
) -> LabResult:
    """Compare seven activations: value, slope, and how often the slope is all but 0."""
    known = activations(leak)
    here = torch.tensor([x], dtype=torch.float64)
    inputs = spread * torch.randn(20_000, generator=generator(0, "lab"), dtype=torch.float64)
    flat = {n: float((a.slope(inputs).abs() < 0.05).double().mean()) for n, a in known.items()}
    rows = [
        (name, float(a.f(here)), float(a.slope(here)), f"{100 * flat[name]:.1f} %")
        for name, a in known.items()
    ]
    s = float(torch.sigmoid(here))
    text = f"""
        An activation is applied to each number by itself. On the way back its slope is one factor
        of every gradient that passes. At x = {x:g}:

            sigmoid = 1 / (1 + e^-x) = {s:.5g}       slope = s (1 - s) = {s * (1 - s):.5g}
            tanh    = 2 sigmoid(2x) - 1 = {math.tanh(x):.5g}  slope = 1 - tanh^2 = {
        1 - math.tanh(x) ** 2:.5g}
            ReLU    = max(x, 0) = {max(x, 0):.5g}       slope = {int(x > 0)}

        Where the slope is all but 0 the unit is saturated, and no gradient gets past it. For
        normal inputs of spread {spread:g} that is so for {100 * flat["sigmoid"]:.0f} % with the
        sigmoid and for {100 * flat["ReLU"]:.0f} % with ReLU, whose slope is exactly 0 below 0; a
        unit that is below 0 for all images learns no more. The sigmoid itself always increases;
        its slope is bell-shaped and at most 1/4, so five layers of it leave at most 1/1024.

        Without an activation layers collapse: W2 (W1 x + b1) + b2 is one affine map. No such map
        computes exclusive or, which is 1 when exactly one of two inputs is; with two units it is

            xor(a, b) = ReLU(a + b) - 2 ReLU(a + b - 1)
    """
    claims = [*_slopes(known), *_shapes(known), *_minima(), *_layers(), *_xor(), *_units()]
    return LabResult(
        text, claims, partial(_draw, known, reach),
        [Table(("function", f"at {x:g}", "slope there", "saturated, |slope| < 0.05"), rows)],
        {"saturated": flat},
    )  # fmt: skip


def _slopes(known: dict[str, Activation]) -> list[Claim]:
    x = torch.linspace(-8, 8, 400, dtype=torch.float64)
    claims = []
    for name, a in known.items():
        claims += [
            agrees(f"{name} as written is PyTorch's", a.f(x), a.torch(x), 1e-12),
            agrees(f"and its slope is autograd's: {name}", a.slope(x), gradient_of(a.torch)(x),
                   1e-12),
        ]  # fmt: skip
    return claims


def _shapes(known: dict[str, Activation]) -> list[Claim]:
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    sigmoid, soft = known["sigmoid"], known["Softplus"]
    steepest = sigmoid.slope(x)
    jump = F.relu(torch.tensor([-1e-9, 0.0, 1e-9], dtype=torch.float64)).diff().abs().max()
    at_zero = gradient_of(F.relu)(torch.zeros(1, dtype=torch.float64))
    wide = torch.tensor([1000.0])
    return [
        is_true("The sigmoid increases everywhere", (sigmoid.f(x).diff() > 0).all(), "T4.1"),
        is_true("SiLU and GELU do not",
                not (F.silu(x).diff() > 0).all() and not (F.gelu(x).diff() > 0).all(), "T4.1"),
        equals("The steepest place of the sigmoid has the slope 1/4", steepest.max(), 0.25, 1e-12,
               "T4.2"),
        equals("and lies at 0", x[steepest.argmax()], 0, 1e-9, "T4.2"),
        equals("tanh is at most as steep as 1", known["tanh"].slope(x).max(), 1, 1e-12, "T4.2"),
        agrees("softplus(x) - softplus(-x) = x", soft.f(x) - soft.f(-x), x, 1e-12),
        at_most("ReLU is continuous at 0: its jump there", jump, 1e-9, "T4.20"),
        equals("At 0 PyTorch takes the slope 0", at_zero, 0, 0, "T4.6"),
        is_true("log(1 + e^x) overflows at 1000, PyTorch's softplus is 1000",
                torch.log(1 + wide.exp()).isinf() and F.softplus(wide) == 1000, "T4.11"),
    ]  # fmt: skip


def _minima() -> list[Claim]:
    """Return the lowest places of the two that turn, found by Newton's method."""
    claims = []
    for name, f, place, low in (("SiLU", F.silu, -1.27846, -0.27846),
                                ("GELU", F.gelu, -0.75179, -0.16997)):  # fmt: skip
        x = torch.tensor(place + 0.05, dtype=torch.float64)
        for _ in range(30):
            x = x - gradient_of(f)(x) / torch.autograd.functional.hessian(f, x)
        claims += [
            equals(f"{name} is lowest at {place}", x, place, 5e-6, "T4.1"),
            equals(f"where it is {low}", f(x), low, 5e-6),
        ]
    return claims


def _layers() -> list[Claim]:
    draws = generator(1, "lab")

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draws, dtype=torch.float64)

    x, w1, b1, w2, b2 = normal(6, 4), normal(5, 4), normal(5), normal(3, 5), normal(3)
    twice = (x @ w1.T + b1) @ w2.T + b2
    once = x @ (w2 @ w1).T + (w2 @ b1 + b2)
    bent = torch.relu(x @ w1.T + b1) @ w2.T + b2
    return [
        agrees("Two layers without activation are one", twice, once, 1e-12),
        is_true("with ReLU between them they are not", not torch.allclose(bent, once)),
    ]


def _xor() -> list[Claim]:
    x = torch.tensor(list(product((0.0, 1.0), repeat=2)), dtype=torch.float64)
    y = torch.tensor([0.0, 1, 1, 0], dtype=torch.float64)
    with_one = torch.cat([x, torch.ones(4, 1, dtype=torch.float64)], 1)
    best = with_one @ torch.linalg.lstsq(with_one, y[:, None]).solution
    lines = torch.randn(20_000, 3, generator=generator(2, "lab"), dtype=torch.float64)
    right = ((with_one @ lines.T > 0) == y[:, None].bool()).sum(0)
    total = x.sum(1)
    return [
        agrees("The best affine map answers 1/2 to all four questions of xor", best.flatten(),
               torch.full((4,), 0.5).double(), 1e-9),
        equals("None of 20,000 lines answers more than 3 of 4", float(right.max()), 3, 0),
        agrees("ReLU(a + b) - 2 ReLU(a + b - 1) answers all", F.relu(total) - 2 * F.relu(total - 1),
               y, 0),
    ]  # fmt: skip


def _units() -> list[Claim]:
    """Return what inputs of one sign, and a unit that is always off, do to gradients."""
    reseeded = generator(3, "lab")
    x = torch.rand(50, 6, generator=reseeded, dtype=torch.float64)
    layer = nn.Linear(6, 1, dtype=torch.float64)
    grads = []
    for row, target in zip(x, torch.linspace(-3, 3, 50).double(), strict=True):
        layer.zero_grad()
        (layer(row) - target).square().sum().backward()
        assert layer.weight.grad is not None
        grads.append(layer.weight.grad.clone())
    same = all(len(g.sign().unique()) == 1 for g in grads)
    with torch.no_grad():
        layer.bias.fill_(-100)
    layer.zero_grad()
    F.relu(layer(x)).sum().backward()
    assert layer.weight.grad is not None
    return [
        is_true("Inputs above 0 tie the signs of a neuron's weight gradients", same, "T4.3"),
        equals("A ReLU that is off for all inputs gets no gradient",
               float(layer.weight.grad.abs().max()), 0, 0, "T4.5"),
    ]  # fmt: skip


def _draw(known: dict[str, Activation], reach: float) -> Figure:
    from pellucid.labs.drawing import COLOURS, finish, sheet

    figure, (values, slopes, xor) = sheet("Activations: value, slope, and what they make possible",
                                          3, size=(14, 4.6))  # fmt: skip
    x = torch.linspace(-reach, reach, 600, dtype=torch.float64)
    for (name, a), colour in zip(known.items(), COLOURS, strict=True):
        style = "--" if name in ("LeakyReLU", "SiLU") else "-"
        values.plot(x, a.f(x), style, color=colour, label=name)
        slopes.plot(x, a.slope(x), style, color=colour, label=name)
    values.set_ylim(-1.3, min(reach, 5) + 0.2)
    finish(values, "value", "x", "f(x)", legend=True)
    slopes.axhline(0.25, color="#999999", linestyle=":", linewidth=1)
    finish(slopes, "slope (dotted: 1/4)", "x", "f'(x)")
    ticks = torch.linspace(-0.5, 1.5, 60)
    left, right = torch.meshgrid(ticks, ticks, indexing="xy")
    out = F.relu(left + right) - 2 * F.relu(left + right - 1)
    shown = xor.pcolormesh(
        left.numpy(), right.numpy(), out.numpy(), cmap="coolwarm", vmin=-1, vmax=1, shading="auto"
    )
    figure.colorbar(shown, ax=xor, label="output")
    for p, q in product((0, 1), repeat=2):
        xor.plot(p, q, "o", color="white" if p == q else "black", markeredgecolor="black",
                 markersize=12)  # fmt: skip
    finish(xor, "xor by two ReLU units; black: 1, white: 0", "a", "b")
    return figure
