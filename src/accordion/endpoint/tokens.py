"""Bearer tokens: a file says who may do what with which packages. It holds hashes, so who reads it can't use it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from accordion.artifact.strict_json import Fields, parse_object
from accordion.errors import AccordionError, FormatError, StorageError, UsageError

__all__ = ["NOTHING", "RIGHTS", "Grant", "TokenFile", "Tokens", "make_token", "token_hash"]

RIGHTS = ("pull", "plan", "metrics")
PREFIX = "acc_"  # tells people, and programs that look for secrets in repositories, what this is
SECRET_BYTES = 32  # 256 bits: nobody guesses one, so a plain SHA-256 keeps it
FILE_LIMIT = 16 * 2**20  # bytes
MOST_TOKENS = 10_000  # each request is compared with all of them, in less than a millisecond
LONGEST = 512  # characters of what is taken for a token
LOOK_S = 1.0  # how old the knowledge of the file may be
_PATTERN = re.compile(r"[A-Za-z0-9._/*-]{1,255}")
_HASH = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token allows, or everybody without one. A pattern is a package's name, in which `*` stands for any characters."""

    name: str
    packages: tuple[str, ...]
    rights: frozenset[str]
    sha256: str = ""
    expires: datetime | None = None

    @classmethod
    def from_json(cls, data: object, where: str, *, anonymous: bool = False) -> Grant:
        """FormatError for what is none."""
        read = Fields(data, where)
        packages, rights = read.texts("packages"), read.texts("rights")
        name, sha256, expires = "", "", None
        if not anonymous:
            name, sha256 = read.text("name"), read.text("sha256")
            if not _NAME.fullmatch(name):
                raise FormatError(
                    f"{where}: {name!r:.80} is no name of a token: letters, digits, '.', '_' and '-' only, at most 64"
                )
            if not _HASH.fullmatch(sha256):
                raise FormatError(f"{where}: sha256 is not 64 lower-case hexadecimal digits")
            if read.has("expires"):
                expires = _time(read.text("expires"), where)
        if unknown := sorted(set(rights) - set(RIGHTS)):
            raise FormatError(f"{where}: {unknown[0]!r:.40} is no right: {', '.join(RIGHTS)}")
        for pattern in packages:
            if not _PATTERN.fullmatch(pattern):
                raise FormatError(f"{where}: {pattern!r:.80} can't match the name of a package")
        return cls(name, tuple(packages), frozenset(rights), sha256, expires)

    def to_json(self) -> dict[str, Any]:
        """As the file has it."""
        value: dict[str, Any] = {
            "name": self.name,
            "sha256": self.sha256,
            "packages": [*self.packages],
            "rights": sorted(self.rights),
        }
        if self.expires is not None:
            value["expires"] = self.expires.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return value

    def allows(self, right: str, package: str | None = None) -> bool:
        """Whether this right is given, and for this package where one is named."""
        if right not in self.rights:
            return False
        return package is None or any(_matches(pattern, package) for pattern in self.packages)


NOTHING = Grant("", (), frozenset())


@dataclass(frozen=True, slots=True)
class Tokens:
    """All grants of a file."""

    grants: tuple[Grant, ...]
    anonymous: Grant = NOTHING

    @classmethod
    def parse(cls, raw: bytes, what: str) -> Tokens:
        """FormatError for what is no file of tokens."""
        data = parse_object(raw, what, FILE_LIMIT)
        if unknown := sorted(set(data) - {"tokens", "anonymous"}):
            raise FormatError(f"{what}: {unknown[0]!r:.40} means nothing here; there are 'tokens' and 'anonymous'")
        rows = Fields(data, what).items("tokens", most=MOST_TOKENS)
        grants = tuple(Grant.from_json(row, f"{what}, token {index}") for index, row in enumerate(rows))
        if len({grant.name for grant in grants}) < len(grants) or len({grant.sha256 for grant in grants}) < len(grants):
            raise FormatError(f"{what}: two tokens have the same name or the same hash")
        anonymous = NOTHING
        if data.get("anonymous") is not None:
            anonymous = Grant.from_json(data["anonymous"], f"{what}, anonymous", anonymous=True)
        return cls(grants, anonymous)

    def find(self, token: str, now: datetime) -> Grant | None:
        """The grant of a token; None for one that is unknown or has expired. Takes equally long whichever it is."""
        wanted = token_hash(token[:LONGEST])
        found: Grant | None = None
        for grant in self.grants:
            if hmac.compare_digest(grant.sha256, wanted):
                found = grant
        if found is None or (found.expires is not None and found.expires <= now):
            return None
        return found


class TokenFile:
    """The tokens in a file, as it is now: read again when it changes. A file that becomes unreadable leaves those before it.

    Raises:
        UsageError: there is no such file.
        FormatError: it makes no sense.
        StorageError: it can't be read.
    """

    def __init__(
        self, path: Path, *, say: Callable[[str], None] = lambda line: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path, self._say, self._clock = path, say, clock
        self._lock = threading.Lock()
        self._looked = clock()
        self._stamp = self._look()
        self.problem: str | None = None
        self._tokens = _read(path)

    def current(self) -> Tokens:
        """What the file says."""
        if self._clock() - self._looked >= LOOK_S:
            with self._lock:
                self._looked = self._clock()
                if (stamp := self._look()) != self._stamp:
                    self._stamp = stamp
                    self._again()
        return self._tokens

    def grant(self, token: str | None) -> Grant | None:
        """What is allowed with this token, or without one; None for a token that is not valid."""
        tokens = self.current()
        return tokens.anonymous if token is None else tokens.find(token, datetime.now(UTC))

    def _again(self) -> None:
        try:
            self._tokens = _read(self.path)
            self.problem = None
            self._say(f"the file of tokens was read again: it has {len(self._tokens.grants)}")
        except AccordionError as error:
            self.problem = "the file of tokens can't be read any more; those before it go on"
            self._say(f"{self.problem}: {error}")

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size


def token_hash(token: str) -> str:
    """SHA-256 in hexadecimal, as files hold it."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def make_token(name: str, packages: Sequence[str], rights: Sequence[str], expires: datetime | None = None) -> tuple[str, Grant]:
    """A new token, which is nowhere but in what this returns, and its grant. UsageError for what can't be granted."""
    token = PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(SECRET_BYTES)).rstrip(b"=").decode()
    grant = Grant(name, tuple(packages), frozenset(rights), token_hash(token), expires)
    try:
        return token, Grant.from_json(grant.to_json(), "the token")
    except FormatError as error:
        raise UsageError(str(error)) from error


def _read(path: Path) -> Tokens:
    try:
        with path.open("rb") as stream:
            raw = stream.read(FILE_LIMIT + 1)
    except FileNotFoundError as error:
        raise UsageError(f"there is no file of tokens {path}: make one with `accordion token`") from error
    except OSError as error:
        raise StorageError(f"can't read the file of tokens {path}: {error.strerror or error}") from error
    return Tokens.parse(raw, f"the file of tokens {path}")


def _matches(pattern: str, name: str) -> bool:
    """Whether `name` is what `pattern` says, '*' being any characters. In linear time: strangers ask for names of any length."""
    first, *others = pattern.split("*")
    if not others:
        return name == first
    *middle, last = others
    at, end = len(first), len(name) - len(last)
    if at > end or not name.startswith(first) or not name.endswith(last):
        return False
    for part in middle:  # the earliest place is as good as any: what follows has the most room there
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _time(text: str, where: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise FormatError(f"{where}: {text!r:.40} is no time such as 2027-01-31T12:00:00Z") from error
    if found.tzinfo is None:
        raise FormatError(f"{where}: {text!r:.40} says no time zone: write Z behind it for UTC")
    return found
