"""Whatever bytes come in place of signatures, statements, proofs and rules: an error of ours, or something sound."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accordion.errors import AccordionError, ContentError
from accordion.trust.check import check_signed
from accordion.trust.keys import make_key
from accordion.trust.proof import Listed, Proof
from accordion.trust.rules import Repository, Rule, Rules
from accordion.trust.signature import SIGNATURE, SIMPLE_SIGNING, Signed, parts_of
from accordion.trust.statement import Statement

KEY = make_key("ed25519")
DIGEST = "sha256:" + "1" * 64
STATEMENT = Statement(DIGEST, "net", ("v1",), 7).to_bytes(1)
PROOF = Proof(DIGEST, (Signed(STATEMENT, KEY.sign(STATEMENT)),), Listed(b"{}", "net/v1")).to_bytes()
RULES = json.dumps(Rules((Rule("net", (KEY.public,)), Rule("a/*", repository=Repository("https://x", "{}")))).to_json()).encode()
ARTIFACT = json.dumps(
    {"layers": [{"mediaType": SIMPLE_SIGNING, "digest": DIGEST, "size": 2, "annotations": {SIGNATURE: "AAAA"}}]}
).encode()
PARSERS = {
    "statement": (STATEMENT, Statement.parse),
    "proof": (PROOF, lambda data: Proof.parse(data, "it")),
    "rules": (RULES, lambda data: Rules.parse(data, "it")),
    "artifact": (ARTIFACT, parts_of),
}
QUIET = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def mutated(good: bytes, at: int, count: int, new: bytes) -> bytes:
    at %= len(good) + 1
    return good[:at] + new + good[at + count :]


@pytest.mark.parametrize("name", PARSERS)
@given(at=st.integers(0, 10_000), count=st.integers(0, 40), new=st.binary(max_size=20))
@QUIET
def test_mutations(name: str, at: int, count: int, new: bytes) -> None:
    good, parse = PARSERS[name]
    parse(good)
    with contextlib.suppress(ContentError):
        parse(mutated(good, at, count, new))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("name", PARSERS)
@given(value=JSON, pick=st.integers(0, 1000))
@QUIET
def test_other_values_in_a_good_ones_place(name: str, value: object, pick: int) -> None:
    good, parse = PARSERS[name]
    data = json.loads(good)
    places: list[tuple[object, object]] = []

    def walk(node: object) -> None:
        if isinstance(node, dict | list):
            for key in list(node if isinstance(node, dict) else range(len(node))):
                places.append((node, key))
                walk(node[key])

    walk(data)
    node, key = places[pick % len(places)]
    node[key] = value  # type: ignore[index]
    with contextlib.suppress(ContentError):
        parse(json.dumps(data).encode())


@given(at=st.integers(0, 10_000), count=st.integers(0, 4), new=st.binary(max_size=4), signature=st.booleans())
@QUIET
def test_no_mutation_of_a_signed_statement_passes(at: int, count: int, new: bytes, signature: bool) -> None:
    good = Signed(STATEMENT, KEY.sign(STATEMENT))
    changed = (
        Signed(good.payload, mutated(good.signature, at, count, new))
        if signature
        else Signed(mutated(good.payload, at, count, new), good.signature)
    )
    rule = Rule("net", (KEY.public,))
    check_signed(rule, "net", "v1", DIGEST, [good])
    if changed != good:
        with pytest.raises(AccordionError):
            check_signed(rule, "net", "v1", DIGEST, [changed])
