"""Comparisons: pairs that differ in what is varied alone, nothing repeated, nothing opened."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from pellucid import Recipe, epochs, good, notes, steps
from pellucid.cli.main import main
from pellucid.data.digits import Digits
from pellucid.errors import BadData, BadRecipe, BadRun, RunBusy
from pellucid.experiments.arms import Arm, preset, vary
from pellucid.experiments.compare import Comparison, compare
from pellucid.experiments.folder import Experiment
from pellucid.experiments.results import verdict
from pellucid.experiments.tune import SEED, rates
from pellucid.experiments.work import Job, Stopped, run_all
from pellucid.optim.specs import SGD
from pellucid.recipe import RecordSpec
from pellucid.runs.folder import Run
from pellucid.runs.snapshots import snapshots

SHORT = ["--length", "4 steps", "--evaluate", "2 steps", "--record.snapshots", "1"]


def last_weights(run: Run) -> dict[str, torch.Tensor]:
    path = run.checkpoints.path(run.checkpoints.steps()[-1]) / "model.safetensors"
    return safetensors.torch.load_file(path)


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.fixture
def base(tiny: Recipe) -> Recipe:
    """Four steps, with augmentation and dropout."""
    return tiny.with_(
        length=steps(4),
        evaluate=steps(2),
        record=RecordSpec(every=1, snapshots=1, checkpoint=steps(2)),
    )


@pytest.fixture
def two(base: Recipe) -> list[Arm]:
    return _arms(base)


def _arms(base: Recipe) -> list[Arm]:
    """Two optimizers; the data is made in Python, so no file can name it."""
    return [Arm("adamw", base), Arm("sgd", base.with_(optimizer=SGD(lr=0.05)))]


def test_runs_of_one_seed_are_pairs(two: list[Arm], tmp_path: Path) -> None:
    """The same split, first weights, order of images and draws; only the optimizer differs."""
    experiment, summary = compare(Comparison(two, seeds=2), "pairs", tmp_path / "exp")
    runs = {(a, s): experiment.run(f"{a}/seed-{s}") for a in ("adamw", "sgd") for s in (0, 1)}
    first = {}
    for (arm, seed), run in runs.items():
        assert run is not None
        first[arm, seed] = safetensors.torch.load_file(snapshots(run.path)[0])
        rows = run.rows("metrics.jsonl")
        first[arm, seed]["loss of the first step"] = torch.tensor(rows[0]["loss"])
        assert not (run.path / "openings.jsonl").exists()
        assert not (run.path / "predictions/test.csv").exists()
        assert (run.summary() or {})["test"] is None
    for seed in (0, 1):
        assert equal(first["adamw", seed], first["sgd", seed])
        tables = [
            (experiment.path / f"{arm}/seed-{seed}/split.csv").read_text()
            for arm in ("adamw", "sgd")
        ]
        assert tables[0] == tables[1]
    assert not equal(first["sgd", 0], first["sgd", 1])
    assert summary["arms"]["sgd"]["n"] == [10, 10]
    assert summary["differences"][0]["seeds"] == 2
    for name in ("curves", "differences"):
        assert (experiment.path / f"figures/{name}.png").stat().st_size > 10_000
        content = json.loads((experiment.path / f"figures/{name}.json").read_text())
        if name == "curves":
            assert content["rates"].keys() == content["courses"].keys()
            for arm in two:
                planned = arm.recipe.schedule.build(arm.recipe.optimizer.lr, 4, 141)
                assert content["rates"][arm.name] == [[step, planned(step)] for step in range(4)]


def test_every_number_follows_from_the_tables(two: list[Arm], tmp_path: Path) -> None:
    experiment, summary = compare(Comparison(two, seeds=2), "numbers", tmp_path / "exp")
    accuracy: dict[str, list[float]] = {}
    for arm in ("adamw", "sgd"):
        for seed in (0, 1):
            table = experiment.path / f"{arm}/seed-{seed}/predictions/validation.csv"
            lines = [line.split(",") for line in table.read_text().splitlines()[1:]]
            accuracy.setdefault(arm, []).append(sum(r[2] == r[3] for r in lines) / len(lines))
    for arm, values in accuracy.items():
        assert summary["arms"][arm]["accuracy"] == pytest.approx(sum(values) / 2)
        assert summary["arms"][arm]["sd"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    value = (sum(accuracy["sgd"]) - sum(accuracy["adamw"])) / 2
    assert summary["differences"][0]["value"] == pytest.approx(value)
    assert json.loads((experiment.path / "summary.json").read_text()) == summary


def test_stopped_anywhere_it_ends_as_the_unbroken_one(two: list[Arm], tmp_path: Path) -> None:
    whole, _ = compare(Comparison(two, seeds=1), "whole", tmp_path / "whole")
    asked = iter(range(1, 1000))
    with pytest.raises(Stopped):
        compare(Comparison(two, seeds=1), "x", tmp_path / "cut", asked=lambda: next(asked) == 6)
    assert (tmp_path / "cut/adamw/seed-0/summary.json").exists()
    assert not (tmp_path / "cut/sgd/seed-0/summary.json").exists()
    done = (tmp_path / "cut/adamw/seed-0/summary.json").stat().st_mtime_ns
    again, summary = compare(Comparison(two, seeds=1), "x", tmp_path / "cut")
    assert (tmp_path / "cut/adamw/seed-0/summary.json").stat().st_mtime_ns == done
    for arm in ("adamw", "sgd"):
        one, other = (e.run(f"{arm}/seed-0") for e in (whole, again))
        assert one is not None and other is not None  # noqa: PT018
        assert equal(last_weights(one), last_weights(other))
        assert one.metrics.read_bytes() == other.metrics.read_bytes()
    pair = {**summary["differences"][0], "p_corrected": 0.01}
    assert "For this one seed" in verdict(pair)
    few = pair | {"seeds": 2, "p_images": 0.001, "p_corrected": 0.3}
    assert verdict(few).endswith("for other seeds, give more: --seeds.")
    assert "give more" not in verdict(few | {"p_images": 0.2})


def test_seeds_may_be_added(two: list[Arm], tmp_path: Path) -> None:
    compare(Comparison(two, seeds=1), "x", tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/seed-0/summary.json")}
    _, summary = compare(Comparison(two, seeds=2), "x", tmp_path)
    assert len(before) == 2
    assert all(p.stat().st_mtime_ns == time for p, time in before.items())
    assert summary["differences"][0]["seeds"] == 2


def test_the_test_part_is_opened_once_a_run_and_only_if_asked(base: Recipe, tmp_path: Path) -> None:
    recipe = base.with_(optimizer=SGD(lr=0.05))
    arms = [Arm("a", base), Arm("b", recipe)]
    experiment, summary = compare(Comparison(arms, seeds=1, on="test"), "x", tmp_path)
    for arm in "ab":
        run = experiment.run(f"{arm}/seed-0")
        assert run is not None
        assert len(run.rows("openings.jsonl")) == 1
    assert summary["on"] == "test"
    assert summary["arms"]["a"]["n"] == [20]


def test_an_arm_that_diverges_is_told_and_not_tried_again(base: Recipe, tmp_path: Path) -> None:
    arms = [Arm("good", base), Arm("wild", base.with_(optimizer=SGD(lr=1e6, momentum=0.99)))]
    _, summary = compare(Comparison(arms, seeds=1), "x", tmp_path)
    assert summary["arms"]["wild"]["accuracy"] is None
    assert summary["differences"] == []
    assert "wild/seed-0" in summary["failed"]
    before = (tmp_path / "wild/seed-0/log.txt").read_bytes()
    compare(Comparison(arms, seeds=1), "x", tmp_path)
    assert (tmp_path / "wild/seed-0/log.txt").read_bytes() == before


def test_rates_are_tuned_on_other_splits(base: Recipe, tmp_path: Path) -> None:
    experiment, summary = compare(Comparison(_arms(base), seeds=1, tune_lr=3), "x", tmp_path)
    assert rates(0.05, 3) == [0.016, 0.05, 0.16]
    tried = summary["tuning"]["sgd"]["tried"]
    assert list(tried) == ["0.016", "0.05", "0.16"]
    assert summary["arms"]["sgd"]["lr"] == summary["tuning"]["sgd"]["lr"]
    best = max(tried.values())
    assert tried[f"{summary['tuning']['sgd']['lr']:g}"] == best
    run = experiment.run("tuning/sgd/lr-0.05")
    assert run is not None
    assert f"seed = {SEED}" in (run.path / "recipe.toml").read_text()
    assert not (run.path / "openings.jsonl").exists()


def test_what_cannot_be_compared_is_refused(base: Recipe, tmp_path: Path) -> None:
    arms = _arms(base)
    with pytest.raises(BadRecipe, match="adamw and same are the same recipe"):
        compare(Comparison([*arms, Arm("same", base)]), "x", tmp_path)
    with pytest.raises(BadRecipe, match="at least two arms"):
        compare(Comparison(arms[:1]), "x", tmp_path)
    digits = good("digits").with_(length=steps(1))
    none = digits.with_(data=Digits(validation=0))
    other = vary(digits, [("data.validation", ["0.1", "0.2"])])
    with pytest.raises(
        BadData, match=r"0\.1 and 0\.2 have different images \(fingerprints \w{16} and"
    ):
        compare(Comparison(other), "x", tmp_path / "data")
    assert list((tmp_path / "data").glob("*/seed-*")) == []
    with pytest.raises(BadRecipe, match="--seeds must be at least 1"):
        compare(Comparison(arms, seeds=0), "x", tmp_path)
    with pytest.raises(BadRecipe, match="data.validation is 0"):
        compare(Comparison(vary(none, [("batch_size", ["8", "16"])])), "x", tmp_path)


def test_two_experiments_do_not_share_a_folder(base: Recipe, tmp_path: Path) -> None:
    compare(Comparison(_arms(base), seeds=1), "x", tmp_path / "exp")
    other = [Arm("adamw", base), Arm("sgd", base.with_(optimizer=SGD(lr=0.1)))]
    with pytest.raises(
        BadRun, match=r"another experiment:\n  arms.sgd.recipe.optimizer.lr: 0.05 -> 0.1"
    ):
        compare(Comparison(other, seeds=1), "x", tmp_path / "exp")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    with pytest.raises(BadRun, match="not empty and holds no experiment"):
        compare(Comparison(other, seeds=1), "x", tmp_path / "full")
    with (
        Experiment(tmp_path / "exp").locked(),
        pytest.raises(RunBusy, match="is in use by process"),
    ):
        compare(Comparison(_arms(base), seeds=1), "x", tmp_path / "exp")


def test_side_by_side_gives_the_same_bits(tmp_path: Path) -> None:
    base = good("digits").with_(
        length=steps(3), evaluate=steps(3), record=RecordSpec(every=1, snapshots=0)
    )
    arms = vary(base, [("batch_size", ["16", "32"])])
    with_one = [Arm(a.name, a.recipe.with_(engine=type(a.recipe.engine)(threads=1))) for a in arms]
    one, _ = compare(Comparison(with_one, seeds=1), "x", tmp_path / "one")
    two, _ = compare(Comparison(with_one, seeds=1, jobs=2), "x", tmp_path / "two")
    for arm in ("16", "32"):
        here, there = (e.run(f"{arm}/seed-0") for e in (one, two))
        assert here is not None and there is not None  # noqa: PT018
        assert equal(last_weights(here), last_weights(there))
        assert here.metrics.read_bytes() == there.metrics.read_bytes()


def test_parts_from_python_train_in_this_process_only(base: Recipe, tmp_path: Path) -> None:
    experiment = Experiment.at(tmp_path, "x", {"kind": "test"})
    with pytest.raises(BadRecipe, match="data was given from Python .*FewDigits"):
        run_all(experiment, [Job("a", base)], side_by_side=2)


@pytest.mark.parametrize(
    ("name", "arms"),
    [
        (
            "schedules",
            ["constant", "step", "multistep", "exponential", "cosine", "onecycle", "plateau"],
        ),
        ("augmentation", ["without", "with"]),
        ("optimizers", ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"]),
        ("init", ["default", "kaiming", "xavier", "bad"]),
        ("batch-size", ["32", "64", "128", "256", "512"]),
    ],
)
def test_presets(name: str, arms: list[str]) -> None:
    grey, colour = preset(name, good("digits"), 1), preset(name, good("cifar10"), 3)
    assert [arm.name for arm in grey] == [arm.name for arm in colour] == arms


@pytest.mark.parametrize("length", range(3, 14))
def test_the_preset_schedules_cuts_within_the_run(length: int) -> None:
    for arm in preset("schedules", notes("cifar10").with_(length=epochs(length)), 3):
        schedule = arm.recipe.schedule.build(1.0, 100 * length, 100)
        rates = {schedule(step) for step in range(100 * length)}
        assert (len(rates) > 1) == (arm.name not in ("constant", "plateau"))


def test_a_schedule_that_does_not_fit_is_refused_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    arms = preset("schedules", good("digits").with_(length=epochs(1)), 1)
    with pytest.raises(BadRecipe, match="The arm step cannot be trained: epochs 10: the rate"):
        compare(Comparison(arms, seeds=1), "schedules", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_the_preset_augmentation_knows_grey_images() -> None:
    grey, colour = (preset("augmentation", good(d), c) for d, c in (("digits", 1), ("cifar10", 3)))
    for arms in (grey, colour):
        assert arms[0].recipe.augment.operations() == {}  # type: ignore[attr-defined]
    assert "hue" in colour[1].recipe.augment.operations()  # type: ignore[attr-defined]
    assert "hue" not in grey[1].recipe.augment.operations()  # type: ignore[attr-defined]
    assert "flip" not in grey[1].recipe.augment.operations()  # type: ignore[attr-defined]


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["compare", "digits", *words])
    return int(left.value.code or 0)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--vary",
        "optimizer.name=sgd,adam",
        "--vary",
        "batch-size=16,32",
        "--seeds",
        "1",
        *SHORT,
    ]
    assert call(*words, "--json", "--quiet") == 0
    summary = json.loads(capsys.readouterr().out)
    assert list(summary["arms"]) == [
        "name-sgd_batch-size-16", "name-sgd_batch-size-32",
        "name-adam_batch-size-16", "name-adam_batch-size-32",
    ]  # fmt: skip
    assert call(*words) == 0
    shown = capsys.readouterr()
    assert "4 of 4 runs are finished already" in shown.err
    assert all(len(line) <= 80 for line in shown.out.splitlines() if "experiments/" not in line)
    assert (Path(summary["experiment"]) / "name-sgd_batch-size-16/seed-0/tensorboard").is_dir()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Got none of them"),
        (["--vary", "optimizer.name=sgd,adam", "--preset", "init"], "Got two of them"),
        (["--vary", "optimizer.name"], "--vary needs a setting and its values"),
        (["--vary", "optimizer.rate=1,2"], 'no setting "optimizer.rate" in --optimizer.rate 1'),
        (["--vary", "optimizer.name=sgd,adamx"], 'did you mean "adam"?'),
        (["--vary", "optimizer.name=sgd,sgd"], "are the same recipe"),
        (["--preset", "schedule"], 'did you mean "schedules"?'),
    ],
)
def test_a_users_mistake(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*words) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert "Traceback" not in shown.err
    assert not Path("experiments").exists()


def _started(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pellucid", "compare", "digits", "--vary", "batch-size=16,32"]
    command += [
        "--seeds",
        "2",
        "--length",
        "30 steps",
        "--evaluate",
        "10 steps",
        "--out",
        str(folder),
    ]
    return subprocess.Popen(
        [*command, *words], text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip


def _until(true: Callable[[], Any]) -> None:
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "jobs"), [(signal.SIGKILL, "2"), (signal.SIGINT, "1")])
def test_killed_or_stopped_it_goes_on(number: int, jobs: str, tmp_path: Path) -> None:
    """The whole process, with those it started; then the same command again."""
    process = _started(tmp_path, "--jobs", jobs)
    _until(lambda: list(tmp_path.glob("*/seed-0/checkpoints/step-*/manifest.json")))
    if number == signal.SIGKILL:
        process.kill()  # its workers see that their parent is gone, and save
    else:
        process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == (130 if number == signal.SIGINT else -9)
    assert "Traceback" not in said
    if number == signal.SIGINT:
        assert "Go on: give the same command again" in said
    _until(lambda: not _busy(tmp_path))
    done = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/seed-*/summary.json")}
    assert len(done) < 4
    again = _started(tmp_path, "--jobs", jobs, "--json")
    out, said = again.communicate(timeout=240)
    assert again.returncode == 0, said
    summary = json.loads(out)
    assert [len(arm["runs"]) for arm in summary["arms"].values()] == [2, 2]
    assert summary["failed"] == {}
    assert all(p.stat().st_mtime_ns == at for p, at in done.items())


def _busy(folder: Path) -> bool:
    for path in folder.glob("*/seed-*"):
        try:
            with Run(path).locked():
                pass
        except RunBusy:
            return True
    return False
