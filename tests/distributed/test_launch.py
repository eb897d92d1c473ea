"""The launcher: real processes, which need no torch, that end in all the ways there are."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch

import pellucid.launch
from pellucid.cli.main import run as pellucid_command
from pellucid.distributed.group import connect
from pellucid.distributed.place import Place, job, place, rank_here
from pellucid.distributed.stores import host, keep_store
from pellucid.engine import EngineSpec, own_device
from pellucid.errors import BadRecipe
from pellucid.launch import check_gpus, launch

NAP = "import time; time.sleep(600)"


def words(*ranks: str) -> list[str]:
    """Return a command that does something else on each rank."""
    choice = f"import os\nexec({list(ranks)!r}[int(os.environ['RANK'])])"
    return [sys.executable, "-S", "-c", choice]


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pellucid.launch, "FAREWELL", 0.3)


def ours() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if NAP in " ".join(p.cmdline())]


def test_each_gets_its_place_and_cores(tmp_path: Path) -> None:
    code = (
        "import json; json.dump([dict(os.environ), list(os.sched_getaffinity(0))], "
        f"open({str(tmp_path)!r} + '/' + os.environ['RANK'], 'w'))"
    )
    said: list[str] = []
    assert launch(words(code, code), 2, 0, said.append) == 0
    cores = len(os.sched_getaffinity(0))
    assert len(said) == (cores < 2)
    for rank in range(2):
        environ, own = json.loads((tmp_path / str(rank)).read_text())
        found = place(environ)
        assert found == Place(rank, 2, rank, 2, "127.0.0.1", found.port, True, 0)
        assert environ["OMP_NUM_THREADS"] == str(max(1, len(own))) == str(max(1, cores // 2))
        assert job(environ) == {}


@pytest.mark.parametrize(
    ("codes", "expected"), [((0, 0), 0), ((3, 0), 3), ((0, 4), 4), ((130, 130), 130), ((1, 2), 1)]
)
def test_its_exit_code_is_that_of_rank_0_or_of_who_failed(
    codes: tuple[int, int], expected: int
) -> None:
    commands = [f"import sys; sys.exit({code})" for code in codes]
    assert launch(words(*commands), 2, 1, lambda text: None) == expected


@pytest.mark.parametrize("who", [0, 1])
def test_one_that_is_killed_ends_all_and_is_named(who: int) -> None:
    death = "import signal; os.kill(os.getpid(), signal.SIGKILL)"
    said: list[str] = []
    commands = [death if rank == who else NAP for rank in range(3)]
    assert launch(words(*commands), 3, 1, said.append) == 1
    assert any(f"rank {who} (process " in s and "was killed by SIGKILL" in s for s in said)
    assert sum("did not end and was killed" in s for s in said) == 2
    assert ours() == []


def test_a_frozen_one_is_ended_when_another_fails() -> None:
    frozen = "import signal; os.kill(os.getpid(), signal.SIGSTOP)"
    said: list[str] = []
    fails = "import sys, time; time.sleep(0.3); sys.exit(1)"
    assert launch(words(fails, frozen), 2, 1, said.append) == 1
    assert any("rank 1 (process " in s and "did not end" in s for s in said)


def test_ctrl_c_is_passed_on_once(tmp_path: Path) -> None:
    """To each process, which is in a session of its own: a terminal's would come twice."""
    code = (
        "import signal, sys, time; heard = []\n"
        "signal.signal(signal.SIGINT, lambda *a: heard.append(1))\n"
        f"open({str(tmp_path)!r} + '/' + os.environ['RANK'], 'w').close()\n"
        "while not heard: time.sleep(0.01)\n"
        "time.sleep(0.2); sys.exit(130 if len(heard) == 1 else 9)"
    )

    def press() -> None:
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    before = signal.getsignal(signal.SIGINT)
    assert launch(words(code, code), 2, 1, lambda text: None) == 130
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before


def test_the_store_is_on_loopback_only() -> None:
    for port in (host(2)[1], keep_store(here(port=free())).port):
        listening = {
            c.laddr.ip for c in psutil.Process().net_connections("tcp")
            if c.status == psutil.CONN_LISTEN and c.laddr.port == port
        }  # fmt: skip
        assert listening <= {"127.0.0.1"}


def free() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def here(rank: int = 0, size: int = 2, port: int = 1) -> Place:
    return Place(rank, size, rank, size, "127.0.0.1", port, False, 0)


def environment(**changes: str) -> dict[str, str]:
    return {
        "RANK": "0",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "1",
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RANK": "2"}, "process 2 of 2"),
        ({"RANK": "one"}, 'RANK is a whole number. Got "one"'),
        ({"MASTER_ADDR": ""}, "MASTER_ADDR is not set"),
        ({"MASTER_PORT": ""}, "MASTER_PORT is not set"),
        ({"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "1"}, "number 1 of 1"),
    ],
)
def test_an_environment_that_names_no_place(changes: dict[str, str], message: str) -> None:
    with pytest.raises(BadRecipe, match=message):
        place(environment(**changes))


def test_alone() -> None:
    assert place({}) is None
    assert place({"RANK": "0", "WORLD_SIZE": "1"}) is None
    assert rank_here({"RANK": "3", "WORLD_SIZE": "4"}) == 3


def test_a_port_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    _store, port = host(2)
    for key, value in environment(MASTER_PORT=str(port)).items():
        monkeypatch.setenv(key, value)
    with pytest.raises(BadRecipe, match=rf"Port {port} of this machine \(MASTER_PORT\)"):
        connect(2)


def test_nobody_keeps_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free()
    for key, value in environment(MASTER_PORT=str(port), RANK="1").items():
        monkeypatch.setenv(key, value)
    with pytest.raises(BadRecipe, match=f"No store of this job answers at 127.0.0.1:{port}"):
        connect(1)


def test_devices_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_device("auto", here()) == torch.device("cpu")
    with pytest.raises(BadRecipe, match="needs? as many GPUs; it has 0"):
        own_device("cuda", here())
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(BadRecipe, match='2 processes take a GPU each .* Got "mps"'):
        own_device("mps", here())
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for device in ("auto", "cuda"):
        with pytest.raises(BadRecipe, match="Start 1, or take --engine.device cpu"):
            check_gpus(device, 2)
    with pytest.raises(BadRecipe, match="as many GPUs; it has 1"):
        own_device("auto", here(1))
    check_gpus("cpu", 2)


def test_settings_that_do_not_go_together(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pellucid_command(["train", "--engine.procs", "0"]) == 2
    assert "engine.procs" in capsys.readouterr().err
    for key, value in environment().items():
        monkeypatch.setenv(key, value)
    assert pellucid_command(["train", "--engine.procs", "2"]) == 2
    assert "one of several already (torchrun)" in capsys.readouterr().err
    assert EngineSpec().procs == 1


def test_resume_takes_the_number_of_processes_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert pellucid_command(["resume", "latest", "--optimizer.lr", "1"]) == 2
    assert "the only setting that it takes is --engine.procs N" in capsys.readouterr().err


AUDIT = """
import os, sys, threading, time
written = os.environ.get("AUDIT")
def hook(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)):
        mode, flags = args[1], args[2] or 0
        if (mode and set(mode) & set("wax+")) or (not mode and flags & (os.O_WRONLY | os.O_RDWR)):
            line = f"{os.environ.get('RANK', '-')} {os.path.abspath(os.fsdecode(args[0]))}"
            with_fd.append(line)
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.symlink", "os.rmdir"):
        with_fd.append(f"{os.environ.get('RANK', '-')} {os.path.abspath(os.fsdecode(args[0]))}")
with_fd = []
if written and "RANK" in os.environ:
    import atexit
    sys.addaudithook(hook)
    def tell():
        lines = list(with_fd)
        fd = os.open(f"{written}/{os.environ['RANK']}", os.O_WRONLY | os.O_CREAT)
        os.write(fd, "\\n".join(lines).encode())
    atexit.register(tell)
if os.environ.get("DIE") and os.environ.get("RANK") == "1":
    if os.environ.get("TORCHELASTIC_RESTART_COUNT") in os.environ["DIE"].split(","):
        def die():
            count = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
            from pathlib import Path
            while not list(Path("runs").glob(f"*/checkpoints/step-0000000{3 + 2 * count}")):
                time.sleep(0.005)
            os.kill(os.getpid(), 9)
        threading.Thread(target=die, daemon=True).start()
"""

SMALL = [
    "--length", "12 steps", "--evaluate", "4 steps", "--batch-size", "16", "--model.name", "mlp",
    "--record.checkpoint", "1 step", "--record.every", "3", "--engine.threads", "1",
]  # fmt: skip


def test_the_command_trains_with_two_and_only_rank_0_writes(tmp_path: Path) -> None:
    """`pellucid train --engine.procs 2`, whole: result, files, who opened what for writing."""
    (tmp_path / "sitecustomize.py").write_text(AUDIT, encoding="utf-8")
    (tmp_path / "audit").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "pellucid", "train", "digits", "--engine.procs", "2", "--json",
         *SMALL],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "AUDIT": str(tmp_path / "audit")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["test"]["n"] == 1000
    (run,) = (tmp_path / "runs").glob("2*")
    stored = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    assert stored["processes"] == 2
    assert stored["command"][1:3] == ["train", "digits"]
    assert "procs = 2" in (run / "recipe.toml").read_text(encoding="utf-8")
    assert done.stderr.count("device: cpu (1 thread)") == 1
    first, second = ((tmp_path / "audit" / rank).read_text() for rank in "01")
    assert f"0 {run}/metrics.jsonl" in first
    assert [line for line in second.splitlines() if str(tmp_path) in line] == []


@pytest.mark.slow
def test_torchrun_starts_it_again_and_it_goes_on(tmp_path: Path) -> None:
    """Rank 1 is killed in each of the first three attempts: the run ends as if it never was."""
    (tmp_path / "sitecustomize.py").write_text(AUDIT, encoding="utf-8")
    ends = []
    for die in ("", "0,1,2"):
        folder = tmp_path / (die or "unbroken")
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
             "--max-restarts", "3", "--monitor-interval", "0.1", "-m", "pellucid", "train",
             "digits", *SMALL],
            cwd=folder, capture_output=True, text=True, check=False, timeout=600,
            env={**os.environ, "PYTHONPATH": str(tmp_path), "DIE": die},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (run,) = (folder / "runs").glob("2*")
        stored = json.loads((run / "environment.json").read_text(encoding="utf-8"))
        again = [row["restarts"] for row in stored.get("resumed", [])]
        assert again == ([1, 2, 3] if die else [])
        last = run / "checkpoints/step-00000012"
        paths = [run / "metrics.jsonl", run / "predictions/test.csv", *sorted(last.glob("*.s*"))]
        ends.append([path.read_bytes() for path in paths])
    assert ends[0] == ends[1]
