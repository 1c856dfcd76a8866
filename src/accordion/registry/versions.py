"""The versions that stand side by side under a name, read for whoever has to choose among them without an endpoint that plans."""

from __future__ import annotations

from dataclasses import dataclass

from accordion.artifact.ladder import LADDER_LIMIT, Ladder, decode_ladder
from accordion.artifact.layout import belongs_to_a_version
from accordion.artifact.manifest import ARTIFACT_TYPE, MANIFEST_LIMIT, Manifest
from accordion.artifact.strict_json import parse_object
from accordion.errors import FormatError
from accordion.planning.choice import MOST_VERSIONS, relatives
from accordion.registry.client import RegistryClient

__all__ = ["Candidate", "read_relatives"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One version: manifest and ladder."""

    manifest: Manifest
    ladder: Ladder

    @property
    def size(self) -> int:
        """Bytes that reading it took."""
        return self.manifest.size + self.manifest.layers[0].size


async def read_relatives(client: RegistryClient, *, prefers: bool) -> list[Candidate]:
    """Those among which a plan may choose, where the reference names none; empty where there is no choice to make.

    With `latest` there and nothing preferred, or with one tag alone, nothing but the list of tags is read.
    """
    tags = [tag for tag in await client.tags() if not belongs_to_a_version(tag)]
    if len(tags) < 2 or len(tags) > MOST_VERSIONS or ("latest" in tags and not prefers):
        return []
    found = {}
    for tag in tags:
        raw = await client.manifest(tag)
        if raw is None or parse_object(raw, f"the manifest {tag}", MANIFEST_LIMIT).get("artifactType") != ARTIFACT_TYPE:
            continue  # gone meanwhile, or something beside a model: a list of its parts, say
        manifest = Manifest.parse(raw)
        first = manifest.layers[0]
        if first.size > LADDER_LIMIT:
            raise FormatError(f"the ladder of {tag} has {first.size} bytes; {LADDER_LIMIT} are allowed")
        ladder = decode_ladder(first, b"".join([chunk async for chunk in client.blob(first)]))
        ladder.check_against(manifest)
        found[tag] = Candidate(manifest, ladder)
    return [found[tag] for tag in relatives({tag: one.ladder for tag, one in found.items()}, prefers=prefers)]
