from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from accordion.endpoint import create_app
from accordion.endpoint.tokens import TokenFile, Tokens, make_token, token_hash
from accordion.errors import FormatError, StorageError, UsageError

Connect = Callable[..., httpx.AsyncClient]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def write(path: Path, *grants: Any, anonymous: Any = None) -> Path:
    value: dict[str, Any] = {"tokens": [grant.to_json() for grant in grants]}
    if anonymous is not None:
        value["anonymous"] = anonymous
    path.write_text(json.dumps(value))
    return path


def test_a_token_is_found_by_its_hash_until_it_expires() -> None:
    token, grant = make_token("phones", ["team/*"], ["pull"], NOW + timedelta(hours=1))
    other, second = make_token("other", ["*"], ["plan"])
    tokens = Tokens((grant, second))
    assert token != other
    assert len(token) > 40
    assert token not in json.dumps(grant.to_json())
    assert tokens.find(token, NOW) is grant
    assert tokens.find(other, NOW) is second
    assert tokens.find(token, NOW + timedelta(hours=1)) is None
    for wrong in ("", token[:-1], token + "x", token.upper(), grant.sha256, "é\udcff" * 10_000):
        assert tokens.find(wrong, NOW) is None


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("team/*", "team/net", True), ("team/*", "team/a/b", True), ("team/*", "team", False), ("team/*", "xteam/net", False),
        ("*", "anything/at/all", True), ("net", "net", True), ("net", "net2", False), ("n.t", "net", False), ("*/net", "team/net", True),
        ("a*a", "a", False), ("a*a", "aa", True), ("a*b*c", "a-b-b-c", True), ("a*b*c", "a-c-b", False), ("*a*b*", "xbxa", False),
        ("*a*a*", "a", False), ("**", "", True), ("*-*-int4", "-" * 60_000, False), ("*/*-compact", "/" * 60_000, False),
    ],
)  # fmt: skip
def test_patterns(pattern: str, name: str, matches: bool) -> None:
    _, grant = make_token("one", [pattern], ["pull"])
    assert grant.allows("pull", name) is matches
    assert not grant.allows("plan", name)
    assert grant.allows("pull")


@pytest.mark.parametrize(
    "change",
    [
        {"name": "two words"}, {"name": ""}, {"sha256": "0" * 63}, {"sha256": "A" * 64}, {"rights": ["push"]}, {"packages": ["a b"]},
        {"packages": "net"}, {"expires": "tomorrow"}, {"expires": "2027-01-01T00:00:00"}, {"packages": None},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_words(change: dict[str, Any]) -> None:
    row = {"name": "one", "sha256": "0" * 64, "packages": ["*"], "rights": ["pull"], **change}
    with pytest.raises(FormatError) as caught:
        Tokens.parse(json.dumps({"tokens": [row]}).encode(), "the file")
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    row = {"name": "one", "sha256": "0" * 64, "packages": ["*"], "rights": ["pull"]}
    for raw in (b"", b"[]", b"{}", json.dumps({"tokens": [row, row]}).encode(), b'{"tokens": [], "more": 1}'):
        with pytest.raises(FormatError):
            Tokens.parse(raw, "the file")
    with pytest.raises(UsageError, match="accordion token"):
        TokenFile(tmp_path / "none")
    with pytest.raises(StorageError):
        TokenFile(tmp_path)
    for wrong in (("a b", ["*"], ["pull"]), ("a", ["!"], ["pull"]), ("a", ["*"], ["own"])):
        with pytest.raises(UsageError):
            make_token(*wrong)


def test_a_file_that_changes_is_read_again_and_one_that_breaks_is_not(tmp_path: Path) -> None:
    now, said = [0.0], []
    first, one = make_token("one", ["*"], ["pull"])
    second, two = make_token("two", ["*"], ["pull"])
    file = TokenFile(write(tmp_path / "t", one), say=said.append, clock=lambda: now[0])
    write(tmp_path / "t", two)
    os.utime(tmp_path / "t", (1, 1))
    assert file.grant(second) is None  # it was looked at a moment ago
    now[0] = 2.0
    assert file.grant(second) == two
    assert file.grant(first) is None  # revoked
    (tmp_path / "t").write_text("{")
    now[0] = 4.0
    assert file.grant(second) == two
    assert file.problem is not None
    assert len(said) == 2
    (tmp_path / "t").unlink()
    now[0] = 6.0
    assert file.grant(second) == two
    write(tmp_path / "t", one)
    now[0] = 8.0
    assert file.grant(first) == one
    assert file.problem is None


@pytest.fixture
def tokens(tmp_path: Path) -> dict[str, str]:
    """Tokens by name, in the file `tokens.json`; everybody may plan for `open`."""
    made = {
        "all": make_token("all", ["*"], ["pull", "plan"]),
        "puller": make_token("puller", ["team/*"], ["pull"]),
        "planner": make_token("planner", ["team/*"], ["plan"]),
        "elsewhere": make_token("elsewhere", ["other"], ["pull", "plan"]),
        "prometheus": make_token("prometheus", [], ["metrics"]),
        "old": make_token("old", ["*"], ["pull", "plan", "metrics"], datetime(2020, 1, 1, tzinfo=UTC)),
    }
    write(tmp_path / "tokens.json", *(grant for _, grant in made.values()), anonymous={"packages": ["open"], "rights": ["pull"]})
    return {name: token for name, (token, _) in made.items()}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_rights_by_package(
    tokens: dict[str, str], package: Any, build: Callable[..., Any], connect: Connect, tmp_path: Path
) -> None:
    public = build(tmp_path / "packages" / "open")
    digest = package.manifest.digest
    reads = [
        "/v2/team/net/manifests/latest", f"/v2/team/net/blobs/{package.manifest.layers[1].digest}", "/v2/team/net/tags/list",
        f"/v2/team/net/referrers/{digest}", f"/v2/team/net/_accordion/stream/{digest}",
    ]  # fmt: skip
    plan = "/v2/team/net/_accordion/plan"
    async with connect(tmp_path / "packages", tokens=tmp_path / "tokens.json") as client:

        async def status(path: str, token: str | None, method: str = "GET") -> int:
            reply = await client.request(method, path, headers={} if token is None else bearer(tokens.get(token, token)))
            if reply.status_code in (401, 403):
                assert reply.headers["content-type"] == "application/problem+json"
                assert reply.json()["status"] == reply.status_code
                assert reply.json()["errors"][0]["code"] in ("UNAUTHORIZED", "DENIED")
                assert ("www-authenticate" in reply.headers) == (reply.status_code == 401)
            return reply.status_code

        for path in reads:
            expected = {
                "all": 200,
                "puller": 200,
                "planner": 403,
                "elsewhere": 403,
                "prometheus": 403,
                "old": 401,
                None: 401,
                "x": 401,
            }
            assert {name: await status(path, name) for name in expected} == expected, path
        expected = {"all": 200, "puller": 403, "planner": 200, "elsewhere": 403, "old": 401, None: 401}
        assert {name: await status(plan, name, "POST") for name in expected} == expected
        # what there is and what there is not looks the same to those who may not know
        for name in ("elsewhere", None):
            there, missing = [
                await client.get(f"/v2/team/{one}/manifests/latest", headers=bearer(tokens[name]) if name else {})
                for one in ("net", "none")
            ]
            assert (there.status_code, there.content) == (missing.status_code, missing.content)
        # anybody may have what is open to all, whatever their token is for, and see nothing else
        for name in ("elsewhere", "prometheus"):
            assert await status(f"/v2/open/blobs/{public.manifest.layers[1].digest}", name) == 200
        assert await status(f"/v2/open/blobs/{public.manifest.layers[1].digest}", "old") == 401
        assert await status(f"/v2/open/blobs/{public.manifest.layers[1].digest}", None) == 200
        assert await status("/v2/open/_accordion/plan", None, "POST") == 401
        assert (await client.get("/v2/_catalog")).json() == {"repositories": ["open"]}
        assert (await client.get("/v2/_catalog", headers=bearer(tokens["puller"]))).json() == {"repositories": ["open", "team/net"]}
        assert (await client.get("/v2/_catalog", headers=bearer(tokens["all"]))).json() == {"repositories": ["open", "team/net"]}
        assert await status("/metrics", None) == 401
        assert await status("/metrics", "all") == 403
        assert await status("/metrics", "prometheus") == 200
        for path in ("/healthz", "/openapi.json"):
            assert await status(path, None) == 200
        text = (await client.get("/metrics", headers=bearer(tokens["prometheus"]))).text
        assert 'accordion_refused_total{reason="forbidden"}' in text
        assert not any(name in text for name in ("puller", *tokens.values()))


async def test_docker_style_passwords_and_odd_headers(
    tokens: dict[str, str], package: Any, connect: Connect, tmp_path: Path
) -> None:
    def basic(text: str) -> str:
        return "Basic " + base64.b64encode(text.encode()).decode()

    token = tokens["all"]
    async with connect(tmp_path / "packages", tokens=tmp_path / "tokens.json") as client:
        for value, expected in [
            (basic(f"anyone:{token}"), 200), (basic(f":{token}"), 200), (f"bearer {token}", 200), (f"Bearer   {token} ", 200),
            (basic("anyone:wrong"), 401), (basic(token), 401), ("Basic !!!", 401), ("Basic", 401), ("Bearer", 401), ("Digest x", 401),
            ("", 401), (token_hash(token), 401), (f"Bearer {token}, Bearer {token}", 401), ("Bearer \xff\xfe", 401),
        ]:  # fmt: skip
            reply = await client.get("/v2/team/net/manifests/latest", headers={"Authorization": value.encode("latin-1")})
            assert reply.status_code == expected, value
            assert token not in reply.text
        twice = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")]
        assert (await client.get("/v2/team/net/manifests/latest", headers=twice)).status_code == 401


async def test_without_tokens_everybody_may(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v2/team/net/manifests/latest", headers=bearer("of-somebody-else"))).status_code == 200
    assert (await client.get("/metrics")).status_code == 200


async def test_health_does_not_name_what_one_may_not_know(
    tokens: dict[str, str], package: Any, build: Callable[..., Any], connect: Connect, tmp_path: Path
) -> None:
    broken = build(tmp_path / "packages" / "secret")
    (broken.path / "index.json").write_text("{")
    async with connect(tmp_path / "packages", tokens=tmp_path / "tokens.json") as client:
        assert (await client.get("/healthz")).json()["problems"] == []
        (problem,) = (await client.get("/healthz", headers=bearer(tokens["all"]))).json()["problems"]
        assert problem["name"] == "secret"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_who_has_shown_no_token_is_asked_for_one_at_the_root(
    tokens: dict[str, str], package: Any, connect: Connect, tmp_path: Path, method: str
) -> None:
    """docker, podman and skopeo send a token only where /v2/ itself asked for one."""
    nobody = {"Authorization": f"Basic {base64.b64encode(b':').decode()}"}  # as skopeo says it
    async with connect(tmp_path / "packages", tokens=tmp_path / "tokens.json") as client:
        for headers in ({}, nobody):
            reply = await client.request(method, "/v2/", headers=headers)
            assert reply.status_code == 401
            assert reply.headers["www-authenticate"].startswith("Basic ")
            assert reply.headers["docker-distribution-api-version"] == "registry/2.0"
        for headers in (
            bearer(tokens["puller"]),
            {"Authorization": f"Basic {base64.b64encode(b'a:' + tokens['all'].encode()).decode()}"},
        ):
            assert (await client.request(method, "/v2/", headers=headers)).status_code == 200
        text = (await client.get("/metrics", headers=bearer(tokens["prometheus"]))).text
        assert 'accordion_refused_total{reason="unauthenticated"} 0.0' in text  # a question is no refusal


async def test_nobody_as_registry_clients_say_it_may_what_everybody_may(
    tokens: dict[str, str], package: Any, build: Callable[..., Any], connect: Connect, tmp_path: Path
) -> None:
    build(tmp_path / "packages" / "open")
    nobody = {"Authorization": f"Basic {base64.b64encode(b':').decode()}"}
    async with connect(tmp_path / "packages", tokens=tmp_path / "tokens.json") as client:
        assert (await client.get("/v2/open/manifests/latest", headers=nobody)).status_code == 200
        assert (await client.get("/v2/team/net/manifests/latest", headers=nobody)).status_code == 401


async def test_without_tokens_the_root_asks_nobody(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v2/")).status_code == 200


async def test_no_shared_cache_keeps_what_a_token_was_asked_for(
    tokens: dict[str, str], package: Any, build: Callable[..., Any], connect: Connect, tmp_path: Path
) -> None:
    public = build(tmp_path / "packages" / "open")

    def paths(name: str, manifest: Any) -> list[str]:
        layer, digest = manifest.layers[1].digest, manifest.digest
        return [f"/v2/{name}/{path}" for path in (f"blobs/{layer}", f"manifests/{digest}", f"_accordion/stream/{digest}")]

    both = [*paths("team/net", package.manifest), *paths("open", public.manifest)]
    async with connect(tmp_path / "packages", tokens=tmp_path / "tokens.json") as client:
        said = [(await client.get(path, headers=bearer(tokens["all"]))).headers["cache-control"] for path in both]
        assert said == ["private, max-age=31536000, immutable"] * 3 + ["public, max-age=31536000, immutable"] * 3
        assert (await client.get(both[3])).headers["cache-control"] == said[3]
    async with connect(tmp_path / "packages") as client:
        assert {(await client.get(path)).headers["cache-control"] for path in both} == {said[3]}


async def test_a_package_that_is_open_no_more_is_private_at_once(
    tokens: dict[str, str], build: Callable[..., Any], tmp_path: Path
) -> None:
    """The reply that is kept says what was true before."""
    public = build(tmp_path / "packages" / "open")
    path, now = f"/v2/open/blobs/{public.manifest.layers[1].digest}", [0.0]
    file = TokenFile(tmp_path / "tokens.json", clock=lambda: now[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("accordion.endpoint.app.TokenFile", lambda *_, **__: file)
        app = create_app([tmp_path / "packages"], tokens=tmp_path / "tokens.json")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://endpoint") as client:
        assert (await client.get(path, headers=bearer(tokens["all"]))).headers["cache-control"].startswith("public")
        (tmp_path / "tokens.json").write_text(json.dumps({**json.loads((tmp_path / "tokens.json").read_text()), "anonymous": None}))
        now[0] = 2.0
        assert (await client.get(path, headers=bearer(tokens["all"]))).headers["cache-control"].startswith("private")
        assert (await client.get(path)).status_code == 401
