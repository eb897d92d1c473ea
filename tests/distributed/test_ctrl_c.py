"""Ctrl-C of a whole command that trains with two processes."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.distributed.command import LONG, Command
from tests.distributed.recipes import content


@pytest.mark.parametrize("who", ["the command", "rank 1"])
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path, who: str) -> None:
    """And the run that is gone on with is, byte for byte, the one that nobody interrupted."""
    words = ["train", "digits", "--engine.procs", "2", "--json", *LONG]
    with Command(tmp_path / "broken", *words) as command:
        command.reaches(2)
        if who == "the command":
            command.process.send_signal(signal.SIGINT)
        else:
            command.rank(1).send_signal(signal.SIGINT)
        code, out, err = command.ends()
    assert code == 130
    run = command.run
    last = run.checkpoints.steps()[-1]
    assert 2 <= last < 80
    assert f"stopped after step {last}. Go on: pellucid resume runs/{run.path.name}" in err
    assert json.loads(out) == {"run": f"runs/{run.path.name}", "stopped": True}
    assert run.summary() is None
    if who == "rank 1":
        return
    with Command(tmp_path / "broken", "resume", f"runs/{run.path.name}", "--quiet") as command:
        assert command.ends()[0] == 0
    with Command(tmp_path / "unbroken", *words) as command:
        assert command.ends()[0] == 0
    assert content(run) == content(command.run)
