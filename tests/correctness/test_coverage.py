"""The page of traps and the tests belong together: neither has a number that the other lacks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from pellucid.labs.catalogue import LABS as CATALOGUE
from pellucid.views.catalogue import VIEWS

PAGE = Path(__file__).parents[2] / "docs" / "correctness.md"
ROW = re.compile(r"\| *T(\d+)\.(\d+) *\|(.*)")
TEST = re.compile(r"test_trap_T(\d+)_(\d+)_\w+")
LAB = re.compile(r"lab `([a-z0-9-]+)`")
VIEW = re.compile(r"view `([a-z0-9-]+)`")
LABS = Path(__file__).parents[2] / "src/pellucid/labs"

Number = tuple[int, int]


def read_page(text: str) -> dict[Number, list[str]]:
    """Return the cells of each numbered row: loose statement, right statement, proof."""
    page: dict[Number, list[str]] = {}
    for line in text.splitlines():
        if match := ROW.match(line):
            number = int(match.group(1)), int(match.group(2))
            assert number not in page, f"T{number[0]}.{number[1]} stands on the page twice"
            page[number] = [cell.strip() for cell in match.group(3).rstrip("| ").split(" | ")]
    return page


def read_tests(folder: Path) -> dict[str, Number]:
    """Return the number of each test of a trap, by the test's name."""
    found: dict[str, Number] = {}
    for file in sorted(folder.glob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_trap"):
                match = TEST.fullmatch(node.name)
                assert match, f"{file.name}: {node.name} must be named test_trap_T1_1_what_it_says"
                found[node.name] = int(match.group(1)), int(match.group(2))
    return found


def read_claims(folder: Path) -> dict[str, set[Number]]:
    """Return the numbers that the claims of each lab settle; `tests/labs` sees that they hold.

    Those of a module that is no lab are the claims of the labs that import it.
    """
    found: dict[str, set[Number]] = {}
    imported: dict[str, set[str]] = {}
    for file in sorted(folder.glob("*.py")):
        lab = file.stem.replace("_", "-")
        names = re.findall(r"^from pellucid\.labs\.(\w+) import", file.read_text("utf-8"), re.M)
        imported[lab] = {name.replace("_", "-") for name in names}
        texts = [
            node.value
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        matches = filter(None, (re.fullmatch(r"T(\d+)\.(\d+)", text) for text in texts))
        found[lab] = {(int(m[1]), int(m[2])) for m in matches}
    parts = {lab: imported[lab] - CATALOGUE.keys() for lab in CATALOGUE if lab in found}
    for lab, others in parts.items():
        found[lab] |= {number for other in others for number in found[other]}
    return {lab: found[lab] for lab in found if lab not in set().union(*parts.values())}


def problems(
    page: dict[Number, list[str]], tests: dict[str, Number], claims: dict[str, set[Number]]
) -> list[str]:
    """Return one line for each way in which page, tests and claims disagree."""
    lines = []
    for (group, n), cells in page.items():
        name, proof = f"T{group}.{n}", cells[-1]
        if len(cells) != 3 or not all(cells):
            lines.append(f"{name} needs a loose statement, a right one and its proof")
        cited = {match.group() for match in TEST.finditer(proof)}
        own = {test for test, number in tests.items() if number == (group, n)}
        if "words only" in proof:
            if own or cited:
                lines.append(f"{name} is said to be words only, and has a test")
        elif not own and not LAB.search(proof):
            lines.append(f"{name} has no test")
        elif own != cited:
            lines.append(f"{name}: the page names {sorted(cited)}, there are {sorted(own)}")
        lines += [
            f"{name}: the lab {lab} claims nothing under this number"
            for lab in LAB.findall(proof)
            if (group, n) not in claims.get(lab, set())
        ]
        lines += [
            f"{name}: there is no view {view}"
            for view in VIEW.findall(proof)
            if view not in {known.name for known in VIEWS}
        ]
    lines += [
        f"{test} has a number that is not on the page"
        for test, number in tests.items()
        if number not in page
    ]
    return lines + _gaps(page)


def _gaps(numbers: Iterable[Number]) -> list[str]:
    groups: dict[int, list[int]] = {}
    for group, n in numbers:
        groups.setdefault(group, []).append(n)
    return [
        f"the numbers of T{group} are not 1 to {len(ns)} in order: {ns}"
        for group, ns in groups.items()
        if ns != list(range(1, len(ns) + 1))
    ]


def test_each_trap_of_the_page_is_proved():
    page, tests = read_page(PAGE.read_text(encoding="utf-8")), read_tests(Path(__file__).parent)
    assert page
    assert tests
    assert not problems(page, tests, read_claims(LABS))


def test_each_claim_of_a_lab_is_linked_on_the_page():
    page = read_page(PAGE.read_text(encoding="utf-8"))
    for lab, numbers in read_claims(LABS).items():
        for number in numbers:
            assert lab in LAB.findall(page[number][-1]), f"T{number[0]}.{number[1]}: lab `{lab}`"


GOOD = "| T1.1 | a | b | `test_trap_T1_1_one` |\n| T1.2 | a | b | words only: in the message |\n"


@pytest.mark.parametrize(
    ("text", "names", "said"),
    [
        (GOOD, ["T1_1_one"], ""),
        (GOOD, [], "T1.1 has no test"),
        (GOOD, ["T1_1_two"], "T1.1: the page names"),
        (GOOD, ["T1_1_one", "T1_2_two"], "words only, and has a test"),
        (GOOD, ["T1_1_one", "T1_3_three"], "not on the page"),
        (GOOD.replace("T1.2", "T1.3"), ["T1_1_one"], "not 1 to 2 in order"),
        (GOOD.replace("| b ", ""), ["T1_1_one"], "needs a loose statement"),
        (GOOD.replace("`test_trap_T1_1_one`", "lab `known`"), [], ""),
        (GOOD.replace("`test_trap_T1_1_one`", "lab `known`"), ["T1_1_one"], "there are"),
        (GOOD.replace("`test_trap_T1_1_one`", "lab `other`"), [], "lab other claims nothing"),
        (GOOD.replace("one`", "one`, view `none`"), ["T1_1_one"], "there is no view none"),
    ],
)
def test_the_check_itself_sees_what_is_wrong(text: str, names: list[str], said: str):
    tests = {f"test_trap_{name}": tuple(map(int, name[1:].split("_")[:2])) for name in names}
    found = problems(read_page(text), tests, {"known": {(1, 1)}, "other": {(1, 2)}})
    assert bool(found) is bool(said)
    assert said in "\n".join(found)


def test_a_number_stands_on_the_page_once():
    with pytest.raises(AssertionError, match=r"T1\.1 stands on the page twice"):
        read_page(GOOD + GOOD)
