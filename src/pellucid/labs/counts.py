"""Metrics from counts: accuracy, precision, recall, F1, top-k, for two classes and for many."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor

from pellucid.labs.options import lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, at_least, equals, is_true
from pellucid.metrics.confusion import averages, class_scores, confusion
from pellucid.seeds import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CATS = torch.tensor([[50, 3, 2], [10, 30, 0], [1, 1, 3]])
"""Rows: true cat, dog, bird; columns: what was said."""
NAMES = ("cat", "dog", "bird")


@lab
def run(
    *,
    tp: Annotated[int, ranged("ill, and found", 0, 100_000)] = 90,
    fn: Annotated[int, ranged("ill, and missed", 0, 100_000)] = 10,
    fp: Annotated[int, ranged("healthy, and alarmed", 0, 100_000)] = 10,
    tn: Annotated[int, ranged("healthy, and left in peace", 0, 100_000)] = 890,
) -> LabResult:
    """Compute all from four counts, then from a matrix."""
    found = scores(tp, fn, fp, tn)
    n = tp + fn + fp + tn
    text = f"""
        A test with two answers has four counts: {tp} ill and found (TP), {fn} ill and missed (FN),
        {fp} healthy and alarmed (FP), {tn} healthy and left in peace (TN).

            accuracy  = (TP + TN) / all      = {_of(tp + tn, n)}
            precision = TP / (TP + FP)       = {_of(tp, tp + fp)}   alarms that are right
            recall    = TP / (TP + FN)       = {_of(tp, tp + fn)}   ill that are found
            F1        = 2 TP / (2 TP + FP + FN) = {_of(2 * tp, 2 * tp + fp + fn)}

        F1 is the harmonic mean of precision and recall: near the lower one. Who always says
        "healthy" has an accuracy of {_of(fp + tn, n)} here, and a recall of 0.

        With many classes each one is such a test against the rest. A matrix holds the counts: rows
        are true, columns predicted. Accuracy is its diagonal over its sum: 83 of 100 below. It is
        not (TP + TN) / all of a class: a guess among ten classes has 82 % by that, and 10 % in
        truth. By row, shares are recall, by column precision. Macro-F1 is the plain mean over the
        classes, so a rare one counts as much; micro-F1 is accuracy again.

        Top-k asks whether the truth is among the k highest scores; it grows with k up to 1.
    """
    rows = [
        (s.name, s.support, _percent(s.precision), _percent(s.recall), _percent(s.f1))
        for s in class_scores(CATS, NAMES)
    ]
    head = ("class", "images", "precision", "recall", "F1")
    claims = [
        *_fixed(), *_two(tp, fn, fp, tn, found), *_many(), *_guess(), *_top(),
    ]  # fmt: skip
    return LabResult(
        text, claims, partial(_draw, tp, fn, fp, tn),
        [Table(head, rows, "The matrix in the picture, class by class")], {"scores": found},
    )  # fmt: skip


def scores(tp: int, fn: int, fp: int, tn: int) -> dict[str, float | None]:
    """Return the four numbers; None where nothing is there to divide by."""
    return {
        "accuracy": _share(tp + tn, tp + fn + fp + tn),
        "precision": _share(tp, tp + fp),
        "recall": _share(tp, tp + fn),
        "f1": _share(2 * tp, 2 * tp + fp + fn),
    }


def matrix_of(targets: Tensor, said: Tensor, classes: int) -> Tensor:
    """Return the confusion matrix, rows true and columns predicted, by a loop."""
    found = torch.zeros(classes, classes, dtype=torch.int64)
    for row, column in zip(targets.tolist(), said.tolist(), strict=True):
        found[row, column] += 1
    return found


def top(logits: Tensor, targets: Tensor, k: int) -> float:
    """Return the share of images whose class is among the k highest scores."""
    best = logits.topk(k, 1).indices
    return float((best == targets[:, None]).any(1).double().mean())


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _of(part: int, whole: int) -> str:
    value = _share(part, whole)
    return f"{part} / {whole} = {'undefined' if value is None else f'{value:.4f}'}"


def _percent(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:.2f} %"


def _fixed() -> list[Claim]:
    found = scores(90, 10, 10, 890)
    return [
        equals("90 of 100 alarms right: precision", found["precision"] or 0, 0.9, 1e-12),
        equals("90 of 100 ill found: recall", found["recall"] or 0, 0.9, 1e-12),
        equals("F1 of 0.9 and 0.9", found["f1"] or 0, 0.9, 1e-12),
        equals("accuracy, 980 of 1,000", found["accuracy"] or 0, 0.98, 1e-12),
        equals("Precision 1, recall 0.1: F1, nearer to the lower",
               scores(10, 90, 0, 0)["f1"] or 0, 0.181818, 1e-6),
    ]  # fmt: skip


def _two(tp: int, fn: int, fp: int, tn: int, found: dict[str, float | None]) -> list[Claim]:
    precision, recall, f1 = found["precision"], found["recall"], found["f1"]
    claims = []
    if precision and recall and f1:
        claims.append(equals("F1 is the harmonic mean of precision and recall", f1,
                             2 / (1 / precision + 1 / recall), 1e-12))  # fmt: skip
    if tp + fn and tn + fp and tp + fp:
        mine = class_scores(torch.tensor([[tn, fp], [fn, tp]]), ("healthy", "ill"))[1]
        claims += [
            equals("The scores of a report say the same precision", mine.precision or 0,
                   precision or 0, 1e-12, "T8.2"),
            equals("and the same recall", mine.recall or 0, recall or 0, 1e-12, "T8.2"),
        ]  # fmt: skip
    return claims


def _many() -> list[Claim]:
    targets = torch.arange(3).repeat_interleave(3).repeat_interleave(CATS.flatten())
    said = torch.arange(3).repeat(3).repeat_interleave(CATS.flatten())
    built = matrix_of(targets, said, 3)
    recalls = CATS.diag() / CATS.sum(1)
    by_class = {a.name: a for a in averages(CATS)}
    f1 = (2 * CATS.diag() / (CATS.sum(0) + CATS.sum(1))).double().mean()
    return [
        agrees("The loop counts as our reports do: rows true, columns predicted", built,
               confusion(targets, said, 3), 0, "T8.1"),
        equals("Accuracy is diagonal over sum: 83 of 100", float(CATS.diag().sum() / CATS.sum()),
               0.83, 1e-6, "T8.15"),
        equals("Recall by row: dog", recalls[1], 0.75, 1e-6, "T8.2"),
        equals("Precision by column: dog", CATS[1, 1] / CATS[:, 1].sum(), 30 / 34, 1e-6, "T8.2"),
        equals("dog said cat 10 times, cat said dog", CATS[0, 1].double(), 3, 0, "T8.3"),
        equals("Macro-F1 as in our reports", by_class["macro"].f1 or 0, f1, 1e-6),
        at_least("Accuracy hides the worst class: accuracy less its recall",
                 0.83 - float(recalls.min()), 0.2, "T8.14"),
    ]  # fmt: skip


def _guess() -> list[Claim]:
    """Return what one against the rest makes of a guess among ten classes."""
    matrix = torch.full((10, 10), 10)
    n = float(matrix.sum())
    tp, fp, fn = matrix.diag(), matrix.sum(0) - matrix.diag(), matrix.sum(1) - matrix.diag()
    rest = ((n - fp - fn) / n).mean()
    micro = 2 * tp.sum() / (2 * tp.sum() + fp.sum() + fn.sum())
    return [
        equals("A guess among ten: (TP + TN) / all, class by class", rest, 0.82, 1e-6, "T8.15"),
        equals("its accuracy", tp.sum() / n, 0.1, 1e-6, "T8.15"),
        equals("its micro-F1, the same", micro, 0.1, 1e-6, "T8.5"),
    ]  # fmt: skip


def _top() -> list[Claim]:
    draws = generator(0, "lab")
    logits = torch.randn(500, 10, generator=draws, dtype=torch.float64)
    targets = torch.randint(10, (500,), generator=draws)
    logits[torch.arange(500), targets] += 1
    ranks = (logits > logits.gather(1, targets[:, None])).sum(1)
    by_k = [top(logits, targets, k) for k in range(1, 11)]
    return [
        is_true("Top-k: as many as have fewer than k scores above the truth",
                by_k == [float((ranks < k).double().mean()) for k in range(1, 11)]),
        is_true("it never falls with k", by_k == sorted(by_k)),
        equals("among all ten everything is right", by_k[-1], 1, 0),
        equals("top-1 is accuracy", by_k[0], (logits.argmax(1) == targets).double().mean(), 1e-12,
               "T8.13"),
    ]  # fmt: skip


def _draw(tp: int, fn: int, fp: int, tn: int) -> Figure:
    from pellucid.labs.drawing import COLOURS, finish, sheet

    figure, (two, many, bars) = sheet("Metrics from counts", 3, size=(13, 4.4))
    four = torch.tensor([[tp, fn], [fp, tn]])
    for axis, values, names, title in (
        (two, four, ("ill", "healthy"), "two classes"), (many, CATS, NAMES, "three classes"),
    ):  # fmt: skip
        shares = values / values.sum(1, keepdim=True).clamp(min=1)
        axis.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1.4)
        for i, row in enumerate(values.tolist()):
            for j, value in enumerate(row):
                axis.text(j, i, f"{value}\n{float(shares[i, j]):.1%} of row", ha="center",
                          va="center", fontsize=9)  # fmt: skip
        axis.set(title=title, xlabel="predicted", ylabel="true", xticks=range(len(names)),
                 yticks=range(len(names)), xticklabels=names, yticklabels=names)  # fmt: skip
    found = class_scores(CATS, NAMES)
    for place, (name, hatch) in enumerate((("precision", ""), ("recall", "//"), ("f1", ".."))):
        heights = [getattr(score, name) or 0 for score in found]
        bars.bar([k + 0.27 * (place - 1) for k in range(3)], heights, 0.25, label=name,
                 color=COLOURS[place], hatch=hatch)  # fmt: skip
    bars.axhline(0.83, color="black", linestyle="--", label="accuracy")
    bars.set(xticks=range(3), xticklabels=NAMES, ylim=(0, 1.25))
    finish(bars, "three classes, each against the rest", "", "share", legend=True)
    return figure
