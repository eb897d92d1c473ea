"""Recurrent layers: a state that is carried from step to step. RNN, LSTM and GRU, by hand."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor, nn

from pellucid.labs.options import lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, at_most, equals, is_true
from pellucid.seeds import reseed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEQUENCE = (0.1, 0.2, 0.5, 0.9)


@lab
def run(
    *,
    hidden: Annotated[int, ranged("numbers in the state", 1, 16)] = 3,
    radius: Annotated[float, ranged("spectral radius of a linear RNN", 0.5, 1.5)] = 0.9,
    seed: Annotated[int, ranged("of the weights", 0, 10**6)] = 0,
) -> LabResult:
    """Run three recurrent layers over a sequence, step by step."""
    reseed(seed, "lab")
    x = torch.tensor(SEQUENCE, dtype=torch.float64).view(1, -1, 1)
    layers: dict[str, nn.RNNBase] = {
        "RNN": nn.RNN(1, hidden, batch_first=True, dtype=torch.float64),
        "LSTM": nn.LSTM(1, hidden, batch_first=True, dtype=torch.float64),
        "GRU": nn.GRU(1, hidden, batch_first=True, dtype=torch.float64),
    }
    ours = {name: states(name, layer, x[0]) for name, layer in layers.items()}
    text = f"""
        A recurrent layer reads a sequence one element after the other and keeps a state h, here
        {hidden} numbers. The sequence: 0.1, 0.2, 0.5, 0.9. In each step the same weights:

            RNN   h = tanh(W x + b + U h + c)
            GRU   r, z = s(...)   n = tanh(W x + b + r (U h + c))   h = (1 - z) n + z h
            LSTM  i, f, o = s(...)   g = tanh(...)   c = f c + i g   h = o tanh(c)

        The gates (s is the sigmoid) decide how much of the old state is kept. `output` holds the
        state of the last layer after every step, {(1, len(SEQUENCE), hidden)}; `h_n` the state of
        each layer and direction after its last step, {(1, 1, hidden)}. The last state of the RNN
        begins with {float(ours["RNN"][-1, 0].detach()):.4f}. A classifier is a linear layer on the
        last state.

        Stacked layers read the states of the layer below. In both directions, the second reads
        from the end, so its last state belongs to the first element: the last row of `output`
        holds the last state of the one direction and the first step of the other.

        Through T steps a gradient is a product of T matrices: a linear RNN multiplies it by
        about its spectral radius each time, here {radius:g}: after 50 steps by {radius**50:.3g}.
    """
    rows = [
        (step + 1, value, *(float(state[step, 0].detach()) for state in ours.values()))
        for step, value in enumerate(SEQUENCE)
    ]
    table = Table(("step", "x", *ours), rows, "First number of the state after each step")
    counts = [
        (name, sum(p.numel() for p in layers[name].parameters()), k)
        for name, k in (("RNN", 1), ("GRU", 3), ("LSTM", 4))
    ]
    fade = norms(radius)
    claims = [
        *(agrees(f"{name}: by hand as in PyTorch, all steps", ours[name], layers[name](x)[0][0],
                 1e-12, "T3.15" if name == "GRU" else "") for name in ours),
        *(equals(f"{name}: {k} times hidden (hidden + 1 + 2) numbers to learn", n,
                 k * hidden * (hidden + 3), 0) for name, n, k in counts),
        *_shapes(x, layers, hidden), *_directions(hidden), *_long(radius, fade, seed),
    ]  # fmt: skip
    return LabResult(
        text, claims, partial(_draw, {k: v.detach() for k, v in ours.items()}, radius, fade),
        [table], {"last": {name: s[-1].tolist() for name, s in ours.items()}},
    )  # fmt: skip


def states(kind: str, layer: nn.RNNBase, x: Tensor) -> Tensor:
    """Return the state after each step, (T, hidden), for inputs (T, 1): by hand, from zeros."""
    w, u, b, c = layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0
    assert isinstance(w, Tensor)
    assert isinstance(u, Tensor)
    assert isinstance(b, Tensor)
    assert isinstance(c, Tensor)
    h = torch.zeros(layer.hidden_size, dtype=x.dtype)
    cell = h
    found = []
    for value in x:
        new, old = w @ value + b, u @ h + c
        if kind == "RNN":
            h = torch.tanh(new + old)
        elif kind == "GRU":
            (r1, z1, n1), (r2, z2, n2) = new.chunk(3), old.chunk(3)
            r, z = torch.sigmoid(r1 + r2), torch.sigmoid(z1 + z2)
            h = (1 - z) * torch.tanh(n1 + r * n2) + z * h
        else:
            i, f, g, o = (new + old).chunk(4)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(cell)
        found.append(h)
    return torch.stack(found)


def norms(radius: float, steps: int = 50) -> list[float]:
    """Return the norm of a gradient on its way back through a linear RNN, scaled to `radius`."""
    angle = torch.tensor(0.7, dtype=torch.float64)
    turn = torch.stack(
        [torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])]
    )
    slope = torch.tensor([1.0, 0.0], dtype=torch.float64)
    found = [1.0]
    for _ in range(steps):
        slope = radius * turn.T @ slope
        found.append(float(slope.norm()))
    return found


def _shapes(x: Tensor, layers: dict[str, nn.RNNBase], hidden: int) -> list[Claim]:
    out, last = layers["RNN"](x)
    stacked = nn.GRU(1, hidden, num_layers=2, batch_first=True, dtype=torch.float64)
    deep_out, deep_last = stacked(x)
    first_axis, _ = nn.RNN(1, hidden, dtype=torch.float64)(x.transpose(0, 1))
    return [
        agrees("The last row of output is h_n", out[:, -1], last[0], 0, "T3.14"),
        agrees("Stacked: output holds the upper layer only", deep_out[:, -1], deep_last[1], 0,
               "T3.14"),
        is_true("and h_n one state for each layer", deep_last.shape == (2, 1, hidden), "T3.14"),
        is_true("Unless batch_first is set, the first axis is time",
                first_axis.shape == (len(SEQUENCE), 1, hidden), "T3.16"),
    ]  # fmt: skip


def _directions(hidden: int) -> list[Claim]:
    both = nn.LSTM(1, hidden, bidirectional=True, batch_first=True, dtype=torch.float64)
    x = torch.tensor(SEQUENCE, dtype=torch.float64).view(1, -1, 1)
    out, (last, _) = both(x)
    head = nn.Linear(2 * hidden, 10, dtype=torch.float64)
    return [
        agrees("Both directions: the forward state is last in the last row", out[0, -1, :hidden],
               last[0, 0], 0, "T3.14"),
        agrees("the backward state in the first row", out[0, 0, hidden:], last[1, 0], 0, "T3.14"),
        is_true("A classifier on the last states: 10 scores",
                head(torch.cat([last[0], last[1]], 1)).shape == (1, 10)),
    ]  # fmt: skip


def _long(radius: float, fade: list[float], seed: int) -> list[Claim]:
    reseed(seed, "lab", 1)
    gru = nn.GRU(1, 8, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for p in gru.parameters():
            p.mul_(20)
    wild, _ = gru(10 * torch.randn(1, 200, 1, dtype=torch.float64))
    matrix = torch.tensor([[radius, 0], [0, radius / 2]], dtype=torch.float64)
    h = torch.ones(2, dtype=torch.float64, requires_grad=True)
    end = h
    for _ in range(50):
        end = matrix @ end
    (slope,) = torch.autograd.grad(end[0], h)
    return [
        at_most("A GRU that starts at 0 stays within -1 and 1, whatever comes",
                wild.detach().abs().max(), 1),
        equals("A linear RNN: 50 steps multiply the gradient by radius^50 (ratio)",
               fade[50] / radius**50, 1, 1e-9),
        equals("autograd's as well (ratio)", slope[0] / radius**50, 1, 1e-9),
    ]  # fmt: skip


def _draw(ours: dict[str, Tensor], radius: float, fade: list[float]) -> Figure:
    from pellucid.labs.drawing import BLUE, COLOURS, finish, sheet

    figure, axes = sheet("Recurrent layers: a state is carried from step to step", 4,
                         size=(14, 3.8))  # fmt: skip
    for axis, (name, state) in zip(axes, ours.items(), strict=False):
        picture = axis.imshow(state.T.numpy(), cmap="coolwarm", vmin=-1, vmax=1, aspect="auto")
        if len(state[0]) <= 6:
            for step, row in enumerate(state.tolist()):
                for unit, value in enumerate(row):
                    axis.text(step, unit, f"{value:.2f}", ha="center", va="center", fontsize=9)
        axis.set(title=name, xlabel="input", ylabel="unit of the state", xticks=range(4),
                 xticklabels=[f"{v:g}" for v in SEQUENCE], yticks=range(len(state[0])))  # fmt: skip
    figure.colorbar(picture, ax=axes[2])
    for value, colour, style in ((0.8, COLOURS[1], "--"), (1.1, COLOURS[2], ":")):
        axes[3].semilogy(norms(value), color=colour, linestyle=style, label=f"radius {value:g}")
    axes[3].semilogy(fade, color=BLUE, label=f"radius {radius:g}")
    finish(axes[3], "linear RNN: gradient", "steps back", "norm", legend=True)
    return figure
