"""Visdom shows the run log's numbers: sent to a real server, and read back from it."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import signal
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import groupby
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from pellucid.boardspec import VisdomSpec
from pellucid.models.mnist_cnn import MnistCNNSpec
from pellucid.runs.folder import Run
from pellucid.sinks import visdom
from pellucid.sinks.board import Look, Story
from pellucid.sinks.boards import Boards
from pellucid.sinks.charts import CHARTS, points
from pellucid.sinks.pictures import grid
from pellucid.sinks.visdom import Visdom

Row = dict[str, Any]
Say = Callable[[str], None]

WEIGHTS = MnistCNNSpec().build((1, 28, 28), 10).state_dict()
SAMPLES = torch.rand(16, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def told(finished: Run, request: pytest.FixtureRequest) -> Story:
    """The story of a run that is named like the test, so that each has its own environment."""
    name = re.sub(r"\W+", "-", request.node.name)
    return Story(finished.path, name, (finished.path / "recipe.toml").read_text())


def board(server: Any, environment: str = "") -> Visdom:
    return Visdom(VisdomSpec(port=server.port, environment=environment))


def expected(rows: list[Row]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Return window -> line -> its points, as they have to be."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for point in points(rows):
        chart, line = next(
            (chart, line) for chart in CHARTS for line in chart.lines if line.tag == point.tag
        )
        window = found.setdefault(chart.name, {})
        window.setdefault(line.label, []).append((point.step, point.value))
    return found


def drawn(server: Any, environment: str) -> dict[str, dict[str, list[tuple[int, float]]]]:
    charts = [chart.name for chart in CHARTS]
    there = server.windows(environment)
    return {name: server.lines(environment, name) for name in charts if name in there}


def show(told: Story, rows: list[Row], server: Any, say: Say) -> None:
    with Boards([board(server)], say, pause=0) as boards:
        boards.open(told)
        for _, group in groupby(rows, lambda row: row["step"]):
            boards.rows(list(group))


def test_every_number_of_the_run_log_can_be_read_back(
    told: Story, history: list[Row], shared_visdom: Any, say: Say, said: list[str]
) -> None:
    show(told, history, shared_visdom, say)
    assert said == []
    assert drawn(shared_visdom, told.name) == expected(history)


def test_windows_have_names_titles_legends_and_axes(
    told: Story, history: list[Row], shared_visdom: Any, say: Say
) -> None:
    show(told, history, shared_visdom, say)
    windows = shared_visdom.windows(told.name)
    assert {"train_loss", "loss_curves", "recipe"} <= set(windows)
    window = windows["loss_curves"]
    assert window["title"] == window["content"]["layout"]["title"] == "Loss"
    assert window["content"]["layout"]["showlegend"] is True
    assert window["content"]["layout"]["xaxis"]["title"] == "step"
    assert window["content"]["layout"]["yaxis"]["title"] == "loss (nats)"
    names = [trace["name"] for trace in window["content"]["data"]]
    assert names[:2] == ["train", "validation"]


def test_points_are_appended_while_the_run_goes_on(
    told: Story, history: list[Row], own_visdom: Any
) -> None:
    """After each delivery everything so far is there; only the first one draws a window."""
    shown = board(own_visdom)
    shown.open(told)
    for number, row in enumerate(history, 1):
        if row["step"] == 12 and row["kind"] == "step":
            continue  # comes together with the evaluation
        shown.rows(history[-2:] if row["step"] == 12 else [row])
        shown.flush()
        assert drawn(own_visdom, told.name) == expected(history[:number])
        shown.flush()  # nothing new: nothing is sent
    windows = len(expected(history))
    assert own_visdom.requests("/events") == windows + 1  # the recipe
    changes = sum(
        len({step for line in window.values() for step, _ in line})
        for window in expected(history).values()
    )
    assert own_visdom.requests("/update") == changes - windows


def test_a_window_that_the_reader_closed_comes_back_whole(
    told: Story, history: list[Row], shared_visdom: Any, get: Callable[..., Any]
) -> None:
    shown = board(shared_visdom)
    shown.open(told)
    shown.rows(history[:4])
    shown.flush()
    get(f"{shared_visdom.url}/close", {"win": "loss_curves", "eid": told.name})
    assert "loss_curves" not in drawn(shared_visdom, told.name)
    shown.rows(history[4:])
    shown.flush()
    assert drawn(shared_visdom, told.name) == expected(history)


@pytest.mark.parametrize("kept", [0, 3, 5])
def test_a_resumed_run_replaces_its_lines_and_then_appends(
    told: Story, history: list[Row], shared_visdom: Any, say: Say, kept: int
) -> None:
    show(told, history[:5], shared_visdom, say)
    step = history[kept - 1]["step"] if kept else 0
    again = Story(told.path, told.name, told.recipe, step, history[:kept])
    show(again, history[kept:], shared_visdom, say)
    assert drawn(shared_visdom, told.name) == expected(history)


def test_pictures_histograms_and_text(told: Story, shared_visdom: Any, say: Say) -> None:
    told = Story(told.path, told.name, 'name = "<script>alert(1)</script>"\n')
    with Boards([board(shared_visdom)], say) as boards:
        boards.open(told)
        boards.look(0, {"other": torch.ones(3, 3)})
        boards.look(7, WEIGHTS, SAMPLES)
        boards.result("accuracy < 99 %\n& done")
    windows = shared_visdom.windows(told.name)
    look = Look.at(7, WEIGHTS, SAMPLES)
    for name, picture in look.pictures().items():
        content = windows[name]["content"]
        assert content["caption"] == "after step 7"
        file = io.BytesIO(base64.b64decode(content["src"].removeprefix("data:image/png;base64,")))
        np.testing.assert_array_equal(np.asarray(Image.open(file)), picture)
    np.testing.assert_array_equal(look.pictures()["samples"], grid(SAMPLES.numpy()))
    layout = windows["weights"]["content"]["layout"]
    assert (layout["title"], layout["xaxis"]["title"]) == ("Weights", "value, after step 7")
    matrices = {name: tensor for name, tensor in WEIGHTS.items() if tensor.ndim > 1}
    lines = shared_visdom.lines(told.name, "weights")
    assert set(lines) == set(matrices)
    for name, tensor in matrices.items():
        middles, shares = np.array(lines[name]).T
        counts, limits = np.histogram(tensor.double().numpy(), len(middles))
        np.testing.assert_allclose(shares, counts / tensor.numel())
        np.testing.assert_allclose(middles, (limits[1:] + limits[:-1]) / 2)
    for name, text in (("recipe", told.recipe), ("result", "accuracy < 99 %\n& done")):
        content = windows[name]["content"]
        assert "<script>" not in content
        inside = re.fullmatch(r"<pre>([^<]*)</pre>", content)
        assert inside is not None
        assert html.unescape(inside.group(1)) == text


def test_the_environment_is_named_and_kept_by_the_server(
    told: Story, history: list[Row], shared_visdom: Any, say: Say
) -> None:
    with Boards([board(shared_visdom, "mine")], say) as boards:
        boards.open(told)
        boards.rows(history[:1])
    assert shared_visdom.lines("mine", "train_loss")["training batches"] == [
        (3, history[0]["loss"])
    ]
    kept = json.loads((shared_visdom.folder / "mine.json").read_text())
    assert "train_loss" in kept["jsons"]


def test_a_line_stays_short(told: Story, shared_visdom: Any) -> None:
    chart = CHARTS[0]
    rows = [{"kind": "step", "step": step, "loss": 1 / step} for step in range(1, 1201)]
    shown = board(shared_visdom)
    shown.open(told)
    for start in range(0, 1200, 100):
        shown.rows(rows[start : start + 100])
        shown.flush()
        line = shared_visdom.lines(told.name, chart.name)["training batches"]
        taken = start + 100
        stride = next(k for k in (1, 2, 4) if -(-taken // k) <= visdom.MOST)
        assert line == [(row["step"], row["loss"]) for row in rows[:taken:stride]]


def test_a_line_that_comes_later_gets_its_place(told: Story, shared_visdom: Any) -> None:
    chart = next(chart for chart in CHARTS if chart.name == "accuracy_curves")
    shown = board(shared_visdom)
    shown.open(told)
    for step, part in ((1, "validation"), (2, "train"), (3, "validation")):
        row = {"kind": "evaluation", "step": step, part: {"accuracy": step / 10}}
        shown.rows([row])
        shown.flush()
    assert shared_visdom.lines(told.name, chart.name) == {
        "train": [(2, 0.2)], "validation": [(1, 0.1), (3, 0.3)]
    }  # fmt: skip


def test_it_listens_on_loopback_only(shared_visdom: Any) -> None:
    process = psutil.Process(shared_visdom.process.pid)
    listening = [c for c in process.net_connections("tcp") if c.status == "LISTEN"]
    assert [c.laddr.ip for c in listening] == ["127.0.0.1"]


# trouble


def test_a_server_that_hangs_holds_up_nothing(
    told: Story, history: list[Row], own_visdom: Any, say: Say, said: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(visdom, "TIMEOUT", 0.5)
    with Boards([board(own_visdom)], say, pause=0) as boards:
        own_visdom.process.send_signal(signal.SIGSTOP)
        boards.open(told)
        for row in history:
            boards.rows([row])
        assert said == []
    assert len(said) == 1
    assert "no Visdom server answers" in said[0]
    assert "timed out" in said[0]


def test_a_server_that_is_not_there(
    told: Story, history: list[Row], unused_port: int, say: Say, said: list[str]
) -> None:
    with Boards([Visdom(VisdomSpec(port=unused_port))], say) as boards:
        boards.open(told)
        boards.rows(history)
    assert said == [
        "warning: Visdom is switched off, training goes on: no Visdom server answers at "
        f"http://127.0.0.1:{unused_port} ([Errno 111] Connection refused). Start one in another "
        f"shell: python -m visdom.server -port {unused_port} -bind_local"
    ]


class Stranger(BaseHTTPRequestHandler):
    """Some other server."""

    status = 200

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def stranger() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), Stranger)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, 'is no Visdom server as we know it: to /events of the window "recipe" it said "hel'),
        (403, "answered /events with status 403"),
    ],
)
def test_another_server_at_that_port(
    told: Story, stranger: HTTPServer, say: Say, said: list[str],
    monkeypatch: pytest.MonkeyPatch, status: int, expected: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(Stranger, "status", status)
    with Boards([Visdom(VisdomSpec(port=stranger.server_port))], say) as boards:
        boards.open(told)
    assert len(said) == 1
    assert expected in said[0]


def test_a_proxy_of_the_environment_is_not_asked(
    told: Story, history: list[Row], shared_visdom: Any, say: Say, said: list[str],
    monkeypatch: pytest.MonkeyPatch, unused_port: int,
) -> None:  # fmt: skip
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unused_port}")
    show(told, history, shared_visdom, say)
    assert said == []


@pytest.mark.parametrize(
    "settings",
    [{"port": 0}, {"port": 65536}, {"host": ""}, {"host": "http://localhost"}, {"path": "/x"}],
)
def test_settings_that_cannot_be_meant(settings: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(settings, VisdomSpec)


def test_settings_and_their_defaults() -> None:
    assert msgspec.convert({}, VisdomSpec) == VisdomSpec("127.0.0.1", 8097, "")
    given = {"host": "10.0.0.7", "port": "9000", "environment": "main"}
    assert msgspec.convert(given, VisdomSpec, strict=False) == VisdomSpec("10.0.0.7", 9000, "main")
