from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from accordion.errors import AccordionError, StorageError, UsageError
from accordion.registry import Credentials
from accordion.registry.docker_config import config_files, from_docker

CODED = base64.b64encode(b"me:pass:word").decode()
ME = Credentials("me", "pass:word")


def written(folder: Path, value: Any) -> dict[str, str]:
    """An environment in which docker keeps its credentials in `folder`."""
    (folder / "config.json").write_text(value if isinstance(value, str) else json.dumps(value))
    return {"DOCKER_CONFIG": str(folder)}


def helper(folder: Path, name: str, body: str) -> None:
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"auth": CODED}, ME),
        ({"username": "me", "password": "pass:word"}, ME),
        ({"auth": CODED, "identitytoken": "id"}, Credentials(identity="id")),
        ({"registrytoken": "abc"}, Credentials(token="abc")),
        ({}, None),
    ],
)
def test_what_docker_login_writes(tmp_path: Path, entry: dict[str, str], expected: Credentials | None) -> None:
    for name in ("host:5000", "https://host:5000", "https://host:5000/v1/"):
        environment = written(tmp_path, {"auths": {"other": {"auth": "!"}, name: entry}})
        assert from_docker("host:5000", environment) == expected
        assert from_docker("host", environment) is None
        assert from_docker("host:50", environment) is None


def test_docker_hub_has_an_old_name(tmp_path: Path) -> None:
    environment = written(tmp_path, {"auths": {"https://index.docker.io/v1/": {"auth": CODED}}})
    assert from_docker("registry-1.docker.io", environment) == ME


def test_where_it_is_looked_for(tmp_path: Path) -> None:
    for folder in ("docker", "home/.docker", "run/containers"):
        (tmp_path / folder).mkdir(parents=True)
    environment = {"HOME": str(tmp_path / "home"), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    (tmp_path / "run/containers/auth.json").write_text(json.dumps({"auths": {"host": {"auth": CODED}}}))
    assert from_docker("host", environment) == ME
    (tmp_path / "home/.docker/config.json").write_text(json.dumps({"auths": {"host": {"username": "home", "password": "x"}}}))
    assert from_docker("host", environment) == Credentials("home", "x")
    (tmp_path / "named.json").write_text(json.dumps({"auths": {"host": {"registrytoken": "named"}}}))
    assert from_docker("host", {**environment, "REGISTRY_AUTH_FILE": str(tmp_path / "named.json")}) == Credentials(token="named")
    assert from_docker("host", {**environment, "DOCKER_CONFIG": str(tmp_path / "nowhere")}) == ME
    assert list(config_files({})) == []
    (tmp_path / "home/.docker/config.json").write_text("")
    assert from_docker("host", environment) == ME


def test_helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    helper(
        tmp_path,
        "ours",
        'read host; echo "{\\"ServerURL\\": \\"$host\\", \\"Username\\": \\"me\\", \\"Secret\\": \\"for $host\\"}"',
    )
    helper(tmp_path, "cloud", 'echo \'{"Username": "<token>", "Secret": "id"}\'')
    helper(tmp_path, "empty", "echo credentials not found in native keychain; exit 1")
    assert from_docker("host", written(tmp_path, {"credHelpers": {"host": "ours"}})) == Credentials("me", "for host")
    assert from_docker("other", written(tmp_path, {"credHelpers": {"host": "ours"}})) is None
    assert from_docker("host", written(tmp_path, {"auths": {"host": {}}, "credsStore": "cloud"})) == Credentials(identity="id")
    assert from_docker("host", written(tmp_path, {"credsStore": "empty"})) is None
    for name in ("missing", "../../bin/sh", "a b", 7):
        with pytest.raises(UsageError):
            from_docker("host", written(tmp_path, {"credHelpers": {"host": name}}))
    helper(tmp_path, "wrong", "echo hello")
    with pytest.raises(UsageError):
        from_docker("host", written(tmp_path, {"credsStore": "wrong"}))
    assert from_docker("host", written(tmp_path, {"credsStore": ""})) is None


def test_what_makes_no_sense_is_said_without_the_secret(tmp_path: Path) -> None:
    secret = base64.b64encode(b"secret-without-colon").decode()
    for wrong in ("{", "[]", {"auths": []}, {"auths": {"host": {"auth": "!!"}}}, {"auths": {"host": {"auth": secret}}}):
        with pytest.raises(UsageError) as caught:
            from_docker("host", written(tmp_path, wrong))
        assert secret not in str(caught.value)
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError):
        from_docker("host", {"REGISTRY_AUTH_FILE": str(tmp_path / "folder")})


def test_tokens_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(Credentials.VARIABLE, raising=False)
    monkeypatch.setenv(Credentials.TOKEN_VARIABLE, "abc")
    found = Credentials.from_environment()
    assert found == Credentials(token="abc")
    assert found is not None
    assert found.header() == "Bearer abc"
    assert "abc" not in repr(found)
    assert Credentials(identity="x").header() is None
    for wrong in ("two words", "line\nend", "é"):
        monkeypatch.setenv(Credentials.TOKEN_VARIABLE, wrong)
        with pytest.raises(UsageError):
            Credentials.from_environment()
    monkeypatch.setenv(Credentials.TOKEN_VARIABLE, "abc")
    monkeypatch.setenv(Credentials.VARIABLE, "me:x")
    with pytest.raises(AccordionError, match="leave one out"):
        Credentials.from_environment()
