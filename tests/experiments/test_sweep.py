"""Searches: resumable, shared, blind to the test part; the best recipe is the one that was best."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from pellucid import Recipe, good, steps
from pellucid.catalogue import from_tree, read_toml
from pellucid.cli.main import main
from pellucid.errors import BadRecipe, BadRun
from pellucid.experiments.folder import Experiment
from pellucid.experiments.space import Param, param, settings
from pellucid.experiments.sweep import STARTUP, sweep
from pellucid.experiments.work import Stopped
from pellucid.recipe import RecordSpec

LR = param("optimizer.lr=log:1e-4..1e-1")


@pytest.fixture
def short() -> Recipe:
    """Four steps on the digits."""
    return good("digits").with_(
        length=steps(4), evaluate=steps(2), batch_size=16, record=RecordSpec(snapshots=0)
    )


Done = tuple[Experiment, dict[str, Any]]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Eight trials of two settings."""
    recipe = good("digits").with_(
        length=steps(4), evaluate=steps(1), batch_size=16, record=RecordSpec(snapshots=0)
    )
    place = tmp_path_factory.mktemp("sweep") / "exp"
    params = [LR, param("batch-size=int:8..32")]
    return sweep(recipe, params, 8, "digits-sweep", place)


def test_the_best_recipe_is_the_one_that_was_best(done: Done) -> None:
    experiment, summary = done
    scores = {}
    for trial in summary["trials"]:
        run = experiment.run(f"trial-{trial['number']:03d}")
        assert run is not None
        found = run.summary()
        assert (found is not None) == (trial["state"] == "complete")
        if found:
            scores[trial["number"]] = found["validation"]["accuracy"]
            assert trial["accuracy"] == scores[trial["number"]]
    assert summary["best"]["accuracy"] == max(scores.values())
    best = from_tree(read_toml(experiment.path / "best.toml"))
    run = experiment.run(f"trial-{summary['best']['number']:03d}")
    assert run is not None
    assert best == from_tree(read_toml(run.path / "recipe.toml"))
    assert json.loads((experiment.path / "summary.json").read_text()) == summary
    assert set(summary["importance"]) == {"optimizer.lr", "batch_size"}
    assert sum(summary["importance"].values()) == pytest.approx(1)
    assert (experiment.path / "figures/search.png").stat().st_size > 10_000


def test_values_are_within_their_ranges(done: Done) -> None:
    for trial in done[1]["trials"]:
        assert 1e-4 <= trial["params"]["optimizer.lr"] <= 1e-1
        assert trial["params"]["batch_size"] in range(8, 33)
    assert len({trial["params"]["optimizer.lr"] for trial in done[1]["trials"]}) == 8


def test_the_test_part_stays_closed(done: Done) -> None:
    for trial in done[1]["trials"]:
        folder = done[0].path / f"trial-{trial['number']:03d}"
        assert not (folder / "openings.jsonl").exists()
        assert not (folder / "predictions/test.csv").exists()


def test_trials_are_cut_short_by_the_median(done: Done) -> None:
    """Not before there is a median; what was cut has a best value below that of the others."""
    for trial in done[1]["trials"]:
        if trial["state"] != "pruned":
            continue
        assert trial["number"] >= STARTUP
        others = [t for t in done[1]["trials"] if t["state"] == "complete"]
        assert trial["best_so_far"] < max(t["accuracy"] for t in others)
        assert trial["steps"] < 4


def test_given_again_it_adds_trials_and_repeats_none(short: Recipe, tmp_path: Path) -> None:
    sweep(short, [LR], 1, "x", tmp_path)
    before = (tmp_path / "trial-000/summary.json").stat().st_mtime_ns
    _, two = sweep(short, [LR], 2, "x", tmp_path)
    assert (tmp_path / "trial-000/summary.json").stat().st_mtime_ns == before
    assert len(two["trials"]) == 2
    with pytest.raises(BadRun, match="another experiment:\n  recipe.batch_size: 16 -> 8"):
        sweep(short.with_(batch_size=8), [LR], 3, "x", tmp_path)
    with pytest.raises(BadRun, match="another experiment"):
        sweep(short, [param("optimizer.lr=log:1e-4..1")], 3, "x", tmp_path)


def test_processes_that_end_at_once_wait_for_each_other(short: Recipe, tmp_path: Path) -> None:
    experiment, first = sweep(short, [LR], 1, "once", tmp_path / "exp")
    with experiment.locked():  # another command that writes there
        again = sweep(short, [LR], 1, "once", tmp_path / "exp")[1]
    assert again["trials"] == first["trials"]


def test_a_trial_is_asked_for_and_locked_in_one_go(short: Recipe, tmp_path: Path) -> None:
    """Else another process takes it for one that was killed."""
    folder = tmp_path / "exp"
    experiment = sweep(short, [LR], 1, "once", folder)[0]
    with ThreadPoolExecutor(1) as pool:
        with FileLock(folder / ".trials.lock"):
            more = pool.submit(sweep, short, [LR], 2, "once", folder)
            with pytest.raises(TimeoutError):
                more.result(timeout=2)
            assert not (experiment.path / "trial-001").exists()
        assert len(more.result()[1]["trials"]) == 2


def test_stopped_it_ends_with_the_trials_of_the_unbroken_one(short: Recipe, tmp_path: Path) -> None:
    _, whole = sweep(short, [LR], 2, "x", tmp_path / "whole")
    asked = iter(range(1, 1000))
    with pytest.raises(Stopped):
        sweep(short, [LR], 2, "x", tmp_path / "cut", asked=lambda: next(asked) == 6)
    _, cut = sweep(short, [LR], 2, "x", tmp_path / "cut")
    assert [t["params"] for t in cut["trials"]] == [t["params"] for t in whole["trials"]]
    assert [t["accuracy"] for t in cut["trials"]] == [t["accuracy"] for t in whole["trials"]]


def test_killed_its_trial_is_finished_and_two_processes_share_a_study(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "pellucid", "sweep", "digits", "--out", str(tmp_path / "exp"),
        "--param", "optimizer.lr=log:1e-4..1e-1", "--trials", "4", "--length", "8 steps",
        "--evaluate", "2 steps", "--record.checkpoint", "2 steps", "--json",
    ]  # fmt: skip
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not list(tmp_path.glob("exp/trial-000/checkpoints/step-*/manifest.json")):
        assert time.monotonic() < end
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    summaries = [json.loads(out) for out, _ in said]
    last = max(summaries, key=lambda s: sum(t["accuracy"] is not None for t in s["trials"]))
    assert 4 <= len(last["trials"]) <= 5  # both may ask for the last one at once
    assert {t["number"] for t in last["trials"]} == set(range(len(last["trials"])))
    assert (tmp_path / "exp/trial-000/summary.json").exists()
    assert "resumed after step" in (tmp_path / "exp/trial-000/log.txt").read_text()


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("a.b=0..1", Param("a.b", 0, 1)),
        ("a.b=-1e-3..2.5", Param("a.b", -0.001, 2.5)),
        ("model.depth=int:8..20", Param("model.depth", 8, 20, whole=True)),
        ("batch-size=logint:8..256", Param("batch_size", 8, 256, log=True, whole=True)),
        ("--a.b=x, y", Param("a.b", choices=("x", "y"))),
    ],
)
def test_the_forms_of_a_param(word: str, found: Param) -> None:
    assert param(word) == found


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("lr", "needs a setting and its values"),
        ("a=1", "at least two different values"),
        ("a=2..1", "the first must be smaller"),
        ("a=log:0..1", "must begin above 0"),
        ("a=int:0.5..3", "whole numbers"),
        ("a=exp:1..2", "is no range"),
        ("a=1..", "is no range"),
    ],
)
def test_a_param_that_cannot_be(word: str, said: str) -> None:
    with pytest.raises(BadRecipe, match=said):
        param(word)


def test_a_part_is_chosen_before_its_settings() -> None:
    tree = settings({"optimizer.lr": 0.1, "optimizer.name": "sgd"})
    assert list(tree["optimizer"]) == ["name", "lr"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs something to choose"),
        (["--param", "optimizer.rate=0..1"], 'no setting "optimizer.rate"'),
        (["--param", "optimizer.lr=0.1..1", "--param", "optimizer.lr=1..2"], "given twice"),
        (["--param", "data.validation=0.1..0.5"], "cannot be searched"),
        (["--param", "seed=int:0..9"], "cannot be searched"),
        (["--param", "optimizer.name=sgd,adamx"], 'did you mean "adam"'),
        (["--param", "optimizer.lr=0.1..1", "--trials", "0"], "--trials must be at least 1"),
        (["--param", "optimizer.lr=0.1..1", "--data.validation", "0"], "needs validation images"),
    ],
)
def test_a_users_mistake(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["sweep", "digits", *words])
    assert left.value.code == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert not Path("experiments").exists()


def test_without_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SystemExit) as left:
        main(["sweep", "digits", "--param", "optimizer.lr=0.1..1"])
    assert left.value.code == 2
    assert "pip install 'pellucid[sweep]'" in capsys.readouterr().err
    assert not Path("experiments").exists()
