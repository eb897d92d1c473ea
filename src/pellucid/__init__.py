"""A glass-box workbench for training image classifiers in PyTorch.

The names below are the supported ones. They are imported when they are first used, so that the
command line can answer without loading torch.

>>> import pellucid
>>> pellucid.good("digits").batch_size
128
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pellucid.public import *

__all__ = [
    "Classifier",
    "Console",
    "Duration",
    "Engine",
    "FromDataset",
    "Recipe",
    "Run",
    "epochs",
    "fit",
    "from_tree",
    "good",
    "load",
    "notes",
    "resume",
    "steps",
    "to_tree",
    "train",
]


def __getattr__(name: str) -> object:
    """Import one of the public names (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'pellucid' has no attribute {name!r}")
    from pellucid import public

    value = getattr(public, name)
    globals()[name] = value
    return value
