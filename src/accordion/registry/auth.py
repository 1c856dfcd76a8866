"""Who asks: a user's name and password, and the tokens that registries want instead."""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass
from typing import ClassVar

import aiohttp

from accordion.artifact.strict_json import parse_object
from accordion.errors import TransferError, UsageError

__all__ = ["Credentials", "bearer_token"]

TOKEN_LIMIT = 2**16  # bytes of a token's answer
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Credentials:
    """A registry's user and password (or access token)."""

    VARIABLE: ClassVar[str] = "ACCORDION_REGISTRY_AUTH"

    user: str
    password: str

    @classmethod
    def from_environment(cls) -> Credentials | None:
        """What `ACCORDION_REGISTRY_AUTH` says as `user:password`; None if it is not set."""
        text = os.environ.get(cls.VARIABLE)
        if not text:
            return None
        user, colon, password = text.partition(":")
        if not colon or not user:
            raise UsageError(f"{cls.VARIABLE} does not hold user:password")
        return cls(user, password)

    def basic(self) -> str:
        """The value of an `Authorization` header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def __repr__(self) -> str:
        return f"Credentials({self.user!r}, …)"


async def bearer_token(
    session: aiohttp.ClientSession, challenge: str, credentials: Credentials | None, *, secure: bool
) -> str | None:
    """Answers a registry's `WWW-Authenticate: Bearer …`: the `Authorization` header to send, or None if it wants something else.

    `secure`: the registry was asked over TLS, so a password must not go anywhere in the clear.
    """
    if not challenge.lower().startswith("bearer "):
        return None
    asked = dict(_PARAMETER.findall(challenge))
    realm = asked.pop("realm", "")
    if not realm.startswith(("https://",) if secure else ("https://", "http://")):
        return None
    headers = {"Authorization": credentials.basic()} if credentials is not None else {}
    async with session.get(realm, params=asked, headers=headers) as answer:
        if answer.status != 200:
            raise TransferError(f"{realm} answered {answer.status} when asked for a token", status=answer.status)
        raw = await answer.content.read(TOKEN_LIMIT)
    found = parse_object(raw, f"the token from {realm}", TOKEN_LIMIT)
    token = found.get("token") or found.get("access_token")
    return f"Bearer {token}" if isinstance(token, str) and token else None
