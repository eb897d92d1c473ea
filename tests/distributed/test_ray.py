"""Real Ray on this machine: it starts what `--engine.procs` starts, and that does the same.

`PELLUCID_REQUIRE_RAY=1 pytest -n 0 tests/distributed/test_ray.py`, where Ray is installed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.distributed.command import LONG, Command
from tests.distributed.recipes import content

if os.environ.get("PELLUCID_REQUIRE_RAY") != "1":
    pytest.skip("Ray is not asked for: PELLUCID_REQUIRE_RAY=1", allow_module_level=True)
if find_spec("ray") is None:
    raise ModuleNotFoundError("Ray is asked for and not installed: pip install '.[ray]'")

TRAIN = ["train", "digits", "--json", *LONG]
ON_RAY = ["--engine.name", "ray", "--engine.workers", "2"]

HOME = """
import json, os, sys
from pellucid.distributed.ray import OBJECTS, _settings
with _settings("") as (folder, before):
    import ray
    there = ray.init(address="local", num_cpus=4, num_gpus=2, include_dashboard=False,
                     object_store_memory=OBJECTS, _temp_dir=folder, log_to_driver=False)
    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
    environ = {name: os.environ[name] for name in names}
    print(json.dumps({"RAY_ADDRESS": there.address_info["gcs_address"], **environ}), flush=True)
    sys.stdin.read()
    ray.shutdown(wait_for_processes=True)
"""


@dataclass
class Home:
    """A Ray that others have started, for everybody: it counts four CPUs and two GPUs."""

    process: psutil.Process
    environ: dict[str, str]


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    """Let one Ray run for all tests that need not start their own."""
    environ = {**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    with subprocess.Popen(
        [sys.executable, "-c", HOME], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environ,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdin is not None
        yield Home(psutil.Process(process.pid), json.loads(process.stdout.readline()))
        process.stdin.close()
        process.wait(60)


@pytest.fixture(scope="module")
def by_procs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What two processes make without Ray."""
    with Command(tmp_path_factory.mktemp("procs"), *TRAIN, "--engine.procs", "2") as command:
        assert command.ends()[0] == 0
    return content(command.run)


def test_two_workers_of_its_own_ray_are_two_processes(
    tmp_path: Path, by_procs: dict[str, bytes]
) -> None:
    """Byte for byte; and that Ray tells nobody, listens to nobody else, and leaves nothing."""
    files = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))  # short: Ray has sockets in there
    environ = {"TMPDIR": str(files), "HOME": str(tmp_path / "home")}
    with Command(tmp_path, *TRAIN, *ON_RAY, environ=environ) as command:
        command.reaches(2)
        family = psutil.Process(command.process.pid).children(recursive=True)
        raylet = next(one for one in family if one.name() == "raylet")
        seen = {
            "statistics": raylet.environ().get("RAY_USAGE_STATS_ENABLED"),
            "token": len(raylet.environ().get("RAY_AUTH_TOKEN", "")),
            "token at home": (tmp_path / "home/.ray").exists(),
            "listens": {c.laddr.ip.removeprefix("::ffff:") for c in _listening(family)},
            "dashboard": any(c.laddr.port == 8265 for c in _listening(family)),
            "folders": [name[:9] for name in _files(files)],
        }
        code, out, err = command.ends()
    seen["lives"] = [one for one in family if one.is_running() and one.status() != "zombie"]
    seen["is left"] = _files(files)
    seen["says"] = [line for line in err.splitlines() if re.search(r"\b[Rr]ay|gcs", line)]
    shutil.rmtree(files)
    assert seen == {
        "statistics": "0", "token": 64, "token at home": False, "listens": {"127.0.0.1"},
        "dashboard": False, "folders": ["pellucid-"], "lives": [], "is left": [], "says": [],
    }  # fmt: skip
    assert code == 0
    assert json.loads(out)["test"]["n"] == 1000
    assert err.count("device: cpu (1 thread)") == 1
    assert content(command.run) == by_procs
    stored = json.loads((command.run.path / "environment.json").read_text(encoding="utf-8"))
    assert stored["processes"] == 2
    assert stored["command"][1:3] == ["train", "digits"]
    recipe = (command.run.path / "recipe.toml").read_text(encoding="utf-8")
    assert 'name = "ray"' in recipe
    assert "workers = 2" in recipe


def _files(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if not p.name.startswith("torchinductor")]


def _listening(family: list[psutil.Process]) -> list[Any]:
    found: list[Any] = []
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            found += one.net_connections("inet")
    return [c for c in found if c.status == psutil.CONN_LISTEN]


def _words(one: psutil.Process) -> list[str]:
    try:
        return one.cmdline()
    except psutil.NoSuchProcess:
        return []


def test_stopped_and_killed_and_gone_on_with(
    tmp_path: Path, home: Home, by_procs: dict[str, bytes]
) -> None:
    """Ctrl-C, then a worker that is killed; the run ends as the one that nothing happened to."""
    with Command(tmp_path, *TRAIN, *ON_RAY, environ=home.environ) as command:
        command.reaches(2)
        command.process.send_signal(signal.SIGINT)
        code, out, err = command.ends()
    assert code == 130
    run = command.run
    first = run.checkpoints.steps()[-1]
    assert 2 <= first < 80
    assert f"stopped after step {first}. Go on: pellucid resume runs/{run.path.name}" in err
    assert json.loads(out) == {"run": f"runs/{run.path.name}", "stopped": True}

    words = ["resume", f"runs/{run.path.name}", "--engine.workers", "2"]
    with Command(tmp_path, *words, environ=home.environ) as command:
        command.reaches(first + 2)
        lost = command.rank(1, home.process)
        lost.send_signal(signal.SIGKILL)
        code, _, err = command.ends()
    assert code == 1
    assert f"rank 1 (process {lost.pid}) was killed by SIGKILL; the last it reached: step " in err
    second = run.checkpoints.steps()[-1]
    assert first + 2 <= second < 80

    with Command(tmp_path, *words, environ=home.environ) as command:  # as it was begun: by Ray
        code, _, err = command.ends()
    assert code == 0
    assert f"resumed after step {second}" in err
    assert content(run) == by_procs
    assert _training(home) == []


def _training(home: Home) -> list[psutil.Process]:
    return [p for p in home.process.children(recursive=True) if "pellucid" in _words(p)]


def _refused(folder: Path, home: Home, *words: str) -> str:
    with Command(folder, *TRAIN, *ON_RAY, *words, environ=home.environ) as command:
        code, out, err = command.ends()
    assert (code, out) == (2, "")
    assert not (folder / "runs").exists()
    return err


def test_others_use_what_is_needed(tmp_path: Path, home: Home) -> None:
    endless = ["100000 steps" if word == "80 steps" else word for word in TRAIN]
    with Command(tmp_path / "first", *endless, *ON_RAY, environ=home.environ) as command:
        command.reaches(2)
        refused = _refused(
            tmp_path / "second", home, "--engine.workers", "4", "--engine.timeout", "1"
        )
        command.process.send_signal(signal.SIGINT)
        assert command.ends()[0] == 130
    assert "Ray had no place for 4 workers for 1 s: others use what they need" in refused
    assert _training(home) == []


def test_ray_loses_a_worker(tmp_path: Path, home: Home) -> None:
    """Not the process that trains, but the one of Ray's that keeps it: that takes it along."""
    with Command(tmp_path, *TRAIN, *ON_RAY, environ=home.environ) as command:
        command.reaches(2)
        trains = command.rank(1, home.process)
        keeper = trains.parent()
        assert keeper is not None
        keeper.kill()
        code, _, err = command.ends()
    assert code == 1
    assert f"rank 1 (process {trains.pid}) was killed by SIGKILL; the last it reached: step" in err
    psutil.wait_procs([trains], timeout=30)
    assert _training(home) == []


@pytest.mark.slow
def test_a_worker_that_is_frozen(tmp_path: Path, home: Home) -> None:
    words = [*TRAIN, *ON_RAY, "--engine.timeout", "3"]
    with Command(tmp_path, *words, environ=home.environ) as command:
        command.reaches(2)
        command.rank(1, home.process).send_signal(signal.SIGSTOP)
        code, _, err = command.ends()
    assert code == 1
    assert "rank 1 gave no sign of life any more; the last it reached: step" in err
    assert _training(home) == []


def test_nobody_is_at_the_address(tmp_path: Path) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{one.getsockname()[1]}"
        nobody = Home(psutil.Process(), {"RAY_ADDRESS": address})
        assert f"No Ray answers at {address} (RAY_ADDRESS)" in _refused(tmp_path, nobody)


def test_more_workers_than_ray_has_cpus(tmp_path: Path, home: Home) -> None:
    refused = _refused(tmp_path, home, "--engine.workers", "5")
    assert "engine.workers 5: 5 workers with 1 CPU each need 5, and Ray has 4. Start" in refused


TOLD = """
import json, os, sys
from pellucid.enginespec import EngineSpec
from pellucid.errors import BadRecipe
from pellucid.launch import launch_on_ray
code = "import json, os, sys; here = [dict(os.environ), os.getcwd(), sys.argv[1:]]"
code += "; print(json.dumps(here)); sys.exit(int(os.environ['RANK']) * 3)"
before = dict(os.environ)
for workers, threads, device in ((2, 0, "cpu"), (2, 0, "cuda"), (2, 3, "cpu"), (3, 0, "auto")):
    spec = EngineSpec(name="ray", workers=workers, threads=threads, device=device)
    try:
        code_of_job = launch_on_ray(["-c", code, "word"], "seed = 1", spec, lambda text: None)
    except BadRecipe as error:
        print(json.dumps(str(error)), flush=True)
    else:
        assert code_of_job == 3
    assert dict(os.environ) == before
"""


def test_what_a_worker_is_told(tmp_path: Path, home: Home) -> None:
    """Its rank, where they meet, and the GPUs of all workers on its machine."""
    done = subprocess.run(
        [sys.executable, "-c", TOLD], cwd=tmp_path, capture_output=True, text=True,
        check=False, env={**os.environ, **home.environ, "TORCHELASTIC_RUN_ID": "x"}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *found, threads, gpus = [json.loads(line) for line in done.stdout.splitlines()]
    assert "2 workers with 3 CPU each need 6, and Ray has 4. Start fewer." in threads
    assert "3 workers with 1 GPU each need 3, and Ray has 2. Start fewer, or take --eng" in gpus
    assert len(found) == 4
    for device, both in (("cpu", found[:2]), ("cuda", found[2:])):
        both.sort(key=lambda one: one[0]["RANK"])
        for rank, (environ, folder, words) in enumerate(both):
            assert (environ["RANK"], environ["LOCAL_RANK"]) == (str(rank), str(rank))
            assert environ["WORLD_SIZE"] == environ["LOCAL_WORLD_SIZE"] == "2"
            assert environ["MASTER_ADDR"] == "127.0.0.1"
            assert environ["TORCHELASTIC_USE_AGENT_STORE"] == "True"
            assert environ["OMP_NUM_THREADS"] == "1"
            assert "TORCHELASTIC_RUN_ID" not in environ
            assert folder == str(tmp_path)
            assert words[:2] == ["word", "--recipe"]
            assert not Path(words[2]).parent.exists()
            assert not [name for name in environ if name.startswith("RAY_")]
            if device == "cuda":
                assert sorted(environ["CUDA_VISIBLE_DEVICES"].split(",")) == ["0", "1"]
                assert environ["CUDA_VISIBLE_DEVICES"] == both[0][0]["CUDA_VISIBLE_DEVICES"]
            assert environ["MASTER_PORT"] == both[0][0]["MASTER_PORT"]
