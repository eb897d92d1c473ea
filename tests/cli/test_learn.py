"""`pellucid learn`: the path, and on a real run what its checks see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pellucid.cli.main import run
from pellucid.labs.catalogue import LABS
from pellucid.labs.path import NEXT, STEPS
from pellucid.runs.folder import Run


def test_the_path_names_commands_and_labs_that_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert len(STEPS) == 6
    for step in STEPS:
        assert set(step.labs) <= set(LABS)
        assert run([step.words[0], "--help"]) == 0
    for _, command in NEXT:
        assert run([command.split()[1], "--help"]) == 0
    capsys.readouterr()
    assert run(["learn"]) == 0
    page = capsys.readouterr().out
    assert "1. The loop" in page
    assert "(done)" not in page
    assert run(["learn", "--json"]) == 0
    assert [row["step"] for row in json.loads(capsys.readouterr().out)["steps"]] == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]


@pytest.mark.parametrize("step", ["0", "7"])
def test_a_step_that_is_none(step: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["learn", step]) == 2
    assert "steps 1 to 6" in capsys.readouterr().err


def test_step_6_needs_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["learn", "6"]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_path(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(1, 7):
        assert run(["learn", str(number)]) == 0, capsys.readouterr().out
        assert "FAILED" not in capsys.readouterr().out
    assert run(["learn"]) == 0
    assert capsys.readouterr().out.count("(done)") == 6


@pytest.mark.slow
def test_the_checks_see_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    """Damage what a run wrote, and the check of the step fails."""
    assert run(["learn", "4"]) == 0
    assert run(["evaluate", "latest"]) == 0
    found = Run.open(Path("runs/latest").resolve())
    original = found.metrics.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in original.splitlines()]

    def failed(step: int, change: dict[str, object]) -> bool:
        found.metrics.write_text("".join(json.dumps({**row, **change}) + "\n" for row in rows))
        holds = all(claim.holds for claim in STEPS[step - 1].check(found))
        found.metrics.write_text(original, encoding="utf-8")
        return not holds

    assert not failed(4, {})
    assert failed(1, {"loss": 2.3})
    assert failed(2, {"gap": 0.5})
    assert failed(4, {"lr": 0.1})
    assert failed(5, {"running_loss": 0.0})
    assert not failed(2, {})
    assert not failed(3, {})
    assert failed(3, {"validation": {"accuracy": 0.1, "loss": 1.0, "n": 500}})
