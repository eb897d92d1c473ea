"""A formula of x and y, as a user writes it, made into a function of points.

It is parsed, never run: only what the tables below name is turned into operations on tensors.
"""

from __future__ import annotations

import ast
import math
import operator
import string
from collections.abc import Callable

import torch
from torch import Tensor

from pellucid.errors import UserError

LONGEST = 200
LETTERS = frozenset(string.ascii_letters + string.digits + " _.,+-*/^()")
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sin": torch.sin, "cos": torch.cos, "tan": torch.tan, "tanh": torch.tanh, "exp": torch.exp,
    "log": torch.log, "sqrt": torch.sqrt, "abs": torch.abs,
}  # fmt: skip
CONSTANTS = {"pi": math.pi, "e": math.e}
BINARY: dict[type[ast.operator], Callable[[Tensor, Tensor], Tensor]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.Pow: operator.pow,
}  # fmt: skip
ALLOWED = (
    "Allowed: x, y, numbers, pi, e, + - * / ^, brackets, and "
    f"{', '.join(FUNCTIONS)}; as in (1 - x)^2 + 100*(y - x^2)^2."
)

Function = Callable[[Tensor], Tensor]


def parse(text: str) -> Function:
    """Return the function of points (..., 2) in float64 that a formula of x and y is.

    Args:
        text: up to 200 characters; `^` and `**` are powers.

    Raises:
        UserError: with the place of what cannot be read, and what is allowed.

    >>> f = parse("x^2 - 3*y")
    >>> float(f(torch.tensor([2.0, 1.0], dtype=torch.float64)))
    1.0
    """
    if len(text) > LONGEST:
        raise UserError(f"A formula has up to {LONGEST} characters. This one has {len(text)}.")
    strange = [i for i, letter in enumerate(text) if letter not in LETTERS]
    if strange:
        raise _wrong(text, strange[0], f"{text[strange[0]]!a} is not known")
    written = text.replace("^", "**")
    if not written.strip():
        raise UserError(f"The formula is empty. {ALLOWED}")
    lead = len(written) - len(written.lstrip())
    try:
        tree = ast.parse(written.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        offset = getattr(error, "offset", None) or len(written) + 1  # 0: at the end
        raise _wrong(text, _place(text, offset - 1 + lead), "it cannot be read") from None
    _check(tree, text, lead)

    def f(p: Tensor) -> Tensor:
        x, y = p[..., 0], p[..., 1]
        return _value(tree, {"x": x, "y": y}) + 0 * (x + y)  # a slope also where one is not used

    return f


def _check(node: ast.expr, text: str, lead: int) -> None:
    """Refuse all that is not on the list, before anything is computed."""
    problem, parts = _looked_at(node)
    if problem:
        raise _wrong(text, _place(text, node.col_offset + lead), problem)
    for part in parts:
        _check(part, text, lead)


def _looked_at(node: ast.expr) -> tuple[str, list[ast.expr]]:
    """Return what is wrong with a node, or nothing, and its parts."""
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            finite = abs(value) <= 1e300
            return ("" if finite else "the number is too large"), []
        case ast.Name(id=name):
            known = name in ("x", "y", *CONSTANTS)
            return ("" if known else f'"{name}" is not known'), []
        case ast.BinOp(left=left, op=op, right=right):
            known = type(op) in BINARY
            return ("" if known else "this operator is not known"), [left, right]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            return "", [operand]
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]):
            return ("" if name in FUNCTIONS else f'"{name}" is no function here'), [argument]
        case ast.Call():
            return "a function takes one formula in brackets", []
    return "this is not known", []


def _value(node: ast.expr, names: dict[str, Tensor]) -> Tensor:
    """Return the value of a checked node."""
    match node:
        case ast.Constant(value=value):
            return torch.tensor(float(value), dtype=torch.float64)  # type: ignore[arg-type]
        case ast.Name(id=name):
            constant = torch.tensor(CONSTANTS.get(name, 0.0), dtype=torch.float64)
            return names.get(name, constant)
        case ast.BinOp(left=left, op=op, right=right):
            return BINARY[type(op)](_value(left, names), _value(right, names))
        case ast.UnaryOp(op=op, operand=operand):
            inner = _value(operand, names)
            return -inner if isinstance(op, ast.USub) else inner
        case ast.Call(func=ast.Name(id=name), args=[argument]):
            return FUNCTIONS[name](_value(argument, names))
    raise AssertionError("checked before")


def _place(text: str, place: int) -> int:
    """Return where in `text` a place of the text with `**` for `^` is."""
    at = 0
    for i, letter in enumerate(text):
        if at >= place:
            return i
        at += 2 if letter == "^" else 1
    return max(len(text) - 1, 0)


def _wrong(text: str, place: int, what: str) -> UserError:
    return UserError(f'In the formula "{text}", at character {place + 1}: {what}. {ALLOWED}')
