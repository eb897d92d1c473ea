"""Memory that a step frees, and what would keep it from being used again."""

from __future__ import annotations

import ctypes
import sys

import torch
from torch import Tensor

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names of the GNU C library, from its malloc.h
KEEP, LARGEST = 2**31 - 1, 2**25
"""Free memory at the top of the heap that is kept, and the size up to which a block comes from the
heap: 32 MB, the most that all versions of the library accept. In bytes."""


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees; return whether the C library can.

    Each step of training allocates the same tensors and frees them. The GNU C library hands large
    blocks back to the system at once and asks for them again at the next step, and the system
    clears each page anew: thousands of page faults per step, up to a third of its time on a
    CPU. It changes no number. It costs no memory at the peak; after it, the process keeps what it
    had. It holds for the whole process.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is None:
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, KEEP)) and bool(mallopt(M_MMAP_THRESHOLD, LARGEST))


class Numbers:
    """Single numbers on a device, side by side, so that who keeps them holds no other memory back.

    A tensor of one number that is kept for itself lies somewhere in what a step freed, and that
    block cannot be used as a whole again: 10 MB more at each step for who kept the losses of the
    MNIST CNN at batch 128. It is so with any C library that fits small blocks into large free ones.

    Args:
        device: where the numbers are.
        count: of numbers in a row; then another row is begun. Kept numbers keep their row.
    """

    def __init__(self, device: torch.device, count: int = 1024) -> None:
        self._device = device
        self._row = torch.empty(0)
        self._count = count
        self._next = 0

    def keep(self, number: Tensor) -> Tensor:
        """Return `number`, 0-d, copied to its place in a row.

        >>> numbers = Numbers(torch.device("cpu"), 2)
        >>> [float(n) for n in [numbers.keep(torch.tensor(float(i))) for i in range(5)]]
        [0.0, 1.0, 2.0, 3.0, 4.0]
        """
        if self._next == len(self._row):
            self._row = torch.zeros(self._count, device=self._device)
            self._next = 0
        place = self._row[self._next]
        self._next += 1
        return place.copy_(number.detach())
