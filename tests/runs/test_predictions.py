"""Tables of predictions: what is written is read again, and what is not one is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from pellucid.errors import BadRun
from pellucid.metrics.judgement import judge
from pellucid.metrics.mistakes import mistakes
from pellucid.runs.predictions import mistake_table, prediction_table, read_predictions
from pellucid.values import ImageSet, Predictions

NAMES = ("=1+1", "'quoted", "a,b", "ü\n", "<b>")


def sample(n: int = 50) -> tuple[ImageSet, Predictions]:
    draws = torch.Generator().manual_seed(0)
    scale = 10.0 ** torch.randint(-20, 20, (n, 5), generator=draws)
    logits = torch.randn(n, 5, generator=draws) * scale
    targets = torch.randint(5, (n,), generator=draws)
    images = torch.zeros(2 * n, 1, 2, 2, dtype=torch.uint8)
    labels = torch.zeros(2 * n, dtype=torch.int64)
    files = tuple(f"@dir/{i}.png" for i in range(2 * n))
    rows = torch.arange(n) * 2
    labels[rows] = targets
    data = ImageSet(images, labels, NAMES, "x", rows, files)
    return data, Predictions(logits, targets, torch.arange(n), NAMES)


def test_what_is_written_is_read_again_bit_for_bit(tmp_path: Path) -> None:
    data, table = sample()
    path = tmp_path / "table.csv"
    path.write_text(prediction_table(data, table), encoding="utf-8", newline="")
    found = read_predictions(path, NAMES)
    assert found.predictions.logits.equal(table.logits)  # all digits of float32
    assert found.predictions.targets.equal(table.targets)
    assert found.predictions.index.tolist() == data.rows.tolist()
    assert found.predictions.classes == NAMES
    assert found.files == tuple(data.file(i) for i in range(len(data)))
    assert found.folds == ()
    assert judge(found.predictions).as_dict() == judge(table).as_dict()


def test_no_cell_starts_a_formula(tmp_path: Path) -> None:
    data, table = sample()
    for text in (prediction_table(data, table), mistake_table(mistakes(table), data)):
        rows = list(csv.reader(text.splitlines(keepends=True)))
        for row in rows[1:]:
            assert not any(cell[:1] in ("=", "+", "@") for cell in row)
            assert not any(cell[:1] == "-" for cell in row[:4])


def test_folds_go_along(tmp_path: Path) -> None:
    data, table = sample(10)
    path = tmp_path / "out_of_fold.csv"
    folds = [i % 3 for i in range(10)]
    path.write_text(prediction_table(data, table, folds), encoding="utf-8", newline="")
    found = read_predictions(path)
    assert found.folds == tuple(folds)
    assert found.predictions.logits.equal(table.logits)


def test_mistakes_are_written_worst_first(tmp_path: Path) -> None:
    data, table = sample()
    found = mistakes(table)
    rows = list(csv.DictReader(mistake_table(found, data).splitlines(keepends=True)))
    assert [int(row["id"]) for row in rows] == [int(data.rows[m.row]) for m in found]
    assert len(rows) == int((table.labels != table.targets).sum())
    assert rows[0]["file"] == f"'{data.file(found[0].row)}"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("id,file", "no,file"), "its columns must begin with id, file"),
        (lambda text: "", "Got nothing"),
        (lambda text: text.rsplit(",", 3)[0], "is damaged"),
        (lambda text: text.replace("0.", "x.", 1), "line 2, is damaged"),
        (lambda text: text + "1,a,z,z" + ",0" * 4 + "\n", "'z' is none of its classes"),
        (lambda text: text + "1,a,p,q,1,0,0.7,0.3\n", "changed by hand"),
    ],
)
def test_what_is_no_table_is_refused(change: object, said: str, tmp_path: Path) -> None:
    images = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
    data = ImageSet.of(images, torch.tensor([0, 1]), ("p", "q"), "x")
    logits = torch.tensor([[0.5, 0.25], [0.5, 0.25]])
    table = Predictions(logits, data.targets, torch.arange(2), ("p", "q"))
    path = tmp_path / "table.csv"
    path.write_text(change(prediction_table(data, table)))  # type: ignore[operator]
    with pytest.raises(BadRun, match=said):
        read_predictions(path, ("p", "q"))


def test_the_table_of_another_model_is_refused(tmp_path: Path) -> None:
    data, table = sample(3)
    path = tmp_path / "table.csv"
    path.write_text(prediction_table(data, table), encoding="utf-8", newline="")
    with pytest.raises(BadRun, match=r"(?s)made by another model: its classes are .*those of this"):
        read_predictions(path, ("ant", "bee"))
    with pytest.raises(BadRun, match="is missing"):
        read_predictions(tmp_path / "none.csv")
