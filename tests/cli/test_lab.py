"""`pellucid lab`: lists, runs, checks, draws; a mistake says what is allowed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pellucid.cli.main import run
from pellucid.labs import chain_rule
from pellucid.labs.catalogue import LABS, Entry


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A catalogue of three quick labs."""
    names = ["linear", "softmax", "chain-rule"]
    kept: dict[str, Entry] = {name: LABS[name] for name in names}
    for name in set(LABS) - set(names):
        monkeypatch.delitem(LABS, name)
    assert list(LABS) == list(kept)
    return names


def test_the_list_stands_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lab"]) == 0
    page = capsys.readouterr().out
    places = [page.index(f"   {name} ") for name in LABS]
    assert places == sorted(places)
    assert "(after backprop-graph, softmax)" in " ".join(page.split())
    assert all(len(line) <= 80 for line in page.splitlines())
    assert run(["lab", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["labs"]
    assert [row["name"] for row in rows] == list(LABS)


def test_one_lab_with_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lab", "chain-rule", "--x", "3", "--w=-1", "--out", "here", "--svg"]) == 0
    page = capsys.readouterr().out
    assert "dL/dw = dL/dy * dy/dw" in page
    assert "* 3 = -29.4" in page
    assert "holds   " in page
    assert Path("here/chain-rule.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in Path("here/chain-rule.svg").read_text(encoding="utf-8")
    facts = json.loads(Path("here/chain-rule.json").read_text(encoding="utf-8"))
    assert facts["options"]["x"] == 3
    assert run(["lab", "chain-rule", "--x", "3", "--w=-1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["claims"] == facts["claims"]
    assert said["holds"] is True


def test_check_prints_verdicts_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lab", "linear", "--check"]) == 0
    assert all(line.startswith(("holds   ", "        "))
               for line in capsys.readouterr().out.splitlines())  # fmt: skip


def test_options_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lab", "chain-rule", "--options"]) == 0
    page = capsys.readouterr().out
    assert "--samples" in page
    assert "a whole number from 1 to 64" in " ".join(page.split())
    assert run(["lab", "chain-rule", "--options", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["options"][0]["option"] == "--x"


def test_all_labs_on_one_page(few: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lab", "--all", "--check", "--out", "page"]) == 0
    page = capsys.readouterr().out
    assert all(f"holds   {name} " in page for name in few)
    assert "3 labs, " in page
    assert ", 0 failed" in page
    html = Path("page/labs.html").read_text(encoding="utf-8")
    assert html.count("data:image/png;base64,") == 3
    assert "http" not in html
    assert run(["lab", "--all", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["failed"] == 0


def test_a_claim_that_fails_is_shown_and_ends_with_1(
    few: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = chain_rule.by_hand

    def wrong(*given: object) -> object:
        factors, grads = right(*given)
        return factors, [2 * grad for grad in grads]

    monkeypatch.setattr(chain_rule, "by_hand", wrong)
    assert run(["lab", "--all", "--check", "--out", "page"]) == 1
    page = capsys.readouterr().out
    assert "FAILED  chain-rule " in page
    assert "FAILED  W1: the gradient by hand" in page
    assert "holds   linear " in page
    assert "of them failed" in Path("page/labs.html").read_text(encoding="utf-8")
    assert run(["lab", "chain-rule"]) == 1
    assert run(["lab", "linear"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lab", "chain-rul"], 'did you mean "chain-rule"'),
        (["lab", "chain-rule", "--y", "1"], "This lab has no option --y"),
        (["lab", "chain-rule", "--x", "11"], "--x must be a number from -10 to 10. Got"),
        (["lab", "chain-rule", "--x"], "--x needs a value"),
        (["lab", "chain-rule", "3"], 'Options are written --NAME VALUE. Got "3"'),
        (["lab", "chain-rule", "--all"], '"chain-rule" belongs to one lab'),
        (["lab", "stability", "--quiz", "--lr", "1"], "take no options of the lab"),
        (["lab", "check", "nothing.py"], "nothing.py cannot be read"),
        (["lab", "backprop-graph", "--expression", "__import__('os')"], "it cannot be read"),
        (["lab", "backprop-graph", "--expression", "a / 0"], "no finite value"),
        (["lab", "entropy", "--p", "1,2"], "must be equally long"),
        (["lab", "entropy", "--p", "0,0,0,0"], "above 0"),
        (["lab", "softmax", "--label", "9"], "must be the number of a class"),
    ],
)
def test_a_mistake_says_what_is_allowed(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_a_setting_of_recipes_is_an_option_here(capsys: pytest.CaptureFixture[str]) -> None:
    """`--batch-size` is taken from the command line as a setting, and given back to the lab."""
    assert run(["lab", "chain-rule", "--batch-size", "4"]) == 2
    assert "This lab has no option --batch-size" in capsys.readouterr().err
