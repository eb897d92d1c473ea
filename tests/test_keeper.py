"""Training goes on while a thread writes what it was at one step: in order, whole, and reported."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pellucid import Console, Engine, Recipe, resume, steps, train
from pellucid.assemble import assemble
from pellucid.distributed.group import Alone
from pellucid.errors import BadCheckpoint, Diverged, RunBusy, SaveFailed
from pellucid.keeper import Keeper
from pellucid.loop import fit
from pellucid.recipe import EMASpec, RecordSpec
from pellucid.runs.checkpoint import read
from pellucid.runs.disk import Disk
from pellucid.runs.folder import TIMING, Run
from pellucid.runs.listing import all_runs
from pellucid.sinks.recorder import Recorder
from pellucid.state import State
from pellucid.values import Step
from tests.runs.held import Held, Log, when_main_waits

At = Callable[[int], Any]


class Training:
    """Twelve steps with a keeper, on a disk of one's own.

    Attributes:
        was: tensors and facts after each step that was taken.
        said: what the console said.
    """

    def __init__(self, recipe: Recipe, folder: Path, disk: Disk) -> None:
        self.engine = Engine.start(recipe.engine)
        self.recipe = recipe
        self.built = assemble(recipe, self.engine)
        self.state = self.built.state
        folder.mkdir()
        self.run = Run(folder, disk)
        self.checkpoints = self.run.checkpoints
        self.stream = io.StringIO()
        self.was: dict[int, tuple[Any, Any]] = {}

    @property
    def said(self) -> str:
        return self.stream.getvalue()

    @contextlib.contextmanager
    def keeping(self) -> Iterator[tuple[Keeper, Recorder]]:
        with (
            Recorder(self.run.metrics, self.run.path / TIMING, 1, lambda step: []) as recorder,
            Keeper(
                self.run, self.recipe, self.engine, self.built, recorder, Console(self.stream)
            ) as keeper,
        ):
            yield keeper, recorder

    def go(self, at: At = lambda step: None, after: At = lambda step: None) -> None:
        """Train to the end; call `at` before a step's save and `after` when that has returned."""
        with self.keeping() as (keeper, recorder):
            for step in fit(self.state, self.built.task, self.engine):
                recorder(step)
                self.was[step.index] = (self.state.tensors(), self.state.facts())
                keeper.snapshot()
                at(step.index)
                keeper.save_if_due(False)
                after(step.index)

    def saves(self, count: int, best: dict[int, int], at: At = lambda step: None) -> None:
        """Save at steps that are only counted, not taken; `best` says where a better one is."""
        with self.keeping() as (keeper, _):
            for step in range(1, count + 1):
                self.state.step = step
                self.state.best.step = best.get(step, self.state.best.step)
                at(step)
                keeper.save_if_due(False)


@pytest.fixture
def every_fourth(tiny: Recipe) -> Recipe:
    """Saves after steps 4, 8 and 12, which are all kept; everything with a memory is on."""
    record = RecordSpec(every=1, checkpoint=steps(4), keep=steps(4), snapshots=0)
    return tiny.with_(evaluate=steps(12), ema=EMASpec(decay=0.9), record=record)


@pytest.fixture
def each(tiny: Recipe) -> Recipe:
    """Saves after each step; the last two and the best are kept."""
    return tiny.with_(record=RecordSpec(every=1, checkpoint=steps(1), snapshots=0))


def name(step: int) -> str:
    return f"step-{step:08d}"


def same(saved: Any, was: Any) -> None:
    """Fail unless a checkpoint holds, bit by bit, what the state was."""
    tensors, facts = was
    assert saved.tensors.keys() == tensors.keys()
    for file, group in tensors.items():
        assert saved.tensors[file].keys() == group.keys()
        for key, tensor in group.items():
            assert torch.equal(saved.tensors[file][key], tensor), f"{file} {key}"
    assert {key: saved.facts[key] for key in facts} == json.loads(json.dumps(facts))


def test_what_is_written_is_the_state_of_its_step(every_fourth: Recipe, tmp_path: Path) -> None:
    """Nothing of step 4 is written before step 7 is done: what is saved does not move on."""
    disk = Held([], f".writing-{name(4)}")
    training = Training(every_fourth, tmp_path / "run", disk)
    rows: dict[int, int] = {}

    def at(step: int) -> None:
        rows[step] = training.run.metrics.stat().st_size
        if step == 7:
            assert disk.begun.wait(60)
            assert training.checkpoints.steps() == []
            disk.free.set()

    training.go(at)
    assert training.checkpoints.steps() == [4, 8, 12]
    for step in (4, 8, 12):
        saved = read(training.checkpoints.path(step))
        same(saved, training.was[step])
        assert saved.facts["recorder"]["bytes"] == rows[step]
    different = [training.was[4][0]["model"][n].ne(w).any() for n, w in
                 training.was[7][0]["model"].items()]  # fmt: skip
    assert any(different), "the test can fail"


def test_the_next_save_waits_for_the_last(
    each: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One copy at a time: the next is made when the last is written and older ones are gone."""
    log: Log = []
    disk = Held(log, f".writing-{name(5)}")
    training = Training(each, tmp_path / "run", disk)
    copy = State.tensors

    def copied(state: State) -> Any:
        log.append(("copied", name(state.step)))
        return copy(state)

    monkeypatch.setattr(State, "tensors", copied)
    with when_main_waits(disk.free.set, disk):
        training.saves(12, {1: 1})
    expected: Log = []
    for step in range(1, 13):
        expected += [("copied", name(step)), ("made", name(step))]
        if step > 3:
            expected += [("removed", name(step - 2))]
    assert log == expected
    assert disk.begun.is_set()


def test_rows_are_on_the_disk_before_the_checkpoint_that_counts_them(
    every_fourth: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(every_fourth, tmp_path / "run", Held(log := []))
    fsync = os.fsync

    def synced(handle: int) -> None:
        found = os.fstat(handle)
        fsync(handle)
        if found.st_ino == training.run.metrics.stat().st_ino:
            log.append(("rows", str(found.st_size)))

    monkeypatch.setattr(os, "fsync", synced)
    training.go()
    for step in (4, 8, 12):
        counted = read(training.checkpoints.path(step)).facts["recorder"]["bytes"]
        before = log[: log.index(("made", name(step)))]
        assert max(int(size) for what, size in before if what == "rows") >= counted


def test_the_end_waits_for_the_disk(every_fourth: Recipe, tmp_path: Path) -> None:
    log: Log = []
    disk = Held(log, f".writing-{name(12)}")
    training = Training(every_fourth, tmp_path / "run", disk)
    with when_main_waits(disk.free.set, disk):
        training.go(after=lambda step: log.append(("after", name(step))))
    assert log.index(("made", name(12))) < log.index(("after", name(12)))


def test_a_stop_waits_for_the_disk(each: Recipe, tmp_path: Path) -> None:
    disk = Held([], f".writing-{name(1)}")
    training = Training(each, tmp_path / "run", disk)
    training.state.step = 1
    with training.keeping() as (keeper, _), when_main_waits(disk.free.set, disk):
        keeper.save_if_due(True)
        assert training.checkpoints.steps() == [1]


@pytest.mark.parametrize("error", [Diverged("no number", 6), ValueError("a fault")])
def test_an_error_on_the_way_waits_for_what_was_begun(
    every_fourth: Recipe, tmp_path: Path, error: Exception
) -> None:
    disk = Held([], f".writing-{name(4)}")
    training = Training(every_fourth, tmp_path / "run", disk)

    def at(step: int) -> None:
        if step == 6:
            raise error

    with when_main_waits(disk.free.set, disk), pytest.raises(type(error)):
        training.go(at)
    assert training.checkpoints.steps() == [4]
    same(read(training.checkpoints.path(4)), training.was[4])


def test_a_second_ctrl_c_leaves_at_once(each: Recipe, tmp_path: Path) -> None:
    disk = Held([], f".writing-{name(12)}")
    training = Training(each, tmp_path / "run", disk)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def ctrl_c() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with when_main_waits(ctrl_c, disk), pytest.raises(KeyboardInterrupt):
        training.saves(12, {1: 1})
    signal.signal(signal.SIGINT, before)
    assert training.checkpoints.steps() == [1, 10, 11]
    disk.free.set()  # in a real run the process is gone


def test_the_best_that_counts_is_that_of_the_copy(each: Recipe, tmp_path: Path) -> None:
    """While step 5 is written, step 6 becomes the best. Until that is saved, step 1 is needed."""
    log: Log = []
    disk = Held(log, f".writing-{name(5)}")
    training = Training(each, tmp_path / "run", disk)

    def at(step: int) -> None:
        if step == 6:
            assert disk.begun.wait(60)
            disk.free.set()

    training.saves(12, {1: 1, 6: 6}, at)
    assert log.index(("made", name(6))) < log.index(("removed", name(1)))
    assert training.checkpoints.steps() == [6, 11, 12]


class Rotten(Disk):
    """A disk that writes another byte than it was given, once."""

    def __init__(self, step: int) -> None:
        self.step = step

    def write(self, path: Path, data: bytes) -> None:
        if path.parent.name.endswith(name(self.step)) and path.name.startswith("model"):
            data = data[:-1] + bytes([data[-1] ^ 1])
        super().write(path, data)


@pytest.mark.parametrize("step", [5, 12])
def test_a_save_that_reads_back_wrong_ends_the_run_and_removes_nothing(
    each: Recipe, tmp_path: Path, step: int
) -> None:
    """At the latest when the next is due: that one is not made, and nothing is pruned."""
    training = Training(each, tmp_path / "run", Rotten(step))
    with pytest.raises(BadCheckpoint, match=rf"{name(step)}/model.safetensors is damaged"):
        training.saves(12, {1: 1})
    assert training.checkpoints.steps() == [1, step - 2, step - 1, step]
    newest, problems = training.checkpoints.latest()
    assert newest is not None
    assert newest.step == step - 1
    assert len(problems) == 1


class Full(Disk):
    """A disk that is full while one step is saved."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def write(self, path: Path, data: bytes) -> None:
        if any(part in str(path) for part in self.names):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(path, data)


class Noting(Alone):
    """A process that notes what it would tell others: what failed while all agreed."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def agree(self, decide: Callable[[], bool]) -> bool:
        try:
            return decide()
        except Exception as error:
            self.told.append(type(error).__name__)
            raise


@pytest.mark.parametrize(
    ("disk", "kind"),
    [(Rotten(5), BadCheckpoint), (Rotten(12), BadCheckpoint), (Full(name(12)), SaveFailed)],
)
def test_what_ends_the_run_is_raised_where_other_processes_hear_of_it(
    each: Recipe, tmp_path: Path, disk: Disk, kind: type[Exception]
) -> None:
    training = Training(each, tmp_path / "run", disk)
    training.engine.processes = noting = Noting()
    with pytest.raises(kind):
        training.saves(12, {1: 1})
    assert noting.told == [kind.__name__]


def test_a_damaged_save_is_not_forgotten_on_the_way_out(each: Recipe, tmp_path: Path) -> None:
    training = Training(each, tmp_path / "run", Rotten(3))

    def at(step: int) -> None:
        if step == 4:
            raise Diverged("no number", 4)

    with pytest.raises(Diverged):  # what ended the run is what is raised
        training.saves(12, {1: 1}, at)
    assert f"warning: {training.checkpoints.path(3)}/model.safetensors is damaged" in training.said


def test_a_full_disk_is_reported_by_the_next_save_which_tries_again(
    every_fourth: Recipe, tmp_path: Path
) -> None:
    training = Training(every_fourth, tmp_path / "run", Full(name(4)))
    heard: dict[int, str] = {}
    training.go(after=lambda step: heard.update({step: training.said}))
    assert heard[7] == ""
    assert heard[8].startswith(f"warning: The checkpoint {training.checkpoints.path(4)} could not")
    assert "(No space left on device)" in heard[8]
    assert heard[8].endswith("Training goes on; the next save tries again.\n")
    assert training.said == heard[8]
    assert training.checkpoints.steps() == [8, 12]


def test_the_last_save_has_to_succeed(every_fourth: Recipe, tmp_path: Path) -> None:
    training = Training(every_fourth, tmp_path / "run", Full(name(8), name(12)))
    with pytest.raises(SaveFailed, match=name(12)):
        training.go()
    assert name(8) in training.said
    assert training.checkpoints.steps() == [4]


def test_a_full_disk_is_reported_on_the_way_out(every_fourth: Recipe, tmp_path: Path) -> None:
    training = Training(every_fourth, tmp_path / "run", Full(name(4)))

    def at(step: int) -> None:
        if step == 6:
            raise Diverged("no number", 6)

    with pytest.raises(Diverged):
        training.go(at)
    assert f"warning: The checkpoint {training.checkpoints.path(4)} could not" in training.said


def test_snapshots_are_written_meanwhile_and_before_the_next_checkpoint(
    every_fourth: Recipe, tmp_path: Path
) -> None:
    record = RecordSpec(every=1, checkpoint=steps(4), keep=steps(4), snapshots=4)
    log: Log = []
    disk = Held(log, f".{name(3)}")
    training = Training(every_fourth.with_(record=record), tmp_path / "run", disk)
    with when_main_waits(disk.free.set, disk):
        training.go(after=lambda step: log.append(("after", name(step))))
    made = [what for what in log if what[0] == "made"]
    snapshot = f"{name(3)}.safetensors"
    assert made[:2] == [("made", snapshot), ("made", name(4))]
    assert log.index(("after", name(3))) < log.index(("made", snapshot))
    judged = training.was[3][0]["ema"]
    weights = load_file(training.run.path / "snapshots" / snapshot)
    assert all(torch.equal(weights[key], judged[key]) for key in weights)


def test_a_snapshot_that_fails_is_only_said(every_fourth: Recipe, tmp_path: Path) -> None:
    record = RecordSpec(every=1, checkpoint=steps(4), keep=steps(4), snapshots=2)
    training = Training(every_fourth.with_(record=record), tmp_path / "run", Full("snapshots"))
    training.go()
    assert training.said.count("\n") == 2
    for step in (6, 12):
        said = f"warning: No snapshot of the weights after step {step} was kept: No space left"
        assert said in training.said
    assert training.checkpoints.steps() == [4, 8, 12]


def test_train_waits_before_it_lets_go_of_the_run(
    every_fourth: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole of `train`, left by an error while step 4 is held back."""
    disk = Held([], f".writing-{name(4)}")
    busy: list[bool] = []

    def stop(step: Step) -> bool:
        if step.index == 6:
            raise Diverged("no number", 6)
        return False

    def free() -> None:
        try:
            with all_runs(tmp_path)[0].locked():
                busy.append(False)
        except RunBusy:
            busy.append(True)
        disk.free.set()

    make_folder = Disk.make_folder

    def held(self: Disk, path: Path) -> None:
        disk.hold(path)
        make_folder(self, path)

    monkeypatch.setattr(Disk, "make_folder", held)
    with when_main_waits(free, disk), pytest.raises(Diverged):
        train(every_fourth, tmp_path, stop=stop)
    assert busy == [True]
    assert all_runs(tmp_path)[0].checkpoints.steps() == [4]


class Died(BaseException):
    """The process ends here."""


def test_dying_at_each_operation_in_the_background(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the thread was doing, the run goes on from what is there to the same bits."""
    recipe = tiny.with_(record=RecordSpec(every=3, checkpoint=steps(2), snapshots=2))
    unbroken = train(recipe, tmp_path / "unbroken")
    expected = unbroken.metrics.read_bytes()
    last = {p.name: p.read_bytes() for p in unbroken.checkpoints.path(12).glob("*.safetensors")}
    for at in (3, 16, 33):
        runs = tmp_path / f"{at}"
        with monkeypatch.context() as patch:
            _die_at(at, patch)
            with pytest.raises(Died):
                train(recipe, runs)
        run = all_runs(runs)[0]
        assert run.summary() is None
        resume(run.path, recipe)
        assert run.metrics.read_bytes() == expected, f"died at operation {at}"
        found = {p.name: p.read_bytes() for p in run.checkpoints.path(12).glob("*.safetensors")}
        assert found == last, f"died at operation {at}"


def _die_at(at: int, patch: pytest.MonkeyPatch) -> None:
    """Let the `at`-th operation on the disk that the thread asks for be its last."""
    count = 0

    def counted(operation: Callable[..., Any]) -> Callable[..., Any]:
        def work(self: Disk, *args: Any) -> Any:
            nonlocal count
            if threading.current_thread().name == "writer":
                count += 1
                if count >= at:
                    raise Died
            return operation(self, *args)

        return work

    for operation in ("make_folder", "write", "sync_folder", "rename", "remove"):
        patch.setattr(Disk, operation, counted(getattr(Disk, operation)))
