"""A real run whose rows are shown, and the real servers of the boards, each on a free port."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from pellucid import Recipe, good, steps, train
from pellucid.data.digits import Digits
from pellucid.recipe import RecordSpec
from pellucid.runs.folder import Run
from pellucid.values import Loaded, Progress, no_progress

Row = dict[str, Any]


@dataclass(frozen=True)
class Handful:
    """Some real digits: a source that was made in Python. Its settings are what a recipe needs."""

    validation: float = 0.2
    test: float = 0.0

    def load(self, progress: Progress = no_progress) -> Loaded:
        """Return 100 to train on, and 20 to test on."""
        loaded = Digits().load(progress)
        assert loaded.test is not None
        part = loaded.train.part(torch.arange(0, 5000, 50))
        return Loaded(part, test=loaded.test.part(torch.arange(0, 1000, 50)))


RECIPE = good("digits").with_(
    data=Handful(), length=steps(12), evaluate=steps(4), batch_size=32,
    record=RecordSpec(every=3, snapshots=0),
)  # fmt: skip
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture
def recipe() -> Recipe:
    """The recipe of the fixture `finished`."""
    return RECIPE


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A real run: 12 steps, a row each 3, evaluated after 4, 8 and 12; at 12 there are both."""
    return train(RECIPE, tmp_path_factory.mktemp("finished"))


@pytest.fixture
def history(finished: Run) -> list[Row]:
    """Its rows of steps and evaluations; the boards show no others."""
    rows = [r for r in finished.rows("metrics.jsonl") if r["kind"] in ("step", "evaluation")]
    assert [row["step"] for row in rows] == [3, 4, 6, 8, 9, 12, 12]
    return rows


@pytest.fixture
def said() -> list[str]:
    """What a person was told."""
    return []


@pytest.fixture
def say(said: list[str]) -> Callable[[str], None]:
    """Tell a person something: only in the thread that trains."""

    def line(text: str) -> None:
        assert threading.current_thread() is threading.main_thread()
        said.append(text)

    return line


def fetch(url: str, body: Any = None) -> Any:
    """Return the answer to a GET, or to a POST of JSON; parsed if it is JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with OPENER.open(request, timeout=30) as answer:
        content = answer.read()
        if "json" in answer.headers.get("Content-Type", "") or content[:1] in (b"{", b"["):
            return json.loads(content)
        return content


@pytest.fixture
def get() -> Callable[..., Any]:
    """`fetch`, for the tests."""
    return fetch


@contextmanager
def serving(command: list[str], port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until its port answers, and end it afterwards, whatever happened."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        wait_for(port, process, log)
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when something answers at `port`; fail when the process ends before."""
    for _ in range(600):
        with socket.socket() as connection:
            if connection.connect_ex(("127.0.0.1", port)) == 0:
                return
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        break
    raise AssertionError(f"no server at port {port}: {log.read_text(errors='replace')[-2000:]}")


def free_port() -> int:
    """Return a port of loopback that nobody listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@pytest.fixture
def unused_port() -> int:
    """A port that nobody listens at."""
    return free_port()


@contextmanager
def tensorboard_server(folder: Path, *options: str) -> Iterator[tuple[str, int]]:
    """Run `tensorboard --logdir folder`; yield its address and the id of its process."""
    port = free_port()
    program = Path(sys.executable).with_name("tensorboard")
    command = [str(program), "--logdir", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    with serving([*command, *options], port, folder.with_suffix(".log")) as process:
        yield f"http://127.0.0.1:{port}", process.pid


@pytest.fixture
def tensorboard() -> Callable[..., Any]:
    """`tensorboard_server`, for the tests."""
    return tensorboard_server


@dataclass
class VisdomServer:
    """A real Visdom server.

    Args:
        port: on loopback.
        process: to be stopped or killed.
        folder: where it keeps environments.
        log: what it prints: a line a request.
    """

    port: int
    process: subprocess.Popen[bytes]
    folder: Path
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def windows(self, environment: str) -> dict[str, Any]:
        """Return all windows of an environment by name; none if there is no such environment."""
        try:
            found: dict[str, Any] = fetch(f"{self.url}/win_data", {"win": None, "eid": environment})
        except urllib.error.HTTPError as error:
            error.close()
            return {}
        return found

    def lines(self, environment: str, window: str) -> dict[str, list[tuple[int, float]]]:
        """Return the points of each line of a window, by the line's name."""
        traces = self.windows(environment)[window]["content"]["data"]
        return {one["name"]: list(zip(one["x"], one["y"], strict=True)) for one in traces}

    def requests(self, path: str) -> int:
        """Return how often `path` was posted to."""
        return self.log.read_text(errors="replace").count(f"POST {path} ")


def visdom_python() -> str:
    """Return the interpreter that has Visdom; skip the test where there is none."""
    if find_spec("visdom") is not None:
        return sys.executable
    found = os.environ.get("PELLUCID_VISDOM_PYTHON", "")
    if found and Path(found).exists():
        return found
    reason = (
        "there is no Visdom server: make an environment with visdom==0.2.4 (its build needs "
        "setuptools<81) and name its interpreter in PELLUCID_VISDOM_PYTHON"
    )
    if os.environ.get("PELLUCID_REQUIRE_BOARDS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def visdom_server(folder: Path) -> Iterator[VisdomServer]:
    """Run a real Visdom server, without the download that its page needs at first."""
    folder.mkdir()
    port, log = free_port(), folder / "server.log"
    main = "from visdom.server.run_server import main; main()"
    options = ["-port", str(port), "-bind_local", "-env_path", f"{folder}/"]
    with serving([visdom_python(), "-c", main, *options], port, log) as process:
        yield VisdomServer(port, process, folder, log)


@pytest.fixture(scope="session")
def shared_visdom(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VisdomServer]:
    """One server for the tests that leave it alive; each has an environment of its own."""
    with visdom_server(tmp_path_factory.mktemp("visdom") / "shared") as server:
        yield server


@pytest.fixture
def own_visdom(tmp_path: Path) -> Iterator[VisdomServer]:
    """A server for one test, which may kill it."""
    with visdom_server(tmp_path / "visdom") as server:
        yield server
