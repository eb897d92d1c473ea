"""What augmentation costs: training steps with the chain and without, in one process, in turns.

    PELLUCID_DATA=FOLDER python benchmarks/augment_steps.py [--turns 40] [--steps 10] [--threads 2]

Two SimpleCNNs train on CIFAR-10 side by side, batches of 128 in fp32, by `fit`, in turns of half a
second or less, so that both see the same drift of the machine. One has flip, crop by 4, rotation
by 15 degrees, brightness, contrast, saturation, hue and erasing on, the other nothing. Printed as
JSON: the ratio of a pair of turns (median, its 95 % interval by bootstrap, least, greatest, n), and
for each operation alone, at its defaults, the microseconds per image that drawing and doing it add
to `prepare`, the normalisation (median and quartiles of 55 pairs). That is part of both sides.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from pellucid import Duration, Engine, fit, notes, steps
from pellucid.assemble import Assembled, assemble
from pellucid.augment.colour import Brightness, Contrast, Greyscale, Hue, Saturation
from pellucid.augment.erasing import Cutout, Erase
from pellucid.augment.geometry import Crop, Flip, Rotate, Scale, Translate
from pellucid.augment.mixing import CutMix, MixUp
from pellucid.augment.pipeline import AugmentSpec

ROUNDS = 60
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


def main(turns: int, length: int, threads: int) -> None:
    torch.set_num_threads(threads)
    recipe = notes("cifar10").with_(
        length=steps((turns + 3) * length), evaluate=Duration.parse("1000 epochs")
    )
    engine = Engine.start(recipe.engine)
    plain = assemble(recipe, engine)
    task = replace(plain.task, augment=_build(CHAIN, plain))
    state = assemble(recipe, engine).state
    loops = {"with": fit(state, task, engine), "without": fit(plain.state, plain.task, engine)}

    def turn(name: str) -> float:
        began = time.perf_counter()
        for step in itertools.islice(loops[name], length):
            del step
        return time.perf_counter() - began

    for name in loops:  # warm up
        turn(name)
    times: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(turns):
        for name in list(loops) if number % 2 else reversed(list(loops)):
            times[name].append(turn(name))
    ratios = [a / b for a, b in zip(times["with"], times["without"], strict=True)]
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
                "threads": torch.get_num_threads(),
                "ms_per_step": {
                    name: round(1000 * statistics.median(seconds) / length, 2)
                    for name, seconds in times.items()
                },
                "us_per_image": _each(plain),
            }
        )
    )


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
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    main(given.turns, given.steps, given.threads)
