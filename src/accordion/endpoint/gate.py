"""Who asks, and whether they may: tokens, rights, and requests a second. What a path names is the registry's to know."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from accordion.endpoint.clients import Clients
from accordion.endpoint.metrics import Metrics
from accordion.endpoint.replies import problem
from accordion.endpoint.tokens import NOTHING, Grant, TokenFile

__all__ = ["CHALLENGE", "Caller", "Gate", "caller_of", "permit", "refuse"]

ALWAYS_ANSWERED = "/healthz"  # a probe that is refused would have a healthy endpoint restarted
# Basic stands first, for programs that know docker's ways (any user, the token as password): they would ask a Bearer realm for one.
CHALLENGE = 'Basic realm="accordion", Bearer realm="accordion"'
_CODES = {401: "UNAUTHORIZED", 403: "DENIED", 429: "TOOMANYREQUESTS", 503: "UNAVAILABLE"}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request. `grant` is None where everybody may do everything; `known`: a valid token was shown.

    `anonymous` is what anybody may do who shows none, where there are tokens.
    """

    client: bytes
    grant: Grant | None = None
    known: bool = False
    anonymous: Grant = NOTHING

    @property
    def named(self) -> bool:
        """Whether there is nothing more that they could say of who they are."""
        return self.grant is None or self.known

    def may(self, right: str, package: str | None = None) -> bool:
        """Whether they may. A token takes nothing away: registry clients show theirs wherever they have one for the host."""
        return self.grant is None or self.grant.allows(right, package) or self.anonymous.allows(right, package)

    def shares(self, package: str) -> bool:
        """Whether what they get of this package may be given to anybody else."""
        return self.grant is None or self.anonymous.allows("pull", package)


ANYBODY = Caller(b"")


def caller_of(scope: Scope) -> Caller:
    """Who sends this request, as the gate found."""
    found = scope.get("accordion", {}).get("caller", ANYBODY)
    assert isinstance(found, Caller)
    return found


def refuse(status: int, kind: str, detail: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """A refusal that both this project's devices and registry clients read: a problem (RFC 9457) that also has `errors`."""
    more = {"errors": [{"code": _CODES[status], "message": detail}]}
    return problem(status, kind, detail, headers={"Cache-Control": "no-store", **(headers or {})}, **more)


class Gate:
    """An ASGI application behind its tokens and its limit of requests.

    It leaves the `Caller` in `scope["accordion"]`; `permit` is what the application asks before it answers.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, clients: Clients, tokens: TokenFile | None = None) -> None:
        self._app, self._metrics, self._clients, self._tokens = app, metrics, clients, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._tokens is None and self._clients.alike:  # nobody is told apart, so nobody need be looked at
            scope.setdefault("accordion", {})["caller"] = ANYBODY
            await self._app(scope, receive, send)
            return
        grant: Grant | None = None
        known, wrong, anonymous = False, False, NOTHING
        if self._tokens is not None:
            token, wrong = _shown(scope)
            grant = None if wrong else self._tokens.grant(token)
            known, wrong = grant is not None and token is not None, grant is None
            anonymous = self._tokens.current().anonymous
        client = self._clients.name(scope, grant.name if known and grant is not None else None)
        scope.setdefault("accordion", {})["caller"] = Caller(client, grant, known, anonymous)
        reply = None
        if scope["path"] != ALWAYS_ANSWERED and (wait := self._clients.ask(client)):
            self._metrics.refuse("rate")
            reply = refuse(429, "rate", "too many requests; come back a little later", headers={"Retry-After": str(wait)})
        elif wrong:
            self._metrics.refuse("unauthenticated")
            reply = refuse(401, "unauthenticated", "this token is not valid here", headers={"WWW-Authenticate": CHALLENGE})
        await (self._app if reply is None else reply)(scope, receive, send)


def permit(scope: Scope, metrics: Metrics, right: str, package: str | None = None) -> Response | None:
    """None if the caller has this right, else the refusal. It comes before any look at the package, and so betrays none."""
    caller = caller_of(scope)
    if caller.may(right, package):
        return None
    if not caller.known:
        metrics.refuse("unauthenticated")
        detail = "this needs a token: Authorization: Bearer …"
        return refuse(401, "unauthenticated", detail, headers={"WWW-Authenticate": CHALLENGE})
    metrics.refuse("forbidden")
    what = f"the right '{right}'" + ("" if package is None else " for this package")
    return refuse(403, "forbidden", f"this token does not have {what}")


def _shown(scope: Scope) -> tuple[str | None, bool]:
    """The token in the request, and whether what stands there is none. No user with no password is nobody, as skopeo says it."""
    found = [value for name, value in scope["headers"] if name == b"authorization"]
    if not found:
        return None, False
    if len(found) > 1:
        return None, True
    scheme, _, text = found[0].decode("latin-1").partition(" ")
    text = text.strip()
    if scheme.lower() == "bearer" and text:
        return text, False
    if scheme.lower() == "basic":
        try:
            user, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None, True
        if colon and not user and not password:
            return None, False
        return password, not (colon and password)
    return None, True
