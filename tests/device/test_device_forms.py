"""Several forms of one network under one name: at an endpoint, at a plain registry and in a folder, by one rule."""

from __future__ import annotations

import functools
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from accordion.artifact.layout import Layout
from accordion.cli.demo_steps import Endpoint, Steps
from accordion.device import Request, fetch
from accordion.endpoint import export
from accordion.errors import UsageError
from accordion.planning import PlanTable
from accordion.planning.choice import choose
from chain import add_version  # type: ignore[import-not-found]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`right-to-left` has fewer bytes, `blockwise` less work."""
    path = tmp_path_factory.mktemp("forms") / "chain"
    add_version(path, "right-to-left", 0, family="chain", macs_times=2)
    add_version(path, "blockwise", 3, family="chain", padding=3000)
    return path


@pytest.fixture(scope="module")
def forms(package: Path) -> dict[str, str]:
    layout = Layout.open(package)
    return {tag: layout.manifest(tag).digest for tag in ("right-to-left", "blockwise")}


@pytest.fixture(scope="module")
def served(package: Path) -> Iterator[str]:
    with Endpoint(Steps(sys.stderr), str(package)) as endpoint:
        yield f"{endpoint.url}/chain"


@pytest.fixture(scope="module")
def static(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("static")
    export(package, folder)
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/chain"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(("prefer", "tag"), [("bytes", "right-to-left"), ("macs", "blockwise")])
def test_what_is_scarce_chooses_the_form_everywhere_alike(
    served: str, static: str, package: Path, forms: dict[str, str], tmp_path: Path, prefer: str, tag: str
) -> None:
    request = Request(min_quality=0.7, prefer=prefer)
    for number, source in enumerate((served, static)):
        result = fetch(source, tmp_path / str(number), request)
        assert result.manifest == forms[tag]
        assert result.quality.value >= 0.7
    command = [sys.executable, "-m", "accordion.cli", "plan", str(package), "--min-quality", "0.7", "--prefer", prefer, "--json"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert json.loads(done.stdout)["manifest"] == forms[tag]


def test_a_tag_is_no_question(served: str, forms: dict[str, str], tmp_path: Path) -> None:
    assert fetch(f"{served}:blockwise", tmp_path / "m", Request(prefer="bytes")).manifest == forms["blockwise"]


def test_a_quiet_endpoint_saves_work_and_a_lonely_device_bytes(
    served: str, static: str, forms: dict[str, str], tmp_path: Path
) -> None:
    assert fetch(served, tmp_path / "a", Request(min_quality=0.7)).manifest == forms["blockwise"]
    assert fetch(static, tmp_path / "b", Request(min_quality=0.7)).manifest == forms["right-to-left"]


@pytest.mark.parametrize("share", [None, 0.9, 0.5])
def test_a_lonely_device_takes_what_it_chose(static: str, package: Path, tmp_path: Path, share: float | None) -> None:
    """The version and the configuration in one: not the best of what the version's own limits would allow besides."""
    layout = Layout.open(package)
    tables = [PlanTable(one := layout.manifest(tag), layout.ladder(one)) for tag in ("right-to-left", "blockwise")]
    most = None if share is None else int(share * tables[0].ladder.configurations[-1].bytes)
    plan = choose("chain", tables, Request(max_bytes=most), "bytes").to_json()
    result = fetch(static, tmp_path / "m", Request(max_bytes=most))
    assert (result.manifest, result.configuration) == (plan["manifest"], plan["configuration"])


def test_strangers_under_one_name_are_no_forms_of_each_other(tmp_path: Path) -> None:
    other = tmp_path / "other"
    add_version(other, "a", 0, family="one")
    add_version(other, "b", 3, family="two")
    with Endpoint(Steps(sys.stderr), str(other)) as endpoint, pytest.raises(UsageError):
        fetch(f"{endpoint.url}/other", tmp_path / "m")
