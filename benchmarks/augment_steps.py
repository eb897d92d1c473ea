"""What augmentation costs: training steps with the chain and without, in one process, in turns.

    PELLUCID_DATA=FOLDER python -m benchmarks.augment_steps [--turns 60] [--steps 10] [--threads 2]

Three SimpleCNNs train on CIFAR-10 side by side, batches of 128 in fp32, in turns of half a second
or less, so that all see the same drift of the machine. `with` and `without` go by `fit`, the first
with flip, crop by 4, rotation by 15 degrees, brightness, contrast, saturation, hue and erasing on.
`ready` is forward, backward and step by hand, on batches that lie ready: normalised, in the layout
that the network wants; nothing is fetched or prepared. Printed as JSON: the ratio time of `ready` /
time of `with`, which is images per second of ours with everything / of the bare step (median, its
95 % interval by bootstrap, least, greatest, n), the same for `without`, and with `--each` for each
operation alone, at its defaults, the microseconds per image that drawing and doing it add
to `prepare`, the normalisation (median and quartiles of 55 pairs).
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F

from benchmarks import turns
from pellucid import Duration, Engine, fit, notes, steps
from pellucid.assemble import Assembled, assemble
from pellucid.augment.colour import Brightness, Contrast, Greyscale, Hue, Saturation
from pellucid.augment.erasing import Cutout, Erase
from pellucid.augment.geometry import Crop, Flip, Rotate, Scale, Translate
from pellucid.augment.mixing import CutMix, MixUp
from pellucid.augment.pipeline import AugmentSpec

ROUNDS = 60
READY = 8
"""Batches that lie ready: more than the caches of a processor hold."""
CHAIN = AugmentSpec(
    flip=Flip(),
    crop=Crop(padding=4),
    rotate=Rotate(degrees=15),
    brightness=Brightness(strength=0.4),
    contrast=Contrast(strength=0.4),
    saturation=Saturation(strength=0.4),
    hue=Hue(strength=0.1),
    erase=Erase(p=0.3),
)
ALL = AugmentSpec(
    flip=Flip(),
    crop=Crop(),
    rotate=Rotate(),
    translate=Translate(),
    scale=Scale(),
    brightness=Brightness(),
    contrast=Contrast(),
    saturation=Saturation(),
    hue=Hue(),
    greyscale=Greyscale(),
    erase=Erase(),
    cutout=Cutout(),
    mixup=MixUp(),
    cutmix=CutMix(),
)


def main(count: int, length: int, threads: int, data: str, each: bool) -> None:
    torch.set_num_threads(threads)
    recipe = notes(data).with_(length=steps(10**6), evaluate=Duration.parse("1000000 steps"))
    engine = Engine.start(recipe.engine)
    plain = assemble(recipe, engine)
    task = replace(plain.task, augment=_build(CHAIN, plain))
    state = assemble(recipe, engine).state
    loops = {
        "with": fit(state, task, engine),
        "without": fit(plain.state, plain.task, engine),
        "ready": _ready(assemble(recipe, engine)),
    }
    found: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(count + 2):
        names = list(loops)[number % 3 :] + list(loops)[: number % 3]
        for name in names if number % 2 else reversed(names):
            seconds = turns.stretch(loops[name], length)
            if number >= 2:  # the first ones warm up
                found[name].append(seconds)
    against = {
        name: [a / b for a, b in zip(found[name], found["with"], strict=True)]
        for name in ("ready", "without")
    }
    facts = {
        "of_steps_without": turns.summary(against["without"], {}),
        "steps_per_turn": length,
        "threads": torch.get_num_threads(),
        "data": data,
        "ms_per_step": {
            name: round(1000 * statistics.median(seconds) / length, 2)
            for name, seconds in found.items()
        },
        **({"us_per_image": _each(plain)} if each else {}),
    }
    print(json.dumps(turns.summary(against["ready"], facts)))


def _ready(built: Assembled) -> Iterator[object]:
    """Train by hand on tensors that lie ready: normalised, in batches, in channels-last layout."""
    task, model, optimizer = built.task, built.state.model.train(), built.state.optimizer
    pieces = [next(iter(task.train.pieces(step))) for step in range(READY)]
    ready = [(task.prepare(piece.images), piece.targets) for piece in pieces]
    for images, targets in itertools.cycle(ready):
        loss = F.cross_entropy(model(images), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        yield loss.detach()


def _build(spec: AugmentSpec, built: Assembled) -> Callable[..., object]:
    train = built.splits.train
    return spec.build(built.task.seed, built.task.prepare, len(train.classes), train.shape)


def _each(built: Assembled) -> dict[str, dict[str, float]]:
    """Return the microseconds per image of `prepare`, of each operation alone and of the chain."""
    batch = next(iter(built.task.train.pieces(0)))

    def clock(work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    def prepare() -> object:
        return built.task.prepare(batch.images)

    specs = {name: AugmentSpec(**{name: table}) for name, table in ALL.operations().items()}
    result = {"prepare": _micro([clock(prepare) for _ in range(ROUNDS)], batch.size)}
    for name, spec in {**specs, "chain": CHAIN, "all": ALL}.items():
        augment = _build(spec, built)
        added = []
        for _ in range(ROUNDS):
            base = clock(prepare)
            added.append(clock(lambda augment=augment: augment(batch, 0)) - base)  # type: ignore[misc]
        result[name] = _micro(added, batch.size)
    return result


def _micro(seconds: list[float], size: int) -> dict[str, float]:
    """Return median and quartiles in microseconds per image, without the first rounds."""
    low, median, high = statistics.quantiles(seconds[5:], n=4)
    return {
        key: round(1e6 * value / size, 2)
        for key, value in (("median", median), ("low", low), ("high", high))
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", default="cifar10", help="another one, to try it out")
    parser.add_argument("--each", action="store_true", help="each operation alone, too")
    given = parser.parse_args()
    main(given.turns, given.steps, given.threads, given.data, given.each)
