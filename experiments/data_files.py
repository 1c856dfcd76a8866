"""Data files of the experiments: small JSON objects, written whole or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accordion.artifact.atomic import write_file
from accordion.errors import FormatError, StorageError

__all__ = ["check_name", "compact", "parse", "read_object", "write_object"]


def parse(raw: bytes) -> Any:
    """JSON of finite numbers. ValueError for anything else, nested beyond reason too."""
    try:
        return json.loads(raw, parse_float=_finite, parse_constant=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text:.40} is no finite number")
    return value


def check_name(path: Path, name: str) -> None:
    """FormatError if a file is not called what it holds the outcome of: a copy would count as another seed."""
    if path.stem != name:
        raise FormatError(f"{path} holds the outcome of {name}, which belongs into {name}.json: is it a copy?")


def read_object(path: Path, what: str) -> dict[str, Any]:
    """The object in a file. StorageError if it can't be read, FormatError, naming `what` it should be, if it is no object."""
    try:
        data = parse(path.read_bytes())
    except OSError as error:
        raise StorageError(f"can't read {path}: {error.strerror}") from error
    except ValueError as error:
        raise FormatError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise FormatError(f"{path} is not {what}: no object")
    return data


def write_object(path: Path, value: Mapping[str, Any]) -> Path:
    """Writes the file, its folder too, and returns its path. StorageError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"can't make {path.parent}: {error.strerror}") from error
    write_file(path, compact(value))
    return path


def compact(value: Mapping[str, Any]) -> bytes:
    """JSON with one line for each field, list of numbers or row, so that a change of one shows as one."""
    return (_lines(value, "") + "\n").encode()


def _lines(value: Any, indent: str) -> str:
    inner = indent + " "
    if isinstance(value, Mapping) and any(isinstance(part, Mapping | list) for part in value.values()):
        rows = [f"{inner}{json.dumps(key)}: {_lines(part, inner)}" for key, part in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(part, Mapping | list) for part in value):
        return "[\n" + ",\n".join(f"{inner}{json.dumps(part, ensure_ascii=False)}" for part in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)
