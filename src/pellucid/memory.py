"""How the C library treats freed memory."""

from __future__ import annotations

import ctypes
import sys

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
