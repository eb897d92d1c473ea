"""What a person sees while a model trains: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pellucid.metrics.accuracy import wilson
from pellucid.values import Step

if TYPE_CHECKING:
    from rich.progress import Progress as Bars


def percent(correct: float, n: int) -> str:
    """Return an accuracy with its n and its 95 % interval (Wilson), as text.

    >>> percent(975, 1000)
    '97.50 % (n = 1,000; 95 %: 96.34-98.30)'
    """
    low, high = wilson(round(correct), n)
    return f"{100 * correct / n:.2f} % (n = {n:,}; 95 %: {100 * low:.2f}-{100 * high:.2f})"


def row_text(row: dict[str, Any], steps: int, epochs: int) -> str:
    """Return a row of `metrics.jsonl` as lines of at most 80 characters."""
    if row["kind"] == "step":
        norm = "overflow" if row["grad_norm"] is None else f"{row['grad_norm']:.3g}"
        return (
            f"  epoch {row['epoch']:>{len(str(epochs))}}/{epochs}"
            f"  step {row['step']:>{len(str(steps))}}/{steps}"
            f"  loss {row['loss']:.4f}  lr {row['lr']:.2g}  gradient {norm}"
        )
    head = f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs} eval"
    lines = []
    for part in ("train", "validation"):
        scores = row[part]
        if scores:
            accuracy = percent(scores["accuracy"] * scores["n"], scores["n"])
            lines.append(f"{head} {part:<10} {accuracy}, loss {scores['loss']:.4f}")
    return "\n".join(lines)


def count(n: int, noun: str) -> str:
    """Return a number with its noun.

    >>> count(1, "step"), count(1200, "step")
    ('1 step', '1,200 steps')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


class Console:
    """Writes lines to a stream, and shows bars below them where the stream is a terminal.

    Args:
        stream: usually standard error; None writes nothing.
        live: bars; None decides by the stream (`CI` and `NO_COLOR` are honoured).
    """

    def __init__(self, stream: IO[str] | None = None, live: bool | None = None) -> None:
        self.stream = stream
        terminal = stream is not None and stream.isatty() and not os.environ.get("CI")
        self.live = terminal if live is None else live
        self._log: IO[str] | None = None
        self._early: list[str] = []
        self._bars: Bars | None = None
        self._tasks: dict[str, Any] = {}

    @contextlib.contextmanager
    def logging_to(self, path: Path) -> Iterator[None]:
        """Keep all lines, those so far included, in the file `path` too while inside."""
        with path.open("a", encoding="utf-8") as self._log:
            for text in self._early:
                self.log(text)
            self._early.clear()
            try:
                yield
            finally:
                self.close()
                self._log = None

    def line(self, text: str = "") -> None:
        """Write one line."""
        self.log(text)
        with self._reader_may_be_gone():
            if self._bars:
                self._bars.console.print(text, highlight=False, markup=False, soft_wrap=True)
            elif self.stream is not None:
                print(text, file=self.stream, flush=True)

    def log(self, text: str) -> None:
        """Write one line to the log only; kept until there is one."""
        if self._log:
            self._log.write(text + "\n")
            self._log.flush()
        else:
            self._early.append(text)

    def progress(self, what: str, done: int, total: int) -> None:
        """Show how far something long has come. Without a terminal only its end is a line."""
        if not self.live:
            if done >= total > 0:
                self.line(f"{what}: {total:,} done")
            return
        with self._reader_may_be_gone():
            bars = self._open_bars()
            if what not in self._tasks:
                self._tasks[what] = bars.add_task(what, total=total or None)
            bars.update(self._tasks[what], completed=done, total=total or None)
            if done >= total > 0:
                bars.remove_task(self._tasks.pop(what))

    def step(self, step: Step, rows: Sequence[dict[str, Any]], steps: int, epochs: int) -> None:
        """Show one optimizer step and the rows that it completed."""
        for row in rows:
            self.line(row_text(row, steps, epochs))
        if self.live:
            self.progress("training", step.index, steps)

    def close(self) -> None:
        """Take the bars away."""
        if self._bars:
            self._bars.stop()
            self._bars, self._tasks = None, {}

    @contextlib.contextmanager
    def _reader_may_be_gone(self) -> Iterator[None]:
        """Stop showing when the terminal or pipe was closed; training goes on."""
        try:
            yield
        except OSError:
            self.stream, self.live, self._bars = None, False, None

    def _open_bars(self) -> Bars:
        if self._bars is None:
            from rich.console import Console as RichConsole  # 0.1 s: only where bars are shown
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
            from rich.progress import TimeRemainingColumn as Remaining

            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                Remaining(),
                console=RichConsole(file=self.stream or sys.stderr),
                refresh_per_second=5,
                transient=True,
            )
            self._bars.start()
        return self._bars
