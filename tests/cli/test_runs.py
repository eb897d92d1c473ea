"""`pellucid runs show`: what a person wants to know of a run, within 80 columns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pellucid import good, steps, train
from pellucid.cli.main import run
from pellucid.recipe import RecordSpec


def test_show_tells_results_checkpoints_growth_and_the_diagnosis(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = good("digits").with_(
        length=steps(4), evaluate=steps(2), record=RecordSpec(every=2, snapshots=1)
    )
    trained = train(recipe, tmp_path)
    trained.write_json("diagnosis.json", {"findings": [
        {"name": "plateau", "severity": "note", "sentence": "It stands still. " * 8,
         "numbers": {}, "advice": "a lower rate."},
    ]})  # fmt: skip
    assert run(["runs", "show", str(trained.path)]) == 0
    shown = capsys.readouterr().out
    for part in (
        "test accuracy: ", "growth (first, middle, last evaluation):", "step 4, epoch 1",
        "snapshots of the weights: 2", "test images opened: 1 time", "note: plateau: It stands",
        "Try: a lower rate.",
    ):  # fmt: skip
        assert part in shown
    assert all(len(line) <= 80 for line in shown.splitlines() if str(trained.path) not in line)
    assert run(["runs", "show", str(trained.path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["findings"][0]["name"] == "plateau"
    assert facts["summary"]["test"]["n"] == 1000
