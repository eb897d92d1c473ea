"""Kill and resume with every technique: optimizer x schedule x EMA x accumulation x stopping.

The whole matrix, in one process: `pytest -m slow tests/test_matrix.py`; here a sample in which each
pair of values occurs, and a smaller one in which real processes are killed.
"""

from __future__ import annotations

import itertools
import multiprocessing
import random
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from pellucid import Recipe, good, resume, steps, train
from pellucid.augment.geometry import Crop
from pellucid.augment.pipeline import AugmentSpec
from pellucid.catalogue import names, spec
from pellucid.data.sampling import Balanced
from pellucid.models.mlp import MLPSpec
from pellucid.optim.losses import CrossEntropy
from pellucid.plan import Duration
from pellucid.recipe import EMASpec, RecordSpec
from pellucid.runs.folder import Run
from pellucid.runs.listing import all_runs
from pellucid.stopping import StopSpec
from tests.conftest import FewDigits
from tests.test_resume import same, whole

SCHEDULES: dict[str, dict[str, Any]] = {
    "step": {"epochs": 1}, "multistep": {"milestones": (1, 2)}, "plateau": {"patience": 0},
    "cosine": {"warmup": 0.2},
}  # fmt: skip
VALUES: dict[str, tuple[Any, ...]] = {
    "optimizer": names("optimizer"),
    "schedule": names("schedule"),
    "ema": (0.0, 0.9),
    "accumulate": (1, 3),
    "patience": (0, 2),
}
Case = tuple[Any, ...]
ALL: list[Case] = list(itertools.product(*VALUES.values()))


def pairs(case: Case) -> set[tuple[int, Any, int, Any]]:
    return {(i, case[i], j, case[j]) for i, j in itertools.combinations(range(len(case)), 2)}


def pairwise() -> list[Case]:
    """Return few cases in which each pair of values of two techniques occurs."""
    left = set().union(*map(pairs, ALL))
    chosen = []
    while left:
        best = max(ALL, key=lambda case: len(pairs(case) & left))
        chosen.append(best)
        left -= pairs(best)
    return chosen


SAMPLE = pairwise()


def recipe(case: Case) -> Recipe:
    """Return a run of 12 steps on 45 digits, 36 of them to train on."""
    optimizer, schedule, ema, accumulate, patience = case
    kind: Any = spec("schedule", schedule)
    return good("digits").with_(
        data=FewDigits(),
        model=MLPSpec(hidden=(16,), dropout=0.2),
        augment=AugmentSpec(crop=Crop(padding=2)),
        sampling=Balanced(),
        loss=CrossEntropy(class_weights="balanced", label_smoothing=0.1),
        optimizer=spec("optimizer", optimizer)(lr=0.01),
        schedule=kind(**SCHEDULES.get(schedule, {})),
        ema=EMASpec(decay=ema),
        stop=StopSpec(patience=patience),
        accumulate=accumulate,
        max_grad_norm=1.0,
        length=steps(12),
        evaluate=Duration.parse("1 step"),
        batch_size=9,
        record=RecordSpec(every=3, checkpoint=steps(1), snapshots=0),
    )


def content(run: Run) -> dict[str, bytes]:
    """Return what has to be equal, byte by byte."""
    last = run.checkpoints.path(run.checkpoints.steps()[-1])
    paths = [*last.glob("*.safetensors"), *run.path.glob("predictions/*"), run.metrics]
    return {str(path.relative_to(run.path)): path.read_bytes() for path in paths}


def check(case: Case, folder: Path, stops: Iterable[int]) -> None:
    records, tensors, facts = whole(recipe(case), folder)
    for stop in stops:
        if stop < len(records):
            again = whole(recipe(case), folder / str(stop), stop)
            assert again[0] == records, f"{case} stopped after step {stop}"
            assert same(again[1], tensors), f"{case} stopped after step {stop}"
            assert again[2] == facts, f"{case} stopped after step {stop}"


@pytest.mark.parametrize("case", SAMPLE, ids=str)
def test_stopped_and_resumed(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path, [1 + SAMPLE.index(case) % 11])


@pytest.mark.slow
@pytest.mark.parametrize("case", ALL, ids=str)
def test_the_whole_matrix(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path, range(1, 12))


def test_the_sample_holds_each_pair() -> None:
    assert set().union(*map(pairs, SAMPLE)) == set().union(*map(pairs, ALL))


def test_some_of_these_runs_do_stop_early(tmp_path: Path) -> None:
    early = [case for case in ALL[1::16] if len(whole(recipe(case), tmp_path)[0]) < 12]
    assert early


def work(case: Case, runs: Path) -> None:
    found = all_runs(runs)
    if found:
        resume(found[0].path, recipe(case))
    else:
        train(recipe(case), runs)


def test_killed_and_resumed(tmp_path: Path) -> None:
    """Real processes, `kill -9`; a few of the sample, other techniques each time by its seed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pellucid.public"])
    draws = random.Random(0)
    killed = 0
    for number, case in enumerate(draws.sample(SAMPLE, len(SAMPLE) // 12)):
        expected = content(train(recipe(case), tmp_path / f"whole{number}"))
        runs = tmp_path / f"killed{number}"
        process = context.Process(target=work, args=(case, runs))
        process.start()
        skip = draws.randrange(1, 8)
        while process.is_alive():
            if len(list(runs.glob("*/checkpoints/step-*/manifest.json"))) and not skip:
                break
            skip = max(0, skip - bool(list(runs.glob("*/checkpoints/.writing-*"))))
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        again = context.Process(target=work, args=(case, runs))
        again.start()
        again.join()
        assert again.exitcode == 0, case
        assert content(all_runs(runs)[0]) == expected, case
    assert killed
