"""A lab as a notebook: its cells run, one after the other, and the checks are in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pellucid.cli.main import run
from pellucid.labs.catalogue import find
from pellucid.labs.notebook import notebook


def execute(facts: dict[str, Any]) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for cell in facts["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    return names


@pytest.mark.parametrize("name", ["chain-rule", "softmax"])
def test_a_notebook_executes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    facts = json.loads(notebook(find(name), {}))
    assert (facts["nbformat"], facts["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in facts["cells"]}) == len(facts["cells"])
    for cell in facts["cells"]:
        assert ("outputs" in cell) is (cell["cell_type"] == "code")
    names = execute(facts)
    assert "holds" in capsys.readouterr().out
    assert not names["result"].failed


def test_options_go_into_the_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--x", "3", "--notebook", "--out", "here"]
    assert run(["lab", "linear", *words]) == 2  # x is two numbers there
    capsys.readouterr()
    assert run(["lab", "chain-rule", *words]) == 0
    text = Path("here/chain-rule.ipynb").read_text(encoding="utf-8")
    names = execute(json.loads(text))
    assert names["result"].values["neuron"] == 2 * (0.5 * 3 + 0.1 - 2) * 3


def test_a_notebook_whose_lab_fails_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    from pellucid.labs import chain_rule

    facts = json.loads(notebook(find("chain-rule"), {}))
    monkeypatch.setattr(chain_rule, "by_hand", lambda *a: ((a[0],) * 5, [w + 1 for w in a[2]]))
    with pytest.raises(AssertionError):
        execute(facts)
