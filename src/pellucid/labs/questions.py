"""Questions to answer before a lab shows: the answers are computed when they are revealed.

A wrong answer that people often give has its reason beside it.
"""

from __future__ import annotations

from pellucid.labs.question import Answer as Answer
from pellucid.labs.question import Question as Question
from pellucid.labs.questions_early import EARLY
from pellucid.labs.questions_late import LATE

QUESTIONS: dict[str, tuple[Question, ...]] = {**EARLY, **LATE}
"""By lab."""
