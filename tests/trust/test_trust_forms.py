"""Several forms of one network under one name: changing between them is no way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from accordion.artifact.build import ConfigurationParts, build_version
from accordion.artifact.layout import Layout
from accordion.artifact.segment import encode_segment, parse_header
from accordion.device import Request, fetch
from accordion.endpoint import export
from accordion.trust import Trust
from accordion.trust.keys import PrivateKey
from accordion.trust.signature import add_signature
from accordion.trust.statement import Statement


def add_form(path: Path, tag: str, macs: int = 4) -> None:
    """y = x · w in one configuration; `macs` is what the ladder claims."""
    segment = encode_segment({"w": np.full((2, 2), float(len(tag)), np.float32)})
    info = parse_header(segment, len(segment), "w.safetensors")["w"]
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=info.shape, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "w.safetensors"), ("offset", str(info.start)), ("length", str(info.end - info.start))):
        weight.external_data.add(key=key, value=value)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "form", values[:1], values[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    quality = {
        "metric": "accuracy", "direction": "higher", "unit": "1", "value": 0.5, "interval": [0.4, 0.6], "confidence": 0.95,
        "interval_method": "Clopper-Pearson", "samples": 100, "dataset": "made by hand", "split": "test",
    }  # fmt: skip
    spec: dict[str, Any] = {"dtype": "float32", "shape": ["n", 2], "layout": "", "range": None, "labels": None}
    rung = {
        "index": 0, "blocks": {"total": 1, "by_stage": [1]}, "precision": "float32", "parameters": 4, "macs": macs,
        "macs_per": "input", "quality": quality,
    }  # fmt: skip
    build_version(
        Layout.create(path),
        tag,
        ladder_fields={
            "schema_version": 1,
            "task": "test",
            "order": "right-to-left",
            "family": "one",
            "inputs": [{"name": "x", **spec}],
            "outputs": [{"name": "y", **spec}],
            "configurations": [rung],
        },
        configurations=[ConfigurationParts("g.onnx", bytes(model.SerializeToString()), {"w.safetensors": segment})],
    )


def test_from_form_to_form_and_back(shop: Any, trust: Trust, maker: PrivateKey, tmp_path: Path) -> None:
    package = tmp_path / "forms"
    for tag, macs in (("full", 400), ("small", 4)):
        add_form(package, tag, macs)
    layout = Layout.open(package)
    for tag in layout.tags():
        manifest = layout.manifest(tag)
        add_signature(layout, manifest, Statement(manifest.digest, "forms", (tag, "latest"), 7), maker, 0)
    export(package, shop.static)
    trust.add_keys(["forms"], [maker.public.pem.encode()], None)
    source = f"{shop.url}/forms"
    got = [fetch(source, tmp_path / "m", Request(prefer=prefer), trust=trust).manifest for prefer in ("macs", "bytes", "macs")]
    assert got[0] == got[2] == layout.resolve("small").digest
    for tag in ("full", "small", "full"):
        assert fetch(f"{source}:{tag}", tmp_path / tag, trust=trust).manifest == layout.resolve(tag).digest
