"""Credentials as docker, podman and skopeo keep them: their files, and the helpers that these name."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from accordion.artifact.strict_json import parse_object
from accordion.errors import FormatError, StorageError, UsageError
from accordion.registry.auth import Credentials

__all__ = ["config_files", "from_docker"]

FILE_LIMIT = 2**20  # bytes of a file of credentials
HELPER_LIMIT = 2**16  # bytes of what a helper says
HELPER_S = 20.0  # a helper may have to ask a key ring or a cloud
DOCKER_HUB = "https://index.docker.io/v1/"  # under which docker keeps what is for docker.io
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def config_files(environment: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """Where credentials may be, the first that exists and knows the host counts."""
    if text := environment.get("REGISTRY_AUTH_FILE"):
        yield Path(text)
    folder = environment.get("DOCKER_CONFIG")
    home = environment.get("HOME")
    if folder:
        yield Path(folder) / "config.json"
    elif home:
        yield Path(home) / ".docker" / "config.json"
    if runtime := environment.get("XDG_RUNTIME_DIR"):
        yield Path(runtime) / "containers" / "auth.json"


def from_docker(host: str, environment: Mapping[str, str] = os.environ) -> Credentials | None:
    """What these files say of `host` (with its port, where it has one); None where they say nothing.

    Raises:
        UsageError: a file makes no sense, or a helper that it names is not there, or fails.
        StorageError: a file can't be read.
    """
    try:
        return _found(host, environment)
    except FormatError as error:  # of this person's own, not of what came from elsewhere
        raise UsageError(str(error)) from error


def _found(host: str, environment: Mapping[str, str]) -> Credentials | None:
    for path in config_files(environment):
        data = _read(path)
        if data is None:
            continue
        helper = _object(data, "credHelpers", path).get(host)
        entry = _entry(_object(data, "auths", path), host)
        found = None
        if helper is None and entry is not None and entry:
            found = _from_entry(entry, f"{path}, {host}")
        if found is None and helper is None:
            helper = data.get("credsStore") or None
        if found is None and helper is not None:
            found = _from_helper(helper, host, path)
        if found is not None:
            return found
    return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as stream:
            raw = stream.read(FILE_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(f"can't read the credentials in {path}: {error.strerror or error}") from error
    return parse_object(raw, str(path), FILE_LIMIT) if raw.strip() else None


def _object(data: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    found = data.get(name)
    if found is not None and not isinstance(found, dict):
        raise FormatError(f"{path}: {name} is not a JSON object")
    return found or {}


def _entry(auths: Mapping[str, Any], host: str) -> dict[str, Any] | None:
    names = [host, f"https://{host}", f"http://{host}", f"https://{host}/v1/", f"https://{host}/v2/"]
    if host in ("docker.io", "registry-1.docker.io"):
        names.append(DOCKER_HUB)
    return next((entry for name in names if isinstance(entry := auths.get(name), dict)), None)


def _from_entry(entry: Mapping[str, Any], where: str) -> Credentials | None:
    texts = {name: value for name, value in entry.items() if isinstance(value, str)}
    if token := texts.get("registrytoken"):
        return Credentials(token=token)
    if identity := texts.get("identitytoken"):
        return Credentials(identity=identity)
    user, password = texts.get("username", ""), texts.get("password", "")
    if coded := texts.get("auth"):
        try:
            user, colon, password = base64.b64decode(coded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise FormatError(f"{where}: 'auth' is not user:password in base64") from error
        if not colon:
            raise FormatError(f"{where}: 'auth' is not user:password in base64")
        password = password.rstrip("\0")  # some writers pad
    return Credentials(user, password) if user else None


def _from_helper(helper: object, host: str, path: Path) -> Credentials | None:
    """Asks `docker-credential-<helper>`, as docker does; None if it knows nothing of the host."""
    if not isinstance(helper, str) or not _HELPER.fullmatch(helper):
        raise FormatError(f"{path} names a helper that can't be one: {helper!r:.60}")
    program = f"docker-credential-{helper}"
    server = DOCKER_HUB if host in ("docker.io", "registry-1.docker.io") else host
    try:
        done = subprocess.run([program, "get"], input=server.encode(), capture_output=True, timeout=HELPER_S, check=False)
    except (FileNotFoundError, PermissionError) as error:
        raise UsageError(f"{path} says that {program} knows the credentials for {host}, but it can't be run") from error
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"{program} did not answer within {HELPER_S:g} s") from error
    if done.returncode:
        return None  # docker's helpers fail for what they don't know, and say so in words of their own
    if len(done.stdout) > HELPER_LIMIT:
        raise FormatError(f"{program} said more than the {HELPER_LIMIT} bytes that credentials have")
    try:
        said = json.loads(done.stdout)
        user, secret = said["Username"], said["Secret"]
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{program} said something else than credentials") from error
    if not isinstance(user, str) or not isinstance(secret, str):
        raise FormatError(f"{program} said something else than credentials")
    return Credentials(identity=secret) if user == "<token>" else Credentials(user, secret)
