"""Reading what describes a link from the disk: `FILE`, or `FILE:ID` for one of the traces in it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path

from accordion.artifact.strict_json import parse_object
from accordion.errors import StorageError, UsageError
from accordion.planning.links import ErrorTable, LinkError, LinkModel, Trace, link_from, parse_link_file
from accordion.planning.links.formats import FILE_LIMIT, Found

__all__ = ["estimate_errors", "read_link", "read_traces"]


def read_link(*names: str, fresh: bool = True) -> LinkModel:
    """The link that the files together describe; see `accordion.planning.links.formats` for what they may be.

    Raises:
        LinkError: a file is missing or makes no sense.
        StorageError: the disk failed.
    """
    return link_from([_split(name) for name in names], fresh=fresh)


def read_traces(name: str) -> tuple[Trace, ...]:
    """The traces of a file, or the one that is named; LinkError if it holds none."""
    found: Found = parse_link_file(*_arguments(_split(name)))
    traces = found.traces or getattr(found.link, "traces", ())
    if not traces:
        raise LinkError(f"{name} holds no trace of rates")
    return tuple(traces)


def _arguments(parts: tuple[str, bytes, str | None]) -> tuple[bytes, str, str | None]:
    name, content, choice = parts
    return content, name, choice


def _split(text: str) -> tuple[str, bytes, str | None]:
    for path, choice in _readings(text):
        if path.is_file():
            try:
                if path.stat().st_size > FILE_LIMIT:
                    raise LinkError(f"{path} has more than the {FILE_LIMIT} bytes that a description of a link may have")
                return str(path), path.read_bytes(), choice
            except OSError as error:
                raise StorageError(f"can't read {path}: {error.strerror or error}") from error
    raise LinkError(f"there is no file {text}")


def _readings(text: str) -> Sequence[tuple[Path, str | None]]:
    """A name may hold colons itself, so the whole is tried first."""
    head, colon, tail = text.rpartition(":")
    return [(Path(text), None), *([(Path(head), tail)] if colon and head else [])]


@cache
def estimate_errors(estimator: str) -> ErrorTable:
    """How wrong an estimator's estimates were on the measured traces: the table that `benchmarks/calibration.py --errors` wrote.

    UsageError if there is none for it.
    """
    raw = resources.files("accordion.planning.links").joinpath("errors.json").read_bytes()
    tables = parse_object(raw, "errors.json", FILE_LIMIT)["estimators"]
    if estimator not in tables:
        raise UsageError(f"nobody has measured the errors of the estimator {estimator!r}; there are {', '.join(tables)}")
    return ErrorTable.from_json(tables[estimator], f"errors.json: {estimator}")
