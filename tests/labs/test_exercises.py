"""Exercises: another right solution passes, typical wrong ones fail, one hint at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pellucid.cli.main import run
from pellucid.errors import UserError
from pellucid.labs.catalogue import LABS
from pellucid.labs.checking import check, check_file, file_name, template
from pellucid.labs.exercises import EXERCISES, exercise

from .solutions import SOLUTIONS

WRONG = [
    pytest.param(lab, wrong, id=wrong.__name__)
    for lab, (_, wrongs) in SOLUTIONS.items()
    for wrong in wrongs
]


def test_there_are_exercises_with_solutions() -> None:
    assert len(EXERCISES) >= 12
    assert set(EXERCISES) == set(SOLUTIONS)
    assert set(EXERCISES) <= set(LABS)
    for lab, (_, wrongs) in SOLUTIONS.items():
        assert len(wrongs) >= 3, lab
        assert len(exercise(lab).hints) >= 3


@pytest.mark.parametrize("lab", SOLUTIONS)
def test_another_right_solution_passes(lab: str) -> None:
    found = check(lab, exercise(lab), SOLUTIONS[lab][0])
    assert found.problem == ""
    assert found.tried == len(list(exercise(lab).cases())) >= 4


@pytest.mark.parametrize(("lab", "wrong"), WRONG)
def test_a_typical_wrong_solution_fails(lab: str, wrong: object) -> None:
    found = check(lab, exercise(lab), wrong)
    assert found.problem.startswith(exercise(lab).name)


@pytest.mark.parametrize("lab", EXERCISES)
def test_the_file_of_an_exercise_runs_and_is_not_right_yet(lab: str, tmp_path: Path) -> None:
    path = tmp_path / file_name(lab)
    path.write_text(template(lab), encoding="utf-8")
    found = check_file(path)
    assert (found.lab, found.tried) == (lab, 0)
    assert "not written yet" in found.problem
    assert all(len(line) <= 100 for line in template(lab).splitlines())


def completed(lab: str, body: str) -> str:
    return template(lab).replace("    raise NotImplementedError\n", body)


def test_from_file_to_hint_to_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lab", "softmax", "--exercise"]) == 0
    path = Path(file_name("softmax"))
    assert path.read_text(encoding="utf-8") == template("softmax")
    assert run(["lab", "softmax", "--exercise"]) == 2  # what is there stays
    path.write_text(
        completed("softmax", "    print('hello')\n    return z.exp() / z.exp().sum()\n")
    )
    capsys.readouterr()
    for number in (1, 2, 3, 3):
        assert run(["lab", "check", str(path)]) == 1
        page = capsys.readouterr().out
        assert f"Hint {number} of 3: {exercise('softmax').hints[number - 1]}" in page
        assert "hello" not in page
        assert page.startswith("Case 3, the smallest that fails:\nsoftmax([[")
    path.write_text(completed("softmax", "    return z.softmax(1)\n"))
    assert run(["lab", "check", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["right"] is True
    path.write_text(completed("softmax", "    return z\n"))
    assert run(["lab", "check", str(path)]) == 1  # hints begin again
    assert "Hint 1 of 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            completed("chain-rule", "    return 1 / 0\n"),
            "ZeroDivisionError: division by zero (line",
        ),
        (completed("chain-rule", "    return (\n"), "does not run: SyntaxError"),
        (completed("chain-rule", "    return 'two'\n"), "gave     two"),
        (completed("chain-rule", "    return [1.0, 2.0]\n"), "expected 2"),
    ],
)
def test_what_goes_wrong_is_said(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text, encoding="utf-8")
    assert said in check_file(path).problem


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n", "belongs to no exercise"),
        ("# Exercise of the lab nothing. \n", 'lab "nothing" has no exercise'),
        ("# Exercise of the lab softmax. \n", "holds no function softmax"),
    ],
)
def test_a_file_that_is_none(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=said):
        check_file(path)
    with pytest.raises(UserError, match="cannot be read"):
        check_file(tmp_path / "not-there.py")
