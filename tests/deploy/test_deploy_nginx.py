"""A real nginx: before two endpoints, with the configuration in `deploy/`, and over files that were exported."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from accordion.cli import main
from serving import serving

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
WAIT_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def nginx(configuration: str, folder: Path, port: int) -> Iterator[str]:
    """nginx with this configuration, which makes it listen at `port`."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    path = folder / "nginx.conf"
    path.write_text(configuration)
    for above in [folder, *folder.parents][:3]:  # workers of an nginx started by root give their rights up
        above.chmod(0o755)
    with (folder / "nginx.log").open("wb") as log:
        command = [program, "-p", str(folder), "-c", str(path), "-g", "daemon off;"]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))
        try:
            end = time.monotonic() + WAIT_S
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert process.poll() is None, (folder / "nginx.log").read_text()
                    assert time.monotonic() < end
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(WAIT_S)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_before_two_endpoints_of_which_one_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    with ExitStack() as first, serving(GOLDEN / "precision", "--trusted-proxy", "127.0.0.1") as other:
        one = first.enter_context(serving(GOLDEN / "precision", "--trusted-proxy", "127.0.0.1"))
        text = (ROOT / "deploy" / "nginx.conf").read_text()
        for before, after in (
            ("endpoint-1:8080", one.removeprefix("http://")),
            ("endpoint-2:8080", other.removeprefix("http://")),
            ("listen 8080;", f"listen 127.0.0.1:{port};"),
            ("/tmp/nginx.pid", f"{tmp_path}/nginx.pid"),
            ("/dev/stdout", f"{tmp_path}/access.log"),
            (
                "http {",
                "http {"
                + "".join(f" {kind}_temp_path {tmp_path}/{kind};" for kind in ("proxy", "client_body", "fastcgi", "uwsgi", "scgi")),
            ),
        ):
            assert before in text
            text = text.replace(before, after)
        with nginx(text, tmp_path, port) as url:
            # Each of the two answers some of these.
            for _ in range(4):
                assert httpx.get(f"{url}/v2/precision/tags/list", timeout=WAIT_S).status_code == 200
            model = tmp_path / "model"
            small = told(capsys, "fetch", f"{url}/precision", "-o", str(model), "--max-bytes", "100kB")
            first.close()  # one endpoint goes; nobody is told
            for _ in range(6):
                assert httpx.post(f"{url}/v2/precision/_accordion/plan", json={}, timeout=WAIT_S).status_code == 200
            whole = told(capsys, "upgrade", str(model))
            assert whole["configuration"] >= small["configuration"]
            assert main(["verify", str(model)]) == 0
            assert httpx.get(f"{url}/metrics", timeout=WAIT_S).status_code == 404  # not for the world
            assert httpx.post(f"{url}/v2/precision/_accordion/plan", content=b" " * 70_000, timeout=WAIT_S).status_code == 413
        assert "127.0.0.1" not in (tmp_path / "access.log").read_text()


def test_over_exported_files_a_device_plans_for_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And comes to what an endpoint would have planned."""
    port = free_port()
    assert main(["export", str(GOLDEN / "precision"), str(tmp_path / "out")]) == 0
    capsys.readouterr()
    configuration = f"""
        pid {tmp_path}/nginx.pid; error_log stderr; worker_processes 1;
        events {{}}
        http {{
            access_log off; client_body_temp_path {tmp_path}/b; proxy_temp_path {tmp_path}/p; fastcgi_temp_path {tmp_path}/f;
            uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;
            server {{ listen 127.0.0.1:{port}; root {tmp_path}/out; include {tmp_path}/out/nginx-accordion.conf; }}
        }}
        """
    limits = ["--max-bytes", "100kB"]
    with nginx(configuration, tmp_path, port) as files, serving(GOLDEN / "precision") as endpoint:
        assert httpx.post(f"{files}/v2/precision/_accordion/plan", json={}).status_code in (404, 405)
        alone = told(capsys, "fetch", f"{files}/precision", "-o", str(tmp_path / "alone"), *limits)
        helped = told(capsys, "fetch", f"{endpoint}/precision", "-o", str(tmp_path / "helped"), *limits)
        assert (alone["manifest"], alone["configuration"]) == (helped["manifest"], helped["configuration"])
        plan, other = (told(capsys, "plan", f"{url}/precision", *limits, "--throughput", "10Mbps") for url in (files, endpoint))
        for field in ("manifest", "configuration", "bytes_to_send", "ranges", "layers"):
            assert plan[field] == other[field]
        assert (
            told(capsys, "upgrade", str(tmp_path / "alone"))["configuration"]
            == told(capsys, "upgrade", str(tmp_path / "helped"))["configuration"]
        )
    assert main(["verify", str(tmp_path / "alone")]) == 0
