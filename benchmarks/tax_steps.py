"""The glass-box tax per step, in one process: our loop and bare PyTorch, in turns.

    PELLUCID_DATA=FOLDER python benchmarks/tax_steps.py [--turns 40] [--steps 25]

`tax.py` compares whole processes; on a machine whose speed drifts by tens of percent within a
minute that needs very many pairs. Here two nets train on MNIST side by side, in turns of a second
or less, so that both see the same drift. Ours is `fit` with recorder and console, as in `train`;
evaluations and saves come once an epoch and are not in it: their share is `tax` in the
`summary.json` of any run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from pellucid import Console, Duration, Engine, fit, notes, steps
from pellucid.assemble import assemble
from pellucid.sinks.recorder import Recorder


def main(turns: int, length: int) -> None:
    recipe = notes("mnist").with_(
        length=steps(turns * length + 100), evaluate=Duration.parse("1000 epochs")
    )
    engine = Engine.start(recipe.engine)
    ours, bare = assemble(recipe, engine), assemble(recipe, engine)
    train, batches = bare.splits.train, bare.task.train
    images, targets = train.images[train.rows], train.targets
    model, optimizer = bare.state.model.train(), bare.state.optimizer
    console, numbers = Console(None), itertools.count()
    folder = Path(tempfile.mkdtemp())
    with Recorder(folder / "m.jsonl", folder / "t.jsonl", 100, lambda step: []) as record:
        loop = fit(ours.state, ours.task, engine)

        def turn_of_ours() -> float:
            began = time.perf_counter()
            for step in itertools.islice(loop, length):
                console.step(step, record(step), 1, 1)
            return time.perf_counter() - began

        def turn_of_bare() -> float:
            began = time.perf_counter()
            for step in itertools.islice(numbers, length):
                index = batches.index(step)
                loss = F.cross_entropy(model(bare.task.prepare(images[index])), targets[index])
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
            return time.perf_counter() - began

        for _ in range(2):  # warm up
            turn_of_ours(), turn_of_bare()
        ratios = []
        for turn in range(turns):
            pair = [turn_of_ours, turn_of_bare]
            times = {f: f() for f in (pair if turn % 2 else reversed(pair))}
            ratios.append(times[turn_of_bare] / times[turn_of_ours])
    same = all(
        torch.equal(a, b)
        for a, b in zip(ours.state.model.parameters(), model.parameters(), strict=True)
    )
    draws = random.Random(0)
    medians = sorted(statistics.median(draws.choices(ratios, k=len(ratios))) for _ in range(10_000))
    print(
        json.dumps(
            {
                "ratio": round(statistics.median(ratios), 4),
                "interval": [round(medians[250], 4), round(medians[9750], 4)],
                "least": round(min(ratios), 3),
                "greatest": round(max(ratios), 3),
                "n": len(ratios),
                "steps_per_turn": length,
                "same_weights": same,
            }
        )
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--steps", type=int, default=25)
    given = parser.parse_args()
    main(given.turns, given.steps)
