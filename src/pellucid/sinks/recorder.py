"""`metrics.jsonl`: what was measured, in rows that are the same for every run of a recipe."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from pellucid.errors import BadRun, Diverged
from pellucid.values import Metrics, Step

Row = dict[str, Any]


class Recorder:
    """Turns steps into rows, and stops a run whose numbers are no longer numbers.

    Rows of kind `step` hold the mean training loss of the images since the row before; those of
    kind `evaluation` the mean over the epoch so far (`running_loss`: weights moved meanwhile,
    dropout and augmentation were on) and the two evaluations (eval mode, no augmentation).
    Only deterministic numbers are in `metrics.jsonl`; times are in `timing.jsonl`.

    Args:
        metrics: the file of rows, opened for appending.
        timing: the file of times.
        every: steps between two rows of kind `step`.
        images: step -> the images of its batch, for the message when a run diverges.
        overflows: gradients may overflow now and then, as in fp16, where such a step is left out.
    """

    def __init__(
        self,
        metrics: Path,
        timing: Path,
        every: int,
        images: Callable[[int], list[str]],
        overflows: bool = False,
    ) -> None:
        self.every = every
        self.overflows = overflows
        self.images = images
        self.pending: list[Step] = []
        self.window = Mean()
        self.epoch = Mean()
        self.epoch_index = 0
        self.norm = math.nan
        self.started = time.perf_counter()
        self.seen = 0
        self.overhead = 0.0
        self._metrics = metrics.open("ab")
        self._timing = timing.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._metrics.close()
        self._timing.close()

    def __call__(self, step: Step) -> list[Row]:
        """Take note of `step`; return the rows that it completed.

        On a GPU, losses are fetched only when a row is due: fetching each would make the
        device wait.

        Raises:
            Diverged: if a loss or a gradient is not finite, naming the first bad step.
        """
        self.pending.append(step)
        row_due = step.index % self.every == 0
        if row_due or step.evaluation or step.loss.device.type == "cpu":
            self.settle()
        rows = []
        if row_due:
            rows.append(self._step_row(step))
        if step.evaluation:
            rows.append(self._evaluation_row(step))
        for row in rows:
            self._write(row)
        return rows

    def add(self, row: Row) -> None:
        """Write a row that was made elsewhere; the same one for every run of a recipe."""
        self._write(row)

    def note(self, row: Row) -> None:
        """Write a row of what is not the same in each run: times, memory, use of the device."""
        seconds = round(time.perf_counter() - self.started, 3)
        self._timing.write(json.dumps({**row, "seconds": seconds}) + "\n")
        self._timing.flush()

    @property
    def tax(self) -> float:
        """The share of the time so far that recording and saving took, in [0, 1]."""
        return self.overhead / (time.perf_counter() - self.started)

    def settle(self) -> None:
        """Fetch all losses that are still on the device; called before a checkpoint is written.

        Raises:
            Diverged: as a call does.
        """
        if not self.pending:
            return
        losses = torch.stack([step.loss for step in self.pending]).tolist()
        norms = torch.stack([step.grad_norm for step in self.pending]).tolist()
        for step, loss, norm in zip(self.pending, losses, norms, strict=True):
            if not (math.isfinite(loss) and (math.isfinite(norm) or self.overflows)):
                self._diverged(step, loss, norm)
            if step.epoch != self.epoch_index:
                self.epoch, self.epoch_index = Mean(), step.epoch
            self.epoch.add(loss, step.size)
            self.window.add(loss, step.size)
            self.norm = norm
            self.seen += step.size
        self.pending.clear()

    def facts(self) -> dict[str, Any]:
        """Return what a resumed run needs to write the same rows; the file holds them then."""
        self._metrics.flush()
        return {
            "bytes": self._metrics.tell(),
            "window": self.window.facts(),
            "epoch": self.epoch.facts(),
            "epoch_index": self.epoch_index,
        }

    def load(self, facts: dict[str, Any] | None) -> None:
        """Go back to what `facts` returned, or to the start: rows after that are cut off.

        Raises:
            BadRun: if rows from before are missing.
        """
        size = facts["bytes"] if facts else 0
        self._metrics.seek(0, os.SEEK_END)
        if self._metrics.tell() < size:
            raise BadRun(
                f"{self._metrics.name} is shorter ({self._metrics.tell():,} bytes) than the "
                f"checkpoint says ({size:,}): rows were lost. Restore the file, or start anew."
            )
        self._metrics.truncate(size)
        self._metrics.seek(size)
        if facts:
            self.window, self.epoch = Mean(*facts["window"]), Mean(*facts["epoch"])
            self.epoch_index = facts["epoch_index"]

    def _diverged(self, step: Step, loss: float, norm: float) -> None:
        images = self.images(step.index - 1)
        shown = ", ".join(images[:5]) + (", ..." if len(images) > 5 else "")
        raise Diverged(
            f"Step {step.index} (epoch {step.epoch}) gave loss {loss} and gradient norm {norm}: "
            f"not a finite number. Its batch: {len(images)} images, {shown}. What was saved before "
            f"is untouched. Usual causes: a learning rate that is too high (here "
            f"{step.lr:g}; try a tenth), no gradient clipping (--max-grad-norm 1).",
            step.index,
            images,
        )

    def _step_row(self, step: Step) -> Row:
        row = {
            "kind": "step",
            "step": step.index,
            "epoch": step.epoch,
            "loss": self.window.value,
            "n": self.window.n,
            "lr": step.lr,
            "grad_norm": self.norm if math.isfinite(self.norm) else None,
        }
        self.window = Mean()
        return row

    def _evaluation_row(self, step: Step) -> Row:
        assert step.evaluation is not None
        train, validation = step.evaluation.train, step.evaluation.validation
        for part, scores in (("training", train), ("validation", validation)):
            if scores.n and not math.isfinite(scores.loss):  # the step's own loss was still finite
                raise Diverged(
                    f"The evaluation after step {step.index} (epoch {step.epoch}) gave loss "
                    f"{scores.loss} on {scores.n} {part} images: not a finite number. What was "
                    "saved before is untouched. Usual causes: a learning rate that is too high "
                    f"(here {step.lr:g}; try a tenth), no gradient clipping (--max-grad-norm 1).",
                    step.index,
                )
        return {
            "kind": "evaluation",
            "step": step.index,
            "epoch": step.epoch,
            "lr": step.lr,
            "running_loss": self.epoch.value,
            "train": numbers(train),
            "validation": numbers(validation),
            "gap": train.accuracy - validation.accuracy if validation.n else None,
        }

    def _write(self, row: Row) -> None:
        self._metrics.write((json.dumps(row, allow_nan=False) + "\n").encode())
        self._metrics.flush()
        rate = self.seen / (time.perf_counter() - self.started)
        times = {"kind": row["kind"], "step": row["step"]}
        self.note({**times, "images_per_second": round(rate, 1)})


class Mean:
    """A mean over images: each counts once, whatever batch it was in."""

    def __init__(self, total: float = 0.0, n: int = 0) -> None:
        self.total = total
        self.n = n

    def add(self, value: float, n: int) -> None:
        """Add `n` images with mean `value`."""
        self.total += value * n
        self.n += n

    @property
    def value(self) -> float:
        """The mean."""
        return self.total / self.n

    def facts(self) -> list[float]:
        """Return what makes it again: total and number."""
        return [self.total, self.n]


def numbers(metrics: Metrics) -> dict[str, Any] | None:
    """Return loss, accuracy and n for JSON; None where there was nothing to judge."""
    if not metrics.n:
        return None
    return {"loss": metrics.loss, "accuracy": metrics.accuracy, "n": metrics.n}
