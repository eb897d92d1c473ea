"""The diagnosis of a training run in plain words, during it and after.

Rules look at the rows of `metrics.jsonl` and at a few facts; none of them trains or predicts. What
is seen directly is asked first; what only curves show comes after it, knowing the causes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pellucid.checks import diagnosis_before, diagnosis_curves, diagnosis_signs
from pellucid.checks.diagnosis_facts import Course
from pellucid.checks.diagnosis_facts import Facts as Facts
from pellucid.checks.diagnosis_facts import Finding as Finding

Row = dict[str, Any]


def diagnose(rows: Sequence[Row], facts: Facts, diverged: int | None = None) -> list[Finding]:
    """Return what is noticed about a run: warnings first, then notes.

    Args:
        rows: of `metrics.jsonl` so far, of kinds `step`, `evaluation` and `vitals`.
        facts: of the recipe and its data.
        diverged: the step whose loss was no finite number, if that ended the run.

    >>> facts = Facts(classes=("cat", "dog"), train=(900, 30), validation=(90, 3), lr=0.1,
    ...               batch_size=32, steps=100, steps_per_epoch=30)
    >>> [finding.name for finding in diagnose([], facts)]
    ['imbalance']
    """
    course = Course(rows, diverged)
    found: list[Finding] = []
    for rule in (*diagnosis_before.RULES, *diagnosis_signs.RULES):
        finding = rule(course, facts)
        if finding:
            found.append(finding)
    for judge in diagnosis_curves.RULES:
        finding = judge(course, facts, {f.name for f in found if f.severity == "warning"})
        if finding:
            found.append(finding)
    return sorted(found, key=lambda finding: finding.severity != "warning")


class News:
    """Tells each finding once; again only if a note has become a warning."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def __call__(self, findings: Sequence[Finding]) -> list[Finding]:
        """Return those of `findings` that are new."""
        new = [f for f in findings if not {(f.name, f.severity), (f.name, "warning")} & self._told]
        self._told |= {(f.name, f.severity) for f in new}
        return new
