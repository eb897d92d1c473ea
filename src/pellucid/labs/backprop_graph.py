"""Autograd from scratch: a graph of numbers that is recorded forwards and walked backwards.

The graph itself stands in `scalar_graph.py`; its gradients are compared with those of PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from torch import Tensor, nn

from pellucid.labs.options import about, lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, equals, is_true
from pellucid.labs.scalar_graph import Node, add, backward, build, in_order, naive, times

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Number = Annotated[float, ranged("value of a leaf", -10, 10)]


@lab
def run(
    *,
    expression: Annotated[
        str, about("of a, b and c; what is written twice is one node")
    ] = "tanh(a * b) + c * tanh(a * b)",
    a: Number = 0.5,
    b: Number = -2.0,
    c: Number = 1.5,
    order: Annotated[
        Literal["topological", "naive"], about("naive walks down each path at once, wrongly")
    ] = "topological",
) -> LabResult:
    """Record an expression as a graph, walk it backwards, and compare with PyTorch."""
    start = {"a": a, "b": b, "c": c}
    leaves = {name: Node(value, name) for name, value in start.items()}
    output = build(expression, leaves)
    (backward if order == "topological" else naive)(output)
    nodes = in_order(output)
    theirs = by_torch(nodes)
    walk = " <- ".join(node.name for node in reversed(nodes))
    text = f"""
        The forward pass computes {expression} = {output.value:.5g}, and records for each of the
        {len(nodes)} nodes what it was made of and its slope by each of these. The backward pass
        begins at the output with the gradient 1 and goes through the nodes in reverse order:

            {walk}

        A node hands to each part its own gradient times the slope. A value that is used in several
        places gets a gradient from each, and they add up: so a node must wait until all that use
        it have handed theirs down. That is what the order is for. With order {order}, a has the
        gradient {leaves["a"].grad:.5g}; PyTorch finds {theirs.get(id(leaves["a"]), 0.0):.5g}.

        Backward does not build the graph, forward did. In PyTorch it is freed after one backward,
        and only leaves keep their gradient; there gradients add up until they are set to zero.
    """
    claims = [*_this(order, nodes, theirs), *_fixed()]
    rows = [(n.name, n.value, n.grad, _parts(n)) for n in nodes]
    table = Table(("node", "value", "gradient", "made of (slope)"), rows, "Nodes, forward order")
    return LabResult(
        text, claims, partial(_draw, nodes, f"{expression}, walked in {order} order"), [table],
        {"value": output.value, "gradients": {name: leaf.grad for name, leaf in leaves.items()}},
    )  # fmt: skip


def _this(order: str, nodes: list[Node], theirs: dict[int, float]) -> list[Claim]:
    """Compare all nodes with autograd, unless they were walked wrongly on purpose."""
    if order == "naive":
        return []
    pairs = [(node.grad, theirs[id(node)]) for node in nodes]
    ours, other = torch.tensor(pairs, dtype=torch.float64).T
    size = max(1.0, float(other.abs().max()))
    return [agrees("The gradient of every node is that of autograd", ours, other, 1e-12 * size)]


def by_torch(nodes: list[Node]) -> dict[int, float]:
    """Return PyTorch's gradient of the last node by each, after the same operations there."""
    values: dict[int, Tensor] = {}
    for node in nodes:
        parts = [values[id(part)] for part, _ in node.made_of]
        values[id(node)] = _operation(node, parts)
    output = values[id(nodes[-1])]
    grads = torch.autograd.grad(output, list(values.values()), allow_unused=True)
    return {
        key: 0.0 if grad is None else float(grad) for key, grad in zip(values, grads, strict=True)
    }


def _operation(node: Node, parts: list[Tensor]) -> Tensor:
    if not parts:
        return torch.tensor(node.value, dtype=torch.float64, requires_grad=True)
    if node.name.startswith("^"):
        return parts[0] ** float(node.name[1:])
    known: dict[str, Callable[..., Tensor]] = {
        "+": torch.add, "*": torch.mul, "tanh": torch.tanh, "exp": torch.exp, "relu": torch.relu,
    }  # fmt: skip
    return known[node.name](*parts)


def _fixed() -> list[Claim]:
    """Return what holds for any expression, shown on small ones."""
    right, wrong, twice = Node(3.0, "a"), Node(3.0, "a"), Node(3.0, "a")
    for leaf, walk in ((right, backward), (wrong, naive)):
        double = add(leaf, leaf)
        walk(add(double, double))
    product = times(twice, twice)
    backward(product)
    once = twice.grad
    backward(product)
    layer, x = nn.Linear(64, 10), torch.ones(1, 64)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    graph = torch.tensor(2.0, requires_grad=True)
    middle = graph * graph
    with_graph = middle.grad_fn is not None
    middle.backward()
    try:
        middle.backward()
        freed = False
    except RuntimeError:
        freed = True
    return [
        equals("b = a + a, c = b + b: the slope of c by a is 4", right.grad, 4, 0, "T4.13"),
        equals("Plain recursion over-counts: it finds 6", wrong.grad, 6, 0, "T4.13"),
        equals("a * a at 3: no sum anywhere, yet two gradients add", once, 6, 0, "T4.15"),
        equals("A second backward doubles the gradient", twice.grad, 12, 0),
        is_true(
            "The last layer's gradient has the shape of its weight, (10, 64)",
            layer.weight.grad.shape == (10, 64),
            "T4.17",
        ),
        is_true(
            "The graph is there before backward, and freed after it", with_graph and freed, "T4.18"
        ),
        is_true("A leaf keeps its gradient, a node between does not", _kept(), "T4.14"),
    ]


def _kept() -> bool:
    leaf = torch.tensor(2.0, requires_grad=True)
    between = 3 * leaf
    (between * between).backward()
    return leaf.grad is not None and not between.is_leaf and not between.retains_grad


def _parts(node: Node) -> str:
    return ", ".join(f"{part.name} ({slope:.4g})" for part, slope in node.made_of)


def _draw(nodes: list[Node], title: str) -> Figure:
    from pellucid.labs.drawing import BLUE, GREEN, arrow, bare, box, sheet

    levels = _levels(nodes)
    place = {
        id(node): (float(level), -(i + 0.5) / len(row) + 0.1 * (-1) ** level)
        for level, row in levels.items()
        for i, node in enumerate(row)
    }
    wide = max(7.0, 2.2 * len(levels))
    figure, (axis,) = sheet(title, size=(wide, 1.8 + 1.1 * max(map(len, levels.values()))))
    bare(axis, "in each box: value, then gradient; on each arrow: slope")
    axis.set_xlim(-0.5, len(levels) - 0.5)
    axis.set_ylim(-1.1, 0.1)
    boxes = {
        id(node): box(axis, *place[id(node)], f"{node.name}\n{node.value:.4g}\n{node.grad:.4g}",
                      BLUE if node.made_of else GREEN)
        for node in nodes
    }  # fmt: skip
    for node in nodes:
        slopes: dict[int, list[str]] = {}
        for part, slope in node.made_of:
            slopes.setdefault(id(part), []).append(f"{slope:.3g}")
        for part_id, texts in slopes.items():
            arrow(axis, boxes[part_id], boxes[id(node)], " and ".join(texts))
    return figure


def _levels(nodes: list[Node]) -> dict[int, list[Node]]:
    """Return the nodes by column: each after its parts, a leaf just before its first user."""
    depth: dict[int, int] = {}
    for node in nodes:
        depth[id(node)] = max((depth[id(part)] + 1 for part, _ in node.made_of), default=0)
    for leaf in nodes:
        users = [n for n in nodes if any(part is leaf for part, _ in n.made_of)]
        if not leaf.made_of and users:
            depth[id(leaf)] = min(depth[id(user)] for user in users) - 1
    levels: dict[int, list[Node]] = {}
    for node in nodes:
        levels.setdefault(depth[id(node)], []).append(node)
    return dict(sorted(levels.items()))
