"""The one vector that a step adds up: missing gradients, running statistics, layouts."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn

from pellucid.distributed.flat import Flat
from pellucid.seeds import generator

DRAWS = generator(0, "test")


def net() -> nn.Sequential:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    return model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]


def filled(model: nn.Module, skip: tuple[str, ...] = ()) -> dict[str, Tensor | None]:
    """Give each parameter a gradient, but for those in `skip`."""
    for name, parameter in model.named_parameters():
        parameter.grad = None
        if name not in skip:
            parameter.grad = torch.randn(parameter.shape, generator=DRAWS)
    return {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}


def meet(models: list[nn.Module], totals: list[float]) -> list[float]:
    """Let the vectors of several models be added up, as processes do, one after the other."""
    flats = [Flat.of(model) for model in models]
    written: list[Tensor] = []
    for rank, flat in enumerate(flats):  # what each sends, before anything has arrived

        class Sent(Exception):
            pass

        def send(vector: Tensor) -> None:
            written.append(vector.clone())
            raise Sent

        with contextlib.suppress(Sent):
            flat.add(torch.tensor(totals[rank]), rank == 0, send)
    total = torch.stack(written).sum(0)
    return [
        float(flat.add(torch.tensor(totals[rank]), rank == 0, lambda v: v.copy_(total)))
        for rank, flat in enumerate(flats)
    ]


def test_gradients_and_losses_are_added_up() -> None:
    models = [net(), net()]
    given = [filled(model) for model in models]
    assert meet(models, [0.25, 0.5]) == [0.75, 0.75]
    for model in models:
        for name, parameter in model.named_parameters():
            a, b = given[0][name], given[1][name]
            assert a is not None
            assert b is not None
            assert parameter.grad is not None
            assert torch.equal(parameter.grad, a + b)
            assert parameter.grad.stride() == parameter.stride()


def test_a_missing_gradient_counts_as_zeros_and_one_missing_everywhere_stays_missing() -> None:
    models = [net(), net()]
    given = [filled(models[0], ("3.bias", "0.bias")), filled(models[1], ("3.bias", "0.weight"))]
    meet(models, [0.0, 0.0])
    for model in models:
        found = {name: p.grad for name, p in model.named_parameters()}
        assert found["3.bias"] is None
        for name, rank in (("0.weight", 0), ("0.bias", 1)):
            ours, theirs = found[name], given[rank][name]
            assert ours is not None
            assert theirs is not None
            assert torch.equal(ours, theirs)


def test_running_statistics_are_the_mean_of_those_who_had_images() -> None:
    models = [net(), net(), net()]
    for model in models[:2]:
        filled(model)
        model(torch.randn(5, 3, 4, 4, generator=DRAWS))
    models[2][1].running_mean.fill_(7.0)  # type: ignore[index,union-attr,operator]
    filled(models[2], tuple(name for name, _ in models[2].named_parameters()))  # had none
    means = [model[1].running_mean.clone() for model in models]  # type: ignore[index,union-attr]
    assert not torch.equal(means[0], means[1])
    meet(models, [0.0, 0.0, 0.0])
    for model in models:
        norm = model[1]  # type: ignore[index]
        torch.testing.assert_close(norm.running_mean, (means[0] + means[1]) / 2, rtol=0, atol=0)
        assert int(norm.num_batches_tracked) == 1


def test_what_is_frozen_is_left_alone() -> None:
    models = [net(), net()]
    for number, model in enumerate(models):
        filled(model)
        norm = model[1].eval()
        norm.running_mean.fill_(number)  # type: ignore[union-attr,operator]
        model[0].requires_grad_(False)
    weight = models[0][0].weight.grad
    flat = Flat.of(models[0])
    assert flat.fits(models[0])
    meet(models, [0.0, 0.0])
    assert models[0][0].weight.grad is weight
    assert [float(m[1].running_mean[0]) for m in models] == [0.0, 1.0]  # type: ignore[index]
    models[0][0].requires_grad_(True)
    assert not flat.fits(models[0])
    models[0][0].requires_grad_(False)
    models[0][1].train()
    assert not flat.fits(models[0])
