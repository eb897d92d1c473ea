"""The protocol: two commands in ABBA blocks, each in a fresh process, compared pair by pair.

Used by the other files here, and by the peers' side too, so it imports neither pellucid nor a file
beside it. By itself, `python benchmarks/pairs.py` measures the machine.
"""

from __future__ import annotations

import hashlib
import json
import operator
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = Path(os.environ.get("PELLUCID_RESULTS", HERE / "results"))
PACKAGES = (
    "pellucid", "torch", "lightning", "torchvision", "numpy", "pillow", "keras", "jax", "skorch",
    "kornia",
)  # fmt: skip
BATCH = 128
"""Images of a step, everywhere."""
Row = dict[str, Any]


def spawn(command: list[str]) -> Row:
    """Run `command` in a fresh process; return its JSON line and what it took.

    This process must stay small: a child's peak memory starts at that of its parent.
    """
    environment = {**os.environ}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    load, before, began = os.getloadavg()[0], _ticks(), time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            command, stdout=out, stderr=err, env=environment, cwd=HERE.parent
        )
        _, status, used = os.wait4(process.pid, 0)
        wall, after = time.monotonic() - began, _ticks()
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{err.read().decode()[-3000:]}")
        lines = [line for line in out.read().decode().splitlines() if line.startswith("{")]
    row: Row = json.loads(lines[-1]) if lines else {}
    first_step = row.pop("first_step", None)
    if first_step:
        row["to_first_step"] = round(first_step - began, 3)
    busy, stolen, total = (b - a for a, b in zip(before, after, strict=True))
    cpu = used.ru_utime + used.ru_stime  # with all children that it waited for
    return {
        **row,
        "wall": round(wall, 3),
        "cpu": round(cpu, 3),
        "rss_mb": round(used.ru_maxrss / 1024, 1),
        "load": load,
        "steal": round(stolen / max(total, 1), 5),
        "others": round(max(0.0, busy / os.sysconf("SC_CLK_TCK") - cpu) / wall, 3),
        "switches": [used.ru_nvcsw, used.ru_nivcsw],
    }


def _ticks() -> tuple[int, int, int]:
    """Return the machine's clock ticks so far: busy, stolen, all."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, idle, wait, irq, soft, steal = map(int, file.readline().split()[1:9])
    busy = user + nice + system + irq + soft
    return busy, steal, busy + idle + wait + steal


def yardstick() -> dict[str, float]:
    """Return the milliseconds (median) of four fixed pieces of work."""
    import torch  # here: the process that measures others must stay small

    draws = torch.Generator().manual_seed(0)
    a = torch.randn(768, 768, generator=draws)
    x = torch.randn(64, 32, 16, 16, generator=draws)
    conv = torch.nn.Conv2d(32, 64, 3, padding=1)
    big, other = torch.zeros(1 << 23), torch.zeros(1 << 23)
    work: dict[str, Callable[[], object]] = {
        "gemm": lambda: a @ a,
        "conv": lambda: conv(x).sum().backward(),
        "copy": lambda: other.copy_(big),
        "python": lambda: sum(i * i for i in range(50_000)),
    }
    return {name: round(_median_ms(piece), 4) for name, piece in work.items()}


def _median_ms(piece: Callable[[], object]) -> float:
    times, end = [], time.perf_counter() + 0.35
    while time.perf_counter() < end:
        began = time.perf_counter()
        piece()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times[len(times) // 5 :])


def run_block(
    contest: str, against: str, block: int, commands: Mapping[str, list[str]], settings: Row
) -> None:
    """Run those of the four cells of one block that have no row yet; append a row for each.

    Args:
        contest: what is measured; names the file of rows.
        against: the other cell's name, beside `ours`.
        block: its number, which also decides between ABBA and BAAB.
        commands: of `ours` and of `against`.
        settings: what both commands were given.
    """
    settings = {**settings, "threads": os.environ.get("OMP_NUM_THREADS", "default")}
    key = {"contest": contest, "against": against, "settings": settings, "block": block}
    done = {
        r["place"] for r in read(RESULTS / f"{contest}.jsonl") if all(r[k] == key[k] for k in key)
    }
    order = [against, "ours", "ours", against]
    if random.Random(f"{contest} {against} {block}").random() < 0.5:
        order = ["ours", against, against, "ours"]
    before: Any = None
    for place, cell in enumerate(order):
        if place in done:
            before = None
            continue
        now = datetime.now(UTC).isoformat(timespec="seconds")
        before = before or spawn([sys.executable, __file__])["yardstick"]
        measured = spawn(commands[cell])
        after = spawn([sys.executable, __file__])["yardstick"]
        shown = " ".join(["python", *commands[cell][1:]]).replace(f"{HERE.parent}/", "")
        row = {**key, "place": place, "cell": cell, "time": now, "command": shown, **measured}
        row |= {"yardstick": [before, after], "machine": machine()}
        before = after  # it is also the yardstick before the next cell
        append(contest, row)
        print(f"{contest} {against} block {block}: {cell} {measured['wall']:.1f} s", flush=True)


def record(contest: str, what: str, value: float, unit: str, target: str, facts: Row) -> None:
    """Append a row of a measurement that stands alone."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    row = {"contest": contest, "what": what, "value": value, "unit": unit, "target": target}
    append(contest, {**row, "time": now, **facts, "machine": machine()})


def append(contest: str, row: Row) -> None:
    """Append a row to the file of `contest`."""
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{contest}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def versions() -> dict[str, str]:
    """Return the versions of the packages that this interpreter has."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> Row:
    """Return what a row was measured on; the packages are those of our side."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    commit = subprocess.run(
        ["git", "-C", str(HERE), "describe", "--always", "--dirty"], capture_output=True, text=True
    ).stdout.strip()
    where = {"processor": names[0] if names else platform.machine(), "cores": os.cpu_count()}
    return {**where, "python": platform.python_version(), "commit": commit, **versions()}


def read(path: Path) -> list[Row]:
    """Return the rows of a file; none if it is not there."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def digest(tensors: Mapping[str, Any]) -> str:
    """Return the SHA-256 of named tensors, whatever their order and memory layout."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(name.encode() + tensors[name].detach().contiguous().numpy().tobytes())
    return total.hexdigest()


def result(
    *,
    losses: list[float],
    samples: int,
    seconds: float,
    marks: list[float],
    first_step: float | None,
    weights: tuple[str, str],
    accuracy: float | None,
) -> Row:
    """Return what a cell prints as its JSON line.

    Args:
        losses: of each step.
        samples: images trained on, each as often as it was seen.
        seconds: of training, evaluations and saving included.
        marks: time at the end of each epoch, its evaluation included.
        first_step: time at the end of the first step, by the system's monotonic clock; None if
            to note it would slow the others down.
        weights: digests before the first and after the last step.
        accuracy: on the test part; None if it was not judged.
    """
    epochs, part = len(marks), -(-len(losses) // 10)
    steady = samples * (epochs - 1) / epochs / (marks[-1] - marks[0]) if epochs > 1 else None
    pieces = [losses[at : at + part] for at in range(0, len(losses), part)]
    return {
        "images": samples // epochs,
        "samples": samples,
        "steps": len(losses),
        "seconds": round(seconds, 3),
        "rate": round(samples / seconds, 1),
        "steady": steady and round(steady, 1),
        "weights_start": weights[0],
        "weights_end": weights[1],
        "loss_first": losses[0],
        "loss_last": losses[-1],
        "curve": [round(sum(piece) / len(piece), 5) for piece in pieces],
        "epoch_losses": epoch_losses(losses, epochs, samples // epochs),
        "accuracy": accuracy,
        "first_step": first_step,
        "versions": versions(),
    }


def epoch_losses(losses: list[float], epochs: int, images: int) -> list[float]:
    """Return the mean loss of the images of each epoch; its last batch may be smaller."""
    size = len(losses) // epochs
    last = images - BATCH * (size - 1)
    sizes = [BATCH] * (size - 1) + [last if 0 < last <= BATCH else BATCH]
    return [
        round(sum(map(operator.mul, losses[at : at + size], sizes)) / sum(sizes), 5)
        for at in range(0, size * epochs, size)
    ]


if __name__ == "__main__":
    print(json.dumps({"yardstick": yardstick()}))
