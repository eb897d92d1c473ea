"""Embeddings: a table of rows, of which a batch moves only those that it visits."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.errors import UserError
from pellucid.labs.options import about, lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, at_least, equals, is_true
from pellucid.seeds import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS, WIDTH = 5, 3


@lab
def run(
    *,
    ids: Annotated[tuple[int, ...], about("the rows that a batch visits, each from 0 to 4")] = (
        0, 2, 2, 4,
    ),
    optimizer: Annotated[
        Literal["sgd", "adam", "sparse-adam"], about("whose steps the picture shows")
    ] = "adam",
    seed: Annotated[int, ranged("of the table", 0, 10**6)] = 0,
) -> LabResult:  # fmt: skip
    """Look rows up, and see which of them get a gradient and which are moved."""
    if not ids or not all(0 <= i < ROWS for i in ids):
        raise UserError(
            f"--ids must be rows of the table, each from 0 to {ROWS - 1}, at least one. Got "
            f'"{",".join(map(str, ids))}".'
        )
    table = torch.randn(ROWS, WIDTH, generator=generator(seed, "lab"), dtype=torch.float64)
    batch = torch.tensor(ids)
    slopes = 1 + torch.arange(len(ids) * WIDTH, dtype=torch.float64).view(-1, WIDTH)
    ours = gradient(batch, slopes)
    dense, sparse = _theirs(table, batch, slopes)
    counts = torch.bincount(batch, minlength=ROWS)
    text = f"""
        An embedding is a table, here of {ROWS} rows with {WIDTH} numbers each, and a token is the
        number of a row. Looking up {ids} gives {len(ids)} rows. It is the same as a one-hot matrix
        times the table, without the multiplication by zeros.

        So the gradient is the transposed one-hot matrix times the gradient above: rows that
        were not visited get 0, and a row that was visited twice gets the sum of both. Here {
        int((counts == 0).sum())
    } of {ROWS} rows get nothing.

        With `sparse=True` only the gradient is stored sparsely, as pairs of a row number and a row,
        {sparse._nnz()} of them here, a repeated row repeated until they are added up (coalesced).
        The table itself stays dense. Few optimizers take such a gradient: SGD without weight decay,
        SparseAdam, Adagrad.

        Zero gradient does not mean no movement. Adam with dense gradients moves each row that an
        earlier batch visited, by what its averages remember; weight decay moves every row.
    """
    moves = {name: _moved(name, table, [batch, torch.tensor([1])]) for name in OPTIMIZERS}
    rows = [
        (row, int(counts[row]), float(ours[row].norm()), *(float(m[row]) for m in moves.values()))
        for row in range(ROWS)
    ]
    head = ("row", "visits", "gradient", *(f"{name} moves" for name in moves))
    claims = [
        *_gradients(table, batch, ours, dense, sparse), *_moves(table), *_allowed(table),
    ]  # fmt: skip
    return LabResult(
        text, claims, partial(_draw, table, batch, ours, optimizer),
        [Table(head, rows, "First batch: gradient. Second batch, row 1 only: how far rows move")],
        {"gradient": ours.tolist()},
    )  # fmt: skip


OPTIMIZERS = ("sgd", "adam", "sparse-adam", "sgd with weight decay")


def gradient(ids: Tensor, slopes: Tensor) -> Tensor:
    """Return the gradient of the table for looked-up rows `ids` (N,) with `slopes` (N, WIDTH)."""
    found = torch.zeros(ROWS, slopes.shape[1], dtype=slopes.dtype)
    for row, slope in zip(ids.tolist(), slopes, strict=True):
        found[row] += slope
    return found


def _theirs(table: Tensor, ids: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """Return PyTorch's gradient, dense and sparse."""
    found = []
    for sparse in (False, True):
        layer = nn.Embedding.from_pretrained(table.clone(), freeze=False, sparse=sparse)
        (layer(ids) * slopes).sum().backward()
        assert layer.weight.grad is not None
        found.append(layer.weight.grad)
    return found[0], found[1]


def _moved(name: str, table: Tensor, batches: list[Tensor]) -> Tensor:
    """Return how far each row moves in the step of the last of the batches."""
    layer = nn.Embedding.from_pretrained(table.clone(), freeze=False, sparse=name == "sparse-adam")
    made: torch.optim.Optimizer
    if name == "adam":
        made = torch.optim.Adam(layer.parameters(), lr=0.1)
    elif name == "sparse-adam":
        made = torch.optim.SparseAdam(list(layer.parameters()), lr=0.1)
    else:
        decay = 0.1 if name == "sgd with weight decay" else 0.0
        made = torch.optim.SGD(layer.parameters(), lr=0.1, weight_decay=decay)
    before = table
    for ids in batches:
        before = layer.weight.detach().clone()
        made.zero_grad()
        layer(ids).square().sum().backward()
        with torch.sparse.check_sparse_tensor_invariants():
            made.step()
    moved: Tensor = (layer.weight.detach() - before).norm(dim=1)
    return moved


def _gradients(
    table: Tensor, batch: Tensor, ours: Tensor, dense: Tensor, sparse: Tensor
) -> list[Claim]:  # fmt: skip
    one_hot = F.one_hot(batch, ROWS).double()
    twice = gradient(torch.tensor([0, 2, 2, 4]), torch.ones(4, WIDTH))
    untouched = torch.bincount(batch, minlength=ROWS) == 0
    return [
        agrees("Looking up is a one-hot matrix times the table", one_hot @ table,
               F.embedding(batch, table), 1e-12),
        agrees("The gradient: added up row by row as in PyTorch", ours, dense, 1e-12),
        agrees("the sparse one is the same, once it is dense", sparse.to_dense(), ours, 1e-12,
               "T3.27"),
        equals("The sparse gradient lists every visit", sparse._nnz(), len(batch), 0, "T3.27"),
        equals("and every row once, coalesced", sparse.coalesce()._nnz(), len(batch.unique()), 0,
               "T3.27"),
        is_true("Rows that were not visited get exactly 0", not ours[untouched].any()),
        is_true("0, 2, 2, 4 with slopes of 1: the rows get 1, 0, 2, 0, 1",
                twice[:, 0].tolist() == [1, 0, 2, 0, 1]),
    ]  # fmt: skip


def _moves(table: Tensor) -> list[Claim]:
    then = [torch.tensor([0, 2, 2, 4]), torch.tensor([1])]
    moved = {name: _moved(name, table, then) for name in OPTIMIZERS}

    def rows(name: str) -> list[int]:
        return moved[name].nonzero().flatten().tolist()

    return [
        is_true("First 0, 2, 2, 4, then 1: SGD's second step moves row 1 only", rows("sgd") == [1],
                "T3.20"),
        is_true("so does SparseAdam's", rows("sparse-adam") == [1], "T3.20"),
        is_true("Adam's moves 0, 2 and 4 once more", rows("adam") == [0, 1, 2, 4], "T3.20"),
        is_true("weight decay moves every row",
                rows("sgd with weight decay") == [0, 1, 2, 3, 4], "T3.20"),
        at_least("Adam moves row 0, with gradient 0, by", moved["adam"][0], 0.01, "T3.20"),
    ]  # fmt: skip


def _allowed(table: Tensor) -> list[Claim]:
    refused = []
    for make in (
        lambda p: torch.optim.Adam(p, lr=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1),
        lambda p: torch.optim.Adagrad(p, lr=0.1),
    ):
        layer = nn.Embedding.from_pretrained(table.clone(), freeze=False, sparse=True)
        layer(torch.tensor([0, 2])).sum().backward()
        try:
            with torch.sparse.check_sparse_tensor_invariants():
                make(list(layer.parameters())).step()
            refused.append(False)
        except RuntimeError:
            refused.append(True)
    return [
        is_true("Adam and SGD with weight decay refuse sparse gradients, SGD and Adagrad do not",
                refused == [True, True, False, False], "T3.20"),
    ]  # fmt: skip


def _draw(table: Tensor, batch: Tensor, ours: Tensor, optimizer: str) -> Figure:
    from pellucid.labs.drawing import BLUE, COLOURS, finish, key_below, sheet

    figure, (rows, grad, moves) = sheet(
        f"An embedding visited at {tuple(batch.tolist())}", 3, size=(13, 4.2)
    )
    for axis, values, title in (
        (rows, F.one_hot(batch, ROWS).double(), "one-hot: which row each token visits"),
        (grad, ours, "gradient of the table"),
    ):
        axis.imshow(values.numpy(), cmap="Blues", vmin=0, aspect="auto",
                    vmax=2 * max(float(values.max()), 0.5))  # fmt: skip
        for i, row in enumerate(values.tolist()):
            for j, value in enumerate(row):
                axis.text(j, i, f"{value:g}", ha="center", va="center")
        axis.set_title(title)
    rows.set(xlabel="row of the table", ylabel="token", xticks=range(ROWS),
             yticks=range(len(batch)))  # fmt: skip
    grad.set(xlabel="column", ylabel="row of the table", xticks=range(WIDTH), yticks=range(ROWS))
    first = _moved(optimizer, table, [batch])
    second = _moved(optimizer, table, [batch, torch.tensor([1])])
    places = torch.arange(ROWS)
    moves.bar(places - 0.2, first.numpy(), 0.4, color=BLUE, label="step 1: this batch")
    moves.bar(places + 0.2, second.numpy(), 0.4, color=COLOURS[1], hatch="//",
              label="step 2: row 1 only")  # fmt: skip
    finish(moves, f"how far each row moves: {optimizer}", "row of the table", "length")
    key_below(moves, 2)
    return figure
