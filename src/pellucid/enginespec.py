"""What a recipe says about where it computes: device, precision, processes."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Precision = Literal["fp32", "bf16", "fp16"]


class EngineSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a recipe asks for its device.

    Args:
        name: what starts several processes: `torch`, which is this program on one machine or
            `torchrun`; or `ray`, which needs the extra `ray`. They compute the same.
        device: `auto` takes a GPU if there is one; or `cpu`, `cuda`, `cuda:1`, `mps`.
        precision: of the forward pass: `fp32`; `bf16`, on a CPU only after its kernels were
            checked with this model; `fp16`, on a GPU, with a scaled loss.
        compile: turn the model into kernels of its own with `torch.compile`, which takes long at
            first. On two cores the networks here became slower with it.
        threads: CPU threads; 0 leaves the choice to PyTorch.
        deterministic: on a GPU, only kernels that give the same bits each time. A CPU always
            does.
        procs: processes that train together, each on a part of every batch; the command line
            starts them. `torchrun` starts as many as it is told.
        workers: the same, where Ray starts them.
        timeout: seconds after which a process that does not answer ends the run.

    >>> EngineSpec(name="ray", workers=2).size
    2
    """

    name: Literal["torch", "ray"] = "torch"
    device: str = "auto"
    precision: Precision = "fp32"
    compile: bool = False
    threads: Annotated[int, msgspec.Meta(ge=0)] = 0
    deterministic: bool = False
    procs: Annotated[int, msgspec.Meta(ge=1)] = 1
    workers: Annotated[int, msgspec.Meta(ge=1)] = 1
    timeout: Annotated[float, msgspec.Meta(ge=1)] = 300.0

    def __post_init__(self) -> None:
        if self.name == "ray" and self.procs > 1:
            raise ValueError(f"with name ray, Ray starts them: write workers = {self.procs}")
        if self.name == "torch" and self.workers > 1:
            raise ValueError(
                f"workers are started by Ray: set name to ray too, or procs to {self.workers}"
            )

    @property
    def size(self) -> int:
        """How many processes train together."""
        return self.procs if self.name == "torch" else self.workers

    def of(self, size: int) -> EngineSpec:
        """Return this spec for `size` processes."""
        if self.name == "torch":
            return msgspec.structs.replace(self, procs=size)
        return msgspec.structs.replace(self, workers=size)
