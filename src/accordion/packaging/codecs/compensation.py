"""Rounding that makes good in later weights what earlier ones lost.

After Frantar et al., GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers (2022), which applies the
optimal brain surgeon's update (Hassibi and Stork, 1993) column by column, in a fixed order for all rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accordion.packaging.codecs.interface import Weights

__all__ = ["compensate"]

DAMPING = 0.01
"""Added to the Hessian's diagonal, as a fraction of its mean: inputs that hardly occur must not carry large corrections."""


def compensate(rows: Weights, scales: NDArray[np.float32], bits: int, hessian: NDArray[np.float64]) -> NDArray[np.int16]:
    """Codes [m, n] for `rows` [m, n] at the given `scales` [m], of small error in rows · x for inputs with mean x·xᵀ `hessian`.

    Columns are rounded from the one with the largest inputs to the smallest; each error is spread over the columns to come. A
    weight that is zero stays zero, and what it should have taken on is passed on: else pruned weights would come back.
    """
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    energy = np.diag(hessian).copy()
    order = np.argsort(-energy, kind="stable")
    damped = hessian[np.ix_(order, order)] + np.eye(len(order)) * max(DAMPING * float(energy.mean()), 1e-12)
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    left = rows[:, order].astype(np.float64)
    gone = left == 0
    codes = np.zeros(rows.shape, np.int16)
    safe = np.where(scales == 0, np.float32(1), scales).astype(np.float64)
    for column in range(left.shape[1]):
        found = np.clip(np.rint(left[:, column] / safe), low, high)
        found[(scales == 0) | gone[:, column]] = 0
        codes[:, order[column]] = found
        error = (left[:, column] - found * scales) / upper[column, column]
        left[:, column + 1 :] -= error[:, None] * upper[column, column + 1 :]
    return codes
