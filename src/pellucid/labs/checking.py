"""The file of an exercise: written for the learner, then read back and tried.

A learner's file runs as the learner's own program, with all that it may do: this is no sandbox.
Check only files that you wrote, or have read.
"""

from __future__ import annotations

import io
import re
import runpy
import textwrap
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pellucid.errors import UserError
from pellucid.labs.exercise import Case, Exercise
from pellucid.labs.exercises import exercise

MARK = re.compile(r"^# Exercise of the lab ([a-z0-9-]+)\.", re.MULTILINE)
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Outcome:
    """What a check found.

    Args:
        lab: that the exercise belongs to.
        tried: cases up to the first that failed, or all; 0 if there was nothing to try.
        problem: the smallest case that fails, in words; empty if none does.
    """

    lab: str
    tried: int
    problem: str = ""


def template(lab: str) -> str:
    """Return the file that a learner completes."""
    task = exercise(lab)
    words = "\n".join(f"    {line}" for line in textwrap.wrap(task.task, 90))
    return (
        f"# Exercise of the lab {lab}. Complete the function; numbers are float64 tensors.\n"
        f"# Then: pellucid lab check {file_name(lab)}\n\nimport math\n\nimport torch\n\n\n"
        f'def {task.function}:\n    """\n{words}\n    """\n    raise NotImplementedError\n'
    )


def file_name(lab: str) -> str:
    """Return the name of the file of an exercise."""
    return f"{lab.replace('-', '_')}_exercise.py"


def check_file(path: Path) -> Outcome:
    """Run the learner's file, and try its function on the cases of the exercise.

    Raises:
        UserError: if the file is not there, belongs to no exercise, or holds no such function.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    match = MARK.search(text)
    if not match:
        raise UserError(
            f"{path} belongs to no exercise: its first line names none. "
            "Write one with: pellucid lab NAME --exercise"
        )
    task = exercise(match.group(1))
    try:
        with redirect_stdout(io.StringIO()):  # standard output is ours
            names = runpy.run_path(str(path))
    except Exception as error:
        return Outcome(match.group(1), 0, f"The file does not run: {_said(error)}")
    function = names.get(task.name)
    if not callable(function):
        raise UserError(f"{path} holds no function {task.name}. It must be def {task.function}.")
    return check(match.group(1), task, function)


def check(lab: str, task: Exercise, function: Callable[..., Any]) -> Outcome:
    """Try a function on the cases of an exercise, and stop at the first that fails."""
    tried = 0
    for case in task.cases():
        tried += 1
        try:
            problem = _try(task, function, case)
        except NotImplementedError:
            return Outcome(lab, 0, f"{task.name} is not written yet.")
        if problem:
            return Outcome(lab, tried, problem)
    return Outcome(lab, tried)


def _try(task: Exercise, function: Callable[..., Any], case: Case) -> str:
    """Return what is wrong with the answer to one case, or nothing."""
    given = [part.clone() if isinstance(part, Tensor) else part for part in case]
    call = f"{task.name}({', '.join(map(_shown, case))})"
    expected = task.right(*case)
    try:
        with redirect_stdout(io.StringIO()):
            answer = function(*given)
    except NotImplementedError:
        raise
    except Exception as error:
        return f"{call}\nraised {_said(error)}\nexpected {_shown(expected)}"
    if any(
        isinstance(old, Tensor) and not torch.equal(old, new)
        for old, new in zip(case, given, strict=True)
    ):
        return f"{call}\nchanged its own arguments; make new tensors instead."
    if _same(answer, expected):
        return ""
    return f"{call}\ngave     {_shown(answer)}\nexpected {_shown(expected)}"


def _same(answer: Any, expected: Any) -> bool:
    """Compare numbers up to a relative tolerance, whatever they are kept in."""
    if isinstance(expected, dict):
        return (
            isinstance(answer, dict)
            and answer.keys() == expected.keys()
            and all(_same(answer[key], expected[key]) for key in expected)
        )
    if isinstance(expected, tuple):
        return (
            isinstance(answer, tuple | list)
            and len(answer) == len(expected)
            and all(_same(a, e) for a, e in zip(answer, expected, strict=True))
        )
    try:
        ours = torch.as_tensor(answer, dtype=torch.float64).detach()
    except (TypeError, ValueError, RuntimeError):
        return False
    right = torch.as_tensor(expected, dtype=torch.float64)
    return ours.shape == right.shape and torch.allclose(ours, right, TOLERANCE, TOLERANCE)


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return str(_rounded(value.detach().tolist()))
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))})"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "f" if callable(value) else str(value)


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _said(error: Exception) -> str:
    line = error.__traceback__
    number = 0
    while line is not None:
        number, line = line.tb_lineno, line.tb_next
    return f"{type(error).__name__}: {error} (line {number})"
