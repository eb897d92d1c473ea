"""On what a run was made: versions, machine, command. What has to be equal for equal bits."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

from pellucid.engine import Engine

PACKAGES = ("pellucid", "torch", "numpy", "pillow", "safetensors", "msgspec", "matplotlib")
DECIDES_BITS = ("torch", "device", "threads", "processor", "capability")
"""What has to be the same for a resumed run to be the same run bit for bit."""


def environment(engine: Engine) -> dict[str, Any]:
    """Return what this process runs on, as plain values for JSON.

    The working folder's git commit is that of the user's own project, if it is one.
    """
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "folder": os.getcwd(),
        "git": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain")),
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": engine.name,
        "level": engine.level,
        "packages": {name: version(name) for name in PACKAGES},
    }


def fingerprint(environment: dict[str, Any]) -> dict[str, Any]:
    """Return what in `environment` decides bits.

    >>> sorted(fingerprint({"packages": {"torch": "2"}, "device": "cpu", "time": "now"}))
    ['capability', 'device', 'processor', 'threads', 'torch']
    """
    flat = {**environment, "torch": environment["packages"]["torch"]}
    return {key: flat.get(key) for key in DECIDES_BITS}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2] for line in file if line.startswith("model name")]
        return names[0].strip() if names else platform.machine()
    except OSError:
        return platform.processor() or platform.machine()


def _git(*command: str) -> str:
    try:
        done = subprocess.run(
            ["git", *command], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
