"""Ray as what starts the processes of a training, on one machine or on several.

Ray finds a place for each of them and starts it there; with that its part ends. What it starts is
the command that `torchrun` would start, with the same variables in its environment: the processes
meet, add up, save and end by themselves. So this needs Ray's core alone. Ray Train would connect
the processes itself, so that nobody could say which one is lost and where it was, and would run
them in a thread, where no signal comes through.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pellucid.distributed.rayworker import Hired, Order, Worker
from pellucid.errors import BadRecipe, MissingExtra

OBJECTS = 80 * 2**20
"""Bytes of Ray's store of objects, which nothing of ours goes through; the least that it takes."""


class Cluster:
    """A Ray that this process is connected to.

    Args:
        ray: the module, connected.
        folder: of a Ray that is there for this training alone; empty for one that others started.
        environ: the environment of this process before Ray changed it.
    """

    def __init__(self, ray: Any, folder: str, environ: Mapping[str, str]) -> None:
        self._ray = ray
        self._folder = folder
        self._environ = {k: v for k, v in environ.items() if not k.startswith("TORCHELASTIC_")}
        self.address = str(ray.util.get_node_ip_address())

    @property
    def own(self) -> bool:
        """Whether it is there for this training alone, on this machine."""
        return bool(self._folder)

    def hire(self, size: int, cpus: int, device: str, timeout: float) -> list[Hired]:
        """Return a place for each of `size` processes, by rank.

        Args:
            size: of the job.
            cpus: of each.
            device: `auto` takes a GPU for each if Ray has any, `cuda` always.
            timeout: seconds to wait while others use what Ray has.

        Raises:
            BadRecipe: if Ray has too few CPUs or GPUs, or gives them to others all that time.
        """
        ray, needs = self._ray, self._needs(size, cpus, device)
        group = ray.util.placement_group([needs] * size, strategy="PACK")
        if not group.wait(timeout):
            raise BadRecipe(
                f"Ray had no place for {size} workers for {timeout:g} s: others use what they "
                "need. Wait for them, start fewer workers, or raise engine.timeout."
            )
        strategy = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy
        actors = [
            ray.remote(Worker)
            .options(
                num_cpus=needs["CPU"],
                num_gpus=needs.get("GPU", 0),
                max_concurrency=4,
                scheduling_strategy=strategy(group, placement_group_bundle_index=index),
            )
            .remote()
            for index in range(size)
        ]
        folder = os.getcwd()
        try:
            found = ray.get([actor.where.remote(folder) for actor in actors])
        except ray.exceptions.RayError as error:
            raise BadRecipe(
                "A worker of Ray does not begin; the same pellucid has to be installed on each "
                f"machine of the cluster: {' '.join(str(error).split())[:300]}"
            ) from None
        ranked = ranks([(address, gpus) for address, gpus, _ in found], self.address)
        first = ranked[0][0]
        if not found[first][2]:
            raise BadRecipe(
                f"Ray has no place on this machine, and {found[first][0]}, where it would start "
                f"rank 0, has no folder {folder} for the run. Share it, or free a CPU here."
            )
        return [
            Hired(ray, actors[number], found[number][0] == self.address, environ)
            for number, environ in ranked
        ]

    def _needs(self, size: int, cpus: int, device: str) -> dict[str, int]:
        """Return what each worker needs, which Ray has, for all of them."""
        there = self._ray.cluster_resources()
        has = {kind: int(there.get(kind, 0)) for kind in ("CPU", "GPU")}
        needs = {"CPU": cpus}
        if device == "cuda" or (device == "auto" and has["GPU"]):
            needs["GPU"] = 1
        for kind, each in needs.items():
            if size * each > has[kind]:
                raise BadRecipe(
                    f"engine.workers {size}: {size} workers with {each} {kind} each need "
                    f"{size * each}, and Ray has {has[kind]}. Start fewer"
                    + (", or take --engine.device cpu." if kind == "GPU" else ".")
                )
        return needs

    def order(self, words: Sequence[str], recipe: str, environ: Mapping[str, str]) -> Order:
        """Return what a worker is to start: see `Order`."""
        base = self._environ if self.own else {}
        return Order(tuple(words), recipe, {**base, **environ}, os.getcwd(), self.own, self._folder)


def ranks(
    found: Sequence[tuple[str, Sequence[str]]], here: str
) -> list[tuple[int, dict[str, str]]]:
    """Return for each rank the number of its worker, and what its environment says of its place.

    Those of one machine stand in a row, and see the same GPUs: all that its workers were given.

    Args:
        found: for each worker its machine and its GPUs.
        here: this machine, which comes first: rank 0 writes the run folder.

    >>> [worker for worker, _ in ranks([("b", []), ("a", []), ("b", [])], "a")]
    [1, 0, 2]
    """
    machines = sorted({address for address, _ in found}, key=lambda a: (a != here, a))
    ranked: list[tuple[int, dict[str, str]]] = []
    for machine in machines:
        workers = [number for number, (address, _) in enumerate(found) if address == machine]
        gpus = [gpu for number in workers for gpu in found[number][1]]
        for local, number in enumerate(workers):
            environ = {
                "RANK": str(len(ranked)),
                "WORLD_SIZE": str(len(found)),
                "LOCAL_RANK": str(local),
                "LOCAL_WORLD_SIZE": str(len(workers)),
            }
            if gpus:
                environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
            ranked.append((number, environ))
    return ranked


@contextlib.contextmanager
def connected() -> Iterator[Cluster]:
    """Connect to the Ray that RAY_ADDRESS names, or start one on this machine for the time.

    One of our own listens on the loopback address only, to those that know its token; it has no
    dashboard, and its files lie in a folder that is removed.

    Raises:
        MissingExtra: if Ray is not installed.
        BadRecipe: if Ray cannot be reached or started.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if "://" in address:
        raise BadRecipe(
            f"RAY_ADDRESS is {address}; pellucid needs a machine of the cluster to start on, and "
            "its own address there: HOST:PORT or auto."
        )
    with _settings(address) as (folder, before):
        ray = _import()
        try:
            _init(ray, address, folder)
            yield Cluster(ray, folder, before)
        finally:
            ray.shutdown(wait_for_processes=True)


@contextlib.contextmanager
def _settings(address: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Set what Ray reads from the environment; return the folder for it, and what was set before.

    Both are as they were at the end.
    """
    before = dict(os.environ)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is sent anywhere
    folder = "" if address else tempfile.mkdtemp(prefix="pellucid-", dir=_short_folder())
    if folder:
        os.environ.update(
            RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",  # all on the loopback address, as there
            RAY_AUTH_MODE="token",
            RAY_AUTH_TOKEN=secrets.token_hex(32),  # else Ray keeps one in the user's home
            RAY_process_group_cleanup_enabled="true",  # a worker that dies takes its process along
        )
    try:
        yield folder, before
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        os.environ.clear()
        os.environ.update(before)


def _import() -> Any:
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise MissingExtra(
            "engine.name ray needs the package ray, which is not installed: "
            "pip install 'pellucid[ray]'. Without it: --engine.procs N"
        ) from error
    return ray


def _init(ray: Any, address: str, folder: str) -> None:
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if address:
            if address != "auto":  # Ray itself would go on trying for minutes
                host, _, port = address.rpartition(":")
                socket.create_connection((host.strip("[]"), int(port)), 5).close()
            ray.init(address=address, **quiet)
            return
        ray.init(
            address="local", include_dashboard=False, object_store_memory=OBJECTS,
            _temp_dir=folder, **quiet,
        )  # fmt: skip
    except Exception as error:  # also bare ones, as when a busy machine is too slow for Ray
        text = " ".join(str(error).split())[:300]
        what = (
            f"No Ray answers at {address} (RAY_ADDRESS)" if address else "Ray does not start here"
        )
        raise BadRecipe(f"{what}: {text}") from None


def _short_folder() -> str | None:
    """Return where temporary files go: a socket's whole path has about 100 letters at most."""
    usual, short = tempfile.gettempdir(), Path("/tmp")
    return str(short) if len(usual) > 20 and os.access(short, os.W_OK) else None
