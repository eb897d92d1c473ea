"""Predict, then reveal: nothing is shown before an answer, and the answer is computed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from pellucid.cli.lab_learning import progress
from pellucid.cli.main import run
from pellucid.errors import UserError
from pellucid.labs.catalogue import LABS
from pellucid.labs.progress import Progress, calibration
from pellucid.labs.questions import QUESTIONS, Question
from pellucid.labs.quiz import judge, split

KNOWN = {
    "linear": "0.85", "activations": "0.25", "entropy": "1.4612", "softmax": "2",
    "logistic-regression": "1", "losses": "2.5", "distances": "0", "gradient": "2",
    "backprop-graph": "4", "chain-rule": "-8", "delta-rule": "-0.75", "optimizers": "1,2,3",
    "stability": "0.04", "basins": "2", "momentum": "10", "small-comparison": "2", "depth": "6",
    "fair-race": "1", "sgd-noise": "0.25", "optimizer-guide": "1", "schedule-guide": "0.5",
    "batch-size": "2", "capacity": "1", "regularization": "0", "augmentation": "1000",
    "early-stopping": "5",
}  # fmt: skip
"""The right answers, found by hand."""
ALL = [(lab, question) for lab, questions in QUESTIONS.items() for question in questions]


def test_every_question_has_an_answer_here() -> None:
    assert set(QUESTIONS) == set(KNOWN)
    assert set(QUESTIONS) <= set(LABS)


@pytest.mark.parametrize(("lab", "question"), ALL, ids=lambda value: getattr(value, "key", value))
def test_what_is_computed_is_what_was_found_by_hand(lab: str, question: Question) -> None:
    found = judge(question, KNOWN[lab])
    assert found.right, found.answer
    assert found.slip == ""


@pytest.mark.parametrize(("lab", "question"), ALL, ids=lambda value: getattr(value, "key", value))
def test_a_usual_mistake_is_wrong_and_named(lab: str, question: Question) -> None:
    for text, reason in question.slips.items():
        found = judge(question, text)
        assert not found.right, (lab, text)
        assert found.slip == reason


def test_a_number_has_a_tolerance_and_an_order_an_order() -> None:
    (question,) = QUESTIONS["activations"]
    assert judge(question, "0.2505").right
    assert not judge(question, "0.26").right
    (order,) = QUESTIONS["optimizers"]
    assert judge(order, "1 2 3").right
    assert not judge(order, "2,1,3").right


@pytest.mark.parametrize(
    ("lab", "text", "said"),
    [("linear", "much", "a number"), ("softmax", "3", "one of 1 to 2"),
     ("optimizers", "1,1,2", "in some order, such as 3,2,1"), ("softmax", "", "one of 1 to 2")],
)  # fmt: skip
def test_an_answer_that_cannot_be_read_reveals_nothing(lab: str, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        judge(QUESTIONS[lab][0], text)
    assert KNOWN[lab] not in str(caught.value).replace(f'"{text}"', "").replace("1 to 2", "")


@pytest.mark.parametrize("line", ["1 @ 120", "1 @ -5", "1 @ sure"])
def test_a_confidence_is_a_percentage(line: str) -> None:
    with pytest.raises(UserError, match="0 to 100"):
        split(line)


def test_a_quiz_without_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    Path("answers.txt").write_text("# my answers\n1 @ 90\n")
    assert run(["lab", "activations", "--quiz", "--answers", "answers.txt", "--out", "own"]) == 1
    page = capsys.readouterr().out
    assert page.index("largest slope") < page.index("No: 0.25.")
    assert "Your answer: that is tanh" in page
    assert "90 % sure: right   0 %, n = 1" in page
    assert Path("own/calibration.png").read_bytes().startswith(b"\x89PNG")
    Path("answers.txt").write_text("0.25 @ 60\n")
    assert run(["lab", "activations", "--quiz", "--answers", "answers.txt", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answers"][0]["answer"] == "0.25"
    assert [(a["right"], a["confidence"]) for a in progress().answers] == [
        (False, 0.9),
        (True, 0.6),
    ]


def test_no_answer_no_reveal(capsys: pytest.CaptureFixture[str]) -> None:
    Path("answers.txt").write_text("")
    assert run(["lab", "activations", "--quiz", "--answers", "answers.txt"]) == 2
    captured = capsys.readouterr()
    assert "0.25" not in captured.out
    assert "nothing is revealed" in captured.err
    assert progress().answers == []


def test_calibration_counts_in_steps_of_confidence() -> None:
    bins = calibration([(1.0, True), (0.85, False), (0.1, False), (0.0, True)])
    assert [(b.confidence, b.right, b.n) for b in bins] == [(0.05, 0.5, 2), (0.925, 0.5, 2)]
    assert calibration([]) == []


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"format": 2}'])
def test_a_damaged_file_of_progress_is_begun_anew(text: str, tmp_path: Path) -> None:
    path = tmp_path / "deep/progress.json"
    path.parent.mkdir()
    path.write_text(text)
    kept = Progress(path)
    assert kept.answers == []
    kept.answered("softmax", "sign", True, 0.5)
    assert len(Progress(path).answers) == 1


def test_the_figure_of_the_calibration() -> None:
    from pellucid.labs.drawing import sheet

    figure, axes = sheet("a sheet", 2, 3)
    assert isinstance(figure, Figure)
    assert len(axes) == 6
