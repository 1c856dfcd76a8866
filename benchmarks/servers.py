"""Servers that the benchmarks start themselves: the endpoint, a stock registry, nginx over a folder with a configuration of a few
lines, and nginx before an endpoint with the configuration in `deploy/`."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

START_S = 300.0  # a bound for a catalog of ten thousand packages on a busy machine, not a measurement
SHIPPED = Path(__file__).parents[1] / "deploy" / "nginx.conf"
TICK = os.sysconf("SC_CLK_TCK")

PLAIN = """
worker_processes {workers};
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {root};
        {more}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers at `url`; `pid` is its first process."""

    url: str
    pid: int

    def processes(self) -> list[int]:
        """Its processes, children included (Linux)."""
        found, waiting = [], [self.pid]
        while waiting:
            pid = waiting.pop()
            try:
                waiting += [int(c) for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()]
            except OSError:
                continue
            found.append(pid)
        return found

    def processor_s(self) -> float:
        """Processor seconds so far."""
        total = 0.0
        for pid in self.processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / TICK
        return total

    def memory_bytes(self) -> int:
        """What its processes hold that no other does."""
        total = 0
        for pid in self.processes():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith(("Private_Clean:", "Private_Dirty:")):
                    total += int(line.split()[1]) * 1024
        return total

    def resident_bytes(self) -> int:
        """What its processes have in memory."""
        return self._status("VmRSS:")

    def peak_bytes(self) -> int:
        """What they had at most, each by itself, since `forget_peak`."""
        return self._status("VmHWM:")

    def forget_peak(self) -> None:
        """The peak counts from now on."""
        for pid in self.processes():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def _status(self, key: str) -> int:
        rows = [row for pid in self.processes() for row in Path(f"/proc/{pid}/status").read_text().splitlines()]
        return sum(int(row.split()[1]) * 1024 for row in rows if row.startswith(key))


@contextmanager
def accordion(*arguments: str, stderr: IO[bytes] | None = None) -> Iterator[Server]:
    """`accordion serve ARGUMENTS` on a free port; what it logs goes to `stderr` where that is given."""
    with tempfile.TemporaryFile() as said:
        command = [sys.executable, "-m", "accordion.cli", "serve", *arguments, "--port", "0", "--json"]
        process = subprocess.Popen(command, stdout=said, stderr=stderr)
        try:
            end = time.monotonic() + START_S
            while True:
                said.seek(0)
                try:
                    url = str(json.loads(said.read())["url"])
                    break
                except ValueError:
                    if process.poll() is not None or time.monotonic() > end:
                        raise SystemExit("the endpoint did not start") from None
                    time.sleep(0.05)
            yield Server(url, process.pid)
        finally:
            process.terminate()
            process.wait()


def nginx(root: Path, workers: int = 1, more: str = "") -> AbstractContextManager[Server]:
    """nginx over the folder `root`; `more` stands in its server block."""

    def text(folder: Path, port: int) -> str:
        return PLAIN.format(workers=workers, folder=folder, port=port, root=root.resolve(), more=more)

    return _nginx(text)


def nginx_before(endpoint: Server, packages: Path, export: Path, workers: int = 1) -> AbstractContextManager[Server]:
    """nginx with `deploy/nginx.conf` before an endpoint, which may leave files of these folders to it. Its log goes nowhere."""

    def text(folder: Path, port: int) -> str:
        made = SHIPPED.read_text()
        for before, after in (
            ("worker_processes auto;", f"worker_processes {workers};"),
            ("        server endpoint-1:8080", f"        server {endpoint.url.removeprefix('http://')}"),
            ("        server endpoint-2:8080 max_fails=2 fail_timeout=5s;\n", ""),
            ("listen 8080;", f"listen 127.0.0.1:{port} backlog=4096;"),
            ("/tmp/nginx.pid", f"{folder}/nginx.pid"),
            ("/dev/stdout", "/dev/null"),
            ("alias /packages/;", f"alias {packages.resolve()}/;"),
            ("alias /export/;", f"alias {export.resolve()}/;"),
        ):
            if before not in made:
                raise SystemExit(f"{SHIPPED} is not what this benchmark knows: it lacks {before!r}")
            made = made.replace(before, after)
        return made

    return _nginx(text)


@contextmanager
def _nginx(configuration: Callable[[Path, int], str]) -> Iterator[Server]:
    """nginx with this configuration, of a folder of its own and a port. Exits with a message where there is no nginx."""
    program = shutil.which("nginx")
    if program is None:
        raise SystemExit("this benchmark needs nginx: apt-get install nginx")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        user = "user root;\n" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(user + configuration(folder, port))
        process = subprocess.Popen([program, "-c", str(folder / "nginx.conf"), "-p", name, "-g", "daemon off;"])
        try:
            end = time.monotonic() + START_S
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > end:
                        raise SystemExit(f"nginx did not start: {(folder / 'error.log').read_text()}") from None
                    time.sleep(0.05)
            yield Server(f"http://127.0.0.1:{port}", process.pid)
        finally:
            process.terminate()
            process.wait()


@contextmanager
def stock_registry(folder: Path) -> Iterator[str | None]:
    """Debian's docker-registry over an empty folder: its address, or None where it is not installed."""
    program = shutil.which("docker-registry")
    if program is None:
        yield None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = folder / "registry.yml"
    storage = f"storage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}"
    settings.write_text(f"version: 0.1\nlog: {{level: error}}\n{storage}\nhttp: {{addr: '{address}'}}\n")
    process = subprocess.Popen([program, "serve", str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit("docker-registry did not start") from None
                time.sleep(0.05)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait()
