"""The `nnc` encoding: without loss, refused where it is malformed, and decoded in a process that can do little else."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
import textwrap
import tracemalloc

import numpy as np
import pytest
import zstandard

from accordion.artifact import nnc
from accordion.artifact.archive import compress
from accordion.artifact.segment import encode_segment
from accordion.errors import FormatError

needs_nncodec = pytest.mark.skipif(importlib.util.find_spec("nncodec") is None, reason=f"nncodec is not installed: {nnc.INSTALL}")
MEMORY = 2**30


def segment(seed: int = 0) -> bytes:
    """Tensors as the codecs make them: codes of 4 and 8 bits that are not spread evenly, scales, and odd ones."""
    rng = np.random.default_rng(seed)
    halves = np.clip(np.round(rng.normal(0, 1.5, (40, 72))), -8, 7).astype(np.int64) + 8
    return encode_segment(
        {
            "scale": rng.random((1, 3, 1, 1)).astype(np.float32),
            "scales": rng.random(40).astype(np.float16),
            "int4": (halves[:, ::2] | halves[:, 1::2] << 4).astype(np.uint8),
            "int8": (np.clip(np.round(rng.normal(0, 25, (33, 100))), -128, 127) + 128).astype(np.uint8),
            "signed": np.clip(np.round(rng.normal(0, 4, 500)), -128, 127).astype(np.int8),
            "random": rng.integers(0, 256, 300).astype(np.uint8),
            "empty": np.zeros((0, 4), np.uint8),
            "one": np.array(7, np.uint8),
        }
    )


def head_of(content: bytes) -> tuple[bytes, bytes]:
    end = 12 + int.from_bytes(content[8:12], "little")
    return content[:end], content[end:]


@needs_nncodec
def test_nothing_is_lost_and_the_same_segment_gives_the_same_bytes() -> None:
    for seed in range(3):
        plain = segment(seed)
        content = nnc.encode(plain)
        assert nnc.decode(content, len(plain)) == plain
        assert nnc.encode(plain) == content
        assert len(content) < len(compress(plain))


@needs_nncodec
@pytest.mark.parametrize("value", [0, 127, 128, 255])
@pytest.mark.parametrize("count", [1, 500, 501, 1001, 2600])
def test_extreme_values_and_tensors_of_several_pieces(value: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nnc, "PIECE", 1000)
    plain = encode_segment({"t": np.where(np.arange(count) % 97, value, 255 - value).astype(np.uint8)})
    assert nnc.decode(nnc.encode(plain), len(plain)) == plain


@needs_nncodec
def test_a_segment_without_integers_comes_through() -> None:
    plain = encode_segment({"w": np.zeros((4, 4), np.float32)})
    assert nnc.decode(nnc.encode(plain), len(plain)) == plain


def test_a_head_is_no_more_than_the_segment_needs() -> None:
    """64 MB of zeros in a few kB: the first step of the decompressor, 32 MiB at most, is the last one for so small a segment."""
    content, size = made(rest=bytes(64 * 10**6))
    assert len(content) < 10_000 and size < 1000
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="unpacks to more than"):
            nnc.decode(content, size)
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()


def test_what_is_no_segment_is_not_encoded() -> None:
    with pytest.raises(FormatError):
        nnc.encode(b"\x08" + bytes(40))


def made(*, ways: bytes = b"\0", header: bytes | None = None, tail: bytes = b"", rest: bytes = bytes(6)) -> tuple[bytes, int]:
    """An alternate of a segment with one tensor of six bytes, put together by hand, and the segment's size."""
    plain = encode_segment({"t": np.zeros(6, np.uint8)})
    head = compress((plain[:-6] if header is None else header) + ways + rest)
    return nnc.MAGIC + len(head).to_bytes(4, "little") + head + tail, len(plain)


def test_the_form_is_read_as_it_is_described() -> None:
    content, size = made()
    assert nnc.decode(content, size) == encode_segment({"t": np.zeros(6, np.uint8)})


@pytest.mark.parametrize(
    "content, size",
    [
        (b"", 10),
        (b"ACNNC002" + made()[0][8:], made()[1]),
        (made()[0][:11], made()[1]),
        (made()[0][:20], made()[1]),
        (made()[0] + b"\0", made()[1]),
        (made()[0], made()[1] - 1),
        (made()[0], made()[1] + 1),
        (made(ways=b"")[0], made()[1]),
        (made(ways=b"", rest=b"")[0], made()[1]),
        (made(ways=b"\7")[0], made()[1]),
        (made(rest=bytes(5))[0], made()[1]),
        (made(rest=bytes(7))[0], made()[1]),
        (made(ways=b"\1", rest=b"")[0], made()[1]),
        (made(ways=b"\1", rest=b"", tail=(4).to_bytes(4, "little") + b"ab")[0], made()[1]),
        (made(ways=b"\1", rest=b"", tail=(0).to_bytes(4, "little"))[0], made()[1]),
        (made(header=b"\xff" * 8)[0], made()[1]),
        (made(header=(3).to_bytes(8, "little") + b"[1]")[0], made()[1]),
        (nnc.MAGIC + (9).to_bytes(4, "little") + b"not zstd!", 100),
        (nnc.MAGIC + len(compress(bytes(10**7))).to_bytes(4, "little") + compress(bytes(10**7)), 100),
    ],
)
def test_what_is_malformed_is_refused_before_any_decoder_sees_it(content: bytes, size: int) -> None:
    with pytest.raises(FormatError):
        nnc.decode(content, size)


@needs_nncodec
def test_whatever_the_coder_is_given_the_outcome_has_the_size_that_was_fixed() -> None:
    """Flipped, cut, random and endless ones: wrong bytes or a refusal, never more, and in a process of its own never its end."""
    plain = segment()
    head, tail = head_of(nnc.encode(plain))
    draw = random.Random(1)
    frames = []
    for trial in range(60):
        spoilt = bytearray(tail)
        if trial % 3 == 0:
            for _ in range(1 + trial):
                spoilt[draw.randrange(len(spoilt))] ^= 1 << draw.randrange(8)
        else:  # the lengths stay, so that the coder gets all of it
            position = 0
            while position < len(tail):
                length = int.from_bytes(tail[position : position + 4], "little")
                filled = draw.randbytes(length) if trial % 3 == 1 else bytes([255 * (trial % 2)]) * length
                spoilt[position + 4 : position + 4 + length] = filled
                position += 4 + length
        frames.append(head + bytes(spoilt))
    whole = head + tail
    answers = ask([*((one, len(plain)) for one in frames), (whole, len(plain))])
    assert len(answers) == len(frames) + 1
    assert all(answer is None or len(answer) == len(plain) for answer in answers)
    assert sum(answer is not None for answer in answers) > 30
    assert answers[-1] == plain
    assert plain not in answers[:-1]


def ask(questions: list[tuple[bytes, int]], memory: int = MEMORY, seconds: int = 300) -> list[bytes | None]:
    """What the decoder's process says to each; None where it refuses. Fewer answers than questions if it ended before."""
    sent = b"".join(len(content).to_bytes(8, "little") + size.to_bytes(8, "little") + content for content, size in questions)
    command = [sys.executable, "-m", "accordion.artifact.nnc_process", str(memory), str(seconds)]
    said = subprocess.run(command, input=sent, capture_output=True, check=False).stdout
    found: list[bytes | None] = []
    for _, size in questions:
        if not said:
            break
        if said[0]:
            found.append(None)
            said = said[1:]
        else:
            found.append(said[1 : 1 + size])
            said = said[1 + size :]
    assert said == b""
    return found


@needs_nncodec
def test_a_refusal_is_not_the_end_of_the_process() -> None:
    plain = segment()
    content = nnc.encode(plain)
    assert ask([(b"nonsense", 100), (content, len(plain) + 1), (content, len(plain))]) == [None, None, plain]


@needs_nncodec
def test_the_process_has_its_memory_and_no_more() -> None:
    """256 MiB of zeros out of a few kB: half a GiB is not enough for that and its copies, and the process refuses or ends."""
    size = 2**28
    header = f'{{"t":{{"dtype":"U8","shape":[{size}],"data_offsets":[0,{size}]}}}}'.encode()
    header += b" " * (-len(header) % 8)
    head = zstandard.ZstdCompressor(level=1).compress(len(header).to_bytes(8, "little") + header + b"\0" + bytes(size))
    bomb = nnc.MAGIC + len(head).to_bytes(4, "little") + head
    plain = segment()
    questions = [(nnc.encode(plain), len(plain)), (bomb, 8 + len(header) + size)]
    assert ask(questions, memory=2**29) in ([plain], [plain, None])


@needs_nncodec
def test_the_process_can_open_nothing_and_start_nothing() -> None:
    program = """
        import os, resource, subprocess, sys
        from accordion.artifact import nnc_process

        def serve(questions, answers):
            for attempt in (lambda: open("/etc/passwd"), lambda: open("written", "w"), lambda: subprocess.run(["true"])):
                try:
                    attempt()
                except OSError:
                    answers.write(b"no ")
                else:
                    answers.write(b"yes ")
            answers.flush()

        nnc_process.serve = serve
        nnc_process.main(2**30, 60)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, check=False)
    assert done.stdout == b"no no no "


@needs_nncodec
def test_neither_torch_nor_the_rest_of_nncodec_is_imported() -> None:
    program = (
        "import sys; from accordion.artifact import nnc; nnc._coder(); print('torch' in sys.modules, 'nncodec.nnc' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_nothing_of_nncodec_is_imported_before_something_is_coded() -> None:
    program = (
        "import sys, accordion.device, accordion.device.decoding as d, accordion.artifact.nnc, accordion.artifact.nnc_process\n"
        "d.missing_library('nnc'); print(any(name.partition('.')[0] == 'nncodec' for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
