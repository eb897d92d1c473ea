"""bf16 with two processes: rank 0 finds out whether its kernels do, and all do as it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import pellucid.precision
from pellucid import train
from pellucid.engine import EngineSpec
from tests.distributed.group import job
from tests.distributed.recipes import content, only, plain

RECIPE = plain(engine=EngineSpec(device="cpu", precision="bf16", threads=1, timeout=60))


def settles(rank: int, folder: Path) -> dict[str, Any]:
    """Train where the kernels are fast enough everywhere, then where they are not on rank 0."""
    for name, slower in (("bf16", float("inf")), ("fp32", 0.0)):
        pellucid.precision.SLOWER = float("inf") if rank else slower
        train(RECIPE, folder / name)
    return {}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    with job(2, folder, settles) as running:
        running.end()
    return folder


def test_two_in_bf16_are_one_in_two_pieces(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, as in fp32: weights, optimizer, metrics, predictions."""
    monkeypatch.setattr("pellucid.precision.SLOWER", float("inf"))
    alone, both = train(RECIPE.with_(accumulate=2), tmp_path), only(pair / "bf16")
    assert both.summary()["precision"] == alone.summary()["precision"] == "bf16"
    assert content(both) == content(alone)


def test_what_rank_0_found_holds_for_all(pair: Path, tmp_path: Path) -> None:
    """The recipe says bf16 on both; rank 0 found it slow: then it is fp32 on both."""
    alone, both = train(plain(accumulate=2), tmp_path), only(pair / "fp32")
    assert both.summary()["precision"] == "fp32"
    assert content(both) == content(alone)
    assert content(both) != content(only(pair / "bf16"))
