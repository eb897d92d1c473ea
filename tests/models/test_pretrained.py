"""Foreign weights: what is not a table of tensors is never opened here, and does nothing."""

from __future__ import annotations

import hashlib
import io
import os
import pickle  # noqa: TID251 - writes what is to be refused
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from pellucid.errors import BadRecipe, MissingExtra
from pellucid.models import pretrained
from pellucid.models.pretrained import PACKAGES, Package, read_file, read_package


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


def zipped(pickled: bytes) -> bytes:
    """A file as `torch.save` writes it, around `pickled`."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
    return out.getvalue()


def saved(value: object, **how: Any) -> bytes:
    """A file as others have them."""
    out = io.BytesIO()
    torch.save(value, out, **how)  # noqa: TID251 - to be converted
    return out.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def load(content: bytes) -> dict[str, torch.Tensor]:
    """What the child does, here: for files that this test made."""
    return pretrained._load(content, hashlib.sha256(content).hexdigest())


def weights() -> dict[str, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    return {
        "z": torch.randn(3, 4, generator=draws),
        "a": torch.randn(2, generator=draws).half(),
        "count": torch.tensor(7),
    }


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return list(one) == list(two) and all(
        one[name].dtype == two[name].dtype and torch.equal(one[name], two[name]) for name in one
    )


def test_a_pth_file_is_converted_once_and_kept_in_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = saved(weights())
    path, cache = write(tmp_path / "w.pth", content), tmp_path / "cache"
    first = read_file(path, cache)
    assert same(first.tensors, weights())
    assert first.sha256 == hashlib.sha256(content).hexdigest()
    assert [p.suffix for p in sorted((cache / "weights").iterdir())] == [".safetensors", ".lock"]

    (kept,) = (cache / "weights").glob("*.safetensors")
    good, asked = kept.read_bytes(), []

    def again(source: Path, target: Path, sha256: str) -> None:
        asked.append(sha256)
        target.write_bytes(good)

    monkeypatch.setattr(pretrained, "convert", again)
    assert same(read_file(path, cache).tensors, weights())
    assert asked == []
    kept.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert same(read_file(path, cache).tensors, weights())  # seen, and made again
    assert asked == [first.sha256]
    assert kept.read_bytes() == good


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(source: Path, target: Path, sha256: str) -> None:
        assert tmp_path not in target.parents
        safetensors.torch.save_file(weights(), target, {"pellucid.order": '["z", "a", "count"]'})

    monkeypatch.setattr(pretrained, "convert", copy)  # the real one is tried above
    blocked = write(tmp_path / "file", b"")
    path = write(tmp_path / "w.pth", saved(weights()))
    assert same(read_file(path, blocked).tensors, weights())


def test_a_safetensors_file_needs_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", None)
    path = tmp_path / "misnamed.pth"
    safetensors.torch.save_file(weights(), path)
    found = read_file(path, tmp_path)
    assert same({name: found.tensors[name] for name in weights()}, weights())
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    content = path.read_bytes()
    for size in (20, len(content) - 1):
        with pytest.raises(BadRecipe, match="damaged safetensors file"):
            read_file(write(tmp_path / "cut", content[:size]), tmp_path)


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x89PNG\r\n\x1a\n", b"cposix\nsystem\n"])
def test_what_is_no_file_of_weights(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="x is neither a safetensors file nor one that"):
        read_file(write(tmp_path / "x", content), tmp_path)
    with pytest.raises(BadRecipe, match="nowhere cannot be read .No such file.*package:"):
        read_file(tmp_path / "nowhere", tmp_path)
    with pytest.raises(BadRecipe, match="cannot be read .Is a directory"):
        read_file(tmp_path, tmp_path)


def test_a_program_in_a_pth_file_does_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    payload = {"w": torch.zeros(2), "x": Call(os.system, f"touch {marker}")}
    path, cache = write(tmp_path / "evil.pth", saved(payload)), tmp_path / "cache"
    with pytest.raises(BadRecipe) as error:
        read_file(path, cache)
    assert "evil.pth was not converted to safetensors: it holds more than" in str(error.value)
    assert "posix.system" in str(error.value)
    assert "weights_only" not in str(error.value)  # no advice to open it all the same
    assert not marker.exists()
    assert not list(cache.glob("**/*.safetensors"))
    pickle.loads(pickle.dumps(payload["x"]))
    assert marker.exists(), "the payload is none"


PAYLOADS = """
import hashlib, sys
from pathlib import Path
from pellucid.models.pretrained import _load
refused = 0
for path in sorted(Path(sys.argv[1]).iterdir()):
    content = path.read_bytes()
    try:
        _load(content, hashlib.sha256(content).hexdigest())
    except Exception:
        refused += 1
print(refused)
"""


def test_a_hundred_programs(tmp_path: Path) -> None:
    """Ten ways out, in each protocol of pickle, in both forms of file: none gets anywhere."""
    marker, folder = tmp_path / "executed", tmp_path / "files"
    folder.mkdir()
    command, code = f"touch {marker}", f"open({str(marker)!r}, 'w')"
    ways = [
        Call(os.system, command),
        Call(os.popen, command),
        Call(subprocess.call, ["touch", str(marker)]),
        Call(subprocess.Popen, ["touch", str(marker)]),
        Call(eval, code),
        Call(exec, code),
        Call(open, str(marker), "w"),
        Call(os.execlp, "touch", "touch", str(marker)),
        Call(os.mkdir, str(marker)),
        Call(shutil.copy, sys.executable, str(marker)),
    ]
    for number, way in enumerate(ways):
        for protocol in range(6):
            content = pickle.dumps({"w": way}, protocol)
            (folder / f"{number}-{protocol}-plain").write_bytes(content)
            (folder / f"{number}-{protocol}-zip").write_bytes(zipped(content))
    done = subprocess.run(
        [sys.executable, "-c", PAYLOADS, str(folder)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == len(list(folder.iterdir())) == 120
    assert not marker.exists()


def test_a_truncated_file() -> None:
    for legacy in (False, True):
        content = saved({"w": torch.zeros(1000)}, _use_new_zipfile_serialization=not legacy)
        for size in (len(content) // 2, len(content) - 1, 10):
            with pytest.raises(Exception) as error:  # noqa: PT011 - whatever PyTorch raises
                load(content[:size])
            assert "damaged" in pretrained._reason(error.value)


def test_a_small_file_that_wants_much_memory(tmp_path: Path) -> None:
    content = saved({"w": torch.zeros(1).expand(200_000, 10_000)})  # 4 bytes; 8 GB when written
    assert len(content) < 2000
    with pytest.raises(BadRecipe, match="it needs more memory than a file of its size should"):
        read_file(write(tmp_path / "bomb.pth", content), tmp_path / "cache")


def test_a_result_that_cannot_be_written(tmp_path: Path) -> None:
    content = saved(weights())
    path = write(tmp_path / "w.pth", content)
    with pytest.raises(BadRecipe, match="result cannot be written .*No such file"):
        pretrained.convert(path, tmp_path / "nowhere/x", hashlib.sha256(content).hexdigest())


def test_a_conversion_that_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "SECONDS", 0)
    with pytest.raises(BadRecipe, match="not converted to safetensors: it took more than 0 s"):
        read_file(write(tmp_path / "w.pth", saved(weights())), tmp_path / "cache")


def test_the_child_opens_nothing_but_the_file_that_it_was_sent_for() -> None:
    content = saved(weights())
    with pytest.raises(Exception, match="its SHA-256 is not the one"):
        pretrained._load(content, hashlib.sha256(b"another").hexdigest())


def test_where_training_scripts_keep_their_weights() -> None:
    assert same(load(saved(weights())), weights())
    for name in ("state_dict", "model", "model_state_dict"):
        assert same(load(saved({"epoch": 3, name: weights(), "optimizer": {}})), weights())
    plain = load(saved({**weights(), "epoch": 3, "note": "x"}))
    assert same(plain, weights())
    tied = torch.ones(4, 5)
    found = load(saved({"w": tied, "t": tied.t(), "p": torch.nn.Parameter(tied[1:])}))
    assert found["t"].is_contiguous()
    assert found["w"].data_ptr() != found["t"].data_ptr()
    assert not found["p"].requires_grad
    assert torch.equal(found["t"], tied.t())


@pytest.mark.parametrize("value", [[1, 2], {"lr": 0.1}, torch.zeros(3), {}])
def test_a_file_without_a_table_of_tensors(value: object) -> None:
    with pytest.raises(Exception, match="holds no table of tensors"):
        load(saved(value))


def test_tensors_that_are_not_plain() -> None:
    with pytest.raises(Exception, match="s is no plain tensor"):
        load(saved({"w": torch.zeros(2), "s": torch.eye(3).to_sparse()}))


def test_the_limits_hold(tmp_path: Path) -> None:
    """A process that took them cannot reach a server, allocate much, or write a large file."""
    code = """
import errno, socket, sys
from pathlib import Path
from pellucid.models import pretrained
print(pretrained.leave_network())
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5).close()
    print("connected")
except OSError:
    print("no network")
pretrained.limit(50_000_000, 1000, 60)
pretrained.limit(10**12, 10**9, 6000)  # a limit that is there stays
held = bytearray(10_000_000)
try:
    bytearray(100_000_000)
except MemoryError:
    print("no memory")
try:
    Path(sys.argv[2]).write_bytes(bytes(2000))
except OSError as error:
    print(errno.errorcode[error.errno])
"""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        with socket.create_connection(("127.0.0.1", int(port)), 5):
            pass  # it can be reached from here
        done = subprocess.run(
            [sys.executable, "-c", code, port, str(tmp_path / "large")],
            capture_output=True,
            text=True,
            check=True,
        )
    left, *rest = done.stdout.split("\n")
    assert rest == [
        "no network" if left == "True" else "connected", "no memory", "EFBIG", ""
    ]  # fmt: skip
    assert left == "True" or os.geteuid(), "root may always leave the network"


def test_a_package_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = Package("no-such-package==1.0", "w.pth", "0" * 64, "resnet18")
    monkeypatch.setitem(PACKAGES, "absent", absent)
    with pytest.raises(MissingExtra, match="pip install no-such-package==1.0"):
        read_package("absent", tmp_path)


def test_a_package_with_another_file_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = PACKAGES["efficientnet-lite0"]
    monkeypatch.setitem(PACKAGES, "changed", known._replace(sha256="0" * 64))
    monkeypatch.setattr(subprocess, "run", None)
    with pytest.raises(BadRecipe, match=f"has the SHA-256 {known.sha256}, which should be 000"):
        read_package("changed", tmp_path)
