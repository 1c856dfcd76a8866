"""One configuration as an ONNX model: what is timed here is what the package later ships.

Of PyTorch's two exporters this uses the older one, which traces the module. Measured on one core with ResNet-110: 0.1 s for the
smallest configuration and 0.9 s for the complete one, 30 s for all 54; the one based on `torch.export` took 7 to 18 s for each.
Tracing is exact here: a configuration is an argument long before the trace begins, so no choice is left inside the module.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from accordion.errors import UsageError
from accordion.profiling.threads import one_thread

__all__ = ["INPUT_NAME", "OPSET", "OUTPUT_NAME", "export_onnx"]

INPUT_NAME, OUTPUT_NAME = "input", "logits"

OPSET = 17
"""Old enough for every ONNX Runtime of the last years, new enough for LayerNormalization and for what ResNets need."""


def export_onnx(
    module: nn.Module,
    example: Tensor,
    *,
    input_name: str = INPUT_NAME,
    output_names: Sequence[str] = (OUTPUT_NAME,),
    axes: Mapping[str, Mapping[int, str]] | None = None,
) -> bytes:
    """`module` in eval mode as an ONNX model with its weights inside.

    The first axis of input and outputs is open (`n`), or those that `axes` names are, by input or output and position.

    `example` [n, …] is a batch as the module takes it; use n ≥ 2, since a trace may specialise a batch of one. Normalisation layers
    stay as they are (`accordion.packaging` folds them). UsageError if the module can't be exported.
    """
    stream = io.BytesIO()
    training = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad(), one_thread(), _quiet(), plain_attention():
            torch.onnx.export(
                module,
                (example,),
                stream,  # type: ignore[arg-type]  # the older exporter takes streams, which its types don't say
                input_names=[input_name],
                output_names=list(output_names),
                dynamic_axes={name: dict((axes or {}).get(name, {0: "n"})) for name in (input_name, *output_names)},
                opset_version=OPSET,
                # PRESERVE, in eval mode: the exporter would fold batch norm in float32 and lose the weights' names.
                training=torch.onnx.TrainingMode.PRESERVE,
                do_constant_folding=False,
                dynamo=False,
            )
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        first = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise UsageError(f"{type(module).__name__} can't be exported to ONNX: {first[0]}") from error
    finally:
        for part, mode in training:
            part.training = mode
    return stream.getvalue()


@contextmanager
def plain_attention() -> Iterator[None]:
    """PyTorch's fused attention of eval mode has no operator in ONNX and is not counted; what it is made of has, and is."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


_EXPECTED_WARNINGS: tuple[tuple[str, type[Warning]], ...] = (
    ("You are using the legacy TorchScript-based ONNX export", DeprecationWarning),
    ("The feature will be removed. Please remove usage of this function", DeprecationWarning),
    ("Constant folding - Only steps=1 can be constant folded", UserWarning),
)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what the exporter says about itself, and nothing else."""
    with warnings.catch_warnings():
        for message, category in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=re.escape(message), category=category)
        yield
