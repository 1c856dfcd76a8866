"""Trust along the way of a model: fetched from a real endpoint, run offline, upgraded, shed, pulled."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from mirror import GOLDEN, NAME, Shop, nothing_runs, runs  # type: ignore[import-not-found]

from accordion.artifact.digest import sha256_digest
from accordion.artifact.layout import Layout, signature_tag
from accordion.device import Model, Request, fetch, shed, upgrade, verify_model
from accordion.device.exchange import NEXT
from accordion.endpoint import export
from accordion.errors import AccordionError, DigestError, SignatureError
from accordion.registry import RegistryClient, parse_reference, pull
from accordion.trust import PROOF, Trust
from accordion.trust.keys import PrivateKey
from accordion.trust.signature import add_signature
from accordion.trust.statement import Statement
from serving import serving


def test_fetch_upgrade_and_shed_at_a_real_endpoint(shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path) -> None:
    for tag in ("v1", "v2"):
        shop.sign(tag, maker, tags=(tag,))
    model = tmp_path / "m"
    with serving(shop.package) as url:
        with Model.open(_whole(f"{url}/{NAME}:v1", tmp_path / "plain")) as plain:
            small = plain.ladder.configurations[0].bytes
        first = fetch(f"{url}/{NAME}:v1", model, Request(max_bytes=small), trust=trust)
        assert first.configuration == 0
        runs(model, trust, "v1")
        assert upgrade(model, trust=trust).configuration == 2
        runs(model, trust, "v1")
        other = upgrade(model, Request(reference="v2"), trust=trust)
        assert other.bytes_reused > 0
        runs(model, trust, "v2")
        assert verify_model(model, trust=trust) == []
        freed = shed(model, 0)[1]
        assert freed > 0
        runs(model, trust, "v2")
        assert {path.name for path in (model / ".packed").iterdir()} == {
            layer.digest.removeprefix("sha256:") for layer in shop.layout.manifest("v2").layers[:2]
        }
        assert upgrade(model, trust=trust).configuration == 2
    # The endpoint is gone: what vouches for the model lies beside its manifest.
    runs(model, trust, "v2")
    runs(Path(shutil.copytree(model, tmp_path / "copy")), trust, "v2")
    assert not (model / NEXT).exists()


def _whole(source: str, folder: Path) -> Path:
    fetch(source, folder)
    return folder


@pytest.mark.parametrize("golden, tag", [("encodings", "int4"), ("encodings", "float16"), ("trees", "latest"), ("cache", "latest")])
def test_every_kind_of_layer_follows_from_the_signed_manifest(
    golden: str, tag: str, shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path
) -> None:
    """Weights that travel compressed too: their files are held against the layer that brought them."""
    package = tmp_path / golden
    shutil.copytree(GOLDEN / golden, package)
    layout = Layout.open(package)
    manifest = layout.manifest(tag)
    add_signature(layout, manifest, Statement(manifest.digest, golden), maker, 0)
    export(package, shop.static)
    trust.add_keys([golden], [maker.public.pem.encode()], None)
    fetch(f"{shop.url}/{golden}:{tag}", tmp_path / "m", trust=trust)
    runs(tmp_path / "m", trust, tag, golden)
    assert verify_model(tmp_path / "m", trust=trust) == []
    state = json.loads((tmp_path / "m" / "state.json").read_text())["files"]
    packed = {entry["layer"] for path, entry in state.items() if path.startswith(".packed/")}
    assert packed == {layer.digest for layer in manifest.layers if "+zstd" in layer.media_type}
    for path, entry in state.items():  # whatever file is exchanged, together with what state.json says of it
        if path.startswith(".packed/") or path.endswith(".md"):
            continue
        before = (tmp_path / "m" / path).read_bytes()
        changed = before[:-1] + bytes([before[-1] ^ 1])
        (tmp_path / "m" / path).write_bytes(changed)
        said = {**entry, "sha256": sha256_digest(changed)}
        text = (tmp_path / "m" / "state.json").read_text()
        (tmp_path / "m" / "state.json").write_text(
            text.replace(json.dumps(entry, separators=(",", ":")), json.dumps(said, separators=(",", ":")))
        )
        assert any("signed" in problem for problem in verify_model(tmp_path / "m", trust=trust)), path
        (tmp_path / "m" / "state.json").write_text(text)
        (tmp_path / "m" / path).write_bytes(before)


def test_a_plan_that_names_an_unsigned_manifest(shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path) -> None:
    """The endpoint plans, and plans for what nobody signed."""
    shop.sign("v1", maker)
    with serving(shop.package) as url:
        fetch(f"{url}/{NAME}:v1", tmp_path / "m", trust=trust)
        with pytest.raises(SignatureError, match="is not signed"):
            upgrade(tmp_path / "m", Request(reference="v2"), trust=trust)
        with pytest.raises(SignatureError, match="is not signed"):
            fetch(f"{url}/{NAME}:v2", tmp_path / "new", trust=trust)
    runs(tmp_path / "m", trust, "v1")
    assert nothing_runs(tmp_path / "new", trust)


def test_what_was_fetched_before_trust_was_configured(shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path) -> None:
    """It does not run; when its signature is fetched, only that and what came packed comes again."""
    shop.publish()
    whole = fetch(f"{shop.source}:v1", tmp_path / "m").bytes_received
    assert nothing_runs(tmp_path / "m", trust)
    with pytest.raises(SignatureError, match="nothing here vouches"):
        runs(tmp_path / "m", trust, "v1")
    assert any("vouches" in problem for problem in verify_model(tmp_path / "m", trust=trust))
    with pytest.raises(SignatureError, match="is not signed"):
        upgrade(tmp_path / "m", trust=trust)
    shop.sign("v1", maker)
    shop.publish()
    again = upgrade(tmp_path / "m", trust=trust)
    assert again.bytes_reused > 0
    assert again.bytes_received < whole + 2000  # the signature is longer than these little weights
    runs(tmp_path / "m", trust, "v1")
    assert verify_model(tmp_path / "m", trust=trust) == []


def test_an_unsigned_model_makes_place_for_a_signed_version(shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path) -> None:
    shop.publish()
    fetch(f"{shop.source}:v1", tmp_path / "m")
    shop.sign("v2", maker)
    shop.publish()
    fetch(f"{shop.source}:v2", tmp_path / "m", trust=trust)
    runs(tmp_path / "m", trust, "v2")
    assert verify_model(tmp_path / "m", trust=trust) == []


def test_without_rules_a_later_version_has_no_proof_of_the_one_before(
    shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path
) -> None:
    shop.sign("v1", maker)
    shop.publish()
    fetch(f"{shop.source}:v1", tmp_path / "m", trust=trust)
    assert (tmp_path / "m" / PROOF).exists()
    upgrade(tmp_path / "m", Request(reference="v2"))
    assert not (tmp_path / "m" / PROOF).exists()
    assert nothing_runs(tmp_path / "m", trust)


@pytest.mark.parametrize("everything", [False, True])
def test_a_graph_that_was_changed_together_with_the_state(
    everything: bool, shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path
) -> None:
    """A graph travels packed, so its own digest is not in the manifest: it is held against the packed layer that is."""
    from accordion.artifact.digest import file_digest

    shop.sign("v1", maker)
    shop.publish()
    fetch(f"{shop.source}:v1", tmp_path / "m", trust=trust)
    runs(tmp_path / "m", trust, "v1")
    fetch(f"{shop.source}:v2", tmp_path / "v2")
    state = json.loads((tmp_path / "m" / "state.json").read_text())
    graph = tmp_path / "m" / "000.onnx"
    graph.write_bytes(graph.read_bytes() + b"\x0a\x00")  # an empty field: still a graph
    state["files"]["000.onnx"] |= {"size": graph.stat().st_size, "sha256": file_digest(graph)}
    if everything:
        layer = state["files"]["000.onnx"]["layer"]
        packed = next(path for path, entry in state["files"].items() if path.startswith(".packed") and entry["layer"] == layer)
        (tmp_path / "m" / packed).write_bytes(b"other")
        state["files"][packed] |= {"size": 5, "sha256": file_digest(tmp_path / "m" / packed)}
    (tmp_path / "m" / "state.json").write_text(json.dumps(state))
    with pytest.raises(DigestError, match="was signed"):
        runs(tmp_path / "m", trust, "v1")
    fetch(f"{shop.source}:v1", tmp_path / "m", trust=trust)
    runs(tmp_path / "m", trust, "v1")


def test_a_manifest_exchanged_while_a_program_holds_the_model(shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path) -> None:
    shop.sign("v1", maker)
    shop.publish()
    fetch(f"{shop.source}:v1", tmp_path / "m", trust=trust)
    with Model.open(tmp_path / "m", trust=trust) as model:
        fetch(f"{shop.source}:v2", tmp_path / "m")  # somebody without rules
        with pytest.raises(SignatureError):
            model.refresh()
        with pytest.raises(AccordionError):
            model.session(0)


async def test_pull_brings_nothing_that_is_not_signed(shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path) -> None:
    shop.publish()
    async with RegistryClient(parse_reference(f"{shop.source}:v1")) as client:
        with pytest.raises(SignatureError, match="is not signed"):
            await pull(client, tmp_path / "back", trust=trust)
        assert not (tmp_path / "back").exists()
        shop.sign("v1", maker)
        shop.publish()
        assert (await pull(client, tmp_path / "back", trust=trust)).signed
    layout = Layout.open(tmp_path / "back")
    assert signature_tag(shop.digest("v1")) in layout.references()
    assert trust.examine(layout, NAME) == []
    assert trust.examine(shop.layout, NAME) == [f"v2: {NAME} is not to be trusted: it is not signed ({shop.digest('v2')})"]
    assert "no rule" in trust.examine(layout, "other")[0]


@pytest.mark.parametrize("library", ["cryptography", "tuf"])
def test_without_the_library_nothing_runs(
    library: str, shop: Shop, trust: Trust, maker: PrivateKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trust is configured, and can't be checked: that is an error, and no reason to go on."""
    from test_trust_attacks_on_tuf import Source  # type: ignore[import-not-found]

    if library == "tuf":
        source = Source(shop, tmp_path)
        source.add(v1="v1")
        trust = source.trust()
    else:
        shop.sign("v1", maker)
        shop.publish()
    fetch(f"{shop.source}:v1", tmp_path / "m", trust=trust)
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    extra = "trust" if library == "cryptography" else "tuf"
    monkeypatch.setenv("ACCORDION_TRUST", str(trust.path))
    for work in (
        lambda: fetch(f"{shop.source}:v1", tmp_path / "new"),
        lambda: upgrade(tmp_path / "m"),
        lambda: Model.open(tmp_path / "m").run({}),
    ):
        with pytest.raises(AccordionError, match=rf"'\.\[{extra}\]'") as caught:
            work()  # type: ignore[no-untyped-call]
        assert caught.value.exit_code == 1
    assert not (tmp_path / "new" / "manifest.json").exists()
