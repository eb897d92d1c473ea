"""Modules: the same network as a class and as a `Sequential`, and how parameters are found."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor, nn

from pellucid.labs.options import lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, equals, is_true
from pellucid.seeds import reseed

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class AsClass(nn.Module):
    """A small network whose `forward` says how its layers are joined."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.hidden = nn.Linear(4 * 14 * 14, hidden)
        self.out = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, 10) of images (N, 1, 28, 28)."""
        x = self.pool(torch.relu(self.conv(x))).flatten(1)
        logits: Tensor = self.out(torch.relu(self.hidden(x)))
        return logits


def as_sequence(hidden: int) -> nn.Sequential:
    """Return the same network as a row of layers."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(4 * 14 * 14, hidden), nn.ReLU(), nn.Linear(hidden, 10),
    )  # fmt: skip


class Forgetful(nn.Module):
    """A network with layers in a plain list, a buffer, and a tensor that is nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.listed = [nn.Linear(3, 3), nn.Linear(3, 3)]
        self.kept = nn.ModuleList([nn.Linear(3, 3)])
        self.loose = torch.ones(3)
        self.own = nn.Parameter(torch.ones(3))
        self.register_buffer("mean", torch.zeros(3))


@lab
def run(
    *,
    hidden: Annotated[int, ranged("units of the hidden layer", 1, 128)] = 32,
    seed: Annotated[int, ranged("of the weights", 0, 10**6)] = 0,
) -> LabResult:
    """Write one network twice, and look at what PyTorch knows of it."""
    written, row = AsClass(hidden), as_sequence(hidden)
    reseed(seed, "lab")
    x = torch.randn(5, 1, 28, 28)
    carry(written, row)
    total = sum(p.numel() for p in written.parameters())
    text = f"""
        A network can be written as a class with a `forward`, or as a row of layers in
        `nn.Sequential`. With the same weights both compute the same, and have the same {total:,}
        numbers to learn. `Sequential` is shorter; a class can branch, add, and use a layer twice.

        A module finds its parameters by what is assigned to it in `__init__`: an
        `nn.Parameter` is a parameter, an `nn.Module` brings all of its own along, a buffer is saved
        and moved but not learned. A plain list of modules and a plain tensor are none of these:
        the optimizer never hears of them, `.to(device)` leaves them behind, and the
        checkpoint has no place for them. For a list there is `nn.ModuleList`.

        The name of a parameter is its path: `conv.weight` in the class, `0.weight` in the row.
        That is why weights of the one do not load into the other unless they are renamed.

        Call the module, not its `forward`: only the call runs hooks.
    """
    rows = [
        (a, b, tuple(p.shape), p.numel())
        for (a, p), (b, _) in zip(written.named_parameters(), row.named_parameters(), strict=True)
    ]
    claims = [*_twice(written, row, x, hidden), *_known(), *_calls(x), *_shared(x)]
    return LabResult(
        text, claims, partial(_draw, rows),
        [Table(("in the class", "in the row", "shape", "numbers"), rows, "Parameters")],
        {"parameters": total},
    )  # fmt: skip


def carry(source: nn.Module, target: nn.Module) -> None:
    """Copy all parameters from one network into another, in order."""
    with torch.no_grad():
        for ours, theirs in zip(target.parameters(), source.parameters(), strict=True):
            ours.copy_(theirs)


def _twice(written: AsClass, row: nn.Sequential, x: Tensor, hidden: int) -> list[Claim]:
    one, other = written(x), row(x)
    one.square().sum().backward()
    other.square().sum().backward()
    grads = [torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
             for net in (written, row)]  # fmt: skip
    fresh = []
    for make in (AsClass, as_sequence):
        reseed(7, "lab")
        fresh.append(make(hidden)(x))
    return [
        agrees("The same weights: the same logits", one, other, 0),
        agrees("and the same gradients", grads[0], grads[1], 0),
        agrees("The same seed: the same weights, for layers are made in the same order", fresh[0],
               fresh[1], 0),
        equals("Numbers to learn: 40 + 785 hidden + 10 (hidden + 1)",
               sum(p.numel() for p in written.parameters()), 40 + 785 * hidden + 10 * (hidden + 1),
               0),
        is_true("Names differ, so the weights of one do not load into the other",
                _refuses(written, row)),
    ]  # fmt: skip


def _refuses(written: nn.Module, row: nn.Module) -> bool:
    try:
        row.load_state_dict(written.state_dict())
    except RuntimeError:
        return True
    return False


def _known() -> list[Claim]:
    net = Forgetful()
    names = [name for name, _ in net.named_parameters()]
    moved = net.to(torch.float64)
    return [
        is_true("Known: the parameter and the ModuleList; not the plain list, not the tensor",
                names == ["own", "kept.0.weight", "kept.0.bias"], "T3.31"),
        is_true("Saved: they and the buffer",
                sorted(net.state_dict()) == ["kept.0.bias", "kept.0.weight", "mean", "own"]),
        is_true("A move takes parameters and buffers along, and leaves list and tensor behind",
                moved.own.dtype == moved.mean.dtype == torch.float64
                and moved.listed[0].weight.dtype == moved.loose.dtype == torch.float32, "T3.31"),
    ]  # fmt: skip


def _calls(x: Tensor) -> list[Claim]:
    net = AsClass(4)
    seen: list[int] = []
    handle = net.register_forward_hook(lambda *_: seen.append(1))
    net(x)
    by_call = len(seen)
    net.forward(x)
    handle.remove()
    return [
        equals("A call runs a hook", by_call, 1, 0),
        equals("forward() does not run it again", len(seen), 1, 0),
        is_true(
            "train() and eval() reach every part",
            not any(part.training for part in net.eval().modules()),
        ),
    ]


def _shared(x: Tensor) -> list[Claim]:
    """One layer used twice is counted once, and its gradients add up."""
    layer = nn.Linear(28, 28, bias=False)
    twice = nn.Sequential(layer, layer)
    twice(x).sum().backward()
    assert layer.weight.grad is not None
    apart = nn.Sequential(nn.Linear(28, 28, bias=False), nn.Linear(28, 28, bias=False))
    for part in apart:
        carry(layer, part)
    apart(x).sum().backward()
    grads = [p.grad for p in apart.parameters() if p.grad is not None]
    scale = float(layer.weight.grad.abs().max())
    return [
        equals("A layer that is used twice is counted once", len(list(twice.parameters())), 1, 0),
        agrees("and its gradient is the sum of both uses", layer.weight.grad / scale,
               (grads[0] + grads[1]) / scale, 1e-5),
    ]  # fmt: skip


def _draw(rows: list[tuple[str, str, tuple[int, ...], int]]) -> Figure:
    from pellucid.labs.drawing import GREEN, RED, arrow, bare, box, sheet

    figure, (twice, known) = sheet("One network, written twice; and what a module knows", 2,
                                   size=(13, 5))  # fmt: skip
    bare(twice, "the same parameters under two names")
    twice.set(xlim=(-0.5, 2.5), ylim=(-len(rows), 1))
    for place, (a, b, shape, n) in enumerate(rows):
        left, right = box(twice, 0, -place, a), box(twice, 2, -place, b, GREEN)
        arrow(twice, left, right, f"{' x '.join(map(str, shape))} = {n:,}")
    twice.text(0, 0.7, "class", ha="center", fontweight="bold")
    twice.text(2, 0.7, "Sequential", ha="center", fontweight="bold")
    bare(known, "registered (green) or not (red)")
    known.set(xlim=(-0.6, 2.6), ylim=(-0.6, 5))
    module = box(known, 0, 2, "the module", size=11)
    for place, (name, colour) in enumerate((
        ("list of modules: unknown", RED), ("plain tensor: unknown", RED),
        ("buffer: saved, moved", GREEN), ("ModuleList: all of it", GREEN),
        ("Parameter: learned, saved, moved", GREEN),
    )):  # fmt: skip
        arrow(known, module, box(known, 1.8, place, name, colour), colour=colour)
    return figure
