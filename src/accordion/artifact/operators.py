"""The operators that a graph may use, and what each costs: an allow-list, since a bound needs the cost of everything.

Left out on purpose: branches and loops (`If`, `Loop`, `Scan`: their work can't be told beforehand), random numbers (a package
answers the same every time), sequences, optionals and strings (of no bounded size), and operators whose output's size hangs on
values (`NonZero`, `Compress`, `Unique`, `NonMaxSuppression`). Another is allowed by naming it here together with its cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["ALLOWED", "TABULAR", "names", "work"]

Shape = tuple[int, ...]


def names(text: str) -> frozenset[str]:
    """Operators' names out of a text."""
    return frozenset(text.split())


# Work in proportion to what they read and write.
_LINEAR = names(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh BatchNormalization BitShift BitwiseAnd BitwiseNot
    BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip Concat Constant ConstantOfShape Cos Cosh CumSum DepthToSpace
    DequantizeLinear Div Dropout DynamicQuantizeLinear Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather
    GatherElements GatherND Gelu GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization HardSigmoid
    HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN LayerNormalization LeakyRelu Less LessOrEqual Log
    LogSoftmax Max Mean MeanVarianceNormalization Min Mish Mod Mul Neg Not OneHot Or PRelu Pad Pow QuantizeLinear
    RMSNormalization Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize RotaryEmbedding Round ScatterElements ScatterND Selu Shape
    Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan
    Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Where Xor
    """
)

# Which input holds the weights [out, in / groups, …]: every output value takes one multiply-accumulate for each of the rest.
_CONVOLUTIONS: Mapping[str, int] = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
# Which inputs are multiplied: every output value takes as many as the left one's last axis is long.
_PRODUCTS: Mapping[str, tuple[int, int]] = {"MatMul": (0, 1), "MatMulInteger": (0, 1), "QLinearMatMul": (0, 3)}
_POOLS = frozenset({"AveragePool", "MaxPool", "LpPool"})

_LEARNED = frozenset({*_CONVOLUTIONS, *_PRODUCTS, "ConvTranspose", "Gemm", "LRN"})

TABULAR = names(
    """
    ArrayFeatureExtractor Binarizer Imputer LinearClassifier LinearRegressor Normalizer SVMClassifier SVMRegressor
    Scaler TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor
    """
)
"""Of ONNX's `ai.onnx.ml`: their tables are attributes, whose size is bounded with the graph's."""

ALLOWED = _LINEAR | _POOLS | _LEARNED

Attributes = Callable[[str, Any], Any]


def work(operator: str, inputs: Sequence[Shape], outputs: Sequence[Shape], attribute: Attributes) -> int:
    """Multiply-accumulates, or values read and written where there are none; `attribute(name, default)` reads the node."""
    written = sum(map(math.prod, outputs))
    each = 0
    if operator in _CONVOLUTIONS:
        each = math.prod(inputs[_CONVOLUTIONS[operator]][1:])
    elif operator in _PRODUCTS:
        left = inputs[_PRODUCTS[operator][0]]
        each = left[-1] if left else 1
    elif operator == "Gemm":
        each = inputs[0][0 if attribute("transA", 0) else -1]
    elif operator == "ConvTranspose":
        return written + math.prod(inputs[0]) * math.prod(inputs[1][1:])
    elif operator in _POOLS:
        each = math.prod(max(0, size) for size in attribute("kernel_shape", ()))
    elif operator == "LRN":
        each = max(0, attribute("size", 0))
    return written * (1 + each) + sum(map(math.prod, inputs))
