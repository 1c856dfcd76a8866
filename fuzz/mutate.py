"""Changes to inputs, each out of a `Random`, so that a seed says all of them."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import onnx
import zstandard
from google.protobuf.message import DecodeError

__all__ = ["archive_bytes", "graph_bytes", "json_bytes", "lines_bytes", "plain_bytes", "segment_bytes"]

ODD: tuple[Any, ...] = (
    *(0, -1, 1, 2, 2**31, 2**53, 2**63 - 1, 2**64, 10**400, -(2**63), 0.5, -0.0, 1e308, 1e-320),
    *(True, False, None, "", "a", "../x", "\u0000", "é\u202e", "x" * 2000, [], {}, [[]], "sha256:" + "0" * 64),
)
NUMBERS = (0, 1, -1, 2, 3, 7, 2**16, 2**31, 2**40, 2**62, -(2**62), 2**63 - 1, -(2**63))
UNPACK_LIMIT = 2**20


def plain_bytes(data: bytes, rng: Random) -> bytes:
    """Bytes flipped, set, taken out, put in, or repeated elsewhere."""
    made = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(made))
        kind = rng.choice(("flip", "set", "delete", "insert", "copy", "cut"))
        if kind in ("flip", "set") and at < len(made):
            made[at] = (
                made[at] ^ (1 << rng.randrange(8)) if kind == "flip" else rng.choice((0, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            )
        elif kind == "delete":
            del made[at : at + rng.randint(1, 8)]
        elif kind == "insert":
            made[at:at] = rng.randbytes(rng.randint(1, 8))
        elif kind == "copy":
            other = rng.randint(0, len(made))
            made[at:at] = made[other : other + rng.randint(1, 64)]
        elif kind == "cut" and rng.random() < 0.2:
            del made[at:]
    return bytes(made)


def json_bytes(data: bytes, rng: Random) -> bytes:
    """A value of the JSON document changed, or, now and then and where it is none, its bytes."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return plain_bytes(data, rng)
    if rng.random() < 0.25:
        return plain_bytes(data, rng)
    for _ in range(rng.randint(1, 3)):
        value = _changed(value, rng)
    try:
        return json.dumps(value, ensure_ascii=rng.random() < 0.5).encode()
    except (ValueError, RecursionError):  # half a surrogate pair
        return plain_bytes(data, rng)


def lines_bytes(data: bytes, rng: Random) -> bytes:
    """One line of a text changed, left out, or said twice; a line may be JSON."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    kind = rng.choice(("change", "change", "leave out", "twice", "bytes"))
    if kind == "change":
        lines[at] = json_bytes(lines[at], rng)
    elif kind == "leave out":
        del lines[at]
    elif kind == "twice":
        lines.insert(at, lines[at])
    else:
        return plain_bytes(data, rng)
    return b"\n".join(lines)


def segment_bytes(data: bytes, rng: Random) -> bytes:
    """The header changed, with a length that fits it, or anything else."""
    length = int.from_bytes(data[:8], "little")
    if rng.random() < 0.3 or 8 + length > len(data):
        return plain_bytes(data, rng)
    header = json_bytes(data[8 : 8 + length].rstrip(b" "), rng)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def archive_bytes(data: bytes, rng: Random) -> bytes:
    """The tar inside changed and compressed again, its headers with right sums more often than not; or the frame's bytes."""
    try:
        tar = bytearray(zstandard.ZstdDecompressor().decompress(data, max_output_size=UNPACK_LIMIT))
    except (zstandard.ZstdError, MemoryError):
        return plain_bytes(data, rng)
    if rng.random() < 0.2 or len(tar) < 512:
        return plain_bytes(data, rng)
    if rng.random() < 0.5:
        tar = bytearray(plain_bytes(bytes(tar), rng))
    else:
        start, count = rng.choice(((0, 100), (100, 24), (124, 12), (156, 1), (157, 100), (257, 8), (345, 155)))
        header = 512 * rng.randrange(max(1, len(tar) // 512))
        at = header + start + rng.randrange(count)
        if at < len(tar):
            tar[at] = rng.choice((0, 0x20, 0x2E, 0x2F, 0x30, 0x37, 0x80, 0xFF, rng.randrange(256)))
    for header in range(0, len(tar) - 511, 512):
        if tar[header + 257 : header + 262] == b"ustar" and rng.random() < 0.8:
            tar[header + 148 : header + 156] = b" " * 8
            tar[header + 148 : header + 156] = b"%06o\0 " % sum(tar[header : header + 512])
    return zstandard.ZstdCompressor(level=1, write_content_size=rng.random() < 0.5).compress(bytes(tar))


def graph_bytes(data: bytes, rng: Random) -> bytes:
    """Nodes, attributes, tensors, inputs and operator sets changed; now and then the bytes."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data[1:])
    except (DecodeError, ValueError, RecursionError):
        return plain_bytes(data, rng)
    if rng.random() < 0.15 or not model.graph.node:
        return plain_bytes(data, rng)
    try:
        for _ in range(rng.randint(1, 3)):
            rng.choice(_GRAPH_CHANGES)(model, rng)
        return data[:1] + model.SerializeToString()
    except (ValueError, TypeError):  # names that are no UTF-8, numbers that a field can't hold
        return plain_bytes(data, rng)


def _changed(value: Any, rng: Random) -> Any:
    """One place somewhere in a JSON value made something else."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        kind = rng.random()
        if kind < 0.08:
            return {name: one for name, one in value.items() if name != key}
        if kind < 0.14:
            return {**value, str(rng.choice(ODD))[:40]: value[key]}
        return {**value, key: _changed(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        kind = rng.random()
        if kind < 0.08:
            return value[:at] + value[at + 1 :]
        if kind < 0.16:
            return [*value[:at], value[at], *value[at:]]
        return [*value[:at], _changed(value[at], rng), *value[at + 1 :]]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and rng.random() < 0.4:
        return rng.choice((-value, value + 1, value - 1, value * 2, value / 2 if abs(value) < 1e300 else 0))
    return rng.choice(ODD)


def _operator(model: onnx.ModelProto, rng: Random) -> None:
    from accordion.artifact.operators import ALLOWED

    rng.choice(model.graph.node).op_type = rng.choice(sorted(ALLOWED))


def _attribute(model: onnx.ModelProto, rng: Random) -> None:
    node = rng.choice(model.graph.node)
    names = (
        "axis",
        "to",
        "perm",
        "pads",
        "kernel_shape",
        "strides",
        "dilations",
        "group",
        "num_outputs",
        "batch_dims",
        "blocksize",
    )
    value: Any = rng.choice((rng.choice(NUMBERS), [rng.choice(NUMBERS) for _ in range(rng.randint(1, 4))], 1e38, "x"))
    name = rng.choice(names)
    for at in reversed([at for at, one in enumerate(node.attribute) if one.name == name]):
        if rng.random() < 0.8:
            del node.attribute[at]
    node.attribute.append(onnx.helper.make_attribute(name, value))


def _wiring(model: onnx.ModelProto, rng: Random) -> None:
    node = rng.choice(model.graph.node)
    known = ["", *(name for one in model.graph.node for name in one.output), *(one.name for one in model.graph.initializer)]
    if node.input and rng.random() < 0.7:
        node.input[rng.randrange(len(node.input))] = rng.choice(known)
    elif rng.random() < 0.5:
        node.input.append(rng.choice(known))
    elif node.input:
        del node.input[-1]


def _tensor(model: onnx.ModelProto, rng: Random) -> None:
    if not model.graph.initializer:
        return
    tensor = rng.choice(model.graph.initializer)
    kind = rng.choice(("dims", "type", "raw", "place"))
    if kind == "dims":
        tensor.dims[:] = [rng.choice(NUMBERS) for _ in range(rng.randint(0, 4))]
    elif kind == "type":
        tensor.data_type = rng.randint(0, 24)
    elif kind == "raw":
        tensor.raw_data = plain_bytes(tensor.raw_data, rng)
    elif tensor.external_data:
        rng.choice(tensor.external_data).value = str(rng.choice((*NUMBERS, "../x", "/etc/passwd", "", "1e3", "000.safetensors")))


def _whole_number(model: onnx.ModelProto, rng: Random) -> None:
    """A new tensor of whole numbers in the place of an input: shapes, axes, repeats."""
    name = f"made{len(model.graph.initializer)}"
    values = [rng.choice(NUMBERS) for _ in range(rng.randint(0, 4))]
    model.graph.initializer.append(onnx.helper.make_tensor(name, onnx.TensorProto.INT64, [len(values)], values))
    node = rng.choice(model.graph.node)
    if node.input:
        node.input[rng.randrange(len(node.input))] = name


def _node(model: onnx.ModelProto, rng: Random) -> None:
    at = rng.randrange(len(model.graph.node))
    copy = onnx.NodeProto()
    copy.CopyFrom(model.graph.node[at])
    if rng.random() < 0.5:
        for position, name in enumerate(copy.output):
            copy.output[position] = name + "x"
        model.graph.node.insert(at, copy)
    else:
        del model.graph.node[at]
        if not model.graph.node:
            model.graph.node.append(copy)


def _around(model: onnx.ModelProto, rng: Random) -> None:
    kind = rng.choice(("opset", "domain", "ir", "input", "output"))
    if kind == "opset":
        model.opset_import[0].version = rng.choice((*NUMBERS, 7, 13, 18, 21, 22, 999))
    elif kind == "domain":
        rng.choice(model.graph.node).domain = rng.choice(("", "ai.onnx", "ai.onnx.ml", "com.example"))
    elif kind == "ir":
        model.ir_version = rng.choice((0, 3, 8, 10, 99, 2**62))
    elif kind == "input" and model.graph.input:
        dims = rng.choice(model.graph.input).type.tensor_type.shape.dim
        if dims:
            rng.choice(dims).dim_value = rng.choice(NUMBERS)
    elif model.graph.output:
        rng.choice(model.graph.output).name = rng.choice(
            ("", "nothing", model.graph.node[0].output[0] if model.graph.node[0].output else "x")
        )


_GRAPH_CHANGES = (_operator, _attribute, _wiring, _tensor, _whole_number, _node, _around)
