"""What this machine can do: four fixed pieces of work that any step is made of."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from pellucid.engine import LAYOUT
from pellucid.seeds import generator

ROUNDS = 7
"""How often each piece is done; the first time, which fetches code and memory, is not counted."""
SIDE = 1024
CHANNELS, PIXELS, IMAGES = 64, 16, 64
COPIED = 64 * 2**20
LOOPS = 300_000


@dataclass(frozen=True)
class Yardstick:
    """One piece of work.

    Args:
        name: what is done.
        value: median over the rounds.
        low: the least of the rounds.
        high: the most.
        unit: of the three.
        n: number of rounds.
    """

    name: str
    value: float
    low: float
    high: float
    unit: str
    n: int


def yardsticks(device: torch.device, rounds: int = ROUNDS) -> tuple[Yardstick, ...]:
    """Measure the four pieces of work in fp32, one after the other.

    The convolution counts forward and backward, 2 operations a product and sum.

    Args:
        device: where; the threads are those that PyTorch has now.
        rounds: at least 1.

    >>> [y.unit for y in yardsticks(torch.device("cpu"), 1)]
    ['GFLOP/s', 'GFLOP/s', 'GB/s', 'million/s']
    """
    draws = generator(0, "bench")
    a = torch.randn(SIDE, SIDE, generator=draws).to(device)
    x = torch.randn(IMAGES, CHANNELS, PIXELS, PIXELS, generator=draws).to(device)
    x = x.contiguous(memory_format=LAYOUT).requires_grad_()
    conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False).to(device)
    conv = conv.to(memory_format=LAYOUT)  # type: ignore[call-overload]
    up = torch.ones_like(x)
    source = torch.zeros(COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def convolve() -> None:
        torch.autograd.grad(conv(x), [x, conv.weight], up)

    def count() -> None:
        number = 0
        for i in range(LOOPS):
            number += i

    product = 2 * SIDE**3
    taps = 3 * 2 * IMAGES * PIXELS**2 * CHANNELS**2 * 9
    works: list[tuple[str, Callable[[], object], float, str]] = [
        (f"matrix product, {SIDE} x {SIDE}", lambda: a @ a, product / 1e9, "GFLOP/s"),
        (f"convolution 3x3, {CHANNELS} channels", convolve, taps / 1e9, "GFLOP/s"),
        ("copy of 64 MiB, read and written", lambda: target.copy_(source), 2 * COPIED / 1e9,
         "GB/s"),
        ("rounds of a Python loop", count, LOOPS / 1e6, "million/s"),
    ]  # fmt: skip
    return tuple(_measured(device, rounds, *work) for work in works)


def _measured(
    device: torch.device,
    rounds: int,
    name: str,
    work: Callable[[], object],
    amount: float,
    unit: str,
) -> Yardstick:
    speeds = []
    for _ in range(rounds + 1):
        wait(device)
        began = time.perf_counter()
        work()
        wait(device)
        speeds.append(amount / (time.perf_counter() - began))
    del speeds[0]
    return Yardstick(name, statistics.median(speeds), min(speeds), max(speeds), unit, rounds)


def wait(device: torch.device) -> None:
    """Wait until the device has done all that it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
