"""All numbers on a table of predictions, against scikit-learn, torchmetrics and plain loops."""

from __future__ import annotations

import functools
import json
import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from sklearn import metrics as oracle
from torch import Tensor

from pellucid.errors import BadData
from pellucid.metrics import answers as answers_module
from pellucid.metrics.answers import answers
from pellucid.metrics.calibration import equal_mass, equal_width, fit_temperature
from pellucid.metrics.confidence import coverage, spread
from pellucid.metrics.confusion import by_column, by_row, confused_pairs, confusion
from pellucid.metrics.intervals import matrix_intervals, mean_interval
from pellucid.metrics.judgement import Judgement, Temperature, judge
from pellucid.metrics.mistakes import mistakes
from pellucid.metrics.ranked import ranked
from pellucid.values import Predictions
from tests.augment.twin import KEPT

assert KEPT is None or KEPT  # torchvision, which torchmetrics loads, now loads everywhere
from torchmetrics.functional import classification as torchmetrics  # noqa: E402

CASES = 1000


def case(seed: int) -> Predictions:
    """One of many tables: with classes that are empty, with one class, with ties, of any size."""
    draws = torch.Generator().manual_seed(seed)

    def whole(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=draws))

    n, classes = whole(1, 60), whole(1, 8)
    known = whole(1, classes)  # the others have no images
    logits = whole(1, 6) * torch.randn(n, classes, generator=draws)
    if seed % 4 == 0:
        logits = logits.round()  # ties
    if seed % 5 == 0:
        logits[:, whole(0, classes - 1)] -= 15  # a class that is hardly ever predicted
    targets = torch.randint(known, (n,), generator=draws)
    names = tuple(f"class {i}" for i in range(classes))
    return Predictions(logits, targets, torch.arange(n), names)


@functools.cache
def judged(seed: int) -> tuple[Predictions, Judgement]:
    table = case(seed)
    return table, judge(table)


def cases() -> Iterator[tuple[int, Predictions, Judgement]]:
    for seed in range(CASES):
        yield seed, *judged(seed)


def known(value: float | None) -> float:
    return math.nan if value is None else value


def same(ours: float | None, theirs: Any) -> bool:
    return known(ours) == pytest.approx(float(theirs), abs=1e-9, nan_ok=True)


def test_scores_of_classes_and_averages_are_scikit_learns() -> None:
    """1,000 tables; undefined is nan there, None here, and never 0."""
    undefined = 0
    for seed, table, found in cases():
        y, said = table.targets.numpy(), table.logits.argmax(1).numpy()
        labels = list(range(len(table.classes)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of classes without images
            expected = oracle.balanced_accuracy_score(y, said)
            matrix = oracle.confusion_matrix(y, said, labels=labels)
        assert same(found.balanced_accuracy.value, expected)
        assert found.matrix.tolist() == matrix.tolist()
        assert found.accuracy.value == oracle.accuracy_score(y, said)
        for average in (None, "micro", "macro", "weighted"):
            theirs = oracle.precision_recall_fscore_support(
                y, said, labels=labels, average=average, zero_division=np.nan
            )
            if average is None:
                for i, score in enumerate(found.per_class):
                    mine = score.precision, score.recall, score.f1
                    undefined += mine.count(None)
                    assert all(same(a, b[i]) for a, b in zip(mine, theirs, strict=False)), seed
                    assert score.support == theirs[3][i]
            else:
                row = next(a for a in found.averages if a.name == average)
                mine = row.precision, row.recall, row.f1
                if average == "weighted" and row.precision is None:  # no class with images is ever
                    mine, theirs = mine[1:], theirs[1:]  # predicted; theirs falls back to a mean
                assert all(same(a, b) for a, b in zip(mine, theirs, strict=False)), (seed, average)
    assert undefined > 100


def test_losses_and_ranks_are_those_of_scikit_learn_and_of_a_loop() -> None:
    for seed, table, found in cases():
        shares = table.logits.double().softmax(1).numpy()
        y, classes = table.targets.numpy(), len(table.classes)
        assert same(found.loss.value, F.cross_entropy(table.logits.double(), table.targets))
        if classes > 1 and shares.min() > 1e-14:  # it cuts smaller ones off
            assert same(found.loss.value, oracle.log_loss(y, shares, labels=range(classes)))
        squares = ((shares - np.eye(classes)[y]) ** 2).sum(1).mean()
        assert same(found.calibration.brier.value, squares)
        assert [top.k for top in found.top] == [k for k in (1, 3, 5) if k < classes]
        if seed % 4 and seed % 3:
            continue
        rows = table.logits.tolist()
        order = [sorted(range(classes), key=lambda i: (-row[i], i)) for row in rows]
        for top in found.top:
            hits = sum(t in places[: top.k] for t, places in zip(y, order, strict=True))
            assert top.correct == hits
            if seed % 4 and classes > 2:  # without ties there is only one answer
                theirs = oracle.top_k_accuracy_score(y, shares, k=top.k, labels=range(classes))
                assert same(top.accuracy, theirs)


def test_a_sample_of_the_numbers_is_torchmetrics() -> None:
    compared = 0
    for seed, table, found in cases():
        classes = len(table.classes)
        if seed % 7 or classes < 2:
            continue
        compared += 1
        y, shares = table.targets, table.logits.double().softmax(1)
        args = {"num_classes": classes, "validate_args": False}
        matrix = torchmetrics.multiclass_confusion_matrix(shares, y, **args)
        assert found.matrix.tolist() == matrix.tolist()
        recall = torchmetrics.multiclass_recall(shares, y, average="none", **args)
        precision = torchmetrics.multiclass_precision(shares, y, average="none", **args)
        for i, score in enumerate(found.per_class):
            for mine, theirs in ((score.recall, recall), (score.precision, precision)):
                assert mine is None or mine == pytest.approx(float(theirs[i]), abs=1e-6)
        theirs = torchmetrics.multiclass_calibration_error(shares, y, n_bins=15, **args)
        if seed % 4:  # equal logits give confidences on the bounds of bins, which go the other way
            ours = found.calibration.equal_width.ece
            assert ours == pytest.approx(float(theirs), abs=1e-6)
    assert compared > 100


def test_any_batching_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    table = case(3)
    table = Predictions(
        torch.cat([case(s).logits.repeat(1, 8)[:, :8] for s in range(40)]),
        torch.cat([case(s).targets for s in range(40)]), table.index, tuple("abcdefgh"),
    )  # fmt: skip
    table = Predictions(table.logits, table.targets, torch.arange(len(table)), table.classes)
    whole = json.dumps(judge(table).as_dict())
    for numbers in (8, 50, 1000):
        monkeypatch.setattr(answers_module, "CHUNK", numbers)
        found = judge(table)
        assert found.matrix.equal(judge(table).matrix)
        parsed, expected = found.as_dict(), json.loads(whole)
        assert parsed["confusion"] == expected["confusion"]
        assert parsed["loss"]["value"] == pytest.approx(expected["loss"]["value"], rel=1e-13)
        assert (
            parsed["calibration"]["equal_mass"]["n"] == expected["calibration"]["equal_mass"]["n"]
        )
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(1))
    shuffled = Predictions(table.logits[order], table.targets[order], order, table.classes)
    again, first = judge(shuffled), judge(table)
    assert again.matrix.equal(first.matrix)
    assert again.coverage == first.coverage
    assert again.calibration.equal_mass.n == first.calibration.equal_mass.n
    assert again.f1_intervals == first.f1_intervals


def test_everything_can_be_written_as_json_and_nothing_is_0_that_is_undefined() -> None:
    table = Predictions(
        torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]]), torch.tensor([0, 0]), torch.arange(2),
        ("a", "b", "c"),
    )  # fmt: skip
    plain = json.loads(json.dumps(judge(table).as_dict(), allow_nan=False))
    assert [row["recall"] for row in plain["per_class"]] == [1.0, None, None]
    assert [row["f1"] for row in plain["per_class"]] == [1.0, None, None]
    assert [row["precision"] for row in plain["per_class"]] == [1.0, None, None]
    assert plain["balanced_accuracy"] == {"value": 1.0, "interval": None, "n": 2}
    assert plain["confidence"]["mean_wrong"] is None
    assert by_row(confusion(table.targets, table.labels, 3))[1] == [None, None, None]
    assert by_column(confusion(table.targets, table.labels, 3)) == [
        [1.0, None, None], [0.0, None, None], [0.0, None, None]
    ]  # fmt: skip


def test_no_images_give_no_number() -> None:
    table = Predictions(
        torch.empty(0, 3), torch.empty(0, dtype=torch.int64), torch.empty(0).long(), ("a", "b", "c")
    )
    plain = judge(table).as_dict()
    assert plain["n"] == 0
    assert plain["accuracy"]["value"] is plain["loss"]["value"] is None
    assert plain["calibration"]["equal_width"]["ece"] is None
    assert plain["top"] == plain["coverage"] == plain["pairs"] == []
    assert all(row["f1"] is None for row in [*plain["per_class"], *plain["averages"]])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"logits": torch.tensor([[0.0, 1.0], [math.nan, 0.0]])}, r"Row 2 \(image 17\): logits"),
        ({"logits": torch.tensor([[0.0, -math.inf], [0.0, math.inf]])}, r"Rows 1 \(image 9\), 2"),
        ({"targets": torch.tensor([0, 2])}, r"Row 2 \(image 17\): labels outside 0 to 1"),
        ({"targets": torch.tensor([-1, 1])}, r"Row 1 \(image 9\): labels outside 0 to 1"),
        ({"targets": torch.tensor([0])}, "one row of logits an image"),
        ({"classes": ("a", "b", "c")}, r"logits \(2, 2\), 2 labels and 3 classes"),
    ],
)
def test_what_cannot_be_judged_is_refused_by_row(change: dict[str, Any], said: str) -> None:
    parts = {
        "logits": torch.eye(2), "targets": torch.tensor([0, 1]),
        "index": torch.tensor([9, 17]), "classes": ("a", "b"), **change,
    }  # fmt: skip
    with pytest.raises(BadData, match=said):
        judge(Predictions(**parts))


def test_many_bad_rows_are_counted() -> None:
    bad = Predictions(
        torch.full((25, 2), math.nan), torch.zeros(25).long(), torch.arange(25), ("a", "b")
    )
    with pytest.raises(BadData, match=r"10 \(image 9\) and 15 more: logits"):
        judge(bad)


def test_ties_have_one_answer() -> None:
    table = Predictions(torch.zeros(4, 4), torch.arange(4), torch.arange(4), tuple("abcd"))
    found = answers(table)
    assert found.labels.tolist() == [0] * 4
    assert found.rank.tolist() == [0, 1, 2, 3]
    assert found.right.tolist() == (table.labels == table.targets).tolist()


def reference_bins(confidence: Tensor, right: Tensor, edges: list[float]) -> float:
    total = 0.0
    for low, high in zip(edges, edges[1:], strict=False):
        inside = [i for i, c in enumerate(confidence.tolist()) if low < c <= high]
        if inside:
            sure = sum(float(confidence[i]) for i in inside) / len(inside)
            hits = sum(bool(right[i]) for i in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(sure - hits)
    return total


@pytest.mark.parametrize("seed", range(20))
def test_calibration_errors_are_those_of_a_loop(seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    confidence = torch.rand(500, generator=draws).double().clamp(min=0.01)
    if seed % 2:
        confidence = (20 * confidence).ceil() / 20  # many equal ones, on the bounds of bins
    right = torch.rand(500, generator=draws) < confidence
    for found in (
        equal_width(ranked(confidence, right), 10),
        equal_mass(ranked(confidence, right), 10),
    ):
        assert found.ece == pytest.approx(reference_bins(confidence, right, list(found.edges)))
        assert 0 <= found.ece <= 1
        assert sum(found.n) == 500
        assert found.edges[0] == 0
        assert found.edges[-1] == 1
    masses = equal_mass(ranked(confidence, right), 10).n
    if not seed % 2:
        assert set(masses) <= {49, 50, 51}


def test_a_calibrated_model_shows_no_more_error_than_its_floor() -> None:
    draws = torch.Generator().manual_seed(0)
    confidence = 0.5 + 0.5 * torch.rand(200_000, generator=draws).double()
    ratios = []
    for n in (1000, 20_000, 200_000):
        right = torch.rand(n, generator=draws) < confidence[:n]
        found = equal_width(ranked(confidence[:n], right))
        ratios.append(known(found.ece) / known(found.floor))
    assert found.ece == pytest.approx(0, abs=0.005)  # vanishes with n
    assert all(0.4 < ratio < 2 for ratio in ratios)
    sure = equal_width(ranked(torch.full((1000,), 0.99), torch.arange(1000) < 500))
    assert known(sure.ece) == pytest.approx(0.49)
    assert known(sure.floor) < 0.01


@pytest.mark.parametrize("scale", [0.2, 1.0, 6.0])
def test_the_temperature_is_scipys_and_changes_no_answer(scale: float) -> None:
    draws = torch.Generator().manual_seed(2)
    logits = scale * torch.randn(400, 5, generator=draws)
    targets = torch.distributions.Categorical(logits=logits / scale * 1.5).sample()
    table = Predictions(logits, targets, torch.arange(400), tuple("abcde"))

    def loss(log_t: float) -> float:
        scaled = (logits.double() / math.exp(log_t)).log_softmax(1)
        return float(-scaled[torch.arange(400), targets].mean())

    found = fit_temperature(table)
    assert found is not None
    best = minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-10})
    assert found == pytest.approx(math.exp(best.x), rel=1e-5)
    assert loss(math.log(found)) <= loss(0.0) + 1e-12
    warm = answers(table, found)
    assert warm.labels.equal(answers(table).labels)
    assert warm.rank.equal(answers(table).rank)
    tempered = judge(table, Temperature(found, "validation", 400)).calibration.tempered
    assert tempered is not None
    assert tempered.nll == pytest.approx(loss(math.log(found)))


def test_where_no_temperature_is_best_there_is_none() -> None:
    right = Predictions(torch.eye(3), torch.arange(3), torch.arange(3), tuple("abc"))
    assert fit_temperature(right) is None
    assert judge(right).calibration.tempered is None
    wrong = Predictions(torch.eye(3), torch.tensor([1, 2, 0]), torch.arange(3), tuple("abc"))
    assert fit_temperature(wrong) is None  # the less sure the better


def test_refusing_unsure_answers() -> None:
    confidence = torch.tensor([0.9, 0.8, 0.8, 0.5, 0.3], dtype=torch.float64)
    right = torch.tensor([True, True, False, True, False])
    rows = coverage(ranked(confidence, right), (1.0, 0.6, 0.4, 0.2))
    assert [(row.n, row.correct, row.threshold) for row in rows] == [
        (5, 3, 0.3), (3, 2, 0.8), (3, 2, 0.8), (1, 1, 0.9)
    ]  # fmt: skip
    for seed, table, found in cases():
        if seed % 20:
            continue
        said = answers(table)
        for row in found.coverage:
            kept = said.confidence >= row.threshold
            assert (row.n, row.correct) == (int(kept.sum()), int((said.right & kept).sum()))
    assert spread(ranked(confidence, right), 10).right == (0, 0, 0, 0, 1, 0, 0, 1, 1, 0)


def test_pairs_have_a_direction() -> None:
    matrix = torch.tensor([[5, 3, 0], [1, 9, 2], [2, 0, 0]])
    found = confused_pairs(matrix, ("a", "b", "c"))
    assert [(p.true, p.predicted, p.n, p.support) for p in found] == [
        ("a", "b", 3, 8), ("c", "a", 2, 2), ("b", "c", 2, 12), ("b", "a", 1, 12)
    ]  # fmt: skip
    assert found[1].share == 1.0
    assert len(confused_pairs(matrix, ("a", "b", "c"), most=2)) == 2


def test_intervals_of_averages_are_those_of_resampled_images() -> None:
    draws = torch.Generator().manual_seed(3)
    targets = torch.randint(4, (600,), generator=draws)
    labels = torch.where(
        torch.rand(600, generator=draws) < 0.8, targets, torch.randint(4, (600,), generator=draws)
    )
    found = matrix_intervals(confusion(targets, labels, 4), draws=4000)
    picks = torch.randint(600, (1500, 600), generator=draws)
    scores = [oracle.f1_score(targets[pick], labels[pick], average="macro") for pick in picks[:500]]
    theirs = np.quantile(scores, [0.025, 0.975])
    assert found["macro f1"] == pytest.approx(tuple(theirs), abs=0.006)
    again = matrix_intervals(confusion(targets, labels, 4), draws=4000)
    assert again == found
    assert matrix_intervals(torch.diag(torch.tensor([5, 6]))) == {}


def test_the_interval_of_a_mean() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(0)).double()
    low, high = mean_interval(values) or (0.0, 0.0)
    assert (low + high) / 2 == pytest.approx(float(values.mean()))
    assert high - low == pytest.approx(2 * 1.959964 * float(values.std()) / 20)
    assert mean_interval(values[:1]) is None


def test_mistakes_are_all_wrong_answers_worst_first() -> None:
    for seed in range(0, 200, 5):
        table = case(seed)
        found = mistakes(table)
        wrong = (table.labels != table.targets).nonzero().flatten().tolist()
        assert sorted(m.row for m in found) == wrong
        assert [m.loss for m in found] == sorted((m.loss for m in found), reverse=True)
        shares = table.logits.double().softmax(1)
        for m in found:
            row = shares[m.row]
            assert m.p_true == float(row[table.targets[m.row]])
            assert m.p_predicted == float(row.max())
            assert m.margin == m.p_predicted - m.p_true >= 0
            assert m.p_runner_up == float(row.sort(descending=True).values[1])
            assert m.predicted != m.runner_up
            assert m.rank >= 2
