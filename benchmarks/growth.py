"""Growth: 1, 10 and 100 times the images, 2 and 4 times the parameters.

    python -m benchmarks.growth [--pairs 2] [--base 2000] [--steps 60]

Random images of CIFAR's shape: neither speed nor memory depends on the pixels. Each cell is a fresh
process; its partner is one of the smallest size right beside it, in the order ABBA. Two figures of
each: the time per image (the median time between two steps, the first 20 left out) by that of the
partner, which for more images is to be 1 within 10 %; and the peak of resident memory by what
`pellucid train --dry-run` promises, within 15 %. `train` does all that it does for a user. Given
again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from benchmarks import pairs

WARM = 20
PEAK = "peak memory by the promise"
SIZES = {  # images by the smallest set, width of the network
    "1x images": (1, 16),
    "10x images": (10, 16),
    "100x images": (100, 16),
    "2x parameters": (1, 23),
    "4x parameters": (1, 32),
}


@dataclass(frozen=True)
class Noise:
    """Random images of CIFAR's shape, ten classes; a tenth of them is for validation."""

    count: int
    validation: float = 0.1
    test: float = 0.0

    def load(self, progress: Any = None) -> Any:
        """Return `count` images, and 500 to test on."""
        del progress
        import torch

        from pellucid.seeds import generator
        from pellucid.values import ImageSet, Loaded

        draws, classes = generator(0, "benchmark"), tuple("0123456789")
        images = torch.empty(self.count + 500, 3, 32, 32, dtype=torch.uint8)
        for part in images.split(1000):  # random numbers are drawn in a wider type
            part.random_(0, 256, generator=draws)
        labels = torch.arange(len(images)) % 10
        train, test = images[: self.count], images[self.count :]
        return Loaded(
            ImageSet.of(train, labels[: self.count], classes, "noise/train"),
            test=ImageSet.of(test, labels[self.count :], classes, "noise/test"),
        )


def recipe_of(images: int, width: int, steps: int) -> Any:
    """Return the recipe of a cell: a small residual network, evaluated once."""
    from pellucid import Duration, good
    from pellucid.models.resnet import ResNetSpec
    from pellucid.plan import steps as in_steps

    return good("cifar10").with_(
        data=Noise(images),
        model=ResNetSpec(depth=8, width=width),
        length=in_steps(steps),
        evaluate=Duration.parse(f"{steps} steps"),
    )


def train(images: int, width: int, steps: int) -> pairs.Row:
    """Train; return the time per image and the number of parameters."""
    import pellucid

    recipe, times = recipe_of(images, width, steps), []

    def stop(step: Any) -> bool:
        del step
        times.append(time.perf_counter())
        return False

    with tempfile.TemporaryDirectory() as folder:
        run = pellucid.train(recipe, folder, stop=stop)
        parameters = (run.summary() or {})["parameters"]
    between = [b - a for a, b in zip(times[:-1], times[1:-1], strict=False)][WARM:]
    each = 1e6 * statistics.median(between) / recipe.batch_size
    return {"us_per_image": round(each, 2), "parameters": parameters, "steps": len(times)}


def promise(images: int, width: int, steps: int) -> None:
    """Print what `pellucid train --dry-run --json` prints for this recipe."""
    from pellucid.cli.dry_run import plan_of
    from pellucid.engine import Engine

    recipe = recipe_of(images, width, steps)
    print(json.dumps({"plan": plan_of(recipe, Engine.start(recipe.engine))[0]}))


def cell(name: str, base: int, steps: int) -> pairs.Row:
    """Return the row of one fresh process."""
    words = ["--cell", name, "--base", str(base), "--steps", str(steps)]
    return pairs.spawn([sys.executable, "-m", "benchmarks.growth", *words])


def measure(name: str, base: int, length: int, number: int) -> None:
    """Measure `name` beside the smallest; append two rows."""
    first = next(iter(SIZES))
    order = [name, first] if number % 2 else [first, name]
    rows = {at: cell(at, base, length) for at in dict.fromkeys(order)}
    promised = pairs.spawn(
        [sys.executable, "-m", "benchmarks.growth", "--cell", name, "--base", str(base),
         "--steps", str(length), "--promise"]
    )["plan"]["memory_mb"]  # fmt: skip
    facts = {**rows[name], "partner": rows[first], "promised_mb": promised, "base": base}
    facts["threads"] = os.environ.get("OMP_NUM_THREADS", "default")
    parameters = rows[name]["parameters"] / rows[first]["parameters"]
    note = f"{base} images" if "images" in name else f"{parameters:.2f}x exactly"
    flat = rows[name]["us_per_image"] / rows[first]["us_per_image"]
    peak = rows[name]["rss_mb"] * 2**20 / 1e6
    kept = peak / promised
    target = "within 10 %" if "images" in name else ""
    what = f"{name} ({note}): "
    if name != first:
        pairs.record("S8", f"{what}time per image by that of 1x", flat, "", target, facts)
    pairs.record("S8", f"{what}{PEAK}", kept, "", "within 15 %", facts)
    print(
        f"{name}: {rows[name]['us_per_image']:.0f} us/image, {flat:.3f} of the smallest; "
        f"{peak:.0f} MB, {kept:.3f} of the promised {promised} MB",
        flush=True,
    )


def main() -> None:
    """Measure all sizes as often as asked, or run one cell."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--base", type=int, default=2000, help="images of the smallest set")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--only", choices=SIZES)
    parser.add_argument("--cell", choices=SIZES, help="run this one alone")
    parser.add_argument("--promise", action="store_true", help="of the cell: the dry run")
    given = parser.parse_args()
    if given.cell:
        factor, width = SIZES[given.cell]
        work = (factor * given.base, width, given.steps)
        if given.promise:
            promise(*work)
        else:
            print(json.dumps(train(*work)))
        return
    rows = [row for row in pairs.read(pairs.RESULTS / "S8.jsonl") if row["base"] == given.base]
    done = Counter(row["what"].partition(" (")[0] for row in rows if PEAK in row["what"])
    for number in range(given.pairs):
        for name in [given.only] if given.only else SIZES:
            if number >= done[name]:
                measure(name, given.base, given.steps, number)


if __name__ == "__main__":
    main()
