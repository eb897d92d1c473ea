"""Lower precision: used where the kernels are right, and only there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pellucid import Engine, Recipe, resume, train
from pellucid.assemble import assemble
from pellucid.engine import EngineSpec
from pellucid.errors import BadRecipe
from pellucid.models.mnist_cnn import MnistCNN
from pellucid.precision import TOLERANCE, check_layers, settle_precision
from pellucid.runs.listing import all_runs

BF16 = EngineSpec(device="cpu", precision="bf16")


class WrongInLowerPrecision(nn.Conv2d):
    """A convolution with the fault that was found in kernels: wrong values, in bf16 only."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y * 1.2 if y.dtype == torch.bfloat16 else y


def images() -> Tensor:
    draws = torch.Generator().manual_seed(0)
    return torch.randn(32, 1, 28, 28, generator=draws).to(memory_format=torch.channels_last)


def test_each_layer_is_compared_on_its_own_shapes() -> None:
    checks = check_layers(MnistCNN((1, 28, 28), 10), images())
    assert [check.name for check in checks] == ["conv1", "conv2", "fc1", "fc2"]
    assert all(0 < check.error < TOLERANCE / 2 for check in checks)


def test_the_check_changes_nothing() -> None:
    model = MnistCNN((1, 28, 28), 10)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    check_layers(model, images())
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert model.training


def test_what_is_frozen_is_checked_without_a_gradient() -> None:
    model = MnistCNN((1, 28, 28), 10)
    model.conv1.weight.requires_grad_(False)
    model.fc1.requires_grad_(False)
    checks = check_layers(model, images())
    assert [check.name for check in checks] == ["conv1", "conv2", "fc1", "fc2"]
    assert all(0 < check.error < TOLERANCE / 2 for check in checks)


def test_a_layer_that_takes_long_is_run_once_and_a_quick_one_three_times() -> None:
    class Counted(nn.Conv2d):
        pause, runs = 0.0, 0

        def forward(self, x: Tensor) -> Tensor:
            Counted.runs += torch.is_grad_enabled() and x.requires_grad
            time.sleep(self.pause)
            return super().forward(x)

    for pause, runs in ((0.0, 6), (0.25, 2)):  # in fp32 and in bf16
        layer = Counted(1, 4, 3)
        layer.pause, Counted.runs = pause, 0
        check_layers(nn.Sequential(layer), images())
        assert Counted.runs == runs


def test_a_wrong_kernel_means_fp32_and_is_named() -> None:
    model = MnistCNN((1, 28, 28), 10)
    model.conv2 = WrongInLowerPrecision(32, 64, 3, padding=1)
    engine = Engine.start(BF16)
    line = settle_precision(engine, model, images())
    assert engine.precision == "fp32"
    assert "the layer conv2 differs from fp32 by" in line


def test_slow_kernels_mean_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine.start(BF16)
    monkeypatch.setattr("pellucid.precision.SLOWER", 0.0)
    line = settle_precision(engine, MnistCNN((1, 28, 28), 10), images())
    assert engine.precision == "fp32"
    assert "times as long" in line


def test_bf16_trains_and_is_near_fp32(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pellucid.precision.SLOWER", float("inf"))  # whatever this machine's speed
    lower = tiny.with_(engine=BF16)
    a, b = train(tiny, tmp_path / "fp32"), train(lower, tmp_path / "bf16")
    assert b.summary()["precision"] == "bf16"
    first, other = (
        next(row["loss"] for row in run.rows("metrics.jsonl") if row["kind"] == "step")
        for run in (a, b)
    )
    assert first != other
    assert first == pytest.approx(other, rel=0.02)
    weights = b.checkpoints.latest()[0].tensors["model"]  # type: ignore[union-attr]
    assert all(w.dtype == torch.float32 for w in weights.values() if w.is_floating_point())


def test_what_was_settled_is_kept_by_a_resume(
    tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The choice may depend on the machine's speed; a resumed run must not choose again."""
    lower = tiny.with_(engine=BF16)
    monkeypatch.setattr("pellucid.precision.SLOWER", float("inf"))
    whole = train(lower, tmp_path / "whole")
    asked = iter(range(1, 100))
    run = train(lower, tmp_path / "cut", stop=lambda _: next(asked) == 5)
    monkeypatch.setattr("pellucid.precision.SLOWER", 0.0)
    resumed = resume(run.path, lower)
    assert resumed.metrics.read_bytes() == whole.metrics.read_bytes()
    assert resumed.summary()["precision"] == "bf16"


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(
        BadRecipe, match=r"fp16 needs a CUDA GPU; the device is cpu. .*: fp32, bf16"
    ):
        Engine.start(EngineSpec(device="cpu", precision="fp16"))


def test_clipping_by_value_and_by_norm() -> None:
    model = nn.Linear(3, 2)
    engine = Engine.start(EngineSpec(device="cpu"))
    for p in model.parameters():
        p.grad = torch.full_like(p, 2.0)
    norm = engine.clip(model, float("inf"))
    assert norm.item() == pytest.approx(2 * 8**0.5)
    assert all(p.grad is not None and p.grad.eq(2).all() for p in model.parameters())
    engine.clip(model, float("inf"), 0.5)
    assert all(p.grad is not None and p.grad.eq(0.5).all() for p in model.parameters())
    engine.clip(model, 0.1)
    assert engine.clip(model, float("inf")).item() == pytest.approx(0.1, rel=1e-4)


def test_assembled_models_are_checked_with_their_batch(tiny: Recipe) -> None:
    engine = Engine.start(BF16)
    built = assemble(tiny.with_(engine=BF16), engine)
    batch = next(iter(built.task.train.pieces(0)))
    checks = check_layers(built.state.model, built.task.prepare(batch.images))
    assert len(checks) == 4


@pytest.mark.slow
def test_a_compiled_model_trains_alike_and_says_when_it_pays(tmp_path: Path) -> None:
    words = ["train", "--model.name", "mlp", "--model.hidden", "16,8", "--length", "4 steps"]
    words += ["--evaluate", "4 steps", "--augment.crop", "off"]
    environment = {
        **os.environ, "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "kernels"),
    }  # fmt: skip
    losses = []
    for name, extra in (("plain", []), ("compiled", ["--compile"])):
        done = subprocess.run(
            [sys.executable, "-m", "pellucid", *words, *extra, "--out", str(tmp_path / name)],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert ("compile: " in done.stderr) == (name == "compiled")
        rows = all_runs(tmp_path / name)[0].rows("metrics.jsonl")
        losses.append(next(row["running_loss"] for row in rows if row["kind"] == "evaluation"))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
