"""A child process that decodes image files which are sent to it, under limits, one after another.

    python -P -B -m pellucid.data.worker MEMORY SECONDS

Requests come on stdin and answers go to stdout, in frames: a head, then as many bytes as it says.
`workers` starts such processes, watches them, and replaces those that die. This module and what it
imports is kept small, as each child loads it: Pillow, numpy and msgspec, but not torch.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

import msgspec

from pellucid.data import decode
from pellucid.data.decode import NotAnImage
from pellucid.data.measured import measured
from pellucid.limits import leave_network, limit

REQUEST = struct.Struct("<BIIQ")
"""One of PROBE, DECODE, MEASURE; two numbers that it needs; bytes of the file that follow."""
ANSWER = struct.Struct("<BQ")
"""One of READY, DONE, REFUSED, BIG; bytes that follow."""
PROBE, DECODE, MEASURE = 1, 2, 3
READY, DONE, REFUSED, BIG = 1, 2, 3, 4
GO = b"g"
"""Sent to a child that said BIG, once it may go on."""
BIG_TIMES = 4
"""The largest image that is allowed, stored as a PNG, was measured to take 6 s."""
HEADER = struct.Struct("<II??")
SHAPE = struct.Struct("<III")


def main(memory: int, seconds: float) -> int:
    """Be the child: answer requests until there are no more.

    Args:
        memory: bytes beside what Python, numpy and Pillow take.
        seconds: of processor time for a file, and BIG_TIMES as many for a big image.
    """
    leave_network()
    warnings.simplefilter("ignore")  # whatever the environment says: none may become an error
    decode.load_plugins()
    requests, answers = _streams()
    limit(memory, 0)
    if hasattr(signal, "SIGPROF"):
        signal.signal(signal.SIGPROF, signal.SIG_DFL)  # which ends the process
    decode.one_big = partial(_ask, requests, answers, seconds)
    _send(answers, READY, b"")
    while len(head := requests.read(REQUEST.size)) == REQUEST.size:
        kind, first, second, length = REQUEST.unpack(head)
        data = requests.read(length)
        if len(data) < length:
            break
        _end_after(seconds)
        status, content = _answer(kind, first, second, data)
        _end_after(0)
        _send(answers, status, content)
    return 0


def _streams() -> tuple[BinaryIO, BinaryIO]:
    """Return where requests come from and answers go to; what a library prints goes nowhere."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)
    return requests, answers


def _send(answers: BinaryIO, status: int, content: bytes) -> None:
    answers.write(ANSWER.pack(status, len(content)))
    answers.write(content)
    answers.flush()


def _answer(kind: int, first: int, second: int, data: bytes) -> tuple[int, bytes]:
    try:
        return DONE, _done(kind, first, second, data)
    except NotAnImage as error:
        reason = str(error)
    except MemoryError:
        reason = decode.TOO_LARGE
    except Exception as error:  # what Pillow raises on odd images is not documented
        reason = f"damaged ({type(error).__name__})"
    return REFUSED, reason.encode("utf-8", "backslashreplace")


def _done(kind: int, first: int, second: int, data: bytes) -> bytes:
    if kind == PROBE:
        return HEADER.pack(*decode.probe(data))
    if kind == DECODE:
        pixels = decode.decode(data, first, second or None)
        return SHAPE.pack(*pixels.shape) + pixels.tobytes()
    return msgspec.msgpack.encode(measured(decode.picture(data), bool(first)))


@contextlib.contextmanager
def _ask(requests: BinaryIO, answers: BinaryIO, seconds: float) -> Iterator[None]:
    """Wait until no other child decodes a big image; then the time counts anew."""
    _send(answers, BIG, b"")
    if requests.read(1) != GO:
        raise SystemExit
    _end_after(BIG_TIMES * seconds)
    yield


def _end_after(seconds: float) -> None:
    """End this process after `seconds` of processor time from now, where the system can; 0: not."""
    if hasattr(signal, "setitimer"):  # not on Windows
        signal.setitimer(signal.ITIMER_PROF, seconds)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2])))
