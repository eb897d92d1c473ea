"""Fixtures of the tests of models: torchvision on a CPU-only PyTorch, and no network."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import pytest
import torch


def let_torchvision_load() -> torch.library.Library | None:
    """Declare the operators without which a torchvision made for a CUDA PyTorch stops.

    The package index has no other; timm imports it, and calls none of them. The declarations
    last as long as what is returned.
    """
    found = find_spec("torchvision")
    assert found is not None
    assert found.origin is not None
    try:
        torch.ops.load_library(Path(found.origin).with_name("_C.so"))
    except OSError:
        if not hasattr(torch.ops.torchvision, "nms"):  # another test's may be there
            library = torch.library.Library("torchvision", "FRAGMENT")
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou) -> Tensor")
            return library
    return None


KEPT = let_torchvision_load()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Let no socket of this process connect; gives the list of those that tried."""
    tried: list[object] = []

    def refuse(self: socket.socket, address: object) -> NoReturn:
        tried.append(address)
        raise OSError("the network is off in this test")

    def refuse_name(*args: object, **kwargs: object) -> NoReturn:
        tried.append(args)
        raise OSError("the network is off in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse_name)
    return tried
