"""Decoding in child processes: the same pixels, and whatever happens to a child loses one file."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from pellucid.checks.data_check import check_data
from pellucid.data import decode as in_process
from pellucid.data import worker
from pellucid.data.child import LIMITS, Child
from pellucid.data.decode import NotAnImage
from pellucid.data.folder import Folder
from pellucid.data.measured import measured
from pellucid.data.workers import Workers, _measured, _pixels
from pellucid.errors import LostProcess, UnreadableImages
from tests.data.hostile import cases, encoded, originals

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

SMALL = encoded(Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)), "PNG")


@pytest.fixture
def workers() -> Iterator[Workers]:
    with Workers() as found:
        yield found


def children() -> set[int]:
    """The processes that this one has started and not yet waited for."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        found |= set(map(int, (task / "children").read_text().split()))
    return found


def decoders() -> list[int]:
    """Those of `children` that decode."""
    name = worker.__name__.encode()
    return [pid for pid in children() if name in Path(f"/proc/{pid}/cmdline").read_bytes()]


def outcome(ask: Callable[..., object], *arguments: object) -> object:
    try:
        return ask(*arguments)
    except NotAnImage as error:
        return str(error)


@pytest.mark.filterwarnings("ignore")  # what Pillow warns of, children do not show
def test_children_give_what_the_decoder_gives(workers: Workers) -> None:
    """Bit for bit, over the hostile files too; no child is lost over them."""
    seen = 0
    for case in cases()[::4]:
        probed = outcome(in_process.probe, case.data)
        assert outcome(workers.probe, case.data) == probed, case.name
        for channels, size in ((3, 16), (1, None)):
            expected = outcome(in_process.decode, case.data, channels, size)
            found = outcome(workers.decode, case.data, channels, size)
            assert type(found) is type(expected), (case.name, found, expected)
            np.testing.assert_array_equal(np.asarray(found), np.asarray(expected), case.name)
            seen += isinstance(found, np.ndarray)
        looked = outcome(in_process.picture, case.data)
        known = looked if isinstance(looked, str) else measured(looked, seen % 2 == 0)
        assert outcome(workers.measure, case.data, seen % 2 == 0) == known, case.name
    assert seen > 20
    assert len(decoders()) == 1


@pytest.mark.slow
def test_ten_thousand_mutated_files(workers: Workers) -> None:
    """Each is an image or refused within the time; the parent and its answers stay in step."""
    random = np.random.default_rng(7)
    files = list(originals(random).values())
    check = workers.decode(SMALL, 3, None)
    for number in range(10_000):
        data = bytearray(files[number % len(files)])
        for place in random.integers(0, len(data), random.integers(1, 9)):
            data[place] = random.integers(256)
        began = time.monotonic()
        found = outcome(workers.decode, bytes(data), 3, 16)
        assert time.monotonic() - began < 10
        assert isinstance(found, str) or found.shape == (3, 16, 16)  # type: ignore[attr-defined]
        if number % 500 == 0:
            np.testing.assert_array_equal(workers.decode(SMALL, 3, None), check)


def test_what_a_network_gets(workers: Workers) -> None:
    expected = in_process.decode(SMALL, 3, None)
    np.testing.assert_array_equal(workers.fitted(SMALL, (3, 4, 4)), expected)
    resized = in_process.decode(SMALL, 1, 2)
    np.testing.assert_array_equal(workers.fitted(SMALL, (1, 2, 2)), resized)
    oblong = encoded(Image.new("RGB", (6, 3), "red"), "PNG")
    assert workers.fitted(oblong, (3, 3, 6)).shape == (3, 3, 6)
    with pytest.raises(NotAnImage, match="it must be 3x6 pixels"):
        workers.fitted(oblong, (3, 6, 3))


def with_its_child(workers: Workers, do: Callable[[int], None], data: bytes = SMALL) -> object:
    """Return what becomes of a file while its child is stopped and something is done to it."""
    workers.probe(SMALL)
    (pid,) = decoders()
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(outcome, workers.decode, data, 3, None)
        do(pid)
        try:
            found = answer.result(30)
        finally:
            if pid in children():
                os.kill(pid, signal.SIGKILL)
    assert pid not in children()
    return found


def test_a_killed_child_loses_its_file_only(workers: Workers) -> None:
    found = with_its_child(workers, lambda pid: os.kill(pid, signal.SIGKILL))
    assert found == "the process that decoded it was killed (SIGKILL); memory may have run out"
    expected = in_process.decode(SMALL, 3, None)
    np.testing.assert_array_equal(workers.decode(SMALL, 3, None), expected)
    assert len(decoders()) == 1


def test_a_crash_names_its_signal(workers: Workers) -> None:
    def crash(pid: int) -> None:
        os.kill(pid, signal.SIGSEGV)
        os.kill(pid, signal.SIGCONT)

    assert with_its_child(workers, crash) == "it crashed its decoder (SIGSEGV)"
    assert workers.probe(SMALL)[:2] == (4, 4)


def test_no_answer_is_waited_for_for_ever() -> None:
    with Workers(LIMITS._replace(patience=0.5)) as workers:
        found = with_its_child(workers, lambda pid: None)
        assert found == "its decoding gave no answer within 0.5 s"
        large = bytes(10_000_000)  # more than a pipe holds: the request itself gets stuck
        found = with_its_child(workers, lambda pid: None, large)
        assert found == "its decoding gave no answer within 0.5 s"
        assert workers.probe(SMALL)[:2] == (4, 4)


@pytest.mark.parametrize(("size", "seconds"), [((4000, 4000), "0.05"), ((7000, 7000), "0.2")])
def test_a_slow_file_ends_at_its_processor_time(size: tuple[int, int], seconds: str) -> None:
    """Big images have four times as much."""
    file = encoded(Image.new("RGB", size, "red"), "PNG", compress_level=1)
    with Workers(LIMITS._replace(seconds=0.05)) as workers:
        for _ in range(2):
            found = outcome(workers.decode, file, 3, 16)
            assert found == f"its decoding takes more than {seconds} s of processor time"
        # the time is counted for each file anew
        for _ in range(300):
            assert workers.measure(SMALL, False).size == (4, 4)
        assert len(decoders()) == 1


def test_memory_is_limited() -> None:
    data = encoded(Image.new("RGB", (5000, 4000), "red"), "PNG")
    with Workers(LIMITS._replace(memory=50 << 20)) as workers:
        for ask in (workers.decode, workers.decode):
            assert outcome(ask, data, 3, 16) == in_process.TOO_LARGE
        assert outcome(workers.measure, data, True) == in_process.TOO_LARGE
        assert workers.probe(data)[:2] == (5000, 4000)
        assert len(decoders()) == 1
    with Workers() as workers:
        assert workers.decode(data, 3, 2)[0].tolist() == [[255, 255], [255, 255]]


def test_big_images_are_decoded_one_at_a_time(workers: Workers) -> None:
    class Counted:
        def __init__(self) -> None:
            self.lock, self.inside, self.most, self.times = threading.Lock(), 0, 0, 0

        def __enter__(self) -> None:
            self.lock.acquire()
            self.inside += 1
            self.times += 1
            self.most = max(self.most, self.inside)

        def __exit__(self, *_: object) -> None:
            self.inside -= 1
            self.lock.release()

    counted = Counted()
    workers._one_big = counted  # type: ignore[assignment]
    data = encoded(Image.new("1", (4100, 4000), 1), "PNG")
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda file: workers.decode(file, 1, 1), [data, SMALL, data, data]))
    assert [int(pixels[0, 0, 0]) for pixels in found][::2] == [255, 255]
    assert counted.times == 3
    assert counted.most == 1


def test_results_stay_in_order_and_errors_end_all() -> None:
    second_done = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert second_done.wait(20)
        if number == 1:
            second_done.set()
        if number == 40:
            raise KeyError(number)
        return number

    with Workers(count=3) as workers:
        assert list(workers.in_order(work, range(30))) == list(range(30))
        workers.probe(SMALL)
        with pytest.raises(KeyError):
            list(workers.in_order(work, range(1, 50)))
        assert decoders() == []
        with pytest.raises(LostProcess, match="were ended"):
            workers.probe(SMALL)


def test_files_keep_their_order_over_several_children(workers: Workers) -> None:
    files = [encoded(Image.new("L", (1, 1), number % 256), "PNG") for number in range(400)]
    workers.count = 3
    found = list(workers.each(lambda file: int(workers.decode(file, 1, None)[0, 0, 0]), files))
    assert found == [number % 256 for number in range(400)]


def plant(root: Path, count: int = 200) -> Path:
    for number in range(count):
        folder = root / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 255 - number, 7)).save(folder / f"{number:03}.png")
    return root


class KillsOne:
    """Progress that kills a child at its second report."""

    def __init__(self, what: str) -> None:
        self.what, self.reports = what, 0

    def __call__(self, what: str, done: int, total: int) -> None:
        self.reports += what == self.what
        if self.reports == 2 and what == self.what:
            self.reports += 1
            os.kill(decoders()[0], signal.SIGKILL)


def test_a_set_of_which_a_child_was_killed(tmp_path: Path, patched: pytest.MonkeyPatch) -> None:
    root = plant(tmp_path / "p", 600)
    with pytest.raises(UnreadableImages, match="SIGKILL") as caught:
        Folder(str(root), size=8).load(KillsOne("decoding images"))
    ((bad, reason),) = caught.value.files
    assert "killed (SIGKILL)" in reason
    whole = Folder(str(root), size=8).load()  # that was not cached
    assert bad in whole.train.files
    patched.setenv("PELLUCID_CACHE", str(tmp_path / "other"))
    some = Folder(str(root), size=8, skip_unreadable=True).load(KillsOne("decoding images"))
    (index,) = sorted(set(range(600)) - set(some.train.rows.tolist()))
    expected = whole.train.images.clone()
    expected[index] = 0
    assert torch.equal(some.train.images, expected)


def test_a_check_of_which_a_child_was_killed(tmp_path: Path) -> None:
    root = plant(tmp_path / "p", 600)
    whole = check_data(Folder(str(root)))
    report = check_data(Folder(str(root)), KillsOne("checking images"))
    (finding,) = [one for one in report.findings if one.name == "unreadable-files"]
    assert len(finding.items) == 1
    assert "SIGKILL" in finding.items[0]["reason"]
    assert report.counts.sum() == 599 == whole.counts.sum() - 1


def test_a_child_that_cannot_start_blames_no_file(tmp_path: Path) -> None:
    (tmp_path / "PIL").mkdir()
    (tmp_path / "PIL" / "__init__.py").write_text("raise ImportError('Pillow is broken')")
    with pytest.MonkeyPatch.context() as patch, Workers() as workers:
        patch.setenv("PYTHONPATH", str(tmp_path))
        with pytest.raises(LostProcess, match=r"did not start .*: ImportError: Pillow is broken"):
            workers.probe(SMALL)
    assert decoders() == []


def test_answers_without_sense_are_refused() -> None:
    good = measured(in_process.picture(SMALL), True)
    assert _measured(msgspec.msgpack.encode(good)) == good
    preview = good.preview
    assert preview is not None
    for wrong in (
        msgspec.structs.replace(good, small=b"few"),
        msgspec.structs.replace(good, digest=b"few"),
        msgspec.structs.replace(good, odd=("<script>",)),
        msgspec.structs.replace(good, size=(4, -1)),
        msgspec.structs.replace(good, preview=msgspec.structs.replace(preview, width=5)),
    ):
        with pytest.raises((ValueError, msgspec.MsgspecError)):
            _measured(msgspec.msgpack.encode(wrong))
    with pytest.raises(msgspec.MsgspecError):
        _measured(b"\xc1")
    content = bytes(48)
    assert _pixels(3, 4, worker.SHAPE.pack(3, 4, 4) + content).shape == (3, 4, 4)
    assert _pixels(3, None, worker.SHAPE.pack(3, 2, 8) + content).shape == (3, 2, 8)
    for shape in ((3, 4, 5), (3, 1, 1), (1, 4, 12), (3, 2, 8)):
        with pytest.raises(ValueError, match="shape"):
            _pixels(3, 4 if shape != (3, 1, 1) else None, worker.SHAPE.pack(*shape) + content)


@pytest.mark.parametrize("said", [b"\xff" * 9, worker.ANSWER.pack(9, 0), worker.ANSWER.pack(2, 3)])
def test_a_child_that_talks_nonsense_is_replaced(said: bytes, workers: Workers) -> None:
    """A pipe of our own stands for its answers, in which somebody has written."""
    workers.probe(SMALL)
    (one,) = workers._all
    assert isinstance(one, Child)
    assert one.process.stdout is not None
    one.process.stdout.close()
    one.process.stdout = io.BytesIO(said + b"abc")
    found = outcome(workers.decode, SMALL, 3, None)
    assert found == "the process that decoded it gave an answer without sense"
    assert workers.decode(SMALL, 3, None).shape == (3, 4, 4)


def test_the_limits_of_a_child(workers: Workers) -> None:
    workers.probe(SMALL)
    (pid,) = decoders()
    rows = Path(f"/proc/{pid}/limits").read_text().splitlines()
    limits = {row[:26].strip(): row[26:].split()[0] for row in rows}
    assert limits["Max core file size"] == "0"
    assert limits["Max file size"] == "0"
    assert limits["Max processes"] == "0"
    assert 2 << 30 < int(limits["Max address space"]) < 5 << 30
    assert Path(f"/proc/{pid}/status").read_text().split("Threads:")[1].split()[0] == "1"
    code = "from pellucid.limits import leave_network; print(leave_network())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = os.readlink("/proc/self/ns/net")
    assert (os.readlink(f"/proc/{pid}/ns/net") != here) == (done.stdout == "True\n")


def test_a_child_loads_no_torch() -> None:
    code = (
        "import sys, pellucid.data.worker as w; w.decode.load_plugins();"
        "print([m for m in ('torch', 'matplotlib', 'scipy', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


PARENT = """
import os, signal, sys, time
from pathlib import Path
from pellucid.data.folder import Folder
from pellucid.data.worker import __name__ as name

def progress(what, done, total):
    if what == "decoding images" and done:
        tasks = Path("/proc/self/task").iterdir()
        pids = [pid for task in tasks for pid in (task / "children").read_text().split()]
        print(*[p for p in pids if name.encode() in Path(f"/proc/{p}/cmdline").read_bytes()])
        sys.stdout.flush()
        while True:  # a signal that comes just before a read without end would wait for its end
            time.sleep(0.01)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
Folder(sys.argv[1], size=8).load(progress)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_child_outlives_its_parent(how: signal.Signals, tmp_path: Path) -> None:
    root = plant(tmp_path / "p", 600)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        pids = parent.stdout.readline().split()
        assert pids
        os.killpg(parent.pid, how)  # as Ctrl-C in a terminal does
        errors = parent.stderr.read()
        parent.wait()
    assert parent.returncode in (-how, 128 + how)
    if how == signal.SIGINT:
        assert errors.rstrip().endswith(b"KeyboardInterrupt")
    until = time.monotonic() + 20
    while any(alive(int(pid)) for pid in pids):
        assert time.monotonic() < until, "a child is left behind"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
