"""`python -m accordion.artifact.nnc_process BYTES SECONDS`: decodes alternates in a process that is bounded and can do little else.

The decoder is C++ that strangers' bytes reach, so it gets a process of its own, with at most so much memory and processor time,
which can open no file and start nothing. It reads from standard input, one after the other: 8 bytes with the length of the
alternate, 8 with the size of the segment to be made of it (little-endian), and the alternate. It answers with a byte 0 and the
segment, or with a byte 1.
"""

from __future__ import annotations

import os
import resource
import sys
from typing import BinaryIO

from accordion.artifact.nnc import decode
from accordion.errors import FormatError

__all__ = ["main", "serve"]


def main(memory: int, seconds: int) -> None:
    """Binds this process for good, then serves until its input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)  # the coder prints there
    os.dup2(nothing, 2)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Everything must be imported by now: no file can be opened or written from here on, no process started.
    import nncodec.extensions.deepCABAC  # noqa: F401

    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    serve(sys.stdin.buffer, answers)


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answers until `questions` end."""
    while len(frame := questions.read(16)) == 16:
        length, size = int.from_bytes(frame[:8], "little"), int.from_bytes(frame[8:], "little")
        try:
            made = b"\0" + decode(questions.read(length), size)
        except (FormatError, MemoryError):
            made = b"\1"
        answers.write(made)
        answers.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
