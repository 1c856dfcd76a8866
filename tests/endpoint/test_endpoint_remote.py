"""An endpoint over packages that live in a registry: another endpoint, or a stock one."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from small_packages import add_version, segment  # type: ignore[import-not-found]

from accordion.artifact.layout import Layout
from accordion.cli import main
from accordion.endpoint import create_app, remote
from accordion.endpoint.catalog import Catalog
from accordion.endpoint.remote import RemotePackage, source_reference
from accordion.errors import FormatError, TransferError, UsageError
from accordion.registry import Reference
from serving import serving
from stock_registry import stock_registry

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize(
    ("text", "base", "name", "reference"),
    [
        ("oci://example.org/team/net", "https://example.org", "team/net", None),
        ("oci://example.org:5000/net:v1", "https://example.org:5000", "net", "v1"),
        ("oci://127.0.0.1:5000/net", "http://127.0.0.1:5000", "net", None),
        ("oci://localhost/net", "http://localhost", "net", None),
        ("oci://[::1]:5000/net", "http://[::1]:5000", "net", None),
        ("http://example.org/net", "http://example.org", "net", None),
    ],
)
def test_addresses(text: str, base: str, name: str, reference: str | None) -> None:
    assert source_reference(text) == Reference(base, name, reference)


class Behind:
    """A registry that is this project's own endpoint in front of a folder, and can be made to fail."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.broken, self.asked = folder, False, 0
        self.app = web.Application()
        self.app.router.add_route("GET", "/{rest:.*}", self.answer)
        transport = httpx.ASGITransport(app=create_app([folder], rescan_s=0.0))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://behind")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        if self.broken:
            return web.Response(status=500, text="broken")
        assert "_accordion" not in request.path  # it is used as a plain registry
        reply = await self.client.get(
            request.path_qs, headers={"Range": request.headers["Range"]} if "Range" in request.headers else {}
        )
        kept = {name: value for name, value in reply.headers.items() if name.lower() in ("content-range", "docker-content-digest")}
        return web.Response(status=reply.status_code, body=reply.content, headers=kept)


@pytest.fixture
async def behind(package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Behind, str]]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))
    made = Behind(tmp_path / "packages")
    async with TestServer(made.app) as server:
        yield made, str(server.make_url("")).rstrip("/")


async def test_it_answers_as_over_the_directory(
    behind: tuple[Behind, str], package: Any, sign: Callable[..., str], connect: Callable[..., httpx.AsyncClient], tmp_path: Path
) -> None:
    signature = sign(package)
    _, url = behind
    manifest, later = package.manifest, package.manifests["v2"]
    app = await asyncio.to_thread(create_app, [f"{url}/team/net"])
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://endpoint") as far, connect(tmp_path / "packages") as near:
        for path in (
            "/v2/_catalog", "/v2/team/net/tags/list", "/v2/team/net/manifests/latest", f"/v2/team/net/manifests/{later.digest}",
            f"/v2/team/net/manifests/{signature}", f"/v2/team/net/referrers/{manifest.digest}",
            f"/v2/team/net/blobs/{manifest.layers[1].digest}", f"/v2/team/net/blobs/{manifest.config.digest}",
            f"/v2/team/net/_accordion/stream/{manifest.digest}", f"/v2/team/net/_accordion/stream/{later.digest}",
        ):  # fmt: skip
            one, other = await far.get(path), await near.get(path)
            assert (one.status_code, one.content) == (200, other.content), path
            assert dict(one.headers) == dict(other.headers), path
        stream = f"/v2/team/net/_accordion/stream/{manifest.digest}"
        for asked in ("bytes=0-0", "bytes=8000-8300", "bytes=8192-8193", "bytes=-1", "bytes=500-600,9000-9001,10000-"):
            one = await far.get(stream, headers={"Range": asked})
            other = await near.get(stream, headers={"Range": asked})
            assert one.status_code == other.status_code == 206
            cut = (
                one.headers["content-type"].partition("boundary=")[2] or "-",
                other.headers["content-type"].partition("boundary=")[2] or "-",
            )
            assert one.text.replace(cut[0], "") == other.text.replace(cut[1], "")
        for request in (
            {},
            {"max_bytes": 10_000},
            {"max_bytes": 1},
            {"held": {"manifest": manifest.digest, "configuration": 0}, "reference": "v2"},
        ):
            one = await far.post("/v2/team/net/_accordion/plan", json=request)
            other = await near.post("/v2/team/net/_accordion/plan", json=request)
            assert (one.status_code, one.json()) == (other.status_code, other.json())
        strange = "sha256:" + "0" * 64
        for path in (f"blobs/{strange}", f"manifests/{strange}", f"_accordion/stream/{strange}", "manifests/none"):
            assert (await far.get(f"/v2/team/net/{path}")).status_code == 404


async def test_new_versions_come_and_old_transfers_go_on(behind: tuple[Behind, str], package: Any) -> None:
    _, url = behind
    now = [0.0]
    found = RemotePackage(source_reference(f"{url}/team/net"), refresh_s=30, clock=lambda: now[0])
    first = await asyncio.to_thread(found.snapshot)
    assert first is not None
    new = add_version(Layout.open(package.path), "latest", [segment(7)])
    same = found.current()
    assert same is first
    now[0] = 31.0
    assert found.current() is first  # nobody waits for the look that this begins
    await settled(lambda: found.current() is not first)
    after = found.current()
    assert after is not None
    assert after.tags["latest"].digest == new.digest
    assert after.version(package.manifest.digest) is not None
    assert after.document(package.manifest.digest) is not None
    assert after.versions[package.manifests["v2"].digest] is first.versions[package.manifests["v2"].digest]  # not planned anew


async def test_of_the_versions_that_were_replaced_the_newest_stay(
    behind: tuple[Behind, str], package: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "MOST_KEPT", 3)
    target, snapshot = source_reference(f"{behind[1]}/team/net:latest"), None
    replaced: list[str] = []
    for value in range(6):
        new = add_version(Layout.open(package.path), "latest", [segment(10 + value)]).digest
        snapshot = await remote._load(target, snapshot)
        assert list(snapshot.by_digest) == [new, *reversed(replaced[-3:])]
        replaced.append(new)


async def test_a_machine_without_file_handles_is_a_problem_that_is_told(
    behind: tuple[Behind, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    found = RemotePackage(source_reference(f"{behind[1]}/team/net"), clock=lambda: now[0])

    def fails(*_: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(remote, "_load", fails)
        assert await asyncio.to_thread(found.snapshot) is None
    assert found.problems == ["its registry can't be asked from here: Too many open files"] and found.unreachable
    now[0] = 6.0
    assert await asyncio.to_thread(found.snapshot) is not None
    assert found.problems == [] and not found.unreachable


async def test_a_registry_that_fails(behind: tuple[Behind, str], package: Any) -> None:
    registry, url = behind
    now = [0.0]
    found = RemotePackage(source_reference(f"{url}/team/net"), clock=lambda: now[0])
    registry.broken = True
    assert await asyncio.to_thread(found.snapshot) is None
    assert "500" in found.problems[0]
    count = registry.asked
    assert await asyncio.to_thread(found.snapshot) is None
    assert registry.asked == count  # it is left alone for a while
    registry.broken = False
    now[0] = 6.0
    snapshot = await asyncio.to_thread(found.snapshot)
    assert snapshot is not None
    assert found.problems == []
    registry.broken = True
    now[0] = 60.0
    assert found.current() is snapshot
    await settled(lambda: bool(found.problems))
    assert found.current() is snapshot  # what was known goes on
    app = await asyncio.to_thread(broken_in_between, registry, url)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    path = f"/v2/team/net/blobs/{package.manifest.layers[1].digest}"
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "query_string": b"", "headers": [], "scheme": "http"}
    await app(scope, asyncio.Event().wait, send)
    assert [message.get("status") for message in sent] == [503, None]  # nothing had been sent yet, so it can still be said
    assert b"retry-after" in dict(sent[0]["headers"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://endpoint") as client:
        assert 'accordion_transfers_cut_total{reason="source"} 1.0' in (await client.get("/metrics")).text


def broken_in_between(registry: Behind, url: str) -> Any:
    """An endpoint whose registry fails after it has begun."""
    registry.broken = False
    app = create_app([f"{url}/team/net"])
    registry.broken = True
    return app


async def settled(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


async def test_one_tag_or_digest(behind: tuple[Behind, str], package: Any, sign: Callable[..., str]) -> None:
    sign(package)
    _, url = behind
    for text, tag, more in (
        ("team/net:v2", "v2", 0),
        (f"team/net@{package.manifest.digest}", "latest", 1),
        ("team/net:latest", "latest", 1),
    ):
        found = RemotePackage(source_reference(f"{url}/{text}"))
        snapshot = await asyncio.to_thread(found.snapshot)
        assert snapshot is not None
        assert snapshot.model_tags() == [tag]
        assert len(snapshot.tags) == 1 + more


async def test_wrong_usage(behind: tuple[Behind, str], tmp_path: Path) -> None:
    _, url = behind
    for texts in (["ftp://host/net"], ["oci://host"], [f"{url}/team/net", f"{url}/team/net:v2"]):
        with pytest.raises(UsageError):
            await asyncio.to_thread(Catalog, texts)
    with pytest.raises(FormatError, match="none"):
        await asyncio.to_thread(Catalog, [f"{url}/none"])
    with pytest.raises(TransferError, match="can't reach"):  # what is there nobody knows
        await asyncio.to_thread(Catalog, ["http://127.0.0.1:1/team/net"])


@pytest.fixture
def stock(tmp_path: Path) -> Iterator[str]:
    """A stock registry with a golden package in it."""
    with stock_registry(tmp_path) as address:
        assert main(["push", str(GOLDEN / "precision"), f"http://{address}/precision:latest"]) == 0
        yield address


def test_from_a_stock_registry_through_an_endpoint_to_a_device(stock: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))
    with serving(f"oci://{stock}/precision") as url:
        assert main(["plan", f"{url}/precision", "--max-bytes", "100kB"]) == 0
        assert main(["fetch", f"{url}/precision", "-o", str(tmp_path / "model"), "--max-bytes", "100kB"]) == 0
        assert main(["upgrade", str(tmp_path / "model")]) == 0
    assert main(["verify", str(tmp_path / "model")]) == 0
