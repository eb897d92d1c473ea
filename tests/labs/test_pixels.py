"""The labs on images, shared weights and pooling: wrong computations fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import nn

from pellucid.labs import images, pooling, why_cnns

right_bytes, right_nets, right_pool = images.to_bytes, why_cnns.nets, pooling.pool


def small_lenet() -> dict[str, nn.Module]:
    """The networks, with a LeNet-5 that has lost a layer."""
    found = right_nets()
    lenet = found["LeNet-5"]
    assert isinstance(lenet, nn.Sequential)
    return {**found, "LeNet-5": lenet[:-1]}


def wide_mean(image: Any, k: int, kind: str) -> Any:
    """Pooling whose mean divides by k."""
    found = right_pool(image, k, kind)
    return found if kind == "max" else found * k


@pytest.mark.parametrize(
    ("module", "name", "wrong"),
    [
        (images, "to_bytes", lambda x, rounded=True: right_bytes(x, False)),
        (images, "to_bytes", lambda x, rounded=True: right_bytes(x, True)),
        (images, "to_floats", lambda x: x.float() / 256),
        (images, "to_floats", lambda x: x.float()),
        (
            images,
            "from_pil",
            lambda p: images.torch.from_numpy(images.np.array(p)).permute(2, 1, 0),
        ),
        (images, "MEAN", 0.5),
        (why_cnns, "seen", lambda layers, kernel=3: layers * kernel),
        (why_cnns, "nets", small_lenet),
        (why_cnns, "count", lambda net: sum(p.numel() for p in net.parameters() if p.dim() > 1)),
        (why_cnns, "shifted", lambda image, by: image),
        (pooling, "pool", wide_mean),
        (pooling, "pool", lambda image, k, kind: right_pool(image, k, "max")),
        (pooling, "view", lambda layers: 1 + sum(k - 1 for k, _ in layers)),
    ],
)
def test_a_wrong_computation_fails_a_claim(
    module: Any, name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, wrong)
    assert module.run().failed


def test_the_way_to_floats_is_that_of_numpy() -> None:
    image = images._image((1, 2, 3))
    theirs = np.moveaxis(np.asarray(images.to_pil(image)), 2, 0).astype(np.float32) / 255
    assert np.array_equal(images.to_floats(image).numpy(), theirs)
