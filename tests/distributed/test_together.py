"""Two processes compute what one does; a failure on one is everybody's. Real processes, gloo."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

import pellucid.evaluate
from pellucid import Engine, Recipe, resume, train
from pellucid.assemble import assemble
from pellucid.distributed.group import Together, connect
from pellucid.errors import Drifted, Ended, PellucidError
from pellucid.evaluate import predict, predict_together
from pellucid.keeper import save_together
from pellucid.processes import start_together
from pellucid.runs.folder import Run
from pellucid.runs.followed import FollowedRun
from pellucid.seeds import generator
from pellucid.values import Step
from tests.distributed.group import job
from tests.distributed.recipes import EQUAL, OWN, Failing, Forgetful, content, only, plain

Said = dict[str, Any]


class After:
    """Asks to stop after some steps, on one process alone."""

    def __init__(self, step: int, here: bool = True) -> None:
        self.step = step
        self.here = here

    def __call__(self, step: Step) -> bool:
        return self.here and step.index == self.step


def fails(work: Any) -> Said:
    """Return the error that `work` raises."""
    try:
        work()
    except PellucidError as error:
        return {"kind": type(error).__name__, "text": str(error), "code": error.exit_code}
    except ValueError as error:
        return {"kind": "ValueError", "text": str(error)}
    return {"kind": "none", "text": ""}


def everything(rank: int, folder: Path) -> Said:
    """Train all recipes, one after the other; then let things go wrong, each in its own way."""
    said: Said = {"kinds": []}
    for name, changes in {**EQUAL, **OWN}.items():
        run = train(plain(**changes), folder / name)
        said["kinds"].append(type(run).__name__)
        assert only(folder / name).path == run.path

    recipe = plain(**EQUAL["all"])
    for name, asks in (("stopped by 0", 0), ("stopped by 1", 1)):
        run = train(recipe, folder / name, stop=After(5, rank == asks))
        assert not isinstance(run, FollowedRun) or run.stopped
        resume(only(folder / name).path, recipe)
    train(recipe, folder / "for others", stop=After(5))

    said["evaluation"] = evaluation()
    said["drift"] = drift(rank)
    said["own state"] = fails(lambda: train(plain(model=Forgetful()), folder / "own state"))
    diverging = plain(model=Failing(1, 3, numbers=False))
    said["diverged"] = fails(lambda: train(diverging, folder / "diverged"))
    said["unsaved"] = fails(lambda: train(recipe, folder / "unsaved", stop=Blocks(folder, rank)))
    said["failed"] = fails(lambda: train(plain(model=Failing(1, 3)), folder / "failed"))
    said["too small"] = fails(lambda: train(plain(batch_size=3), folder / "too small"))
    return said


class Blocks:
    """Takes the place of the folder of checkpoints, so that no save succeeds."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder = folder
        self.rank = rank

    def __call__(self, step: Step) -> bool:
        if self.rank == 0 and step.index == 1:
            (only(self.folder / "unsaved").path / "checkpoints").write_text("")
        return False


def together(recipe: Recipe) -> tuple[Together, Engine, Any]:
    """Return what a process has when training begins."""
    processes = connect(60)
    assert isinstance(processes, Together)
    processes.__enter__()
    engine = Engine.start(recipe.engine, processes)
    built = assemble(recipe, engine)
    processes.join(engine.device)
    start_together(engine, built, recipe, Path())
    return processes, engine, built


def evaluation() -> list[list[int]]:
    """Return where predicting together differs from predicting alone: sizes of set and batch."""
    processes, engine, built = together(plain())
    data, model = built.splits.train, built.state.model
    draws = generator(0, "test")
    differ = []
    for batch in (1, 2, 3, 4, 7, 500):
        pellucid.evaluate.BATCH = batch
        for n in (0, 1, 2, 3, 5, 8, 9, 33, 64, *((501, 1001) if batch == 500 else ())):
            part = data.part(torch.randint(len(data), (n,), generator=draws))
            alone = predict(engine, model, part, built.task.prepare)
            shared = predict_together(engine, model, part, built.task.prepare)
            if not torch.equal(alone.logits, shared.logits):
                differ.append([n, batch])
    pellucid.evaluate.BATCH = 500
    processes.__exit__(None, None, None)
    return differ


def drift(rank: int, who: int = 1) -> list[Said]:
    """Return what is said of one weight, then of one moment, that one process flips."""
    said = []
    for table in ("model", "optimizer"):
        processes, engine, built = together(plain())
        for _ in range(2):
            loss = built.state.model(built.task.prepare(next(built.task.train.pieces(0)).images))
            loss.sum().backward()
            engine.sum(built.state.model, loss.sum().detach(), 0)
            engine.step(built.state.optimizer)
        save = partial(save_together, engine, built.state, lambda: False)
        said.append(fails(save))
        if rank == who:
            weight = built.state.model.layers[1].weight
            slot = built.state.optimizer.state[weight]["exp_avg"]
            with torch.no_grad():
                (weight if table == "model" else slot)[0, 0] += 1e-3
        said.append(fails(save))
        processes.__exit__(None, None, None)
    return said


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Said]]]:
    """What two processes made and said."""
    folder = tmp_path_factory.mktemp("pair")
    with job(2, folder, everything) as running:
        yield folder, running.end()


Pair = tuple[Path, list[Said]]


@pytest.mark.parametrize("name", EQUAL)
def test_two_processes_are_one_in_twice_as_many_pieces(
    pair: Pair, tmp_path: Path, name: str
) -> None:
    """Bit for bit: weights, optimizer, average, each row of metrics, each logit."""
    recipe = plain(**EQUAL[name])
    alone = train(recipe.with_(accumulate=2 * recipe.accumulate), tmp_path)
    mine, theirs = content(alone), content(only(pair[0] / name))
    assert mine.keys() == theirs.keys()
    assert {"model.safetensors", "optimizer.safetensors"} <= {Path(n).name for n in mine}
    assert [n for n in mine if mine[n] != theirs[n]] == []


def test_more_pieces_differ_by_rounding(pair: Pair, tmp_path: Path) -> None:
    """Two pieces on each of two: their sums are added in another order than four in a row."""
    expected = read_weights(train(plain(accumulate=4), tmp_path))
    for key, weight in read_weights(only(pair[0] / "pieces")).items():
        torch.testing.assert_close(weight, expected[key], rtol=1e-5, atol=1e-6)


def test_only_rank_0_has_the_run(pair: Pair) -> None:
    kinds = [said["kinds"] for said in pair[1]]
    assert set(kinds[0]) == {"Run"}
    assert set(kinds[1]) == {"FollowedRun"}


def test_running_statistics_are_equal_and_saved(pair: Pair) -> None:
    """Each save compares them; here, that they moved, and that the runs came to their ends."""
    for name in OWN:
        assert only(pair[0] / name).summary() is not None


@pytest.mark.parametrize("name", ["stopped by 0", "stopped by 1"])
def test_stopped_and_resumed_is_the_unbroken_run(pair: Pair, name: str) -> None:
    stopped = only(pair[0] / name)
    assert "stopped after step 5" in (stopped.path / "log.txt").read_text(encoding="utf-8")
    assert content(stopped) == content(only(pair[0] / "all"))


def test_another_number_of_processes_goes_on_and_says_so(pair: Pair, tmp_path: Path) -> None:
    """One and three: the same images at each step, so nearly the same weights."""
    recipe = plain(**EQUAL["all"])
    unbroken = read_weights(only(pair[0] / "all"))
    for size in (1, 3):
        runs = tmp_path / str(size)
        shutil.copytree(only(pair[0] / "for others").path, runs / "run")
        if size == 1:
            resume(runs / "run", recipe)
        else:
            with job(3, tmp_path / "job", go_on, runs / "run", recipe) as running:
                running.end()
        log = (runs / "run" / "log.txt").read_text(encoding="utf-8")
        assert f"not bitwise the same run any more: processes: 2 -> {size}" in log
        for key, weight in read_weights(Run(runs / "run")).items():
            torch.testing.assert_close(weight, unbroken[key], rtol=1e-4, atol=1e-5)
    said = [json.loads((tmp_path / f"job/rank-{rank}.json").read_text()) for rank in range(3)]
    assert all("rank 0 is not that of the others" in s["drift"][1]["text"] for s in said)
    three, one = only(tmp_path / "job" / "three"), train(recipe.with_(accumulate=3), tmp_path / "p")
    expected = read_weights(one)
    for key, weight in read_weights(three).items():  # sums of three, in another order
        torch.testing.assert_close(weight, expected[key], rtol=1e-5, atol=1e-6)


def go_on(rank: int, folder: Path, run: Path, recipe: Recipe) -> Said:
    resume(run, recipe)
    train(recipe, folder / "three")
    return {"drift": drift(rank, who=0)}


def read_weights(run: Run) -> dict[str, torch.Tensor]:
    checkpoint, _ = run.checkpoints.latest()
    assert checkpoint is not None
    return checkpoint.tensors["model"]


def test_metrics_are_exact_for_any_size(pair: Pair) -> None:
    assert [said["evaluation"] for said in pair[1]] == [[], []]


def test_drift_is_found_at_the_next_save(pair: Pair) -> None:
    for said in pair[1]:
        before, weight, again, moment = said["drift"]
        assert before["kind"] == again["kind"] == "none"
        assert weight["kind"] == moment["kind"] == Drifted.__name__
        assert "model/layers.1.weight of rank 1" in weight["text"]
        assert "optimizer/layers.1.weight/exp_avg of rank 1" in moment["text"]
        assert said["own state"]["kind"] == Drifted.__name__
        assert "after step 1: model/seen of rank 1" in said["own state"]["text"]
    assert only(pair[0] / "own state").checkpoints.steps() == []


def test_what_fails_on_rank_0_ends_all(pair: Pair) -> None:
    first, second = pair[1]
    for what, kind, code in (
        ("diverged", "Diverged", 1), ("unsaved", "SaveFailed", 1), ("too small", "BadRecipe", 2)
    ):  # fmt: skip
        assert first[what]["kind"] == kind
        assert second[what] == {**second[what], "kind": Ended.__name__, "code": code}
    assert "need batches of at least 4 images" in first["too small"]["text"]


def test_what_fails_elsewhere_is_named(pair: Pair) -> None:
    first, second = pair[1]
    assert second["failed"] == {"kind": "ValueError", "text": "no more of this"}
    assert first["failed"]["kind"] == "LostProcess"
    assert "rank 1 failed (ValueError: no more of this)" in first["failed"]["text"]
    assert "the last it reached: step 3" in first["failed"]["text"]


def replace_timeout(recipe: Recipe, timeout: float) -> Any:
    """Return the engine of `recipe` with another timeout."""
    return msgspec.structs.replace(recipe.engine, timeout=timeout)
