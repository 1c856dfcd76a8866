"""The endpoint as operators run it: real processes with TLS and tokens, told to stop, to start anew, and given new versions."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from accordion.cli import main
from accordion.endpoint.tls import check_pair
from accordion.errors import UsageError
from certificates import Pair, make_pair

GOLDEN = Path(__file__).parents[1] / "golden"
WAIT_S = 120.0  # a bound for busy machines
LARGE = 60_000_000


@dataclass(frozen=True)
class Running:
    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


@contextmanager
def serving(log: Path, *arguments: str | Path) -> Iterator[Running]:
    command = [sys.executable, "-m", "accordion.cli", "serve", *map(str, arguments), "--port", "0", "--json"]
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, env=dict(os.environ))
    assert process.stdout is not None
    try:
        text = b""
        while not text.strip().endswith(b"}"):
            line = process.stdout.readline()
            assert line, log.read_text()
            text += line
        yield Running(str(json.loads(text)["url"]), process, log)
    finally:
        process.terminate()
        process.wait(WAIT_S)
        process.stdout.close()


def wait_for(true: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def workers(process: subprocess.Popen[bytes]) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("tls"))


def test_tls_and_tokens_from_end_to_end(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ACCORDION_TOKEN", "ACCORDION_REGISTRY_AUTH", "ACCORDION_CACERT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    tokens = tmp_path / "tokens"
    assert main(["token", "phones", "--file", str(tokens), "--packages", "prec*"]) == 0
    (tmp_path / "token").write_text(capsys.readouterr().out)
    tls = ["--tls-cert", pair.certificate, "--tls-key", pair.key]
    model = tmp_path / "model"
    with serving(tmp_path / "log", GOLDEN / "precision", GOLDEN / "trees", "--tokens", tokens, "--log", "json", *tls) as running:
        url = running.url
        assert url.startswith("https://127.0.0.1:")
        silent = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=WAIT_S)
        assert main(["fetch", f"{url}/precision", "-o", str(model)]) == 1
        assert "not trusted" in capsys.readouterr().err
        how = ["--cacert", str(pair.authority)]
        assert main(["fetch", f"{url}/precision", "-o", str(model), *how]) == 1
        assert "needs a token" in capsys.readouterr().err
        how += ["--token-file", str(tmp_path / "token")]
        assert main(["fetch", f"{url}/precision", "-o", str(model), *how]) == 0
        assert main(["verify", str(model)]) == 0
        assert main(["plan", f"{url}/precision", *how]) == 0
        assert main(["show", f"{url}/precision", *how]) == 0
        assert main(["doctor", f"{url}/precision", "--folder", str(tmp_path), *how]) == 0
        assert main(["fetch", f"{url}/trees", "-o", str(tmp_path / "other"), *how]) == 1
        assert "does not have the right" in capsys.readouterr().err
        # docker's way: the token as password
        (tmp_path / "docker").mkdir()
        entry = {"username": "anyone", "password": (tmp_path / "token").read_text().strip()}
        (tmp_path / "docker" / "config.json").write_text(json.dumps({"auths": {url.removeprefix("https://"): entry}}))
        assert main(["fetch", f"{url}/precision", "-o", str(tmp_path / "third"), *how[:2]]) == 0
        if (program := shutil.which("skopeo")) is not None:
            source = f"docker://{url.removeprefix('https://')}/precision:latest"
            copying = [program, "copy", "--src-tls-verify=false", "--src-creds", f"anyone:{entry['password']}", source]
            done = subprocess.run(
                [*copying, f"oci:{tmp_path}/copy:latest"], capture_output=True, text=True, timeout=WAIT_S, check=False
            )
            assert done.returncode == 0, done.stderr
            assert main(["verify", str(tmp_path / "copy")]) == 0
        # revoked while it runs
        assert main(["token", "phones", "--file", str(tokens), "--remove"]) == 0
        wait_for(lambda: main(["show", f"{url}/precision", *how]) == 1)
        assert "not valid" in capsys.readouterr().err
        with pytest.raises(httpx.TransportError):
            httpx.get(url.replace("https:", "http:") + "/healthz")
        with silent:
            assert silent.recv(1) == b""  # it never began to agree on TLS
        secret = (tmp_path / "token").read_text().strip()
        assert secret not in running.log.read_text()
        assert {line["status"] for line in running.lines() if line["event"] == "request"} >= {200, 401, 403}


def test_skopeo_with_a_token_and_without_where_something_is_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same program gets what is open to everybody, and what only its token opens; so does this project's own client."""
    if (program := shutil.which("skopeo")) is None:
        pytest.skip("skopeo is not installed")
    tokens = tmp_path / "tokens.json"
    assert main(["token", "phones", "--file", str(tokens), "--packages", "precision"]) == 0
    token = capsys.readouterr().out.strip()
    (tmp_path / "token").write_text(token)
    opened = {"anonymous": {"packages": ["trees"], "rights": ["pull", "plan"]}}
    tokens.write_text(json.dumps({**json.loads(tokens.read_text()), **opened}))
    with serving(tmp_path / "log", GOLDEN / "precision", GOLDEN / "trees", "--tokens", tokens) as running:
        place, shown = f"docker://{running.url.removeprefix('http://')}", ["--src-creds", f"anyone:{token}"]

        def copied(name: str, *how: str) -> bool:
            command = [program, "copy", "--src-tls-verify=false", *how, f"{place}/{name}:latest", f"oci:{tmp_path}/copy:{name}"]
            return subprocess.run(command, capture_output=True, timeout=WAIT_S, check=False).returncode == 0

        assert [copied("trees"), copied("trees", *shown)] == [True, True]
        assert [copied("precision"), copied("precision", *shown)] == [False, True]
        own = ["--token-file", str(tmp_path / "token")]
        for name, how, code in (("trees", [], 0), ("trees", own, 0), ("precision", [], 1), ("precision", own, 0)):
            assert main(["pull", f"{running.url}/{name}", "-o", str(tmp_path / "pulled"), "--tag", name, *how]) == code
            assert main(["plan", f"{running.url}/{name}", *how]) == code


def test_certificates_that_are_no_pair(pair: Pair, tmp_path: Path) -> None:
    check_pair(pair.certificate, pair.key)
    other = make_pair(tmp_path / "other")
    (tmp_path / "text").write_text("hello")
    encrypted = tmp_path / "encrypted"
    subprocess.run(
        ["openssl", "pkey", "-in", str(pair.key), "-aes128", "-passout", "pass:x", "-out", str(encrypted)],
        check=True,
        capture_output=True,
    )
    for certificate, key in (
        (pair.certificate, other.key), (pair.key, pair.certificate), (tmp_path / "text", pair.key), (pair.certificate, tmp_path / "none"),
        (pair.certificate, encrypted),
    ):  # fmt: skip
        with pytest.raises(UsageError) as caught:
            check_pair(certificate, key)
        assert "\n" not in str(caught.value)
    assert main(["serve", str(GOLDEN / "trees"), "--tls-cert", str(pair.certificate)]) == 2


@pytest.fixture
def large(tmp_path: Path, build: Callable[..., Any]) -> Any:
    return build(tmp_path / "large", {"latest": [b"first", bytes(LARGE)]})


def test_a_stop_finishes_transfers_within_its_grace(large: Any, tmp_path: Path) -> None:
    path = f"/v2/large/_accordion/stream/{large.manifest.digest}"
    with (
        serving(tmp_path / "log", large.path, "--grace", "60s") as running,
        httpx.Client(base_url=running.url, timeout=WAIT_S) as client,
    ):
        with client.stream("GET", path) as reply:
            pieces = reply.iter_bytes(65536)
            received = len(next(pieces))
            running.process.send_signal(signal.SIGTERM)
            wait_for(lambda: not answers(running.url))  # nobody new is let in
            received += sum(len(piece) for piece in pieces)
        assert received == len(large.stream())
        assert running.process.wait(WAIT_S) == 0


def test_a_stop_does_not_wait_longer_than_its_grace(large: Any, tmp_path: Path) -> None:
    path = f"/v2/large/_accordion/stream/{large.manifest.digest}"
    with (
        serving(tmp_path / "log", large.path, "--grace", "1s") as running,
        httpx.Client(base_url=running.url, timeout=WAIT_S) as client,
        client.stream("GET", path) as reply,
    ):
        next(reply.iter_bytes(65536))
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(WAIT_S) == 0  # though this client never reads on


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=WAIT_S).status_code == 200
    except httpx.TransportError:
        return False


def test_a_new_start_drops_no_transfer_and_no_request(large: Any, tmp_path: Path, build: Callable[..., Any]) -> None:
    """SIGHUP: another process answers, with the files as they now are; the old one ends what it has under way."""
    path = f"/v2/large/_accordion/stream/{large.manifest.digest}"
    failures: list[str] = []
    ended = threading.Event()

    def ask(url: str) -> None:
        while not ended.is_set():
            try:
                status = httpx.get(f"{url}/v2/large/manifests/latest", timeout=WAIT_S).status_code
            except httpx.TransportError as error:
                failures.append(repr(error))
            else:
                if status != 200:
                    failures.append(str(status))
            time.sleep(0.02)

    with (
        serving(tmp_path / "log", large.path, "--grace", "60s") as running,
        httpx.Client(base_url=running.url, timeout=WAIT_S) as client,
    ):
        asking = threading.Thread(target=ask, args=(running.url,))
        asking.start()
        try:
            began = started(running.url)
            with client.stream("GET", path) as reply:
                pieces = reply.iter_bytes(65536)
                received = len(next(pieces))
                running.process.send_signal(signal.SIGHUP)
                wait_for(lambda: started(running.url) > began)
                received += sum(len(piece) for piece in pieces)
            assert received == len(large.stream())
            wait_for(lambda: len(workers(running.process)) == 1)
        finally:
            ended.set()
            asking.join()
        assert answers(running.url)
        # What stood in the old process's queue when it closed it may be lost to the kernel, at most once a restart.
        assert len(failures) <= 1, failures


def test_a_new_start_takes_the_new_certificate(pair: Pair, tmp_path: Path) -> None:
    newer = make_pair(tmp_path / "newer")
    files = [tmp_path / "certificate.pem", tmp_path / "key.pem"]

    def put(one: Pair) -> None:
        files[0].write_bytes(one.certificate.read_bytes())
        files[1].write_bytes(one.key.read_bytes())

    def trusted_by(one: Pair, url: str) -> bool:
        try:
            context = ssl.create_default_context(cafile=one.authority)
            return httpx.get(f"{url}/healthz", verify=context, timeout=WAIT_S).status_code == 200
        except httpx.TransportError:
            return False

    put(pair)
    with serving(tmp_path / "log", GOLDEN / "trees", "--tls-cert", files[0], "--tls-key", files[1]) as running:
        assert trusted_by(pair, running.url)
        assert not trusted_by(newer, running.url)
        put(newer)
        running.process.send_signal(signal.SIGHUP)
        wait_for(lambda: trusted_by(newer, running.url))


@pytest.mark.parametrize("damaged", ["tokens", "certificate", "export"])
def test_a_new_start_with_damaged_files_changes_nothing(pair: Pair, tmp_path: Path, damaged: str) -> None:
    tokens, certificate = tmp_path / "tokens.json", tmp_path / "certificate.pem"
    tokens.write_text('{"anonymous": {"packages": ["*"], "rights": ["pull", "plan", "metrics"]}, "tokens": []}')
    certificate.write_bytes(pair.certificate.read_bytes())
    context = ssl.create_default_context(cafile=pair.authority)
    (tmp_path / "export" / "v2").mkdir(parents=True)
    options = ("--tokens", tokens, "--tls-cert", certificate, "--tls-key", pair.key, "--trusted-proxy", "192.0.2.1")
    options += ("--accel-redirect", "/files", "--accel-export", tmp_path / "export")
    with serving(tmp_path / "log", GOLDEN / "trees", *options) as running:

        def begun() -> float:
            return started(running.url, context)

        before = begun()
        file = {"tokens": tokens, "certificate": certificate, "export": tmp_path / "export" / "v2"}[damaged]
        file.rename(tmp_path / "sound")
        file.write_text("{")
        running.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "SIGHUP: the workers go on as they were" in (tmp_path / "log").read_text())
        assert (begun(), running.process.poll()) == (before, None)
        file.unlink()
        (tmp_path / "sound").rename(file)
        running.process.send_signal(signal.SIGHUP)
        wait_for(lambda: begun() > before)


def test_an_endpoint_over_an_empty_folder_waits_for_the_first_package(tmp_path: Path) -> None:
    """As in a cluster whose claim is still empty: nobody restarts it, and what is published is served."""
    (tmp_path / "packages").mkdir()
    with serving(tmp_path / "log", tmp_path / "packages", "--log", "json") as running:
        health = httpx.get(f"{running.url}/healthz", timeout=WAIT_S)
        assert (health.status_code, health.json()["status"]) == (503, "empty")
        assert httpx.get(f"{running.url}/v2/trees/manifests/latest", timeout=WAIT_S).status_code == 404
        assert [line["level"] for line in running.lines() if "holds no package yet" in line["event"]] == ["warning"]
        shutil.copytree(GOLDEN / "trees", tmp_path / "packages" / "trees")
        wait_for(lambda: answers(running.url))
        assert httpx.get(f"{running.url}/v2/trees/manifests/latest", timeout=WAIT_S).status_code == 200
        shutil.rmtree(tmp_path / "packages" / "trees")
        began = started(running.url)
        running.process.send_signal(signal.SIGHUP)  # and a new start waits, too
        wait_for(lambda: started(running.url) > began)


def started(url: str, verify: ssl.SSLContext | bool = True) -> float:
    """When the process that answers began to serve."""
    text = httpx.get(f"{url}/metrics", verify=verify, timeout=WAIT_S).text
    match = re.search(r"^accordion_start_time_seconds (\S+)$", text, re.MULTILINE)
    assert match is not None
    return float(match[1])


def test_a_version_that_is_published_while_another_is_sent(large: Any, tmp_path: Path) -> None:
    """No signal is needed: the index is replaced, the next plan is for the new version, and the old one is sent to its end."""
    from small_packages import add_version  # type: ignore[import-not-found]

    from accordion.artifact.layout import Layout

    path = f"/v2/large/_accordion/stream/{large.manifest.digest}"
    with serving(tmp_path / "log", large.path) as running, httpx.Client(base_url=running.url, timeout=WAIT_S) as client:
        with client.stream("GET", path) as reply:
            pieces = reply.iter_bytes(65536)
            received = len(next(pieces))
            new = add_version(Layout.open(large.path), "latest", [b"second", bytes(1000)])
            plan = httpx.post(f"{running.url}/v2/large/_accordion/plan", json={}, timeout=WAIT_S).json()
            assert plan["manifest"] == new.digest
            received += sum(len(piece) for piece in pieces)
        assert received == len(large.stream())
        # and a device that was cut off goes on with the version that no tag names any more
        rest = client.get(path, headers={"Range": f"bytes={received - 10}-"})
        assert (rest.status_code, len(rest.content)) == (206, 10)


def test_a_worker_that_dies_ends_the_endpoint_for_its_keeper_to_restart(large: Any, tmp_path: Path) -> None:
    with serving(tmp_path / "log", large.path) as running:
        for child in workers(running.process):
            os.kill(child, signal.SIGKILL)
        assert running.process.wait(WAIT_S) == 1
        assert "Traceback" not in running.log.read_text()
