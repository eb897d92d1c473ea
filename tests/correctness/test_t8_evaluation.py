"""Traps T8 of `docs/correctness.md`: evaluation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from pellucid import epochs, good, load, train
from pellucid.augment.pipeline import AugmentSpec
from pellucid.data.digits import Digits
from pellucid.errors import BadData
from pellucid.figures.confusion import confusion_figure
from pellucid.metrics.accuracy import measure, wilson
from pellucid.metrics.calibration import equal_width
from pellucid.metrics.confusion import (
    averages,
    by_column,
    by_row,
    class_scores,
    confused_pairs,
    confusion,
)
from pellucid.metrics.judgement import judge
from pellucid.metrics.labels import suspects
from pellucid.metrics.mistakes import mistakes
from pellucid.metrics.paired import mcnemar
from pellucid.metrics.ranked import ranked
from pellucid.models.mlp import MLPSpec
from pellucid.optim.schedules import Constant
from pellucid.report.draw import mistake_text
from pellucid.report.page import judgement_page
from pellucid.values import ImageSet, Predictions
from tests.metrics.test_labels import FLIPPED, flipped

NAMES = ("a", "b", "c")


def draws(key: int) -> torch.Generator:
    return torch.Generator().manual_seed(key)


def labelled(n: int, classes: int, right: float, key: int) -> tuple[Tensor, Tensor]:
    """Labels, and predictions of which about the share `right` is right."""
    y = torch.randint(classes, (n,), generator=draws(key))
    guess = torch.randint(classes, (n,), generator=draws(key + 1))
    return y, torch.where(torch.rand(n, generator=draws(key + 2)) < right, y, guess)


def test_trap_T8_1_rows_are_true_and_the_figure_says_so():
    matrix = confusion(torch.tensor([0, 0, 0]), torch.tensor([1, 1, 0]), 2)
    assert matrix.tolist() == [[1, 2], [0, 0]]
    assert matrix.tolist() != matrix.T.tolist()
    figure = confusion_figure(matrix.tolist(), by_row(matrix), by_column(matrix), ("a", "b"), "")
    for axis in figure.axes:
        assert (axis.get_xlabel(), axis.get_ylabel()) == ("predicted", "true")


def test_trap_T8_2_by_row_is_recall_and_by_column_precision():
    matrix = confusion(*labelled(300, 3, 0.5, 1), 3)
    scores = class_scores(matrix, NAMES)
    rows, columns = by_row(matrix), by_column(matrix)
    for i, score in enumerate(scores):
        assert rows[i][i] == score.recall
        assert columns[i][i] == score.precision
        assert rows[i][i] != columns[i][i]
    figure = confusion_figure(matrix.tolist(), rows, columns, NAMES, "")
    titles = " ".join(axis.get_title() for axis in figure.axes)
    assert "By row" in titles
    assert "(diagonal: recall)" in titles
    assert "(diagonal: precision)" in titles


def test_trap_T8_3_confusions_have_a_direction_and_a_rate():
    matrix = torch.tensor([[990, 10], [5, 5]])
    first, second = confused_pairs(matrix, ("often", "rare"))
    assert (first.true, first.predicted, first.n) == ("often", "rare", 10)
    assert (second.true, second.predicted, second.n) == ("rare", "often", 5)
    assert first.share < second.share == 0.5  # fewer images, and the worse confusion by far


def test_trap_T8_4_an_error_tile_shows_both_probabilities():
    table = Predictions(
        torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([2]), torch.tensor([0]), NAMES
    )
    worst = mistakes(table)[0]
    p = table.logits.double().softmax(1)[0]
    assert (worst.p_true, worst.p_predicted) == (float(p[2]), float(p[0]))
    images = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    text = mistake_text(worst, ImageSet.of(images, torch.tensor([2]), NAMES, "x"))
    assert f"true: c, p = {p[2]:.2g}" in text
    assert f"predicted: a, p = {p[0]:.3f}" in text


def test_trap_T8_5_micro_averages_are_the_accuracy():
    for key in range(20):
        y, said = labelled(200, 5, 0.4, 10 * key)
        micro, macro, weighted = averages(confusion(y, said, 5))
        accuracy = float((y == said).double().mean())
        assert micro.precision == micro.recall == micro.f1 == pytest.approx(accuracy)
        assert weighted.recall == pytest.approx(accuracy)
        assert macro.f1 != pytest.approx(accuracy, abs=1e-6)
    assert "all three are the accuracy" in micro.sentence


def cross_validated(
    x: NDArray[np.float64], y: NDArray[np.float64], folds: int
) -> NDArray[np.float64]:
    """Mean squared error of least squares in each fold, (folds,)."""
    place = np.arange(len(y)) % folds
    errors = []
    for k in range(folds):
        held = place == k
        weights = np.linalg.lstsq(x[~held], y[~held], rcond=None)[0]
        errors.append(((x[held] @ weights - y[held]) ** 2).mean())
    return np.array(errors)


def test_trap_T8_6_folds_share_their_data_so_their_standard_error_is_optimistic():
    """On 800 data sets: how far the mean over folds really scatters, against what folds say."""
    stream = np.random.Generator(np.random.PCG64(0))
    means, said = [], []
    for _ in range(800):
        x = stream.normal(size=(24, 10))
        scores = cross_validated(x, x.sum(1) + stream.normal(size=24), 4)
        means.append(np.log(scores).mean())
        said.append(np.log(scores).var(ddof=1) / 4)
    assert np.var(means, ddof=1) > 1.2 * np.mean(said)


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> list[nn.Module]:
    recipe = good("digits").with_(
        model=MLPSpec(hidden=(64,)), augment=AugmentSpec(), schedule=Constant(), length=epochs(1)
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("runs")
    return [load(train(recipe.with_(seed=seed), folder).path, "cpu") for seed in (0, 1)]


def test_trap_T8_7_the_mean_of_fold_models_is_no_model(two_models: list[nn.Module]):
    """Two networks are good; the one with the mean of their weights is not."""
    test = Digits().load().test
    assert test is not None

    def score(model: nn.Module) -> float:
        return measure(model.predict_set(test)).accuracy  # type: ignore[operator]

    first, second = two_models
    alone = min(score(first), score(second))
    assert alone > 0.8
    before = {name: value.clone() for name, value in first.state_dict().items()}
    other = second.state_dict()
    first.load_state_dict({name: (value + other[name]) / 2 for name, value in before.items()})
    assert score(first) < alone - 0.1
    first.load_state_dict(before)


def test_trap_T8_8_the_score_that_chose_is_too_good():
    """The best of 50 coins on 200 images looks good; on others it is a coin."""
    chosen, fresh = [], []
    for key in range(100):
        right = torch.rand(50, 400, generator=draws(key)) < 0.5
        best = int(right[:, :200].sum(1).argmax())
        chosen.append(float(right[best, :200].double().mean()))
        fresh.append(float(right[best, 200:].double().mean()))
    assert sum(chosen) / 100 > 0.56
    assert sum(fresh) / 100 == pytest.approx(0.5, abs=0.01)


def test_trap_T8_9_a_tenth_of_a_point_on_ten_thousand_images_shows_nothing():
    low, high = wilson(9910, 10_000)
    assert (high - low) / 2 == pytest.approx(0.0019, abs=5e-5)
    assert low < 0.990 < high
    a, b = torch.ones(10_000, dtype=torch.bool), torch.ones(10_000, dtype=torch.bool)
    a[:90], b[20:120] = False, False  # 99.1 and 99.0 %, wrong on much the same images
    assert (int(a.sum()), int(b.sum())) == (9910, 9900)
    assert mcnemar(a, b).p > 0.05
    b[:] = True
    b[:100] = False  # 99.1 and 99.0 %, and a is never wrong where b is right
    assert mcnemar(a, b).p < 0.01


def test_trap_T8_10_a_calibration_error_depends_on_bins_and_n():
    confidence = 0.5 + 0.5 * torch.rand(20_000, generator=draws(0)).double()
    right = torch.rand(20_000, generator=draws(1)) < confidence  # perfectly calibrated
    by_bins = [
        equal_width(ranked(confidence[:500], right[:500]), bins).ece for bins in (2, 15, 100)
    ]
    assert by_bins[0] < by_bins[1] < by_bins[2]
    few, many = (
        equal_width(ranked(confidence[:200], right[:200])),
        equal_width(ranked(confidence, right)),
    )
    assert few.ece > 4 * many.ece  # of one and the same perfect model
    for found in (few, many):
        assert found.ece < 2 * found.floor  # which is why chance stands beside it


def test_trap_T8_11_disagreement_is_no_label_error_and_needs_held_out_images():
    data, table, folds, planted = flipped()
    found = {s.row for s in suspects(table, folds).found}
    disagreeing = set((table.labels != table.targets).nonzero().flatten().tolist())
    assert len(disagreeing - planted) > 50  # labels that are right, and the model is not
    assert len(found - planted) < len(disagreeing - planted)
    with pytest.raises(BadData, match="models that did not train on the image"):
        suspects(table, ())
    x = data.pixels(torch.arange(len(data))).flatten(1).numpy() / 255
    model = LogisticRegression(C=1e3, max_iter=300).fit(x, data.targets.numpy())
    learned = model.predict(x) == data.targets.numpy()
    assert learned[list(planted)].mean() > 0.9  # in sample, wrong labels look right
    assert len(planted & found) / FLIPPED > 0.7


def test_trap_T8_12_max_is_not_argmax():
    x = torch.tensor([[1.0, 5.0, 2.0], [7.0, 0.0, 3.0]], requires_grad=True)
    values, places = torch.max(x, dim=1)
    assert (values.tolist(), places.tolist()) == ([5.0, 7.0], [1, 0])
    assert float(torch.max(x.detach())) == 7.0
    assert int(x.argmax()) == 3  # an index into the flattened tensor
    assert not x.argmax(1).requires_grad
    assert values.requires_grad
    table = Predictions(x.detach(), torch.tensor([1, 0]), torch.arange(2), NAMES)
    assert table.labels.tolist() == places.tolist()


def test_trap_T8_13_softmax_keeps_the_order():
    logits = 5 * torch.randn(1000, 10, generator=draws(0))
    assert logits.softmax(1).argmax(1).equal(logits.argmax(1))
    far = torch.tensor([[0.0, 200.0, 100.0, 50.0]])
    assert far.softmax(1).argsort(descending=True, stable=True)[0].tolist() != [1, 2, 3, 0]
    assert far.argsort(descending=True)[0].tolist() == [1, 2, 3, 0]  # nothing is rounded away


def test_trap_T8_14_one_accuracy_hides_the_worst_class():
    y = torch.arange(10).repeat_interleave(100)
    even, uneven = y.clone(), y.clone()
    even[::20] = (even[::20] + 1) % 10  # 5 wrong in each class
    uneven[:50] = 1  # 50 wrong in one class
    worst = []
    for said in (even, uneven):
        table = Predictions(torch.eye(10)[said], y, torch.arange(1000), tuple(map(str, range(10))))
        found = judge(table)
        assert found.accuracy.value == 0.95
        recalls = [score.recall for score in found.per_class]
        worst.append(min(recall for recall in recalls if recall is not None))
        page = judgement_page({**found.as_dict(), "part": "test"})
        assert f"{100 * worst[-1]:.2f} %" in page
    assert worst == [0.95, 0.5]


def test_trap_T8_15_one_against_rest_accuracy_flatters():
    y = torch.randint(10, (100_000,), generator=draws(0))
    guess = torch.randint(10, (100_000,), generator=draws(1))
    matrix = confusion(y, guess, 10)
    n = int(matrix.sum())
    flattering = [
        float((matrix[i, i] + n - matrix[i].sum() - matrix[:, i].sum() + matrix[i, i]) / n)
        for i in range(10)
    ]
    assert sum(flattering) / 10 == pytest.approx(0.82, abs=0.005)
    trace = float(matrix.diagonal().sum() / n)
    assert trace == pytest.approx(0.1, abs=0.005)
    table = Predictions(torch.eye(10)[guess], y, torch.arange(n), tuple(map(str, range(10))))
    assert judge(table).accuracy.value == pytest.approx(trace)
    assert math.isclose(measure(table).accuracy, trace, rel_tol=1e-6)
