"""A linear layer: an affine map, a dot product and a bias for each output."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor, nn

from pellucid.labs.options import about, lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, equals, is_true
from pellucid.seeds import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Value = Annotated[float, ranged("value", -10, 10)]
Pair = tuple[Value, Value]
KNOWN = ((2.0, 1.0), (0.5, -0.5))


@lab
def run(
    *,
    weights: Annotated[Pair, about("of the two inputs")] = (0.5, -0.25),
    bias: Annotated[float, ranged("added at the end", -10, 10)] = 0.1,
    x: Annotated[Pair, about("the two inputs")] = (2.0, 1.0),
) -> LabResult:
    """Compute a neuron without activation by hand, and a layer of them as a product of matrices."""
    w1, w2 = weights
    y = value(weights, bias, x)
    length = (w1**2 + w2**2) ** 0.5
    place = (
        f"y = 0 on a line, at a distance of {abs(bias) / length:.4g} from the origin"
        if length
        else "both weights are 0, so y is the bias everywhere"
    )
    text = f"""
        A linear layer multiplies each input by a weight, adds up, and adds a bias:

            y = w1 x1 + w2 x2 + b = {w1:g} * {x[0]:g} + {w2:g} * {x[1]:g} + {bias:g} = {y:.5g}

        It is a plane over the inputs: y climbs fastest in the direction of the weights, by
        {length:.4g} for each unit of way; {place}. The bias alone makes it affine rather than
        linear: it moves the plane up and down.

        With several outputs the weights are a matrix, (outputs, inputs) in PyTorch, and with a
        batch the layer is one product: Y = X W^T + b. How y changes with a weight is the input
        that it multiplies, dy/dw1 = x1 = {x[0]:g}, and with the bias 1.
    """
    rows = [(f"({a:g}, {b:g})", value(weights, bias, (a, b))) for a, b in (x, *KNOWN, (0, 0))]
    return LabResult(
        text, [*_here(weights, bias, x), *_layer(), *_known()],
        partial(_draw, weights, bias, x), [Table(("x1, x2", "y"), rows)], {"y": y},
    )  # fmt: skip


def value(weights: Pair, bias: float, x: Pair) -> float:
    """Return the output of one neuron."""
    return weights[0] * x[0] + weights[1] * x[1] + bias


def _here(weights: Pair, bias: float, x: Pair) -> list[Claim]:
    layer = nn.Linear(2, 1, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([weights]))
        layer.bias.fill_(bias)
    layer(torch.tensor([x], dtype=torch.float64)).sum().backward()
    assert layer.weight.grad is not None
    found = float(layer(torch.tensor([x], dtype=torch.float64)).detach())
    ends = [value(weights, bias, p) for p in (x, KNOWN[1])]
    middle = value(weights, bias, ((x[0] + KNOWN[1][0]) / 2, (x[1] + KNOWN[1][1]) / 2))
    return [
        equals("The sum by hand is what nn.Linear computes", value(weights, bias, x), found, 1e-6),
        equals("The slope by w1 is x1", float(layer.weight.grad[0, 0]), x[0], 1e-12),
        equals("The slope by w2 is x2", float(layer.weight.grad[0, 1]), x[1], 1e-12),
        equals("Affine: half way between two inputs is half way between the outputs",
               middle, sum(ends) / 2, 1e-9),
    ]  # fmt: skip


def _layer() -> list[Claim]:
    draws = generator(0, "lab")
    layer = nn.Linear(4, 3, dtype=torch.float64)
    x = torch.randn(5, 4, generator=draws, dtype=torch.float64)
    one_by_one = torch.stack([
        torch.stack([(layer.weight[k] * row).sum() + layer.bias[k] for k in range(3)]) for row in x
    ])  # fmt: skip
    return [
        is_true("4 inputs and 3 outputs: the weights are stored as (3, 4)",
                layer.weight.shape == (3, 4), "T4.17"),
        agrees("A batch through the layer is X W^T + b", x @ layer.weight.T + layer.bias, layer(x),
               1e-12, "T4.17"),
        agrees("and that is a dot product for each sample and output", one_by_one, layer(x), 1e-12),
    ]  # fmt: skip


def _known() -> list[Claim]:
    weights, bias = (0.5, -0.25), 0.1
    return [
        equals("Weights (0.5, -0.25), bias 0.1: (2, 1) gives 0.85",
               value(weights, bias, KNOWN[0]), 0.85, 1e-12),
        equals("and (0.5, -0.5) gives 0.475", value(weights, bias, KNOWN[1]), 0.475, 1e-12),
    ]  # fmt: skip


def _draw(weights: Pair, bias: float, x: Pair) -> Figure:
    from pellucid.labs.drawing import BLUE, GREEN, RED, arrow, bare, box, finish, sheet

    figure, (graph, plane) = sheet("A linear layer is an affine map", 2, size=(11, 4.6))
    y = value(weights, bias, x)
    bare(graph, "each input times its weight, added up, plus the bias")
    graph.set(xlim=(-0.4, 2.3), ylim=(-0.4, 2.4))
    output = box(graph, 1.7, 1, f"y = {y:.4g}", RED, 12)
    for i in (0, 1):
        value_of = box(graph, 0, 2 - i, f"x{i + 1} = {x[i]:g}", GREEN)
        arrow(graph, value_of, output, f"w{i + 1} = {weights[i]:g}")
    arrow(graph, box(graph, 0, 0, f"bias = {bias:g}", GREEN), output, "1")
    side = 1.2 * max(3.0, abs(x[0]), abs(x[1]))
    ticks = torch.linspace(-side, side, 80)
    grid_x, grid_y = torch.meshgrid(ticks, ticks, indexing="xy")
    height: Tensor = weights[0] * grid_x + weights[1] * grid_y + bias
    shown = plane.pcolormesh(
        grid_x.numpy(), grid_y.numpy(), height.numpy(), cmap="coolwarm", shading="auto"
    )
    figure.colorbar(shown, ax=plane, label="y")
    if float(height.min()) < 0 < float(height.max()):
        lines = plane.contour(grid_x, grid_y, height, levels=[0], colors="black")
        plane.clabel(lines, fmt="y = 0")
    plane.plot(*x, "o", color="black", markersize=8)
    plane.annotate(f"({x[0]:g}, {x[1]:g}): {y:.4g}", x, (6, 8), textcoords="offset points")
    plane.annotate("", xy=weights, xytext=(0, 0), arrowprops={"arrowstyle": "-|>", "color": BLUE})
    finish(plane, "y over the inputs; arrow: the weights", "x1", "x2")
    return figure
