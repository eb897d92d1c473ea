"""Randomness as a function of (seed, purpose, step).

Every random number of a run comes from a stream that is named by what it decides, so that
changing one thing (say the augmentation) leaves the others (initial weights, order of the
data) alone, and a resumed run needs no saved generator state.

| purpose   | further keys | decides                                   |
|-----------|--------------|-------------------------------------------|
| `split`   | -            | which training images become validation   |
| `init`    | -            | the initial weights                       |
| `shuffle` | epoch        | the order of the data                     |
| `augment` | step         | augmentation of each image of the batch   |
| `turn-first` | image     | in which epochs an image is mirrored      |
| `step`    | step, rank   | dropout and what else the model draws     |
| `folds`   | -            | which fold each training image is in      |
| `sweep`   | trial        | what a search proposes                    |

Looking at a finished run draws from streams of its own: `replicates` (sign tests and bootstrap),
`look`, `shuffle-filter`, `shuffle-weights`, `filter-signs`, `randomise`, `deletion-order`,
`ascend`, `noise-pictures`, `flip`, `turn`, `landscape`, `noise` (views), `bench` (yardsticks).
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def derive(seed: int, purpose: str, *keys: int) -> int:
    """Return the 63-bit seed of the stream that `(seed, purpose, *keys)` names.

    >>> derive(0, "shuffle", 1) == derive(0, "shuffle", 1) != derive(0, "shuffle", 2)
    True
    """
    name = "/".join([str(seed), purpose, *map(str, keys)])
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def generator(seed: int, purpose: str, *keys: int) -> torch.Generator:
    """Return a CPU generator at the start of the stream `(seed, purpose, *keys)`.

    >>> torch.randperm(4, generator=generator(0, "shuffle", 0)).tolist()
    [1, 2, 3, 0]
    """
    return torch.Generator().manual_seed(derive(seed, purpose, *keys))


def reseed(seed: int, purpose: str, *keys: int) -> None:
    """Put torch's own generators at the start of the stream `(seed, purpose, *keys)`.

    For what draws from the global generator and cannot be given one, such as dropout.
    `torch.manual_seed` is not used: on a machine whose GPU is not in use it formats a stack
    trace at each call.
    """
    value = derive(seed, purpose, *keys)
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(value)


def fixed_draws(seed: int, purpose: str, index: Tensor) -> Tensor:
    """Return a number for each image that stays its own for the whole run, float64 in [0, 1).

    The finalizer of SplitMix64 (Steele, Lea and Flood, 2014) on the position of the image: a
    stream for each image would cost a hundred times as long.

    Args:
        seed: of the run.
        purpose: what the number decides.
        index: positions of the images in the training set, int64 (B,).

    >>> fixed_draws(0, "turn-first", torch.tensor([5, 6, 5])).round(decimals=3).tolist()
    [0.694, 0.199, 0.694]
    """
    mixed = index + derive(seed, purpose)  # int64 wraps around, as it should
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        mixed = (mixed ^ _shifted(mixed, shift)) * factor
    mixed = mixed ^ _shifted(mixed, 31)
    return _shifted(mixed, 11).double() / 2**53


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Return int64 `bits` shifted right by `by`, with zeros coming in also below 0."""
    return (bits >> by) & ((1 << (64 - by)) - 1)
