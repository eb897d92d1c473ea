"""K-fold: every image is held out once, nothing of a held-out image is known, one test."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pellucid import Recipe, good, steps
from pellucid.cli.main import main
from pellucid.data.digits import Digits
from pellucid.data.folds import FoldSpec
from pellucid.data.preprocessing import Preprocessing
from pellucid.data.split import split
from pellucid.engine import EngineSpec
from pellucid.errors import BadData, BadRecipe, DataChanged
from pellucid.experiments.folder import Experiment
from pellucid.experiments.kfold import OUT_OF_FOLD, SUSPECTS, kfold
from pellucid.experiments.work import Stopped
from pellucid.optim.schedules import PlateauSpec
from pellucid.recipe import RecordSpec
from pellucid.runs.predictions import read_predictions
from pellucid.stopping import StopSpec

Done = tuple[Experiment, dict[str, Any], Recipe]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Three folds of the digits, a few steps each, and the last model."""
    recipe = good("digits").with_(
        length=steps(4), evaluate=steps(2), record=RecordSpec(every=2, snapshots=0)
    )
    path = tmp_path_factory.mktemp("kfold") / "exp"
    experiment, summary = kfold(recipe, 3, "digits-3-fold", path)
    return experiment, summary, recipe


def test_each_image_is_judged_once_by_a_model_that_has_not_seen_it(done: Done) -> None:
    experiment, summary, _ = done
    table = read_predictions(experiment.path / OUT_OF_FOLD)
    assert sorted(table.predictions.index.tolist()) == list(range(5000))
    assert table.predictions.index.tolist() == sorted(table.predictions.index.tolist())
    assert set(table.folds) == {0, 1, 2}
    correct = int((table.predictions.labels == table.predictions.targets).sum())
    assert summary["out_of_fold"]["correct"] == correct
    assert summary["out_of_fold"]["n"] == 5000
    with (experiment.path / SUSPECTS).open(encoding="utf-8", newline="") as file:
        suspicious = list(csv.DictReader(file))
    assert summary["suspects"] == {"count": len(suspicious), "n": 5000}
    position = {image: at for at, image in enumerate(table.predictions.index.tolist())}
    for row in suspicious:  # a suspect is never one that the models call what its label says
        at = position[int(row["id"])]
        assert row["label"] == table.predictions.classes[int(table.predictions.targets[at])]
        assert float(row["p_suggested"]) > float(row["p_label"])
    for fold in range(3):
        run = experiment.run(f"fold-{fold}")
        assert run is not None
        with (run.path / "split.csv").open(encoding="utf-8", newline="") as file:
            trained = {int(row["id"]) for row in csv.DictReader(file) if row["part"] == "train"}
        ids = table.predictions.index.tolist()
        held = {i for i, of in zip(ids, table.folds, strict=True) if of == fold}
        assert trained.isdisjoint(held)
        assert trained | held == set(range(5000))


def test_suspects_that_a_person_has_gone_through_are_fed_back(done: Done, tmp_path: Path) -> None:
    """The very table, with three cells filled in, changes the labels of these three images."""
    experiment, _, recipe = done
    with (experiment.path / SUSPECTS).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(len(row["sha256"]) == 32 for row in rows)
    for row in rows[:3]:
        row["relabel"] = row["suggested"]
    fixed = tmp_path / "fixed.csv"
    with fixed.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    data = Digits(relabel=str(fixed))
    loaded = Digits().load().train
    parts = split(data.load(), data.validation, data.test, recipe.seed, FoldSpec(1))
    labels = dict(zip(parts.train.rows.tolist(), parts.train.targets.tolist(), strict=True))
    changed = {i: str(label) for i, label in labels.items() if label != int(loaded.targets[i])}
    assert changed == {int(row["id"]): row["suggested"] for row in rows[:3]}
    rows[0]["sha256"] = rows[1]["sha256"]  # other pixels than those that were meant
    with fixed.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(BadData, match="line 2: the pixels of image"):
        split(data.load(), data.validation, data.test, recipe.seed, FoldSpec(1))


def test_mean_and_standard_deviation_are_those_of_the_folds(done: Done) -> None:
    experiment, summary, _ = done
    scores = [summary["folds"][str(fold)]["accuracy"] for fold in range(3)]
    mean = sum(scores) / 3
    assert summary["accuracy"] == pytest.approx(mean)
    assert summary["sd"] == pytest.approx((sum((s - mean) ** 2 for s in scores) / 2) ** 0.5)
    assert "not independent" in summary["warning"]
    assert json.loads((experiment.path / "summary.json").read_text()) == summary
    assert (experiment.path / "figures/curves.png").stat().st_size > 10_000


def test_pixels_are_scaled_by_each_folds_own_training_images(done: Done) -> None:
    experiment, _, recipe = done
    seen = set()
    for fold in range(3):
        run = experiment.run(f"fold-{fold}")
        assert run is not None
        known = (run.read_json("environment.json") or {})["data"]["preprocessing"]
        rule = recipe.with_(fold=None).data
        parts = split(rule.load(), rule.validation, rule.test, recipe.seed, FoldSpec(3, fold))
        assert known["mean"] == list(Preprocessing.measure(parts.train).mean)
        seen.add(tuple(known["mean"]))
    assert len(seen) == 3


def test_only_the_last_model_is_tested_and_once(done: Done) -> None:
    experiment, summary, _ = done
    for fold in range(3):
        assert not (experiment.path / f"fold-{fold}/openings.jsonl").exists()
        assert not (experiment.path / f"fold-{fold}/predictions/test.csv").exists()
    last = experiment.run("final")
    assert last is not None
    assert len(last.rows("openings.jsonl")) == 1
    assert summary["final"]["test"]["n"] == 1000
    assert (last.summary() or {})["validation"] is None
    assert (last.summary() or {})["best"]["step"] == 4
    with (last.path / "split.csv").open(encoding="utf-8", newline="") as file:
        assert sum(row["part"] == "train" for row in csv.DictReader(file)) == 5000


def test_what_is_finished_is_not_repeated(done: Done) -> None:
    experiment, summary, recipe = done
    before = {p: p.stat().st_mtime_ns for p in experiment.path.glob("*/summary.json")}
    _, again = kfold(recipe, 3, "digits-3-fold", experiment.path)
    assert again == summary
    assert {p: p.stat().st_mtime_ns for p in experiment.path.glob("*/summary.json")} == before


def test_stopped_it_goes_on(tiny: Recipe, tmp_path: Path) -> None:
    short = tiny.with_(length=steps(4), evaluate=steps(2), record=RecordSpec(snapshots=0))
    asked = iter(range(1, 1000))
    with pytest.raises(Stopped):
        kfold(short, 2, "x", tmp_path, refit=False, asked=lambda: next(asked) == 6)
    _, summary = kfold(short, 2, "x", tmp_path, refit=False)
    assert list(summary["folds"]) == ["0", "1"]
    assert summary["out_of_fold"]["n"] == 45
    assert summary["final"] is None


def test_labels_corrected_between_folds_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "fixed.csv"
    table.write_text("id,label,relabel\n", encoding="utf-8")
    short = good("digits").with_(
        data=Digits(relabel=str(table)), length=steps(2), evaluate=steps(2),
        record=RecordSpec(snapshots=0),
    )  # fmt: skip
    asked = iter(range(1, 1000))
    with pytest.raises(Stopped):  # when the second fold has begun
        kfold(short, 2, "x", tmp_path / "exp", refit=False, asked=lambda: next(asked) == 3)
    for path in (tmp_path / "exp").glob("fold-1"):
        shutil.rmtree(path)
    first = str(Digits().load().train.classes[int(Digits().load().train.targets[0])])
    table.write_text(f"id,label,relabel\n0,{first},?\n", encoding="utf-8")
    with pytest.raises(DataChanged, match="changed between folds: 0; 1. Restore it"):
        kfold(short, 2, "x", tmp_path / "exp", refit=False)


def test_where_the_folds_stop_early_the_last_model_takes_their_mean_length(tmp_path: Path) -> None:
    recipe = good("digits").with_(
        length=steps(6), evaluate=steps(1), stop=StopSpec(patience=1, min_change=10),
        record=RecordSpec(snapshots=0),
    )  # fmt: skip
    experiment, _ = kfold(recipe, 2, "x", tmp_path)
    runs = [experiment.run(name) for name in ("fold-0", "fold-1", "final")]
    best = [(run.summary() or {})["best"]["step"] for run in runs[:2] if run]
    assert runs[2] is not None
    assert (runs[2].summary() or {})["steps"] == round(sum(best) / 2)


def test_what_cannot_be(tiny: Recipe, tmp_path: Path) -> None:
    digits = good("digits").with_(length=steps(1))
    with pytest.raises(BadRecipe, match="--folds must be at least 2"):
        kfold(digits, 1, "x", tmp_path)
    with pytest.raises(BadRecipe, match="--no-refit"):
        kfold(digits.with_(schedule=PlateauSpec()), 2, "x", tmp_path)
    with pytest.raises(
        BadData, match="6 folds need each class in at least 6 images; class number 1"
    ):
        kfold(tiny, 6, "x", tmp_path / "many", refit=False)
    with pytest.raises(BadRecipe, match="--jobs must be at least 1: runs side by side. Got 0"):
        kfold(digits, 2, "x", tmp_path / "none", jobs=0)
    with pytest.raises(BadRecipe, match="trains each run in one process"):
        kfold(digits.with_(engine=EngineSpec(procs=2)), 2, "x", tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert Digits().validation == digits.data.validation


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--folds", "2", "--length", "2 steps", "--record.snapshots", "0", "--no-refit"]
    for extra in (["--json", "--quiet"], []):
        with pytest.raises(SystemExit) as left:
            main(["kfold", "digits", *words, *extra])
        assert not left.value.code
    shown = capsys.readouterr().out
    summary = json.loads(shown.splitlines()[0])
    text = shown.split("\n", 1)[1]
    assert f"mean over 2 folds: {100 * summary['accuracy']:.2f} %" in text
    assert all(len(line) <= 80 for line in text.splitlines() if "experiments/" not in line)
    with pytest.raises(SystemExit) as left:
        main(["kfold", "digits", "--group-column", "patient"])
    assert left.value.code == 2
    assert "group_column" in capsys.readouterr().err
