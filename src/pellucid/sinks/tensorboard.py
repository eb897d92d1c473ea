"""TensorBoard: the run as event files, which its server reads.

The functions that turn numbers, pictures and text into records are PyTorch's. The file is written
here, without the `SummaryWriter` that usually does it: that one writes in a thread of its own,
where a full disk ends in a stack trace. Numbers are float32 there, 7 digits: TensorBoard's own
server leaves out scalars of double precision.
"""

from __future__ import annotations

import math
import os
import re
import socket
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pellucid.errors import MissingExtra
from pellucid.sinks.board import BINS, Look, Story
from pellucid.sinks.charts import CHARTS, Point, Row, points

FOLDER = "tensorboard"

OLDEST = (2, 21)
"""2.20 imports a module that newer versions of setuptools do not have."""

COMPARED = ("accuracy/validation", "loss/validation", "accuracy/train", "loss/train")
"""Columns of the table of all runs. The test score is not there: whoever chooses by it has no test
set any more."""


class TensorBoard:
    """Writes a run for TensorBoard, all of it in one folder, so that one run is one entry.

    A resumed run goes on in its folder. What was written of steps that come again is purged; so
    is everything from the first number on that never got there, and the run log's rows of that
    time are written again. Then each number is there once.

    Raises:
        MissingExtra: if TensorBoard is not installed, or too old.
    """

    name = "TensorBoard"

    def __init__(self) -> None:
        _check_installed()
        self._first = 0
        self._last = 0
        self._file: Any = None

    def open(self, story: Story) -> None:
        """Begin an event file, and purge what earlier ones hold of steps that come again."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from torch.utils.tensorboard import RecordWriter

        folder = story.path / FOLDER
        folder.mkdir(exist_ok=True)
        earlier = sorted(folder.glob("events.out.tfevents.*"))
        there, log = _written(earlier), points(story.rows)
        missing = [point.step for point in log if (point.tag, point.step) not in there]
        first = min([*missing, story.step + 1])
        self._first = first if any(step < first for _, step in there) else 0
        if self._first == 0:
            for file in earlier:  # text is not purged by all readers
                file.unlink()
        self._last = story.step
        self._file = RecordWriter((folder / _file_name(earlier)).open("wb"))
        self._write(Event(file_version="brain.Event:2"))
        start = SessionLog(status=SessionLog.START)  # purges what is at this step and later
        self._write(Event(step=self._first, session_log=start))
        if self._first == 0:
            self._introduce(story.recipe)
        self._points(point for point in log if point.step >= self._first)

    def rows(self, rows: Sequence[Row]) -> None:
        """Write the numbers of `rows`."""
        self._points(points(rows))

    def look(self, look: Look) -> None:
        """Write image grids, and a histogram of each weight; not those that are there already."""
        from torch.utils.tensorboard import summary

        if look.step < self._first:
            return
        for name, picture in look.pictures().items():
            self._summary(look.step, summary.image(name, picture, dataformats="HWC"))
        for name, numbers in look.numbers():
            self._summary(look.step, summary.histogram(f"weights/{name}", numbers, BINS))

    def result(self, text: str) -> None:
        """Write what came out, and that the run came to its end."""
        from torch.utils.tensorboard import summary

        self._summary(self._last, summary.text("result", _verbatim(text)))
        self._summary(self._last, _table({})[2])

    def flush(self) -> None:
        """Hand all of it to the operating system; TensorBoard's server sees it then."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _introduce(self, recipe: str) -> None:
        """Write the recipe, as text and as the run's row in the table of all runs."""
        from torch.utils.tensorboard import summary

        together = {
            chart.title: ["Multiline", [line.tag for line in chart.lines]]
            for chart in CHARTS
            if len(chart.lines) > 1
        }
        experiment, session, _ = _table(dict(_flat(tomllib.loads(recipe))))
        self._summary(0, summary.text("recipe", _verbatim(recipe)))
        self._summary(0, summary.custom_scalars({"Curves": together}))
        self._summary(0, experiment)
        self._summary(0, session)

    def _points(self, found: Iterable[Point]) -> None:
        from torch.utils.tensorboard import summary

        for point in found:
            self._summary(point.step, summary.scalar(point.tag, point.value))
            self._last = max(self._last, point.step)

    def _summary(self, step: int, summary: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._write(Event(step=step, summary=summary))

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        self._file.write(event.SerializeToString())


def _check_installed() -> None:
    try:
        found = version("tensorboard")
    except PackageNotFoundError:
        found = ""
    if found and tuple(map(int, re.findall(r"\d+", found)[:2])) >= OLDEST:
        return
    wanted = ".".join(map(str, OLDEST))
    there = f"version {found} is too old, {wanted} is needed" if found else "it is not installed"
    raise MissingExtra(
        f"record.tensorboard is on, and TensorBoard cannot be used: {there}. "
        "Run: pip install 'pellucid[board]'. Or leave it out: --record.tensorboard off"
    )


def _file_name(earlier: Sequence[Path]) -> str:
    """Return a name that TensorBoard knows, and that comes after the `earlier` in its order."""
    stamps = [int(re.findall(r"\d+", path.name)[0]) for path in earlier]
    stamp = max([int(time.time()), *(stamp + 1 for stamp in stamps)])
    return f"events.out.tfevents.{stamp:010d}.{socket.gethostname()}.{os.getpid()}"


def _written(files: Iterable[Path]) -> set[tuple[str, int]]:
    """Return tag and step of each number that a reader of event files would show."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    there: set[tuple[str, int]] = set()
    for file in files:
        for record in RawEventFileLoader(str(file)).Load():
            event = Event.FromString(record)
            if event.session_log.status == SessionLog.START:
                there = {(tag, step) for tag, step in there if step < event.step}
            values = event.summary.value
            there |= {(v.tag, event.step) for v in values if v.HasField("simple_value")}
    return there


def _table(settings: dict[str, Any]) -> Any:
    """Return the three records behind the table of all runs: columns, settings, end."""
    from torch.utils.tensorboard import summary

    return summary.hparams(settings, dict.fromkeys(COMPARED, 0.0))


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each setting of a recipe by its full name, as a value that the table can hold."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) or (isinstance(value, float) and not math.isfinite(value)):
            yield f"{prefix}{key}", str(value)
        else:
            yield f"{prefix}{key}", value


def _verbatim(text: str) -> str:
    """Return Markdown that shows `text` as it is."""
    return "\n".join(f"    {line}" for line in text.splitlines())
