"""What a process and a GPU do, read without making the training wait.

The machine of these tests may have no GPU: `nvidia-smi` is a script then, a real process that
prints what NVIDIA's documentation says, or fails in the ways in which the real one does.
"""

from __future__ import annotations

import mmap
import os
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from pellucid.sinks import device
from pellucid.sinks.device import DeviceWatch, device_text, gpu, process_memory

MINE = "GPU-9cd3ac0c-5f9b-7c6d-a0a1-2b8d1a5c1a11"
OTHER = "GPU-00000000-0000-0000-0000-000000000000"
GPUS = f"""\
{OTHER}, 0, 4, 143771, 29, 76.03, NVIDIA H200
{MINE}, 87, 3210, 143771, 54, 402.15, NVIDIA H200
"""
PROCESSES = f"""\
{MINE}, 4242, 3000, /usr/bin/python3, -m pellucid
{OTHER}, 17, 100, Xorg
{MINE}, 99, [N/A], python
"""

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a program named nvidia-smi first on PATH."""

    def program(gpus: str = GPUS, processes: str = PROCESSES, then: str = "") -> Path:
        path = tmp_path / "nvidia-smi"
        path.write_text(f"""#!{sys.executable} -S
import sys, time
query, form = sys.argv[1:]
assert form == "--format=csv,noheader,nounits", form
if query == "--query-gpu=" + {",".join(device.GPU)!r}:
    sys.stdout.write({gpus!r})
elif query == "--query-compute-apps=" + {",".join(device.PROCESS)!r}:
    sys.stdout.write({processes!r})
else:
    sys.exit(f'Field in "{{query}}" is not a valid field to query.')
{then}
""")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        return path

    return program


def test_the_fields_are_those_that_nvidia_documents() -> None:
    assert set(device.GPU) == {
        "uuid", "name", "utilization.gpu", "memory.used", "memory.total", "temperature.gpu",
        "power.draw",
    }  # fmt: skip
    assert set(device.PROCESS) == {"gpu_uuid", "pid", "process_name", "used_gpu_memory"}


def test_what_nvidia_smi_shows_of_our_gpu(install: Install) -> None:
    install()
    assert gpu(MINE) == {
        "gpu": {
            "uuid": MINE, "name": "NVIDIA H200", "use_percent": 87, "memory_mib": 3210,
            "memory_total_mib": 143771, "temperature_c": 54, "power_w": 402.15,
            "processes": [
                {"pid": 4242, "memory_mib": 3000, "name": "/usr/bin/python3, -m pellucid"},
                {"pid": 99, "memory_mib": None, "name": "python"},
            ],
        }
    }  # fmt: skip
    row = {"memory_mib": 1.0, "memory_peak_mib": 2.0, **gpu(MINE)}
    assert device_text(row) == (
        "device: NVIDIA H200, 87 % busy, 3,210 of 143,771 MiB, 54 C, 402 W, 2 processes"
    )


def test_what_a_gpu_does_not_report_is_unknown(install: Install) -> None:
    line = f"{MINE}, [N/A], 3210, 8192, [Unknown Error], [Not Supported], NVIDIA GeForce MX150\n"
    install(line, "")
    found = gpu(MINE)["gpu"]
    assert (found["use_percent"], found["temperature_c"], found["power_w"]) == (None, None, None)
    text = device_text({"gpu": found})
    assert text == (
        "device: NVIDIA GeForce MX150, ? % busy, 3,210 of 8,192 MiB, ? C, ? W, 0 processes"
    )


def test_which_gpu_is_ours(install: Install) -> None:
    install(GPUS.splitlines()[0] + "\n", "")
    assert gpu(MINE)["gpu"]["uuid"] == OTHER  # the only one there is
    install(GPUS.replace(MINE, "GPU-else"), "")
    assert gpu(MINE) == {"gpu": None, "gpu_problem": f"nvidia-smi lists no GPU {MINE}"}


@pytest.mark.parametrize(
    ("gpus", "then", "problem"),
    [
        ("", "sys.stderr.write('no driver'); sys.exit(9)", "nvidia-smi: no driver"),
        ("NVIDIA-SMI has failed\n", "sys.exit(9)", "nvidia-smi: NVIDIA-SMI has failed"),
        ("", "sys.exit(9)", "nvidia-smi: exit code 9"),
        ("what, is this\n", "", "nvidia-smi: unexpected line 'what, is this'"),
        ("", "time.sleep(600)", "nvidia-smi did not answer within 0.5 s"),
    ],
)
def test_nvidia_smi_may_fail(
    install: Install, monkeypatch: pytest.MonkeyPatch, gpus: str, then: str, problem: str
) -> None:
    install(gpus, "", then)
    monkeypatch.setattr(device, "TIMEOUT", 0.5)
    before = set(psutil.Process().children())
    assert gpu(MINE) == {"gpu": None, "gpu_problem": problem}
    assert set(psutil.Process().children()) <= before


def test_nvidia_smi_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = gpu(MINE)
    assert found == {"gpu": None, "gpu_problem": "nvidia-smi is not installed"}
    row = {"memory_mib": 512.4, "memory_peak_mib": 640.0, "cuda_allocated_mib": 1234.5, **found}
    assert device_text(row) == (
        "device: process memory 512 MiB (peak 640 MiB), on the GPU 1,234 MiB; "
        "nvidia-smi is not installed"
    )


def test_memory_of_this_process() -> None:
    before = process_memory()
    with mmap.mmap(-1, 64 * 2**20) as held:  # not from the heap, which may have room
        for _ in range(64):
            held.write(bytes(2**20))
        during = process_memory()
    after = process_memory()
    assert during["memory_mib"] - before["memory_mib"] == pytest.approx(64, abs=4)
    assert during["memory_mib"] - after["memory_mib"] == pytest.approx(64, abs=4)
    assert after["memory_peak_mib"] >= during["memory_mib"] - 4  # the system counts in batches
    real = psutil.Process().memory_info().rss / 2**20
    assert process_memory()["memory_mib"] == pytest.approx(real, abs=8)


def test_on_a_cpu_a_reading_is_there_at_once() -> None:
    threads = threading.active_count()
    with DeviceWatch(torch.device("cpu")) as watch:
        assert watch.take() is None
        watch.ask(7)
        assert threading.active_count() == threads
        row = watch.take()
        assert watch.take() is None
    assert row is not None
    assert (row["kind"], row["step"], row["device"]) == ("device", 7, "cpu")
    assert "gpu" not in row
    assert device_text(row).startswith("device: process memory ")


class Pretended(DeviceWatch):
    """A watch of a GPU on a machine without one: only what PyTorch says of it is left out."""

    def _facts(self) -> tuple[dict[str, Any], str]:
        return {"cuda_allocated_mib": 1.0}, MINE


def test_training_does_not_wait_for_nvidia_smi(install: Install, tmp_path: Path) -> None:
    """It answers when a file appears, which happens only after the training has gone on."""
    answer = tmp_path / "answer"
    install(then=f"import os\nwhile not os.path.exists({str(answer)!r}): time.sleep(0.01)")
    with Pretended(torch.device("cuda")) as watch:
        watch.ask(1)
        assert watch.take() is None
        watch.ask(2)  # one at a time: this one is left out
        assert watch.take() is None
        answer.touch()
        watch.close()
        row = watch.take()
        assert row is not None
        assert (row["step"], row["gpu"]["use_percent"], row["cuda_allocated_mib"]) == (1, 87, 1.0)
        assert watch.take() is None
        watch.ask(3)
    last = watch.take()
    assert last is not None
    assert last["step"] == 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_real_gpu() -> None:
    device = torch.device("cuda:0")
    held = torch.ones(2**20, device=device)
    with DeviceWatch(device) as watch:
        watch.ask(1)
    row = watch.take()
    assert row is not None
    assert row["cuda_allocated_mib"] >= held.numel() * 4 / 2**20
    assert row["gpu"]["name"] == torch.cuda.get_device_name(device)
    assert 0 < row["gpu"]["memory_mib"] <= row["gpu"]["memory_total_mib"]
    assert row["gpu"]["power_w"] is None or row["gpu"]["power_w"] > 0
