"""What a learner did so far: a file in the user's cache folder. Nothing leaves the machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pellucid.runs.disk import replace_file


@dataclass(frozen=True)
class Bin:
    """Answers that were given with about the same confidence.

    Args:
        confidence: their mean, 0 to 1.
        right: the share that was right.
        n: how many they are.
    """

    confidence: float
    right: float
    n: int


class Progress:
    """Answers to questions, and failures at exercises, kept in one JSON file.

    Args:
        path: of the file; it is made when there is something to keep. One that cannot be read is
            taken for an empty one, and written anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._facts: dict[str, Any] = {"format": 1, "answers": [], "failures": {}, "steps": []}
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            if facts["format"] == 1:
                self._facts |= facts
        except (OSError, ValueError, KeyError, TypeError):
            pass

    @property
    def answers(self) -> list[dict[str, Any]]:
        """All answers, oldest first: lab, question, right, confidence."""
        return list(self._facts["answers"])

    def answered(self, lab: str, question: str, right: bool, confidence: float) -> None:
        """Keep an answer."""
        fact = {"lab": lab, "question": question, "right": right, "confidence": confidence}
        self._facts["answers"].append(fact)
        self._save()

    def failures(self, lab: str) -> int:
        """Return how often the exercise of a lab has failed since it last passed."""
        return int(self._facts["failures"].get(lab, 0))

    def checked(self, lab: str, passed: bool) -> None:
        """Keep the outcome of a check."""
        self._facts["failures"][lab] = 0 if passed else self.failures(lab) + 1
        self._save()

    @property
    def steps(self) -> set[int]:
        """The steps of the learning path whose check has held."""
        return set(self._facts["steps"])

    def stepped(self, number: int) -> None:
        """Keep that the check of a step has held."""
        self._facts["steps"] = sorted(self.steps | {number})
        self._save()

    def calibration(self) -> list[Bin]:
        """Return how often the learner was right at each level of confidence."""
        return calibration([(a["confidence"], a["right"]) for a in self.answers])

    def _save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.path, json.dumps(self._facts, indent=1).encode())


def calibration(answers: Sequence[tuple[float, bool]], bins: int = 5) -> list[Bin]:
    """Return the share of right answers in `bins` equal steps of confidence; empty ones left out.

    >>> calibration([(0.9, True), (0.95, False), (0.5, True)])
    [Bin(confidence=0.5, right=1.0, n=1), Bin(confidence=0.925, right=0.5, n=2)]
    """
    groups: dict[int, list[tuple[float, bool]]] = {}
    for confidence, right in answers:
        groups.setdefault(min(int(confidence * bins), bins - 1), []).append((confidence, right))
    return [
        Bin(
            sum(confidence for confidence, _ in group) / len(group),
            sum(right for _, right in group) / len(group),
            len(group),
        )
        for _, group in sorted(groups.items())
    ]
