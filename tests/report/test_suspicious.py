"""Suspicious labels in a report: of a k-fold all of them, with pictures; else how to get them."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pellucid import Run, good, steps, train
from pellucid.augment.pipeline import AugmentSpec
from pellucid.cli.main import run as command
from pellucid.data.digits import Digits
from pellucid.errors import BadRun
from pellucid.experiments.kfold import SUSPECTS, kfold
from pellucid.models.mlp import MLPSpec
from pellucid.optim.schedules import Constant
from pellucid.recipe import Recipe, RecordSpec
from pellucid.report.report import write_report
from pellucid.report.suspicious import OUT_OF_FOLD, SHOWN, suspicious_labels
from pellucid.runs.listing import find
from pellucid.values import Splits


def small(**changes: Any) -> Recipe:
    return good("digits").with_(
        model=MLPSpec(hidden=(16,)), augment=AugmentSpec(), schedule=Constant(), length=steps(30),
        evaluate=steps(30), record=RecordSpec(every=30, snapshots=0),
    ).with_(**changes)  # fmt: skip


@pytest.fixture(scope="module")
def last(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The last model of a k-fold, with its report."""
    experiment, _ = kfold(small(), 2, "x", tmp_path_factory.mktemp("kfold") / "my folds")
    run = experiment.run("final")
    assert run is not None
    write_report(run.path)
    return run


def numbers(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="numbers">(.*?)</script>', page, re.S)
    assert found
    content: dict[str, Any] = json.loads(found.group(1))["suspicious_labels"]
    return content


def test_those_of_the_k_fold_with_their_pictures(last: Run) -> None:
    page = (last.path / "report.html").read_text(encoding="utf-8")
    with (last.path.parent / SUSPECTS).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = numbers(page)
    assert (found["n"], found["count"]) == (5000, len(rows))
    assert len(rows) > SHOWN == len(found["shown"])
    section = page.split('id="labels"')[1].split('id="how"')[0]
    pictures = re.findall(r'<img class="main" src="data:image/png;base64,([^"]+)"', section)
    said = re.findall(
        r"given <b>(.*?)</b> \(p = (.*?)\), proposed <b>(.*?)</b> \(p = (.*?)\)", section
    )
    images = Digits().load().train.images
    for row, one, picture, words in zip(rows, found["shown"], pictures, said, strict=False):
        assert (one["id"], one["label"], one["suggested"]) == (
            int(row["id"]), row["label"], row["suggested"],
        )  # fmt: skip
        assert one["p_label"] == pytest.approx(float(row["p_label"]), rel=1e-4, abs=1e-9)
        pixels = np.array(Image.open(io.BytesIO(base64.b64decode(picture))))
        assert np.array_equal(pixels, images[one["id"], 0].numpy())
        assert words == (
            row["label"], f"{one['p_label']:.2g}", row["suggested"], f"{one['p_suggested']:.3f}",
        )  # fmt: skip
    assert len(pictures) == len(said) == SHOWN
    assert (
        f"{len(rows):,} of 5,000 labels look wrong to the models of the k-fold my folds" in section
    )


def test_the_table_names_positions_and_its_rows_are_none(last: Run, tmp_path: Path) -> None:
    """Where images are in no fold, such as those of the test part, rows are fewer."""
    home = tmp_path / "k"
    (home / "predictions").mkdir(parents=True)
    shutil.copytree(last.path, home / "final")
    head, *lines = (last.path.parent / OUT_OF_FOLD).read_text().splitlines(keepends=True)
    (home / OUT_OF_FOLD).write_text("".join([head, *lines[100:]]))
    data = Digits().load().train
    found = suspicious_labels(find(home / "final"), Splits(data, data, data))
    assert found.n == 4900
    assert len(found.shown) == SHOWN
    for one in found.shown:
        assert one.id >= 100
        assert one.suspect.label == data.classes[int(data.targets[one.id])]
        pixels = np.array(Image.open(io.BytesIO(base64.b64decode(one.picture.partition(",")[2]))))
        assert np.array_equal(pixels, data.images[one.id, 0].numpy())


def test_each_fold_shows_them_too(last: Run) -> None:
    fold = last.path.parent / "fold-1"
    page = write_report(fold).read_text(encoding="utf-8")
    mine = numbers((last.path / "report.html").read_text(encoding="utf-8"))
    assert [{**one, "name": ""} for one in numbers(page)["shown"]] == [
        {**one, "name": ""}
        for one in mine["shown"]  # places are named by part, which differs
    ]
    assert page.split('id="labels"')[1].count('class="main"') == SHOWN
    text = write_report(fold, markdown=True).read_text(encoding="utf-8")
    assert f"{mine['count']} of 5000 labels look wrong" in text
    assert text.split("## Suspicious labels")[1].split("##")[0].count("\n| ") == SHOWN + 1


def test_the_command_that_is_named_trains_with_the_corrected_labels(
    last: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (last.path / "report.html").read_text(encoding="utf-8")
    line = re.search(r'<pre class="small">(.*?)</pre>', page)
    assert line
    words = shlex.split(line.group(1).replace("&#39;", "'"))
    assert words[0] == "pellucid"
    assert command([*words[1:], "--dry-run"]) == 0
    assert f'relabel = "{last.path.parent / SUSPECTS}"' in capsys.readouterr().out


def test_without_a_k_fold_it_says_how(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(small(length=steps(2), evaluate=steps(2)), tmp_path)
    page = write_report(run.path).read_text(encoding="utf-8")
    assert numbers(page) == {"n": 0, "count": 0, "shown": []}
    section = page.split('id="labels"')[1].split('id="how"')[0]
    assert "Not looked for" in section
    line = re.search(r"<code>(.*?)</code>", section)
    assert line
    words = shlex.split(line.group(1).replace("&#39;", "'"))
    assert words == ["pellucid", "kfold", "--recipe", str(run.path / "recipe.toml"), "--folds", "5"]
    assert "Not looked for" in write_report(run.path, markdown=True).read_text(encoding="utf-8")


def test_data_from_python_has_no_command(tiny: Recipe, tmp_path: Path) -> None:
    run = train(tiny.with_(length=steps(2), evaluate=steps(2)), tmp_path)
    page = write_report(run.path).read_text(encoding="utf-8")
    assert "kfold(recipe, 5, title) in Python" in page


def test_a_model_without_validation_is_not_called_the_best(last: Run) -> None:
    page = (last.path / "report.html").read_text(encoding="utf-8")
    assert "the last ones: there were no validation images; test images opened 1 time" in page
    fold = write_report(last.path.parent / "fold-0").read_text(encoding="utf-8")
    assert "best on validation; test images opened 0 times" in fold


def test_a_run_without_its_numbers_says_how_to_make_them(tiny: Recipe, tmp_path: Path) -> None:
    run = train(tiny.with_(length=steps(2), evaluate=steps(2)), tmp_path)
    (run.path / "evaluation/test.json").unlink()
    with pytest.raises(BadRun, match=r"test.json is missing. pellucid evaluate .* --on test makes"):
        write_report(run.path)
