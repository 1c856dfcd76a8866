"""Test pictures made worse, in a few ways that anyone can make again: same pictures, same level, same pixels."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

__all__ = ["CORRUPTIONS", "Corruption"]

Pixels = NDArray[np.uint8]
SEED = 20_240_229  # of the noise; any fixed number would do


@dataclass(frozen=True, slots=True)
class Corruption:
    """`apply` takes pictures uint8 [n, c, h, w] and their rows in the test split, and gives pictures of the same kind."""

    name: str
    what: str
    apply: Callable[[Pixels, NDArray[np.int64]], Pixels]


def noise(x: Pixels, rows: NDArray[np.int64], sigma: float) -> Pixels:
    """Gaussian noise, independent in each value; `sigma` as a share of the range. Drawn by row, so that a sample has the same."""
    added = np.stack([np.random.default_rng([SEED, int(row)]).standard_normal(x.shape[1:]) for row in rows])
    return _pixels(x + 255 * sigma * added)


def blur(x: Pixels, _: NDArray[np.int64], sigma: float) -> Pixels:
    """Gaussian blur; `sigma` in pixels; mirrored at the edges."""
    return _pixels(gaussian_filter(x.astype(np.float64), sigma=(0, 0, sigma, sigma), mode="reflect"))


def contrast(x: Pixels, _: NDArray[np.int64], factor: float) -> Pixels:
    """Every value drawn towards the picture's mean, so that `factor` of the distance is left."""
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    return _pixels(mean + factor * (x - mean))


def jpeg(x: Pixels, _: NDArray[np.int64], quality: int) -> Pixels:
    """Compressed as JPEG at Pillow's `quality`, and read again."""
    found = np.empty_like(x)
    for index, picture in enumerate(x):
        stream = io.BytesIO()
        grey = picture.shape[0] == 1
        Image.fromarray(picture[0] if grey else picture.transpose(1, 2, 0)).save(stream, "JPEG", quality=quality)
        back = np.asarray(Image.open(stream))
        found[index] = back[None] if grey else back.transpose(2, 0, 1)
    return found


def _pixels(x: NDArray[np.float64]) -> Pixels:
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def _noise(sigma: float) -> Corruption:
    return Corruption(f"noise-{sigma:g}", f"Gaussian noise, σ = {sigma:g} of the range", lambda x, rows: noise(x, rows, sigma))


def _blur(sigma: float) -> Corruption:
    return Corruption(f"blur-{sigma:g}", f"Gaussian blur, σ = {sigma:g} pixels", lambda x, rows: blur(x, rows, sigma))


def _contrast(factor: float) -> Corruption:
    return Corruption(f"contrast-{factor:g}", f"contrast × {factor:g}", lambda x, rows: contrast(x, rows, factor))


def _jpeg(quality: int) -> Corruption:
    return Corruption(f"jpeg-{quality}", f"JPEG, quality {quality}", lambda x, rows: jpeg(x, rows, quality))


CORRUPTIONS: tuple[Corruption, ...] = (
    *(_noise(sigma) for sigma in (0.04, 0.08, 0.12)),
    *(_blur(sigma) for sigma in (0.6, 1.0)),
    *(_contrast(factor) for factor in (0.5, 0.25)),
    *(_jpeg(quality) for quality in (50, 20)),
)
