"""What the device does while a model trains: memory, and on a GPU what `nvidia-smi` shows."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

Row = dict[str, Any]

MIB = 2**20

TIMEOUT = 5.0
"""Seconds that one question to `nvidia-smi` may take; with many GPUs it needs one or two."""

GPU = {
    "uuid": "uuid",
    "utilization.gpu": "use_percent",
    "memory.used": "memory_mib",
    "memory.total": "memory_total_mib",
    "temperature.gpu": "temperature_c",
    "power.draw": "power_w",
    "name": "name",
}
"""What `nvidia-smi` is asked about each GPU, and our word for it; last what may hold a comma."""

PROCESS = {
    "gpu_uuid": "uuid",
    "pid": "pid",
    "used_gpu_memory": "memory_mib",
    "process_name": "name",
}
"""Likewise about each process that computes on one."""


class DeviceWatch:
    """Reads what the device does; training does not wait for it.

    `nvidia-smi` is asked in a thread, and not again before it has answered. So a reading is
    there some time after it was asked for.

    Args:
        device: that the run computes on.

    >>> with DeviceWatch(torch.device("cpu")) as watch:
    ...     watch.ask(step=10)
    ...     row = watch.take()
    >>> row["step"], row["memory_peak_mib"] >= row["memory_mib"] > 0
    (10, True)
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._reading: Row | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def ask(self, step: int) -> None:
        """Begin a reading, as of now, unless one is under way."""
        if self._thread is not None:
            return
        row = {"kind": "device", "step": step, "device": str(self.device), **process_memory()}
        if self.device.type != "cuda":
            self._reading = row
            return
        facts, uuid = self._facts()
        self._thread = threading.Thread(
            target=self._read, args=({**row, **facts}, uuid), name="nvidia-smi", daemon=True
        )
        self._thread.start()

    def take(self) -> Row | None:
        """Return a reading that is complete, once; None if there is none.

        Memory is in MiB. `gpu` holds what `nvidia-smi` shows; where it could not be had,
        `gpu_problem` says why.
        """
        if self._thread is not None and not self._thread.is_alive():
            self._thread = None
        if self._thread is not None:
            return None
        row, self._reading = self._reading, None
        return row

    def close(self) -> None:
        """Wait for a reading that is under way; it can still be taken."""
        if self._thread is not None:
            self._thread.join(2 * TIMEOUT + 1)

    def _facts(self) -> tuple[Row, str]:
        """Return what PyTorch knows of the GPU: its own memory there, and the GPU's name."""
        uuid = torch.cuda.get_device_properties(self.device).uuid
        return cuda_memory(self.device), f"GPU-{uuid}"

    def _read(self, row: Row, uuid: str) -> None:
        self._reading = {**row, **gpu(uuid)}


def device_text(row: Row) -> str:
    """Return a reading as one line.

    >>> device_text({"memory_mib": 512, "memory_peak_mib": 640})
    'device: process memory 512 MiB (peak 640 MiB)'
    """
    found = row.get("gpu")
    if not found:
        text = f"process memory {_shown(row['memory_mib'])} MiB"
        text += f" (peak {_shown(row['memory_peak_mib'])} MiB)"
        if "cuda_allocated_mib" in row:
            text += f", on the GPU {_shown(row['cuda_allocated_mib'])} MiB"
        return f"device: {text}" + (f"; {row['gpu_problem']}" if "gpu_problem" in row else "")
    busy = len(found["processes"])
    return (
        f"device: {found['name']}, {_shown(found['use_percent'])} % busy, "
        f"{_shown(found['memory_mib'])} of {_shown(found['memory_total_mib'])} MiB, "
        f"{_shown(found['temperature_c'])} C, {_shown(found['power_w'])} W, "
        f"{busy} process{'' if busy == 1 else 'es'}"
    )


def process_memory() -> Row:
    """Return the resident memory of this process in MiB: now and at most; None where unknown."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return {"memory_mib": None, "memory_peak_mib": _peak()}
    kilobytes = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", status, re.MULTILINE))
    return {
        "memory_mib": round(int(kilobytes["VmRSS"]) / 1024, 1),
        "memory_peak_mib": round(int(kilobytes["VmHWM"]) / 1024, 1),
    }


def _peak() -> float | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(most / (MIB if sys.platform == "darwin" else 1024), 1)


def cuda_memory(device: torch.device) -> Row:
    """Return what PyTorch itself uses of the GPU: in tensors, in its pool, in tensors at most."""
    return {
        "cuda_allocated_mib": round(torch.cuda.memory_allocated(device) / MIB, 1),
        "cuda_reserved_mib": round(torch.cuda.memory_reserved(device) / MIB, 1),
        "cuda_peak_mib": round(torch.cuda.max_memory_allocated(device) / MIB, 1),
    }


def gpu(uuid: str) -> Row:
    """Return what `nvidia-smi` shows of the GPU `uuid` as `gpu`, or why not as `gpu_problem`.

    With only one GPU there, that one is shown whatever its name.
    """
    try:
        gpus = _ask("--query-gpu", GPU)
        found = [one for one in gpus if one["uuid"] == uuid] or (gpus if len(gpus) == 1 else [])
        if not found:
            return {"gpu": None, "gpu_problem": f"nvidia-smi lists no GPU {uuid}"}
        processes = _ask("--query-compute-apps", PROCESS)
    except FileNotFoundError:
        return {"gpu": None, "gpu_problem": "nvidia-smi is not installed"}
    except subprocess.TimeoutExpired:
        return {"gpu": None, "gpu_problem": f"nvidia-smi did not answer within {TIMEOUT:g} s"}
    except (OSError, ValueError) as error:
        return {"gpu": None, "gpu_problem": f"nvidia-smi: {error}"}
    mine = [one for one in processes if one.pop("uuid") == found[0]["uuid"]]
    return {"gpu": {**found[0], "processes": mine}}


def _ask(query: str, fields: dict[str, str]) -> list[Row]:
    command = ["nvidia-smi", f"{query}={','.join(fields)}", "--format=csv,noheader,nounits"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT, check=False, errors="replace"
    )
    if done.returncode:  # it explains itself on either stream
        raise ValueError((done.stdout + done.stderr).strip() or f"exit code {done.returncode}")
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    return [_parsed(line, list(fields.values())) for line in lines]


def _parsed(line: str, names: list[str]) -> Row:
    """Return one line of `nvidia-smi --format=csv,noheader,nounits` by our names.

    What a GPU does not report, `[N/A]` or `[Not Supported]`, is None.

    >>> _parsed("GPU-1, 87, [N/A], python, -m x", ["uuid", "use_percent", "power_w", "name"])
    {'uuid': 'GPU-1', 'use_percent': 87, 'power_w': None, 'name': 'python, -m x'}
    """
    texts = [text.strip() for text in line.split(",", len(names) - 1)]
    if len(texts) != len(names):
        raise ValueError(f"unexpected line {line!r}")
    return {
        name: text if name in ("uuid", "name") else _number(text)
        for name, text in zip(names, texts, strict=True)
    }


def _number(text: str) -> float | None:
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError:
        return None


def _shown(value: float | None) -> str:
    return "?" if value is None else f"{value:,.0f}"
