"""Measured batch-norm statistics as a safetensors file: each set once, and an index that says who has which."""

from __future__ import annotations

import json
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from accordion.errors import FormatError
from accordion.training.norms import Norms

__all__ = ["decode_norms", "encode_norms"]

INDEX = "norms"


def encode_norms(norms: Norms) -> bytes:
    """The file's bytes."""
    names: dict[int, str] = {}
    tensors: dict[str, Tensor] = {}

    def refer(tensor: Tensor) -> str:
        if id(tensor) not in names:
            names[id(tensor)] = f"{len(names)}"
            tensors[names[id(tensor)]] = tensor.contiguous()
        return names[id(tensor)]

    index = {
        "shared": {name: refer(tensor) for name, tensor in norms.shared.items()},
        "values": {str(k): {name: refer(tensor) for name, tensor in own.items()} for k, own in norms.values.items()},
    }
    data: bytes = save(tensors, metadata={INDEX: json.dumps(index)})
    return data


def decode_norms(data: bytes) -> Norms:
    """What `encode_norms` wrote; FormatError (as the rest of a sentence about the file) if these bytes are something else."""
    try:
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        index: dict[str, Any] = json.loads(header["__metadata__"][INDEX])
        shared = {str(name): tensors[reference] for name, reference in index["shared"].items()}
        values = {int(k): {str(n): tensors[reference] for n, reference in own.items()} for k, own in index["values"].items()}
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError("does not hold batch-norm statistics: remove it, or calibrate the run again") from error
    return Norms(shared, values)
