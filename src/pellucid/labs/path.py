"""The learning path: six steps on real digits, each one command, one new thing, and a check."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pellucid.labs.result import Claim, at_least, at_most, equals, is_true

if TYPE_CHECKING:
    from pellucid.runs.folder import Run

TRAIN = ("train", "digits", "--recipe", "notes", "--quiet")


@dataclass(frozen=True)
class LearningStep:
    """One step of the path.

    Args:
        title: the one new thing.
        words: of the command.
        look: what to look at in what it leaves.
        labs: where the theory is.
        check: proves the point on the run that the command left.
    """

    title: str
    words: tuple[str, ...]
    look: str
    labs: tuple[str, ...]
    check: Callable[[Run], list[Claim]]

    @property
    def command(self) -> str:
        """The command as it is typed."""
        return " ".join(("pellucid", *self.words))


def _loop(run: Run) -> list[Claim]:
    losses = [row["loss"] for row in run.rows("metrics.jsonl") if row["kind"] == "step"]
    return [
        equals("A network that knows nothing begins near ln 10", losses[0], math.log(10), 0.5,
               "T5.3"),
        at_most("and 36 updates later its loss is below half of that", losses[-1],
                math.log(10) / 2),
    ]  # fmt: skip


def _validation(run: Run) -> list[Claim]:
    judged = [row for row in run.rows("metrics.jsonl") if row["kind"] == "evaluation"]
    gaps = [row["train"]["accuracy"] - row["validation"]["accuracy"] for row in judged]
    apart = max(abs(gap - row["gap"]) for gap, row in zip(gaps, judged, strict=True))
    return [
        equals("Three epochs were judged three times", len(judged), 3, 0),
        equals("each on 500 images that no update saw", judged[-1]["validation"]["n"], 500, 0),
        at_most("The gap is training minus validation accuracy", apart, 1e-12, "T2.14"),
    ]


def _checkpoints(run: Run) -> list[Claim]:
    from pellucid.inference import load

    judged = [row for row in run.rows("metrics.jsonl") if row["kind"] == "evaluation"]
    best = max(judged, key=lambda row: row["validation"]["accuracy"])
    summary = run.summary()
    again = run.read_json("evaluation/validation.json")
    assert summary is not None
    assert again is not None
    counts = sum(p.numel() for p in load(run.path).network.parameters())
    return [
        equals("The model that was loaded again has all its weights", counts, 421_642, 0),
        equals("and judges as it did when it was saved", again["correct"] / again["n"],
               summary["best"]["accuracy"], 1e-12, "T2.6"),
        equals("The best is the one with the highest validation accuracy",
               summary["best"]["accuracy"], best["validation"]["accuracy"], 1e-12),
    ]  # fmt: skip


def _schedule(run: Run) -> list[Claim]:
    rates = [
        row["lr"] for row in run.rows("metrics.jsonl") if row["kind"] in ("step", "evaluation")
    ]
    return [
        is_true("With a cosine the rate never rises", rates == sorted(rates, reverse=True)),
        at_most("and ends near 0", rates[-1], rates[0] / 20),
    ]


def _augmentation(run: Run) -> list[Claim]:
    judged = [row for row in run.rows("metrics.jsonl") if row["kind"] == "evaluation"]
    return [
        equals("The epoch is as long as before: 36 batches of 128", judged[0]["step"], 36, 0,
               "T1.6"),
        at_least("Shifted images are harder: loss while training over that on plain ones",
                 judged[-1]["running_loss"] / judged[-1]["train"]["loss"], 1, "T2.4"),
    ]  # fmt: skip


def _evaluation(run: Run) -> list[Claim]:
    summary = run.summary()
    assert summary is not None
    test = summary["test"]
    low, high = test["interval"]
    return [
        equals("1,000 images were kept for the end", test["n"], 1000, 0),
        equals("Accuracy is right over seen", test["accuracy"], test["correct"] / test["n"], 1e-12,
               "T2.3"),
        is_true("and it has an interval around it", low < test["accuracy"] < high, "T8.9"),
        at_least("Each opening of the test part is written down", len(run.rows("openings.jsonl")),
                 1, "T1.4"),
    ]  # fmt: skip


STEPS: tuple[LearningStep, ...] = (
    LearningStep(
        "The loop: forward, loss, backward, step",
        (*TRAIN, "--epochs", "1", "--record.every", "5"),
        "figures/curves.png in the run folder: the loss falls. The loop itself: pellucid show loop",
        ("gradient", "chain-rule", "backprop-graph"), _loop,
    ),
    LearningStep(
        "Validation: images that no update sees",
        (*TRAIN, "--epochs", "3"),
        "metrics.csv: train and validation side by side, and the gap between them",
        ("softmax", "entropy"), _validation,
    ),
    LearningStep(
        "Checkpoints: the best epoch is kept, and judged again",
        ("evaluate", "latest"),
        "checkpoints/ in the run folder; the accuracy is that of the best epoch",
        ("delta-rule",), _checkpoints,
    ),
    LearningStep(
        "Schedules: the learning rate falls",
        (*TRAIN, "--epochs", "3", "--schedule.name", "cosine"),
        "the third curve of figures/curves.png",
        ("optimizers", "momentum", "stability"), _schedule,
    ),
    LearningStep(
        "Augmentation: another view of each image in each epoch",
        (*TRAIN, "--epochs", "3", "--augment.crop", "on"),
        "pellucid data preview digits --augment.crop on shows the views",
        ("depth", "activations"), _augmentation,
    ),
    LearningStep(
        "Evaluation: the test part, opened once at the end",
        ("report", "latest"),
        "report.html: per class, confusion matrix, wrong answers",
        ("logistic-regression", "losses"), _evaluation,
    ),
)  # fmt: skip
"""In order. Steps 3 and 6 look at the run of the step before."""

NEXT = (
    ("regularisation: weight decay, dropout, early stopping", "pellucid recipes show good digits"),
    ("gradient clipping and accumulation", "pellucid train --accumulate 4 --max-grad-norm 1"),
    ("lower precision", "pellucid train --precision bf16"),
    ("several processes", "pellucid train --help"),
    ("pretrained networks", "pellucid models list"),
    ("your own images", "pellucid data show FOLDER"),
)
"""What comes after the path."""
