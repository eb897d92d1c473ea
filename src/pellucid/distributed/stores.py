"""The store where the processes of a job meet: a table of short notes that one process keeps.

Whoever reaches its port can write into it: on one machine it listens on the loopback address.
"""

from __future__ import annotations

import functools
import socket
from datetime import timedelta

from torch.distributed import (  # type: ignore[attr-defined]  # is there where gloo is
    PrefixStore,
    Store,
    TCPStore,
)

from pellucid.distributed.place import Place
from pellucid.errors import BadRecipe

LOOPBACK = "127.0.0.1"

__all__ = ["LOOPBACK", "PrefixStore", "Store", "TCPStore", "host", "keep_store", "visit"]


@functools.cache
def keep_store(place: Place) -> TCPStore:
    """Keep the store of a job, as long as this process lives.

    On this machine only, if all its processes are here.

    Raises:
        BadRecipe: if the port is in use.
    """
    try:
        address = LOOPBACK if place.one_machine else ""
        return host(place.size, place.port, address, place.address)[0]
    except OSError as error:
        raise BadRecipe(
            f"Port {place.port} of this machine (MASTER_PORT) cannot be used: {error.strerror}. "
            "Choose another one: torchrun --master-port N."
        ) from None


def host(
    size: int, port: int = 0, address: str = LOOPBACK, name: str = LOOPBACK
) -> tuple[TCPStore, int]:
    """Return a store for `size` processes that listens at `address`, and its port.

    Args:
        size: of the job.
        port: 0 takes one that is free.
        address: that it listens at; empty: at all of this machine.
        name: by which this process reaches itself.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(512)
        port = listener.getsockname()[1]
        store = TCPStore(
            name, port, size, True, wait_for_workers=False, master_listen_fd=listener.detach()
        )
    return store, port


def visit(place: Place, timeout: float) -> TCPStore:
    """Return a connection to the store of the job.

    Raises:
        BadRecipe: if none answers for `timeout` seconds.
    """
    try:
        return TCPStore(
            place.address, place.port, place.size, False, timedelta(seconds=timeout),
            wait_for_workers=False,
        )  # fmt: skip
    except RuntimeError as error:
        raise BadRecipe(
            f"No store of this job answers at {place.address}:{place.port} (MASTER_ADDR, "
            f"MASTER_PORT): {str(error).splitlines()[0]}"
        ) from None
