"""The size of a mini-batch: noise of the gradient, steps, memory, speed.

Masters and Luschi, Revisiting small batch training (2018); Shallue et al., Measuring the effects of
data parallelism (2019).
"""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING, Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.labs.options import lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, at_least, at_most, equals, is_true
from pellucid.labs.small_net import some_digits
from pellucid.seeds import generator, reseed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEACH, JUDGE, WIDTH = 1024, 1000, 32
SIZES = (1, 32, 64, 128, TEACH)
RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
DRAWS, EQUAL = 400, 300


class Course(NamedTuple):
    """What came of a batch size, at the rate with the least loss on all training images.

    `fixed` is the loss at one rate, 0.1, for all.
    """

    rate: float
    steps: int
    loss: float
    validation: float
    fixed: float


@lab
def run(
    *,
    epochs: Annotated[int, ranged("over all training images", 1, 4)] = 2,
    seed: Annotated[int, ranged("of images, weights and batches", 0, 10**6)] = 0,
) -> LabResult:
    """Measure noise, memory and time of batches, and train with each size at its best rate."""
    x, y, judged, labels = images(seed)
    net = network(seed)
    with torch.no_grad():
        slopes = by_image(net, x, y)
    spread = float((slopes - slopes.mean(0)).square().sum(1).mean())
    noise = {size: noise_of(slopes, size, seed) for size in SIZES}
    kept = {size: held(net, x[:size], y[:size]) for size in SIZES}
    seconds = {size: timed(net, x, y, size) for size in SIZES}
    courses = {size: best(x, y, judged, labels, size, epochs, seed) for size in SIZES}
    equal = {size: judge(trained(x, y, size, 0.3, EQUAL, seed), x, y, judged, labels)
             for size in SIZES[1:]}  # fmt: skip
    one, full = courses[1], courses[TEACH]
    text = f"""
        {TEACH:,} digits teach a network of {WIDTH} units. A step may take the gradient of all, or
        of a batch of B that are drawn without putting back. Its gradient is right on
        average; how far off it is, as a mean square:

            E|g_B - g|^2 = S / B * (N - B) / (N - 1)      S = {spread:.4g}, N = {TEACH}
            B = 32:   {expected(spread, 32):.4g}    measured {noise[32]:.4g}
            B = 128:  {expected(spread, 128):.4g}    measured {noise[128]:.4g}

        So four times the batch halves the error, and costs four times the work. Here |g|^2 is
        {float(slopes.mean(0).square().sum()):.3g}: a batch below B = {
        spread / float(slopes.mean(0).square().sum()):.0f} is more noise than gradient, and learns.

        An epoch has ceil(N / B) steps: {TEACH} of one image, {-(-TEACH // 32)} of 32, 1 of all.
        The multiplications are the same. In {epochs} epochs, each size at the best of
        {len(RATES)} rates:

            B = 1:      {one.steps:5d} steps   training loss {one.loss:.4f}   lr {one.rate:g}
            B = 32:     {courses[32].steps:5d} steps   training loss {courses[32].loss:.4f}   lr {
        courses[32].rate:g}
            B = {TEACH}:  {full.steps:5d} steps   training loss {full.loss:.4f}   lr {full.rate:g}

        Large batches make few steps, and too few here. At one rate for all, 0.1, the order mixes
        two things: larger batches bear, and want, larger rates.

        For the same number of steps, {EQUAL} at rate 0.3, it is the other way round, a little:

            B = 32:     {EQUAL * 32 / TEACH:4.0f} epochs   training loss {equal[32][0]:.4f}
            B = 128:    {EQUAL * 128 / TEACH:4.0f} epochs   training loss {equal[128][0]:.4f}
            B = {TEACH}:  {EQUAL:5d} epochs   training loss {equal[TEACH][0]:.4f}

        32 times the work for each step buys almost nothing. Nor does the size decide how well
        other images are judged: validation accuracies from
        {min(a for _, a in equal.values()):.3f} to {
        max(a for _, a in equal.values()):.3f}, each with
        an error of {1.96 * math.sqrt(0.1 * 0.9 / JUDGE):.3f}. That small batches generalise better
        is no rule that can be seen here.

        Memory: what backwards needs is kept for each image, {(kept[64] - kept[32]) / 32:,.0f} bytes
        here; weights and their gradients do not grow. Speed: one image at a time costs
        {seconds[1] / seconds[128]:.0f} times as long per image as 128 on this machine, now: most of
        it is for starting each operation. Where memory is short, add the gradients of
        small batches: the sum, weighted by size, is that of the large one, but BatchNorm still sees
        small ones.
    """
    rows = [
        (size, -(-TEACH // size), noise[size], expected(spread, size), kept[size])
        for size in SIZES
    ]  # fmt: skip
    tables = [
        Table(("batch", "steps per epoch", "noise", "formula", "bytes kept"), rows,
              f"Of the first gradient; noise: mean square of {DRAWS} batches"),
        Table(("batch", "steps", "best lr", "training loss", "at lr 0.1", "validation"),
              [(size, c.steps, c.rate, c.loss, c.fixed, c.validation)
               for size, c in courses.items()], f"After {epochs} epochs"),
        Table(("batch", "epochs", "training loss", "validation"),
              [(size, EQUAL * size / TEACH, *found) for size, found in equal.items()],
              f"After {EQUAL} steps at lr 0.3"),
        Table(("batch", "microseconds per image"),
              [(size, round(1e6 * s, 2)) for size, s in seconds.items()],
              "Measured now, on one machine: another time it differs (best of 20)"),
    ]  # fmt: skip
    claims = [
        *_noise(noise, spread, slopes, net, x, y), *_counted(kept, courses, epochs),
        *_learned(courses, equal), *_summed(net, x, y),
    ]  # fmt: skip
    return LabResult(
        text, claims, partial(_draw, noise, spread, courses, seconds, kept), tables,
        {"noise": noise, "loss": {s: c.loss for s, c in courses.items()},
         "validation": {s: c.validation for s, c in courses.items()}},
    )  # fmt: skip


def images(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return digits of 14x14 and labels: those that teach, and those that judge."""
    x, y = some_digits(TEACH + JUDGE, generator(seed, "lab"))
    return x[:TEACH], y[:TEACH], x[TEACH:], y[TEACH:]


def network(seed: int) -> nn.Sequential:
    """Return the network, the same for each size of batch."""
    reseed(seed, "lab", 1)
    return nn.Sequential(nn.Linear(196, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10))


def by_image(net: nn.Sequential, x: Tensor, y: Tensor) -> Tensor:
    """Return the gradient of each image's own loss, (N, weights), by the chain rule."""
    first, _, last = net
    h = net[:2](x)
    delta = last(h).softmax(1) - F.one_hot(y, 10)
    back = (delta @ last.weight) * (h > 0)
    parts = [back[:, :, None] * x[:, None], back, delta[:, :, None] * h[:, None], delta]
    assert first.weight.shape == parts[0].shape[1:]
    return torch.cat([part.flatten(1) for part in parts], 1)


def expected(spread: float, size: int) -> float:
    """Return the mean square error of a batch's gradient, by the formula."""
    return spread / size * (TEACH - size) / (TEACH - 1)


def noise_of(slopes: Tensor, size: int, seed: int) -> float:
    """Return the mean square error of the gradients of DRAWS batches."""
    chosen = torch.zeros(DRAWS, TEACH)
    for row in range(DRAWS):
        order = torch.randperm(TEACH, generator=generator(seed, "lab", size, row))
        chosen[row, order[:size]] = 1 / size
    return float((chosen @ slopes - slopes.mean(0)).square().sum(1).mean())


def held(net: nn.Sequential, x: Tensor, y: Tensor) -> int:
    """Return the bytes that the forward pass keeps for the backward one, without the weights."""
    weights = {p.data_ptr() for p in net.parameters()}
    found: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        if value.data_ptr() not in weights:
            found[value.data_ptr()] = value.numel() * value.element_size()
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        loss = F.cross_entropy(net(x), y)
    del loss
    return sum(found.values())


def timed(net: nn.Sequential, x: Tensor, y: Tensor, size: int) -> float:
    """Return the seconds per image of forward and backward, the best of 20."""
    found = []
    for _ in range(20):
        start = time.perf_counter()
        F.cross_entropy(net(x[:size]), y[:size]).backward()
        found.append((time.perf_counter() - start) / size)
    net.zero_grad()
    return min(found)


def best(
    x: Tensor, y: Tensor, judged: Tensor, labels: Tensor, size: int, epochs: int, seed: int
) -> Course:
    """Train at each rate, from the same weights in the same order; return the best."""
    steps = epochs * math.ceil(TEACH / size)
    found = {
        rate: judge(trained(x, y, size, rate, steps, seed), x, y, judged, labels) for rate in RATES
    }
    rate = min(found, key=lambda r: found[r][0])
    return Course(rate, steps, *found[rate], found[0.1][0])


def judge(
    net: nn.Sequential, x: Tensor, y: Tensor, judged: Tensor, labels: Tensor
) -> tuple[float, float]:
    """Return the loss on all training images, and the accuracy on the others."""
    with torch.no_grad():
        loss = float(F.cross_entropy(net(x), y).nan_to_num(1e9, 1e9))
        return loss, float((net(judged).argmax(1) == labels).double().mean())


def trained(
    x: Tensor, y: Tensor, size: int, rate: float, steps: int, seed: int
) -> nn.Sequential:  # fmt: skip
    """Return the network after some steps of SGD with batches of `size`, epoch after epoch."""
    net = network(seed)
    weights: list[Tensor] = list(net.parameters())
    queue: list[Tensor] = []
    for step in range(steps):
        if not queue:
            order = torch.randperm(TEACH, generator=generator(seed, "lab", step))
            queue = list(order.split(size))
        rows = queue.pop(0)
        slopes = torch.autograd.grad(F.cross_entropy(net(x[rows]), y[rows]), weights)
        with torch.no_grad():
            torch._foreach_add_(weights, slopes, alpha=-rate)
    return net


def _noise(
    noise: dict[int, float], spread: float, slopes: Tensor, net: nn.Sequential, x: Tensor, y: Tensor
) -> list[Claim]:
    grads = torch.autograd.grad(F.cross_entropy(net(x), y), list(net.parameters()))
    whole = torch.cat([g.flatten() for g in grads])
    batches = slopes.view(TEACH // 32, 32, -1).mean(1)
    known = {size: expected(spread, size) for size in SIZES[1:-1]}
    return [
        agrees("The mean of the images' gradients is that of autograd", slopes.mean(0), whole,
               1e-5),
        agrees("So is the mean over the 32 batches of an epoch", batches.mean(0), whole, 1e-5),
        *(equals(f"B = {size}: measured noise over the formula", noise[size] / value, 1, 0.1)
          for size, value in known.items()),
        equals("B = 1: too", noise[1] / expected(spread, 1), 1, 0.4),
        at_most("All images: no noise, up to rounding (share of S)", noise[TEACH] / spread, 1e-9),
        equals("Four times the batch, 32 to 128: noise, as a length, falls to",
               math.sqrt(noise[128] / noise[32]), math.sqrt(known[128] / known[32]), 0.05),
    ]  # fmt: skip


def _counted(kept: dict[int, int], courses: dict[int, Course], epochs: int) -> list[Claim]:
    steps = [courses[size].steps for size in SIZES]
    return [
        is_true("Steps are epochs * ceil(N / B)",
                steps == [epochs * math.ceil(TEACH / size) for size in SIZES], "T2.15"),
        equals("Bytes kept grow in proportion: 128 images over 32, less what is constant",
               (kept[128] - kept[64]) / (kept[64] - kept[32]), 2, 1e-9),
        equals("each image: its 196 pixels, 32 units, 10 probabilities, its label",
               (kept[64] - kept[32]) / 32, 4 * (196 + 32 + 10) + 8, 0),
    ]  # fmt: skip


def _learned(
    courses: dict[int, Course], equal: dict[int, tuple[float, float]]
) -> list[Claim]:  # fmt: skip
    small, full = courses[32], courses[TEACH]
    accuracies = [accuracy for _, accuracy in equal.values()]
    return [
        at_least("In the same epochs, all images at once come less far: loss over that of B = 32",
                 full.loss / small.loss, 1.5),
        at_least("B = 128 less far than B = 32, too", courses[128].loss / small.loss, 1.05),
        at_least("One rate is not fair: that of 128, at its best, over that of 1",
                 courses[128].rate / courses[1].rate, 3, "T6.3"),
        at_least(f"In the same {EQUAL} steps 32 times the images gain little: loss of all over "
                 "that of B = 32", equal[TEACH][0] / equal[32][0], 0.5),
        at_most("and no size generalises better: range of validation accuracies",
                max(accuracies) - min(accuracies), 0.04),
    ]  # fmt: skip


def _summed(net: nn.Sequential, x: Tensor, y: Tensor) -> list[Claim]:
    weights = list(net.parameters())

    def slope(begin: int, end: int) -> Tensor:
        grads = torch.autograd.grad(F.cross_entropy(net(x[begin:end]), y[begin:end]), weights)
        return torch.cat([g.flatten() for g in grads])

    parts, large = [slope(0, 64), slope(64, 128)], slope(0, 128)
    uneven = slope(0, 96), slope(96, 128)
    alone = nn.BatchNorm1d(4)
    try:
        alone(torch.ones(1, 4))
        refused = False
    except ValueError:
        refused = True
    return [
        agrees("Two batches of 64, each by half, are one of 128", sum(parts) / 2 + 0 * large, large,
               1e-6, "T2.18"),
        agrees("96 and 32 by their sizes, too", 0.75 * uneven[0] + 0.25 * uneven[1], large, 1e-6,
               "T2.18"),
        at_least("by half each they are not: largest difference",
                 ((uneven[0] + uneven[1]) / 2 - large).abs().max(), 1e-4, "T2.18"),
        is_true("BatchNorm refuses to train on one image", refused),
    ]  # fmt: skip


def _draw(
    noise: dict[int, float], spread: float, courses: dict[int, Course], seconds: dict[int, float],
    kept: dict[int, int],
) -> Figure:  # fmt: skip
    from pellucid.labs.drawing import BLUE, GREY, RED, finish, key_below, sheet

    figure, (off, loss, cost) = sheet(f"The size of a batch, {TEACH:,} images", 3, size=(15, 4.6))
    sizes = [2**k for k in range(10)]
    off.loglog(sizes, [expected(spread, s) for s in sizes], color=GREY, label="formula")
    off.loglog(SIZES[:-1], [noise[s] for s in SIZES[:-1]], "o", color=BLUE, label="measured")
    finish(off, "noise of the gradient", "batch", "mean square of g_B - g", legend=True)
    places = range(len(SIZES))
    bars = loss.bar([p - 0.2 for p in places], [courses[s].loss for s in SIZES], 0.4, color=BLUE,
                    label="at its best rate")  # fmt: skip
    loss.bar_label(bars, [f"lr {courses[s].rate:g}" for s in SIZES], fontsize=8)
    fixed = [min(courses[s].fixed, 3) for s in SIZES]
    loss.bar([p + 0.2 for p in places], fixed, 0.4, color=RED, hatch="//", edgecolor="white",
             label="at lr 0.1 (cut at 3)")  # fmt: skip
    loss.set_xticks(list(places), [f"B = {s}\n{courses[s].steps} steps" for s in SIZES])
    finish(loss, "training loss after the same epochs", "", "cross-entropy")
    key_below(loss, 2)
    cost.loglog(SIZES, [1e6 * seconds[s] for s in SIZES], "o-", color=BLUE,
                label="microseconds per image")  # fmt: skip
    cost.loglog(SIZES, [kept[s] / 1e3 for s in SIZES], "s--", color=RED, label="kB kept")
    finish(cost, "time (measured now) and memory", "batch", "microseconds, kB", legend=True)
    return figure
