"""What a recipe says about the boards that show a run while it trains."""

from __future__ import annotations

from typing import Annotated

import msgspec


class TensorBoardSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The run is written for TensorBoard too, into its folder `tensorboard`.

    There is nothing to set: `tensorboard --logdir runs` shows all runs of a folder.
    """


class VisdomSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The run is sent to a Visdom server, which is running already.

    Args:
        host: name or address of the server's machine.
        port: of the server.
        environment: the Visdom environment that gets the windows; empty means one that is named
            like the run, so that two runs do not draw into the same windows.
    """

    host: Annotated[str, msgspec.Meta(pattern=r"^[^/\s]+$")] = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 8097
    environment: str = ""
