"""Which resource a path under /v2/ names. Names hold slashes, so paths are read from their end."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ACCORDION", "Target", "parse_target"]

ACCORDION = "_accordion"  # no name can have this part, so the protocol's own paths never collide with a package


@dataclass(frozen=True, slots=True)
class Target:
    """`kind` is base, catalog, manifest, blob, tags, referrers, stream, plan or unknown; `reference` a tag or digest, unchecked."""

    kind: str
    name: str = ""
    reference: str = ""


UNKNOWN = Target("unknown")
_BY_PART = {"manifests": "manifest", "blobs": "blob", "referrers": "referrers"}


def parse_target(rest: str) -> Target:
    """The target of what follows `/v2/` in a decoded path."""
    if rest == "":
        return Target("base")
    if rest == "_catalog":
        return Target("catalog")
    parts = rest.split("/")
    last = parts[-1]
    if parts[-3:-1] == [ACCORDION, "stream"]:
        return _named("stream", parts[:-3], last)
    if parts[-2:] == [ACCORDION, "plan"]:
        return _named("plan", parts[:-2], "")
    if parts[-2:] == ["tags", "list"]:
        return _named("tags", parts[:-2], "")
    if len(parts) > 2 and parts[-2] in _BY_PART:
        return _named(_BY_PART[parts[-2]], parts[:-2], last)
    return UNKNOWN


def _named(kind: str, name: list[str], reference: str) -> Target:
    return Target(kind, "/".join(name), reference) if name else UNKNOWN
