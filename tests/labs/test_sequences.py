"""The labs on recurrent layers, attention and counts: wrong computations fail."""

from __future__ import annotations

from typing import Any

import pytest
import sklearn.metrics
import torch

from pellucid.labs import attention, counts, recurrent

right_states, right_attend = recurrent.states, attention.attend
right_scores, right_matrix, right_top = counts.scores, counts.matrix_of, counts.top


def paper_gru(kind: str, layer: Any, x: Any) -> Any:
    """States of a GRU that resets before the hidden product, as the paper has it."""
    if kind != "GRU":
        return right_states(kind, layer, x)
    w, u, b, c = layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0
    h = torch.zeros(layer.hidden_size, dtype=x.dtype)
    n = layer.hidden_size
    found = []
    for value in x:
        new = w @ value + b
        r, z = torch.sigmoid(new[: 2 * n] + u[: 2 * n] @ h + c[: 2 * n]).chunk(2)
        h = (1 - z) * torch.tanh(new[2 * n :] + u[2 * n :] @ (r * h) + c[2 * n :]) + z * h
        found.append(h)
    return torch.stack(found)


def without_state(kind: str, layer: Any, x: Any) -> Any:
    """Steps that each begin at zero."""
    return torch.cat([right_states(kind, layer, row[None]) for row in x])


def sees_all(layer: Any, x: Any, source: Any, ignore: Any) -> Any:
    """Attention without a mask."""
    return right_attend(layer, x, source, torch.zeros_like(ignore))


def keep(layer: Any, x: Any, source: Any, ignore: Any) -> Any:
    """Attention with the mask turned round."""
    return right_attend(layer, x, source, ~ignore if ignore.any() else ignore)


@pytest.mark.parametrize(
    ("module", "name", "wrong"),
    [
        (recurrent, "states", paper_gru),
        (recurrent, "states", without_state),
        (recurrent, "norms", lambda radius, steps=50: [1.0] * (steps + 1)),
        (attention, "scale", lambda width: float(width)),
        (attention, "scale", lambda width: 1.0),
        (attention, "attend", sees_all),
        (attention, "attend", keep),
        (attention, "positions", lambda tokens, width: torch.zeros(tokens, width).double()),
        (counts, "scores", lambda tp, fn, fp, tn: right_scores(tp, fp + 1, fn, tn)),
        (counts, "scores", lambda *n: {**right_scores(*n), "f1": right_scores(*n)["accuracy"]}),
        (counts, "matrix_of", lambda t, s, c: right_matrix(s, t, c)),
        (counts, "top", lambda logits, targets, k: right_top(-logits, targets, k)),
    ],
)
def test_a_wrong_computation_fails_a_claim(
    module: Any, name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, wrong)
    assert module.run().failed


def test_nothing_to_divide_by() -> None:
    found = counts.run(tp=0, fn=0, fp=0, tn=5)
    assert found.values["scores"] == {"accuracy": 1, "precision": None, "recall": None, "f1": None}
    assert not found.failed


def test_the_table_of_the_matrix_is_that_of_scikit_learn() -> None:
    targets = torch.arange(3).repeat_interleave(counts.CATS.sum(1))
    said = torch.cat([torch.arange(3).repeat_interleave(row) for row in counts.CATS])
    precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(targets, said)
    rows = counts.run().tables[0].rows
    for k, row in enumerate(rows):
        expected = (f"{100 * value[k]:.2f} %" for value in (precision, recall, f1))
        assert tuple(row[2:]) == tuple(expected)
