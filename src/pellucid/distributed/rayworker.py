"""The two ends of a process that Ray started: the actor beside it, and what the launcher sees.

No torch is imported here: only the process does that.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pellucid.errors import LostProcess

NEWS = 1.0
"""Seconds that a worker waits for something to tell before it says that there is nothing."""


@dataclass(frozen=True)
class Order:
    """What a worker is to start.

    Args:
        words: of the command, after the interpreter.
        recipe: text of a recipe file that is added to them; empty if they need none.
        environ: the environment of the process.
        folder: that it works in, if it is there.
        whole: whether `environ` is all of it; else it is added to that of the machine.
        files: the folder for the recipe file; empty takes the usual one for temporary files.
    """

    words: Sequence[str]
    recipe: str
    environ: Mapping[str, str]
    folder: str
    whole: bool
    files: str


class Worker:
    """The actor that keeps one process of a training, where Ray has a place for it.

    It has several threads: it can be told to end while it waits for output.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._code: int | None = None
        self._lines: list[tuple[bool, str]] = []
        self._news = threading.Condition()

    def where(self, folder: str) -> tuple[str, list[str], bool]:
        """Return the address of this machine, the GPUs of this worker, whether `folder` is here."""
        import ray

        gpus = [str(gpu) for gpu in ray.get_gpu_ids()]
        return ray.util.get_node_ip_address(), gpus, os.path.isdir(folder)

    def start(self, order: Order) -> int:
        """Start the process; return its number."""
        files = Path(tempfile.mkdtemp(prefix="pellucid-", dir=order.files or None))
        words = [sys.executable, *order.words]
        if order.recipe:
            (files / "recipe.toml").write_text(order.recipe, encoding="utf-8")
            words += ["--recipe", str(files / "recipe.toml")]
        inherited = {} if order.whole else _without_ray(os.environ)
        # Ray blocks SIGINT in all that it starts, and who is started here would inherit that.
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        self._process = process = subprocess.Popen(
            words, env={**inherited, **order.environ},
            cwd=order.folder if os.path.isdir(order.folder) else files,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, encoding="utf-8", errors="replace",
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        readers = [
            threading.Thread(target=self._read, args=(is_error, pipe), daemon=True)
            for is_error, pipe in ((False, process.stdout), (True, process.stderr))
        ]
        for reader in readers:
            reader.start()
        threading.Thread(target=self._wait, args=(process, readers, files), daemon=True).start()
        return process.pid

    def news(self) -> tuple[list[tuple[bool, str]], int | None]:
        """Return lines of output, each with whether it is an error's, and the exit code at the end.

        Waits until there is something to return, but not longer than `NEWS` seconds.
        """
        with self._news:
            self._news.wait_for(lambda: self._lines or self._code is not None, NEWS)
            lines, self._lines = self._lines, []
            return lines, self._code

    def send(self, number: int) -> None:
        """Send a signal to the process, if it still runs."""
        if self._process is not None:
            self._process.send_signal(number)

    def _read(self, is_error: bool, pipe: IO[str]) -> None:
        for line in pipe:
            with self._news:
                self._lines.append((is_error, line))
                self._news.notify_all()

    def _wait(
        self, process: subprocess.Popen[str], readers: Sequence[threading.Thread], files: Path
    ) -> None:
        code = process.wait()
        shutil.rmtree(files, ignore_errors=True)
        for reader in readers:
            reader.join(5)  # longer only if something that it started holds its output open
        with self._news:
            self._code = code
            self._news.notify_all()


class Hired:
    """A process that a `Worker` keeps, seen from the launcher, which treats it as one of its own.

    Args:
        ray: the module, connected.
        actor: the `Worker`.
        here: whether it is on this machine.
        environ: what the environment of its process says of its place.
    """

    def __init__(self, ray: Any, actor: Any, here: bool, environ: Mapping[str, str]) -> None:
        self.here = here
        self.environ = dict(environ)
        self.pid = 0
        self._ray = ray
        self._actor = actor
        self._news: Any = None
        self._code: int | None = None
        self._signals: list[int] = []

    def start(self, order: Order) -> None:
        """Start the process.

        Raises:
            LostProcess: if its worker is gone.
        """
        try:
            self.pid = self._ray.get(self._actor.start.remote(order))
        except self._ray.exceptions.RayError as error:
            rank, text = self.environ["RANK"], " ".join(str(error).split())[:300]
            raise LostProcess(f"rank {rank} could not be started by Ray: {text}") from None
        self._news = self._actor.news.remote()

    def poll(self) -> int | None:
        """Show what the process printed since the last time; return its exit code at its end."""
        signals, self._signals = self._signals, []
        for number in signals:
            self._actor.send.remote(number)
        while self._code is None and self._ray.wait([self._news], timeout=0)[0]:
            try:
                lines, self._code = self._ray.get(self._news)
            except self._ray.exceptions.RayError:  # the worker is gone, or its whole machine
                self._code = -signal.SIGKILL
                break
            for is_error, line in lines:
                print(line, end="", file=sys.stderr if is_error else sys.stdout, flush=True)
            if self._code is None:
                self._news = self._actor.news.remote()
        return self._code

    def send_signal(self, number: int) -> None:
        """Send a signal at the next `poll`: handlers of signals call this, amid anything."""
        self._signals.append(number)

    def kill(self) -> None:
        """End the process at once."""
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.get(self._actor.send.remote(signal.SIGKILL), timeout=10)

    def wait(self) -> None:
        """Wait until the process has ended, but not for a machine that does not answer."""
        for _ in range(20):
            if self.poll() is not None:
                return
            self._ray.wait([self._news], timeout=NEWS)


def _without_ray(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` without what Ray sets for its own workers, and without another job."""
    ours = ("RAY_", "TORCHELASTIC_", "OMP_NUM_THREADS", "PYTHONBREAKPOINT")
    return {key: value for key, value in environ.items() if not key.startswith(ours)}
