"""Planted wrong labels are found, on out-of-fold probabilities and on no others."""

from __future__ import annotations

import csv
import functools

import numpy as np
import pytest
import torch
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline

from pellucid.data.digits import Digits
from pellucid.errors import BadData
from pellucid.metrics.labels import suspects
from pellucid.runs.predictions import PredictionTable, suspect_table
from pellucid.values import ImageSet, Predictions

N, FLIPPED = 1500, 75


@functools.cache
def flipped() -> tuple[ImageSet, Predictions, list[int], set[int]]:
    """Digits of which one in twenty has a wrong label, judged by models that did not see them."""
    draws = torch.Generator().manual_seed(0)
    train = Digits().load().train
    part = train.part(torch.randperm(len(train), generator=draws)[:N])
    labels = part.targets.clone()
    planted = torch.randperm(N, generator=draws)[:FLIPPED]
    labels[planted] = (labels[planted] + torch.randint(1, 10, (FLIPPED,), generator=draws)) % 10
    pixels = part.pixels(torch.arange(N))
    x = torch.nn.functional.avg_pool2d(pixels.float() / 255, 2).flatten(1).numpy()
    model = make_pipeline(
        Nystroem(gamma=0.02, n_components=300, random_state=0),
        LogisticRegression(C=1, max_iter=300),
    )
    folds = np.arange(N) % 5
    cv = [(np.flatnonzero(folds != k), np.flatnonzero(folds == k)) for k in range(5)]
    logits = cross_val_predict(model, x, labels.numpy(), cv=cv, method="decision_function")
    table = Predictions(torch.from_numpy(logits).float(), labels, torch.arange(N), part.classes)
    data = ImageSet.of(pixels, labels, part.classes, "digits")
    return data, table, folds.tolist(), set(planted.tolist())


def test_planted_flips_are_found() -> None:
    _, table, folds, planted = flipped()
    found = suspects(table, folds)
    rows = [s.row for s in found.found]
    hits = planted & set(rows)
    assert len(hits) / FLIPPED >= 0.8
    assert len(hits) / len(rows) > 5 * FLIPPED / N  # far above the share of flips
    first = rows[: len(rows) // 2]
    assert len(planted & set(first)) / len(first) > len(hits) / len(rows)  # worst first
    assert [s.score for s in found.found] == sorted(s.score for s in found.found)
    assert all(s.label != s.suggested for s in found.found)
    assert found.share == len(rows) / N


def test_the_confident_joint_is_that_of_the_paper() -> None:
    """Counted image by image, as the definition has it."""
    _, table, folds, _ = flipped()
    p, y = table.logits.double().softmax(1).numpy(), table.targets.numpy()
    bounds = [p[y == k, k].mean() for k in range(10)]
    joint = np.zeros((10, 10), dtype=int)
    for row, label in zip(p, y, strict=True):
        sure = [k for k in range(10) if row[k] >= bounds[k]]
        if sure:
            joint[label, max(sure, key=lambda k: row[k])] += 1
    assert np.array(suspects(table, folds).joint).tolist() == joint.tolist()


@pytest.mark.parametrize("folds", [[], [0] * N, [0, 1]])
def test_probabilities_that_are_not_out_of_fold_are_refused(folds: list[int]) -> None:
    _, table, _, _ = flipped()
    with pytest.raises(BadData, match=r"did not train on the image.*column `fold`"):
        suspects(table, folds)


def test_a_class_without_images_is_never_suggested() -> None:
    table = Predictions(
        torch.tensor([[0.0, 0.0, 9.0], [1.0, 0.0, 9.0], [0.0, 1.0, 9.0]]),
        torch.tensor([0, 0, 1]), torch.arange(3), ("a", "b", "none"),
    )  # fmt: skip
    found = suspects(table, [0, 1, 0])
    assert all(s.suggested != "none" for s in found.found)


def test_the_table_of_suspects_can_be_edited() -> None:
    _, table, folds, _ = flipped()
    found = suspects(table, folds)
    named = PredictionTable(table, ("",) * len(table), tuple(folds))
    rows = list(csv.DictReader(suspect_table(found, named).splitlines()))
    assert len(rows) == len(found.found)
    assert list(rows[0]) == [
        "id",
        "file",
        "label",
        "suggested",
        "p_label",
        "p_suggested",
        "relabel",
        "sha256",
    ]
    assert {row["relabel"] for row in rows} == {""}
    assert int(rows[0]["id"]) == int(table.index[found.found[0].row])
