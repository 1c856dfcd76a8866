from __future__ import annotations

import errno
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from accordion.cli import doctor_machine, main
from accordion.cli.doctor_machine import check_clock, check_folder, check_limits, check_python, check_requirements, check_runtime
from accordion.cli.doctor_network import _certificate, check_authorities, check_credentials, check_way
from accordion.cli.finding import Finding
from accordion.endpoint import descriptors
from accordion.registry import Reference
from certificates import Pair, make_pair


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "ACCORDION_TOKEN",
        "ACCORDION_REGISTRY_AUTH",
        "ACCORDION_CACERT",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REGISTRY_AUTH_FILE",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)


def test_this_installation_is_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--folder", str(tmp_path), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert (code == 0) is said["ok"]
    by_name = {one["check"]: one for one in said["checks"] if one["check"] != "libraries"}
    for check in ("python", "inference", "folder", "clock", "credentials"):
        assert by_name[check]["status"] == "ok", by_name[check]
    assert all(one["advice"] for one in said["checks"] if one["status"] != "ok")
    assert list(tmp_path.iterdir()) == []


def test_a_problem_is_told_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--folder", str(tmp_path / "none")]) == 1
    said = capsys.readouterr().out
    assert "PROBLEM folder: there is no folder" in said
    assert "--folder" in said
    assert main(["doctor", "not a url"]) == 2


def test_libraries() -> None:
    declared = [
        "numpy>=2.0",
        "numpy>=999",
        "no-such-library>=1",
        "aiohttp>=3.11; extra == 'net'",
        "not-there; extra == 'more'",
        "numpy<1,>=0.1",
    ]
    found = list(check_requirements(declared))
    assert [one.status for one in found] == ["ok", "problem", "problem", "problem", "note", "ok"]
    assert "999" in found[1].found
    assert "not installed" in found[2].found
    assert found[4].check == "extra more"
    assert "'.[more]'" in found[4].advice
    assert found[5].check == "extra net"
    assert check_python((3, 10, 1)).status == "problem"
    assert check_python().status == "ok"
    assert doctor_machine._numbers("2.8.0rc1") == doctor_machine._numbers("2.8")
    assert doctor_machine._numbers("2.13.0") > doctor_machine._numbers("2.8")


def test_a_broken_runtime_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_runtime().status == "ok"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    broken = check_runtime()
    assert broken.status == "problem"
    assert "pip install" in broken.advice


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [one.status for one in check_folder(tmp_path)] == ["ok", "ok"]
    monkeypatch.setattr(doctor_machine.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    assert [one.status for one in check_folder(tmp_path)] == ["ok", "problem"]

    def refuse(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(doctor_machine.fcntl, "flock", refuse)  # as some network file systems do
    (only,) = check_folder(tmp_path)
    assert only.status == "problem"
    assert list(tmp_path.iterdir()) == []


def test_clock() -> None:
    assert check_clock().status == "ok"
    assert check_clock(0.0).status == "problem"


@pytest.mark.parametrize("limits", [(256, 1024), (1024, 1024), (256, 4000)])
def test_too_few_descriptors_for_an_endpoint(monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int]) -> None:
    """The soft limit is the endpoint's to raise; the hard one is not."""
    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda kind: limits)
    found = check_limits()
    assert (found.check, found.status) == ("descriptors", "note")
    assert f"{limits[1]} files" in found.found and f"{descriptors.places(limits[1])} of the 2048 connections" in found.found
    assert "4160" in found.advice


@pytest.mark.parametrize("limits", [(256, 4160), (1024, 2**20), (1024, descriptors.resource.RLIM_INFINITY)])
def test_enough_descriptors_for_an_endpoint(monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int]) -> None:
    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda kind: limits)
    found = check_limits()
    assert found.status == "ok" and ("unlimited" in found.found) is (limits[1] == descriptors.resource.RLIM_INFINITY)


def test_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [one.status for one in check_credentials()] == ["ok"]
    monkeypatch.setenv("ACCORDION_TOKEN", "secret-token")
    (found,) = check_credentials()
    assert found.status == "ok"
    assert "secret-token" not in found.found
    monkeypatch.setenv("ACCORDION_TOKEN", "two words")
    assert [one.status for one in check_credentials()] == ["problem"]
    monkeypatch.delenv("ACCORDION_TOKEN")
    config = tmp_path / "config.json"
    config.write_text("{}")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    config.chmod(0o644)
    assert [one.status for one in check_credentials()] == ["note"]
    config.chmod(0o600)
    assert [one.status for one in check_credentials()] == ["ok"]
    config.write_text("{")
    assert [one.status for one in check_credentials()] == ["problem"]


@contextmanager
def nobody_may_look(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    """Meanwhile, nobody may search this folder; its mode alone would not keep root out."""
    stat = os.stat

    def fails(path: Any, *arguments: Any, **how: Any) -> os.stat_result:
        if isinstance(path, str | Path) and Path(path).is_relative_to(folder):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, *arguments, **how)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", fails)
        yield


def test_what_can_not_be_looked_at_is_a_finding_among_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "closed" / "docker"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "closed" / "certificates"))
    with nobody_may_look(monkeypatch, tmp_path / "closed"):
        assert main(["doctor", "--folder", str(tmp_path / "closed" / "models")]) == 1
    said = capsys.readouterr().out
    config = tmp_path / "closed" / "docker" / "config.json"
    assert f"PROBLEM credentials: whether there are credentials in {config} can't be seen: Permission denied" in said
    assert "PROBLEM folder: " in said and "PROBLEM authorities: SSL_CERT_FILE" in said
    for check in ("python", "inference", "clock", "descriptors", "trust"):
        assert f" {check}: " in said
    assert said.strip().endswith("problems")


def test_authorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCORDION_CACERT", str(tmp_path / "none"))
    assert [one.status for one in check_authorities()] == ["problem"]
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    (found,) = check_authorities()
    assert "SSL_CERT_FILE" in found.found


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("certificate has expired", "it has expired"),
        ("certificate is not yet valid", "not valid yet"),
        ("IP address mismatch, certificate is not valid for '127.0.0.1'", "another host's"),
        ("Hostname mismatch, certificate is not valid for 'x'", "another host's"),
        ("self-signed certificate", "nobody that this machine trusts"),
        ("unable to get local issuer certificate", "nobody that this machine trusts"),
        ("EE certificate key too weak", "EE certificate key too weak"),
    ],
)
def test_what_is_wrong_with_a_certificate_is_said_in_words(message: str, words: str) -> None:
    assert words in _certificate(message).found


async def way(url: str, name: str = "net") -> dict[str, Finding]:
    return {finding.check: finding async for finding in check_way(Reference(url, name))}


@asynccontextmanager
async def running(pair: Pair | None, date: str | None = None) -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.Response:
        headers = {} if date is None else {"Date": date}
        if "secret" in request.path:
            return web.json_response({"detail": "this needs a token"}, status=401)
        if request.path.startswith("/v2/none/"):
            return web.json_response({}, status=404)
        value = {"tags": ["latest"]} if request.path.endswith("tags/list") else {}
        return web.json_response(value, headers=headers)

    app = web.Application()
    app.router.add_get("/v2/{rest:.*}", answer)
    context = None
    if pair is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
    server = TestServer(app, scheme="http" if pair is None else "https", host="127.0.0.1")
    await server.start_server(ssl=context)
    try:
        yield f"{server.scheme}://127.0.0.1:{server.port}"
    finally:
        await server.close()


async def test_the_way_to_a_package() -> None:
    async with running(None) as url:
        found = await way(url)
        assert {check: one.status for check, one in found.items()} == {"connection": "ok", "clock": "ok", "package": "ok"}
        assert "check the name" in (await way(url, "none"))["package"].advice
        assert "token" in (await way(url, "secret"))["package"].advice
        assert (await way(url.replace("http:", "https:")))["protocol"].status == "problem"
    async with running(None, formatdate(1_000_000_000, usegmt=True)) as url:
        assert (await way(url))["clock"].status == "problem"
    assert (await way(f"http://127.0.0.1:{unused_port()}"))["connection"].status == "problem"
    assert (await way("http://no-such-host.invalid"))["name"].status == "problem"


@pytest.mark.parametrize("host", ["a..b", f"{'a' * 70}.example"])
async def test_an_address_that_can_be_no_host_is_a_finding(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = (await way(f"http://{host}")).values()
    assert (found.check, found.status) == ("name", "problem")
    assert host in found.found and "63 characters" in found.found and "address" in found.advice
    monkeypatch.setenv("HTTP_PROXY", f"http://{host}:3128")
    assert "proxy" in (await way("http://host.invalid"))["name"].advice


async def test_the_way_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = make_pair(tmp_path / "tls")
    async with running(pair) as url:
        found = await way(url)
        assert found["certificate"].status == "problem"
        assert "--cacert" in found["certificate"].advice
        assert "package" not in found
        monkeypatch.setenv("ACCORDION_CACERT", str(pair.authority))
        found = await way(url)
        assert (found["certificate"].status, found["package"].status) == ("ok", "ok")
        assert (await way(url.replace("https:", "http:")))["protocol"].status == "problem"


async def test_a_proxy_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://me:secret@127.0.0.1:{unused_port()}")
    found = await way("http://host.invalid")
    assert found["proxy"].status == "note"
    assert "secret" not in found["proxy"].found
    assert found["connection"].status == "problem"
    monkeypatch.setenv("HTTP_PROXY", "socks5://127.0.0.1:1")
    assert (await way("http://host.invalid"))["proxy"].status == "problem"
