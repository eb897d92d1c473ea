"""What a checkpoint costs the loop: ours, and Lightning's, in turns in one process.

    python -m benchmarks.checkpoint_pause [--saves 24] [--cases mnist-cnn resnet]

Run by the interpreter of the peers. Two copies of a network train on the same images with Adam:
one by `fit` with our `Keeper`, one by Lightning with `ModelCheckpoint`; weights and moments are
saved every so many steps. Pause: how long the loop stands still for a save (ours: all of
`save_if_due`, that is waiting for the save before if it is not done, syncing the rows of metrics,
and the copy; Lightning's: its call to save, without the removal of the older one). Extra: how much
longer the steps until the next save take than the last quarter of them, which come when our thread
is done; so a pause that was only moved would show. Beside the clock, processor times: of the pause
on the thread that trains, and of all that our writing thread does; they say more than the clock on
a machine that does other things too. Each side's files go to
the same disk. Ours are synced, read back and verified; Lightning's are written.
"""

from __future__ import annotations

import argparse
import copy
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks import pairs, turns
from benchmarks.loaders import KEPT
from pellucid import Console, Duration, Engine, FromDataset, fit, good, steps
from pellucid.assemble import assemble
from pellucid.keeper import Keeper
from pellucid.models.mnist_cnn import MnistCNNSpec
from pellucid.models.resnet import ResNetSpec
from pellucid.optim.specs import Adam
from pellucid.recipe import Recipe, RecordSpec
from pellucid.runs.checkpoint import Checkpoints
from pellucid.runs.folder import TIMING, Run
from pellucid.sinks.recorder import Recorder
from pellucid.values import Step

assert KEPT is None or KEPT  # torchvision, which Lightning loads, now loads everywhere
import lightning as L  # noqa: E402
from lightning.pytorch.callbacks import Callback, ModelCheckpoint  # noqa: E402


@dataclass(frozen=True)
class Case:
    """A network with a cheap step, and how often it is saved."""

    model: Any
    size: int
    batch: int
    every: int

    def data(self) -> TensorDataset:
        """Return 64 images of noise."""
        draws = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (64, 1, self.size, self.size), generator=draws)
        return TensorDataset(pixels.to(torch.uint8), torch.arange(64) % 10)

    def recipe(self) -> Recipe:
        """Return a run without evaluations and snapshots, and without an end."""
        return good("digits").with_(
            data=FromDataset(self.data()),
            model=self.model,
            optimizer=Adam(lr=1e-4),
            batch_size=self.batch,
            length=steps(10**9),
            evaluate=Duration.parse("1000000000 steps"),
            record=RecordSpec(every=self.every, checkpoint=steps(self.every), snapshots=0),
        )


CASES = {
    "mnist-cnn": Case(MnistCNNSpec(), 28, 64, 25),
    "resnet": Case(ResNetSpec(depth=8, width=192), 8, 4, 25),
}
"""421,642 and 10,998,730 parameters."""


@dataclass
class Saves:
    """What was measured of some saves, in seconds, an entry each."""

    pauses: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    steps: list[list[float]] = field(default_factory=list)
    written: list[float] = field(default_factory=list)
    writing: list[float] = field(default_factory=list)

    @property
    def extra(self) -> list[float]:
        """How much longer the steps after each save took than the last quarter of all of them."""
        late = [s for each in self.steps for s in each[-max(len(each) // 4, 1) :]]
        quiet = statistics.median(late)
        return [sum(each) - quiet * len(each) for each in self.steps]


class Ours:
    """Our loop, which goes on where the last turn ended: just before a step that is saved."""

    def __init__(self, case: Case, folder: Path, open_: ExitStack) -> None:
        recipe, self.case = case.recipe(), case
        engine = Engine.start(recipe.engine)
        built = assemble(recipe, engine)
        self.model = copy.deepcopy(built.state.model)
        self.weights = sum(p.numel() for p in self.model.parameters())
        folder.mkdir()
        run = Run(folder)
        self.checkpoints = run.checkpoints = Clocked(folder / "checkpoints")
        self.record = open_.enter_context(
            Recorder(run.metrics, folder / TIMING, case.every, lambda step: [])
        )
        self.keeper = open_.enter_context(
            Keeper(run, recipe, engine, built, self.record, Console(None))
        )
        self.loop: Iterator[Step] = fit(built.state, built.task, engine)
        for _ in range(case.every - 1):
            self.step()

    def step(self) -> float:
        """Take a step; return its seconds."""
        began = time.perf_counter()
        step = next(self.loop)
        seconds = time.perf_counter() - began
        self.record(step)
        return seconds

    def turn(self, saves: int) -> Saves:
        """Save as often as asked, and train after each save until just before the next."""
        found = Saves()
        for _ in range(saves):
            self.step()
            began, used = time.perf_counter(), time.thread_time()
            self.keeper.save_if_due(False)
            ended = time.perf_counter()
            found.cpu.append(time.thread_time() - used)
            found.pauses.append(ended - began)
            found.steps.append([self.step() for _ in range(self.case.every - 1)])
            self.keeper.writer.wait()
            found.written.append(self.checkpoints.done - ended)
            found.writing.append(self.checkpoints.used)
        return found


class Clocked(Checkpoints):
    """Checkpoints that know when the last one was done, and the seconds of its thread."""

    done = used = 0.0

    def prune(self, keep: Any) -> None:
        """Prune, which is the end of a save, and note the time."""
        super().prune(keep)
        self.done, self.used = time.perf_counter(), time.thread_time()


class Module(L.LightningModule):
    """The same network, in the layout that Lightning's users have."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.net = model.to(memory_format=torch.contiguous_format)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Return the loss of one batch."""
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-4)


class Clock(Callback):
    """Notes the seconds of each step."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.began = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        """Note the time."""
        self.began = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """Note the seconds; callbacks that save come later."""
        self.steps.append(time.perf_counter() - self.began)


class Saving(ModelCheckpoint):
    """Lightning's own, with a clock around its call to save."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.pauses: list[float] = []
        self.cpu: list[float] = []

    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        began, used = time.perf_counter(), time.thread_time()
        super()._save_checkpoint(trainer, filepath)
        self.cpu.append(time.thread_time() - used)
        self.pauses.append(time.perf_counter() - began)


def theirs(case: Case, module: Module, saves: int) -> Saves:
    """Train by Lightning; save as often as asked, and train after each save as ours does."""
    pixels, targets = case.data().tensors
    x = (pixels[: case.batch].float() / 255).contiguous()
    length = (saves + 1) * case.every - 1
    data = TensorDataset(x[None], targets[None, : case.batch])
    loader = DataLoader(data, batch_size=None, sampler=[0] * length)
    clock = Clock()
    with tempfile.TemporaryDirectory() as out:
        saving = Saving(dirpath=out, every_n_train_steps=case.every)
        trainer = L.Trainer(
            accelerator="cpu",
            max_steps=length,
            callbacks=[clock, saving],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=out,
        )
        trainer.fit(module, loader)
    chunks = [clock.steps[at : at + case.every - 1] for at in range(case.every, length, case.every)]
    return Saves(saving.pauses[:saves], saving.cpu[:saves], chunks)


def measure(name: str, saves: int, per_turn: int) -> None:
    """Measure one case; print what came out and append it as a row."""
    case, sides = CASES[name], {"ours": Saves(), "lightning": Saves()}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as open_:
        ours = Ours(case, Path(folder) / "run", open_)
        module = Module(ours.model)
        for turn in range(-1, -(-saves // per_turn)):
            order = ["ours", "lightning"] if turn % 2 else ["lightning", "ours"]
            for side in order:
                found = ours.turn(per_turn) if side == "ours" else theirs(case, module, per_turn)
                if turn >= 0:  # the first one warms up
                    sides[side].pauses += found.pauses
                    sides[side].cpu += found.cpu
                    sides[side].steps += found.steps
                    sides[side].written += found.written
                    sides[side].writing += found.writing
    mine, other = sides["ours"], sides["lightning"]
    ratios = [a / b for a, b in zip(mine.pauses, other.pauses, strict=True)]
    facts: dict[str, Any] = {
        "parameters": ours.weights,
        "every": case.every,
        "pause_ms": {side: spread(found.pauses) for side, found in sides.items()},
        "pause_cpu_ms": {side: spread(found.cpu) for side, found in sides.items()},
        "extra_ms": {side: spread(found.extra) for side, found in sides.items()},
        "cost_ms": {
            side: spread([a + b for a, b in zip(found.pauses, found.extra, strict=True)])
            for side, found in sides.items()
        },
        "step_ms": {
            side: round(1000 * statistics.median(s for each in found.steps for s in each), 2)
            for side, found in sides.items()
        },
        "written_after_ms": spread(mine.written),
        "writing_cpu_ms": spread(mine.writing),
        "threads": torch.get_num_threads(),
    }
    row = turns.summary(ratios, facts)
    value = row.pop("value")
    what = f"pause of the loop for a checkpoint, ours / Lightning's: {name}"
    pairs.record("checkpoint_pause", what, value, "ratio", "<= 0.2", row)
    print(f"{what}, {ours.weights:,} parameters: {value} (95 %: {row['interval']}, n {row['n']})")
    for key in (
        "pause_ms",
        "pause_cpu_ms",
        "extra_ms",
        "cost_ms",
        "step_ms",
        "written_after_ms",
        "writing_cpu_ms",
    ):
        print(f"  {key:<18}{row[key]}")


def spread(seconds: list[float]) -> list[float]:
    """Return median and its 95 % interval in milliseconds."""
    return [round(1000 * x, 2) for x in (statistics.median(seconds), *turns.interval(seconds))]


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--saves", type=int, default=24, help="of each side")
    parser.add_argument("--per-turn", type=int, default=4)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for name in given.cases:
        measure(name, given.saves, given.per_turn)


if __name__ == "__main__":
    main()
