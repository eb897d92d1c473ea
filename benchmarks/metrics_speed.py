"""All metrics of 1,000,000 predictions of ten classes: ours against a torchmetrics collection.

    taskset -c 1 python -m benchmarks.metrics_speed [N] [ROUNDS]

Both get the same logits and labels in memory and compute the same metrics, in one process on one
thread, by turns. The numbers are compared first. Ours gives more (intervals, coverage, top pairs);
that is timed with it.
"""

from __future__ import annotations

import statistics
import sys
import time

import torch

from pellucid.metrics.judgement import judge
from pellucid.values import Predictions
from tests.augment.twin import KEPT

assert KEPT is None or KEPT  # torchvision, which torchmetrics loads, now loads everywhere
from torchmetrics import MetricCollection  # noqa: E402
from torchmetrics import classification as theirs  # noqa: E402

CLASSES = 10


def table(n: int) -> Predictions:
    draws = torch.Generator().manual_seed(0)
    targets = torch.randint(CLASSES, (n,), generator=draws)
    logits = torch.randn(n, CLASSES, generator=draws)
    logits[torch.arange(n), targets] += 3
    return Predictions(logits, targets, torch.arange(n), tuple(map(str, range(CLASSES))))


def collection(groups: bool) -> MetricCollection:
    parts: dict[str, object] = {
        "matrix": theirs.MulticlassConfusionMatrix(CLASSES, validate_args=False),
        "ece": theirs.MulticlassCalibrationError(CLASSES, n_bins=15, validate_args=False),
    }
    for k in (1, 3, 5):
        parts[f"top{k}"] = theirs.MulticlassAccuracy(
            CLASSES, average="micro", top_k=k, validate_args=False
        )
    for average in ("micro", "macro", "weighted", "none"):
        for name, kind in (
            ("precision", theirs.MulticlassPrecision),
            ("recall", theirs.MulticlassRecall),
            ("f1", theirs.MulticlassF1Score),
        ):
            parts[f"{name} {average}"] = kind(CLASSES, average=average, validate_args=False)
    return MetricCollection(parts, compute_groups=groups)


def run_theirs(predictions: Predictions, groups: bool) -> dict[str, torch.Tensor]:
    found = collection(groups)
    shares = predictions.logits.softmax(1)
    found.update(shares, predictions.targets)
    result: dict[str, torch.Tensor] = found.compute()
    picked = shares.gather(1, predictions.targets[:, None])
    result["nll"] = -picked.log().mean()
    squares = shares.square().sum(1) - 2 * picked[:, 0] + 1
    result["brier"] = squares.mean()
    return result


def compare(predictions: Predictions) -> None:
    mine, other = judge(predictions), run_theirs(predictions, True)
    assert other["matrix"].equal(mine.matrix)
    pairs = [
        (mine.calibration.equal_width.ece, other["ece"]),
        (mine.loss.value, other["nll"]),
        (mine.calibration.brier.value, other["brier"]),
        *((top.accuracy, other[f"top{top.k}"]) for top in mine.top),
        *((a.f1, other[f"f1 {a.name}"]) for a in mine.averages),
        *((a.precision, other[f"precision {a.name}"]) for a in mine.averages),
    ]
    worst = max(abs(ours - float(value)) for ours, value in pairs if ours is not None)
    print(f"same numbers: largest difference {worst:.1e} (theirs are float32)")
    assert worst < 1e-4


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    torch.set_num_threads(1)
    predictions = table(n)
    compare(predictions)
    times: dict[str, list[float]] = {"ours": [], "grouped": [], "plain": []}
    for _ in range(rounds):
        for name, work in (
            ("ours", lambda: judge(predictions)),
            ("grouped", lambda: run_theirs(predictions, True)),
            ("plain", lambda: run_theirs(predictions, False)),
        ):
            began = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - began)
    for name, found in times.items():
        print(
            f"{name:<8} median {statistics.median(found):.3f} s, fastest {min(found):.3f} s, "
            f"{statistics.median(found) / statistics.median(times['ours']):.1f} times ours"
        )


if __name__ == "__main__":
    main()
