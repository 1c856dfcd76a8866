"""Who asks: a user's name and password, a token, and the tokens that registries want instead."""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from accordion.artifact.strict_json import parse_object
from accordion.errors import TransferError, UsageError
from accordion.registry.http import read_at_most

if TYPE_CHECKING:
    from accordion.registry.http import Http

__all__ = ["Credentials", "bearer_token"]

TOKEN_LIMIT = 2**16  # bytes of a token's answer
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a password (or access token); or a `token`, sent as it is; or an `identity`, which buys tokens (OAuth 2)."""

    VARIABLE: ClassVar[str] = "ACCORDION_REGISTRY_AUTH"
    TOKEN_VARIABLE: ClassVar[str] = "ACCORDION_TOKEN"

    user: str = ""
    password: str = ""
    token: str = ""
    identity: str = ""

    @classmethod
    def from_environment(cls) -> Credentials | None:
        """What `ACCORDION_TOKEN` says, or `ACCORDION_REGISTRY_AUTH` as `user:password`; None if neither is set."""
        token, text = os.environ.get(cls.TOKEN_VARIABLE), os.environ.get(cls.VARIABLE)
        if token and text:
            raise UsageError(f"{cls.TOKEN_VARIABLE} and {cls.VARIABLE} are both set: leave one out")
        if token:
            if not _is_token(token):
                raise UsageError(f"{cls.TOKEN_VARIABLE} does not hold a token: letters, digits and signs, without spaces")
            return cls(token=token)
        if not text:
            return None
        user, colon, password = text.partition(":")
        if not colon or not user:
            raise UsageError(f"{cls.VARIABLE} does not hold user:password")
        return cls(user, password)

    def basic(self) -> str:
        """User and password as the value of an `Authorization` header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def header(self) -> str | None:
        """What to send with a first request; None where a registry has to be asked for a token."""
        if self.token:
            return f"Bearer {self.token}"
        return self.basic() if self.user else None

    def __repr__(self) -> str:
        return f"Credentials({self.user!r}, …)"


async def bearer_token(http: Http, challenge: str, credentials: Credentials | None, *, secure: bool) -> str | None:
    """Answers a registry's `WWW-Authenticate: Bearer …`: the `Authorization` header to send, or None if it wants something else.

    `secure`: the registry was asked over TLS, so a password must not go anywhere in the clear.
    """
    if not challenge.lower().startswith("bearer "):
        return None
    asked = dict(_PARAMETER.findall(challenge))
    realm = asked.pop("realm", "")
    if not realm.startswith(("https://",) if secure else ("https://", "http://")) or not _has_host(realm):
        return None
    if credentials is not None and credentials.identity:
        form = {"grant_type": "refresh_token", "client_id": "accordion", "refresh_token": credentials.identity, **asked}
        request = http.request("POST", realm, data=form)
    else:
        headers = {"Authorization": credentials.basic()} if credentials is not None and credentials.user else {}
        request = http.request("GET", realm, params=asked, headers=headers)
    async with request as answer:
        if answer.status != 200:
            raise TransferError(f"{realm} answered {answer.status} when asked for a token", status=answer.status)
        raw = await read_at_most(answer, TOKEN_LIMIT)
    found = parse_object(raw, f"the token from {realm}", TOKEN_LIMIT)
    token = found.get("token") or found.get("access_token")
    return f"Bearer {token}" if isinstance(token, str) and _is_token(token) else None


def _is_token(text: str) -> bool:
    """Whether it can stand in a header."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def _has_host(url: str) -> bool:
    """Whether a stranger's URL names a host that can be looked up at all."""
    try:
        host = urlsplit(url).hostname
        return host is not None and bool(host.encode("idna"))
    except (ValueError, UnicodeError):
        return False
