"""Autograd in miniature: numbers that remember what they were made of, and the way back.

After Karpathy's micrograd in what it does.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from pellucid.errors import UserError


@dataclass(eq=False)
class Node:
    """A number, the nodes that it was made of, and its slope by each of these."""

    value: float
    name: str
    made_of: list[tuple[Node, float]] = field(default_factory=list)
    grad: float = 0.0


# Forwards: each operation makes a node and keeps what its slope will be. This records the graph.


def add(a: Node, b: Node) -> Node:
    """Return a + b: a sum hands its gradient on unchanged."""
    return Node(a.value + b.value, "+", [(a, 1.0), (b, 1.0)])


def times(a: Node, b: Node) -> Node:
    """Return a * b: the slope by one factor is the other."""
    return Node(a.value * b.value, "*", [(a, b.value), (b, a.value)])


def power(a: Node, exponent: float) -> Node:
    """Return a ** exponent."""
    slope = exponent * a.value ** (exponent - 1) if exponent else 0.0
    return Node(a.value**exponent, f"^{exponent:g}", [(a, slope)])


def tanh(a: Node) -> Node:
    """Return tanh a: the slope is 1 - tanh^2."""
    value = math.tanh(a.value)
    return Node(value, "tanh", [(a, 1 - value**2)])


def exp(a: Node) -> Node:
    """Return e^a, which is its own slope."""
    return Node(math.exp(a.value), "exp", [(a, math.exp(a.value))])


def relu(a: Node) -> Node:
    """Return max(a, 0): the slope is 1 above 0, and 0 elsewhere."""
    return Node(max(a.value, 0.0), "relu", [(a, float(a.value > 0))])


# Backwards.


def in_order(node: Node) -> list[Node]:
    """Return all nodes below `node`, each after those that it was made of."""
    order: list[Node] = []
    seen: set[int] = set()

    def visit(this: Node) -> None:
        if id(this) not in seen:
            seen.add(id(this))
            for part, _ in this.made_of:
                visit(part)
            order.append(this)

    visit(node)
    return order


def backward(output: Node) -> None:
    """Add to each node's gradient the slope of `output` by it."""
    above = {id(node): 0.0 for node in in_order(output)}  # this walk's gradients alone
    above[id(output)] = 1.0
    for node in reversed(in_order(output)):  # a node comes after all that use it
        for part, slope in node.made_of:
            above[id(part)] += slope * above[id(node)]
    for node in in_order(output):
        node.grad += above[id(node)]


def naive(output: Node) -> None:
    """Do it wrongly: hand on at once what has been added up, before the other users have come."""

    def hand_on(node: Node) -> None:
        for part, slope in node.made_of:
            part.grad += slope * node.grad
            hand_on(part)

    output.grad += 1.0
    hand_on(output)


Leaves = dict[str, Node]
FUNCTIONS: dict[str, Callable[[Node], Node]] = {"tanh": tanh, "exp": exp, "relu": relu}


def build(expression: str, leaves: Leaves) -> Node:
    """Return the graph of `expression`: + - * / **, tanh, exp, relu, numbers, and the leaves.

    A part that is written twice is one node, used twice.

    Raises:
        UserError: if it holds anything else, or has no value.
    """
    try:
        output = _node(ast.parse(expression.strip(), mode="eval").body, leaves, {})
        if math.isfinite(output.value):
            return output
        reason = "it has no finite value here"
    except (SyntaxError, ValueError, RecursionError):
        reason = "it cannot be read"
    except (ArithmeticError, TypeError):
        reason = "it has no finite value here"
    raise UserError(
        f"--expression must be made of {', '.join(leaves)}, numbers, + - * / **, tanh(), exp() "
        f'and relu(), and powers must be numbers. Got "{expression}": {reason}.'
    )


def _node(tree: ast.expr, leaves: Leaves, made: Leaves) -> Node:
    """Return the node of one part; `made` holds those that are there, by how they are written."""
    written = ast.dump(tree)
    if written not in made:
        made[written] = _new(tree, leaves, made)
    return made[written]


def _new(tree: ast.expr, leaves: Leaves, made: Leaves) -> Node:
    match tree:
        case ast.Name(id=name) if name in leaves:
            return leaves[name]
        case ast.Constant(value=int() | float() as number):
            return Node(float(number), f"{number:g}")
        case ast.UnaryOp(op=ast.USub(), operand=a):
            return times(Node(-1.0, "-1"), _node(a, leaves, made))
        case ast.Call(func=ast.Name(id=name), args=[a], keywords=[]) if name in FUNCTIONS:
            return FUNCTIONS[name](_node(a, leaves, made))
        case ast.BinOp(left=a, op=op, right=b):
            return _binary(op, _node(a, leaves, made), _node(b, leaves, made))
    raise ValueError(tree)


def _binary(op: ast.operator, a: Node, b: Node) -> Node:
    match op:
        case ast.Add():
            return add(a, b)
        case ast.Sub():
            return add(a, times(Node(-1.0, "-1"), b))
        case ast.Mult():
            return times(a, b)
        case ast.Div():
            return times(a, power(b, -1.0))
        case ast.Pow() if not b.made_of:
            return power(a, b.value)
    raise ValueError(op)
