"""Early stopping, the rule step by step; and beside it dropout, on the same digits.

Prechelt, Early stopping - but when? (1998).
"""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import TYPE_CHECKING, Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.labs.options import about, lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, at_least, at_most, equals, is_true
from pellucid.labs.schedules import plateau
from pellucid.labs.small_net import some_digits
from pellucid.seeds import generator, reseed
from pellucid.stopping import EarlyStop
from pellucid.values import Metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEACH, CHOOSE, JUDGE, WRONG = 300, 500, 1000, 0.2
EPOCHS, BATCH = 90, 30


class Event(NamedTuple):
    """What the rule did with one validation loss: its counters, and whether it ends the run."""

    value: float
    best: float
    bad: int
    stop: bool


class Course(NamedTuple):
    """One training: losses after each epoch, accuracies, and the loss as training sees it."""

    train: list[float]
    seen: list[float]
    validation: list[float]
    accuracy: list[float]
    test: list[float]
    kept: nn.Module
    last: nn.Module


@lab
def run(
    *,
    metrics: Annotated[tuple[float, ...], about("validation loss, epoch by epoch")] = (
        1.0, 0.8, 0.7, 0.72, 0.69, 0.695, 0.7, 0.71, 0.65, 0.6,
    ),
    patience: Annotated[int, ranged("epochs without a gain that end it", 1, 10)] = 3,
    min_change: Annotated[float, ranged("a gain must be larger than this", 0, 0.2)] = 0.0,
    seed: Annotated[int, ranged("of digits, weights and batches", 0, 10**6)] = 0,
) -> LabResult:  # fmt: skip
    """Follow the rule through a list of losses, and through a training that overfits."""
    events = rule(metrics, patience, min_change)
    end = stopped_at(events)
    x, y = images(seed)
    plain, dropped = trained(x, y, 0.0, seed), trained(x, y, 0.5, seed)
    found = {p: chosen(plain.validation, p) for p in (1, 2, 3, 5, 10, EPOCHS)}
    stop, kept = found[5]
    low = min(range(EPOCHS), key=lambda t: plain.validation[t])
    told = (
        f"ends the run after epoch {end + 1}, with the best value {events[end].best:g}"
        + (f"; {min(metrics[end + 1 :]):g}, later, is never seen" if metrics[end + 1 :] else "")
        if events and events[-1].stop
        else "does not end the run"
    )
    text = f"""
        After each epoch the validation loss is looked at. A gain is a value below best -
        min_change. The rule has two memories, the best value and a count of epochs since:

            gain:     best = value, count = 0, keep a copy of the weights
            no gain:  count = count + 1; at {patience}, the patience, stop
            at the end: go back to the weights that were kept

        On the values of the table, patience {patience} {told}. The count begins anew with each
        gain. Patience p stops at the p-th epoch in a row without a gain; the plateau schedule with
        the same p cuts the rate one later. So say what is watched, what counts as a gain, and
        whether the best weights come back.

        On digits: {TEACH} images teach, {WRONG:.0%} of their labels wrong on purpose, {CHOOSE}
        choose. The loss on training images falls to {plain.train[-1]:.3f}; on validation images it
        is lowest after epoch {low + 1}, {plain.validation[low]:.3f}, and {plain.validation[-1]:.3f}
        after {EPOCHS}: wrong labels are learned by heart. With patience 5 it ends after epoch
        {stop + 1} of {EPOCHS} with the weights of epoch {kept + 1}, loss
        {plain.validation[kept]:.3f}. Accuracy goes its own way:
        {plain.accuracy[kept]:.1%} there, {plain.accuracy[-1]:.1%} at the end, and in
        {both_rose(plain)} epochs it rose together with the loss, which counts how sure errors are.

        Patience 1 ends after epoch {found[1][0] + 1}, at {plain.validation[found[1][1]]:.3f}. More
        patience is never worse by the validation loss, and never cheaper.

        The images that chose cannot judge: of {EPOCHS} values the lowest is partly luck. On
        {JUDGE:,} others the kept weights have {plain.test[kept]:.3f}, the last
        {plain.test[-1]:.3f}.

        Dropout 0.5 on the hidden layer, {EPOCHS} epochs, no stopping: each step trains another
        small network. The loss that training sees ends at {dropped.seen[-1]:.3f} (without dropout
        {plain.seen[-1]:.3f}), that on others at {dropped.test[-1]:.3f} (without
        {plain.test[-1]:.3f}). It slows the learning by heart down, and does not end it: its lowest
        validation loss was {min(dropped.validation):.3f}. The two go together.
    """
    rows = [(k + 1, e.value, e.best, e.bad, "stop" if e.stop else "") for k, e in enumerate(events)]
    table = [
        (p if p < EPOCHS else "no stop", s + 1, k + 1, plain.validation[k], plain.test[k],
         plain.test[s])
        for p, (s, k) in found.items()
    ]  # fmt: skip
    tables = [
        Table(("epoch", "loss", "best", "count", ""), rows, f"Patience {patience}"),
        Table(("patience", "ends after", "keeps", "validation", "test, kept", "test, last"), table,
              f"Digits, without dropout: {TEACH} teach, {CHOOSE} choose, {JUDGE:,} judge"),
    ]  # fmt: skip
    claims = [
        *_as_ours(events, patience, min_change), *_counted(), *_patience(plain, found),
        *_overfits(plain, low), *_kept(plain, x, y), *_dropout(plain, dropped),
    ]  # fmt: skip
    return LabResult(
        text, claims, partial(_draw, events, plain, dropped, found), tables,
        {"stop": end + 1, "kept": kept + 1, "validation": plain.validation, "test": plain.test},
    )  # fmt: skip


def rule(metrics: tuple[float, ...], patience: int, min_change: float) -> list[Event]:
    """Return what the rule does with each of `metrics`, up to the one that ends the run."""
    best, bad = math.inf, 0
    events: list[Event] = []
    for value in metrics:
        if value < best - min_change:
            best, bad = value, 0
        else:
            bad += 1
        events.append(Event(value, best, bad, bad >= patience))
        if bad >= patience:
            break
    return events


def stopped_at(events: list[Event]) -> int:
    """Return the last epoch that was run, from 0."""
    return len(events) - 1


def chosen(losses: list[float], patience: int) -> tuple[int, int]:
    """Return the last epoch, and the epoch whose weights are kept; both from 0."""
    events = rule(tuple(losses), patience, 0.0)
    end = stopped_at(events)
    return end, next(t for t in range(end + 1) if losses[t] == events[end].best)


def images(seed: int) -> tuple[Tensor, Tensor]:
    """Return digits of 14x14 and labels: teach, choose, judge; some that teach are wrong."""
    draws = generator(seed, "lab")
    x, y = some_digits(TEACH + CHOOSE + JUDGE, draws)
    wrong = int(WRONG * TEACH)
    y[:wrong] = (y[:wrong] + torch.randint(1, 10, (wrong,), generator=draws)) % 10
    return x, y


def trained(x: Tensor, y: Tensor, p: float, seed: int) -> Course:
    """Train one network with dropout `p` to the end, and judge it after each epoch."""
    reseed(seed, "lab", 1)
    net = nn.Sequential(nn.Linear(196, 128), nn.ReLU(), nn.Dropout(p), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    found = Course([], [], [], [], [], net, net)
    kept = copy.deepcopy(net)
    for epoch in range(EPOCHS):
        total = 0.0
        for rows in torch.randperm(TEACH, generator=generator(seed, "lab", epoch)).split(BATCH):
            loss = F.cross_entropy(net.train()(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(rows)
        found.seen.append(total / TEACH)
        judge(net, x, y, found)
        if found.validation[-1] == min(found.validation):
            kept = copy.deepcopy(net)
    return found._replace(kept=kept)


@torch.no_grad()
def judge(net: nn.Module, x: Tensor, y: Tensor, found: Course) -> None:
    """Write down the losses on the three parts, and the accuracy on validation images."""
    z = net.eval()(x)
    first, second = TEACH, TEACH + CHOOSE
    found.train.append(float(F.cross_entropy(z[:first], y[:first])))
    found.validation.append(float(F.cross_entropy(z[first:second], y[first:second])))
    found.accuracy.append(float((z.argmax(1) == y)[first:second].double().mean()))
    found.test.append(float(F.cross_entropy(z[second:], y[second:])))


def _as_ours(events: list[Event], patience: int, min_change: float) -> list[Claim]:
    """The rule beside that of the training loop, on the list and on 200 random ones."""
    draws = generator(0, "lab")
    lists = [tuple(e.value for e in events)]
    lists += [
        tuple((torch.randn(20, generator=draws).double().cumsum(0) / 10 + 1).exp().tolist())
        for _ in range(200)
    ]
    same, ended = 0, 0
    for values in lists:
        for change in {min_change, 0.0, 0.1}:
            ours = rule(values, patience, change)
            theirs = EarlyStop(patience, change, "loss")
            states = []
            for value in values[: len(ours)]:
                theirs.offer(Metrics(n=1, loss=value, correct=0))
                states.append((theirs.best, theirs.bad, theirs.now))
            same += [(e.best, e.bad, e.stop) for e in ours] == states
            ended += bool(ours and ours[-1].stop)
    total = len(lists) * len({min_change, 0.0, 0.1})
    return [
        equals("The rule of `--stop.patience` counts the same, on this list and 200 random ones: "
               "share of them", same / total, 1, 0, "T2.17"),
        is_true("of which some end early", ended > 0),
    ]  # fmt: skip


def _counted() -> list[Claim]:
    flat = rule((1.0,) * 9, 3, 0.0)
    cut = [k for k, e in enumerate(plateau((1.0,) * 9, 0.1, 3, 1e-4, 0)) if e.rate < 1][0]
    again = rule((1.0, 1.1, 1.1, 0.9, 1.1, 1.1, 0.8), 3, 0.0)
    small = rule(tuple(1 - 0.01 * k for k in range(9)), 3, 0.05)
    return [
        equals("Patience 3 and no gain: ends at value 4, the third without one", len(flat), 4, 0,
               "T2.22"),
        equals("the plateau of patience 3 cuts at value 5", cut + 1, 5, 0, "T2.22"),
        is_true("A gain sets the count back to 0: two bad, a gain, two bad do not end it",
                not again[-1].stop and [e.bad for e in again] == [0, 1, 2, 0, 1, 2, 0], "T2.17"),
        equals("Gains of 0.01 are none with min_change 0.05 until they add up: count at value 4",
               small[3].bad, 3, 0, "T2.17"),
    ]  # fmt: skip


def _patience(plain: Course, found: dict[int, tuple[int, int]]) -> list[Claim]:
    ends = [found[p][0] for p in sorted(found)]
    losses = [plain.validation[found[p][1]] for p in sorted(found)]
    return [
        is_true("More patience never ends earlier", ends == sorted(ends)),
        is_true("and never keeps a worse validation loss",
                losses == sorted(losses, reverse=True)),
    ]  # fmt: skip


def both_rose(found: Course) -> int:
    """Return in how many epochs validation loss and validation accuracy rose together."""
    pairs = zip(found.validation, found.validation[1:], strict=False)
    shares = zip(found.accuracy, found.accuracy[1:], strict=False)
    return sum(a < b and c < d for (a, b), (c, d) in zip(pairs, shares, strict=True))


def _overfits(plain: Course, low: int) -> list[Claim]:
    luck = -torch.randn(4000, EPOCHS, generator=generator(1, "lab")).amin(1)
    return [
        at_least("The validation loss rises from its lowest to the end, by a fifth",
                 plain.validation[-1] / plain.validation[low], 1.2),
        at_most("while that on training images falls below a tenth of its first",
                plain.train[-1] / plain.train[0], 0.1, "T2.14"),
        at_most("Patience 5 saves epochs: it ends before", chosen(plain.validation, 5)[0] + 1,
                EPOCHS / 2),
        at_least("and on images that chose nothing the last weights are worse: loss over that of "
                 "those kept", plain.test[-1] / plain.test[chosen(plain.validation, 5)[1]], 1.2),
        at_least("Loss and accuracy are two things: epochs in which both rose", both_rose(plain), 3,
                 "T2.13"),
        equals(f"The lowest of {EPOCHS} equally good values, noise 1 on each, lies below the truth "
               "by", float(luck.mean()), 2.47, 0.1, "T1.4"),
    ]  # fmt: skip


def _kept(plain: Course, x: Tensor, y: Tensor) -> list[Claim]:
    part = slice(TEACH, TEACH + CHOOSE)
    with torch.no_grad():
        back = F.cross_entropy(plain.kept(x[part]), y[part])
    state = plain.last.state_dict()
    before = state["0.bias"].clone()
    with torch.no_grad():
        plain.last.get_parameter("0.bias").add_(1)
    moved = (state["0.bias"] - before).abs().max()
    with torch.no_grad():
        plain.last.get_parameter("0.bias").sub_(1)
    return [
        equals("The copy gives the lowest validation loss back", back, min(plain.validation), 1e-5,
               "T2.6"),
        agrees("A state_dict is no copy: a weight that moves by 1 moves it by 1", moved,
               torch.ones(()), 1e-5, "T2.6"),
    ]  # fmt: skip


def _dropout(plain: Course, dropped: Course) -> list[Claim]:
    return [
        at_least("Dropout raises the loss that training sees, last epoch: by",
                 dropped.seen[-1] - plain.seen[-1], 0.05, "T3.22"),
        at_least("which is more than its own in evaluation: by",
                 dropped.seen[-1] - dropped.train[-1], 0.02, "T2.4"),
        at_most("On other images the end is better with dropout: loss over that without",
                dropped.test[-1] / plain.test[-1], 0.9),
        at_least("Yet it overfits, too: validation loss at the end over its lowest",
                 dropped.validation[-1] / min(dropped.validation), 1.02),
    ]  # fmt: skip


def _draw(
    events: list[Event], plain: Course, dropped: Course, found: dict[int, tuple[int, int]]
) -> Figure:
    from pellucid.labs.drawing import BLUE, GREEN, GREY, RED, finish, key_below, sheet

    figure, (line, course, other) = sheet("Early stopping", 3, size=(15, 4.6))
    places = range(1, len(events) + 1)
    line.plot(places, [e.value for e in events], color=BLUE, marker="o", label="validation loss")
    line.plot(places, [e.best for e in events], color=GREY, linestyle="--", label="best so far")
    for k, event in enumerate(events):
        line.annotate(str(event.bad), (k + 1, event.value), (0, 9), textcoords="offset points",
                      ha="center", fontsize=8,
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})  # fmt: skip
    if events and events[-1].stop:
        line.axvline(len(events), color=RED, linestyle=":", label="stop")
    line.margins(0.06, 0.12)
    finish(line, "the count of epochs without a gain", "epoch", "loss")
    key_below(line, 3)
    epochs = range(1, EPOCHS + 1)
    stop, kept = found[5]
    course.plot(epochs, plain.train, "--", color=GREY, label="training images")
    course.plot(epochs, plain.validation, color=BLUE, label="validation")
    course.plot(kept + 1, plain.validation[kept], "o", color=GREEN, label="kept, patience 5")
    course.axvline(stop + 1, color=RED, linestyle=":", label="stop, patience 5")
    finish(course, f"{TEACH} digits, {WRONG:.0%} of the labels wrong", "epoch", "cross-entropy",
           legend=True)  # fmt: skip
    other.plot(epochs, plain.test, color=BLUE, label="without dropout")
    other.plot(epochs, dropped.test, "-.", color=RED, label="dropout 0.5")
    other.plot(kept + 1, plain.test[kept], "o", color=GREEN, label="what early stopping keeps")
    finish(other, f"{JUDGE:,} images that chose nothing", "epoch", "cross-entropy", legend=True)
    return figure
