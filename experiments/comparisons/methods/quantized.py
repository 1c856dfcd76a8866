"""The plain network with fewer bits, after training."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime.quantization as ort
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization.shape_inference import quant_pre_process

from accordion.packaging.calibrate import calibration_pictures
from accordion.packaging.graph import Graph
from accordion.profiling import count_macs, count_parameters
from experiments.comparisons.bases import plain
from experiments.comparisons.context import Context, Made, Method
from experiments.comparisons.files import Piece, folded, ship_bytes
from experiments.comparisons.methods.common import ROUNDING, encodings_of, example, folder_of, int4_of, measured
from experiments.comparisons.outcome import Training

__all__ = ["METHOD", "static_int8"]

FAMILY = "quantized"
INTEGERS = "integer kernels, to be faster too"


def execute(context: Context) -> Made:
    base = plain(context)
    module, made = base.module, folded([Piece(base.module, example(context))])
    network = context.comparison.network
    rows = encodings_of(context, module, family=FAMILY, label=network, codecs=("float16", "float8", "int8"))
    facts: dict[str, Any] = {"parameters": count_parameters(module), "macs": count_macs(module, example(context)[:1])}
    pictures = calibration_pictures(context.splits[0])
    shipped = ship_bytes(static_int8(made.graphs[0], pictures), folder_of(context, "int8-static"))
    label = f"{network}, int8 weights and activations"
    rows.append(measured(context, shipped, family=FAMILY, label=label, **facts, needs=INTEGERS))
    rounding, row = int4_of(context, made, family=FAMILY, label=network, **facts)
    return Made(base.under(Training(0, 0.0, 0.0)), (*rows, row), {ROUNDING: rounding})


class _Pictures(ort.CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
    def __init__(self, name: str, pictures: NDArray[np.uint8]) -> None:
        self._batches: Iterator[dict[str, NDArray[np.float32]]] = iter(
            [{name: part.astype(np.float32) / np.float32(255)} for part in np.array_split(pictures, max(1, len(pictures) // 32))]
        )

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next batch of inputs, or None."""
        return next(self._batches, None)


def static_int8(graph: Graph, pictures: NDArray[np.uint8]) -> bytes:
    """`graph` with weights and activations of 8 bits, by ONNX Runtime's own quantizer, calibrated on `pictures` [n, c, h, w]."""
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in graph.tensors.items()]
    body = onnx.helper.make_graph(graph.nodes, "plain", graph.inputs, graph.outputs, tensors)
    model = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", graph.opset)], ir_version=graph.ir_version)
    with tempfile.TemporaryDirectory(prefix="accordion-int8-") as name:
        before, ready, after = (Path(name) / f"{step}.onnx" for step in ("float", "ready", "int8"))
        before.write_bytes(model.SerializeToString())
        quant_pre_process(str(before), str(ready), skip_symbolic_shape=True)  # plain shapes are all that these graphs need
        ort.quantize_static(
            str(ready),
            str(after),
            _Pictures(graph.inputs[0].name, pictures),
            quant_format=ort.QuantFormat.QDQ,
            per_channel=True,
            weight_type=ort.QuantType.QInt8,
            activation_type=ort.QuantType.QUInt8,
            calibrate_method=ort.CalibrationMethod.MinMax,
        )
        return after.read_bytes()


METHOD = Method(
    "quantized",
    "quantized after training",
    "int8 with activations: Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only "
    "Inference, 2018 (arXiv 1712.05877), by ONNX Runtime's quantizer; int4: Frantar, Ashkboos, Hoefler, Alistarh, GPTQ, 2022 "
    "(arXiv 2210.17323); float8: Micikevicius et al., FP8 Formats for Deep Learning, 2022 (E4M3, arXiv 2209.05433)",
    "after training alone, also int8 with activations; float16, float8, int8 and int4 are of weights, rebuilt as float32 when the "
    "model is loaded; the first and the last layer of float8 and int4 keep 8 bits; int4 is rounded to nearest or as in GPTQ, "
    "whichever is better on the validation split",
    "for int8 weights and activations: integer kernels, to be faster too",
    "nothing",
    execute,
)
