"""CIFAR: the closed reader of its pickles, and its layouts."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import os
import pickle  # noqa: TID251 - writes what the closed reader is to read, and to refuse
import pickletools
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from pellucid.data.cifar_binary import read_batch, read_plain
from pellucid.data.known import Cifar10, Cifar100
from pellucid.errors import BadData, DataNotFound

pytestmark = pytest.mark.usefixtures("no_data")


def python2(value) -> bytes:
    """The pickle of protocol 2 that Python 2 writes, as the original files hold it."""

    def text(item: bytes) -> bytes:
        if len(item) < 256:
            return b"U" + bytes([len(item)]) + item
        return b"T" + struct.pack("<i", len(item)) + item

    def put(item) -> bytes:
        if item is None:
            return b"N"
        if isinstance(item, int):
            return b"K" + bytes([item]) if 0 <= item < 256 else b"J" + struct.pack("<i", item)
        if isinstance(item, str):
            return text(item.encode("latin-1"))
        if isinstance(item, bytes):
            return text(item)
        if isinstance(item, list):
            return b"](" + b"".join(map(put, item)) + b"e"
        if isinstance(item, dict):
            return b"}(" + b"".join(put(k) + put(v) for k, v in item.items()) + b"u"
        dtype = b"cnumpy\ndtype\n" + text(b"u1") + b"K\0K\1\x87R(K\3" + text(b"|") + b"NNN"
        dtype += put(-1) * 2 + b"K\0tb"
        shape = put(item.shape[0]) + put(item.shape[1]) + b"\x86"
        return (
            b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\0\x85"
            + text(b"b") + b"\x87Rq\x03(K\1" + shape + dtype
            + b"\x89" + text(item.tobytes()) + b"tb"
        )  # fmt: skip

    return b"\x80\x02" + put(value) + b"."


def batch(seed: int, count: int, classes: int, keys=("labels",)) -> dict:
    random = np.random.default_rng(seed)
    data = random.integers(0, 256, (count, 3072), dtype=np.uint8)
    labels = {key: [int(n) % classes for n in range(count)] for key in keys}
    files = [f"image_{seed}_{number}.png" for number in range(count)]
    return {"batch_label": f"batch {seed}", **labels, "data": data, "filenames": files}


def same(one, two) -> bool:
    if isinstance(one, dict):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in one)
    if isinstance(one, np.ndarray):
        return one.dtype == two.dtype and np.array_equal(one, two)
    return type(one) is type(two) and one == two


WRITERS = {"python2": python2} | {
    f"protocol{number}": lambda value, number=number: pickle.dumps(value, number)
    for number in (2, 3, 4, 5)
}


@pytest.mark.parametrize("name", WRITERS)
def test_reads_as_pickle_does(name):
    value = batch(3, 40, 10) | {
        "number": 10_000,
        "minus": -7,
        "none": None,
        "yes": True,
        "no": False,
    }
    content = WRITERS[name](value)
    expected = pickle.loads(content, encoding="bytes")
    assert same(read_plain(content, "x"), expected)
    assert same(expected["data" if name != "python2" else b"data"], value["data"])
    assert set(read_batch(content, "x")) == set(value)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_arrays_in_column_order_and_bytes(protocol):
    value = {"a": np.asfortranarray(np.arange(12, dtype=np.uint8).reshape(3, 4)), "b": b"\xff\0"}
    content = pickle.dumps(value, protocol)
    assert same(read_plain(content, "x"), value)


def test_the_old_and_new_home_of_numpys_names():
    content = pickle.dumps(batch(1, 2, 2), 2)
    old = content.replace(b"numpy._core.", b"numpy.core.")
    new = content.replace(b"numpy.core.", b"numpy._core.")
    assert old != new
    assert same(read_plain(old, "x"), read_plain(new, "x"))


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


class State:
    def __init__(self):
        self.x = 1


def hostile(trace: str) -> dict:
    command = Call(os.system, f"touch {trace}")
    data = np.zeros((1, 3072), np.uint8)
    return {
        "call": command,
        "eval": Call(eval, f"open({trace!r}, 'w')"),
        "in a dictionary": {"data": data, "labels": command},
        "in a list": {"data": data, "labels": [0, [command]]},
        "as a key": {Call(codecs.encode, "x", "rot13"): 1},
        "other codec": {"x": Call(codecs.encode, "x", "utf-7")},
        "open": {"x": Call(open, trace, "w")},
        "getattr": {"x": Call(getattr, os, "system")}
        if False
        else {"x": Call(getattr, "", "join")},
        "a function": {"x": os.system},
        "a class": {"x": np.ndarray},
        "an object": {"x": State()},
        "objects array": {"x": np.array([State()], dtype=object)},
        "floats": {"x": np.zeros(3)},
        "wide integers": {"x": np.zeros(3, np.int64)},
        "float": {"x": 1.5},
        "set": {"x": {1}},
        "frozenset": {"x": frozenset([1])},
        "tuple": {"x": (1, 2)},
        "complex": {"x": 1j},
    }


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", hostile("x"))
def test_hostile_files_are_refused_and_nothing_runs(name, protocol, tmp_path):
    trace = tmp_path / "trace"
    content = pickle.dumps(hostile(str(trace))[name], protocol)
    with pytest.raises(BadData, match="evil is refused: it holds .* Nothing in it was executed"):
        read_batch(content, "evil")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"cos\nsystem\n(S'touch trace'\ntR.", "the name os.system"),
        (b"\x80\x02cposix\nsystem\nU\x02ls\x85R.", "the name posix.system"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "the name posix.system"),
        (b"\x80\x04\x8c\x05numpy\x8c\x04f2py\x93.", "the name numpy.f2py"),
        (b"\x80\x02(ios\nsystem\n.", "the instruction INST"),
        (b"\x80\x02(cos\nsystem\no.", "the name os.system"),
        (b"\x80\x02Pid\n.", "the instruction PERSID"),
        (b"\x80\x02\x82\x01.", "the instruction EXT1"),
        (b"\x80\x02}cnumpy\ndtype\nU\x02u1\x85R}b.", "a value that is a type"),
        (b"\x80\x02]}U\x01aK\x01sb.", "a state for a list"),
    ],
)  # fmt: skip
def test_hostile_instructions_are_named(content, text):
    with pytest.raises(BadData, match=text):
        read_plain(content, "evil")


def test_damaged_files_are_said_to_be():
    content = python2(batch(1, 4, 2))
    for cut in (0, 1, 10, 100, len(content) // 2, len(content) - 1):
        with pytest.raises(BadData, match="x is (damaged|no CIFAR)"):
            read_batch(content[:cut], "x")
    for wrong in (b"\x80\x02K\x01.", pickle.dumps([1], 2)):
        with pytest.raises(BadData, match="no dictionary"):
            read_batch(wrong, "x")
    with pytest.raises(BadData, match="damaged"):  # a shape that is not that of the bytes
        read_batch(content.replace(b"K\x04J\0\x0c\0\0\x86", b"K\x05J\0\x0c\0\0\x86"), "x")


def test_mutated_files_raise_nothing_else():
    content = python2(batch(1, 2, 2))
    random = np.random.default_rng(0)
    spots = [position for _, _, position in pickletools.genops(content)]
    for _ in range(1500):
        broken = bytearray(content)
        for spot in random.choice(spots, 3):
            broken[min(spot + random.integers(2), len(broken) - 1)] = random.integers(256)
        with contextlib.suppress(BadData):
            read_batch(bytes(broken), "x")


def write_cifar10(folder: Path, write=python2, count: int = 20) -> Path:
    folder.mkdir(parents=True)
    for number, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        (folder / name).write_bytes(write(batch(number, count, 10)))
    names = [f"kind{number}" for number in range(10)]
    (folder / "batches.meta").write_bytes(write({"label_names": names, "num_vis": 3072}))
    return folder


def write_cifar100(folder: Path, write=python2) -> Path:
    folder.mkdir(parents=True)
    for number, name in enumerate(("train", "test")):
        keys = ("coarse_labels", "fine_labels")
        (folder / name).write_bytes(write(batch(number, 200, 100, keys)))
    names = [f"fine{number}" for number in range(100)]
    (folder / "meta").write_bytes(write({"fine_label_names": names, "coarse_label_names": ["x"]}))
    return folder


def pack(folder: Path, archive: Path) -> None:
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, folder.name)


def check_cifar10(loaded) -> None:
    assert (len(loaded.train), len(loaded.test), loaded.validation) == (100, 20, None)
    assert loaded.train.classes == tuple(f"kind{number}" for number in range(10))
    assert (loaded.train.name, loaded.test.name) == ("cifar10/train", "cifar10/test")
    expected = batch(2, 20, 10)["data"].reshape(-1, 3, 32, 32)
    np.testing.assert_array_equal(loaded.train.images[40:60].numpy(), expected)
    assert loaded.train.targets[:12].tolist() == [*range(10), 0, 1]
    assert loaded.train.file(41) == "image_2_1.png"
    assert loaded.notes == ()


@pytest.mark.parametrize("name", WRITERS)
def test_cifar10_from_a_folder(tmp_path, name):
    write_cifar10(tmp_path / "d" / "cifar-10-batches-py", WRITERS[name])
    source = Cifar10(root=str(tmp_path / "d"))
    check_cifar10(source.load())
    assert (source.validation, source.test) == (0.1, 0.0)


def test_cifar10_from_the_archive_without_unpacking(tmp_path, patched):
    (tmp_path / "d").mkdir()
    archive = tmp_path / "d" / "cifar-10-python.tar.gz"
    pack(write_cifar10(tmp_path / "x" / "cifar-10-batches-py"), archive)
    patched.setenv("PELLUCID_DATA", str(tmp_path / "d"))
    check_cifar10(Cifar10().load())
    assert [path.name for path in (tmp_path / "d").iterdir()] == [archive.name]


def test_cifar100_has_its_fine_labels(tmp_path):
    write_cifar100(tmp_path / "d" / "cifar-100-python")
    loaded = Cifar100(root=str(tmp_path / "d")).load()
    assert loaded.train.classes[99] == "fine99"
    assert loaded.train.targets[:3].tolist() == [0, 1, 2]
    assert loaded.train.targets.max() == 99
    pack(tmp_path / "d" / "cifar-100-python", tmp_path / "cifar-100-python.tar.gz")
    again = Cifar100(root=str(tmp_path)).load()
    assert torch.equal(again.test.images, loaded.test.images)


@pytest.mark.parametrize("folder", ["cifar10", "cifar10-jpg"])
def test_cifar10_from_an_image_folder(tmp_path, plant, folder):
    counts = {f"{part}/{name}": 3 for part in ("train", "test") for name in ("cat", "dog")}
    plant(tmp_path / "d" / folder, counts, size=32)
    loaded = Cifar10(root=str(tmp_path / "d")).load()
    assert loaded.train.shape == (3, 32, 32)
    assert (loaded.train.name, loaded.train.file(0)) == ("cifar10/train", "train/cat/00.png")
    assert loaded.notes == ()  # PNG is the original


@pytest.mark.parametrize("lead", [".", "cifar10"])
def test_cifar10_from_an_archive_of_images(tmp_path, picture, lead):
    (tmp_path / "d").mkdir()
    with tarfile.open(tmp_path / "d" / "cifar10-jpg.tar.gz", "w:gz") as archive:
        for number, part in enumerate(["train", "test"] * 4):
            file = io.BytesIO()
            picture(number, 32, 32).save(file, "JPEG")
            member = tarfile.TarInfo(f"{lead}/{part}/{'dog' if number < 4 else 'cat'}/{number}.jpg")
            member.size = file.tell()
            file.seek(0)
            archive.addfile(member, file)
        archive.addfile(tarfile.TarInfo(f"{lead}/README"), io.BytesIO())
        archive.addfile(tarfile.TarInfo(f"{lead}/train/dog/._junk"), io.BytesIO())
    for _ in range(2):
        loaded = Cifar10(root=str(tmp_path / "d")).load()
        assert (len(loaded.train), len(loaded.test)) == (4, 4)
        assert loaded.train.classes == ("cat", "dog")
        files = [loaded.train.file(index) for index in range(4)]
        assert files == [f"train/{name}.jpg" for name in ("cat/4", "cat/6", "dog/0", "dog/2")]
        assert "compressed as JPEG" in loaded.notes[-1]


def member(name: str, type: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = type
    info.linkname = "/etc/hostname"
    return info


@pytest.mark.parametrize(
    ("info", "text"),
    [
        (member("train/a/x", tarfile.SYMTYPE), "is a link or device"),
        (member("train/a/x", tarfile.LNKTYPE), "is a link or device"),
        (member("train/a/x", tarfile.FIFOTYPE), "is a link or device"),
        (member("train/a/x", tarfile.CHRTYPE), "is a link or device"),
        (member("/train/a/x"), "leads out of the archive"),
        (member("../train/a/x"), "leads out of the archive"),
        (member("train/../../x"), "leads out of the archive"),
    ],
)
def test_hostile_archives_are_refused(tmp_path, info, text):
    with tarfile.open(tmp_path / "cifar10-jpg.tar.gz", "w:gz") as archive:
        archive.addfile(info)
    with pytest.raises(BadData, match=text) as error:
        Cifar10(root=str(tmp_path)).load()
    assert info.name in str(error.value)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_damaged_archives(tmp_path, share):
    (tmp_path / "d").mkdir()
    archive = tmp_path / "d" / "cifar-10-python.tar.gz"
    pack(write_cifar10(tmp_path / "x" / "cifar-10-batches-py"), archive)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BadData, match=r"cifar-10-python.tar.gz is damaged"):
        Cifar10(root=str(tmp_path / "d")).load()
    archive.write_bytes(gzip.compress(gzip.decompress(content)[:-200_000]))
    with pytest.raises(BadData, match=r"damaged|lacks"):
        Cifar10(root=str(tmp_path / "d")).load()


def test_incomplete_and_inconsistent_files(tmp_path):
    folder = write_cifar10(tmp_path / "cifar-10-batches-py")
    good = (folder / "test_batch").read_bytes()
    for broken, text in (
        (batch(1, 4, 10) | {"labels": [0, 1]}, "4 images without as many labels"),
        (batch(1, 4, 10) | {"labels": [0, 1, 2, 10]}, r"labels are not all in \[0, 10\)"),
        (batch(1, 4, 10) | {"labels": [0, 1, 2, "x"]}, r"labels are not all in"),
        (batch(1, 4, 10) | {"data": np.zeros((4, 7), np.uint8)}, "no array of shape"),
        ({"labels": []}, "no array of shape"),
    ):
        (folder / "test_batch").write_bytes(python2(broken))
        with pytest.raises(BadData, match=text) as error:
            Cifar10(root=str(tmp_path)).load()
        assert "test_batch" in str(error.value)
    (folder / "test_batch").unlink()
    with pytest.raises(DataNotFound, match="cifar-10-batches-py/ lacks test_batch"):
        Cifar10(root=str(tmp_path)).load()
    (folder / "test_batch").write_bytes(good)
    assert len(Cifar10(root=str(tmp_path)).load().train) == 100
