import dataclasses
import os

import pytest
from aiohttp.test_utils import unused_port

from accordion.artifact.digest import sha256_digest
from accordion.artifact.layout import Layout, signature_tag
from accordion.artifact.manifest import CONFIG_MEDIA_TYPE, LADDER_JSON, Descriptor, Manifest
from accordion.errors import DigestError, TransferError, UsageError
from accordion.registry import Credentials, Reference, RegistryClient, pull, push


async def test_there_and_back_blob_for_blob_with_the_signature(layout, fake, target, tmp_path):
    async with RegistryClient(target) as client:
        sent = await push(layout.path, client)
        got = await pull(client, tmp_path / "back")
    back = Layout.open(tmp_path / "back")
    manifest = layout.manifest("v1")
    assert (sent.signed, got.signed) == (True, True)
    assert sent.manifest == got.manifest == manifest.digest
    assert back.manifest("v1").raw == manifest.raw
    signature = signature_tag(manifest.digest)
    assert back.references()[signature] == layout.references()[signature]
    assert sorted(path.name for path in (back.path / "blobs" / "sha256").iterdir()) == sorted(
        digest.removeprefix("sha256:") for digest in {*fake.blobs, *(sha256_digest(raw) for raw in fake.manifests.values())}
    )
    assert not (back.path / ".incoming").exists()


async def test_what_is_there_is_not_sent_again(layout, fake, target):
    async with RegistryClient(target) as client:
        await push(layout.path, client)
    async with RegistryClient(dataclasses.replace(target, reference="v2")) as client:
        sent = await push(layout.path, client)
    assert sent.bytes_sent == 300
    assert sent.bytes_reused == sum(b.size for b in layout.manifest("v2").layers) + layout.manifest("v2").config.size - 300
    assert not sent.signed
    assert fake.count("PUT", "/blobs/") == len(fake.blobs)


async def test_a_second_pull_brings_nothing(layout, target, tmp_path, fake):
    async with RegistryClient(target) as client:
        await push(layout.path, client)
        first = await pull(client, tmp_path / "back")
        again = await pull(client, tmp_path / "back", tag="other")
    assert (again.bytes_sent, again.bytes_reused) == (0, first.bytes_sent)
    assert set(Layout.open(tmp_path / "back").tags()) == {"v1", "other"}


async def test_blobs_are_on_the_disk_before_the_index_names_them(layout, target, tmp_path, monkeypatch):
    synced: list[int] = []
    fsync = os.fsync

    def noting(handle: int) -> None:
        fsync(handle)
        synced.append(os.fstat(handle).st_ino)

    async with RegistryClient(target) as client:
        await push(layout.path, client)
        monkeypatch.setattr(os, "fsync", noting)
        await pull(client, tmp_path / "back")
    index = synced.index((tmp_path / "back" / "index.json").stat().st_ino)
    blobs = list((tmp_path / "back" / "blobs" / "sha256").iterdir())
    assert len(blobs) > 3 and all(path.stat().st_ino in synced[:index] for path in blobs)


async def test_an_interrupted_pull_goes_on(layout, target, tmp_path, fake):
    async with RegistryClient(target) as client:
        await push(layout.path, client)
        fake.fail_after = len(fake.requests) + 4
        with pytest.raises(TransferError, match=r"503.*the registry is being repaired"):
            await pull(client, tmp_path / "back")
        assert Layout.open(tmp_path / "back").tags() == {}
        fake.fail_after = None
        done = await pull(client, tmp_path / "back")
    assert done.bytes_reused > 0
    assert list(Layout.open(tmp_path / "back").tags()) == ["v1"]


async def test_a_registry_that_lies_is_caught(layout, target, tmp_path, fake):
    async with RegistryClient(target) as client:
        await push(layout.path, client)
        fake.lie = b"x" * 300
        with pytest.raises((DigestError, TransferError)):
            await pull(client, tmp_path / "back")
        fake.lie = b"x" * 1_000_000
        with pytest.raises(DigestError):
            await pull(client, tmp_path / "back")
    back = Layout.open(tmp_path / "back")
    assert back.tags() == {}
    for path in (back.path / "blobs" / "sha256").iterdir():
        assert sha256_digest(path.read_bytes()) == "sha256:" + path.name


async def test_an_empty_blob_has_the_digest_of_nothing(target, tmp_path, fake):
    """Of nothing no piece ever comes that could be checked."""
    for content, match in ((b"", None), (b"something", "can't be empty")):
        blob = Descriptor(CONFIG_MEDIA_TYPE, sha256_digest(content), 0)
        ladder = Descriptor(LADDER_JSON, sha256_digest(b"{}"), 2)
        fake.blobs |= {blob.digest: b"", ladder.digest: b"{}"}
        fake.manifests["v1"] = Manifest.build(blob, [ladder], {}).raw
        out = tmp_path / ("good" if match is None else "bad")
        async with RegistryClient(target) as client:
            if match is None:
                await pull(client, out)
                assert Layout.open(out).has_blob(blob)
            else:
                with pytest.raises(DigestError, match=match):
                    await pull(client, out)
                assert Layout.open(out).tags() == {} and not Layout.open(out).blob_path(blob.digest).exists()


async def test_a_corrupt_package_is_not_sent(layout, target, fake):
    blob = layout.manifest("v1").layers[1]
    data = bytearray(layout.blob_path(blob.digest).read_bytes())
    data[7] ^= 1
    layout.blob_path(blob.digest).write_bytes(data)
    async with RegistryClient(target) as client:
        with pytest.raises(DigestError, match="corrupt"):
            await push(layout.path, client)
    assert fake.requests == []


async def test_a_token_is_fetched_where_the_registry_wants_one(layout, target, fake):
    fake.token = "open-sesame"
    async with RegistryClient(target, Credentials("me", "secret")) as client:
        await push(layout.path, client)
    assert "v1" in fake.manifests
    assert "secret" not in repr(Credentials("me", "secret"))


async def test_left_out_the_tag_is_latest_else_the_only_one(layout, target, fake, tmp_path):
    bare = dataclasses.replace(target, reference=None)
    async with RegistryClient(target) as client:
        await push(layout.path, client)
    async with RegistryClient(bare) as client:
        assert await client.resolve() == "v1"  # the signature's tag does not count
    async with RegistryClient(dataclasses.replace(target, reference="v2")) as client:
        await push(layout.path, client)
    async with RegistryClient(bare) as client:
        with pytest.raises(UsageError, match="v1, v2"):
            await pull(client, tmp_path / "back")
        await push(layout.path, client, version="v2")
        assert await client.resolve() == "latest"
    assert not (tmp_path / "back").exists()


async def test_unknown_names_write_nothing(target, tmp_path, layout):
    for wrong in (target, Reference(target.base, "other"), Reference(target.base, "some/name", "sha256:" + "1" * 64)):
        async with RegistryClient(wrong) as client:
            with pytest.raises(UsageError):
                await pull(client, tmp_path / "back")
    async with RegistryClient(Reference(target.base, "some/name", "sha256:" + "1" * 64)) as client:
        with pytest.raises(UsageError, match="pushed to a tag"):
            await push(layout.path, client)
    assert not (tmp_path / "back").exists()


async def test_nobody_there(tmp_path, layout):
    async with RegistryClient(Reference(f"http://127.0.0.1:{unused_port()}", "name", "v1")) as client:
        with pytest.raises(TransferError, match="can't reach"):
            await pull(client, tmp_path / "back")
        with pytest.raises(TransferError, match="can't reach"):
            await push(layout.path, client)


def test_credentials_come_from_the_environment(monkeypatch):
    monkeypatch.delenv(Credentials.VARIABLE, raising=False)
    assert Credentials.from_environment() is None
    monkeypatch.setenv(Credentials.VARIABLE, "me:a:b")
    assert Credentials.from_environment() == Credentials("me", "a:b")
    monkeypatch.setenv(Credentials.VARIABLE, "nonsense")
    with pytest.raises(UsageError):
        Credentials.from_environment()


async def test_a_bad_tag_is_refused_before_anything_comes(layout, target, fake, tmp_path):
    async with RegistryClient(target) as client:
        await push(layout.path, client)
        with pytest.raises(UsageError, match="is no tag"):
            await pull(client, tmp_path / "back", tag="bad tag")
    assert not (tmp_path / "back").exists()
