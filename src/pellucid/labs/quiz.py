"""Judging a prediction: no answer is revealed before one was given."""

from __future__ import annotations

from dataclasses import dataclass

from pellucid.errors import UserError
from pellucid.labs.questions import Answer, Question


@dataclass(frozen=True)
class Judged:
    """A prediction beside the answer.

    Args:
        right: whether it was.
        answer: as it is shown.
        slip: the likely mistake behind a wrong one; empty if none is known.
    """

    right: bool
    answer: str
    slip: str


def split(line: str) -> tuple[str, float]:
    """Return an answer and the confidence behind it, 0 to 1; without one, 1.

    >>> split("0.25 @ 80"), split("2,1,3")
    (('0.25', 0.8), ('2,1,3', 1.0))

    Raises:
        UserError: if the confidence is no percentage.
    """
    answer, at, percent = line.partition("@")
    try:
        confidence = float(percent.strip().rstrip("%")) / 100 if at else 1.0
    except ValueError:
        confidence = -1.0
    if not 0 <= confidence <= 1:
        raise UserError(f'A confidence is 0 to 100, as in "0.25 @ 80". Got "{line.strip()}".')
    return answer.strip(), confidence


def read(question: Question, text: str) -> Answer:
    """Return a prediction as the question wants it.

    Raises:
        UserError: if it cannot be read; the message says how it is written.
    """
    count = len(question.choices)
    try:
        if question.kind == "number":
            return float(text)
        places = tuple(int(part) - 1 for part in text.replace(",", " ").split())
    except ValueError:
        places = ()
    if question.kind == "choice" and len(places) == 1 and 0 <= places[0] < count:
        return places
    if question.kind == "order" and sorted(places) == list(range(count)):
        return places
    wanted = {
        "number": "a number",
        "choice": f"one of 1 to {count}",
        "order": f"the numbers 1 to {count} in some order, such as "
        + ",".join(str(i) for i in range(count, 0, -1)),
    }[question.kind]
    raise UserError(f'The answer must be {wanted}. Got "{text}".')


def judge(question: Question, text: str) -> Judged:
    """Compare a prediction with the answer, which is computed now.

    Raises:
        UserError: if there is no prediction that can be read.
    """
    given = read(question, text)
    answer = question.reveal()
    if isinstance(answer, tuple):
        right, shown = given == answer, ", ".join(question.choices[i] for i in answer)
    else:
        assert isinstance(given, float)
        right, shown = abs(given - answer) <= question.tolerance, f"{answer:.5g}"
    return Judged(right, shown, "" if right else _slip(question, given))


def _slip(question: Question, given: Answer) -> str:
    for text, reason in question.slips.items():
        other = read(question, text)
        near = isinstance(given, float) and isinstance(other, float) and (
            abs(given - other) <= max(question.tolerance, 1e-3 * abs(other))
        )  # fmt: skip
        if near or given == other:
            return reason
    return ""
