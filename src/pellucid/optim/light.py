"""PyTorch's optimizers without its compiler, whose loading takes 1 to 2 seconds of each start."""

from __future__ import annotations

import inspect
from typing import TypeVar

import torch
from torch.optim import Optimizer

Kind = TypeVar("Kind", bound=Optimizer)
MARKED = ("add_param_group", "state_dict", "load_state_dict", "zero_grad")
"""Methods that are not to be compiled: the first call of one says so to the compiler."""


def light(kind: type[Kind]) -> type[Kind]:
    """Return `kind` with the bare functions of its methods: the same arithmetic, to the last bit.

    `torch.optim` wraps them for `torch.compile`, by which optimizers may be compiled as well, and
    the wrappers import it. Here only networks are compiled, never what calls an optimizer.

    >>> weight = torch.nn.Parameter(torch.ones(2))
    >>> optimizer = light(torch.optim.SGD)([weight], lr=0.1)
    >>> isinstance(optimizer, torch.optim.SGD), optimizer.param_groups[0]["lr"]
    (True, 0.1)
    """
    bare = {name: inspect.unwrap(getattr(kind, name)) for name in MARKED}
    bare["step"] = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), bare)


class Light:
    """The optimizers that a recipe may name, under the names that they have in `torch.optim`.

    Muon is not among them: the two that it is made of are PyTorch's own, and load the compiler.
    """

    SGD = light(torch.optim.SGD)
    Adagrad = light(torch.optim.Adagrad)
    RMSprop = light(torch.optim.RMSprop)
    Adam = light(torch.optim.Adam)
    AdamW = light(torch.optim.AdamW)
