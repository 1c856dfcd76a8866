"""What a command reads: a package directory, a model folder, or a version that lies elsewhere."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from accordion.artifact.ladder import LADDER_LIMIT, Ladder, decode_ladder
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import ARTIFACT_TYPE, MANIFEST_LIMIT, Manifest
from accordion.artifact.strict_json import parse_object
from accordion.errors import FormatError, UsageError
from accordion.planning.choice import relatives
from accordion.registry.reference import Reference, is_url, parse_reference

__all__ = ["Source", "kind_of", "open_relatives", "open_source"]

Kind = Literal["package", "model"]


@dataclass(frozen=True, slots=True)
class Source:
    """`label` says to people where it lies, `name` is what it is called there.

    `complete` is the largest configuration that a model folder holds, None elsewhere. `others` are a package's other tags.
    """

    label: str
    name: str
    manifest: Manifest
    ladder: Ladder
    complete: int | None = None
    others: tuple[str, ...] = ()


def kind_of(path: Path) -> Kind:
    """Whether a folder is a package or a model. UsageError without a folder, FormatError if it is neither."""
    if not path.exists():
        raise UsageError(f"there is no {path}")
    if path.is_dir():
        if (path / "oci-layout").is_file():
            return "package"
        if (path / "state.json").is_file() or (path / "manifest.json").is_file():
            return "model"
    raise FormatError(f"{path} is neither a package (no oci-layout) nor a model (no state.json)")


def open_source(text: str, reference: str | None = None) -> Source:
    """Reads manifest and ladder of PACKAGE, MODEL or URL/NAME[:TAG]; `reference` chooses a version of a package."""
    if is_url(text):
        target = parse_reference(text)
        return asyncio.run(_remote(_with(target, reference)))
    path = Path(text)
    if kind_of(path) == "package":
        return _package(path, reference)
    if reference is not None:
        raise UsageError(f"{path} is a model, which holds one version: --reference chooses among those of a package")
    return _model(path)


def open_relatives(text: str, *, prefers: bool) -> list[Source]:
    """The versions under PACKAGE or URL/NAME among which a plan may choose; empty where there is no choice to make."""
    if is_url(text):
        target = parse_reference(text)
        return [] if target.reference is not None else asyncio.run(_remote_relatives(target, prefers=prefers))
    path = Path(text)
    if kind_of(path) != "package":
        return []
    layout, found = Layout.open(path), {}
    for tag, descriptor in layout.tags().items():
        raw = layout.read_blob(descriptor, limit=MANIFEST_LIMIT)
        if parse_object(raw, f"the manifest {tag}", MANIFEST_LIMIT).get("artifactType") == ARTIFACT_TYPE:
            found[tag] = _package(path, tag)
    return [found[tag] for tag in relatives({tag: one.ladder for tag, one in found.items()}, prefers=prefers)]


async def _remote_relatives(target: Reference, *, prefers: bool) -> list[Source]:
    from accordion.registry.client import RegistryClient
    from accordion.registry.versions import read_relatives

    async with RegistryClient(target) as client:
        return [Source(str(target), target.name, one.manifest, one.ladder) for one in await read_relatives(client, prefers=prefers)]


def _with(target: Reference, reference: str | None) -> Reference:
    if reference is None:
        return target
    if target.reference is not None:
        raise UsageError(f"{target} names a version already: leave --reference {reference} out")
    return Reference(target.base, target.name, reference)


def _package(path: Path, reference: str | None) -> Source:
    layout = Layout.open(path)
    manifest = layout.manifest(reference)
    ladder = layout.ladder(manifest)
    ladder.check_against(manifest)
    others = tuple(tag for tag, one in layout.tags().items() if one.digest != manifest.digest)
    return Source(path.resolve().name, path.resolve().name, manifest, ladder, others=others)


def _model(path: Path) -> Source:
    from accordion.device import Model

    with Model.open(path) as model:
        return Source(path.resolve().name, path.resolve().name, model.manifest, model.ladder, model.configuration)


async def _remote(target: Reference) -> Source:
    from accordion.registry.client import RegistryClient

    async with RegistryClient(target) as client:
        reference = await client.resolve()
        raw = await client.manifest(reference)
        if raw is None:
            raise UsageError(f"{target.base} has no {target.name}:{reference}")
        manifest = Manifest.parse(raw)
        first = manifest.layers[0]
        if first.size > LADDER_LIMIT:
            raise FormatError(f"the ladder of {target} has {first.size} bytes; {LADDER_LIMIT} are allowed")
        ladder = decode_ladder(first, b"".join([chunk async for chunk in client.blob(first)]))
        ladder.check_against(manifest)
        return Source(str(target), target.name, manifest, ladder)
