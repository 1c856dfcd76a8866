"""How fast bytes and plans leave: `python benchmarks/serving.py [--rounds 5] [--seconds 3] [-o benchmarks/results/serving.json]`.

`python benchmarks/serving_table.py` then writes the table in docs/serving.md.

Needs wrk and nginx (Debian: apt-get install wrk nginx). Everything is started here, with as many workers as each other, and
measured in turns, so that what else the machine does meets all alike; figures are ratios within a round. The load generator
shares the cores.

- blobs of 10 MB and 200 kB and a whole stream: the endpoint alone; nginx over `accordion export` with the shipped configuration;
  and nginx with `deploy/nginx.conf` before an endpoint that leaves files to it (`--accel-redirect`), so that there are two
  processes. The peer is nginx over plain files of these bytes, with `sendfile`, `tcp_nopush`, no log, and nothing else;
- plans over a ladder, as devices ask for them that hold nothing (a deadline, a rate, a round trip), and as
  all kinds of devices might (upgrades, bounds on quality, bytes and computation, confidence); each request is another. The peer
  is an empty handler on the same server (granian), which reads the request and answers a constant of these answers' mean size;
- memory: what one more connection, that waits in the middle of a blob, makes the endpoint hold.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from packages import write_package  # type: ignore[import-not-found]
from servers import Server, accordion, nginx, nginx_before  # type: ignore[import-not-found]

from accordion.artifact.ladder import decode_ladder
from accordion.artifact.layout import Layout
from accordion.errors import UnmeetableError
from accordion.planning import PlanTable, Request

SIZES = {"200 kB": 200_000, "10 MB": 10_000_000}
CONNECTIONS = 16
WAITING = 200  # connections held open for the memory
LADDER = Path(__file__).parents[1] / "zoo" / "resnet56-cifar10"
REQUESTS = 500  # different ones, asked over and over

# As it stands above the table.
HOW = [
    "Requests a second as a share of the peer's in the same round, with one worker each (nginx before an endpoint: one each)",
    "and the load generator on the same two cores. The peers are nginx over plain files of the same bytes (`sendfile`,",
    "`tcp_nopush`, no log), and an application of a few lines on the endpoint's own server, which reads a request and answers",
    "as many bytes. Each plan is asked for with other figures, over the configurations of `zoo/resnet56-cifar10`; those of",
    "all kinds are upgrades, and bounds on quality, bytes and computation.",
]

# wrk would put every request together anew; so they are put together once.
SCRIPT = """
local bodies = {%s}
local made, at = {}, 0
function init(arguments)
    local headers = {["Content-Type"] = "application/json"}
    for index, body in ipairs(bodies) do made[index] = wrk.format("POST", nil, headers, body) end
end
function request()
    at = at %% #made + 1
    return made[at]
end
"""

EMPTY = """
BODY = {body!r}
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}})
    await send({{"type": "http.response.body", "body": BODY}})
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("this benchmark needs wrk: apt-get install wrk")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        package = write_package(folder / "net", [*SIZES.values()])
        manifest = Layout.open(package).manifest()
        blobs = {label: min(manifest.layers, key=lambda layer: abs(layer.size - size)) for label, size in SIZES.items()}
        plain = folder / "plain"
        plain.mkdir()
        layout = Layout.open(package)
        for layer in blobs.values():
            shutil.copyfile(layout.blob_path(layer.digest), plain / layer.digest.removeprefix("sha256:"))
        export = folder / "export"
        subprocess.run(
            [sys.executable, "-m", "accordion.cli", "export", str(package), str(export)], check=True, capture_output=True
        )
        shipped = Path(str(files("accordion.endpoint"))) / "nginx.conf"
        workers = ("--workers", str(arguments.workers))
        endpoint = stack.enter_context(accordion(str(package), str(LADDER), *workers))
        leaving = ("--trusted-proxy", "127.0.0.1", "--accel-redirect", "/accordion-files", "--accel-export", str(export))
        behind = stack.enter_context(accordion(str(package), *leaving, *workers))
        before = stack.enter_context(nginx_before(behind, folder, export, arguments.workers))
        peer = stack.enter_context(nginx(plain, arguments.workers))
        static = stack.enter_context(nginx(export, arguments.workers, f"include {shipped};"))
        rows: dict[str, dict[str, list[float]]] = {}
        for label, layer in blobs.items():
            path = f"/v2/net/blobs/{layer.digest}"
            rows[f"blob of {label}"] = interleaved(
                {
                    "nginx, plain": f"{peer.url}/{layer.digest.removeprefix('sha256:')}",
                    "endpoint": endpoint.url + path,
                    "nginx, exported": static.url + path,
                    "nginx before endpoint": before.url + path,
                },
                arguments,
            )
        stream = f"/v2/net/_accordion/stream/{manifest.digest}"
        whole = plain / "whole"
        whole.write_bytes(b"".join(layout.blob_path(layer.digest).read_bytes() for layer in manifest.layers))
        rows["stream, all of it"] = interleaved(
            {
                "nginx, plain": f"{peer.url}/whole",
                "endpoint": endpoint.url + stream,
                "nginx, exported": static.url + stream,
                "nginx before endpoint": before.url + stream,
            },
            arguments,
        )
        url = f"{endpoint.url}/v2/{LADDER.name}/_accordion/plan"
        for what, mixed in (("plans", False), ("plans of all kinds", True)):
            asked, size = requests(mixed)
            script = folder / "plan.lua"
            script.write_text(SCRIPT % ",\n".join(json.dumps(json.dumps(one)) for one in asked))
            with empty_handler(folder, b"x" * size, arguments.workers) as empty:
                rows[what] = interleaved({"empty handler": empty, "endpoint": url}, arguments, script)
        memory = {label: memory_per_connection(endpoint, f"/v2/net/blobs/{layer.digest}") for label, layer in blobs.items()}
    value = {
        "how": HOW,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip(),
        "workers": arguments.workers,
        "requests_per_s": rows,
        "ratios": {what: ratios(found) for what, found in rows.items()},
        "bytes_a_connection": memory,
    }
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(value, indent=1) + "\n")
    for what, found in value["ratios"].items():
        for who, ratio in found.items():
            print(f"{what:20} {who:18} {ratio['median']:5.2f} of the peer ({ratio['least']:.2f} to {ratio['most']:.2f})")
    for label, held in memory.items():
        print(f"one more connection in the middle of {label}: {held / 2**20:.2f} MiB")


def requests(mixed: bool) -> tuple[list[dict[str, Any]], int]:
    """Requests that can be met, and the mean size of their answers in bytes; `mixed`: of all kinds."""
    layout = Layout.open(LADDER)
    manifest = layout.manifest()
    first = manifest.layers[0]
    table = PlanTable(manifest, decode_ladder(first, layout.read_blob(first, limit=2**24)))
    rungs, rng = table.ladder.configurations, random.Random(0)
    made: list[dict[str, Any]] = []
    sizes = 0
    while len(made) < REQUESTS:
        one: dict[str, Any] = {
            "deadline_s": round(10 ** rng.uniform(-1, 0.5), 3),
            "throughput_bps": round(10 ** rng.uniform(6, 8)),
            "rtt_s": round(10 ** rng.uniform(-2.5, -1), 4),
        }
        if mixed:
            rung = rng.choice(rungs)
            more: list[dict[str, Any]] = [
                {"held": {"manifest": manifest.digest, "configuration": rung.index}},
                {"min_quality": round(rung.quality.value - 0.02, 3)},
                {"max_bytes": rung.bytes},
                {"max_macs": rung.macs},
                {"confidence": 0.9, "min_quality": round(rung.quality.interval[0] - 0.02, 3)},
            ]
            one |= rng.choice(more)
        try:
            sizes += len(json.dumps(table.plan(LADDER.name, Request.from_json(one)).to_json(), separators=(",", ":")))
        except UnmeetableError:
            continue
        made.append(one)
    return made, sizes // len(made)


def interleaved(urls: dict[str, str], arguments: argparse.Namespace, script: Path | None = None) -> dict[str, list[float]]:
    """Requests a second of each, round after round."""
    found: dict[str, list[float]] = {name: [] for name in urls}
    for _ in range(arguments.rounds):
        for name, url in urls.items():
            found[name].append(requests_a_second(url, arguments.seconds, script))
    return found


def requests_a_second(url: str, seconds: int, script: Path | None) -> float:
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", *(["-s", str(script)] if script else []), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if bad := re.search(r"Non-2xx or 3xx responses: (\d+)", said):
        raise SystemExit(f"{url}: {bad[1]} answers were errors")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])  # type: ignore[index]


def ratios(found: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Of each to the first, round by round."""
    peer, *others = found
    made = {}
    for name in others:
        each = [mine / theirs for mine, theirs in zip(found[name], found[peer], strict=True)]
        made[name] = {"median": round(statistics.median(each), 3), "least": round(min(each), 3), "most": round(max(each), 3)}
    return made


@contextmanager
def empty_handler(folder: Path, body: bytes, workers: int) -> Iterator[str]:
    """An ASGI application that answers `body` to everything, on the endpoint's own server."""
    (folder / "empty.py").write_text(EMPTY.format(body=body))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", str(workers), "--log-level", "warning", "--no-ws", "empty:app"]
    process = subprocess.Popen(command, cwd=folder)
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait()


def memory_per_connection(endpoint: Server, path: str) -> int:
    """Bytes that the endpoint holds more for each connection that has read a little of a blob and waits."""
    host, port = endpoint.url.removeprefix("http://").split(":")
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    time.sleep(1)
    before, waiting = endpoint.memory_bytes(), []
    try:
        for _ in range(WAITING):
            made = socket.create_connection((host, int(port)))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            made.sendall(request)
            made.recv(1024)
            waiting.append(made)
        time.sleep(1)
        return max(0, endpoint.memory_bytes() - before) // WAITING
    finally:
        for made in waiting:
            made.close()


if __name__ == "__main__":
    main()
