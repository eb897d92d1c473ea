"""Three parts of the data, what leaks between them, and k-fold cross-validation.

The features chosen before cross-validation: Hastie, Tibshirani and Friedman, The Elements of
Statistical Learning, section 7.10.2.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor

from pellucid.data.folds import folds
from pellucid.labs.options import lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, at_least, at_most, equals, is_true
from pellucid.seeds import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLES, FEATURES, CHOSEN = 50, 5000, 100


@lab
def run(
    *,
    k: Annotated[int, ranged("folds", 2, 10)] = 5,
    repeats: Annotated[int, ranged("data sets of pure noise", 3, 50)] = 10,
    tried: Annotated[int, ranged("models among which the best is chosen", 20, 1000)] = 200,
    seed: Annotated[int, ranged("of the noise", 0, 10**6)] = 0,
) -> LabResult:
    """Judge models of pure noise, honestly and with four leaks."""
    found = leaks(k, repeats, tried, seed)
    means = {name: float(values.mean()) for name, values in found.items()}
    labels = torch.arange(53) % 3
    fold = folds(labels, k, seed)
    text = f"""
        Training images teach, validation images choose (rate, epoch, model), test images judge,
        once. What has taught or chosen cannot judge. Here the labels are pure noise: nothing can be
        learned, and an honest accuracy is {0.5:.0%} up to chance. All above it is leakage:

            honest                     {means["honest"]:.1%}
            features chosen before     {means["features before"]:.1%}   {CHOSEN} of {FEATURES:,}
            copies on both sides       {means["copies"]:.1%}   augmented, then split
            best of {tried:<5} on the test  {means["best on test"]:.1%}   tuned on the test images
            judged on training images  {means["on training"]:.1%}

        Cross-validation does not help by itself: the first leak sits before it. All that looks
        at labels belongs inside the loop over the folds; so do mean and deviation of the pixels.
        Images of one person or one source belong in one part.

        k-fold: the images are cut into {k} folds; each is held out once, {k} models are trained. It
        judges the procedure, not one model: the mean of the {k} accuracies is the answer, the final
        model is trained anew on all, and the test images are asked once. The folds share
        training images, so deviation / sqrt(k) is too small as an error. Who tunes on the folds
        needs another loop, or a test set, to judge.
    """
    rows = [
        (name, means[name], float(v.min()), float(v.max()), means[name] - 0.5)
        for name, v in found.items()
    ]
    head = ("judged", "accuracy", "lowest", "highest", "too high by")
    claims = [*_bars(found, means, tried), *_folds(labels, fold, k), *_shared(k)]
    return LabResult(
        text, claims, partial(_draw, found, k, seed),
        [Table(head, rows, f"Labels of pure noise, {repeats} data sets of {SAMPLES}")],
        {"accuracy": means},
    )  # fmt: skip


def leaks(k: int, repeats: int, tried: int, seed: int) -> dict[str, Tensor]:
    """Return the accuracy by each way to judge, (repeats,) each, in [0, 1]."""
    found: dict[str, list[float]] = {
        "honest": [], "features before": [], "copies": [], "best on test": [], "on training": [],
    }  # fmt: skip
    for repeat in range(repeats):
        draws = generator(seed, "lab", repeat)
        x = torch.randn(SAMPLES, FEATURES, generator=draws)
        y = torch.arange(SAMPLES) % 2
        fold = folds(y, k, seed + repeat)
        found["honest"].append(validated(x, y, fold, k, inside=True))
        found["features before"].append(validated(x, y, fold, k, inside=False))
        twice = torch.cat([x, x + 0.1 * torch.randn(x.shape, generator=draws)])
        mixed = folds(torch.cat([y, y]), k, seed + repeat + 1000)
        found["copies"].append(validated(twice, torch.cat([y, y]), mixed, k, inside=True))
        guesses = torch.randint(2, (tried, SAMPLES), generator=draws)
        found["best on test"].append(float((guesses == y).double().mean(1).max()))
        chosen = x[:, choose(x, y)]
        found["on training"].append(float((nearest(chosen, y, chosen) == y).double().mean()))
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in found.items()}


def validated(x: Tensor, y: Tensor, fold: Tensor, k: int, inside: bool) -> float:
    """Return the accuracy over all folds; features are chosen inside the loop, or before it."""
    before = choose(x, y)
    right = 0
    for held in range(k):
        train = fold != held
        best = choose(x[train], y[train]) if inside else before
        said = nearest(x[train][:, best], y[train], x[~train][:, best])
        right += int((said == y[~train]).sum())
    return right / len(y)


def choose(x: Tensor, y: Tensor) -> Tensor:
    """Return the features that go with the labels most: largest difference of class means."""
    apart = (x[y == 1].mean(0) - x[y == 0].mean(0)).abs()
    return apart.topk(CHOSEN).indices


def nearest(x: Tensor, y: Tensor, asked: Tensor) -> Tensor:
    """Return the label of the nearest training row."""
    return y[torch.cdist(asked, x).argmin(1)]


def _bars(found: dict[str, Tensor], means: dict[str, float], tried: int) -> list[Claim]:
    repeats = len(found["honest"])
    noise = 5 * math.sqrt(0.25 / (SAMPLES * repeats)) + 0.04  # folds share rows: somewhat wider
    chance = math.sqrt(0.25 / SAMPLES) * math.sqrt(2 * math.log(tried)) / 2
    return [
        equals("Honest: chance, up to noise", means["honest"], 0.5, noise, "T1.4"),
        at_least("Features chosen before the folds look far better than chance",
                 means["features before"], 0.85, "T8.8"),
        at_least("Copies on both sides: so does their accuracy", means["copies"], 0.65, "T1.2"),
        at_least(f"The best of {tried} guesses, chosen on the test", means["best on test"],
                 0.5 + chance, "T1.4"),
        equals("The nearest neighbour of a training image is itself", means["on training"], 1, 0),
    ]  # fmt: skip


def _folds(labels: Tensor, fold: Tensor, k: int) -> list[Claim]:
    sizes = fold.bincount(minlength=k)
    by_class = torch.stack([fold[labels == c].bincount(minlength=k) for c in range(3)])
    held = sum(int((fold == i).sum()) for i in range(k))
    return [
        equals("Each of 53 images is held out exactly once", held, 53, 0),
        at_most("Sizes of the folds differ by at most", sizes.max() - sizes.min(), 1),
        at_most("and the images of a class in them",
                (by_class.max(1).values - by_class.min(1).values).max(), 1, "T1.5"),
    ]  # fmt: skip


def _shared(k: int) -> list[Claim]:
    labels = torch.arange(60) % 3
    fold = folds(labels, k, 0)
    both = ((fold != 0) & (fold != 1)).sum() / (fold != 0).sum()
    groups = torch.arange(60) // 3
    by_group = folds(labels, k, 0, groups)
    whole = all(len(by_group[groups == g].unique()) == 1 for g in range(20))
    return [
        equals("Two training sets share (k - 2) / (k - 1) of their images", both, (k - 2) / (k - 1),
               0.05, "T8.6"),
        is_true("With groups, all images of a group are in one fold", whole, "T1.5"),
    ]  # fmt: skip


def _draw(found: dict[str, Tensor], k: int, seed: int) -> Figure:
    from matplotlib.colors import ListedColormap

    from pellucid.labs.drawing import BLUE, RED, finish, sheet

    figure, (bars, diagram) = sheet("Noise cannot be learned: what is above the line is leakage", 2,
                                    size=(13, 4.6))  # fmt: skip
    names = list(found)
    means = [float(found[name].mean()) for name in names]
    bars.barh(names, means, color=[BLUE, *[RED] * 4], hatch=["", *["//"] * 4], edgecolor="white")
    for place, name in enumerate(names):
        bars.plot(found[name].numpy(), [place] * len(found[name]), "k.", markersize=4)
    bars.axvline(0.5, color="black", linestyle="--", label="truth: chance")
    bars.invert_yaxis()
    bars.set_xlim(0, 1.05)
    finish(bars, "accuracy on labels of pure noise (dots: data sets)", "accuracy", legend=True)
    fold = folds(torch.arange(30) % 3, k, seed)
    table = torch.stack([(fold == held).long() for held in range(k)])
    colours = ["#d6e4ee", BLUE]
    diagram.pcolormesh(table.numpy(), cmap=ListedColormap(colours), edgecolors="white")
    diagram.invert_yaxis()
    diagram.set_yticks([i + 0.5 for i in range(k)], [f"model {i + 1}" for i in range(k)])
    finish(diagram, f"{k} folds of 30 images (dark: held out, once each)", "image")
    diagram.grid(visible=False)
    return figure
