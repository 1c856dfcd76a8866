"""Checks of what stands between this machine and a package elsewhere: credentials, authorities, proxies, and the way there."""

from __future__ import annotations

import os
import socket
import ssl
import stat
import time
from collections.abc import AsyncIterator, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from accordion.cli.finding import Finding, fine, note, wrong
from accordion.errors import AccordionError
from accordion.outside import CACERT_VARIABLE, proxy_for, trusted
from accordion.registry import Credentials, Reference, RegistryClient
from accordion.registry.docker_config import config_files, from_docker
from accordion.registry.http import Http

__all__ = ["check_authorities", "check_credentials", "check_way"]

CLOCK_S = 300.0  # seconds that this machine's clock and the other's may differ
CONNECT_S = 10.0


def check_credentials() -> Iterator[Finding]:
    """Whether what should hold credentials does, and who else can read it. None are shown."""
    check = "credentials"
    try:
        found = Credentials.from_environment()
    except AccordionError as error:
        yield wrong(check, str(error), "set it anew")
        return
    if found is not None:
        name = Credentials.TOKEN_VARIABLE if found.token else Credentials.VARIABLE
        yield fine(check, f"{name} is set; it goes to whatever host a command names")
    looked = 0
    for path in config_files():
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            looked += 1
            why = f"whether there are credentials in {path} can't be seen: {error.strerror or error}"
            yield wrong(check, why, "get the right to look there, or name another place (DOCKER_CONFIG, REGISTRY_AUTH_FILE)")
            continue
        looked += 1
        try:
            from_docker("a-host-that-nobody-has.invalid", {"REGISTRY_AUTH_FILE": str(path)})
        except AccordionError as error:
            yield wrong(check, str(error), f"repair or remove {path}; `docker login` writes it")
            continue
        if mode & (stat.S_IRGRP | stat.S_IROTH):
            yield note(check, f"others on this machine can read {path}", f"chmod 600 {path}")
        else:
            yield fine(check, f"{path} can be read")
    if found is None and not looked:
        yield fine(check, "none are set; open endpoints and registries need none")


def check_authorities() -> Iterator[Finding]:
    """Whether there are certificates to judge others by."""
    check = "authorities"
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if (text := os.environ.get(name)) and not os.path.exists(text):  # noqa: PTH110  Path's fails where it can't look
            yield wrong(check, f"{name} names {text}, which is not there, or can't be seen", f"correct or unset {name}")
            return
    if text := os.environ.get(CACERT_VARIABLE):
        try:
            trusted(Path(text))
            yield fine(check, f"those in {text} are trusted, too")
        except AccordionError as error:
            yield wrong(check, str(error), f"correct or unset {CACERT_VARIABLE}, or --cacert")
            return
    paths = ssl.get_default_verify_paths()
    if paths.cafile is None and paths.capath is None:
        yield wrong(
            check,
            "this machine has no certificates of authorities",
            "install its package ca-certificates, or name a file in SSL_CERT_FILE",
        )
    else:
        yield fine(check, str(paths.cafile or paths.capath))


async def check_way(target: Reference) -> AsyncIterator[Finding]:
    """Step by step to a package: proxy, name, connection, certificate, clock, credentials. Ends where it can't go on."""
    parts = urlsplit(target.base)
    secure, host = parts.scheme == "https", parts.hostname or ""
    port = parts.port or (443 if secure else 80)
    try:
        proxy = proxy_for(target.base)
    except AccordionError as error:
        yield wrong("proxy", str(error), "correct or unset the variable; NO_PROXY names hosts that need none")
        return
    if proxy is not None:
        yield note("proxy", f"by way of {proxy.host}:{proxy.port}", "if that is wrong, put the host into NO_PROXY")
        host, port = str(proxy.host), int(proxy.port or 80)
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:  # the text has no form that could be asked for
        found = f"{host} can't be a host: each part between dots has 1 to 63 characters"
        yield wrong("name", found, "check the address" if proxy is None else "correct the variable that names the proxy")
        return
    except OSError as error:
        yield wrong(
            "name", f"nobody knows the host {host} ({error.strerror or error})", "check the address, and this machine's name server"
        )
        return
    try:
        socket.create_connection((host, port), timeout=CONNECT_S).close()
    except OSError as error:
        reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        yield wrong(
            "connection", f"can't connect to {host}, port {port}: {reason}", "is it running, and does a firewall let you through?"
        )
        return
    yield fine("connection", f"{host}, port {port}")
    http = Http()
    try:
        await http.open()
        async with http.request("GET", f"{target.base}/v2/") as answer:
            status, date = answer.status, answer.headers.get("Date")
    except aiohttp.ClientConnectorCertificateError as error:
        cause = error.certificate_error
        yield _certificate(getattr(cause, "verify_message", "") or str(cause))
        return
    except (aiohttp.ClientError, TimeoutError, AccordionError) as error:
        advice = (
            "is it really TLS that is spoken there? try http://"
            if secure
            else "is it really HTTP that is spoken there? try https://"
        )
        yield wrong(
            "protocol", f"{target.base} can't be spoken to: {' '.join(str(error).split())[:200] or type(error).__name__}", advice
        )
        return
    finally:
        await http.close()
    if secure:
        yield fine("certificate", "it is trusted")
    elif Credentials.from_environment() is not None and host not in ("127.0.0.1", "localhost", "::1"):
        yield note("certificate", "credentials would go to this host in the clear", "use https://, or leave the credentials out")
    if (finding := _clocks(date)) is not None:
        yield finding
    yield await _package(target, status)


def _certificate(message: str) -> Finding:
    """What OpenSSL says of a certificate, in words."""
    text = message.lower()
    if "expired" in text:
        return wrong("certificate", "it has expired", "its owner must renew it; if this machine's clock is wrong, set that")
    if "not yet valid" in text:
        return wrong("certificate", "it is not valid yet", "most likely this machine's clock is slow: set it")
    if "mismatch" in text or "doesn't match" in text or "not valid for" in text:
        return wrong(
            "certificate", "it is another host's", "use the name that the certificate is for, or have one made for this name"
        )
    if "self" in text or "unable to get" in text:
        advice = "is the authority a private one? name its certificate with --cacert; else somebody stands between you and the host"
        return wrong("certificate", "nobody that this machine trusts has signed it", advice)
    return wrong("certificate", f"it is not accepted: {message}", "see what the host's owner says of it")


def _clocks(date: str | None) -> Finding | None:
    if date is None:
        return None
    try:
        apart = abs(time.time() - parsedate_to_datetime(date).timestamp())
    except (ValueError, TypeError):
        return None
    if apart > CLOCK_S:
        return wrong("clock", f"this machine's and the host's clocks are {apart:.0f} s apart", "set the one that is wrong")
    return fine("clock", "agrees with the host's")


async def _package(target: Reference, status: int) -> Finding:
    check = "package"
    try:
        async with RegistryClient(target) as client:
            reference = await client.resolve()
            if await client.manifest(reference) is None:
                return wrong(
                    check, f"{target.base} has no {target.name}:{reference}", "see what it has: its tags are at /v2/NAME/tags/list"
                )
    except AccordionError as error:
        refused = status in (401, 403) or getattr(error, "status", None) in (401, 403)
        advice = "show a token or a password: see docs/serving.md" if refused else "check the name and the address"
        return wrong(check, str(error), advice)
    return fine(check, f"{target.name}:{reference} can be fetched")
