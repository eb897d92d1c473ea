"""torchvision, the twin that works image by image, also where its own kernels do not load."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch


def _let_torchvision_load() -> torch.library.Library | None:
    """Declare the operators without which a torchvision made for a CUDA torch stops.

    The package index has no other; on a CPU-only torch its kernels do not load, and its transforms
    need none of them. The declarations last as long as what is returned.
    """
    found = find_spec("torchvision")
    assert found, "the tests need torchvision: pip install '.[test]'"
    assert found.origin
    try:
        torch.ops.load_library(Path(found.origin).with_name("_C.so"))
    except OSError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None


KEPT = _let_torchvision_load()
from torchvision.transforms import v2  # noqa: E402

F = v2.functional
CutMix, MixUp, BILINEAR = v2.CutMix, v2.MixUp, v2.InterpolationMode.BILINEAR
