"""What holds for each view: it leaves no trace, it proves what it shows, or it says why not."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn

from pellucid.errors import UserError
from pellucid.viewdata import DoesNotApply, Proof, ViewData
from pellucid.views.catalogue import VIEWS, View
from pellucid.views.options import Options
from pellucid.views.subject import Subject
from tests.views.subjects import KINDS, subject_of

ALL = [pytest.param(view, id=view.name) for view in VIEWS]


def few(view: View) -> Options:
    """As few images as will do: the numbers do not matter here."""
    images = view.name in (
        "activations", "excite", "receptive-field", "ablation", "health", "patches", "landscape",
        "features",
        "robustness",
    )  # fmt: skip
    return Options(count=10) if images else Options()


def hooks(model: nn.Module) -> list[int]:
    return [len(part._forward_hooks) + len(part._forward_pre_hooks) + len(part._backward_hooks)
            for part in model.modules()]  # fmt: skip


@pytest.mark.parametrize("view", ALL)
def test_a_view_of_a_run_is_proved_and_leaves_no_trace(view: View, subject: Subject) -> None:
    model = subject.model
    x = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    expected = model.eval()(x)
    model.train()  # as it is between two steps
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before, modes = copy.deepcopy(model.state_dict()), [p.training for p in model.modules()]
    gradients, stream = [p.grad for p in model.parameters()], torch.get_rng_state()
    needs = [p.requires_grad for p in model.parameters()]
    data = view.compute(subject, few(view))
    assert data.ok, [proof.line for proof in data.proofs if not proof.ok]
    assert torch.equal(torch.get_rng_state(), stream)
    assert not any(hooks(model))
    assert [p.training for p in model.modules()] == modes
    assert torch.equal(model.eval()(x), expected)
    assert [p.requires_grad for p in model.parameters()] == needs
    assert [p.grad for p in model.parameters()] == gradients
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert data.view == view.name
    json.dumps(data.plain(), allow_nan=False)
    assert all(len(row) == len(data.head) for row in data.rows)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[] if kind in ("own", "resnet") else pytest.mark.slow)
        for kind in KINDS
    ],
)
@pytest.mark.parametrize("view", ALL)
def test_a_view_works_on_every_kind_of_model_or_says_why(view: View, kind: str) -> None:
    subject = subject_of(kind)
    why = ""
    try:
        data = view.compute(subject, few(view))
    except DoesNotApply as reason:
        why = str(reason)
    if why:
        assert why.endswith((".", ")"))
    else:
        assert data.ok, [proof.line for proof in data.proofs if not proof.ok]
        json.dumps(data.plain(), allow_nan=False)
    assert not any(hooks(subject.model))


@pytest.mark.parametrize("view", ALL)
def test_an_option_that_a_view_does_not_take_is_named(view: View) -> None:
    left = {"index": 1, "unit": 1, "layer": "x", "size": (2, 2), "place": (1, 1)}
    for name, value in left.items():
        if name not in view.takes:
            with pytest.raises(UserError, match=f"takes no --{name}"):
                Options(**{name: value}).only(view.name, view.takes)  # type: ignore[arg-type]


class Fails(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3)
        self.out = nn.Linear(7, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.out(self.first(x).flatten(1))
        return logits


@pytest.mark.parametrize("view", ALL)
def test_hooks_and_modes_are_put_back_when_the_model_fails(view: View) -> None:
    subject = subject_of("own")
    object.__setattr__(subject, "model", Fails())
    try:
        data: ViewData | None = view.compute(subject, Options())
    except Exception:
        data = None
    assert subject.model.training
    assert not any(hooks(subject.model))
    if data is not None:
        assert view.name == "shapes"
        assert "gets 1352 = 2*26*26" in data.notes[0]


def test_a_proof_without_a_number_does_not_hold() -> None:
    assert not Proof("a - b", float("nan"), 1.0).ok
    assert not Proof("a - b", float("inf"), 1.0).ok
    assert Proof("a - b", 0.0, 0.0).ok
    assert not ViewData("x", "x", {}, ()).ok
