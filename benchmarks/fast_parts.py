"""What each part of the recipe `fast` gives: one part at a time changed or taken away.

    python -m benchmarks fast_parts FOLDER [--data mnist] [--length "3 epochs"] [--seeds 5]

Writes the recipes and runs `pellucid compare` on them, whose folder is FOLDER/experiment: the same
seeds, splits and batches, judged on validation images (n = 5,999 each of MNIST, 5,000 of CIFAR-10);
the test part stays closed. Given again, it goes on where it was. Printed and kept: a row for each
change.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import pairs
from pellucid.catalogue import to_toml, to_tree
from pellucid.data.sampling import Shuffled
from pellucid.models.init import Default
from pellucid.models.whitening import Whitening
from pellucid.optim.losses import CrossEntropy
from pellucid.optim.schedules import Cosine, OneCycle
from pellucid.optim.specs import AdamW, Muon
from pellucid.plan import Duration
from pellucid.recipe import EMASpec, Recipe
from pellucid.recipes.named import named

WHOLE = Duration.parse("100 percent")
change = msgspec.structs.replace


def of_mnist() -> dict[str, Recipe]:
    """Return `fast` for MNIST, and `fast` with one thing changed."""
    fast: Any = named("fast", "mnist")
    return {
        "fast": fast,
        "all images alike, as many": fast.with_(sampling=Shuffled()),
        "no label smoothing": fast.with_(loss=CrossEntropy()),
        "usual first weights": fast.with_(init=Default()),
        "no identity": fast.with_(init=Whitening(identity=False)),
        "bias in the first layer": fast.with_(model=change(fast.model, bias=True)),
        "padded first layer": fast.with_(model=change(fast.model, pad_first=True)),
        "Lookahead": fast.with_(ema=EMASpec(decay=0.9, every=5, pull=True)),
        "rate of normalisation's biases x 8": fast.with_(
            optimizer=change(fast.optimizer, norm_bias_lr=8.0)
        ),
        "cosine": fast.with_(schedule=Cosine(warmup=0.2)),
        "one-cycle": fast.with_(schedule=OneCycle()),
        "AdamW with betas 0.9, 0.999": fast.with_(optimizer=AdamW(lr=1e-2)),
        "Muon": fast.with_(optimizer=Muon(lr=2e-2)),
        "batches of 256": fast.with_(batch_size=256, optimizer=change(fast.optimizer, lr=1.4e-2)),
        "first layer at full resolution": fast.with_(
            model=change(fast.model, strides=(1, 2, 2, 1))
        ),
        "fp32": fast.with_(engine=change(fast.engine, precision="fp32")),
    }


def of_cifar10() -> dict[str, Recipe]:
    """Return `fast` for CIFAR-10, and `fast` with one thing changed."""
    fast: Any = named("fast", "cifar10")
    flip, model = fast.augment.flip, fast.model
    alternating = change(fast.augment, flip=change(flip, alternate=True))
    growing = EMASpec(decay=0.95**5, every=5, pull=True, growth=3.0)
    return {
        "fast": fast,
        "alternating flips": fast.with_(augment=alternating),
        "Lookahead, growing": fast.with_(ema=growing),
        "usual first weights": fast.with_(init=Default()),
        "no identity": fast.with_(init=Whitening(identity=False)),
        "no label smoothing": fast.with_(loss=CrossEntropy()),
        "one rate for all": fast.with_(optimizer=change(fast.optimizer, norm_bias_lr=1.0)),
        "learned scales": fast.with_(model=change(model, norm_scale=True)),
    }


ARMS = {"mnist": of_mnist, "cifar10": of_cifar10}


def main() -> None:
    """Run what is missing; keep and print a row for each arm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", choices=ARMS, default="mnist")
    parser.add_argument("--length", help="of each run, if not that of the recipe")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    words, names = [], {}
    for title, recipe in ARMS[given.data]().items():
        if given.length:
            recipe = recipe.with_(length=Duration.parse(given.length), evaluate=WHOLE)
        path = given.folder / f"{title.replace(' ', '-').replace(',', '')}.toml"
        path.write_text(to_toml(to_tree(recipe)), encoding="utf-8")
        words += ["--recipe", str(path)]
        names[path.stem] = title
    words += ["--seeds", str(given.seeds), "--jobs", str(given.jobs)]
    words += ["--out", str(given.folder / "experiment")]
    command = [sys.executable, "-m", "pellucid", "compare", given.data, *words]
    subprocess.run(command, check=True, cwd=pairs.HERE.parent)
    found = msgspec.json.decode((given.folder / "experiment" / "summary.json").read_bytes())
    against = {row["arm"]: row for row in found["differences"]}
    machine = pairs.machine()
    for arm, one in found["arms"].items():
        row = {
            "contest": "fast-parts", "data": given.data, "length": given.length,
            "arm": names.get(arm, arm), "accuracy": one["accuracy"], "sd": one["sd"],
            "by_seed": one["by_seed"], "seconds": one["seconds"], "difference": against.get(arm),
            "jobs": given.jobs, "machine": machine,
        }  # fmt: skip
        pairs.append("fast-parts", row)
        print(line(row))


def line(row: pairs.Row) -> str:
    """Return a row of a Markdown table: arm, accuracy, difference, seconds."""
    gain = "-"
    if row["difference"]:
        low, high = (100 * end for end in row["difference"]["interval"])
        gain = f"{100 * row['difference']['value']:+.2f} ({low:+.2f} to {high:+.2f})"
    return f"| {row['arm']} | {100 * row['accuracy']:.2f} % | {gain} | {row['seconds']:.1f} s |"


if __name__ == "__main__":
    main()
