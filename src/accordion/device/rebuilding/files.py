"""Segment files, read for the tensors in them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from accordion.device.rebuilding.pieces import Array
from accordion.errors import FormatError, StorageError

__all__ = ["Files"]

WHOLE_FILE = 2**23  # bytes up to which a file is read whole


class Files:
    """The segments, read when first asked for: small ones whole, of others what is wanted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, int] = {}
        self._whole: dict[str, bytes] = {}

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *error: object) -> None:
        for number in self._open.values():
            os.close(number)

    def read(self, path: str, offset: int, length: int, kind: str) -> Array:
        """These bytes as numbers of `kind`."""
        try:
            if path not in self._open:
                number = self._open[path] = os.open(self._folder / path, os.O_RDONLY | os.O_CLOEXEC)
                if (size := os.fstat(number).st_size) <= WHOLE_FILE:
                    self._whole[path] = os.pread(number, size, 0)
            data = self._whole.get(path)
            if data is None:
                data, offset = os.pread(self._open[path], length, offset), 0
        except OSError as error:
            raise StorageError(f"can't read {self._folder / path}: {error.strerror or error}") from error
        if len(data) < offset + length:
            raise FormatError(f"{self._folder / path} is shorter than what is to be read from it")
        return np.frombuffer(data, np.uint8, length, offset).view(kind)
