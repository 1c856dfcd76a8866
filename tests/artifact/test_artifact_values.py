"""Paths, JSON, manifest and ladder: what is read from strangers as values."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accordion.artifact.ladder import Ladder, decode_ladder
from accordion.artifact.manifest import (
    ARTIFACT_TYPE,
    CONFIG_MEDIA_TYPE,
    DOC_RAW,
    FILEPATH,
    GRAPHS_TAR_ZSTD,
    LADDER_JSON,
    LADDER_JSON_ZSTD,
    WEIGHT_RAW,
    Descriptor,
    Manifest,
)
from accordion.artifact.paths import check_path, check_unique
from accordion.artifact.strict_json import dump, parse_object
from accordion.errors import ContentError, DigestError, FormatError

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    "path", ["a", "000.onnx", "a/b/c.x", "_x", "A-b+c@d=e.f", "x" * 200, "com", "context.txt", "manifest.jsons", "a/state.json"]
)
def test_a_plain_path_is_taken(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "", ".", "..", "../a", "a/..", "a/../b", "/a", "a/", "a//b", "./a", ".a", "a/.b", "a.", "a./b", "a\\b", "C:a", "a b",
        "a\n", "a\0", "ä", "a*", "~a", "-a", "$a", "con", "CON.txt", "a/nul", "com1", "lpt9.x", "manifest.json", "STATE.json",
        "state.json/a", "COMMIT", "commit/a", "run.json", "oci-layout", "x" * 201, None, 3, ["a"], b"a", "a\u2028", "\ud800",
    ],
)  # fmt: skip
def test_any_other_path_is_refused(path: Any) -> None:
    with pytest.raises(FormatError, match="it: the path"):
        check_path(path, "it")


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="a./\\.: -\0\nA~", max_size=12))
def test_a_path_that_is_taken_stays_in_its_folder(text: str) -> None:
    try:
        check_path(text)
    except FormatError:
        return
    parts = text.split("/")
    assert all(part and not part.startswith(".") and not part.endswith(".") for part in parts)


@pytest.mark.parametrize("paths", [["a", "a"], ["a", "A"], ["a", "a/b"], ["a/b", "a"], ["x/A/b", "X/a"]])
def test_paths_that_meet_are_refused(paths: list[str]) -> None:
    with pytest.raises(FormatError):
        check_unique(paths)


def test_the_same_text_twice_is_found() -> None:
    path = "one/text"
    with pytest.raises(FormatError, match="occurs twice"):
        check_unique([path, path])


def test_paths_that_do_not_meet_are_fine() -> None:
    check_unique([])
    check_unique(["a/b", "a/c", "ab", "b/a/b"])


@pytest.mark.parametrize(
    "data, problem",
    [
        (b"", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b'{"a":1,"b":2,"a":3}', "the key 'a' occurs twice"),
        (b'{"x":{"a":1,"a":1}}', "the key 'a' occurs twice"),
        (b'{"a":Infinity}', "Infinity is not a JSON number"),
        (b'{"a":1e999}', "out of range"),
        (b'{"a":' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"a":' * 50_000, "nested too deep"),
        (b"{}{}", "not valid JSON"),
        (b'{"a":"' + b"x" * 100_000 + b'"}', "more than the 99999 allowed"),
    ],
)
def test_json_that_breaks_a_rule_is_refused(data: bytes, problem: str) -> None:
    limit = 99_999 if problem.startswith("more") else 10**6
    with pytest.raises(FormatError, match=problem):
        parse_object(data, "it", limit)


def test_one_key_twice_among_many_is_found_quickly() -> None:
    data = b"{" + b",".join(b'"%d":1' % index for index in range(200_000)) + b',"x":1,"x":2}'
    with pytest.raises(FormatError, match="the key 'x' occurs twice"):
        parse_object(data, "it", len(data))


def test_json_is_written_compactly_and_read_back() -> None:
    value = {"z": [1, 2.5, None, True], "ä": "ü\n"}
    assert dump(value) == '{"z":[1,2.5,null,true],"ä":"ü\\n"}'.encode()
    assert parse_object(dump(value), "it", 1000) == value


def descriptor(media_type: str, size: int = 10, path: str | None = None) -> Descriptor:
    return Descriptor(media_type, DIGEST, size, {FILEPATH: path} if path else {})


CONFIG = descriptor(CONFIG_MEDIA_TYPE)
LAYERS = [
    descriptor(LADDER_JSON_ZSTD, 100),
    descriptor(GRAPHS_TAR_ZSTD, 20),
    descriptor(WEIGHT_RAW, 3, "a.safetensors"),
    descriptor(DOC_RAW, 0, "README.md"),
]


def manifest_json(**changes: Any) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(Manifest.build(CONFIG, LAYERS, {}).raw)
    return {**value, **changes}


def test_a_manifest_knows_where_its_layers_begin() -> None:
    manifest = Manifest.build(CONFIG, LAYERS, {"a": "b"})
    assert manifest.offsets == (0, 100, 120, 123, 123)
    assert manifest.size == len(manifest.raw)
    assert Manifest.parse(manifest.raw, digest=manifest.digest) == manifest
    assert manifest.layers == tuple(LAYERS) and manifest.config == CONFIG and manifest.annotations == {"a": "b"}
    assert [layer.path for layer in manifest.layers] == ["ladder.json", None, "a.safetensors", "README.md"]


def test_a_manifest_with_another_digest_is_refused() -> None:
    with pytest.raises(DigestError, match="is corrupt"):
        Manifest.parse(Manifest.build(CONFIG, LAYERS, {}).raw, digest=DIGEST)


def layer_with(**changes: Any) -> Callable[[], dict[str, Any]]:
    def made() -> dict[str, Any]:
        value = manifest_json()
        value["layers"][2] = {**value["layers"][2], **changes}
        return value

    return made


@pytest.mark.parametrize(
    "value, problem",
    [
        (lambda: manifest_json(schemaVersion=1), "schema version 2"),
        (lambda: manifest_json(mediaType="application/vnd.oci.image.index.v1+json"), "not an OCI image manifest"),
        (lambda: manifest_json(artifactType=None), "artifactType"),
        (lambda: manifest_json(config=None), "config is not an object"),
        (lambda: manifest_json(config={**CONFIG.to_json(), "mediaType": "x/y"}), "config is 'x/y'"),
        (lambda: manifest_json(layers=None), "needs 1 to"),
        (lambda: manifest_json(layers={}), "needs 1 to"),
        (lambda: manifest_json(layers=[[]]), "layer 0 is not an object"),
        (lambda: manifest_json(layers=[LAYERS[0].to_json()] * 2), "second ladder"),
        (lambda: manifest_json(layers=[LAYERS[2].to_json()]), "not the ladder"),
        (lambda: manifest_json(layers=[LAYERS[0].to_json()] + [LAYERS[1].to_json()] * 10_000), "needs 1 to 10000"),
        (lambda: manifest_json(annotations={"a": 1}), "annotations"),
        (lambda: manifest_json(annotations=[1]), "annotations"),
        (layer_with(mediaType="application/x"), "unknown media type"),
        (layer_with(mediaType=""), "no media type"),
        (layer_with(mediaType="x" * 256), "no media type"),
        (layer_with(size=-1), "has the size"),
        (layer_with(size=True), "has the size"),
        (layer_with(size=1.0), "has the size"),
        (layer_with(size=2**40 + 1), "has the size"),
        (layer_with(digest="sha256:" + "AB" * 32), "not a digest"),
        (layer_with(digest="sha512:" + "ab" * 64), "not a digest"),
        (layer_with(digest=DIGEST + "\n"), "not a digest"),
        (layer_with(digest=None), "not a digest"),
        (layer_with(annotations={}), "the path"),
        (layer_with(annotations={FILEPATH: 3}), "annotations"),
        (layer_with(annotations={FILEPATH: "../x"}), "plain relative"),
        (layer_with(annotations={FILEPATH: "ladder.json"}), "occurs twice"),
        (layer_with(annotations={FILEPATH: "readme.MD"}), "occurs twice"),
        (layer_with(annotations={FILEPATH: "README.md/x"}), "folder of"),
    ],
)
def test_a_manifest_that_breaks_a_rule_is_refused(value: Callable[[], Any], problem: str) -> None:
    with pytest.raises(FormatError, match=problem):
        Manifest.parse(json.dumps(value()).encode())


def test_one_letter_as_the_path_of_two_layers_is_refused() -> None:
    rows = [LAYERS[0].to_json(), *(descriptor(WEIGHT_RAW, 1, "a").to_json() for _ in range(2))]
    with pytest.raises(FormatError, match="occurs twice"):
        Manifest.parse(json.dumps(manifest_json(layers=rows)).encode())


def test_a_manifest_beyond_its_limit_is_refused() -> None:
    with pytest.raises(FormatError, match="more than the 4194304 allowed"):
        Manifest.parse(b" " * (4 * 2**20 + 1))


QUALITY = {
    "metric": "accuracy", "direction": "higher", "unit": "1", "value": 0.5, "interval": [0.4, 0.6], "confidence": 0.95,
    "interval_method": "wilson", "samples": 10, "dataset": "d", "split": "test",
}  # fmt: skip
TENSOR = {"name": "x", "dtype": "float32", "shape": ["n", 3]}


def rung(index: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "index": index, "blocks": {"total": 1, "by_stage": [1]}, "precision": "float32", "layers": 2 + index, "graph": "a.onnx",
        "bytes": 120 + 3 * index, "parameters": 1, "macs": 1, "macs_per": "input", "quality": QUALITY, **changes,
    }  # fmt: skip


def ladder_json(*rungs: Any, **changes: Any) -> dict[str, Any]:
    return {
        "schema_version": 1, "task": "t", "order": "o", "inputs": [TENSOR], "outputs": [TENSOR],
        "configurations": list(rungs) or [rung(0), rung(1)], **changes,
    }  # fmt: skip


def without(value: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: one for key, one in value.items() if key != name}


def test_a_ladder_keeps_what_it_does_not_know() -> None:
    value = ladder_json(rung(0, notes={"a": [1]}), rung(1, inputs=[{**TENSOR, "name": "y"}]), more=True)
    ladder = Ladder.parse(json.dumps(value).encode())
    assert ladder.extra == {"more": True} and ladder.configurations[0].extra == {"notes": {"a": [1]}}
    assert [spec.name for k in range(2) for spec in ladder.inputs_of(k)] == ["x", "y"]
    assert [spec.name for k in range(2) for spec in ladder.outputs_of(k)] == ["x", "x"]
    assert Ladder.parse(ladder.to_bytes()) == ladder
    assert [ladder.complete_within(layers) for layers in range(5)] == [None, None, 0, 1, 1]


def test_a_ladder_is_held_against_its_manifest() -> None:
    manifest = Manifest.build(CONFIG, LAYERS, {})
    Ladder.parse(json.dumps(ladder_json()).encode()).check_against(manifest)
    for changes, problem in (
        ({"bytes": 124}, "says 124 bytes"),
        ({"layers": 5}, "needs 5 layers"),
        ({"layers": 2}, "says 123 bytes"),
    ):
        with pytest.raises(FormatError, match=problem):
            Ladder.parse(json.dumps(ladder_json(rung(0), rung(1, **changes))).encode()).check_against(manifest)


@pytest.mark.parametrize("name", list(ladder_json()))
def test_a_field_that_the_ladder_lacks_is_named(name: str) -> None:
    with pytest.raises(FormatError, match=f"the ladder has no '{name}'"):
        Ladder.parse(json.dumps(without(ladder_json(), name)).encode())


@pytest.mark.parametrize("name", list(rung()))
def test_a_field_that_a_configuration_lacks_is_named(name: str) -> None:
    with pytest.raises(FormatError, match=f"configuration 1 has no '{name}'"):
        Ladder.parse(json.dumps(ladder_json(rung(0), without(rung(1), name))).encode())


@pytest.mark.parametrize("name", list(QUALITY))
def test_a_field_that_a_quality_lacks_is_named(name: str) -> None:
    with pytest.raises(FormatError, match=f"quality has no '{name}'"):
        Ladder.parse(json.dumps(ladder_json(rung(0, quality=without(QUALITY, name)))).encode())


@pytest.mark.parametrize(
    "value",
    [
        ladder_json(schema_version="1"),
        ladder_json(task=3),
        ladder_json(task="x" * 1001),
        ladder_json(configurations={}),
        ladder_json([]),
        ladder_json(rung(1)),
        ladder_json(rung(0), rung(0)),
        ladder_json(rung(0), rung(1, bytes=1)),
        ladder_json(rung(0), rung(1, layers=1)),
        ladder_json(rung(0, layers=0)),
        ladder_json(rung(0, layers=True)),
        ladder_json(rung(0, bytes=-1)),
        ladder_json(rung(0, bytes=2**53 + 1)),
        ladder_json(rung(0, macs=1.5)),
        ladder_json(rung(0, graph="../a.onnx")),
        ladder_json(rung(0, graph=None)),
        ladder_json(rung(0, blocks={"total": 2, "by_stage": [1]})),
        ladder_json(rung(0, blocks=3)),
        ladder_json(rung(0, inputs=[])),
        ladder_json(rung(0, outputs=[TENSOR, TENSOR])),
        ladder_json(inputs=[{**TENSOR, "shape": [-1]}]),
        ladder_json(inputs=[{**TENSOR, "shape": [True]}]),
        ladder_json(inputs=[{**TENSOR, "shape": [""]}]),
        ladder_json(inputs=[{**TENSOR, "shape": [1] * 17}]),
        ladder_json(inputs=[{**TENSOR, "range": [1, 0]}]),
        ladder_json(inputs=[{**TENSOR, "range": [1]}]),
        ladder_json(inputs=[{**TENSOR, "labels": [1]}]),
        ladder_json(rung(0, quality={**QUALITY, "direction": "up"})),
        ladder_json(rung(0, quality={**QUALITY, "value": 0.7})),
        ladder_json(rung(0, quality={**QUALITY, "value": 10**400})),
        ladder_json(rung(0, quality={**QUALITY, "value": "0.5"})),
        ladder_json(rung(0, quality={**QUALITY, "confidence": 1})),
        ladder_json(rung(0, quality={**QUALITY, "interval": [0.6, 0.4]})),
        ladder_json(rung(0, quality={**QUALITY, "samples": -1})),
        ladder_json(rung(0), rung(1, quality={**QUALITY, "unit": "%"})),
    ],
)
def test_a_ladder_that_breaks_a_rule_is_refused(value: Any) -> None:
    with pytest.raises(FormatError):
        Ladder.parse(json.dumps(value).encode())


@pytest.mark.parametrize("changes", [{"metric": "other"}, {"unit": "%"}, {"direction": "lower"}])
def test_an_alternative_is_measured_as_its_configuration_is(changes: dict[str, str]) -> None:
    """Whichever of them a device runs, it has to know how good that is beside the rest."""

    def ladder(**quality: str) -> bytes:
        alternative = {"kernels": "integer", "graph": "b.onnx", "quality": {**QUALITY, **quality}}
        return json.dumps(ladder_json(rung(0), rung(1, alternatives=[alternative]))).encode()

    assert len(Ladder.parse(ladder()).configurations[1].alternatives) == 1
    with pytest.raises(FormatError, match="configuration 1 is measured by another metric"):
        Ladder.parse(ladder(**changes))


def test_a_plain_ladder_layer_is_read_as_it_is() -> None:
    data = json.dumps(ladder_json()).encode()
    assert len(decode_ladder(descriptor(LADDER_JSON, len(data)), data)) == 2
    with pytest.raises(FormatError):
        decode_ladder(descriptor(LADDER_JSON_ZSTD, len(data)), data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = [path] if path else []
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        rows += places(inner, (*path, key))
    return rows


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(places(ladder_json())), JSON)
def test_any_value_anywhere_in_a_ladder_is_read_or_refused(path: tuple[Any, ...], new: Any) -> None:
    with contextlib.suppress(ContentError):
        Ladder.parse(json.dumps(replaced(ladder_json(), path, new)).encode()).to_bytes()


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(places(manifest_json())), JSON)
def test_any_value_anywhere_in_a_manifest_is_read_or_refused(path: tuple[Any, ...], new: Any) -> None:
    with contextlib.suppress(ContentError):
        assert Manifest.parse(json.dumps(replaced(manifest_json(), path, new)).encode()).offsets[-1] >= 0


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_manifest_and_a_ladder_or_refused(data: bytes) -> None:
    for whole in (data, b"{" + data + b"}"):
        with contextlib.suppress(ContentError):
            Manifest.parse(whole)
        with contextlib.suppress(ContentError):
            Ladder.parse(whole)


@pytest.mark.parametrize("depth", range(100, 1100, 50))
def test_deep_values_are_read_or_refused(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    for data in (b'{"schema_version":' + deep + b"}", b'{"artifactType":' + deep + b',"schemaVersion":2}'):
        for parse in (Ladder.parse, Manifest.parse):
            with contextlib.suppress(ContentError):
                parse(data)


def test_artifact_type_is_that_of_modelpack() -> None:
    assert manifest_json()["artifactType"] == ARTIFACT_TYPE == "application/vnd.cncf.model.manifest.v1+json"


@pytest.mark.parametrize(
    "reference, value, better", [("higher", 0.9, True), ("higher", 0.1, False), ("lower", 0.1, True), ("lower", 0.9, False)]
)
def test_direction_says_which_quality_is_better(reference: str, value: float, better: bool) -> None:
    rows = [rung(0, quality={**QUALITY, "direction": reference}), rung(1, quality={**QUALITY, "direction": reference})]
    rows[1]["quality"] |= {"value": value, "interval": [value - 0.05, value + 0.05]}
    first, second = (row.quality for row in Ladder.parse(json.dumps(ladder_json(*rows)).encode()).configurations)
    assert second.better_than(first) is better
    assert second.meets(value) and not second.meets(value, cautious=True)
