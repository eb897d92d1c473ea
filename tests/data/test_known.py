"""Known sets: where they are looked for, how they are brought, what is said when they are not."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import struct
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from pellucid.data import mnist
from pellucid.data.known import Cifar10, Cifar100, FashionMnist, Mnist
from pellucid.errors import BadData, DataNotFound
from pellucid.values import DataSource


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def contents(seed: int = 0) -> dict[str, bytes]:
    random = np.random.default_rng(seed)
    made = {}
    for name, count in (("train", 30), ("t10k", 20)):
        images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        made[f"{name}-images-idx3-ubyte"] = idx(images)
        made[f"{name}-labels-idx1-ubyte"] = idx((np.arange(count) % 10).astype(np.uint8))
    return made


def write(folder: Path, seed: int = 0, packed: bool = True, dot: bool = False) -> Path:
    folder.mkdir(parents=True)
    for name, content in contents(seed).items():
        path = folder / (name.replace("-idx", ".idx") if dot else name)
        if packed:
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
        else:
            path.write_bytes(content)
    return folder


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize(
    ("source", "folder"),
    [
        (Mnist, "mnist"),
        (Mnist, "MNIST/raw"),
        (FashionMnist, "fashion-mnist"),
        (FashionMnist, "FashionMNIST/raw"),
    ],
)
@pytest.mark.parametrize(("packed", "dot"), [(True, False), (False, False), (False, True)])
def test_layouts(tmp_path, source, folder, packed, dot):
    write(tmp_path / "d" / folder, packed=packed, dot=dot)
    loaded = source(root=str(tmp_path / "d")).load()
    assert (len(loaded.train), len(loaded.test)) == (30, 20)
    expected = np.frombuffer(contents()["t10k-images-idx3-ubyte"][16:], np.uint8)
    np.testing.assert_array_equal(loaded.test.images.numpy().ravel(), expected)
    assert loaded.train.shape == (1, 28, 28)
    assert loaded.train.targets.dtype == torch.int64
    name = folder.split("/")[0].replace("FashionMNIST", "fashion-mnist").replace("MNIST", "mnist")
    assert (loaded.train.name, loaded.test.name) == (f"{name}/train", f"{name}/test")
    assert loaded.train.classes[9] == ("9" if source is Mnist else "Ankle boot")


def test_the_order_of_places(tmp_path, patched, cache):
    write(tmp_path / "named" / "mnist", 1)
    write(tmp_path / "shared" / "mnist", 2)
    write(cache / "data" / "mnist", 3)

    def seed(source: Mnist) -> int:
        images = source.load().train.images
        return next(
            seed
            for seed in (1, 2, 3)
            if images.numpy().tobytes() == contents(seed)["train-images-idx3-ubyte"][16:]
        )

    patched.setenv("PELLUCID_DATA", str(tmp_path / "shared"))
    assert seed(Mnist(root=str(tmp_path / "named"))) == 1
    assert seed(Mnist()) == 2
    patched.setenv("PELLUCID_DATA", str(tmp_path / "nothing"))
    assert seed(Mnist()) == 3
    patched.delenv("PELLUCID_DATA")
    assert seed(Mnist()) == 3


def test_a_named_root_without_the_set_is_an_error(tmp_path, cache):
    write(cache / "data" / "mnist")
    write(tmp_path / "d" / "fashion-mnist")
    with pytest.raises(DataNotFound) as error:
        Mnist(root=str(tmp_path / "d")).load()
    text = str(error.value)
    assert "There is no mnist in --data.root" in text
    assert f"{tmp_path}/d: no mnist/, no MNIST/raw/" in text
    assert "train-images-idx3-ubyte" in text
    (tmp_path / "d" / "fashion-mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataNotFound, match="fashion-mnist lacks t10k-labels-idx1-ubyte"):
        FashionMnist(root=str(tmp_path / "d")).load()


@pytest.mark.parametrize("source", [Mnist, FashionMnist, Cifar10, Cifar100])
def test_when_nothing_works_the_ways_out_are_named(tmp_path, patched, cache, source):
    patched.setenv("PELLUCID_DATA", str(tmp_path / "shared"))
    with pytest.raises(DataNotFound) as error:
        source().load()
    text = str(error.value)
    for part in (
        f"{tmp_path}/shared: no ",
        f"{cache}/data: no ",
        "PELLUCID_OFFLINE is set",
        "1. name a folder by --data.root or PELLUCID_DATA",
        f"put the files into {cache}/data by hand",
        "3. pellucid train digits",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("file", "content", "text"),
    [
        ("train-images-idx3-ubyte", idx(np.zeros((30, 8, 8), np.uint8)), "not \\(N, 28, 28\\)"),
        ("train-labels-idx1-ubyte", idx(np.zeros(7, np.uint8)), r"shape \(7,\); .* has 30 images"),
        ("t10k-labels-idx1-ubyte", idx(np.full(20, 10, np.uint8)), "labels that are not 0 to 9"),
        ("t10k-images-idx3-ubyte", b"\0\0\x08", "truncated"),
    ],
)
def test_damaged_files_are_named(tmp_path, file, content, text):
    folder = write(tmp_path / "mnist", packed=False)
    (folder / file).write_bytes(content)
    with pytest.raises(BadData, match=text) as error:
        Mnist(root=str(tmp_path)).load()
    assert file in str(error.value)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


@pytest.fixture
def mirror(tmp_path, patched):
    """A server that has a small MNIST, which counts as the true one."""
    folder = write(tmp_path / "www")
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = False  # so that leaving waits for each answer
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        digests = [hashlib.sha256(contents()[file]).hexdigest() for file in mnist.FILES]
        here = f"http://127.0.0.1:{server.server_port}/"
        small = mnist.MNIST._replace(mirrors=(f"{here}none/", here), sha256=tuple(digests))
        patched.setattr(mnist, "MNIST", small)
        patched.delenv("PELLUCID_OFFLINE")
        yield folder
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("no_data")
def test_download_into_the_cache(mirror, cache, patched):
    seen = set()
    loaded = Mnist().load(lambda what, done, total: seen.add(what))
    assert len(loaded.train) == 30
    assert "downloading mnist/train-images-idx3-ubyte.gz" in seen
    assert (cache / "data" / "mnist" / "t10k-labels-idx1-ubyte.gz").exists()
    patched.setenv("PELLUCID_OFFLINE", "1")
    assert len(Mnist().load().train) == 30


@pytest.mark.usefixtures("no_data")
def test_a_tampered_download_is_refused(mirror, cache):
    changed = bytearray(contents()["t10k-images-idx3-ubyte"])
    changed[100] ^= 1
    (mirror / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(changed)))
    with pytest.raises(DataNotFound) as error:
        Mnist().load()
    assert hashlib.sha256(changed).hexdigest() in str(error.value)
    assert "Ways out" in str(error.value)
    assert not (cache / "data" / "mnist" / "t10k-images-idx3-ubyte.gz").exists()


def test_sources_are_values_of_a_recipe():
    union = Mnist | FashionMnist | Cifar10 | Cifar100
    for source, name in (
        (Mnist(), "mnist"),
        (FashionMnist(), "fashion-mnist"),
        (Cifar10(), "cifar10"),
        (Cifar100(), "cifar100"),
    ):
        written = msgspec.to_builtins(source)
        assert written == {"name": name, "root": "", "validation": 0.1, "relabel": None}
        assert msgspec.convert(written, union) == source
        typed: DataSource = source
        assert (typed.validation, typed.test) == (0.1, 0.0)
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(written | {"validation": 1.0}, union)
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(written | {"rot": ""}, union)


def test_mnist_needs_no_pillow(tmp_path):
    write(tmp_path / "d" / "mnist")
    code = (
        "import sys; from pellucid.data.known import Mnist\n"
        "Mnist(root=sys.argv[1]).load(); print('PIL' in sys.modules, 'torchvision' in sys.modules)"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "d")]
    run = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("known", [mnist.MNIST, mnist.FASHION])
def test_the_pinned_digests_are_those_of_the_real_files(real_data, known):
    for file, sha256 in zip(mnist.FILES, known.sha256, strict=True):
        content = gzip.decompress((real_data / known.name / f"{file}.gz").read_bytes())
        assert hashlib.sha256(content).hexdigest() == sha256


def test_the_real_sets(real_data):
    for source in (Mnist(), FashionMnist()):
        loaded = source.load()
        assert (len(loaded.train), len(loaded.test)) == (60_000, 10_000)
        assert loaded.train.targets.bincount().min() > 5_000
    assert loaded.train.targets[:4].tolist() == [9, 0, 0, 3]


def test_the_real_cifar10_archive(real_data):
    first = Cifar10().load()
    assert (len(first.train), len(first.test)) == (50_000, 10_000)
    assert first.train.classes[0] == "airplane"
    assert first.train.targets.bincount().tolist() == [5_000] * 10
    assert first.test.targets.bincount().tolist() == [1_000] * 10
    assert first.train.images is first.test.images
    again = Cifar10().load()
    assert torch.equal(first.train.images, again.train.images)
