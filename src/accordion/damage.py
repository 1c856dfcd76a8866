"""What NumPy raises for files that are no arrays, or damaged ones: for commands that read a user's own."""

from __future__ import annotations

import lzma
import tokenize
import zipfile
import zlib

__all__ = ["DAMAGE"]

DAMAGE = (
    *(ValueError, EOFError, KeyError, TypeError, AttributeError, SyntaxError),
    *(RuntimeError, MemoryError),  # NotImplementedError is a RuntimeError
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
