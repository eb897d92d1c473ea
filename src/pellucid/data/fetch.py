"""Downloads: several mirrors, one digest, whole files only."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import filelock

from pellucid.errors import DataNotFound
from pellucid.values import Progress, no_progress

CHUNK = 1 << 18
TIMEOUT_SECONDS = 20
"""Of silence, not of the whole download."""
MAX_BYTES = 1 << 30


class _Failed(Exception):
    """A mirror did not bring the file; the text says why."""


def fetch(
    name: str,
    urls: Sequence[str],
    sha256: str,
    target: Path,
    progress: Progress = no_progress,
    *,
    gzipped: bool = False,
) -> Path:
    """Download a file to `target`, unless it is there.

    It is written beside `target` and moved once its digest is right, so `target` is never half a
    file. Two processes that want it download it once.

    Args:
        name: what a person calls the file.
        urls: mirrors, tried in this order.
        sha256: hexadecimal SHA-256 of the content.
        target: where the file is to lie. Its folder is made.
        progress: told the bytes.
        gzipped: True if `sha256` is of the unpacked content; how it was packed is then free.
    Returns:
        `target`.
    Raises:
        DataNotFound: with what happened at each mirror, or because PELLUCID_OFFLINE is set.

    >>> fetch("here", [], "", Path(__file__)).name
    'fetch.py'
    """
    if target.exists():
        return target
    if os.environ.get("PELLUCID_OFFLINE", "0") not in ("", "0"):
        raise DataNotFound(f"{name} was not downloaded: PELLUCID_OFFLINE is set.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{target}.lock"):
            if not target.exists():  # it may have come while we waited
                _from_mirrors(name, urls, sha256, target, progress, gzipped)
    except OSError as error:
        raise DataNotFound(
            f"{name} was not downloaded: {target.parent} cannot be written "
            f"({error.strerror or error})."
        ) from None
    return target


def _from_mirrors(
    name: str, urls: Sequence[str], sha256: str, target: Path, progress: Progress, gzipped: bool
) -> None:
    partial = target.with_name(f"{target.name}.partial")
    failures = []
    for url in urls:
        try:
            _download(url, partial, name, progress)
            _verify(partial, sha256, gzipped)
        except _Failed as error:
            failures.append(f"\n  {url}: {error}")
        else:
            partial.replace(target)
            return
        finally:
            partial.unlink(missing_ok=True)
    raise DataNotFound(f"{name} was not downloaded:{''.join(failures)}")


def _download(url: str, partial: Path, name: str, progress: Progress) -> None:
    with partial.open("wb") as file:
        for piece, total in _pieces(url):
            file.write(piece)  # an error here is that of the disk: no other mirror helps
            progress(f"downloading {name}", file.tell(), max(total, file.tell()))
        file.flush()
        os.fsync(file.fileno())


def _pieces(url: str) -> Iterator[tuple[bytes, int]]:
    """Yield what the server sends, each piece with the number of bytes it announced, or 0."""
    request = urllib.request.Request(url, headers={"User-Agent": "pellucid"})
    done = 0
    try:
        with closing(urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)) as answer:
            total = int(answer.headers.get("Content-Length") or 0)
            while piece := answer.read(CHUNK):
                done += len(piece)
                if done > MAX_BYTES:
                    raise _Failed(f"sends more than {MAX_BYTES:,} bytes")
                yield piece, total
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        code = f"{error.code} " if isinstance(error, urllib.error.HTTPError) else ""
        raise _Failed(f"{code}{reason}") from None
    if done < total:
        raise _Failed(f"ended after {done:,} of {total:,} bytes")


def _verify(path: Path, sha256: str, gzipped: bool) -> None:
    try:
        with gzip.open(path) if gzipped else path.open("rb") as file:
            hasher = hashlib.sha256()
            size = 0
            while piece := file.read(CHUNK):
                hasher.update(piece)
                size += len(piece)
                if size > MAX_BYTES:
                    raise _Failed(f"unpacks to more than {MAX_BYTES:,} bytes")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _Failed(f"damaged ({error})") from None
    if hasher.hexdigest() != sha256:
        raise _Failed(
            f"the SHA-256 is {hasher.hexdigest()}, which should be {sha256}; the file was removed"
        )
