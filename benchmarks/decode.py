"""What it costs a device that weights travel encoded: `python benchmarks/decode.py PACKAGE [--configuration K]`.

Starts a session on a configuration as delivered, and one on the same network with its weights as plain float32 files, in turns. The
difference is the decoding; the payload over it is the rate, which should be above that of the link. One thread.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import onnx
import onnxruntime
from onnx import numpy_helper

from accordion.artifact.ladder import LADDER_LIMIT, decode_ladder
from accordion.artifact.layout import Layout
from accordion.packaging import lay_out_prefixes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("--configuration", type=int, help="the complete one")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    layout = Layout.open(arguments.package)
    manifest = layout.manifest()
    ladder = decode_ladder(manifest.layers[0], layout.read_blob(manifest.layers[0], limit=LADDER_LIMIT))
    rung = ladder.configurations[-1 if arguments.configuration is None else arguments.configuration]
    with tempfile.TemporaryDirectory() as name:
        for one, _ in lay_out_prefixes(layout, manifest, ladder, Path(name)):
            if one.index == rung.index:
                break
        delivered = Path(name) / rung.graph
        plain = Path(name) / "plain.onnx"
        nodes = write_plain(delivered, plain)
        seconds: dict[Path, list[float]] = {delivered: [], plain: []}
        for _ in range(arguments.rounds):
            for path, taken in seconds.items():
                begin = time.perf_counter()
                session(path)
                taken.append(time.perf_counter() - begin)
    encoded, floats = (statistics.median(taken) for taken in seconds.values())
    least = min(seconds[delivered]) - min(seconds[plain])
    print(f"configuration {rung.index}, {rung.precision}, {rung.bytes:,} bytes, {nodes} nodes rebuild its weights")
    print(f"session as delivered {encoded * 1e3:.1f} ms, with plain float32 weights {floats * 1e3:.1f} ms (medians)")
    print(f"decoding {(encoded - floats) * 1e3:.1f} ms: {8e-9 * rung.bytes / max(encoded - floats, 1e-9):.2f} Gbit/s of payload")
    print(f"least of all rounds {least * 1e3:.1f} ms: {8e-9 * rung.bytes / max(least, 1e-9):.2f} Gbit/s of payload")


def write_plain(delivered: Path, plain: Path) -> int:
    """The graph with everything computed from constants as a float32 file beside it; returns how many nodes that saves."""
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
    values = session(path).run(None, {})
    kept = [tensor for tensor in model.graph.initializer if any(tensor.name in node.input for node in running)]
    kept += [numpy_helper.from_array(value, name) for name, value in zip(wanted, values, strict=True)]
    body = onnx.helper.make_graph(running, "plain", model.graph.input, model.graph.output, kept)
    whole = onnx.helper.make_model(body, opset_imports=model.opset_import, ir_version=model.ir_version)
    onnx.save(whole, plain, save_as_external_data=True, location="plain.bin", size_threshold=256)
    return len(rebuilding)


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main()
