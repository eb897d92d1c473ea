"""What `pellucid lab NAME --quiz`, `--exercise`, `--notebook` and `lab check` do."""

from __future__ import annotations

import json as json_text
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pellucid.data.cache import cache_folder
from pellucid.errors import UserError
from pellucid.labs.catalogue import find
from pellucid.labs.progress import Bin, Progress
from pellucid.runs.disk import replace_file

if TYPE_CHECKING:
    from pellucid.labs.questions import Question


def progress() -> Progress:
    """Return the learner's file."""
    return Progress(cache_folder() / "labs" / "progress.json")


def quiz(name: str, answers: Path | None, out: Path | None, json: bool) -> int:
    """Ask, then reveal; return 1 if an answer was wrong."""
    from pellucid.labs.questions import QUESTIONS
    from pellucid.labs.quiz import judge, split

    entry = find(name)
    questions = QUESTIONS.get(name, ())
    if not questions:
        raise UserError(f"The lab {name} has no questions. Labs that have: {', '.join(QUESTIONS)}.")
    kept, facts, lines = progress(), [], _lines(answers)
    say = sys.stderr if json else sys.stdout
    for question in questions:
        print(_asked(question), file=say)
        text, confidence = split(_next(lines, question))
        judged = judge(question, text)
        kept.answered(name, question.key, judged.right, confidence)
        facts.append({"question": question.key, "given": text, "confidence": confidence,
                      "right": judged.right, "answer": judged.answer})  # fmt: skip
        word = "Right" if judged.right else "No"
        slip = f" Your answer: {judged.slip}." if judged.slip else ""
        print(f"{word}: {judged.answer}. {question.why}{slip}\n", file=say)
    if json:
        print(json_text.dumps({"name": name, "answers": facts}))
    else:
        print(f"The whole of it: pellucid lab {entry.name}\n\n{_own(kept.calibration())}")
        if out is not None:
            print(_draw(kept.calibration(), out))
    return 0 if all(fact["right"] for fact in facts) else 1


def _lines(answers: Path | None) -> Iterator[str] | None:
    if answers is None:
        return None
    try:
        text = answers.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{answers} cannot be read: {error.strerror}.") from None
    return iter([line for line in text.splitlines() if line.strip() and not line.startswith("#")])


def _next(lines: Iterator[str] | None, question: Question) -> str:
    """Return the next answer, of the file or of the person."""
    if lines is None:
        print('Your answer, and how sure you are in percent, as in "0.25 @ 80": ', file=sys.stderr)
        line = sys.stdin.readline()
    else:
        line = next(lines, "")
    if not line.strip():
        raise UserError(f"There is no answer to the question {question.key}; nothing is revealed.")
    return line


def _asked(question: Question) -> str:
    choices = "".join(f"\n  {i}. {choice}" for i, choice in enumerate(question.choices, 1))
    return question.text + choices


def _own(bins: list[Bin]) -> str:
    rows = [f"  {100 * b.confidence:5.0f} % sure: right {100 * b.right:3.0f} %, n = {b.n}"
            for b in bins]  # fmt: skip
    return "Your own calibration so far:\n" + "\n".join(rows)


def _draw(bins: list[Bin], out: Path) -> str:
    from pellucid.labs.drawing import BLUE, finish, sheet
    from pellucid.labs.page import picture

    figure, (axis,) = sheet("Your own calibration", size=(5, 5))
    axis.plot([0, 1], [0, 1], color="#999999", linestyle="--", label="as sure as right")
    axis.plot([b.confidence for b in bins], [b.right for b in bins], color=BLUE, marker="o")
    for b in bins:
        axis.annotate(f"n = {b.n}", (b.confidence, b.right), (6, -12), textcoords="offset points")
    axis.set(xlim=(-0.03, 1.08), ylim=(-0.08, 1.05))
    finish(axis, f"{sum(b.n for b in bins)} answers", "how sure you were", "how often right", True)
    out.mkdir(parents=True, exist_ok=True)
    replace_file(out / "calibration.png", picture(figure))
    return str(out / "calibration.png")


def write_exercise(name: str, out: Path | None, json: bool) -> int:
    """Write the file of an exercise; one that is there is left alone."""
    from pellucid.labs.checking import file_name, template

    find(name)
    text = template(name)
    path = (out or Path()) / file_name(name)
    if path.exists():
        raise UserError(f"{path} is there already. Remove it, or choose a folder with --out DIR.")
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text.encode())
    line = f"{path}\nComplete the function, then: pellucid lab check {path}"
    print(json_text.dumps({"name": name, "file": str(path)}) if json else line)
    return 0


def write_notebook(name: str, words: list[str], out: Path | None, json: bool) -> int:
    """Write a lab as a notebook."""
    from pellucid.labs.notebook import notebook
    from pellucid.labs.options import from_words, read

    entry = find(name)
    given = from_words(words)
    values = {k: v for k, v in read(entry.load().run, given).items() if k in given}
    path = (out or Path()) / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, notebook(entry, values).encode())
    print(json_text.dumps({"name": name, "file": str(path)}) if json else path)
    return 0


def check(file: Path, json: bool) -> int:
    """Try the learner's function; return 1 if a case fails."""
    from pellucid.labs.checking import check_file
    from pellucid.labs.exercises import exercise

    found = check_file(file)
    kept = progress()
    hints = exercise(found.lab).hints
    number = min(kept.failures(found.lab), len(hints) - 1)
    if found.tried:  # what has not been tried earns no hint
        kept.checked(found.lab, not found.problem)
    hint = hints[number] if found.problem and found.tried else ""
    if json:
        print(json_text.dumps({"lab": found.lab, "tried": found.tried, "right": not found.problem,
                               "problem": found.problem, "hint": hint}))  # fmt: skip
    elif found.problem:
        place = f"Case {found.tried}, the smallest that fails:\n" if found.tried else ""
        end = f"\n\nHint {number + 1} of {len(hints)}: {hint}" if hint else ""
        print(f"{place}{found.problem}{end}")
    else:
        print(f"Right: {found.tried} cases, from small to nasty. More on it: "
              f"pellucid lab {found.lab}")  # fmt: skip
    return 1 if found.problem else 0
