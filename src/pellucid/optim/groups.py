"""Which parameters decay, and which follow the learning rate at a distance."""

from __future__ import annotations

from typing import Any

from torch import nn

from pellucid.values import Staged


def decay_groups(
    model: nn.Module, weight_decay: float, l1: bool = False, norm_bias_lr: float = 1.0
) -> list[dict[str, Any]]:
    """Return the parameters of `model` in groups: weights of two or more dimensions, and the rest.

    Only the weights are penalised. Biases and the scales of normalisation set where a function
    lies, not how steep it is: pulling them to 0 costs accuracy and regularises little (He et al.,
    "Bag of tricks", 2018, section 3.1). Without a penalty there is one group, in the order of the
    model. A pretrained part has groups of its own, whose rate is `scale` times that of the others.
    So have the biases of normalisation, if `norm_bias_lr` is not 1.

    >>> [len(group["params"]) for group in decay_groups(nn.Linear(3, 2), 0.1)]
    [1, 1]
    """
    if isinstance(model, Staged):
        backbone = {id(p) for part in model.backbone() for p in part.parameters()}
        parts = [
            ([p for p in model.parameters() if (id(p) in backbone) == inside], scale)
            for inside, scale in ((True, model.backbone_lr), (False, 1.0))
        ]
    else:
        parts = [(list(model.parameters()), 1.0)]
    shifts = _norm_biases(model) if norm_bias_lr != 1 else set()
    groups = []
    for everything, scale in parts:
        parameters = [p for p in everything if p.requires_grad and id(p) not in shifts]
        apart = [p for p in everything if p.requires_grad and id(p) in shifts]
        groups.append(_group(apart, 0.0, scale * norm_bias_lr, False))
        if weight_decay or l1:
            weights = [p for p in parameters if p.ndim > 1]
            rest = [p for p in parameters if p.ndim <= 1]
            groups.append(_group(weights, weight_decay, scale, True))
            groups.append(_group(rest, 0.0, scale, False))
        else:
            groups.append(_group(parameters, 0.0, scale, False))
    return [group for group in groups if group["params"]]


def _norm_biases(model: nn.Module) -> set[int]:
    """Return the identities of the biases of all batch normalisations."""
    return {
        id(layer.bias)
        for layer in model.modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.bias is not None
    }


def _group(
    parameters: list[nn.Parameter], decay: float, scale: float, penalised: bool
) -> dict[str, Any]:
    penalty = {"weight_decay": decay, "penalised": penalised}
    return {"params": parameters, "scale": scale, **penalty}
