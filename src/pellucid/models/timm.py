"""Architectures of the library timm, from scratch or pretrained, with a new head for the data."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import torch
from torch import Tensor, nn

from pellucid.errors import BadRecipe, MissingExtra, UserError
from pellucid.models.pretrained import PACKAGES, Weights, read_file, read_package

PACKAGE = "package:"
HUB = "hub"
HUB_FILES = {
    None: "model.safetensors",
    "pytorch_model.bin": "model.safetensors",
    "open_clip_pytorch_model.bin": "open_clip_model.safetensors",
}
"""What timm's file on the hub is called as safetensors. Pickles are not asked for."""
PREFIXES = ("module.", "_orig_mod.", "network.")
"""What wrappers put before each name: several GPUs, `torch.compile`, `TimmNet`."""


class TimmNet(nn.Module):
    """A network of timm whose head is new: in stages, first the head alone, then everything.

    While the backbone is frozen it is in eval mode too; dropout before the head has no weights
    and stays on. Pretrained BatchNorm keeps its statistics for good, also when its scale and
    shift are trained: those of small batches of few images pull it away from its weights faster
    than a small learning rate lets these follow (measured: docs/transfer.md).

    Args:
        network: of timm, with its classifier for the data's classes.
        freeze_epochs: epochs in which only the head trains.
        backbone_lr: factor on the learning rate of the backbone.
        fixed_norms: BatchNorm is always in eval mode.
    """

    def __init__(
        self,
        network: nn.Module,
        freeze_epochs: float = 0.0,
        backbone_lr: float = 1.0,
        fixed_norms: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.freeze_epochs = freeze_epochs
        self.backbone_lr = backbone_lr
        self.fixed_norms = fixed_norms

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, classes) for images (B, C, H, W)."""
        if self.fixed_norms and self.training:  # here, whoever put a part into training mode
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d | nn.SyncBatchNorm):
                    module.eval()
        logits: Tensor = self.network(x)
        return logits

    def head(self) -> nn.Module:
        """Return the classifier; where a network has several, all of them."""
        found: Any = self.network.get_classifier()  # type: ignore[operator]
        return found if isinstance(found, nn.Module) else nn.ModuleList(found)

    def backbone(self) -> list[nn.Module]:
        """Return what was there before the head: the largest modules that hold nothing of it.

        Their parameters are all but those of the head. What hangs on the network itself, as the
        positions of a transformer do, comes last, as an `nn.ParameterList` of the same parameters.
        """
        head = self.head()
        parts = list(_beside(self.network, set(head.modules())))
        held = {p for part in (head, *parts) for p in part.parameters()}
        loose = [p for p in self.parameters() if p not in held]
        return [*parts, nn.ParameterList(loose)] if loose else parts


def _beside(module: nn.Module, head: set[nn.Module]) -> Iterator[nn.Module]:
    for child in module.children():
        if not head.isdisjoint(child.modules()):
            if child not in head:
                yield from _beside(child, head)
        elif any(True for _ in child.parameters()) or any(True for _ in child.buffers()):
            yield child


class Statistics(NamedTuple):
    """Mean and standard deviation of each channel, on the scale [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class TimmSpec(
    msgspec.Struct, frozen=True, tag_field="name", tag="timm", forbid_unknown_fields=True
):
    """Names an architecture of timm, and the weights to start from.

    Without pretrained weights everything trains from the first step at the full rate.

    Args:
        arch: a name that `timm.list_models()` or `timm.list_pretrained()` has.
        pretrained: nothing, to start from scratch; `hub` for timm's own weights; a `.safetensors`
            or `.pth` file; or `package:efficientnet-lite0`. Read when a run starts: later its
            checkpoints hold the weights.
        freeze_epochs: epochs in which only the head trains; with pretrained weights only.
        backbone_lr: factor on the learning rate of pretrained weights, above 0.
        dropout: probability before the head, in training.
    """

    arch: str = "tf_efficientnet_lite0"
    pretrained: str = ""
    freeze_epochs: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0
    backbone_lr: Annotated[float, msgspec.Meta(gt=0, le=1e3)] = 0.1
    dropout: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0

    def __post_init__(self) -> None:
        package = self.pretrained.removeprefix(PACKAGE)
        if package != self.pretrained:
            if package not in PACKAGES:
                known = ", ".join(f"{PACKAGE}{name}" for name in PACKAGES)
                raise ValueError(f'pretrained knows {known}; got "{self.pretrained}"')
            arch = PACKAGES[package].arch
            if self.arch.partition(".")[0] != arch:
                raise ValueError(
                    f'pretrained {self.pretrained} holds weights of arch {arch}; got "{self.arch}"'
                )
        if self.freeze_epochs and not self.pretrained:
            raise ValueError(
                "freeze_epochs keeps pretrained weights as they are, and pretrained is empty: set "
                "it, or freeze_epochs = 0"
            )

    def build(self, shape: tuple[int, int, int], classes: int) -> TimmNet:
        """Return the network with fresh weights, whatever `pretrained` says.

        A pretrained one gets its weights by `start`, or from a checkpoint.

        Raises:
            BadRecipe: if timm has no such architecture.
            ValueError: if it cannot take images of `shape` (C, H, W).
            MissingExtra: if timm is not installed.
        """
        try:
            network = self._create(shape, classes)
            with torch.no_grad():
                logits = network.eval()(torch.zeros(1, *shape))
            network.train()
        except UserError:
            raise
        except Exception as error:  # each architecture says it in its own way
            raise ValueError(f"{self.arch} cannot take images {_size(shape)}: {error}") from None
        if logits.shape != (1, classes) or not getattr(network, "get_classifier", None):
            raise BadRecipe(f"model.arch {self.arch} is no classifier of images.")
        model = TimmNet(network)
        if self.pretrained:
            model = TimmNet(network, self.freeze_epochs, self.backbone_lr, fixed_norms=True)
        for layer in model.head().modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                # By its inputs, as PyTorch does. Some of timm draw it by the number of classes:
                # for 5 EfficientNet's is 16 times as large, noise that hides what it should read.
                layer.reset_parameters()
        return model

    def start(
        self, model: TimmNet, shape: tuple[int, int, int], classes: int, cache: Path
    ) -> dict[str, Any]:
        """Load the pretrained weights into `model`, all but the head; to be called at step 0.

        Args:
            model: as `build` returned it for `shape` and `classes`, in any memory layout.
            shape: channels, height and width of the images.
            classes: number of classes.
            cache: folder of the cache.

        Returns:
            What a run should note of them, as plain values for JSON; empty from scratch.

        Raises:
            BadRecipe: if the weights cannot be had, or do not fit; then all of them are named.
            MissingExtra: if they come in a package that is not installed.
        """
        if not self.pretrained:
            return {}
        weights = self._read(cache)
        tensors = _without_prefix(weights.tensors)
        own = {k.removeprefix("network."): v.detach().cpu() for k, v in model.state_dict().items()}
        if self.pretrained.startswith(PACKAGE):  # the same tensors in the same order, other names
            tensors = dict(zip(own, tensors.values(), strict=True))
        head = set(model.head().modules())
        heads = tuple(f"{n}." for n, module in model.network.named_modules() if module in head)
        fresh = {name: value for name, value in own.items() if name.startswith(heads)}
        taken = {name: value for name, value in tensors.items() if not name.startswith(heads)}
        overlay = {"state_dict": {**taken, **fresh}, "num_classes": classes, "label_offset": None}
        try:
            # timm reads older names, sums the filters of colour for grey images, and brings the
            # positions of a transformer to the size of the images.
            loaded = self._create(shape, classes, pretrained=True, pretrained_cfg_overlay=overlay)
        except Exception as error:  # what its readers raise on a foreign file is not documented
            raise BadRecipe(self._misfit(weights.source, taken, own, heads, error)) from None
        model.network.load_state_dict(loaded.state_dict())
        return {
            "source": weights.source,
            "sha256": weights.sha256,
            "arch": self.arch,
            "tensors": len(taken),
        }

    def statistics(self, channels: int) -> Statistics | None:
        """Return what pretrained weights expect of the images; None from scratch.

        For one channel the mean over those of timm: exact where they are equal, as timm sums
        the filters over the colours.

        Raises:
            BadRecipe: if timm has no such architecture.
            MissingExtra: if timm is not installed.
        """
        if not self.pretrained:
            return None
        config = self._config()
        mean, std = (tuple(map(float, config[key])) for key in ("mean", "std"))
        if channels == 1:
            mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
        return Statistics(mean, std)

    def notes(self, shape: tuple[int, int, int]) -> tuple[str, ...]:
        """Return what a user should know of this architecture for images of `shape`."""
        if not self.pretrained:
            return ()
        notes = []
        size = tuple(self._config()["input_size"])
        if size[1:] != shape[1:]:
            notes.append(
                f"{self.arch} was pretrained on images {size[1]}x{size[2]}; these are "
                f"{shape[1]}x{shape[2]}, where it knows less (--data.size, for image files)."
            )
        if self.pretrained != HUB and not self.pretrained.startswith(PACKAGE):
            notes.append(
                f"{self.pretrained} does not say how its images were scaled: taken as timm does "
                f"for {self.arch}."
            )
        return tuple(notes)

    def _create(self, shape: tuple[int, int, int], classes: int, **more: Any) -> Any:
        timm = _timm()
        _check_arch(timm, self.arch)
        if getattr(timm.get_pretrained_cfg(self.arch), "fixed_input_size", False):
            more["img_size"] = shape[1:]
        return timm.create_model(
            self.arch, num_classes=classes, in_chans=shape[0], drop_rate=self.dropout, **more
        )

    def _config(self) -> dict[str, Any]:
        timm = _timm()
        _check_arch(timm, self.arch)
        stored = timm.get_pretrained_cfg(self.arch)
        config: dict[str, Any] = timm.data.resolve_data_config(
            pretrained_cfg=stored.to_dict() if stored else {}, args={"in_chans": 3}
        )
        return config

    def _read(self, cache: Path) -> Weights:
        if self.pretrained == HUB:
            return read_file(_from_hub(self.arch), cache)
        if self.pretrained.startswith(PACKAGE):
            return read_package(self.pretrained.removeprefix(PACKAGE), cache)
        return read_file(Path(self.pretrained), cache)

    def _misfit(
        self,
        source: str,
        given: dict[str, Tensor],
        own: dict[str, Tensor],
        heads: tuple[str, ...],
        error: Exception,
    ) -> str:
        """Return the message that lists what does not fit."""
        wanted = {name: value for name, value in own.items() if not name.startswith(heads)}
        lines = [
            f"{name}: {_size(given[name].shape)} in the file, {_size(value.shape)} here"
            for name, value in wanted.items()
            if name in given and given[name].shape != value.shape
        ]
        lines += [f"{name}: not in the file" for name in wanted if name not in given]
        lines += [f"{name}: only in the file" for name in given if name not in wanted]
        shown = "".join(f"\n  {line}" for line in lines[:12] or [str(error)])
        more = f"\n  ... and {len(lines) - 12} more" if len(lines) > 12 else ""
        return (
            f"model.pretrained: the weights in {source} do not fit model.arch {self.arch} (the "
            f"classifier is left out of account):{shown}{more}\nGive the architecture that they "
            "were trained with."
        )


def _timm() -> Any:
    """Return the library, which takes about 2 s to import.

    Raises:
        MissingExtra: if it is not installed, or its torchvision was made for another PyTorch.
    """
    try:
        import timm
        import timm.data
    except ImportError as error:
        raise MissingExtra(
            f"model.name timm needs a package that is not installed ({error}): "
            "pip install 'pellucid[timm]'"
        ) from None
    except RuntimeError as error:
        if "torchvision" not in str(error):
            raise
        raise MissingExtra(
            f"model.name timm needs a torchvision that was made for PyTorch {torch.__version__} "
            f"({error}). Install both from the same index."
        ) from None
    return timm


def _check_arch(timm: Any, arch: str) -> None:
    known = {*timm.list_models(), *timm.list_pretrained()}
    if arch not in known:
        close = difflib.get_close_matches(arch, known, n=3, cutoff=0.5)
        raise BadRecipe(
            f"model.arch must be one of the {len(known):,} names that timm {timm.__version__} "
            f'lists. Got "{arch}"{"; the nearest: " + ", ".join(close) if close else ""}. All of '
            "them: timm.list_models() in Python."
        )


def _from_hub(arch: str) -> Path:
    """Return timm's own weights of `arch`, after downloading them if the hub's cache lacks them."""
    timm = _timm()
    stored = timm.get_pretrained_cfg(arch)
    name = stored.hf_hub_filename if stored else None
    if name and name.endswith(".safetensors"):
        file: str | None = name
    else:
        file = HUB_FILES.get(name)
    if not stored or not stored.hf_hub_id or not file or stored.custom_load:
        raise BadRecipe(
            f"model.pretrained hub: timm has no weights of {arch} as safetensors on the hub. "
            f"Names with weights: timm.list_pretrained('{arch.partition('.')[0]}*')."
        )
    return _download(stored.hf_hub_id, file)


def _download(repository: str, file: str) -> Path:
    """Return `file` of `repository`, from the cache of the hub's client or the network."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with contextlib.suppress(LocalEntryNotFoundError):  # what is there is not asked for again
        return Path(hf_hub_download(repository, file, local_files_only=True))
    if os.environ.get("PELLUCID_OFFLINE", "0") not in ("", "0"):
        reason = "it is not in the cache of the hub's client, and PELLUCID_OFFLINE is set"
    else:
        try:
            return Path(hf_hub_download(repository, file))
        except Exception as error:  # of the hub's client, of its HTTP client, of the system
            text = str(error).strip() or type(error).__name__
            reason = re.split(r"\n|\. ", text)[0].rstrip(".")
    raise BadRecipe(
        f"model.pretrained hub: {file} of {repository} was not downloaded: {reason}. Without a "
        "network give a file, or package:efficientnet-lite0 for tf_efficientnet_lite0."
    )


def _without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return `tensors` without what wrappers put before all names."""
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _size(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "one number"
