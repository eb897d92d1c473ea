"""All that a step adds up over the processes, as one vector: one message instead of many."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


class Flat:
    """One vector with the gradients, the loss, and the running statistics of normalisation.

    A gradient that is missing counts as zeros: that of a process without images in a short last
    batch, say. One that is missing everywhere stays missing, so that an optimizer leaves its
    parameter alone, as it does in one process.

    Running statistics become their mean over the processes that had images in this step. Each
    of them has normalised its own images; after this the state is the same everywhere, which
    whoever saves or judges it relies on. The counter of batches is that of rank 0, which always
    has images.

    Args:
        parameters: those that are trained in this step.
        norms: normalisation layers that keep running statistics and are in training mode.
    """

    def __init__(self, parameters: list[nn.Parameter], norms: list[_NormBase]) -> None:
        self.parameters = parameters
        self.statistics = [
            s for n in norms for s in (n.running_mean, n.running_var) if s is not None
        ]
        self.counters = [n.num_batches_tracked for n in norms if n.num_batches_tracked is not None]
        dtypes = [p.dtype for p in parameters]
        dtype = functools.reduce(torch.promote_types, dtypes, torch.float32)
        parts = [*parameters, *self.statistics, *self.counters]
        tail = len(parameters) + 2
        self.vector = torch.zeros(
            sum(part.numel() for part in parts) + tail, dtype=dtype, device=parameters[0].device
        )
        ends = iter(self.vector.split([*(part.numel() for part in parts), tail]))
        self.gradients = [next(ends).as_strided(*_layout(p)) for p in parameters]
        self.means = [next(ends).view_as(s) for s in self.statistics]
        self.counts = [next(ends).view_as(c) for c in self.counters]
        self.tail = next(ends)

    @classmethod
    def of(cls, model: nn.Module) -> Flat:
        """Return the vector of what `model` trains now."""
        return cls(*_parts(model))

    def fits(self, model: nn.Module) -> bool:
        """Return whether `model` still trains the same parameters and statistics."""
        parameters, norms = _parts(model)
        known = [id(s) for n in norms for s in (n.running_mean, n.running_var) if s is not None]
        return [*map(id, parameters)] == [*map(id, self.parameters)] and known == [
            *map(id, self.statistics)
        ]

    @torch.no_grad()
    def add(self, total: Tensor, first: bool, everywhere: Callable[[Tensor], None]) -> Tensor:
        """Let `everywhere` add up the vector over all processes; return the sum of `total`.

        Args:
            total: the loss of this process's images, weighted by their share; 0-d.
            first: whether this is rank 0.
            everywhere: adds a tensor up in place.
        """
        given = [p.grad for p in self.parameters]
        here = [gradient is not None for gradient in given]
        active = float(any(here))
        for view, gradient in zip(self.gradients, given, strict=True):
            view.zero_() if gradient is None else view.copy_(gradient)
        for view, statistic in zip(self.means, self.statistics, strict=True):
            view.copy_(statistic).mul_(active)
        for view, counter in zip(self.counts, self.counters, strict=True):
            view.copy_(counter).mul_(float(first))
        self.tail[:-2] = torch.tensor(here, dtype=self.tail.dtype)
        self.tail[-2] = active
        self.tail[-1] = total
        everywhere(self.vector)
        anywhere = here if all(here) else self.tail[:-2].tolist()
        for parameter, view, there in zip(self.parameters, self.gradients, anywhere, strict=True):
            parameter.grad = view.to(parameter.dtype) if there else None
        for view, statistic in zip(self.means, self.statistics, strict=True):
            statistic.copy_(view / self.tail[-2])
        for view, counter in zip(self.counts, self.counters, strict=True):
            counter.copy_(view)
        summed: Tensor = self.tail[-1].clone()
        return summed


def _parts(model: nn.Module) -> tuple[list[nn.Parameter], list[_NormBase]]:
    norms = [
        module
        for module in model.modules()
        if isinstance(module, _NormBase) and module.training and module.running_mean is not None
    ]
    return [p for p in model.parameters() if p.requires_grad], norms


def _layout(tensor: Tensor) -> tuple[torch.Size, tuple[int, ...]]:
    """Return size and strides, so that a gradient lies in the vector as its parameter does."""
    return tensor.shape, torch.empty_like(tensor, memory_format=torch.preserve_format).stride()
