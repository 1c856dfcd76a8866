from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accordion.artifact.names import is_name
from accordion.endpoint.routing import Target, parse_target


@pytest.mark.parametrize(
    ("rest", "target"),
    [
        ("", Target("base")),
        ("_catalog", Target("catalog")),
        ("net/tags/list", Target("tags", "net")),
        ("a/b/c/tags/list", Target("tags", "a/b/c")),
        ("net/manifests/latest", Target("manifest", "net", "latest")),
        ("a/manifests/manifests/x", Target("manifest", "a/manifests", "x")),
        ("a/tags/tags/list", Target("tags", "a/tags")),
        ("net/blobs/sha256:1", Target("blob", "net", "sha256:1")),
        ("net/referrers/sha256:1", Target("referrers", "net", "sha256:1")),
        ("a/b/_accordion/plan", Target("plan", "a/b")),
        ("a/b/_accordion/stream/sha256:1", Target("stream", "a/b", "sha256:1")),
        ("a/blobs/_accordion/plan", Target("plan", "a/blobs")),
        ("net", Target("unknown")),
        ("manifests/latest", Target("unknown")),
        ("tags/list", Target("unknown")),
        ("_accordion/plan", Target("unknown")),
        ("net/other/x", Target("unknown")),
    ],
)
def test_targets(rest: str, target: Target) -> None:
    assert parse_target(rest) == target


@given(st.from_regex(r"[a-z0-9]+(/[a-z0-9]+){0,3}", fullmatch=True), st.from_regex(r"[a-zA-Z0-9_.-]{1,20}", fullmatch=True))
def test_every_name_comes_back(name: str, reference: str) -> None:
    assert is_name(name)
    assert parse_target(f"{name}/manifests/{reference}") == Target("manifest", name, reference)
    assert parse_target(f"{name}/_accordion/stream/{reference}") == Target("stream", name, reference)
    assert parse_target(f"{name}/tags/list") == Target("tags", name)


@pytest.mark.parametrize("name", ["net", "a/b", "resnet56-cifar10", "a.b_c--d/E9"])
def test_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name", ["", "/", "a/", "/a", "a//b", "..", "a/../b", ".a", "_accordion", "a/_accordion", "a b", "ä", "a\n", "a" * 256]
)
def test_what_is_no_name(name: str) -> None:
    assert not is_name(name)
