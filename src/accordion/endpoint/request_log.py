"""What was asked for, one JSON line a plan request, so that a policy can be made from demand. Nothing in it identifies a device.

A line holds names of packages, digests of their manifests, and numbers: no address, header, credential, reference, nor what the
device holds. Times are cut to the hour and limits rounded to a few digits, since an odd number can be as good as a name. Texts come
from the packages that are served, or are words that a request may choose from, so no request can write a line of its own making.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accordion.artifact.strict_json import dump
from accordion.errors import StorageError, UsageError
from accordion.planning import Plan, Request

__all__ = ["LOG_BYTES", "RequestLog"]

LOG = logging.getLogger("accordion.endpoint")
LOG_BYTES = 64 * 2**20  # of one file; with the one before it that is kept, twice as much
WAITING_LINES = 10_000  # a few seconds of requests at full load; what comes beyond is dropped, since answers come first
DIGITS = {"min_quality": 3, "confidence": 3}
OTHER_DIGITS = 2
ASKED = (
    "deadline_s",
    "throughput_bps",
    "rtt_s",
    "confidence",
    "min_quality",
    "max_bytes",
    "max_macs",
    "max_energy_j",
    "inferences",
    "radio",
    "prefer",
)


class RequestLog:
    """Appends to `path`; beyond `max_bytes` the file becomes `<path>.1`, instead of the one that had that name.

    `note` only puts a line into a queue, so an answer never waits for a disk. Several processes may write to one file. When the
    disk fails, lines are lost, and the endpoint's log says so once.

    Raises:
        UsageError: `path` can't be a file.
        StorageError: it can't be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = LOG_BYTES,
        clock: Callable[[], float] = time.time,
        dropped: Callable[[], None] = lambda: None,
    ) -> None:
        self.path, self._max_bytes, self._clock, self._dropped = path, max_bytes, clock, dropped
        self._lines: queue.Queue[bytes | None] = queue.Queue(WAITING_LINES)
        self._thread: threading.Thread | None = None
        self._complained = False
        check(path)

    def note(self, name: str, manifest: str, request: Request, plan: Plan | None, limit: str | None = None) -> None:
        """One plan request: what was planned, or None and the limit that could not be kept."""
        line: dict[str, Any] = {
            "hour": time.strftime("%Y-%m-%dT%HZ", time.gmtime(self._clock())),
            "name": name,
            "manifest": manifest,
            "configuration": None if plan is None else plan.configuration,
            "limit": limit,
            "asked": {field: _rounded(field, getattr(request, field)) for field in ASKED if getattr(request, field) is not None},
            "upgrade": request.held is not None,
        }
        try:
            self._lines.put_nowait(dump(line) + b"\n")
        except queue.Full:
            self._dropped()
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="request log", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Writes what waits, and ends."""
        if self._thread is not None:
            self._lines.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        going = True
        while going:
            found = [self._lines.get()]
            while len(found) < WAITING_LINES:
                try:
                    found.append(self._lines.get_nowait())
                except queue.Empty:
                    break
            lines = [line for line in found if line is not None]
            going = len(lines) == len(found)
            try:
                self._write(lines)
            except OSError as error:
                for _ in lines:
                    self._dropped()
                if not self._complained:
                    LOG.error("the request log %s can't be written: %s; lines are lost", self.path, error.strerror)
                self._complained = True

    def _write(self, lines: list[bytes]) -> None:
        """Takes out of `lines` what is written, so that the rest is what was lost where an OSError ends it.

        Under a lock on the file, which keeps other processes from turning it over meanwhile.
        """
        while lines:
            with self.path.open("ab", buffering=0) as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
                try:
                    if not os.path.samestat(os.fstat(stream.fileno()), self.path.stat()):
                        continue  # it was turned over while we waited
                except FileNotFoundError:
                    continue
                size = os.fstat(stream.fileno()).st_size
                if size and size + len(lines[0]) > self._max_bytes:
                    self.path.replace(self.path.with_name(self.path.name + ".1"))
                    continue
                count, total = 0, size
                for line in lines:
                    if count and total + len(line) > self._max_bytes:
                        break
                    count, total = count + 1, total + len(line)
                _append(stream.fileno(), b"".join(lines[:count]), size)
                del lines[:count]


def _append(handle: int, data: bytes, size: int) -> None:
    """Writes all of `data` behind the `size` bytes of a file, or nothing (OSError): half a line would spoil the one after it."""
    written = 0
    try:
        while written < len(data):
            written += os.write(handle, data[written:])
    except OSError:
        os.ftruncate(handle, size)
        raise


def check(path: Path) -> None:
    """Says at the start what would fail later; makes the file if there is none."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UsageError(f"{path} can't be the request log: name a file in a folder that is there")
    try:
        with path.open("ab"):
            pass
    except OSError as error:
        raise StorageError(f"can't write the request log {path}: {error.strerror}") from error


def _rounded(field: str, value: float | str) -> float | str:
    """To a few significant digits; words stay."""
    if isinstance(value, str) or value == 0:
        return value
    places = DIGITS.get(field, OTHER_DIGITS) - 1 - math.floor(math.log10(abs(value)))
    return round(value, places)
