"""The dry run: what it promises, a real process keeps; and it leaves nothing behind."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pellucid.cli.main import run

WORDS = ["digits", "--recipe", "notes", "--record.snapshots", "0"]
MEASURED = """
import sys
from pathlib import Path
from pellucid.cli.main import run
code = run(sys.argv[1:])
print("PEAK", [line for line in Path("/proc/self/status").open() if line.startswith("VmHWM")][0])
sys.exit(code)
"""


def plan(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert run(["train", *WORDS, "--dry-run", "--json", *words]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["plan"]
    return found


def apart(*words: str) -> str:
    """Run `pellucid train` in a process of its own; return what it prints, and its peak."""
    command = [sys.executable, "-c", MEASURED, "train", *WORDS, "--json", "--quiet", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_sizes_are_those_of_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    found = plan(capsys, "--length", "3 steps")
    assert found["steps"] == 3
    assert found["parameters"] == 421_642
    assert found["train"] + found["validation"] == 5000
    assert found["test"] == 1000
    assert [*Path().iterdir()] == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a process")
def test_the_memory_is_what_the_run_needs() -> None:
    """Within 15 %, both in a fresh process; the batch is so large that the step decides."""
    large = ["--batch-size", "1000", "--length", "2 steps"]
    promise = apart(*large, "--dry-run").partition("PEAK")[0]
    promised = 1e6 * json.loads(promise)["plan"]["memory_mb"]
    peak = re.search(r"PEAK VmHWM:\s+(\d+) kB", apart(*large, "--out", "runs"))
    assert peak is not None
    assert 0.85 < 1024 * int(peak.group(1)) / promised < 1.15


def test_a_larger_batch_needs_more(capsys: pytest.CaptureFixture[str]) -> None:
    """In one process the peak can only rise, so the larger one comes last."""
    small = plan(capsys)["memory_mb"]
    assert plan(capsys, "--batch-size", "2000")["memory_mb"] > small + 100


def test_compiling_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(capsys, "--compile")["memory_mb"] > 0
