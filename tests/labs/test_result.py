"""Claims, tables and pages."""

from __future__ import annotations

import math
import re

import pytest
import torch
from matplotlib.figure import Figure

from pellucid.labs.page import Section, html, is_formula, json_of, plain, verdict
from pellucid.labs.result import (
    Claim,
    LabResult,
    Table,
    agrees,
    at_least,
    at_most,
    equals,
    is_true,
    relative_error,
)


@pytest.mark.parametrize(
    ("claim", "holds"),
    [
        (equals("", 1.0, 1.1, 0.2), True),
        (equals("", 1.0, 1.3, 0.2), False),
        (equals("", math.nan, 1.0, 0.2), False),
        (equals("", math.inf, math.inf, 0.2), False),
        (at_most("", 1.0, 1.0), True),
        (at_most("", 1.1, 1.0), False),
        (at_most("", math.nan, 1.0), False),
        (at_least("", 1.0, 1.0), True),
        (at_least("", 0.9, 1.0), False),
        (at_least("", math.nan, 1.0), False),
        (is_true("", "something"), True),
        (is_true("", 0), False),
        (agrees("", torch.zeros(3), torch.tensor([0, 0, 0.1]), 0.2), True),
        (agrees("", torch.zeros(3), torch.tensor([0, 0, 0.3]), 0.2), False),
        (agrees("", torch.zeros(3), torch.zeros(1, 3), 0.2), False),
        (agrees("", torch.zeros(3), torch.full((3,), math.nan), 0.2), False),
    ],
)
def test_a_claim_holds_only_if_its_number_says_so(claim: Claim, holds: bool) -> None:
    assert claim.holds is holds
    assert verdict(claim).startswith("holds" if holds else "FAILED")


def test_a_verdict_shows_the_comparison() -> None:
    text = verdict(equals("Half", 0.5, 0.25, 0.01, "T1.1"))
    assert text == "FAILED  Half [T1.1]\n        0.5 = 0.25 (+- 0.01)"


def test_relative_error_is_relative() -> None:
    assert relative_error(torch.tensor([1.1e-9]), torch.tensor([1e-9])) == pytest.approx(0.1)
    assert relative_error(torch.zeros(2), torch.zeros(2)) == 0


RESULT = LabResult(
    """
        One paragraph with <b> and
        a second line.

            a formula   =   as it is

        The end.
    """,
    [equals("A & B", 1.0, 1.0, 0.1), is_true("Never", False)],
    lambda: Figure(figsize=(2, 2)),
    [Table(("x", "long head"), [(1, 0.123456789), ("two", math.pi)], "Numbers")],
)


def test_the_page_of_a_terminal() -> None:
    page = str(RESULT)
    assert page == plain(RESULT)
    assert page.startswith("One paragraph with <b> and a second line.\n\n    a formula   =   as")
    assert "Numbers\nx    long head\n1    0.12346\ntwo  3.1416\n" in page
    assert page.endswith("FAILED  Never\n        no")
    assert is_formula("    a formula")


def test_the_page_of_all_labs_stands_alone() -> None:
    page = html([Section("a-lab", "A lab", RESULT, b"\x89PNG")])
    assert "1 labs, 2 claims, 1 of them failed" in page
    assert "&lt;b&gt;" in page
    assert "A &amp; B" in page
    assert "<pre>    a formula   =   as it is</pre>" in page
    assert re.findall(r'(?:src|href)="(?!#|data:)', page) == []
    assert "<script" not in page
    assert 'href="#a-lab"' in page
    assert 'id="a-lab"' in page


def test_what_json_holds() -> None:
    found = json_of(RESULT)
    assert found["holds"] is False
    assert [claim["holds"] for claim in found["claims"]] == [True, False]
    assert RESULT.failed == (RESULT.claims[1],)


def test_the_picture_is_drawn_when_it_is_asked_for() -> None:
    drawn: list[int] = []

    def draw() -> Figure:
        drawn.append(1)
        return Figure()

    result = LabResult("", [], draw)
    assert drawn == []
    assert isinstance(result.figure, Figure)
    assert drawn == [1]
