"""On what a run was made: versions, machine, command. What has to be equal for equal bits."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

from pellucid.distributed.place import COMMAND
from pellucid.engine import Engine

PACKAGES = ("pellucid", "torch", "numpy", "pillow", "safetensors", "msgspec", "matplotlib")
DECIDES_BITS = ("torch", "device", "threads", "processes", "processor", "capability")
"""What has to be the same for a resumed run to be the same run bit for bit."""


def environment(engine: Engine) -> dict[str, Any]:
    """Return what this process runs on, as plain values for JSON.

    The working folder's git commit is that of the user's own project, if it is one.
    """
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command(),
        "folder": os.getcwd(),
        "git": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain")),
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "processes": engine.processes.size,
        "restarts": engine.processes.place.restarts if engine.processes.place else 0,
        "device": engine.name,
        "level": engine.level,
        "packages": {name: version(name) for name in PACKAGES},
    }


def fingerprint(environment: dict[str, Any]) -> dict[str, Any]:
    """Return what in `environment` decides bits.

    >>> sorted(fingerprint({"packages": {"torch": "2"}, "device": "cpu", "time": "now"}))
    ['capability', 'device', 'processes', 'processor', 'threads', 'torch']
    """
    flat = {"processes": 1, **environment, "torch": environment["packages"]["torch"]}
    return {key: flat.get(key) for key in DECIDES_BITS}


def command() -> list[str]:
    """Return the words that this process was started with, or those of its launcher."""
    given = os.environ.get(COMMAND)
    return list(map(str, json.loads(given))) if given else sys.argv


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
