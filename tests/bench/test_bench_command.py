"""`pellucid bench` and `train --tune-speed`, as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pellucid.bench import proposals
from pellucid.cli.main import main
from pellucid.runs.folder import Run

WORDS = ["--model.name", "mlp", "--batch-size", "16"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals, "BLOCK", 0.0)


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(list(words))
    return int(left.value.code or 0)


def test_json_and_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("bench", "digits", *WORDS, "--steps", "3", "--json", "--quiet") == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert shown.err == ""
    assert [y["n"] for y in found["yardsticks"]] == [7] * 4
    assert found["step"]["n"] == 3
    assert found["share_of_convolution"] == pytest.approx(
        found["step"]["flops"] / found["step"]["whole"] / found["yardsticks"][1]["value"] / 1e9
    )
    assert {t["setting"] for t in found["trials"]} >= {"--precision bf16", "--batch-size 32"}
    assert not list(Path().iterdir())  # no run was left
    assert call("bench", "digits", *WORDS, "--steps", "3") == 0
    shown = capsys.readouterr()
    assert "GFLOP/s" in shown.out
    assert "settings that were tried" in shown.out
    assert all(len(line) <= 80 for line in shown.out.splitlines())


def test_without_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("bench", "digits", *WORDS, "--steps", "1", "--no-settings") == 0
    assert "tried" not in capsys.readouterr().out


def test_a_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("bench", "digits", "--steps", "0") == 2
    assert "--steps must be at least 1" in capsys.readouterr().err


def test_train_says_what_it_tried(capsys: pytest.CaptureFixture[str]) -> None:
    short = ["--length", "2 steps", "--evaluate", "2 steps"]
    assert call("train", "digits", *WORDS, *short, "--tune-speed") == 0
    shown = capsys.readouterr().err
    assert "speed: " in shown
    run = Run(next(path for path in Path("runs").iterdir() if path.name != "latest"))
    summary = run.summary()
    assert summary is not None
    assert summary["test"]["n"] == 1000
    assert 'precision = "fp32"' in (run.path / "recipe.toml").read_text(encoding="utf-8")
