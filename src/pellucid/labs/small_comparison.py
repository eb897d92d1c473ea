"""A small, fair comparison: five optimizers on one little network, from one start.

100 samples of 10 features in 3 classes, network 10-50-3 with ReLU, the whole set in each step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.labs import rules
from pellucid.labs.options import lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, at_least, at_most, equals, is_true
from pellucid.labs.rules import Gradient, Path
from pellucid.seeds import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
COMMON = 0.01
IN, HIDDEN, OUT = 10, 50, 3
SIZE = IN * HIDDEN + HIDDEN + HIDDEN * OUT + OUT
RULES: dict[str, Callable[[Gradient, Tensor, Tensor], Path]] = {
    "SGD": lambda g, w, lr: rules.sgd(g, w, lr=lr),  # type: ignore[arg-type]
    "momentum": lambda g, w, lr: rules.sgd(g, w, lr=lr, momentum=0.9),  # type: ignore[arg-type]
    "RMSprop": lambda g, w, lr: rules.rmsprop(g, w, lr=lr),  # type: ignore[arg-type]
    "Adam": lambda g, w, lr: rules.adam(g, w, lr=lr),  # type: ignore[arg-type]
    "AdamW": lambda g, w, lr: rules.adamw(g, w, lr=lr),  # type: ignore[arg-type]
}
NOTES = {
    "SGD": (1.1845, 1.1569), "momentum": (1.1493, 1.0858), "RMSprop": (1.1028, 0.5969),
    "Adam": (1.1327, 0.8924), "AdamW": (1.1340, 0.9212),
}  # fmt: skip
"""A comparison as it is often printed: first and last loss, each from a start of its own."""


@lab
def run(
    *,
    steps: Annotated[int, ranged("of each, on the whole set", 5, 300)] = 50,
    seeds: Annotated[int, ranged("starts and data sets", 1, 10)] = 3,
    samples: Annotated[int, ranged("in each data set", 20, 500)] = 100,
) -> LabResult:
    """Train with every optimizer at every rate, all from the same starts."""
    x, y, starts = _tasks(seeds, samples)
    curves = {name: train(rule, x, y, starts, steps) for name, rule in RULES.items()}
    last = {name: c[-1].nan_to_num(math.inf).mean(1) for name, c in curves.items()}  # by rate
    best = {name: int(values.argmin()) for name, values in last.items()}
    tuned = {name: float(last[name][best[name]]) for name in RULES}
    common = {name: float(last[name][RATES.index(COMMON)]) for name in RULES}
    order = sorted(RULES, key=lambda name: tuned[name])
    drop = {name: first - end for name, (first, end) in NOTES.items()}
    most = max(drop, key=lambda name: drop[name])
    text = f"""
        Five optimizers train the same network on the same data, from the same initial weights, in
        {steps} steps. Their labels are random, so the loss begins near ln 3 = {math.log(3):.4f},
        and falls only by learning by heart: this compares how fast, not how well.

        At one rate for all, {COMMON:g}, the order is: {_order(common)}. But a rate means something
        else to each: SGD moves by lr times the gradient, Adam by about lr. So each gets the best
        of the same {len(RATES)} rates, {RATES[0]:g} to {RATES[-1]:g}: then it is {_order(tuned)}.

        A comparison that is often printed starts each optimizer from weights of its own, at
        losses from 1.1028 to 1.1845, with one rate each and one seed. Its own figures say that
        {most} fell most, by {drop[most]:.4f}.
    """
    rows = [
        (name, float(curves[name][0].mean()), common[name], RATES[best[name]], tuned[name],
         _range(curves[name][-1][best[name]]))
        for name in order
    ]  # fmt: skip
    head = ("optimizer", "first loss", f"last, lr {COMMON:g}", "best lr", "last, best lr",
            f"range of {seeds}")  # fmt: skip
    claims = [*_fair(curves, common, tuned, best), *_as_torch(x, y, starts)]
    claims.append(equals("In the printed comparison RMSprop falls most, by 0.5059",
                         drop[most], 0.5059, 5e-5, "T6.20"))  # fmt: skip
    return LabResult(
        text, claims, partial(_draw, curves, best),
        [Table(head, rows, f"Mean cross-entropy, {seeds} seeds, n = {samples}, best first")],
        {"tuned": tuned, "common": {k: v for k, v in common.items() if math.isfinite(v)}},
    )  # fmt: skip


def network(w: Tensor, x: Tensor) -> Tensor:
    """Return the logits of many networks at once: weights (..., SIZE), inputs (..., N, 10)."""
    w1, b1, w2, b2 = w.split([IN * HIDDEN, HIDDEN, HIDDEN * OUT, OUT], -1)
    h: Tensor = torch.relu(x @ w1.unflatten(-1, (IN, HIDDEN)) + b1[..., None, :])
    z: Tensor = h @ w2.unflatten(-1, (HIDDEN, OUT)) + b2[..., None, :]
    return z


def loss_of(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return the mean cross-entropy of each network."""
    picked = network(w, x).log_softmax(-1).gather(-1, y.expand(*w.shape[:-1], -1)[..., None])
    return -picked.squeeze(-1).mean(-1)


def train(
    rule: Callable[[Gradient, Tensor, Tensor], Path], x: Tensor, y: Tensor, starts: Tensor,
    steps: int,
) -> Tensor:  # fmt: skip
    """Return the losses of all rates and seeds, (steps + 1, rates, seeds)."""
    rates = torch.tensor(RATES, dtype=torch.float64)[:, None, None]
    begin = starts.expand(len(RATES), *starts.shape)

    def gradient(w: Tensor) -> Tensor:
        leaf = w.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss_of(leaf, x, y).sum(), leaf)
        return slope

    points = [begin, *islice(rule(gradient, begin, rates), steps)]
    return torch.stack([loss_of(w, x, y) for w in points])


def _tasks(seeds: int, samples: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return inputs (S, N, 10), labels (S, N) and initial weights (S, SIZE) as PyTorch draws."""
    xs, ys, starts = [], [], []
    for seed in range(seeds):
        draws = generator(seed, "lab")
        xs.append(torch.randn(samples, IN, generator=draws, dtype=torch.float64))
        ys.append(torch.randint(OUT, (samples,), generator=draws))
        parts = [
            (2 * torch.rand(size, generator=draws, dtype=torch.float64) - 1) / math.sqrt(fan_in)
            for size, fan_in in ((IN * HIDDEN, IN), (HIDDEN, IN), (HIDDEN * OUT, HIDDEN),
                                 (OUT, HIDDEN))
        ]  # fmt: skip
        starts.append(torch.cat(parts))
    return torch.stack(xs), torch.stack(ys), torch.stack(starts)


def _order(losses: dict[str, float]) -> str:
    return ", ".join(f"{n} {losses[n]:.3g}" for n in sorted(losses, key=lambda name: losses[name]))


def _range(values: Tensor) -> str:
    return f"{float(values.min()):.4g} to {float(values.max()):.4g}"


def _fair(
    curves: dict[str, Tensor], common: dict[str, float], tuned: dict[str, float],
    best: dict[str, int],
) -> list[Claim]:  # fmt: skip
    starts = torch.stack([c[0] for c in curves.values()])
    at_one_rate = {name: c[1, 0] for name, c in curves.items()}
    return [
        at_most("All begin with the same loss (largest difference within a seed)",
                (starts.amax((0, 1)) - starts.amin((0, 1))).max(), 0, "T6.20"),
        equals("which is about ln 3", starts.mean(), math.log(3), 0.15, "T5.3"),
        is_true("Tuning makes none of them worse",
                all(tuned[name] <= common[name] for name in tuned), "T6.3"),
        at_least("No rate suits all: that of SGD over that of Adam, each at its best",
                 RATES[best["SGD"]] / RATES[best["Adam"]], 3, "T6.3"),
        is_true("Momentum's first step is SGD's",
                torch.equal(at_one_rate["SGD"], at_one_rate["momentum"]), "T6.5"),
    ]  # fmt: skip


def _as_torch(x: Tensor, y: Tensor, starts: Tensor) -> list[Claim]:
    """Train the first network once more with PyTorch's own layers and Adam."""
    parts = starts[0].split([IN * HIDDEN, HIDDEN, HIDDEN * OUT, OUT])
    net = torch.nn.Sequential(torch.nn.Linear(IN, HIDDEN), torch.nn.ReLU(),
                              torch.nn.Linear(HIDDEN, OUT)).double()  # fmt: skip
    with torch.no_grad():
        for p, part in zip(net.parameters(), parts, strict=True):
            p.copy_(part.view(p.shape[::-1]).T if p.dim() == 2 else part)
    optimizer = torch.optim.Adam(net.parameters(), lr=COMMON)
    losses = []
    for _ in range(11):
        loss = F.cross_entropy(net(x[0]), y[0])
        losses.append(loss.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    ours = train(RULES["Adam"], x, y, starts, 10)[:, RATES.index(COMMON), 0]
    return [agrees("Our Adam on this network is PyTorch's: 10 losses", ours, torch.stack(losses),
                   1e-9)]  # fmt: skip


def _draw(curves: dict[str, Tensor], best: dict[str, int]) -> Figure:
    from pellucid.labs.drawing import COLOURS, finish, sheet

    figure, (fixed, tuned, sweep) = sheet("Five optimizers, one network, the same starts", 3,
                                          size=(14, 4.6))  # fmt: skip
    for (name, values), colour in zip(curves.items(), COLOURS, strict=False):
        course = values.nan_to_num(10).clamp(1e-6, 10).mean(2)
        fixed.plot(course[:, RATES.index(COMMON)], color=colour, label=name)
        tuned.plot(course[:, best[name]], color=colour, label=f"{name}, lr {RATES[best[name]]:g}")
        sweep.plot(RATES, course[-1], color=colour, marker="o", label=name)
    for axis in (fixed, tuned, sweep):
        axis.set_yscale("log")
    sweep.set_xscale("log")
    finish(fixed, f"one rate for all, {COMMON:g}", "steps", "loss", legend=True)
    finish(tuned, "each at its best rate (cut at 10)", "steps", "loss", legend=True)
    finish(sweep, "loss after the last step, over the rate", "lr", "loss", legend=True)
    return figure
