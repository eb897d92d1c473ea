"""Visdom: the run sent to its server, in windows that are found again by their names.

The client is this file: JSON over HTTP, as the server of Visdom 0.2.4 takes it. The official one
needs SciPy and more for what is four kinds of request:

    /events      make a window, or replace the one of this name
    /update      append points to the lines of a window
    /win_exists  whether there is such a window: somebody may have closed it
    /save        write the environment to the server's disk
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.boardspec import VisdomSpec
from pellucid.sinks.board import BINS, BoardFailed, Look, Story
from pellucid.sinks.charts import CHARTS, Chart, Point, Row, points
from pellucid.sinks.pictures import png_url

MOST = 500
"""Points of a line, at most: with thousands of them, server and page become slow."""

TIMEOUT = 5.0
"""Seconds that one request may take."""

Trace = dict[str, Any]


class Visdom:
    """Shows a run in one environment of a Visdom server that is running already.

    Lines are drawn anew from the rows of the run log when a run starts or goes on, and from then
    on appended to. One that grows beyond `MOST` points keeps every second of them, again and
    again; the run log has them all.
    """

    name = "Visdom"

    def __init__(self, spec: VisdomSpec) -> None:
        self.spec = spec
        self._server = Server(spec.host, spec.port)
        self._charts = [LineWindow(chart) for chart in CHARTS]

    def open(self, story: Story) -> None:
        """Show the recipe, and draw the rows that there are."""
        self._server.environment = self.spec.environment or story.name
        self._text("recipe", story.recipe)
        self.rows(story.rows)

    def rows(self, rows: Sequence[Row]) -> None:
        """Take the numbers of `rows`; `flush` sends them."""
        for point in points(rows):
            for chart in self._charts:
                chart.take(point)

    def look(self, look: Look) -> None:
        """Replace the image grids, and the histograms: all weights in one window, one line each.

        Biases and other vectors are left out of it: a deep network has hundreds of them.
        """
        for name, picture in look.pictures().items():
            height, width, _ = picture.shape
            content = {"src": png_url(picture), "caption": f"after step {look.step}"}
            options = {"title": name, "width": width + 20, "height": height + 60}
            self._server.window(name, [{"type": "image", "content": content}], options)
        lines = [
            _outline(name, numbers)
            for name, numbers in look.numbers()
            if look.weights[name].ndim > 1
        ]
        if lines:
            axes = f"value, after step {look.step}", "share of the numbers"
            self._server.plot("weights", "Weights", axes, lines)

    def result(self, text: str) -> None:
        """Show what came out."""
        self._text("result", text)

    def flush(self) -> None:
        """Send the points that were taken."""
        for chart in self._charts:
            chart.send(self._server)

    def close(self) -> None:
        """Let the server write the environment to its disk, if it still answers."""
        if self._server.answers:
            self._server.post("save", {"data": [self._server.environment]})

    def _text(self, name: str, text: str) -> None:
        content = f"<pre>{html.escape(text)}</pre>"  # the page takes it for HTML
        self._server.window(name, [{"type": "text", "content": content}], {"title": name})


class LineWindow:
    """A chart as a window: its lines as far as they are sent, and what is new."""

    def __init__(self, chart: Chart, most: int = MOST) -> None:
        self.chart = chart
        self._lines = {line.tag: ThinLine(line.label, most) for line in chart.lines}
        self._shown: list[ThinLine] = []

    def take(self, point: Point) -> None:
        """Take a point, if it belongs here."""
        if point.tag in self._lines:
            self._lines[point.tag].add(point.step, point.value)

    def send(self, server: Server) -> None:
        """Append what is new; draw all of it where that is not possible."""
        lines = [line for line in self._lines.values() if line.points]
        if not any(line.fresh for line in lines):
            return
        name = self.chart.name
        whole = lines != self._shown or any(line.thinned for line in lines)
        if whole or not server.has(name):
            traces = [{**_trace(line.points), **_drawn(line.label)} for line in lines]
            server.plot(name, self.chart.title, ("step", self.chart.axis), traces)
        else:
            server.append(name, [_trace(line.points[line.sent :]) for line in lines])
        self._shown = lines
        for line in lines:
            line.sent, line.thinned = len(line.points), False


class ThinLine:
    """The points of one line, never more than `most`.

    Attributes:
        points: pairs of step and value, every `stride`-th of those that came.
        sent: how many of them the server has.
        thinned: whether it has others too, which have gone since.

    >>> line = ThinLine("train", most=3)
    >>> for step in range(6):
    ...     line.add(step, 0.5)
    >>> [step for step, _ in line.points]
    [0, 2, 4]
    """

    def __init__(self, label: str, most: int) -> None:
        self.label = label
        self.most = most
        self.points: list[tuple[int, float]] = []
        self.sent = 0
        self.thinned = False
        self._stride = 1
        self._seen = 0

    @property
    def fresh(self) -> bool:
        """Whether the server lacks a point, or has too many."""
        return self.thinned or self.sent < len(self.points)

    def add(self, step: int, value: float) -> None:
        """Take a point."""
        if self._seen % self._stride == 0:
            self.points.append((step, value))
        self._seen += 1
        if len(self.points) > self.most:
            self._stride *= 2
            self.points = self.points[::2]
            self.thinned = True


class Server:
    """A Visdom server, and the environment that the run has there.

    Attributes:
        environment: its name.
        answers: whether it has answered so far.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.environment = "main"
        self.answers = True

    def window(self, name: str, data: list[Trace], options: dict[str, Any]) -> None:
        """Make the window `name`, or replace the one that is there."""
        self._named(name, "events", {"win": name, "data": data, "opts": options, "layout": {}})

    def plot(self, name: str, title: str, axes: tuple[str, str], traces: list[Trace]) -> None:
        """Make or replace a window of lines, with a title, a legend and names for both axes."""
        layout = {
            "title": title,
            "showlegend": True,
            "xaxis": {"title": axes[0]},
            "yaxis": {"title": axes[1]},
            "margin": {"l": 60, "r": 60, "t": 60, "b": 60},
        }
        legend = [trace["name"] for trace in traces]
        options = {"title": title, "legend": legend, "xlabel": axes[0], "ylabel": axes[1]}
        body = {"win": name, "data": traces, "opts": options, "layout": layout}
        self._named(name, "events", body)

    def append(self, name: str, traces: list[Trace]) -> None:
        """Append points to the lines of a window, in their order there."""
        self._named(name, "update", {"win": name, "data": traces, "append": True})

    def has(self, name: str) -> bool:
        """Return whether there is such a window: a reader may have closed it."""
        return self.post("win_exists", {"win": name}) == "true"

    def post(self, path: str, body: dict[str, Any]) -> str:
        """Send one request, and return the answer.

        Raises:
            BoardFailed: if there is none, or the server reports an error.
        """
        url = f"http://{self.host}:{self.port}"
        text = json.dumps({**body, "eid": self.environment}, allow_nan=False)
        connection = HTTPConnection(self.host, self.port, timeout=TIMEOUT)
        try:
            connection.request(
                "POST", f"/{path}", text.encode(), {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            content, status = answer.read().decode(errors="replace"), answer.status
        except (OSError, HTTPException) as error:
            self.answers = False
            raise BoardFailed(
                f"no Visdom server answers at {url} ({error or type(error).__name__}). Start one "
                f"in another shell: python -m visdom.server -port {self.port} -bind_local"
            ) from None
        finally:
            connection.close()
        if status != 200:
            raise BoardFailed(f"the server at {url} answered /{path} with status {status}.")
        return content

    def _named(self, name: str, path: str, body: dict[str, Any]) -> None:
        """Send what is answered with the name of its window."""
        answer = self.post(path, body)
        if answer != name:
            raise BoardFailed(
                f"what answers at http://{self.host}:{self.port} is no Visdom server as we know "
                f'it: to /{path} of the window "{name}" it said "{answer[:80]}".'
            )


def _trace(found: Sequence[tuple[int, float]]) -> Trace:
    return {"x": [step for step, _ in found], "y": [value for _, value in found]}


def _drawn(label: str) -> Trace:
    return {"type": "scatter", "mode": "lines+markers", "marker": {"size": 4}, "name": label}


def _outline(name: str, numbers: NDArray[np.float64]) -> Trace:
    """Return a histogram as the line around its bars, so that many fit into one window."""
    counts, limits = np.histogram(numbers, BINS)
    middles = (limits[:-1] + limits[1:]) / 2
    return {
        "x": middles.tolist(),
        "y": (counts / numbers.size).tolist(),
        "type": "scatter",
        "mode": "lines",
        "line": {"shape": "hvh"},
        "name": name,
    }
