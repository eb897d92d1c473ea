"""Settings are tried in pairs, and proposed only where every pair says so."""

from __future__ import annotations

import msgspec
import pytest
import torch

from pellucid import good, steps
from pellucid.bench import proposals as room
from pellucid.bench.proposals import Candidate, Trial, candidates, proposals, tried
from pellucid.bench.tune import applied, tuned
from pellucid.bench.yardsticks import yardsticks
from pellucid.engine import Engine, EngineSpec
from pellucid.errors import BadRecipe
from pellucid.models.mlp import MLPSpec
from pellucid.sinks.console import Console

SHORT = good("digits").with_(
    model=MLPSpec(hidden=(16,)), length=steps(4), evaluate=steps(4), batch_size=16
)


def trial(setting: str, ratio: float, high: float, changes: str = "rounding") -> Trial:
    return Trial(setting, changes, ratio, ratio - 0.1, high, 7)


def test_what_is_proposed() -> None:
    trials = [
        trial("--engine.threads 1", 0.9, 0.95),
        trial("--engine.threads 2", 0.8, 0.85),
        trial("--precision bf16", 0.6, 1.01),  # not in all pairs
        trial("--batch-size 256", 0.98, 0.99),  # too little
        Trial("--precision fp16", "rounding", None, None, None, 0, "no GPU"),
        trial("--compile", 0.7, 0.9),
    ]
    assert [t.setting for t in proposals(trials)] == ["--compile", "--engine.threads 2"]


def test_a_setting_is_trained_beside_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "BLOCK", 0.0)  # one step a block
    threads = torch.get_num_threads()
    engine = msgspec.structs.replace(SHORT.engine, threads=threads + 1)
    found = tried(SHORT, Candidate("--engine.threads", "last bits", SHORT.with_(engine=engine)), 3)
    assert torch.get_num_threads() == threads
    assert found.n == 3
    assert found.ratio is not None
    assert found.low is not None
    assert found.high is not None
    assert 0 < found.low <= found.ratio <= found.high


def test_ten_times_the_work_takes_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "BLOCK", 0.05)
    wide = SHORT.with_(model=MLPSpec(hidden=(2048, 2048)))
    slow = tried(SHORT, Candidate("--model.hidden", "the training", wide), 3)
    fast = tried(wide, Candidate("--model.hidden", "the training", SHORT), 3)
    assert slow.low is not None
    assert slow.low > 1
    assert not slow.faster
    assert fast.faster


def test_what_cannot_be_had_says_why() -> None:
    fp16 = SHORT.with_(engine=msgspec.structs.replace(SHORT.engine, precision="fp16"))
    found = tried(SHORT, Candidate("--precision fp16", "rounding", fp16), 3)
    if torch.cuda.is_available():
        pytest.skip("there is a GPU, which has fp16")
    assert (found.ratio, found.n, found.faster) == (None, 0, False)
    assert "needs a CUDA GPU" in found.reason


def test_candidates_leave_out_what_the_recipe_says_already() -> None:
    engine = Engine.start(EngineSpec(device="cpu"))
    found = candidates(SHORT, engine, compiled=True)
    assert {"--precision bf16", "--batch-size 32", "--batch-size 64", "--compile"} <= {
        candidate.setting for candidate in found
    }
    for candidate in found:
        assert candidate.recipe != SHORT
    lower = SHORT.with_(engine=EngineSpec(precision="bf16"))
    assert "--precision bf16" not in {c.setting for c in candidates(lower, engine)}
    assert "--compile" not in {c.setting for c in candidates(SHORT, engine)}


def test_only_what_changes_the_last_bits_is_applied() -> None:
    trials = [
        trial("--engine.threads 2", 0.8, 0.85, "last bits"),
        trial("--precision bf16", 0.6, 0.7),
    ]
    recipe, lines = applied(SHORT, trials)
    assert recipe.engine == msgspec.structs.replace(SHORT.engine, threads=2)
    assert "--precision bf16 would take 0.60 of the time" in lines[0]
    assert "not applied" in lines[0]
    assert lines[1].endswith("applied; it changes the last bits")
    same, lines = applied(SHORT, [])
    assert same == SHORT
    assert len(lines) == 1


def test_several_processes_are_not_tuned() -> None:
    with pytest.raises(BadRecipe, match="--tune-speed tries settings in one process, and 2 are"):
        tuned(SHORT.with_(engine=EngineSpec(procs=2)), Console())


def test_yardsticks_are_positive_and_say_n() -> None:
    for found in yardsticks(torch.device("cpu"), 2):
        assert 0 < found.low <= found.value <= found.high
        assert found.n == 2
