"""The glass-box tax per step, in one process: our loop with what records it, and bare PyTorch.

    PELLUCID_DATA=FOLDER python -m benchmarks.tax_steps [--turns 200] [--steps 3] [--data mnist]

`tax.py` compares whole processes; on a machine whose speed drifts by tens of percent within a
minute that needs very many pairs. Here two nets train side by side, in turns of a second or less,
so that both see the same drift. Ours is `fit` with all that `train` lets look on by default;
evaluations and saves come once an epoch and are not in it: their share is `tax` in the
`summary.json` of any run. The ratio is time of the bare loop / time of ours: images per second of
ours / of the bare loop. At the end the weights of both are equal bit for bit.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks import turns
from pellucid import Console, Duration, Engine, Recipe, fit, notes, steps
from pellucid.assemble import Assembled, assemble
from pellucid.runs.folder import Run
from pellucid.sinks.boards import Boards
from pellucid.watch import Watch


class Sides:
    """The same training twice: ours, and a loop written by hand; each step of one is a `next`."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        recipe = recipe.with_(length=steps(10**6), evaluate=Duration.parse("1000000 steps"))
        self.recipe, self.folder = recipe, folder
        self.engine = Engine.start(recipe.engine)
        self.mine, self.other = (assemble(recipe, self.engine) for _ in range(2))

    @contextlib.contextmanager
    def loops(self) -> Iterator[tuple[Iterator[object], Iterator[object]]]:
        """Yield our loop and the bare one; what records is open meanwhile."""
        run = Run.make(self.folder, "tax")
        boards, console = Boards.of(None, None, str), Console()
        with Watch(run, self.recipe, self.engine, self.mine, boards, console) as watch:
            watch.start(None)
            yield self._ours(watch), self._bare(self.other)

    @property
    def equal(self) -> bool:
        """Whether both nets are the same, bit for bit; after as many steps they are."""
        nets = (self.mine.state.model, self.other.state.model)
        weights = [[*net.parameters()] for net in nets]
        return all(torch.equal(a, b) for a, b in zip(*weights, strict=True))

    def _ours(self, watch: Watch) -> Iterator[object]:
        def look(step: object) -> bool:
            watch(step)  # type: ignore[arg-type]
            return False

        for step in fit(self.mine.state, self.mine.task, self.engine):
            self.engine.agree(functools.partial(look, step))
            yield step

    def _bare(self, built: Assembled) -> Iterator[object]:
        train, batches, prepare = built.splits.train, built.task.train, built.task.prepare
        images, targets = train.images[train.rows], train.targets
        model, optimizer = built.state.model.train(), built.state.optimizer
        for step in itertools.count():
            index = batches.index(step)
            loss = F.cross_entropy(model(prepare(images[index])), targets[index])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            yield loss.detach()


def main() -> None:
    """Measure; print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--data", default="mnist", help="digits, to try it out")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sides = Sides(notes(given.data), Path(folder))
        with sides.loops() as (ours, bare):
            turn_of_ours = functools.partial(turns.stretch, ours, given.steps)
            turn_of_bare = functools.partial(turns.stretch, bare, given.steps)
            for _ in range(5):  # warm up
                turn_of_ours(), turn_of_bare()
            found = turns.ratios(turn_of_bare, turn_of_ours, given.turns)
        facts = {
            "data": given.data,
            "steps_per_turn": given.steps,
            "threads": torch.get_num_threads(),
            "same_weights": sides.equal,
        }
    print(json.dumps(turns.summary(found, facts)))


if __name__ == "__main__":
    main()
