"""What alternates save, and what they cost: `python benchmarks/alternates.py COMPACT FLOATS [--deliveries] [-o RESULTS.json]`.

COMPACT is a package with small encodings, taken as it is. FLOATS is a float32 package whose segments are encoded by the project's
codecs first (each tensor for itself, rounded to nearest), and then once more with normally distributed numbers instead. Every layer
of weights as it travels, raw or tar+zstd, stands against the same content as `nnc`. Decoding is counted in processor time.

With `--deliveries`, COMPACT is fetched through a shaped link with and without alternates, in turns, and once with a decoder that
fails. Needs nncodec.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from accordion.artifact import nnc
from accordion.artifact.add_alternates import ROW, add_alternates
from accordion.artifact.archive import compress, pack, unpack, unpacked_limit
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import WEIGHT_RAW, WEIGHT_TAR_ZSTD
from accordion.artifact.segment import encode_segment, parse_header
from accordion.cli.demo_steps import Endpoint, Steps
from accordion.device import Link, Observer, decoding, fetch
from accordion.packaging.codecs.catalog import by_name
from accordion.packaging.codecs.interface import encode_planes

PRECISIONS = ("float32", "int8", "int4", "int4+4")
RATES: tuple[float | None, ...] = (2e6, 10e6, None)
RTT_S = 0.05


def segments(package: Path) -> Iterator[tuple[str, bytes]]:
    """Path and content of each segment."""
    layout = Layout.open(package)
    for layer in layout.manifest().layers:
        blob = layout.blob_path(layer.digest)
        if layer.media_type == WEIGHT_RAW:
            yield str(layer.path), blob.read_bytes()
        elif layer.media_type == WEIGHT_TAR_ZSTD:
            with blob.open("rb") as stream:
                yield from unpack(stream, limit=unpacked_limit(layer.size), what=layer.digest)


def encoded(segment: bytes, precision: str) -> bytes:
    """A float32 segment with its matrices in another precision, its vectors as float16."""
    if precision == "float32":
        return segment
    tensors: dict[str, Any] = {}
    for name, info in parse_header(segment, len(segment), "a segment").items():
        value = np.frombuffer(segment[info.start : info.end], np.float32).reshape(info.shape)
        if value.ndim < 2 or value.size < 100:
            tensors[name] = value.astype(np.float16)
            continue
        for plane, found in enumerate(encode_planes(by_name(precision), value), 1):
            for role, part in found.parts.items():
                tensors[f"{name}.{plane}.{role}"] = part.array
    return encode_segment(tensors)


def made_up(segment: bytes, draw: np.random.Generator) -> bytes:
    """A float32 segment with normally distributed numbers in the place of its own: no channel is zero, nothing was learnt."""
    tensors = {}
    for name, info in parse_header(segment, len(segment), "a segment").items():
        tensors[name] = draw.standard_normal(info.shape).astype(np.float32)
    return encode_segment(tensors)


def compare(what: str, found: list[tuple[str, bytes]], *, may_compress: bool) -> dict[str, Any]:
    """Bytes and processor time of all layers; an alternate that does not pay counts as the plain layer."""
    plain = mixed = archived = alone = paying = 0
    encode_s = decode_s = 0.0
    for path, segment in found:
        packed = pack({path: segment})
        size = min(len(packed), len(segment)) if may_compress else len(segment)
        began = time.process_time()
        content = nnc.encode(segment)
        between = time.process_time()
        if nnc.decode(content, len(segment)) != segment:
            raise SystemExit(f"{what}, {path}: nncodec does not give back what went in")
        encode_s, decode_s = encode_s + between - began, decode_s + time.process_time() - between
        pays = len(content) + ROW < size
        plain, archived, alone = plain + size, archived + len(packed), alone + len(content)
        mixed, paying = mixed + (len(content) if pays else size), paying + pays
    return {
        "what": what,
        "layers": len(found),
        "segments": sum(len(segment) for _, segment in found),
        "zstd": archived,
        "plain": plain,
        "nnc": alone,
        "with_alternates": mixed,
        "layers_that_pay": paying,
        "encode_cpu_s": encode_s,
        "decode_cpu_s": decode_s,
    }


def deliver(package: Path, rounds: int) -> dict[str, Any]:
    """Bytes and seconds of fetches of the whole ladder, and what a decoder costs that refuses everything."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in ("plain", "both"):
            shutil.copytree(package, folder / kind)
        before = Layout.open(folder / "plain").manifest()
        after = add_alternates(Layout.open(folder / "both"), "latest", nnc.ENCODING, nnc.encode)
        rows = []
        with Endpoint(Steps(sys.stderr), str(folder)) as endpoint:

            def once(kind: str, alternate: str | None, rate: float | None, number: int) -> tuple[int, float, list[str]]:
                said: list[str] = []
                target = folder / f"m-{kind}-{alternate}-{rate}-{number}"
                link = Link(rate, RTT_S)
                result = fetch(f"{endpoint.url}/{kind}", target, link=link, alternate=alternate, observer=Observer(say=said.append))
                shutil.rmtree(target)
                return result.bytes_received, result.seconds, said

            for rate in RATES:
                ways: dict[str, Callable[[int], tuple[int, float, list[str]]]] = {
                    "no alternates in the package": lambda n, rate=rate: once("plain", None, rate, n),
                    "not asked for": lambda n, rate=rate: once("both", None, rate, n),
                    "asked for": lambda n, rate=rate: once("both", nnc.ENCODING, rate, n),
                }
                seconds: dict[str, list[float]] = {way: [] for way in ways}
                sizes: dict[str, int] = {}
                for number in range(rounds):
                    for way, start in ways.items():
                        sizes[way], taken, said = start(number)
                        seconds[way].append(taken)
                        if any("plain form" in line for line in said):
                            raise SystemExit(f"alternates were not used: {said}")
                rows.append({"rate_bps": rate, "rtt_s": RTT_S, "bytes": sizes, "seconds": seconds})
            known = dict(decoding.COMMANDS)
            decoding.COMMANDS[nnc.ENCODING] = lambda memory: [sys.executable, "-I", "-c", "input()"]
            failing, _, said = once("both", nnc.ENCODING, None, 0)
            decoding.COMMANDS.update(known)
        return {
            "manifest_bytes": [len(compress(before.raw)), len(compress(after.raw))],
            "alternates": len(after.alternates),
            "fetches": rows,
            "failing_decoder": {"bytes": failing, "said": said},
        }


def table(rows: list[dict[str, Any]], deliveries: dict[str, Any] | None) -> str:
    """Both tables in Markdown."""
    lines = [
        "| what | safetensors kB | tar+zstd kB | plain kB | nnc kB | with alternates kB | saved | pay | decoding MB/s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [f"{row[key] / 1e3:.1f}" for key in ("segments", "zstd", "plain", "nnc", "with_alternates")]
        saved = 1 - row["with_alternates"] / row["plain"]
        beyond = 1 - row["with_alternates"] / min(row["plain"], row["zstd"])
        share = f"{saved:.1%}" + (f" ({beyond:.1%} beyond zstd)" if row["zstd"] < row["plain"] else "")
        rate = row["segments"] / row["decode_cpu_s"] / 1e6
        lines.append(
            f"| {row['what']} | {' | '.join(cells)} | {share} | {row['layers_that_pay']} of {row['layers']} | {rate:.1f} |"
        )
    if deliveries is not None:
        lines += ["", "| link | way | bytes | seconds, median (least to most) |", "|---|---|---|---|"]
        for row in deliveries["fetches"]:
            link = "not shaped" if row["rate_bps"] is None else f"{row['rate_bps'] / 1e6:g} Mbps"
            for way, taken in row["seconds"].items():
                spread = f"{statistics.median(taken):.2f} ({min(taken):.2f} to {max(taken):.2f})"
                lines.append(f"| {link}, {row['rtt_s'] * 1e3:g} ms | {way} | {row['bytes'][way]:,} | {spread} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("compact", type=Path)
    parser.add_argument("floats", type=Path)
    parser.add_argument("--deliveries", action="store_true")
    parser.add_argument("--rounds", type=int, default=3, help="of deliveries")
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()
    rows = [compare(arguments.compact.name, list(segments(arguments.compact)), may_compress=True)]
    plain = list(segments(arguments.floats))
    for precision in PRECISIONS:
        found = [(path, encoded(segment, precision)) for path, segment in plain]
        rows.append(compare(f"{arguments.floats.name}, {precision}", found, may_compress=precision != "float32"))
    draw = np.random.default_rng(0)
    normal = [(path, made_up(segment, draw)) for path, segment in plain]
    for precision in PRECISIONS[1:]:
        found = [(path, encoded(segment, precision)) for path, segment in normal]
        rows.append(compare(f"its shapes, normal numbers, {precision}", found, may_compress=True))
    deliveries = deliver(arguments.compact, arguments.rounds) if arguments.deliveries else None
    text = table(rows, deliveries)
    print(text)
    if arguments.out is not None:
        value = {
            "packages": {one.name: Layout.open(one).manifest().digest for one in (arguments.compact, arguments.floats)},
            "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "rows": rows,
            "deliveries": deliveries,
        }
        arguments.out.write_text(json.dumps(value, indent=1) + "\n")
        arguments.out.with_suffix(".md").write_text(text + "\n")


if __name__ == "__main__":
    main()
