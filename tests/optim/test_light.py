"""Optimizers without PyTorch's compiler: the same bits, and it is not loaded."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, AdamW, Muon, Optimizer, RMSprop

from pellucid.optim.light import light

KINDS: list[tuple[type[Optimizer], dict[str, Any]]] = [
    (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "fused": True}),
    (Adagrad, {"lr": 0.1, "fused": True}),
    (RMSprop, {"lr": 0.01, "momentum": 0.5}),
    (Adam, {"lr": 0.01, "weight_decay": 0.1, "fused": True}),
    (AdamW, {"lr": 0.01, "fused": True}),
    (Muon, {"lr": 0.01}),
]
TRAIN = """
import sys, tempfile
from pellucid import good, steps, train
with tempfile.TemporaryDirectory() as folder:
    train(good("digits").with_(length=steps(2)), folder)
assert "torch.optim" in sys.modules
print([name for name in sys.modules if name.startswith(("torch._dynamo", "torch._inductor"))])
"""


def trained(kind: type[Optimizer], options: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """Return a weight after six steps with a save and a load in the middle, and the state."""
    weight = torch.nn.Parameter(torch.arange(12.0).view(3, 4) / 7)
    target = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    optimizer: Any = kind([weight], **options)  # type: ignore[arg-type]
    for step in range(6):
        if step == 3:
            saved = optimizer.state_dict()
            optimizer = kind([weight], **options)  # type: ignore[arg-type]
            optimizer.load_state_dict(saved)
        ((weight - target) ** 2).sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        assert weight.grad is None
    return weight.detach(), optimizer.state_dict()


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=lambda value: str(value))
def test_the_same_bits_as_the_optimizer_of_pytorch(
    kind: type[Optimizer], options: dict[str, Any]
) -> None:
    ours, state = trained(light(kind), options)
    theirs, expected = trained(kind, options)
    assert torch.equal(ours, theirs)
    assert str(state) == str(expected)
    assert issubclass(light(kind), kind)


def test_a_closure_may_compute_gradients() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = light(SGD)([weight], lr=0.5)

    def closure() -> Tensor:
        with torch.enable_grad():
            loss = (weight**2).sum()
        loss.backward()
        return loss.detach()

    assert float(optimizer.step(closure)) == 2.0  # type: ignore[arg-type]
    assert weight.tolist() == [0.0, 0.0]


def test_training_does_not_load_the_compiler() -> None:
    """With the classes of `torch.optim` themselves the list is long."""
    done = subprocess.run([sys.executable, "-c", TRAIN], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
