"""Layers in another form: taken when asked for, never needed, and whatever a decoder does, no wrong byte is installed."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from accordion.artifact.add_alternates import add_alternates
from accordion.artifact.digest import sha256_digest
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import Manifest
from accordion.artifact.verify import verify_package
from accordion.cli import main
from accordion.device import Fetch, Link, Model, Observer, Request, decoding, fetch, upgrade, verify_model
from accordion.device.alternates import route
from accordion.endpoint import export
from accordion.errors import UnmeetableError, UsageError
from accordion.trust import Trust
from accordion.trust.keys import make_key
from accordion.trust.rules import Rules
from accordion.trust.signature import add_signature
from accordion.trust.statement import Statement
from chain import WIDTH, K, add_version, expected  # type: ignore[import-not-found]
from serving import serving
from stand_in import BEHAVIOURS, ENCODING, StandIn  # type: ignore[import-not-found]

X = np.random.default_rng(3).standard_normal((2, WIDTH)).astype(np.float32)


@dataclass
class Scene:
    """Packages with alternates, `raw` and `packed`, and the same ones without; and where an endpoint has them all."""

    folder: Path
    stand_in: StandIn
    url: str = ""
    said: list[str] = field(default_factory=list)

    def layout(self, name: str) -> Layout:
        return Layout.open(self.folder / name)

    def manifest(self, name: str) -> Manifest:
        return self.layout(name).manifest()

    @property
    def observer(self) -> Observer:
        self.said.clear()
        return Observer(say=self.said.append)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder, known = tmp_path_factory.mktemp("alternates"), tmp_path_factory.mktemp("known")
    scene = Scene(folder, StandIn(known))
    for name, compress in (("raw", False), ("packed", True)):
        for kind in (name, f"{name}-plain"):
            add_version(folder / kind, "latest", 0, compress=compress)
        add_alternates(scene.layout(name), "latest", ENCODING, scene.stand_in.encode)
    with serving(*(folder / name for name in ("raw", "raw-plain", "packed", "packed-plain"))) as scene.url:
        yield scene


@pytest.fixture
def scene(made: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    behave(made, monkeypatch, "good")
    return made


def behave(scene: Scene, monkeypatch: pytest.MonkeyPatch, behaviour: str) -> None:
    monkeypatch.setattr(decoding, "COMMANDS", {ENCODING: lambda memory: scene.stand_in.command(behaviour)})


def answers(model: Path, trust: Trust | None = None) -> None:
    with Model.open(model, trust=trust) as opened:
        for k in range(K):
            np.testing.assert_allclose(opened.run(X, k)["y"], expected(0, X, k), rtol=1e-4, atol=1e-4)
    assert verify_model(model, trust=trust) == []


def files(model: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in model.glob("0*")}


@pytest.mark.parametrize("name", ["raw", "packed"])
def test_alternates_bring_the_same_files_in_fewer_bytes(name: str, scene: Scene, tmp_path: Path) -> None:
    plain = fetch(f"{scene.url}/{name}", tmp_path / "plain")
    other = fetch(f"{scene.url}/{name}", tmp_path / "m", alternate=ENCODING, observer=scene.observer)
    manifest = scene.manifest(name)
    assert len(manifest.alternates) == K
    sizes = {layer.digest: layer.size for layer in manifest.layers}
    saved = sum(sizes[one.of] - manifest.layers[index].size for index, one in manifest.alternates.items())
    assert saved > 80_000
    assert plain.bytes_received - other.bytes_received == saved
    assert other.bytes_reused == 0 and other.configuration == K - 1
    assert [k for k, _ in other.ready] == list(range(K))
    assert scene.said == []
    assert files(tmp_path / "m") == files(tmp_path / "plain")
    answers(tmp_path / "m")


@pytest.mark.parametrize("name", ["raw", "packed"])
def test_who_does_not_ask_gets_the_plain_layers_and_pays_for_a_longer_manifest_alone(
    name: str, scene: Scene, tmp_path: Path
) -> None:
    before = fetch(f"{scene.url}/{name}-plain", tmp_path / "before").bytes_received
    after = fetch(f"{scene.url}/{name}", tmp_path / "after")
    state = json.loads((tmp_path / "after" / "state.json").read_text())
    alternates = {scene.manifest(name).layers[index].digest for index in scene.manifest(name).alternates}
    assert not alternates & {entry["layer"] for entry in state["files"].values()}
    assert 0 < after.bytes_received - before < 300 * K
    assert after.configuration == K - 1
    answers(tmp_path / "after")


def test_a_package_with_alternates_keeps_every_rule(scene: Scene) -> None:
    for name in ("raw", "packed"):
        assert verify_package(scene.folder / name) == []
        assert scene.manifest(name).layers[: len(scene.manifest(f"{name}-plain").layers)] == scene.manifest(f"{name}-plain").layers


def test_alternates_and_the_graphs_between_them_are_one_piece_of_the_stream(scene: Scene) -> None:
    manifest = scene.manifest("packed")
    needed = len(scene.manifest("packed-plain").layers)
    found = route(manifest, list(range(needed)), ENCODING)
    assert found[:2] == [0, 1]  # ladder and the first graph, which stand before any weights
    assert found[2:] == list(range(needed, len(manifest.layers)))
    plain = [manifest.layers[index].digest for index in range(2, needed)]
    stands = [
        manifest.alternates[index].of if index in manifest.alternates else manifest.layers[index].digest for index in found[2:]
    ]
    assert stands == plain
    assert route(manifest, list(range(needed)), "another") == list(range(needed))
    assert route(manifest, [2, 3], ENCODING, plain=[2]) == [2, 3]


def test_without_the_library_all_comes_in_its_plain_form(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "LIBRARIES", {ENCODING: ("no_such_library", "pip install it")})
    result = fetch(f"{scene.url}/raw", tmp_path / "m", alternate=ENCODING, observer=scene.observer)
    assert result.configuration == K - 1
    assert result.bytes_received == fetch(f"{scene.url}/raw", tmp_path / "plain").bytes_received
    assert any("pip install it" in line for line in scene.said)


def test_an_unknown_encoding_is_wrong_usage(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no encoding"):
        fetch(f"{scene.url}/raw", tmp_path / "m", alternate="zip")


def test_the_command_takes_them_and_says_what_it_does_not_know(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", f"{scene.url}/raw", "-o", str(tmp_path / "m"), "--alternate", "zip"]) == 2
    assert ENCODING in capsys.readouterr().err
    assert main(["fetch", f"{scene.url}/raw", "-o", str(tmp_path / "m"), "--alternate", ENCODING, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes_received"] < 200_000
    assert main(["verify", str(tmp_path / "m")]) == 0


@pytest.mark.parametrize("behaviour", [*BEHAVIOURS, "good-once"])
def test_a_decoder_that_fails_costs_bytes_and_nothing_else(
    behaviour: str, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behave(scene, monkeypatch, behaviour)
    monkeypatch.setattr(decoding, "LEAST_S", 1.0)
    monkeypatch.setattr(decoding, "START_S", 1.0 if behaviour in ("hangs", "never-reads") else 20.0)
    monkeypatch.setattr(decoding, "RATE", 1e9)
    result = fetch(f"{scene.url}/packed", tmp_path / "m", alternate=ENCODING, observer=scene.observer)
    assert result.configuration == K - 1
    assert [k for k, _ in result.ready] == list(range(K))
    assert sum("plain form" in line for line in scene.said) == 1
    plain = sum(layer.size for layer in scene.manifest("packed-plain").layers)
    assert result.bytes_received > plain - 25_000  # one layer at most has come as an alternate to good purpose
    answers(tmp_path / "m")
    left = [path.name for path in (tmp_path / "m").rglob(".incoming/*")]
    assert left == []


def test_a_program_that_does_not_start_is_such_a_failure(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "COMMANDS", {ENCODING: lambda memory: [str(tmp_path / "no-such-program")]})
    assert fetch(f"{scene.url}/raw", tmp_path / "m", alternate=ENCODING, observer=scene.observer).configuration == K - 1
    assert any("does not start" in line for line in scene.said)


def test_an_upgrade_takes_them_too(scene: Scene, tmp_path: Path) -> None:
    fetch(f"{scene.url}/packed", tmp_path / "m", Request(max_bytes=60_000))
    more = upgrade(tmp_path / "m", alternate=ENCODING)
    assert more.configuration == K - 1 and more.bytes_reused > 0
    rest = fetch(f"{scene.url}/packed", tmp_path / "whole").bytes_received
    assert more.bytes_received < 0.6 * rest
    answers(tmp_path / "m")


async def test_what_arrived_of_an_alternate_is_kept_for_the_next_time(scene: Scene, tmp_path: Path) -> None:
    slow = Link(rate_bps=8e5)
    async with Fetch(f"{scene.url}/raw", tmp_path / "m", link=slow, alternate=ENCODING) as delivery:
        async for k, _seconds in delivery:
            if k == 1:
                break
    first = sum(path.stat().st_size for path in (tmp_path / "m" / ".incoming").iterdir())
    async with Fetch(f"{scene.url}/raw", tmp_path / "m", alternate=ENCODING) as delivery:
        async for _ in delivery:
            pass
    async with Fetch(f"{scene.url}/raw", tmp_path / "whole", alternate=ENCODING) as whole:
        async for _ in whole:
            pass
    manifest = scene.manifest("raw")
    there = sum(manifest.layers[index].size for index in sorted(manifest.alternates)[:2])
    assert delivery.result.bytes_received <= whole.result.bytes_received - there - first
    answers(tmp_path / "m")


def test_a_deadline_passes_while_something_is_decoded(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(f"{scene.url}/raw", tmp_path / "m", Request(max_bytes=60_000))
    behave(scene, monkeypatch, "hangs")
    request = Request(deadline_s=2.0, throughput_bps=1e9)
    result = upgrade(tmp_path / "m", request, alternate=ENCODING, observer=scene.observer)
    assert result.configuration == 0 and not result.deadline_met
    behave(scene, monkeypatch, "good")
    again = upgrade(tmp_path / "m", alternate=ENCODING)
    assert again.configuration == K - 1
    answers(tmp_path / "m")


@pytest.fixture
def static(scene: Scene, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "static"
    export(scene.folder / "packed", folder)
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/packed", folder
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("missing", [False, True], ids=["spoilt", "missing"])
def test_an_alternate_that_is_not_what_the_manifest_says_reaches_no_decoder(
    missing: bool, static: tuple[str, Path], scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store may have spoilt them, or never have been given them: the plain layers are all that counts."""
    url, folder = static
    behave(scene, monkeypatch, "never-reads")
    manifest = scene.manifest("packed")
    for stream in folder.rglob("stream/*"):
        stream.unlink()
    for index in manifest.alternates:
        hexes = manifest.layers[index].digest.removeprefix("sha256:")
        for blob in folder.rglob(f"*{hexes}*"):
            content = blob.read_bytes()
            blob.unlink()
            if not missing:
                blob.write_bytes(content[::-1])
    result = fetch(url, tmp_path / "m", alternate=ENCODING, observer=scene.observer)
    assert result.configuration == K - 1
    assert sum("plain form" in line for line in scene.said) == 1
    answers(tmp_path / "m")


def test_under_rules_of_trust_the_signed_manifest_vouches_for_what_was_decoded(scene: Scene, tmp_path: Path) -> None:
    key = make_key()
    for name in ("packed", "packed-plain"):
        manifest = scene.manifest(name)
        add_signature(scene.layout(name), manifest, Statement(manifest.digest, name), key, 0)
    trust = Trust(tmp_path / "trust.json", Rules())
    trust.add_keys(["packed"], [key.public.pem.encode()], None)
    trust.save()
    model = tmp_path / "m"
    with serving(scene.folder / "packed") as url:
        fetch(f"{url}/packed", model, trust=trust, alternate=ENCODING, observer=scene.observer)
        assert scene.said == []
        answers(model, trust)
        weights = {layer.digest for layer in scene.manifest("packed").layers if "weight.v1" in layer.media_type}
        assert not any((model / ".packed" / digest.removeprefix("sha256:")).exists() for digest in weights)
        state = json.loads((model / "state.json").read_text())
        entry = state["files"]["003.safetensors"]
        content = (model / "003.safetensors").read_bytes()
        changed = content[:-1] + bytes([content[-1] ^ 1])
        (model / "003.safetensors").write_bytes(changed)
        state["files"]["003.safetensors"] = {**entry, "sha256": sha256_digest(changed)}
        (model / "state.json").write_text(json.dumps(state))
        assert verify_model(model, trust=trust) != []
        with Model.open(model, trust=trust) as opened:
            assert opened.configuration == 2  # what nobody vouches for is not there
            with pytest.raises(UnmeetableError):
                opened.run(X, K - 1)
        assert fetch(f"{url}/packed", model, trust=trust, alternate=ENCODING).bytes_received < 60_000
        answers(model, trust)
