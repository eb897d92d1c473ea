"""Every lab of the catalogue: in order, varied, drawn, and true."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from pellucid.errors import UserError
from pellucid.labs.catalogue import LABS, LESSONS, find
from pellucid.labs.options import Option, options
from pellucid.labs.page import blocks, is_formula, json_of, picture, plain
from pellucid.labs.result import LabResult

PAGE = Path(__file__).parents[2] / "docs/correctness.md"
FOLDER = Path(__file__).parents[2] / "src/pellucid/labs"
FRAME = {
    "__init__", "beside_torch", "catalogue", "checking", "drawing", "entries", "exercise",
    "exercises", "exercises_early", "exercises_late", "formula", "guide_toys", "notebook",
    "options", "page", "path", "penalties", "progress", "question", "questions", "questions_early",
    "questions_late", "quiz", "result", "rules", "scalar_graph", "scheduled", "sized_nets",
    "small_net", "small_tasks", "surfaces", "weight_decay",
}  # fmt: skip


def test_lessons_stand_in_order_and_a_lab_stands_after_what_it_needs() -> None:
    before: set[str] = set()
    numbers = [entry.lesson for entry in LABS.values()]
    assert numbers == sorted(numbers)
    assert set(numbers) <= set(LESSONS)
    for entry in LABS.values():
        assert set(entry.needs) <= before, entry.name
        before.add(entry.name)


def test_each_file_of_the_room_is_a_lab_and_in_the_catalogue() -> None:
    files = {path.stem for path in FOLDER.glob("*.py")} - FRAME
    assert {name.replace("-", "_") for name in LABS} == files
    for entry in LABS.values():
        assert entry.load().__name__ == f"pellucid.labs.{entry.name.replace('-', '_')}"


def test_the_catalogue_loads_no_lab_and_nothing_heavy() -> None:
    code = (
        "import sys, pellucid.labs, pellucid.labs.catalogue; "
        "print([m for m in sys.modules if m.startswith('pellucid.labs.') or m in "
        "('torch', 'numpy', 'matplotlib', 'msgspec')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['pellucid.labs.entries', 'pellucid.labs.catalogue']"


def test_claims_are_checked_without_matplotlib() -> None:
    code = (
        "import sys; from pellucid.labs import chain_rule; "
        "assert not chain_rule.run().failed; assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_that_is_nearly_right() -> None:
    with pytest.raises(UserError, match='no lab "chain-rul"; did you mean "chain-rule"'):
        find("chain-rul")


@pytest.fixture(scope="module")
def results() -> dict[str, LabResult]:
    """Each lab's result with its own options, computed once."""
    return {}


def result(results: dict[str, LabResult], name: str) -> LabResult:
    if name not in results:
        results[name] = find(name).load().run()
    return results[name]


@pytest.mark.parametrize("name", LABS)
def test_every_claim_holds(name: str, results: dict[str, LabResult]) -> None:
    found = result(results, name)
    assert found.claims
    assert found.failed == ()
    traps = {claim.trap for claim in found.claims if claim.trap}
    numbered = set(
        re.findall(r"^\| (T\d+\.\d+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    )
    groups = {number.partition(".")[0] for number in numbered}
    assert {trap for trap in traps if trap.partition(".")[0] in groups} <= numbered
    statements = [claim.statement for claim in found.claims]
    assert len(set(statements)) == len(statements)
    json.dumps(json_of(found), allow_nan=False)


@pytest.mark.parametrize("name", LABS)
def test_every_page_can_be_read(name: str, results: dict[str, LabResult]) -> None:
    found = result(results, name)
    for block in blocks(found.text):
        for line in block.splitlines():
            assert is_formula(block) or not line.startswith("    "), line
            assert not is_formula(block) or len(line) <= 100, line
    assert "nan" not in plain(found).lower().split()
    assert all(len(row) == len(t.head) for t in found.tables for row in t.rows)
    figure = found.figure
    assert isinstance(figure, Figure)
    assert figure.axes
    assert len(picture(figure)) > 5000


@pytest.mark.parametrize("name", LABS)
def test_every_option_has_a_range_and_a_help(name: str) -> None:
    for option in options(find(name).load().run).values():
        assert option.help, f"{name} {option.flag}"
        assert option.allowed, f"{name} {option.flag}"
        assert option.read(option.default) == option.default
        assert option.name not in {"all", "check", "out", "svg", "json", "options", "quiz"}


def variations(option: Option) -> list[object]:
    """Return values of an option other than its default: its edges and its other choices."""
    from typing import Literal, get_args, get_origin

    kind = get_args(option.kind)[0] if hasattr(option.kind, "__metadata__") else option.kind
    if get_origin(kind) is Literal:
        return [value for value in get_args(kind) if value != option.default]
    if kind is bool:
        return [not option.default]
    edges = [
        edge
        for meta in getattr(option.kind, "__metadata__", ())
        for edge in (meta.ge, meta.le)
        if edge is not None and edge != option.default
    ]
    return [kind(edge) for edge in edges] if kind in (int, float) else []


VARIED = [
    pytest.param(name, option.name, value, id=f"{name}-{option.name}-{value}")
    for name, entry in LABS.items()
    for option in options(entry.load().run).values()
    for value in variations(option)
]


TOGETHER: dict[tuple[str, str, object], str] = {
    ("softmax", "label", 99): "--label must be",  # there are three classes
    ("losses", "label", 99): "--label must be",
    ("arithmetic", "size", 1): "A window of 3 pixels does not fit into 1",
}
"""Edges that do not go with the other options' defaults: they are refused, with the reason."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "option", "value"), VARIED)
def test_every_claim_holds_at_the_edges_of_every_option(
    name: str, option: str, value: object
) -> None:
    run = find(name).load().run
    if (name, option, value) in TOGETHER:
        with pytest.raises(UserError, match=TOGETHER[name, option, value]):
            run(**{option: value})
        return
    found = run(**{option: value})
    assert found.failed == ()
    assert plain(found)
    assert len(picture(found.figure)) > 5000


def test_a_lab_leaves_nothing_behind(results: dict[str, LabResult]) -> None:
    """The global random stream is nobody's business here, and the same lab says the same twice."""
    before = torch.get_rng_state()
    for name in ("chain-rule", "delta-rule", "backprop-graph"):
        again = find(name).load().run()
        assert json_of(again) == json_of(result(results, name))
    del before
