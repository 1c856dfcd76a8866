"""Files that a user names, as arrays that a configuration takes: .npy, .npz, pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accordion.artifact.tensor_spec import TensorSpec
from accordion.cli.extras import extra
from accordion.damage import DAMAGE
from accordion.device.inputs import check_range
from accordion.errors import FormatError, UsageError

__all__ = ["read_inputs"]

Array = NDArray[Any]
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm")
CHANNELS = {1: "L", 3: "RGB", 4: "RGBA"}


def read_inputs(texts: Sequence[str], specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """The arrays for a network's inputs, by name, out of `FILE`, `NAME=FILE` or .npz files that hold arrays by name.

    Several files for one input are joined along its first axis, where that varies. Pictures are scaled to the size and the range
    that the input has.

    Raises:
        UsageError: a file is missing or unreadable, or does not fit the input, or an input is left out.
    """
    by_name = {spec.name: spec for spec in specs}
    found: dict[str, list[Array]] = {}
    for text in texts:
        for name, array in _read(text, by_name).items():
            found.setdefault(name, []).append(array)
    if missing := [name for name in by_name if name not in found]:
        raise UsageError(f"there is no file for {', '.join(missing)}: name it as {missing[0]}=FILE")
    return {name: _joined(name, arrays, by_name[name]) for name, arrays in found.items()}


def _read(text: str, by_name: Mapping[str, TensorSpec]) -> dict[str, Array]:
    name, equals, rest = text.partition("=")
    if equals and name in by_name:
        path, chosen = Path(rest), name
    else:
        path, chosen = Path(text), next(iter(by_name))
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    is_picture = path.suffix.lower() in PICTURES
    arrays = {chosen: _picture(path, by_name[chosen])} if is_picture else _numpy(path, chosen)
    if unknown := [key for key in arrays if key not in by_name]:
        raise UsageError(f"{path} has the array {unknown[0]!r}; the inputs are {', '.join(by_name)}")
    if not equals and len(by_name) > 1 and path.suffix.lower() != ".npz":
        raise UsageError(f"which input is {path}? Name it as {chosen}={path} ({', '.join(by_name)})")
    return {key: _fitted(array, by_name[key], str(path)) for key, array in arrays.items()}


def _numpy(path: Path, name: str) -> dict[str, Array]:
    try:
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {name: loaded}
            return {key: loaded[key] for key in loaded.files}
    except DAMAGE as error:
        raise UsageError(f"{path} is neither an array (.npy, .npz) nor a picture ({', '.join(PICTURES)})") from error
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror or error}") from error


def _picture(path: Path, spec: TensorSpec) -> Array:
    sizes = spec.shape[-3:]
    if len(spec.shape) != 4 or not all(isinstance(size, int) for size in sizes) or sizes[0] not in CHANNELS:
        raise UsageError(f"{path} is a picture, but the input {spec.name!r} is no place for one: its shape is {_shape(spec)}")
    with extra("train"):
        from PIL import Image
    channels, height, width = (int(size) for size in sizes)
    try:
        with Image.open(path) as image:
            converted = image.convert(CHANNELS[channels])
            pixels = np.asarray(converted.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(f"{path} is not a picture that can be read: {error}") from error
    low, high = spec.range or (0.0, 1.0)
    scaled = low + pixels.reshape(height, width, channels).transpose(2, 0, 1) * np.float32((high - low) / 255)
    return np.ascontiguousarray(scaled)


def _fitted(array: Array, spec: TensorSpec, where: str) -> Array:
    """The array with all of its axes, in the type of the input; a single example gets its first axis."""
    wanted = spec.shape
    if array.ndim == len(wanted) - 1 and isinstance(wanted[0], str):
        array = array[None]
    if len(array.shape) != len(wanted) or any(isinstance(w, int) and w != a for w, a in zip(wanted, array.shape, strict=True)):
        raise UsageError(f"{where} has the shape {list(array.shape)}; the input {spec.name!r} takes {_shape(spec)}")
    try:
        kind = np.dtype(spec.dtype)
    except TypeError as error:
        raise FormatError(f"the input {spec.name!r} is of {spec.dtype!r}, which is no type") from error
    if not np.can_cast(array.dtype, kind, "same_kind"):
        raise UsageError(f"{where} holds {array.dtype}; the input {spec.name!r} takes {kind}")
    with np.errstate(over="ignore"):  # what became infinite is said below
        made = np.ascontiguousarray(array.astype(kind))
    if made.size == 0:
        raise UsageError(f"{where} is empty")
    if kind.kind == "f" and not np.isfinite(made).all():
        raise UsageError(f"{where} holds values that are not numbers")
    check_range(made, spec, where)
    return made


def _joined(name: str, arrays: Sequence[Array], spec: TensorSpec) -> Array:
    if len(arrays) == 1:
        return arrays[0]
    if not isinstance(spec.shape[0], str):
        raise UsageError(f"the input {name!r} takes one file, not {len(arrays)}: its shape is {_shape(spec)}")
    try:
        return np.concatenate(arrays)
    except ValueError as error:
        raise UsageError(f"the files for {name!r} don't fit together: {error}") from error


def _shape(spec: TensorSpec) -> str:
    return "[" + ", ".join(str(size) for size in spec.shape) + "]"
