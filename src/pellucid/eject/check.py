"""Running a script and comparing its weights with those of the run, bit for bit."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pellucid.eject.facts import CannotEject, last_weights
from pellucid.errors import PellucidError
from pellucid.runs.listing import find


class ScriptFailed(PellucidError):
    """A script ended with an error."""


@dataclass(frozen=True)
class Verdict:
    """What became of a script.

    Args:
        tensors: number of tensors compared.
        different: the names of those that differ in shape, type or any bit.
        output: what the script printed.
    """

    tensors: int
    different: tuple[str, ...]
    output: str

    @property
    def same(self) -> bool:
        """Whether all weights are those of the run, bit for bit."""
        return not self.different


def check(run: str | Path, script: str) -> Verdict:
    """Run `script` in a process of its own and compare its weights with those of `run`.

    Args:
        run: a path, a name in the folder of runs, or `latest`.
        script: as `eject` returned it.

    Raises:
        CannotEject: if the run is not finished, so that there is nothing to compare with.
        ScriptFailed: if it ends with an error, which is told.
    """
    opened = find(run)
    if not opened.summary():
        raise CannotEject(
            f"{opened.path} is not finished, so there are no last weights to compare with. "
            f"Finish it: pellucid resume {opened.path}"
        )
    expected = last_weights(opened)
    with tempfile.TemporaryDirectory() as folder:
        place, weights = Path(folder, "train.py"), Path(folder, "weights.npz")
        place.write_text(script, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, str(place)],  # it writes weights.npz into its folder
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise ScriptFailed(f"The script ended with an error:\n{done.stderr.strip()}")
        with np.load(weights, allow_pickle=False) as found:
            different = [n for n in found.files if n not in expected]
            for name, tensor in expected.items():
                there = found[name] if name in found.files else None
                ours = tensor.numpy()
                if (
                    there is None
                    or (there.dtype, there.shape) != (ours.dtype, ours.shape)
                    or there.tobytes() != ours.tobytes()
                ):
                    different.append(name)
    return Verdict(len(expected), tuple(different), done.stdout)
