"""Decoders of alternates: each a process of its own, bounded in memory and time, and ended when anything goes wrong."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO

from accordion.artifact.alternates import Alternate
from accordion.artifact.digest import Verifier
from accordion.artifact.nnc import ENCODING, INSTALL
from accordion.errors import ContentError, DigestError, FormatError, UsageError

__all__ = ["Decoder", "DecodingError", "missing_library"]

MOST_BYTES = 2**28  # of one segment: content and outcome are held in memory; larger ones come in their plain form
MEMORY_FLOOR, MEMORY_TIMES = (
    2**30,
    8,
)  # bytes of address space: the interpreter and what a piece needs; content, parts and their sum
START_S = 20.0  # until a decoder answers for the first time: a busy machine may take long to start Python
LEAST_S, RATE = 2.0, 200_000  # seconds that a layer may take in any case, and bytes of segment a second
CPU_S = 600  # processor time of all layers of a delivery together
KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "LANG")  # what a decoder sees of the environment

COMMANDS: dict[str, Callable[[int], list[str]]] = {
    ENCODING: lambda memory: [sys.executable, "-m", "accordion.artifact.nnc_process", str(memory), str(CPU_S)]
}
LIBRARIES: Mapping[str, tuple[str, str]] = {ENCODING: ("nncodec", INSTALL)}


class DecodingError(DigestError):
    """An alternate did not become what it stands for, in time and within its bounds."""


def missing_library(encoding: str) -> str | None:
    """What to install before this encoding can be read; None if nothing. UsageError for an unknown one. Nothing is imported."""
    if encoding not in COMMANDS:
        raise UsageError(f"{encoding!r:.40} is no encoding of alternates: there is {', '.join(COMMANDS)}")
    library, install = LIBRARIES.get(encoding, ("", ""))
    return install if library and importlib.util.find_spec(library) is None else None


class Decoder:
    """One process, which starts at once and answers one question after the other. Not for several threads at a time."""

    def __init__(self, encoding: str, largest: int) -> None:
        """`largest` is the size of the largest segment to come, in bytes. DecodingError if it can't start."""
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._first = True
        try:
            self._process = subprocess.Popen(
                COMMANDS[encoding](MEMORY_FLOOR + MEMORY_TIMES * largest),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise DecodingError(f"the decoder does not start: {error.strerror or error}") from error

    def decode(self, content: bytes, alternate: Alternate, within_s: float) -> bytes:
        """The file that the alternate stands for, checked against its digest.

        DecodingError if it is another, or is not there after `within_s` seconds and a bound that grows with its size; the process
        has ended then.
        """
        bound_s = LEAST_S + alternate.size / RATE + (START_S if self._first else 0.0)
        timer = threading.Timer(max(0.0, min(within_s, bound_s)), self._process.kill)
        timer.start()
        try:
            made = self._ask(content, alternate.size)
            verifier = Verifier(alternate.digest, alternate.size, "what the decoder made")
            verifier.update(made)
            verifier.finish()
        except (OSError, ContentError) as error:
            self.close()
            why = "it refused, ended or took too long" if isinstance(error, OSError) else str(error)
            raise DecodingError(f"the {alternate.encoding} alternate of {alternate.path} can't be used: {why}") from error
        finally:
            timer.cancel()
        self._first = False
        return made

    def _ask(self, content: bytes, size: int) -> bytes:
        questions, answers = _open(self._process.stdin), _open(self._process.stdout)
        questions.write(len(content).to_bytes(8, "little") + size.to_bytes(8, "little") + content)
        questions.flush()
        if (status := answers.read(1)) != b"\0":
            raise OSError("refused" if status else "ended")
        made = answers.read(size)
        if len(made) < size:
            raise FormatError(f"the decoder ended after {len(made)} of {size} bytes")
        return made

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):  # what was still to be written has nobody to read it
                    stream.close()
        self._process.wait()


def _open(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise OSError("no pipe")
    return stream
