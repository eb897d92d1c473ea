"""One piece of work at a time, in order; what fails is raised; nobody is kept from leaving."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator

import pytest

from pellucid.runs.writer import Writer
from tests.runs.held import when_main_waits


@pytest.fixture
def writer() -> Iterator[Writer]:
    writer = Writer()
    yield writer
    writer.close()


def test_work_is_done_elsewhere_while_this_thread_goes_on(writer: Writer) -> None:
    gone_on, where = threading.Event(), []

    def work() -> None:
        assert gone_on.wait(60)
        where.append(threading.current_thread())

    writer.begin(work)
    gone_on.set()
    writer.wait()
    assert where != [threading.main_thread()]
    writer.wait()  # nothing is left to wait for
    writer.begin(lambda: where.append(threading.current_thread()))
    writer.wait()
    assert len(where) == 2


def test_there_is_no_queue(writer: Writer) -> None:
    free = threading.Event()
    writer.begin(lambda: assert_(free.wait(60)))
    with pytest.raises(AssertionError, match="one at a time"):
        writer.begin(lambda: None)
    free.set()
    writer.wait()


def ctrl_c() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def assert_(true: bool) -> None:
    assert true


@pytest.mark.parametrize("kind", [OSError, ValueError, KeyboardInterrupt, SystemExit])
def test_what_fails_is_raised_where_it_is_waited_for_once(
    writer: Writer, kind: type[BaseException]
) -> None:
    def fail() -> None:
        raise kind("no more")

    writer.begin(fail)
    with pytest.raises(kind, match="no more"):
        writer.wait()
    writer.wait()
    writer.begin(lambda: None)
    writer.wait()


def test_an_interrupted_wait_is_not_taken_up_again(writer: Writer) -> None:
    """The second Ctrl-C leaves at once, though the disk hangs."""
    free = threading.Event()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with when_main_waits(ctrl_c):
        writer.begin(lambda: assert_(free.wait(60)))
        with pytest.raises(KeyboardInterrupt):
            writer.wait()
        writer.wait()  # though the work is not done
    assert not free.is_set()
    free.set()
    signal.signal(signal.SIGINT, before)


class Large:
    """Something that takes its time to go."""

    def __call__(self) -> None:
        pass

    def __del__(self) -> None:
        time.sleep(0.2)


def test_what_was_done_does_not_stay_in_memory(writer: Writer) -> None:
    large = Large()
    gone = weakref.ref(large)
    writer.begin(large)
    del large
    writer.wait()
    until = time.monotonic() + 30
    while gone() is not None:  # the thread lets go of it, then waits for more
        assert time.monotonic() < until
        time.sleep(0.001)


def test_closed_it_has_let_go_and_its_thread_has_ended() -> None:
    writer, large = Writer(), Large()
    gone = weakref.ref(large)
    writer.begin(large)
    del large
    writer.wait()
    writer.close()
    assert gone() is None
    assert not [thread for thread in threading.enumerate() if thread.name == "writer"]


BUSY = """
import signal, threading, torch
from pellucid.runs.writer import Writer

def work():  # in and out of PyTorch, for ever: where Python's own end aborts
    weights = torch.randn(100, 100)
    begun.set()
    while True:
        weights.clone()

begun, writer = threading.Event(), Writer()
writer.begin(work)
begun.wait()
threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
try:
    writer.wait()
except KeyboardInterrupt:
    writer.close()
    print("left")
"""


HEARD = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler){BUSY}"


def test_after_a_second_ctrl_c_the_process_ends_so_though_its_output_is_closed() -> None:
    code = f"{HEARD}    import sys; sys.stdout.close()"  # a flush fails from here on
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert done.returncode == 130


def test_after_a_second_ctrl_c_the_process_ends_at_once_and_in_order() -> None:
    done = subprocess.run([sys.executable, "-c", HEARD], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "left\n", "")


def test_work_that_hangs_does_not_keep_the_process() -> None:
    code = (
        "import threading; from pellucid.runs.writer import Writer; "
        "Writer().begin(threading.Event().wait); print('left')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "left\n", "")
