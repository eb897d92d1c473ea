"""The training loop, line by line, and what breaks when a line is left out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.labs.options import about, lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, at_least, equals, is_true
from pellucid.seeds import generator, reseed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINES = {
    "train": ("net.train()", "dropout and BatchNorm stay as evaluation left them"),
    "zero_grad": ("optimizer.zero_grad()", "gradients of all steps add up: steps grow"),
    "backward": ("loss.backward()", "no gradients: nothing is learned"),
    "clip": ("clip_grad_norm_(params, 1)", "one bad batch can throw the weights far away"),
    "step": ("optimizer.step()", "gradients, but no weight moves; no next rate either"),
    "schedule": ("scheduler.step()", "the rate stays as it is"),
}
"""Each line, and what happens without it."""
STEPS = 60


@lab
def run(
    *,
    without: Annotated[
        Literal["train", "zero_grad", "backward", "clip", "step", "schedule"],
        about("the line whose absence the picture shows in red"),
    ] = "zero_grad",
    lr: Annotated[float, ranged("learning rate", 0.01, 0.2)] = 0.1,
    seed: Annotated[int, ranged("of data and weights", 0, 10**6)] = 0,
) -> LabResult:
    """Train one small network, complete and with each line left out."""
    x, y = data(seed)
    full = train(x, y, lr, seed)
    runs = {name: train(x, y, lr, seed, without=name) for name in LINES}
    text = f"""
        A step of training, in the order in which it has to be:

            net.train()                     dropout on, BatchNorm takes the batch's statistics
            logits = net(images)            forwards; the graph is recorded
            loss = cross_entropy(logits, labels)
            optimizer.zero_grad()           forget the gradients of the last step
            loss.backward()                 backwards: a gradient for each weight, added to .grad
            clip_grad_norm_(params, 1)      not longer than 1
            optimizer.step()                move the weights
            scheduler.step()                the next rate; after the optimizer
            total += loss.detach()          a number to print, without its graph

        and one of evaluation:

            net.eval()                      dropout off, BatchNorm takes what it remembers
            with torch.no_grad():           no graph: less memory, the same numbers

        With all lines the loss goes from {full.losses[0]:.3f} to {full.losses[-1]:.3f} in {STEPS}
        steps. Without {LINES[without][0]} it ends at {runs[without].losses[-1]:.3f}:
        {LINES[without][1]}.

        A lower last loss does not make a missing line right: these are training images, and
        gradients that are never forgotten act like a larger rate, until they throw the weights
        away.

        None of these raises an error. That is the trouble with them. Only a wrong device does:
        images and weights must be on the same one.
    """
    rows = [("(all lines)", full.losses[-1], full.moved, full.rate, "")]
    rows += [
        (LINES[name][0], found.losses[-1], found.moved, found.rate, LINES[name][1])
        for name, found in runs.items()
    ]
    head = ("left out", "last loss", "weights moved by", "last rate", "what happens")
    claims = [*_left_out(full, runs, lr), *_sums(x, y), *_modes(x, seed), *_graphs(x, y, seed)]
    return LabResult(
        text, claims, partial(_draw, full, runs, without),
        [Table(head, rows, "One network, from the same weights")],
        {"losses": full.losses, "without": runs[without].losses},
    )  # fmt: skip


class Course:
    """What a training run left behind.

    Args:
        losses: of each step.
        moved: how far the weights went in all.
        rate: the last learning rate.
        remembered: how often BatchNorm took statistics.
        longest: the longest step of the weights.
    """

    def __init__(
        self, losses: list[float], moved: float, rate: float, remembered: int, longest: float
    ) -> None:
        self.losses, self.moved, self.rate = losses, moved, rate
        self.remembered, self.longest = remembered, longest


def data(seed: int) -> tuple[Tensor, Tensor]:
    """Return inputs (128, 2) and labels: inside a ring or outside."""
    draws = generator(seed, "lab")
    x = torch.randn(128, 2, generator=draws)
    y = (x.norm(dim=1) > 1.1).long()
    return x, y


def network(seed: int) -> nn.Sequential:
    """Return a small network with BatchNorm and dropout, its weights drawn by `seed`."""
    reseed(seed, "lab")
    return nn.Sequential(
        nn.Linear(2, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 2)
    )


def flat(net: nn.Module) -> Tensor:
    """Return all weights as one row."""
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def train(x: Tensor, y: Tensor, lr: float, seed: int, without: str = "") -> Course:
    """Return how the network is trained, with the line `without` left out."""
    net = network(seed).eval()  # as after an evaluation
    start = before = flat(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, STEPS // 2, 0.1)
    losses, longest = [], 0.0
    reseed(seed, "lab", 1)
    for step in range(STEPS):
        if without != "train":
            net.train()
        loss = F.cross_entropy(net(x), y)
        if step == 5:
            loss = 200 * loss  # one bad batch
        if without != "zero_grad":
            optimizer.zero_grad()
        if without != "backward":
            loss.backward()
        if without != "clip":
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        if without != "step":
            optimizer.step()
        if without != "schedule" and without != "step":
            scheduler.step()
        losses.append(float(loss.detach()) / (200 if step == 5 else 1))
        longest = max(longest, float((flat(net) - before).norm()))
        before = flat(net)
    norm = net[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.num_batches_tracked is not None
    taken = int(norm.num_batches_tracked)
    rate = float(optimizer.param_groups[0]["lr"])
    return Course(losses, float((flat(net) - start).norm()), rate, taken, longest)


def _left_out(full: Course, runs: dict[str, Course], lr: float) -> list[Claim]:
    return [
        at_least("All lines: the loss falls by", full.losses[0] - full.losses[-1], 0.05),
        equals("Without backward no weight moves", runs["backward"].moved, 0, 0),
        equals("Without step neither", runs["step"].moved, 0, 0),
        equals("Without train() BatchNorm takes no statistics", runs["train"].remembered, 0, 0),
        equals("with it, once in each step", full.remembered, STEPS, 0),
        equals("Without the scheduler the last rate is the first", runs["schedule"].rate, lr, 1e-9),
        equals("with it, a hundredth after two cuts", full.rate, lr / 100, 1e-9),
        at_least("Without clipping the bad batch makes a longer step: beyond three times",
                 runs["clip"].longest - 3 * full.longest, 0.05),
        is_true("Without zero_grad the course is another one",
                runs["zero_grad"].losses != full.losses),
    ]  # fmt: skip


def _sums(x: Tensor, y: Tensor) -> list[Claim]:
    net = nn.Linear(2, 2)
    F.cross_entropy(net(x), y).backward()
    assert net.weight.grad is not None
    once = net.weight.grad.clone()
    F.cross_entropy(net(x), y).backward()
    return [agrees("A second backward without zero_grad doubles the gradient", net.weight.grad,
                   2 * once, 1e-6)]  # fmt: skip


def _modes(x: Tensor, seed: int) -> list[Claim]:
    net = network(seed)
    reseed(seed, "lab", 2)
    training = [net(x), net(x)]
    net.eval()
    judged = [net(x), net(x)]
    with torch.no_grad():
        plain = net(x)
    return [
        is_true("In training mode the same images give other logits each time",
                not torch.equal(training[0], training[1])),
        agrees("in evaluation the same", judged[0], judged[1], 0),
        agrees("no_grad changes no number", plain, judged[0], 1e-6),
        is_true("it only keeps no graph", plain.grad_fn is None and judged[0].grad_fn is not None),
        is_true("eval() alone still records one", judged[0].requires_grad),
    ]  # fmt: skip


def _graphs(x: Tensor, y: Tensor, seed: int) -> list[Claim]:
    net = network(seed)
    total = torch.zeros(())
    kept = torch.zeros(())
    for _ in range(3):
        loss = F.cross_entropy(net(x), y)
        total = total + loss
        kept = kept + loss.detach()
    return [
        is_true("A sum of losses without detach holds the graphs of all steps",
                total.grad_fn is not None and kept.grad_fn is None),
        agrees("with detach it is the same number", kept, total, 1e-5),
        is_true("Images on another device than the weights raise an error", _refuses(net)),
    ]  # fmt: skip


def _refuses(net: nn.Module) -> bool:
    try:
        net(torch.zeros(4, 2, device="meta"))  # a device that every machine has
    except (RuntimeError, NotImplementedError):
        return True
    return False


def _draw(full: Course, runs: dict[str, Course], without: str) -> Figure:
    from pellucid.labs.drawing import BLUE, RED, finish, sheet

    figure, (course, bars) = sheet("The loop, whole and with a line left out", 2, size=(12.5, 4.4))
    course.plot(full.losses, color=BLUE, label="all lines")
    course.plot(runs[without].losses, "--", color=RED, label=f"without {LINES[without][0]}")
    course.axvline(5, color="#999999", linestyle=":", label="the bad batch")
    finish(course, "loss", "step", "cross-entropy", legend=True)
    names = ["all lines", *(LINES[name][0] for name in runs)]
    ends = [full.losses[-1], *(found.losses[-1] for found in runs.values())]
    colours = [BLUE, *(RED if name == without else "#bbbbbb" for name in runs)]
    bars.barh(names, ends, color=colours)
    for place, end in enumerate(ends):
        bars.text(end, place, f" {end:.3f}", va="center", fontsize=8)
    bars.invert_yaxis()
    bars.set(xscale="log", xlim=(0.5 * min(ends), 3 * max(ends)))
    finish(bars, "last loss without each line", "cross-entropy, in powers of ten")
    return figure
