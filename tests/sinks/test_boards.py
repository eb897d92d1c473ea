"""Boards never stop, slow or change a run, whatever they do."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pellucid.boardspec import TensorBoardSpec, VisdomSpec
from pellucid.errors import MissingExtra
from pellucid.sinks.board import BoardFailed, Look, Story
from pellucid.sinks.boards import ROOM, Boards
from pellucid.sinks.tensorboard import TensorBoard
from pellucid.sinks.visdom import Visdom

Say = Callable[[str], None]
STORY = Story(Path("runs/one"), "one", "seed = 0\n")
ROW = {"kind": "step", "step": 1, "loss": 0.5}


class Notebook:
    """A board that writes down what it gets, and may be held up or break at a call."""

    name = "Notebook"

    def __init__(self, breaks_at: str = "", error: Exception | None = None) -> None:
        self.breaks_at = breaks_at
        self.error = error or ValueError("the ink is dry")
        self.calls: list[tuple[str, Any]] = []
        self.threads: set[threading.Thread] = set()
        self.reached = threading.Event()
        self.looked = threading.Event()
        self.flushed = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def note(self, call: str, content: Any = None) -> None:
        self.threads.add(threading.current_thread())
        if call == "rows":
            self.reached.set()
            self.go_on.wait()
        self.calls.append((call, content))
        if call == "flush":
            self.flushed.set()
        if call == "look":
            self.looked.set()
        if call == self.breaks_at:
            raise self.error

    def open(self, story: Story) -> None:
        self.note("open", story)

    def rows(self, rows: Sequence[dict[str, Any]]) -> None:
        self.note("rows", rows)

    def look(self, look: Look) -> None:
        self.note("look", look)

    def result(self, text: str) -> None:
        self.note("result", text)

    def flush(self) -> None:
        self.note("flush")

    def close(self) -> None:
        self.note("close")

    def got(self, call: str) -> list[Any]:
        return [content for name, content in self.calls if name == call]


def wait_for_failure(boards: Boards) -> None:
    """Wait until the first board has given up."""
    boards._workers[0]._thread.join(30)
    assert boards._workers[0].failure


def test_without_a_board_nothing_happens(say: Say, said: list[str]) -> None:
    threads = threading.active_count()
    with Boards.of(None, None, say) as boards:
        assert not boards.on
        boards.open(STORY)
        boards.rows([ROW])
        boards.look(1, {"weight": object()})  # type: ignore[dict-item]  # not even copied
        boards.result("good")
        assert threading.active_count() == threads
    assert said == []


def test_a_board_gets_everything_in_order_in_one_thread_of_its_own(
    say: Say, said: list[str]
) -> None:
    board = Notebook()
    with Boards([board], say) as boards:
        assert boards.on
        boards.open(STORY)
        boards.rows([ROW])
        boards.rows([])
        boards.look(1, {"weight": torch.ones(2)})
        boards.result("good")
    assert [call for call, _ in board.calls if call != "flush"] == [
        "open", "rows", "look", "result", "close"
    ]  # fmt: skip
    assert board.calls[-2][0] == "flush"
    assert board.got("open") == [STORY]
    assert board.got("rows") == [[ROW]]
    assert len(board.threads) == 1
    assert threading.main_thread() not in board.threads
    assert said == []


def test_weights_are_copied_before_training_changes_them(say: Say) -> None:
    board = Notebook()
    weights = {
        "conv": torch.arange(6.0).reshape(2, 3).requires_grad_(),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "count": torch.tensor(7),
        "steps": torch.ones(3, dtype=torch.int64),
        "scale": torch.tensor(1.0),
    }
    samples = torch.full((2, 1, 3, 3), 0.25)
    with Boards([board], say, pause=0) as boards:
        boards.open(STORY)
        board.go_on.clear()
        boards.rows([ROW])
        assert board.reached.wait(30)
        boards.look(5, weights, samples)
        with torch.no_grad():
            weights["conv"].zero_()
            samples.zero_()
        board.go_on.set()
    (look,) = board.got("look")
    assert look.step == 5
    assert set(look.weights) == {"conv", "half"}
    assert look.weights["conv"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert look.weights["half"].dtype == np.float32
    assert (look.samples == 0.25).all()


def test_when_there_is_no_room_what_comes_is_dropped_and_counted(say: Say, said: list[str]) -> None:
    board, quick = Notebook(), Notebook()
    with Boards([board, quick], say, pause=0) as boards:
        boards.open(STORY)
        board.go_on.clear()
        boards.rows([ROW])
        assert board.reached.wait(30)
        for number in range(ROOM["rows"] + 3):  # comes back at once, although nothing is done
            boards.rows([{**ROW, "step": number}, {**ROW, "step": number}])
        for number in range(ROOM["looks"] + 1):
            boards.look(number, {"weight": torch.ones(2)})
        boards.result("good")
        assert said == []
        board.go_on.set()
    steps = [rows[0]["step"] for rows in board.got("rows")]
    assert steps == [1, *range(ROOM["rows"])]
    assert [look.step for look in board.got("look")] == [0, 1]
    assert board.got("result") == ["good"]
    assert said[0] == "note: Notebook could not keep up: it lacks 6 rows and 1 look."


def test_rows_gather_between_two_deliveries_and_a_look_does_not_wait(say: Say) -> None:
    board = Notebook()
    with Boards([board], say, pause=3600) as boards:
        boards.open(STORY)
        assert board.flushed.wait(30)  # now it rests
        boards.look(0, {"weight": torch.ones(2)})
        assert board.looked.wait(30)
        for step in range(50):
            boards.rows([{**ROW, "step": step}])
    assert [rows[0]["step"] for rows in board.got("rows")] == list(range(50))
    assert len(board.got("flush")) <= 3


@pytest.mark.parametrize("call", ["open", "rows", "look", "result", "flush", "close"])
def test_a_board_that_breaks_is_switched_off_with_one_warning(
    say: Say, said: list[str], call: str
) -> None:
    broken, other = Notebook(breaks_at=call), Notebook()
    with Boards([broken, other], say) as boards:
        boards.open(STORY)
        for _ in range(3):
            boards.rows([ROW])
        boards.look(1, {"weight": torch.ones(2)})
        boards.result("good")
    assert said == [
        "warning: Notebook is switched off, training goes on: ValueError: the ink is dry"
    ]
    assert broken.calls[-1][0] == "close"
    assert len(broken.got(call)) == (2 if call == "close" else 1)
    assert len(other.got("rows")) == 3
    assert other.got("result") == ["good"]


def test_the_warning_comes_at_the_next_step_and_then_nothing_is_queued(
    say: Say, said: list[str]
) -> None:
    board = Notebook("rows", BoardFailed("nobody answers. Start a server."))
    with Boards([board], say, pause=0) as boards:
        boards.open(STORY)
        boards.rows([ROW])
        wait_for_failure(boards)
        assert said == []
        boards.rows([])
        expected = "warning: Notebook is switched off, training goes on: nobody answers. "
        assert said == [expected + "Start a server."]
        assert not boards.on
        for _ in range(3):
            boards.rows([ROW])
    assert len(said) == len(board.got("rows")) == 1


def test_the_end_waits_for_a_board_only_so_long(say: Say, said: list[str]) -> None:
    board = Notebook()
    board.go_on.clear()
    boards = Boards([board], say, pause=0, patience=0)
    boards.open(STORY)
    boards.rows([ROW])
    boards.result("good")
    assert board.reached.wait(30)
    boards.close()
    assert said == ["warning: Notebook had not finished in time; metrics.jsonl holds all numbers."]
    board.go_on.set()  # it ends by itself, and does no further job
    for thread in board.threads:
        thread.join(30)
    assert board.got("result") == []
    assert board.calls[-1][0] == "close"
    boards.close()
    assert len(said) == 1


def test_an_error_in_training_passes_and_the_boards_are_closed(say: Say) -> None:
    board = Notebook()
    boards = Boards([board], say)
    boards.open(STORY)
    with pytest.raises(KeyError, match="training"), boards:
        raise KeyError("training")
    assert board.calls[-1][0] == "close"


def test_an_error_before_the_boards_are_open_passes_too(say: Say, said: list[str]) -> None:
    with pytest.raises(KeyError, match="data"), Boards([Notebook()], say):
        raise KeyError("data")
    assert said == []


def test_a_recipe_chooses_the_boards(say: Say) -> None:
    both = Boards.of(TensorBoardSpec(), VisdomSpec(port=9), say)
    assert [type(worker.board) for worker in both._workers] == [TensorBoard, Visdom]
    assert not Boards.of(None, None, say).on


def without_tensorboard(folder: Path) -> Path:
    """Return a folder with everything that is installed here, but TensorBoard."""
    folder.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith("tensorboard"):
            (folder / entry.name).symlink_to(entry)
    return folder


def test_without_tensorboard_it_is_said_before_the_training_starts(tmp_path: Path) -> None:
    """A real Python that lacks it: the others work, and one line says what to install."""
    program = """
from pellucid.boardspec import TensorBoardSpec, VisdomSpec
from pellucid.errors import MissingExtra
from pellucid.sinks.boards import Boards
assert Boards.of(None, VisdomSpec(), print).on
try:
    Boards.of(TensorBoardSpec(), None, print)
except MissingExtra as error:
    print(error)
"""
    source = str(Path(__file__).parents[2] / "src")
    path = os.pathsep.join([source, str(without_tensorboard(tmp_path / "packages"))])
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "it is not installed. Run: pip install 'pellucid[board]'." in done.stdout


def test_a_tensorboard_that_is_too_old_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say
) -> None:
    (tmp_path / "tensorboard-2.20.0.dist-info").mkdir()
    facts = "Metadata-Version: 2.1\nName: tensorboard\nVersion: 2.20.0\n"
    (tmp_path / "tensorboard-2.20.0.dist-info/METADATA").write_text(facts)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtra, match=r"version 2.20.0 is too old, 2.21 is needed"):
        Boards.of(TensorBoardSpec(), None, say)
