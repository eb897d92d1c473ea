"""One child process that decodes, as its parent sees it: asked, waited for, ended."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import NamedTuple

from pellucid.data import worker
from pellucid.data.decode import MAX_PIXELS
from pellucid.errors import LostProcess

MOST = 3 * MAX_PIXELS + 1024
"""Bytes of an answer."""


class Limits(NamedTuple):
    """What a child may take.

    Args:
        memory: bytes, beside the 0.1 GB of Python, numpy and Pillow; on Linux.
        seconds: of processor time for one file, four times as many for an image of more than 16
            megapixels; not on Windows.
        patience: seconds without an answer, for what uses no processor time.
        start: seconds until it is there.
    """

    memory: int = 2 << 30
    seconds: float = 5.0
    patience: float = 60.0
    start: float = 120.0


LIMITS = Limits()


class Died(Exception):
    """A child gave no answer; the reason says why, of the file that it had."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Child:
    """One child process, used by one thread at a time.

    Attributes:
        big: whether it was allowed to decode a big image.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.big = False
        self._left = math.inf  # seconds until patience is over
        self._late = False
        self._lock = threading.Lock()  # of these two
        command = [sys.executable, "-P", "-B", "-m", worker.__name__]
        try:
            # In a session of its own Ctrl-C does not reach it: this process says when to end.
            self.process = subprocess.Popen(
                [*command, str(limits.memory), str(limits.seconds)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                # threads take memory, which is limited, and can leave no network
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        except OSError as error:
            raise LostProcess(
                f"No process can be started to decode images: {error.strerror or error}."
            ) from None

    def wait_until_ready(self) -> None:
        """Wait until the child answers.

        Raises:
            LostProcess: if it ended instead; no file is to blame.
        """
        assert self.process.stderr is not None
        try:
            status, _ = self._answer(self.limits.start)
        except Died as death:
            lines = self.process.stderr.read().decode("utf-8", "replace").strip().splitlines()
            said = f": {lines[-1]}" if lines else ""
            raise LostProcess(
                f"The process that decodes images did not start ({death.reason}){said}"
            ) from None
        if status != worker.READY:
            raise LostProcess("The process that decodes images did not start.")
        self.process.stderr.close()

    def ask(self, *frames: bytes) -> tuple[int, bytes]:
        """Send a request, return status and content of the answer.

        Raises:
            Died: if there was none.
        """
        return self._answer(self.limits.patience, *frames)

    def _answer(self, patience: float, *frames: bytes) -> tuple[int, bytes]:
        requests, answers = self.process.stdin, self.process.stdout
        assert requests is not None
        assert answers is not None
        with self._lock:
            self._left = patience
        try:
            with suppress(OSError):  # then there is no answer either
                for frame in frames:
                    requests.write(frame)
                requests.flush()
            head = answers.read(worker.ANSWER.size)
            if len(head) < worker.ANSWER.size:
                raise EOFError
            status, length = worker.ANSWER.unpack(head)
            if length > MOST:
                raise ValueError(length)
            content = answers.read(length)
            if len(content) < length:
                raise EOFError
        except EOFError:
            raise Died(self._reason(patience)) from None
        finally:
            with self._lock:
                self._left = math.inf
        if self._late:  # it is just being ended
            raise Died(self._reason(patience))
        return status, content

    def grow_older(self, seconds: float) -> None:
        """Take `seconds` from what is left of the patience; at its end, end the process."""
        with self._lock:
            self._left -= seconds
            if self._left < 0:
                self._late = True
                self.process.kill()

    def _reason(self, patience: float) -> str:
        """Return why the process, which has closed its end, is gone."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        code = self.process.returncode
        if self._late:
            return f"its decoding gave no answer within {patience:g} s"
        if code is None or code >= 0:
            return f"the process that decoded it ended (code {code})"
        if code == -getattr(signal, "SIGPROF", 0):
            seconds = self.limits.seconds * (worker.BIG_TIMES if self.big else 1)
            return f"its decoding takes more than {seconds:g} s of processor time"
        if code == -getattr(signal, "SIGKILL", 0):
            return "the process that decoded it was killed (SIGKILL); memory may have run out"
        with suppress(ValueError):
            return f"it crashed its decoder ({signal.Signals(-code).name})"
        return f"it crashed its decoder (signal {-code})"

    def end(self) -> None:
        """End the process, wait for it, and close what led to it."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with suppress(OSError, ValueError):  # what was not sent yet has nowhere to go
                    stream.close()
