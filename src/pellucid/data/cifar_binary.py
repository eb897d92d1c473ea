"""Reader of the original CIFAR files, which are pickles, without unpickling.

`pickletools.genops` splits a pickle into its instructions and runs none of them. The machine below
carries out those that build dictionaries, lists, texts, numbers and byte arrays, and calls
nothing: a name in the file is only compared with the few that numpy writes. So a file can hold
what it likes; what is not an array of bytes or a plain value is refused.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import BadData

NAMES = {
    f"{package}.{name}": kind
    for package in ("numpy", "numpy.core", "numpy._core")
    for name, kind in (
        ("multiarray._reconstruct", "empty"),
        ("numeric._frombuffer", "buffer"),
        ("ndarray", "ndarray"),
        ("dtype", "dtype"),
    )
} | {"_codecs.encode": "encode"}
"""All names that may occur. `_codecs.encode` is how protocol 2 of Python 3 writes bytes."""


class _Name(NamedTuple):
    kind: str


class _Type:
    """The element type of an array; only bytes are accepted."""


class _Empty:
    """An array whose shape and bytes come with a later instruction."""

    array: NDArray[np.uint8]


class _Refused(Exception):
    """An instruction that these files have no use for; the text names it."""


def read_batch(content: bytes, where: str) -> dict[str, Any]:
    """Return the dictionary in a CIFAR file, with texts as keys.

    Args:
        content: the file's bytes: a pickle of protocol 2 to 5, by Python 2 or 3.
        where: the file's name, for messages.
    Returns:
        Values are uint8 arrays, lists, numbers, texts, and bytes for Python 2's texts.
    Raises:
        BadData: naming the instruction or name that has no place in such a file.
    """
    value = read_plain(content, where)
    if not isinstance(value, dict):
        raise BadData(
            f"{where} is no CIFAR file: it holds a {type(value).__name__}, no dictionary."
        )
    return {text(key): item for key, item in value.items()}


def text(value: str | bytes) -> str:
    """Return a text of Python 2 or 3 as text."""
    return value.decode("latin-1") if isinstance(value, bytes) else value


def read_plain(content: bytes, where: str) -> Any:
    """Return the value that the pickle `content` describes, as `read_batch` does."""
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "STOP":
                return _finished(machine.stack.pop())
            machine.step(opcode.name, argument)
    except _Refused as error:
        raise BadData(
            f"{where} is refused: it holds {error}, which no CIFAR file does. "
            "Nothing in it was executed."
        ) from None
    except Exception as error:  # whatever a mutilated file makes of the stack or the arrays
        raise BadData(f"{where} is damaged: {error or type(error).__name__}.") from None
    raise BadData(f"{where} is damaged: it ends without a STOP.")


class _Machine:
    """A stack and a memory, as the pickle format wants them."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in PUSHED:
            self.stack.append(argument)
        elif name in ("BINSTRING", "SHORT_BINSTRING"):  # given as if it were latin-1
            self.stack.append(argument.encode("latin-1"))
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name]())
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name in COMPOSED:
            COMPOSED[name](self)
        elif name == "GLOBAL":
            self.name(argument.replace(" ", "."))
        elif name not in ("PROTO", "FRAME"):
            raise _Refused(f"the instruction {name}")

    def since_mark(self) -> list[Any]:
        at = self.marks.pop()
        items = self.stack[at:]
        del self.stack[at:]
        return items

    def take(self, count: int) -> list[Any]:
        items = self.stack[-count:]
        if len(items) < count:
            raise ValueError("too few values")
        del self.stack[-count:]
        return items

    def name(self, name: str) -> None:
        if name not in NAMES:
            raise _Refused(f"the name {name}")
        self.stack.append(_Name(NAMES[name]))

    def update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise _Refused(f"keys for a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | bytes):
                raise _Refused(f"a key that is a {type(key).__name__}")
            target[key] = _finished(value)

    def extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise _Refused(f"items for a {type(self.stack[-1]).__name__}")
        self.stack[-1].extend(_finished(item) for item in items)

    def reduce(self) -> None:
        called, arguments = self.take(2)
        kind = called.kind if isinstance(called, _Name) else "?"
        if kind == "empty":
            self.stack.append(_Empty())
        elif kind == "dtype" and text(arguments[0]) in ("u1", "|u1"):
            self.stack.append(_Type())
        elif kind == "encode" and arguments[1] == "latin1":
            self.stack.append(arguments[0].encode("latin-1"))
        elif kind == "buffer":
            data, type_, shape, order = arguments
            self.stack.append(_array(shape, type_, order == "F", data))
        else:
            raise _Refused(f"a call of {kind} with {str(arguments)[:60]}")

    def build(self) -> None:
        (state,) = self.take(1)
        target = self.stack[-1]
        if isinstance(target, _Empty):
            _, shape, type_, fortran, data = state
            target.array = _array(shape, type_, fortran, data)
        elif not isinstance(target, _Type):
            raise _Refused(f"a state for a {type(target).__name__}")


def _array(shape: Any, type_: Any, fortran: Any, data: Any) -> NDArray[np.uint8]:
    if not isinstance(type_, _Type) or not isinstance(data, bytes | bytearray):
        raise _Refused("an array that is not of bytes")
    if len(shape) > 4 or math.prod(shape) != len(data):
        raise ValueError(f"{len(data)} bytes for the shape {shape[:4]}")
    return np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran else "C")


def _finished(value: Any) -> Any:
    """Return `value` as it may stand in the result: an array in place of its stand-in."""
    if isinstance(value, _Empty):
        return value.array
    if isinstance(value, tuple | _Type):  # _Name is a tuple, too
        raise _Refused(f"a value that is a {type(value).__name__.strip('_').lower()}")
    return value


PUSHED = frozenset(
    {
        *("BININT", "BININT1", "BININT2", "LONG1"),
        *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    }
)
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
COMPOSED: dict[str, Callable[[_Machine], None]] = {
    "MARK": lambda self: self.marks.append(len(self.stack)),
    "TUPLE": lambda self: self.stack.append(tuple(self.since_mark())),
    "TUPLE1": lambda self: self.stack.append(tuple(self.take(1))),
    "TUPLE2": lambda self: self.stack.append(tuple(self.take(2))),
    "TUPLE3": lambda self: self.stack.append(tuple(self.take(3))),
    "APPEND": lambda self: self.extend(self.take(1)),
    "APPENDS": lambda self: self.extend(self.since_mark()),
    "SETITEM": lambda self: self.update(self.take(2)),
    "SETITEMS": lambda self: self.update(self.since_mark()),
    "STACK_GLOBAL": lambda self: self.name(".".join(self.take(2))),
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}
