"""The command `pellucid` as a real process, which is interrupted or loses one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from pellucid.runs.folder import Run

LIMIT = 300.0
"""Seconds after which a test gives up; nothing here is judged by a clock."""

LONG = [
    "--length", "80 steps", "--evaluate", "20 steps", "--batch-size", "16", "--model.name", "mlp",
    "--record.checkpoint", "1 step", "--record.every", "5", "--engine.threads", "1",
    "--device", "cpu",
]  # fmt: skip


class Command:
    """One `pellucid WORDS` in a folder of its own."""

    def __init__(self, folder: Path, *words: str, environ: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pellucid", *words],
            cwd=folder, env={**os.environ, **(environ or {})},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            family = psutil.Process(self.process.pid).children(recursive=True)
            for one in [self.process, *family]:
                one.kill()
        self.process.communicate()

    def reaches(self, step: int) -> None:
        """Return when a checkpoint at `step` or a later one is there, and all are at work."""
        until = time.monotonic() + LIMIT
        while not any(int(path.name[5:]) >= step for path in self._checkpoints()):
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < until
            time.sleep(0.01)

    def _checkpoints(self) -> list[Path]:
        return [p for p in self.folder.glob("runs/2*/checkpoints/step-*") if len(p.name) == 13]

    def rank(self, number: int, among: psutil.Process | None = None) -> psutil.Process:
        """Return the process that trains as rank `number`; `among` the children of somebody."""
        for one in (among or psutil.Process(self.process.pid)).children(recursive=True):
            try:
                if one.environ().get("RANK") == str(number) and "pellucid" in one.cmdline():
                    return one
            except psutil.NoSuchProcess:
                continue
        raise AssertionError(f"there is no rank {number}")

    def ends(self) -> tuple[int, str, str]:
        """Wait for its end; return the exit code and what it said."""
        out, err = self.process.communicate(timeout=LIMIT)
        assert "Traceback" not in err, err
        return self.process.returncode, out, err

    @property
    def run(self) -> Run:
        """The one run that it made."""
        (path,) = self.folder.glob("runs/2*")
        return Run(path)
