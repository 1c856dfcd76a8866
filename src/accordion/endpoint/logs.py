"""What the endpoint says of itself: events as lines of JSON or text on standard error, with nothing that identifies anybody.

A line about a request holds the route, the package's name if such a package is served, and figures: no address, header, token,
path, query or body. So no request can put words into the log; what comes from elsewhere has its control characters escaped, too.
"""

from __future__ import annotations

import json
import logging
import secrets
import sys
import time
from typing import Any, Literal

from accordion.errors import UsageError

__all__ = ["FORMS", "Form", "RequestLines", "configure", "server_config"]

Form = Literal["none", "text", "json"]
FORMS: tuple[Form, ...] = ("none", "text", "json")
REQUESTS = "accordion.requests"
LONGEST = 2000  # characters of a text in a line


class RequestLines:
    """A line for each answered request, and the identifier that the answer carries in `X-Request-Id`.

    The identifier is drawn here: one that a client sends could name the client.
    """

    def __init__(self) -> None:
        self._log = logging.getLogger(REQUESTS)

    def new_id(self) -> str:
        """64 random bits."""
        return secrets.token_hex(8)

    def note(self, identifier: str, method: str, notes: dict[str, Any], status: int, count: int, seconds: float) -> None:
        """One request: `notes` are what the application left of route, name and why a transfer was cut."""
        fields = {
            "request": identifier,
            "method": method,
            "route": notes.get("route", "other"),
            "package": notes.get("package"),
            "status": status,
            "bytes": count,
            "seconds": round(seconds, 6),
            "cut": notes.get("cut"),
        }
        self._log.info("request", extra={"fields": {name: value for name, value in fields.items() if value is not None}})


class _Json(logging.Formatter):
    """One JSON object a line. json.dumps escapes control characters, and `ensure_ascii` every line separator of Unicode."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(
            {
                "time": _time(record),
                "level": record.levelname.lower(),
                "event": _text(record),
                **_fields(record),
                **_failure(record, self),
            },
            ensure_ascii=True,
            separators=(",", ":"),
        )


class _Text(logging.Formatter):
    """The same for people: one line a record."""

    def format(self, record: logging.LogRecord) -> str:
        more = {**_fields(record), **_failure(record, self)}
        text = " ".join(
            [_time(record), record.levelname.lower(), _text(record), *(f"{name}={value}" for name, value in more.items())]
        )
        return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def configure(form: Form) -> None:
    """Sets this process's loggers up; `none`: what goes wrong, as text, and no requests."""
    if form not in FORMS:
        raise UsageError(f"{form!r:.40} is no form of a log: {', '.join(FORMS)}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    ours = logging.getLogger("accordion")
    ours.handlers, ours.propagate = [handler], False
    ours.setLevel(logging.WARNING if form == "none" else logging.INFO)


def server_config(form: Form) -> dict[str, Any]:
    """The same for granian, whose processes set their own loggers up. What it would say of requests is not asked for."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "root": {"level": "WARNING", "handlers": []},
        "formatters": {"form": {"()": f"{__name__}.{'_Json' if form == 'json' else '_Text'}"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "form", "stream": "ext://sys.stderr"}},
        "loggers": {
            "_granian": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
            "granian.access": {"handlers": [], "level": "CRITICAL", "propagate": False},
        },
    }


def _time(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def _text(record: logging.LogRecord) -> str:
    return record.getMessage()[:LONGEST]


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    found = getattr(record, "fields", {})
    return dict(found) if isinstance(found, dict) else {}


def _failure(record: logging.LogRecord, form: logging.Formatter) -> dict[str, str]:
    """What failed and where, in one field. Its text may hold anything, so it is bounded."""
    if not record.exc_info or record.exc_info[0] is None:
        return {}
    return {"failure": form.formatException(record.exc_info)[-LONGEST:]}
