"""A run from its start to its summary, and what happens when something goes wrong on the way."""

from __future__ import annotations

import csv
import json
import math
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, log_loss
from torch.utils.data import Dataset, TensorDataset

from pellucid import (
    Console,
    Engine,
    FromDataset,
    Recipe,
    epochs,
    good,
    load,
    notes,
    resume,
    steps,
    train,
)
from pellucid.assemble import assemble
from pellucid.catalogue import from_tree, overlay, read_toml, to_tree
from pellucid.data.digits import Digits
from pellucid.errors import (
    BadCheckpoint,
    BadData,
    BadRecipe,
    BadRun,
    DataChanged,
    Diverged,
    RecipeMismatch,
)
from pellucid.optim.plateau import NoPlateau
from pellucid.optim.schedules import PlateauSpec
from pellucid.optim.specs import SGD
from pellucid.plan import Duration
from pellucid.recipe import RecordSpec
from pellucid.runs.folder import Run
from pellucid.runs.listing import all_runs
from pellucid.values import Step


def table(run: Run, part: str) -> list[dict[str, str]]:
    with (run.path / "predictions" / f"{part}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One real run on digits, an epoch long."""
    recipe = good("digits").with_(length=epochs(1))
    return train(recipe, tmp_path_factory.mktemp("runs"))


def test_the_run_folder_holds_what_it_should(finished: Run) -> None:
    names = {str(p.relative_to(finished.path)) for p in finished.path.rglob("*") if p.is_file()}
    assert names - {".lock", ".owner.json"} == {
        "recipe.toml", "environment.json", "split.csv", "metrics.jsonl", "metrics.csv",
        "timing.jsonl", "summary.json", "diagnosis.json", "openings.jsonl", "log.txt",
        "predictions/validation.csv", "predictions/test.csv",
        "predictions/validation_errors.csv", "predictions/test_errors.csv",
        "evaluation/validation.json", "evaluation/test.json",
        "figures/curves.png", "figures/curves.json",
        *(f"checkpoints/step-00000036/{name}" for name in (
            "model.safetensors", "optimizer.safetensors", "state.json", "manifest.json")),
        *(f"snapshots/step-{step:08d}.safetensors" for step in range(0, 37, 3)),
    }  # fmt: skip
    assert (finished.path.parent / "latest").resolve() == finished.path.resolve()


def test_every_number_can_be_recomputed_from_the_table(finished: Run) -> None:
    summary = finished.summary()
    assert summary is not None
    for part, n in (("validation", 500), ("test", 1000)):
        rows = table(finished, part)
        assert len(rows) == len({row["id"] for row in rows}) == n
        labels, predicted = ([row[key] for row in rows] for key in ("label", "prediction"))
        assert summary[part]["accuracy"] == accuracy_score(labels, predicted)
        logits = torch.tensor([[float(row[f"logit:{c}"]) for c in range(10)] for row in rows])
        shares = logits.double().softmax(1)
        expected = log_loss([int(label) for label in labels], shares.numpy())
        assert summary[part]["loss"] == pytest.approx(expected, rel=1e-6)
        assert [str(c) for c in logits.argmax(1).tolist()] == predicted
        printed = torch.tensor([[float(row[f"p:{c}"]) for c in range(10)] for row in rows])
        torch.testing.assert_close(printed.double(), shares, rtol=1e-4, atol=1e-6)
        low, high = summary[part]["interval"]
        assert low < summary[part]["accuracy"] < high


def test_the_model_that_is_loaded_is_the_one_that_was_judged(finished: Run) -> None:
    model = load(finished.path)
    test = Digits().load().test
    assert test is not None
    with torch.inference_mode():
        logits = model(test.images)
    rows = table(finished, "test")
    stored = torch.tensor([[float(row[f"logit:{c}"]) for c in range(10)] for row in rows])
    torch.testing.assert_close(logits, stored, rtol=1e-4, atol=1e-5)
    assert model.classes == tuple("0123456789")
    with pytest.raises(
        BadData, match=r"must be uint8 of shape \(B, 1, 28, 28\). Got torch.float32"
    ):
        model(test.images.float())


def test_the_recipe_fed_back_repeats_the_run(finished: Run, tmp_path: Path) -> None:
    again = train(from_tree(read_toml(finished.path / "recipe.toml")), tmp_path)
    for name in ("metrics.jsonl", "predictions/test.csv", "split.csv", "recipe.toml",
                 "checkpoints/step-00000036/model.safetensors"):  # fmt: skip
        assert (again.path / name).read_bytes() == (finished.path / name).read_bytes(), name


def test_another_seed_is_another_run(finished: Run, tmp_path: Path) -> None:
    other = train(good("digits").with_(length=epochs(1), seed=1), tmp_path)
    assert other.metrics.read_bytes() != finished.metrics.read_bytes()


def test_the_test_part_is_opened_once(finished: Run) -> None:
    openings = finished.rows("openings.jsonl")
    assert [(row["n"], row["checkpoint"]) for row in openings] == [(1000, 36)]


def test_rows_are_deterministic_and_complete(tiny: Recipe, tmp_path: Path) -> None:
    run = train(tiny, tmp_path)
    rows = run.rows("metrics.jsonl")
    assert [row["step"] for row in rows if row["kind"] == "step"] == [3, 6, 9, 12]
    judged = [row for row in rows if row["kind"] == "evaluation"]
    assert [row["step"] for row in judged] == [2, 4, 6, 8, 10, 12]
    assert judged[0]["gap"] == judged[0]["train"]["accuracy"] - judged[0]["validation"]["accuracy"]
    assert not {"time", "seconds"} & {key for row in rows for key in row}
    with (run.path / "metrics.csv").open(encoding="utf-8") as file:
        columns = list(csv.DictReader(file))
    signs = [row["step"] for row in rows if row["kind"] == "vitals"]
    assert signs == [0, 2, 4, 6, 8, 10, 12]
    assert len(columns) == len(rows) - len(signs)
    assert float(columns[-1]["validation/accuracy"]) == judged[-1]["validation"]["accuracy"]


def test_the_best_checkpoint_is_judged_not_the_last(tiny: Recipe, tmp_path: Path) -> None:
    """A learning rate that destroys the weights late: best and last are far apart."""
    recipe = tiny.with_(length=steps(30), optimizer=SGD(lr=0.02), schedule=_Cliff(at=20))
    run = train(recipe, tmp_path)
    summary = run.summary()
    assert summary is not None
    rows = {row["step"]: row for row in run.rows("metrics.jsonl") if row["kind"] == "evaluation"}
    best = max(row["validation"]["accuracy"] for row in rows.values())
    assert summary["best"]["step"] < 30
    assert summary["best"]["accuracy"] == best == summary["validation"]["accuracy"]
    assert rows[30]["validation"]["accuracy"] < best
    assert run.rows("openings.jsonl")[0]["checkpoint"] == summary["best"]["step"]
    assert summary["best"]["step"] in run.checkpoints.steps()


class _Cliff:
    def __init__(self, at: int) -> None:
        self.at = at

    def build(self, lr: float, steps: int, steps_per_epoch: int) -> Any:
        return lambda step: lr if step < self.at else 0.5

    def plateau(self) -> Any:
        return NoPlateau()


def test_checkpoints_that_are_kept(tiny: Recipe, tmp_path: Path) -> None:
    record = RecordSpec(every=3, checkpoint=steps(1), keep=steps(5), snapshots=0)
    run = train(tiny.with_(record=record), tmp_path)
    summary = run.summary()
    assert summary is not None
    assert run.checkpoints.steps() == sorted({5, 10, 11, 12, summary["best"]["step"]})
    assert not (run.path / "snapshots").exists()


def test_without_validation_the_last_counts(tiny: Recipe, tmp_path: Path) -> None:
    tree = overlay(to_tree(good("digits")), {"data": {"validation": 0.0}, "length": "4 steps"})
    run = train(from_tree(tree), tmp_path)
    summary = run.summary()
    assert summary is not None
    assert summary["validation"] is None
    assert summary["best"] == {"step": 4, "epoch": 0.1, "accuracy": None}
    assert not (run.path / "predictions/validation.csv").exists()
    with pytest.raises(BadRecipe, match="plateau watches the validation loss"):
        train(from_tree(tree).with_(schedule=PlateauSpec()), tmp_path)


def test_a_loss_that_is_no_number_stops_the_run(tiny: Recipe, tmp_path: Path) -> None:
    recipe = tiny.with_(schedule=_Explodes(), length=steps(30))
    with pytest.raises(Diverged, match=r"Step \d+ .* not a finite number. Its batch: ") as error:
        train(recipe, tmp_path)
    assert error.value.step in (7, 8, 9)
    assert len(error.value.images) in (5, 10)
    assert error.value.images[0].startswith("digits/train[")
    run = all_runs(tmp_path)[0]
    saved, problems = run.checkpoints.latest()
    assert saved is not None
    assert problems == []
    assert saved.step < error.value.step
    assert all(torch.isfinite(t).all() for t in saved.tensors["model"].values())
    rows = run.rows("metrics.jsonl")
    assert all(math.isfinite(row["loss"]) for row in rows if row["kind"] == "step")


class _Explodes(_Cliff):
    def __init__(self) -> None:
        super().__init__(at=6)

    def build(self, lr: float, steps: int, steps_per_epoch: int) -> Any:
        return lambda step: lr if step < self.at else 1e30


def _stopped(recipe: Recipe, folder: Path, after: int = 5) -> Run:
    asked = iter(range(1, 10_000))
    return train(recipe, folder, stop=lambda _: next(asked) == after)


@pytest.fixture
def short() -> Recipe:
    """A run on digits that a file can name, saved after every step."""
    return good("digits").with_(
        length=steps(8), evaluate=Duration.parse("4 steps"), batch_size=16,
        record=RecordSpec(every=2, checkpoint=steps(1), snapshots=2),
    )  # fmt: skip


def test_a_recipe_that_was_edited_is_shown_as_a_difference(short: Recipe, tmp_path: Path) -> None:
    run = _stopped(short, tmp_path)
    text = (run.path / "recipe.toml").read_text()
    (run.path / "recipe.toml").write_text(text.replace("lr = 0.003", "lr = 0.3"))
    with pytest.raises(RecipeMismatch, match=r"optimizer.lr: 0.003 -> 0.3\n"):
        resume(run.path)
    (run.path / "recipe.toml").write_text(text)
    assert resume(run.path).summary()


def test_a_damaged_checkpoint_is_passed_over(
    short: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unbroken = train(short, tmp_path / "unbroken").metrics.read_bytes()
    run = _stopped(short, tmp_path / "stopped")
    file = run.checkpoints.path(5) / "optimizer.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(bytes(content))
    again = resume(run.path, console=Console(sys.stderr))
    said = capsys.readouterr().err
    assert "optimizer.safetensors is damaged" in said
    assert "resumed after step 4" in said
    assert said.splitlines()[1] in (run.path / "log.txt").read_text()
    assert again.metrics.read_bytes() == unbroken


def test_with_no_good_checkpoint_nothing_is_touched(short: Recipe, tmp_path: Path) -> None:
    run = _stopped(short, tmp_path)
    for step in run.checkpoints.steps():
        (run.checkpoints.path(step) / "manifest.json").unlink()
    before = {p: p.read_bytes() for p in run.path.rglob("*") if p.suffix in (".jsonl", ".json")}
    for use in (load, resume):
        with pytest.raises(BadRun, match=r"holds no good checkpoint|No checkpoint of .* verifies"):
            use(run.path)
    assert before.items() >= {p: p.read_bytes() for p in before if p.name[0] != "."}.items()


def test_killed_before_the_first_checkpoint_it_starts_again(short: Recipe, tmp_path: Path) -> None:
    unbroken = train(short, tmp_path / "unbroken").metrics.read_bytes()
    run = _stopped(short, tmp_path / "stopped", after=1)
    shutil.rmtree(run.checkpoints.folder)
    assert resume(run.path).metrics.read_bytes() == unbroken


def test_rows_that_were_lost_are_an_error(short: Recipe, tmp_path: Path) -> None:
    run = _stopped(short, tmp_path)
    run.metrics.write_bytes(run.metrics.read_bytes()[:-20])
    with pytest.raises(BadRun, match="metrics.jsonl is shorter"):
        resume(run.path)


def test_data_that_changed_is_refused(tmp_path: Path, photos: Path) -> None:
    tree = overlay(
        to_tree(good("digits")),
        {"data": {"name": "folder", "path": str(photos), "size": 8}, "model": {"name": "mlp"},
         "length": "6 steps", "batch_size": 4, "record": {"checkpoint": "1 step"}},
    )  # fmt: skip
    run = _stopped(from_tree(tree), tmp_path, after=2)
    Image.new("L", (8, 8), 77).save(sorted(photos.rglob("*.png"))[0])
    with pytest.raises(DataChanged, match="has changed since the run was started"):
        resume(run.path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of forty real digits as PNG files, two classes."""
    data = Digits().load().train
    for digit in (3, 8):
        folder = tmp_path / "photos" / f"digit {digit}"
        folder.mkdir(parents=True)
        for i in (data.labels == digit).nonzero().flatten()[:20].tolist():
            Image.fromarray(data.images[i, 0].numpy()).save(folder / f"{i}.png")
    return tmp_path / "photos"


def test_a_folder_of_ones_own(photos: Path, tmp_path: Path) -> None:
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in photos.rglob("*.png")}
    tree = overlay(
        to_tree(notes("folder")),
        {"data": {"path": str(photos)}, "model": {"name": "mnist-cnn"}, "length": "40 steps",
         "batch_size": 8, "optimizer": {"lr": 0.003}, "evaluate": "10 steps"},
    )  # fmt: skip
    run = train(from_tree(tree), tmp_path / "runs")
    summary = run.summary()
    assert summary is not None
    assert summary["test"]["n"] == 4
    assert {row["file"].split("/")[0] for row in table(run, "test")} == {"digit 3", "digit 8"}
    model = load(run.path)
    files = sorted(photos.rglob("*.png"))
    answers = [model.classes[i] for i in model.predict(files).labels]
    right = sum(answer == file.parent.name for answer, file in zip(answers, files, strict=True))
    assert right >= 36
    assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in photos.rglob("*.png")}


def test_the_sealed_part_of_a_folder_does_not_depend_on_the_seed(photos: Path) -> None:
    parts = []
    for seed in (0, 1):
        tree = overlay(to_tree(notes("folder")), {"data": {"path": str(photos)}, "seed": seed})
        splits = assemble(from_tree(tree), Engine.start(from_tree(tree).engine)).splits
        parts.append((splits.test.rows.tolist(), splits.validation.rows.tolist()))
    assert parts[0][0] == parts[1][0]
    assert parts[0][1] != parts[1][1]


class _Noisy(Dataset[tuple[torch.Tensor, int]]):
    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.rand(1, 8, 8), index % 2


def test_a_dataset_of_ones_own_and_one_that_draws(tmp_path: Path) -> None:
    data = Digits().load().train
    pixels, labels = data.images[:200], data.labels[:200]
    recipe = good("digits").with_(
        data=FromDataset(TensorDataset(pixels, labels)), length=steps(4),
        record=RecordSpec(checkpoint=steps(1), snapshots=0),
    )  # fmt: skip
    run = _stopped(recipe, tmp_path / "a", after=2)
    with pytest.raises(BadRecipe, match="Pass the recipe again"):
        resume(run.path)
    summary = resume(run.path, recipe).summary()
    assert summary is not None
    assert summary["level"] == "bitwise"
    assert load(run.path)(pixels[:2]).shape == (2, 10)
    noisy = recipe.with_(data=FromDataset(_Noisy()))
    run = _stopped(noisy, tmp_path / "b", after=2)
    assert run.read_json("environment.json") is not None
    with pytest.raises(DataChanged, match="has changed|draws random numbers"):
        resume(run.path, noisy)


def _small_files_only(folder: Path, limit: int, after: int) -> None:
    """Train in this process with a limit on the size of files, from step `after` on."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    asked = iter(range(1, 1000))

    def stop(_: Step) -> bool:
        if next(asked) == after:
            while not next(folder.glob(f"*/checkpoints/step-{after - 1:08d}"), None):
                time.sleep(0.001)  # the save before is on its way to the disk
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        return False

    recipe = good("digits").with_(
        length=steps(8), evaluate=steps(2), batch_size=16,
        record=RecordSpec(every=2, checkpoint=steps(1), snapshots=0),
    )  # fmt: skip
    with (folder / "said.txt").open("w") as said:
        try:
            train(recipe, folder, console=Console(said), stop=stop)
        except Exception as error:
            said.write(f"{type(error).__name__}: {error}\n")
            said.flush()
            os._exit(1)


def test_a_full_disk_leaves_what_was_saved(tmp_path: Path) -> None:
    """A real limit, in a real process: saves fail, training goes on, the end is an error."""
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=_small_files_only, args=(tmp_path, 1_000_000, 3))
    process.start()
    process.join()
    assert process.exitcode == 1
    said = (tmp_path / "said.txt").read_text()
    assert "warning: The checkpoint" in said
    assert "Training goes on; the next save tries again" in said
    assert "SaveFailed" in said
    run = all_runs(tmp_path)[0]
    saved, problems = run.checkpoints.latest()
    assert saved is not None
    assert problems == []
    assert saved.step == 2
    assert not [p for p in run.checkpoints.folder.iterdir() if p.name.startswith(".")]
    unbroken = train(from_tree(read_toml(run.path / "recipe.toml")), tmp_path / "unbroken")
    assert resume(run.path).metrics.read_bytes() == unbroken.metrics.read_bytes()


def test_a_finished_run_is_left_alone(finished: Run) -> None:
    before = {
        p: p.read_bytes() for p in finished.path.rglob("*") if p.is_file() and p.name != "log.txt"
    }
    resume(finished.path)
    assert before == {p: p.read_bytes() for p in before}


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(BadRun, match=r'no run "nowhere"'):
        resume("nowhere")
    with pytest.raises(BadRun, match="is not a run: it holds no recipe.toml"):
        resume(tmp_path)
    with pytest.raises(BadRun, match="There is no run in runs yet"):
        resume("latest")


def test_the_newest_run_is_the_latest(tiny: Recipe, tmp_path: Path) -> None:
    short = tiny.with_(length=steps(1))
    runs = [train(short, tmp_path) for _ in range(3)]
    assert len({run.path for run in runs}) == 3
    assert [run.path for run in all_runs(tmp_path)] == [run.path for run in runs]
    assert (tmp_path / "latest").resolve() == runs[-1].path.resolve()
    shutil.rmtree(runs[-1].path)
    assert load(tmp_path / "latest").step == 1  # the link leads nowhere now; we look ourselves


def test_bad_best_checkpoint_falls_back_and_says_so(tiny: Recipe, tmp_path: Path) -> None:
    run = train(tiny, tmp_path)
    for step in run.checkpoints.steps():
        (run.checkpoints.path(step) / "model.safetensors").write_bytes(b"")
    with pytest.raises((BadRun, BadCheckpoint)):
        load(run.path)


def test_the_environment_says_on_what(finished: Run) -> None:
    facts = json.loads((finished.path / "environment.json").read_text())
    assert facts["level"] == "bitwise"
    assert facts["packages"]["torch"] == torch.__version__
    assert facts["threads"] == torch.get_num_threads()
    assert facts["data"]["classes"] == list("0123456789")


def test_settings_are_checked_beside_parts_from_python(tiny: Recipe, tmp_path: Path) -> None:
    """The data of this recipe was made in Python; the rest still has to obey."""
    with pytest.raises(BadRecipe, match=r"optimizer.momentum must be a number < 1"):
        train(tiny.with_(optimizer=SGD(momentum=1.0)), tmp_path)
    with pytest.raises(BadRecipe, match=r"batch_size must be a whole number >= 1"):
        train(tiny.with_(batch_size=0), tmp_path)
    assert not list(tmp_path.iterdir())
