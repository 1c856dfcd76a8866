"""What devices asked for, read from a table (CSV), from JSON lines, or from an endpoint's request log. Values, no I/O."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from accordion.artifact.strict_json import parse_object
from accordion.errors import FormatError, UsageError
from accordion.planning import Request

__all__ = ["Ask", "parse_requests"]

LINE_LIMIT = 64 * 1024
LIMITS = tuple(field.name for field in fields(Request) if field.name not in ("reference", "held"))
WHOLE = ("max_bytes", "max_macs", "inferences")
OTHERS = ("configuration", "count", "name", "manifest", "hour", "limit", "asked", "upgrade")


@dataclass(frozen=True, slots=True)
class Ask:
    """One line: asked `count` times, for `configuration` or within the limits of `request`.

    `planned`: an endpoint says what it planned, `configuration` of `manifest`, or None because the limits could not be met.
    """

    where: str
    count: float
    configuration: int | None
    request: Request | None
    planned: bool
    name: str | None = None
    manifest: str | None = None


def parse_requests(text: str, source: str, name: str | None = None) -> list[Ask]:
    """The asks in `text`, which people know as `source`; of a log of several packages, those for the one called `name`.

    CSV has a header; its columns, and the fields of JSON lines, are `configuration`, the limits of a plan request
    (`min_quality`, `max_bytes`, `deadline_s`, …), and `count` (how often it was asked; 1 if left out).

    Raises:
        UsageError: a line makes no sense, or the log is of several packages and none is chosen.
    """
    lines = _json_lines(text, source) if text.lstrip().startswith("{") else _table(text, source)
    asks = [_ask(where, row) for where, row in lines]
    names = {ask.name for ask in asks if ask.name is not None}
    if name is not None:
        asks = [ask for ask in asks if ask.name in (None, name)]
    elif len(names) > 1:
        raise UsageError(f"{source} has requests for {', '.join(sorted(names)[:5])}: choose one by its name")
    if not asks:
        known = f"; there are requests for {', '.join(sorted(names)[:5])}" if names else ""
        raise UsageError(f"{source} holds no request{'' if name is None else f' for {name!r}'}{known}")
    return asks


def _json_lines(text: str, source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            where = f"{source}, line {number}"
            try:
                yield where, parse_object(line.encode(), where, LINE_LIMIT)
            except FormatError as error:
                raise UsageError(str(error)) from error


def _table(text: str, source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    lines = text.splitlines()
    try:
        reader = csv.DictReader(lines, strict=True)
        header = reader.fieldnames or []
        if not header or any(column not in (*LIMITS, *OTHERS) for column in header):
            raise UsageError(
                f"{source} is no table of requests: its first line is {lines[0][:60] if lines else ''!r}, not names such as "
                "configuration, min_quality, max_bytes, deadline_s, count"
            )
        for row in reader:
            where = f"{source}, line {reader.line_num}"
            if None in row or None in row.values():
                raise UsageError(f"{where} has another number of cells than the header")
            yield where, {column: _cell(cell, column, where) for column, cell in row.items() if cell.strip()}
    except csv.Error as error:
        raise UsageError(f"{source} is not CSV: {error}") from error


def _cell(cell: str, column: str, where: str) -> Any:
    if column in ("name", "manifest", "hour", "limit", "radio", "prefer"):
        return cell.strip()
    try:
        value = float(cell)
    except ValueError:
        raise UsageError(f"{where}: {column} is {cell[:40]!r}, not a number") from None
    return int(value) if column in (*WHOLE, "configuration") and value.is_integer() else value


def _ask(where: str, row: Mapping[str, Any]) -> Ask:
    if unknown := [key for key in row if key not in (*LIMITS, *OTHERS)]:
        raise UsageError(f"{where}: there is no {unknown[0][:60]!r} in a request")
    count, configuration, logged = row.get("count", 1), row.get("configuration"), "asked" in row
    if isinstance(count, bool) or not isinstance(count, int | float) or not 0 <= count < 1e300:
        raise UsageError(f"{where}: 'count' is {str(count)[:40]!r}, not a number from 0 up")
    if configuration is not None and (isinstance(configuration, bool) or not isinstance(configuration, int) or configuration < 0):
        raise UsageError(f"{where}: 'configuration' is {str(configuration)[:40]!r}, not a whole number from 0 up")
    limits = row["asked"] if logged else {key: row[key] for key in LIMITS if key in row}
    try:
        request = Request.from_json(limits) if limits or logged else None
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    if configuration is None and request is None:
        raise UsageError(f"{where} asks for nothing: it has neither a configuration nor a limit")
    for key in ("name", "manifest"):
        if row.get(key) is not None and not isinstance(row[key], str):
            raise UsageError(f"{where}: {key!r} is not a text")
    planned = logged or configuration is not None
    return Ask(where, float(count), configuration, request, planned, row.get("name"), row.get("manifest"))
