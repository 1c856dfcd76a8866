"""What it costs a device that weights travel encoded: `python benchmarks/decode.py PACKAGE [--configuration K]`.

Three things, one thread, medians of several rounds in turns:

- decoding itself: from the verified bytes of the configuration's weight layers to float32 arrays. That is unpacking (zstd and tar)
  and rebuilding (the graph's operators over constants, as `accordion.device.rebuilding` does them). The payload over it is the
  rate, which should be above that of the link. The arrays are compared bit for bit with what plain ONNX Runtime makes of them.
- until something can run: a session as the device makes it, beside one that plain ONNX Runtime makes of the delivered graph, and
  one of the same network with its weights as plain float32 files, which any runtime pays. Differences from the last are what
  encoding costs.
- an upgrade: rebuilding a configuration when the one before is there.

`--drawn BLOCKSxCHANNELS` instead of a package makes a chain of convolutions of that size with drawn codes. Files are in the page
cache.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from packages import write_planes  # type: ignore[import-not-found]

from accordion.artifact.archive import unpack
from accordion.artifact.ladder import Ladder
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import WEIGHT_RAW, WEIGHT_TAR_ZSTD, Manifest
from accordion.device.rebuilding import Rebuilder
from accordion.device.sessions import make_session
from accordion.packaging import lay_out_prefixes

LIMIT = 2**36  # bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, nargs="?")
    parser.add_argument("--drawn", metavar="BLOCKSxCHANNELS")
    parser.add_argument("--configuration", type=int, action="append", help="the complete one; may be given several times")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("-o", "--out", type=Path, help="adds the figures to this file")
    arguments = parser.parse_args()
    if (arguments.package is None) == (arguments.drawn is None):
        parser.error("name a package, or --drawn a size")
    with tempfile.TemporaryDirectory() as name:
        package, what = arguments.package, str(arguments.package)
        if arguments.drawn is not None:
            blocks, channels = (int(number) for number in arguments.drawn.split("x"))
            package, what = write_planes(Path(name) / "drawn", blocks, channels), f"drawn {arguments.drawn}"
        layout = Layout.open(package)
        manifest = layout.manifest()
        ladder = layout.ladder(manifest)
        folder = Path(name) / "laid"
        for _ in lay_out_prefixes(layout, manifest, ladder, folder):
            pass
        rows = []
        for k in arguments.configuration or [len(ladder) - 1]:
            rows.append({"package": what, **measured(layout, manifest, ladder, folder, k, arguments.rounds)})
            tell(rows[-1])
    if arguments.out is not None:
        write(arguments.out, rows)


def measured(layout: Layout, manifest: Manifest, ladder: Ladder, folder: Path, k: int, rounds: int) -> dict[str, Any]:
    """The figures of configuration `k`, in seconds and bytes."""
    rung = ladder.configurations[k]
    layers = [layer for layer in manifest.layers[: rung.layers] if layer.media_type in (WEIGHT_RAW, WEIGHT_TAR_ZSTD)]
    graph, plain = folder / rung.graph, folder / "plain.onnx"
    nodes, floats = write_plain(graph, plain)
    found = Rebuilder(folder).rebuild(graph.read_bytes())
    if found is None:
        raise SystemExit(f"configuration {k} rebuilds nothing")
    made = {name: value for name, value in floats.items() if name in found.values}
    if not made or any(value.tobytes() != found.values[name].tobytes() for name, value in made.items()):
        raise SystemExit(f"configuration {k}: what the device rebuilds is not what the graph's operators give")

    def unpacked() -> None:
        for layer in layers:
            if layer.media_type == WEIGHT_TAR_ZSTD:
                with layout.blob_path(layer.digest).open("rb") as stream:
                    for _ in unpack(stream, limit=LIMIT, what="a layer"):
                        pass

    def upgrade() -> float:
        """Seconds for what `k` has more than the one before."""
        rebuilder = Rebuilder(folder)
        if k:
            rebuilder.rebuild((folder / ladder.configurations[k - 1].graph).read_bytes())
        return timed(lambda: rebuilder.rebuild(graph.read_bytes()))

    ways: dict[str, Callable[[], float]] = {
        "unpack": lambda: timed(unpacked),
        "rebuild": lambda: timed(lambda: Rebuilder(folder).rebuild(graph.read_bytes())),
        "device_session": lambda: timed(lambda: make_session(folder, rung.graph, Rebuilder(folder), 1)),
        "plain_session": lambda: timed(lambda: session(plain)),
        "graph_session": lambda: timed(lambda: session(graph)),
        "upgrade": upgrade,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            seconds[name].append(way())
    medians = {f"{name}_s": statistics.median(taken) for name, taken in seconds.items()}
    least = {name: min(taken) for name, taken in seconds.items()}
    return {
        "configuration": k,
        "precision": rung.precision,
        "payload_bytes": sum(layer.size for layer in layers),
        "float32_bytes": sum(value.nbytes for value in floats.values()),
        "nodes": nodes,
        "rounds": rounds,
        **medians,
        "least_s": least,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread",
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip(),
    }


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def tell(row: dict[str, Any]) -> None:
    """The row for people."""
    bits = 8e-9 * row["payload_bytes"]
    ms = {name: row[f"{name}_s"] * 1e3 for name in row["least_s"]}
    print(f"{row['package']}, configuration {row['configuration']}, {row['precision']}")
    print(
        f"  {row['payload_bytes']:,} bytes of weights, {row['nodes']} nodes make {row['float32_bytes']:,} bytes of float32 of them"
    )
    decode = row["unpack_s"] + row["rebuild_s"]
    print(f"  decoding: unpacking {ms['unpack']:.1f} ms, rebuilding {ms['rebuild']:.1f} ms: {bits / decode:.2f} Gbit/s of payload")
    for name, what in (("device", "as the device makes it"), ("graph", "by plain ONNX Runtime")):
        more = row[f"{name}_session_s"] - row["plain_session_s"]
        took = f"{ms[f'{name}_session']:.1f} ms, of float32 {ms['plain_session']:.1f} ms: {more * 1e3:.1f} ms more"
        print(f"  session {what} {took}" + (f", {bits / more:.2f} Gbit/s of payload" if more > 0 else ""))
    print(f"  rebuilding after configuration {row['configuration'] - 1}: {ms['upgrade']:.1f} ms")
    print("  least of all rounds: " + ", ".join(f"{name} {value * 1e3:.1f} ms" for name, value in row["least_s"].items()))


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """The file with these rows in place of those of the same package and configuration."""
    there = json.loads(path.read_text()) if path.exists() else []
    mine = {(row["package"], row["configuration"]) for row in rows}
    kept = [row for row in there if (row["package"], row["configuration"]) not in mine]
    path.write_text(json.dumps([*kept, *rows], indent=1) + "\n")


def write_plain(delivered: Path, plain: Path) -> tuple[int, dict[str, np.ndarray]]:
    """The graph with everything computed from constants as a float32 file beside it; how many nodes that saves, and the arrays."""
    model = onnx.load(delivered, load_external_data=False)
    constant = {tensor.name for tensor in model.graph.initializer}
    rebuilding, running = [], []
    for node in model.graph.node:
        if all(name in constant for name in node.input if name):
            rebuilding.append(node)
            constant.update(node.output)
        else:
            running.append(node)
    made = {name for node in rebuilding for name in node.output}
    wanted = sorted({name for node in running for name in node.input if name in made})
    body = onnx.helper.make_graph(
        rebuilding, "weights", [], [onnx.ValueInfoProto(name=name) for name in wanted], model.graph.initializer
    )
    half = onnx.helper.make_model(body, opset_imports=model.opset_import, ir_version=model.ir_version)
    path = delivered.with_name("weights.onnx")
    path.write_bytes(half.SerializeToString())
    values = dict(zip(wanted, session(path).run(None, {}), strict=True))
    kept = [tensor for tensor in model.graph.initializer if any(tensor.name in node.input for node in running)]
    kept += [numpy_helper.from_array(value, name) for name, value in values.items()]
    body = onnx.helper.make_graph(running, "plain", model.graph.input, model.graph.output, kept)
    whole = onnx.helper.make_model(body, opset_imports=model.opset_import, ir_version=model.ir_version)
    plain.with_name("plain.bin").unlink(missing_ok=True)  # onnx adds to what is there
    onnx.save(whole, plain, save_as_external_data=True, location="plain.bin", size_threshold=256)
    return len(rebuilding), values


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main()
