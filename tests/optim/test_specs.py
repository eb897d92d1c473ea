"""Optimizers are torch's, with decay on weights only."""

from __future__ import annotations

import pytest
import torch

from pellucid.models.resnet import ResNet
from pellucid.optim.specs import SGD, Adam, AdamW
from pellucid.state import EMA


@pytest.mark.parametrize(
    ("spec", "kind"),
    [(SGD(), torch.optim.SGD), (Adam(), torch.optim.Adam), (AdamW(), torch.optim.AdamW)],
)
def test_builds_torchs_own_fused(spec: SGD, kind: type) -> None:
    optimizer = spec.build(torch.nn.Linear(3, 2))
    assert type(optimizer) is kind
    assert all(group["fused"] for group in optimizer.param_groups)
    assert all(group["lr"] == spec.lr for group in optimizer.param_groups)


def test_only_weights_decay() -> None:
    model = ResNet((3, 8, 8), 4, depth=8, width=4)
    decaying, still = AdamW(weight_decay=0.3).build(model).param_groups
    assert {p.ndim for p in decaying["params"]} == {2, 4}
    assert {p.ndim for p in still["params"]} == {1}
    assert (decaying["weight_decay"], still["weight_decay"]) == (0.3, 0.0)
    held = {id(p) for group in (decaying, still) for p in group["params"]}
    assert held == {id(p) for p in model.parameters()}


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(ValueError, match="nesterov needs a momentum above 0"):
        SGD(momentum=0.0)


def test_ema_is_torchs_average() -> None:
    """Against `swa_utils.AveragedModel`, once the warm-up of the decay is over."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    ours = EMA(model, decay=0.9)
    ours.updates = 1000
    theirs = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=False
    )
    theirs.update_parameters(model)  # their first update is a copy, as our start is
    draws = torch.Generator().manual_seed(0)
    for _ in range(10):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn(p.shape, generator=draws))
        model(torch.randn(5, 4, generator=draws))
        ours.update(model)
        theirs.update_parameters(model)
    for mine, other in zip(ours.model.parameters(), theirs.module.parameters(), strict=True):
        torch.testing.assert_close(mine, other)
    assert torch.equal(ours.model[1].running_mean, model[1].running_mean)  # type: ignore[index]
