"""Which parameters decay."""

from __future__ import annotations

from typing import Any

from torch import nn


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return two groups: weights of two or more dimensions, which decay, and the rest.

    Biases and the scales of normalisation set where a function lies, not how steep it is:
    pulling them to 0 costs accuracy and regularises little (He et al., "Bag of tricks",
    2018, section 3.1). Without `weight_decay` there is one group, in the order of the model.

    >>> [len(group["params"]) for group in decay_groups(nn.Linear(3, 2), 0.1)]
    [1, 1]
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not weight_decay:
        return [{"params": parameters, "weight_decay": 0.0}]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
