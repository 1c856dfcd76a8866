"""Everything that can go wrong, as one tree. The type says who failed; the command line takes its exit code from it.

AccordionError              1  something failed
├── UsageError              2  the caller asked for what makes no sense: an unknown name, a bad value
├── UnmeetableError         3  the request is well formed, but no configuration meets it
├── ContentError            4  what is there is not what was promised
│   ├── FormatError         4  a manifest, ladder, segment, graph or archive breaks the specification
│   ├── DigestError         4  the bytes have another SHA-256 or another size than was promised
│   └── SignatureError      4  a signature is missing or wrong
├── TransferError           1  the network or the other side of it failed; trying again can help
├── StorageError            1  the local disk failed: full, read-only, not permitted
└── TrainingError           1  a training can't start or go on
    └── StoppedError        1  a signal or the end of its time stopped a training; the same call goes on
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

__all__ = [
    "AccordionError",
    "ContentError",
    "DigestError",
    "FormatError",
    "SignatureError",
    "StoppedError",
    "StorageError",
    "TrainingError",
    "TransferError",
    "UnmeetableError",
    "UsageError",
]


class AccordionError(Exception):
    """Base of all errors that this package raises on purpose; its text is one line for a person."""

    exit_code: ClassVar[int] = 1


class UsageError(AccordionError):
    """The caller asked for what makes no sense: an unknown name, a bad value, contradicting options."""

    exit_code = 2


class UnmeetableError(AccordionError):
    """No configuration meets the request.

    `limit` names the request's field that failed (as in the plan request: `deadline_s`, `max_bytes`, …);
    `nearest` is the nearest plan that can be had, as JSON values, or None if there is none at all.
    """

    exit_code = 3

    def __init__(self, message: str, *, limit: str, nearest: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.limit = limit
        self.nearest = nearest

    def __reduce__(self) -> tuple[Any, ...]:
        """So that it comes out of another process as what it is."""
        return _unmeetable, (type(self), str(self), self.limit, self.nearest)


def _unmeetable(kind: type[UnmeetableError], message: str, limit: str, nearest: Mapping[str, Any] | None) -> UnmeetableError:
    return kind(message, limit=limit, nearest=nearest)


class ContentError(AccordionError):
    """What is there is not what was promised."""

    exit_code = 4


class FormatError(ContentError):
    """A manifest, ladder, segment, graph or archive breaks the package specification."""


class DigestError(ContentError):
    """The bytes have another SHA-256 or another size than was promised."""


class SignatureError(ContentError):
    """A signature is missing, malformed or wrong."""


class TransferError(AccordionError):
    """The network, or what answered on it, failed. Trying again can help.

    `status` is the HTTP status where there was one.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class StorageError(AccordionError):
    """The local disk failed: full, read-only, not permitted."""


class TrainingError(AccordionError):
    """A training can't start or go on."""


class StoppedError(TrainingError):
    """A signal or the end of its time stopped a training; the checkpoint is written, and the same call goes on."""
