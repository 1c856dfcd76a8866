"""Codecs: how the weights of a tensor travel, and the standard operators that make them weights again.

A codec turns one float32 tensor into `Part`s (`encode`) and writes the ONNX nodes that rebuild the tensor from them (`rebuild`).
Several codecs one after the other are a `Precision`: each encodes what those before left over, and the tensor is the sum of what
they rebuild. Everything else (which tensors travel together, which configuration brings them, file formats) is none of a codec's
business; `accordion.packaging.encode` sees to it. A new codec is one class with the three members of `Codec`, and an entry in
`accordion.packaging.codecs.catalog`.
"""

from accordion.packaging.codecs.catalog import PRECISIONS, by_name
from accordion.packaging.codecs.factors import LowRank
from accordion.packaging.codecs.floats import BFloat16, Float8, Float16, Float32
from accordion.packaging.codecs.integers import Integer, quantize
from accordion.packaging.codecs.interface import Builder, Codec, Encoded, Kind, Part, Precision, encode_planes
from accordion.packaging.codecs.sparse import Sparse

__all__ = [
    "PRECISIONS",
    "BFloat16",
    "Builder",
    "Codec",
    "Encoded",
    "Float8",
    "Float16",
    "Float32",
    "Integer",
    "Kind",
    "LowRank",
    "Part",
    "Precision",
    "Sparse",
    "by_name",
    "encode_planes",
    "quantize",
]
