"""Small packages, and clients of endpoints in this process."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from small_packages import Built, add_signature, add_version, segment  # type: ignore[import-not-found]

from accordion.artifact.layout import Layout
from accordion.endpoint import create_app


@pytest.fixture
def build() -> Callable[..., Built]:
    """build(path, {tag: [segments]}): a package."""

    def make(path: Path, versions: dict[str, list[bytes]] | None = None) -> Built:
        path.parent.mkdir(parents=True, exist_ok=True)
        layout = Layout.create(path)
        versions = versions or {"latest": [segment(k) for k in range(3)]}
        return Built(path, {tag: add_version(layout, tag, segments) for tag, segments in versions.items()})

    return make


@pytest.fixture
def package(tmp_path: Path, build: Callable[..., Built]) -> Built:
    """Two versions that share segments 0 and 2."""
    return build(
        tmp_path / "packages" / "team" / "net",
        {"latest": [segment(0), segment(1), segment(2)], "v2": [segment(0), segment(1, version=1), segment(2), segment(3)]},
    )


Client = httpx.AsyncClient


@pytest.fixture
def connect() -> Callable[..., Client]:
    """connect(directories, **limits): a client of an endpoint in this process."""

    def make(*directories: Path, **limits: Any) -> Client:
        app = create_app(directories, **limits)
        return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://endpoint")

    return make


@pytest.fixture
async def client(package: Built, connect: Callable[..., Client], tmp_path: Path) -> AsyncIterator[Client]:
    """A client of an endpoint that serves `package` as team/net."""
    async with connect(tmp_path / "packages") as made:
        yield made


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens at just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def sign() -> Callable[..., str]:
    """sign(package, tag, subject=…): adds a signature, returns its manifest's digest."""

    def make(built: Built, tag: str = "latest", *, subject: bool = False) -> str:
        return add_signature(Layout.open(built.path), built.manifests[tag], subject=subject)

    return make
