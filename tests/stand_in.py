"""An encoding of alternates that needs no library: it looks up what it stands for in a folder, well or badly.

As a program, `stand_in.py FOLDER BEHAVIOUR`, it is the decoder.
"""

from __future__ import annotations

import hashlib
import random
import sys
import time
from pathlib import Path

ENCODING = "stand-in"
BEHAVIOURS = ("refuses", "ends", "lies", "short", "hangs", "floods", "never-reads")


class StandIn:
    """`share` of a segment's size is what an alternate of it has."""

    def __init__(self, folder: Path, share: float = 0.5) -> None:
        self.folder, self.share = folder, share

    def encode(self, segment: bytes) -> bytes:
        name = hashlib.sha256(segment).hexdigest()
        (self.folder / name).write_bytes(segment)
        return name.encode() + random.Random(name).randbytes(max(0, int(self.share * len(segment)) - len(name)))

    def command(self, behaviour: str = "good") -> list[str]:
        return [sys.executable, "-I", __file__, str(self.folder), behaviour]


def main(folder: Path, behaviour: str) -> None:
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    count = 0
    while behaviour != "never-reads" and len(frame := questions.read(16)) == 16:
        length, size = int.from_bytes(frame[:8], "little"), int.from_bytes(frame[8:], "little")
        made = (folder / questions.read(length)[:64].decode()).read_bytes()
        count += 1
        assert len(made) == size
        if behaviour == "good" or (behaviour == "good-once" and count == 1):
            answers.write(b"\0" + made)
        elif behaviour == "refuses":
            answers.write(b"\1")
        elif behaviour in ("lies", "good-once"):
            answers.write(b"\0" + made[:-1] + bytes([made[-1] ^ 1]))
        elif behaviour == "short":
            answers.write(b"\0" + made[:-1])
            break
        elif behaviour == "floods":
            answers.write(b"\0" + made[::-1])
            while True:
                answers.write(bytes(2**16))
        elif behaviour == "hangs":
            time.sleep(3600)
        else:
            break
        answers.flush()
    if behaviour == "never-reads":
        time.sleep(3600)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
