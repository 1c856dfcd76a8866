"""The broken golden packages at a device, from a server that checks nothing: what is wrong is found out, and never runs."""

from __future__ import annotations

import http.server
import importlib.util
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from accordion.artifact import archive
from accordion.device import Model, fetch, verify_model
from accordion.errors import AccordionError, ContentError, TransferError, UnmeetableError, UsageError
from plain_server import Plain  # type: ignore[import-not-found]

GOLDEN = Path(__file__).parents[1] / "golden"

# What a device never sees or need not mind: index, layout file, config, documents, what lies behind the last configuration, graphs
# too early or for nothing, a blob's tail.
UNSEEN = {
    *("diffId that is none", "config with a field of another schema", "config whose name is none", "config without a format"),
    *("config of no time", "graph that nothing runs", "graphs before they are needed"),
    *("wrong diffIds", "no diffIds", "config that is none", "negative size", "extended blob"),
    *("index without versions", "index with a tag twice", "index that is none", "tag that is none"),
    *("another layout version", "no layout", "segment in an archive that is none", "document before the end"),
    *("input without a layout", "more than all is right"),
}
# Where the bytes end too early, or never come.
TRANSFER = {"truncated blob", "missing blob", "no blobs"}


def _broken() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_broken_on_the_device", GOLDEN / "broken.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def raw_manifest(package: Path) -> bytes:
    """As the index names it, or, where that is broken, the only blob that looks like one."""
    for path in (package / "blobs" / "sha256").iterdir():
        data = path.read_bytes()
        if b"vnd.oci.image.manifest.v1+json" in data or data == b'"manifest"':
            return data
    raise AssertionError(f"{package} has no manifest")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made: dict[str, Path] = _broken().broken(tmp_path_factory.mktemp("broken"))
    return made


@pytest.fixture(scope="module")
def careless(packages: dict[str, Path]) -> Iterator[str]:
    """A registry over all of them: manifests and blobs as they lie there, no plans, no streams, no ranges."""
    by_name = {path.name.lower(): path for path in packages.values()}

    class Handler(Plain, http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send(404, b"no")

        def do_GET(self) -> None:
            _, _, name, kind, reference = [*self.path.split("/"), "", "", ""][:5]
            blob = by_name.get(name, Path("none")) / "blobs" / "sha256" / reference.removeprefix("sha256:")
            if kind == "manifests" and blob.parent.is_dir():
                self.send(200, raw_manifest(blob.parents[2]))
            elif kind == "blobs" and blob.is_file():
                self.send(200, blob.read_bytes())
            else:
                self.send(404, b"no")

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # devices leave in the middle, as they should

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def what_runs_is_right(folder: Path) -> int | None:
    """The largest configuration that runs; every one up to it must answer as the whole package does."""
    rows = json.loads((GOLDEN / "precision" / "expected.json").read_text())["versions"]["latest"]
    try:
        model = Model.open(folder)
    except (ContentError, UnmeetableError, UsageError):
        return None
    with model:
        for k in range((model.configuration if model.configuration is not None else -1) + 1):
            inputs = {name: np.array(one["values"], one["dtype"]).reshape(one["shape"]) for name, one in rows[k]["inputs"].items()}
            try:
                outputs = model.run(inputs, k)
            except ContentError:
                return k - 1 if k else None
            for name, one in rows[k]["outputs"].items():
                np.testing.assert_allclose(outputs[name], np.array(one["values"]).reshape(one["shape"]), rtol=1e-5, atol=1e-5)
        return model.configuration


def test_no_broken_package_gets_by(
    packages: dict[str, Path], careless: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "UNPACKED_FLOOR", 2**20)
    passed, failed = set(), {}
    for name, package in packages.items():
        if name in TRANSFER and not (package / "blobs").is_dir():
            continue
        folder = tmp_path / package.name
        try:
            fetch(f"{careless}/{package.name.lower()}:latest", folder)
            passed.add(name)
        except AccordionError as error:
            failed[name] = error
            assert "\n" not in str(error) and len(str(error)) < 1000
        complete = what_runs_is_right(folder)
        assert complete == 1 if name in passed else complete in (None, 0), name
        assert not any(path.name.startswith(".new-") for path in folder.rglob("*")), name
    assert passed <= UNSEEN
    assert {name for name, error in failed.items() if not isinstance(error, ContentError)} <= TRANSFER
    assert all(isinstance(failed[name], (ContentError, TransferError)) for name in TRANSFER & failed.keys())
    outside = {path.name for path in tmp_path.parent.iterdir()}
    assert "x" not in outside and not Path("/tmp/x.bin").exists()


def test_a_layer_that_would_lie_on_another_ones_file_leaves_that_alone(
    packages: dict[str, Path], careless: str, tmp_path: Path
) -> None:
    folder = tmp_path / "m"
    with pytest.raises(ContentError, match=r"'000\.onnx' occurs twice"):
        fetch(f"{careless}/duplicate-path-in-an-archive:latest", folder)
    assert what_runs_is_right(folder) == 0
    assert verify_model(folder) == []
