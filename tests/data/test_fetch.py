"""Downloads, from a real server on this machine."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pellucid.data import fetch as module
from pellucid.data.fetch import fetch
from pellucid.errors import DataNotFound

CONTENT = bytes(range(256)) * 3000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path == "/missing":
            self.send_error(404)
            return
        body = {
            "/good": CONTENT,
            "/slow": CONTENT,
            "/cut": CONTENT,
            "/changed": CONTENT[:-1] + b"x",
            "/packed": gzip.compress(CONTENT, mtime=1),
            "/packed-cut": gzip.compress(CONTENT, mtime=1)[:-20],
        }[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path == "/slow":
            time.sleep(0.5)
        self.wfile.write(body[: len(body) // 2] if self.path == "/cut" else body)

    def log_message(self, format, *args):
        pass


@pytest.fixture
def server(patched):
    patched.delenv("PELLUCID_OFFLINE")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = False  # so that leaving waits for each answer
        server.asked = []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "deep" / "er" / "file"


def left(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir() if path.suffix != ".lock")


def test_a_good_file_arrives_whole(server, target):
    seen = []
    path = fetch("it", [f"{server.url}/good"], DIGEST, target, lambda *step: seen.append(step))
    assert path == target
    assert target.read_bytes() == CONTENT
    assert left(target) == ["file"]
    assert seen[-1] == ("downloading it", len(CONTENT), len(CONTENT))
    assert fetch("it", [f"{server.url}/good"], DIGEST, target) == target
    assert server.asked == ["/good"]


def test_a_wrong_digest_removes_the_file_and_names_both(server, target):
    with pytest.raises(DataNotFound) as error:
        fetch("it", [f"{server.url}/changed"], DIGEST, target)
    found = hashlib.sha256(CONTENT[:-1] + b"x").hexdigest()
    assert f"the SHA-256 is {found}, which should be {DIGEST}" in str(error.value)
    assert left(target) == []


def test_truncated_and_missing(server, target):
    with pytest.raises(DataNotFound) as error:
        fetch("it", [f"{server.url}/cut", f"{server.url}/missing"], DIGEST, target)
    assert f"{server.url}/cut: ended after 384,000 of 768,000 bytes" in str(error.value)
    assert f"{server.url}/missing: 404 Not Found" in str(error.value)
    assert left(target) == []


def test_the_next_mirror_is_tried(server, target):
    urls = ["http://127.0.0.1:9/x", *(f"{server.url}/{name}" for name in ("missing", "cut"))]
    urls += [f"{server.url}/changed", f"{server.url}/good", f"{server.url}/slow"]
    fetch("it", urls, DIGEST, target)
    assert target.read_bytes() == CONTENT
    assert server.asked == ["/missing", "/cut", "/changed", "/good"]


def test_the_digest_may_be_of_the_unpacked_content(server, target):
    fetch("it", [f"{server.url}/packed"], DIGEST, target, gzipped=True)
    assert gzip.decompress(target.read_bytes()) == CONTENT
    target.unlink()
    with pytest.raises(DataNotFound, match="packed-cut: damaged"):
        fetch("it", [f"{server.url}/packed-cut"], DIGEST, target, gzipped=True)
    with pytest.raises(DataNotFound, match="good: damaged .*[Nn]ot a gzipped file"):
        fetch("it", [f"{server.url}/good"], DIGEST, target, gzipped=True)


def test_silence_ends_in_an_error(server, target, patched):
    patched.setattr(module, "TIMEOUT_SECONDS", 0.1)
    with pytest.raises(DataNotFound, match="timed out"):
        fetch("it", [f"{server.url}/slow"], DIGEST, target)


def test_what_never_ends_is_cut_off(server, target, patched):
    patched.setattr(module, "MAX_BYTES", 1000)
    with pytest.raises(DataNotFound, match="sends more than 1,000 bytes"):
        fetch("it", [f"{server.url}/good"], DIGEST, target)
    assert left(target) == []


def test_offline_asks_nobody(server, target, patched):
    patched.setenv("PELLUCID_OFFLINE", "1")
    with pytest.raises(DataNotFound, match="it was not downloaded: PELLUCID_OFFLINE is set"):
        fetch("it", [f"{server.url}/good"], DIGEST, target)
    assert server.asked == []
    patched.setenv("PELLUCID_OFFLINE", "0")
    fetch("it", [f"{server.url}/good"], DIGEST, target)


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataNotFound, match="cannot be written"):
        fetch("it", [f"{server.url}/good"], DIGEST, tmp_path / "file" / "it")


def test_two_processes_download_once(server, target):
    code = (
        "import sys; from pathlib import Path; from pellucid.data.fetch import fetch\n"
        "fetch('it', [sys.argv[1]], sys.argv[2], Path(sys.argv[3]))\n"
    )
    arguments = [f"{server.url}/slow", DIGEST, str(target)]
    runs = [subprocess.Popen([sys.executable, "-c", code, *arguments]) for _ in range(2)]
    assert [run.wait(timeout=60) for run in runs] == [0, 0]
    assert server.asked == ["/slow"]
    assert target.read_bytes() == CONTENT
