"""Everything that changes while a model trains: what a checkpoint must hold, and nothing else.

There is no random state, no scheduler and no epoch in it: those are functions of the step.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.averages import EMA, NoEMA
from pellucid.imagelosses import ImageLosses, NoLosses
from pellucid.values import Metrics, PlateauRule, StopRule


@dataclass
class Best:
    """The best evaluation so far, by validation accuracy, then by lower validation loss.

    Without validation images each evaluation is the best: the last one counts.

    Attributes:
        step: the step after which it was seen; 0 before the first evaluation.
        accuracy: its validation accuracy, in [0, 1]; None before, or without validation images.
        loss: its validation loss; likewise.
    """

    step: int = 0
    accuracy: float | None = None
    loss: float | None = None

    def offer(self, metrics: Metrics, step: int) -> None:
        """Take `metrics`, seen after `step`, if they are better."""
        if metrics.n == 0:
            self.step = step
        elif (
            self.accuracy is None
            or self.loss is None
            or (metrics.accuracy, -metrics.loss) > (self.accuracy, -self.loss)
        ):
            self.step, self.accuracy, self.loss = step, metrics.accuracy, metrics.loss


@dataclass
class State:
    """What a run is made of at one moment between two steps.

    Attributes:
        model: the bare network.
        optimizer: over the parameters of `model`.
        ema: the average of the weights, or `NoEMA`.
        plateau: the rule that may cut the learning rate.
        stop: the rule that may end the run early.
        best: the best evaluation so far.
        scaler: of the loss in fp16; else it does nothing.
        losses: of the single images, if the sampling goes by them, or `NoLosses`.
        step: optimizer steps done.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: EMA | NoEMA
    plateau: PlateauRule
    stop: StopRule
    best: Best
    scaler: torch.amp.GradScaler
    losses: ImageLosses | NoLosses = field(default_factory=NoLosses)
    step: int = 0

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return copies of all tensors, by the file they belong in and by name.

        On the CPU, in the memory order that they have here; copied, so that training may go on
        while they are written, and so that tied weights are stored under each of their names.
        """
        files = {
            "model": dict(self.model.state_dict()),
            "optimizer": self._optimizer_tensors(),
            "ema": self.ema.tensors(),
            "losses": self.losses.tensors(),
        }
        return {
            file: {name: _copy(tensor) for name, tensor in tensors.items()}
            for file, tensors in files.items()
            if tensors
        }

    def flat_tensors(self) -> dict[str, Tensor]:
        """Return what `tensors` returns, each by file and name: `model/conv1.weight`."""
        return {f"{f}/{n}": t for f, group in self.tensors().items() for n, t in group.items()}

    def weights(self) -> dict[str, Tensor]:
        """Return copies of the weights that are judged: the average if there is one."""
        return {name: _copy(tensor) for name, tensor in self.ema.model.state_dict().items()}

    def facts(self) -> dict[str, Any]:
        """Return everything that is not a tensor, as plain values for JSON."""
        return {
            "step": self.step,
            "best": asdict(self.best),
            "plateau": self.plateau.facts(),
            "stop": self.stop.facts(),
            "scaler": self.scaler.state_dict(),
            "optimizer": [
                {key: value for key, value in group.items() if key != "params"}
                for group in self.optimizer.param_groups
            ],
        }

    def load(self, tensors: dict[str, dict[str, Tensor]], facts: dict[str, Any]) -> None:
        """Take over what `tensors` and `facts` returned, in place."""
        self.model.load_state_dict(tensors["model"])
        self._load_optimizer(tensors.get("optimizer", {}))
        if isinstance(self.ema, EMA):
            self.ema.load(tensors["ema"])
        if isinstance(self.losses, ImageLosses):
            self.losses.load(tensors["losses"])
        self.plateau.load(facts["plateau"])
        self.stop.load(facts.get("stop", {}))  # a checkpoint from before it had none
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(facts["scaler"])
        self.best = Best(**facts["best"])
        self.step = facts["step"]

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        """Name each slot of the optimizer by its parameter: `conv1.weight/exp_avg`."""
        state = self.optimizer.state
        return {
            f"{name}/{slot}": torch.as_tensor(value)
            for name, parameter in self.model.named_parameters()
            for slot, value in state.get(parameter, {}).items()
            if value is not None  # SGD without momentum keeps an empty slot
        }

    def _load_optimizer(self, tensors: dict[str, Tensor]) -> None:
        parameters = dict(self.model.named_parameters())
        slots: dict[Tensor, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            name, _, slot = key.rpartition("/")
            parameter = parameters[name]
            if (
                value.shape == parameter.shape
            ):  # in the parameter's memory layout, which kernels need
                value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
            slots.setdefault(parameter, {})[slot] = value
        order = [p for group in self.optimizer.param_groups for p in group["params"]]
        saved = self.optimizer.state_dict()
        saved["state"] = {i: slots[p] for i, p in enumerate(order) if p in slots}
        self.optimizer.load_state_dict(saved)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> float:
    """Give `lr` to each parameter group, times the group's own factor `scale`; return `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("scale", 1.0)
    return lr


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)
