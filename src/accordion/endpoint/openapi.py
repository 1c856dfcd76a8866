"""The endpoint's description in OpenAPI 3.1, written by hand; the tests hold the answers against its schemas."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from accordion.planning.energy_figures import DEFAULT_RADIO, RADIOS

__all__ = ["openapi"]

_DIGEST = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
_NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "The package's name. It may hold slashes.",
    "schema": {
        "type": "string",
        "maxLength": 255,
        "pattern": "^[A-Za-z0-9]+([._-]+[A-Za-z0-9]+)*(/[A-Za-z0-9]+([._-]+[A-Za-z0-9]+)*)*$",
    },
}
_REFERENCE = {"type": "string", "pattern": "^([A-Za-z0-9_][A-Za-z0-9._-]{0,127}|sha256:[0-9a-f]{64})$"}
_POSITIVE = {"type": ["number", "null"], "exclusiveMinimum": 0}

_ERRORS = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["code", "message"],
        "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
    },
}
_ASCENDING = {"type": "array", "minItems": 1, "maxItems": 32, "items": {"type": "number", "exclusiveMinimum": 0}}

_SCHEMAS: dict[str, Any] = {
    "Digest": _DIGEST,
    "PlanRequest": {
        "type": "object",
        "description": "Every field is optional; null counts as left out.",
        "additionalProperties": False,
        "properties": {
            "reference": {"type": ["string", "null"], "description": "A tag or a digest; left out: latest, else the only tag."},
            "deadline_s": {**_POSITIVE, "description": "Seconds from the request to the last byte."},
            "throughput_bps": {"type": ["number", "null"], "minimum": 1, "description": "Bits a second that the link carries."},
            "rtt_s": {"type": ["number", "null"], "minimum": 0, "description": "Seconds that a round trip takes; left out: none."},
            "confidence": {
                "type": ["number", "null"],
                "exclusiveMinimum": 0,
                "exclusiveMaximum": 1,
                "description": "Given: min_quality is held against the worse end of the measured interval, not the value; "
                "with link, the deadline is kept with this probability.",
            },
            "min_quality": {
                "type": ["number", "null"],
                "description": "In the metric's unit and direction: where lower is better, an upper bound.",
            },
            "max_bytes": {"type": ["integer", "null"], "minimum": 1, "description": "Bytes of layers that may be sent."},
            "max_macs": {"type": ["integer", "null"], "minimum": 1, "description": "Multiply-accumulates for one input."},
            "max_energy_j": {**_POSITIVE, "description": "Joules for receiving what is sent and for the inferences."},
            "radio": {
                "type": ["string", "null"],
                "enum": [*RADIOS, None],
                "description": f"What receives, where energy is bounded; left out: {DEFAULT_RADIO}. none: only inference counts.",
            },
            "inferences": {"type": ["integer", "null"], "minimum": 1, "description": "How many the energy is for; left out: 1."},
            "held": {
                "type": ["object", "null"],
                "description": "What the device has: every layer of one configuration of one version.",
                "additionalProperties": False,
                "required": ["manifest", "configuration"],
                "properties": {"manifest": _DIGEST, "configuration": {"type": "integer", "minimum": 0}},
            },
            "link": {"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/Link"}]},
            "prefer": {
                "enum": ["bytes", "macs", "energy", None],
                "description": "What is scarce: of what is not measurably worse than the best, the plan needs least of it.",
            },
        },
    },
    "Link": {
        "type": "object",
        "description": "bytes[i][j] or more have arrived seconds[j] after the request with a probability of at least levels[i]; "
        "instead of throughput_bps and rtt_s.",
        "additionalProperties": False,
        "required": ["levels", "seconds", "bytes"],
        "properties": {
            "levels": {**_ASCENDING, "description": "Probabilities, ascending, each between 0 and 1."},
            "seconds": {**_ASCENDING, "description": "Ascending."},
            "bytes": {
                "type": "array",
                "minItems": 1,
                "maxItems": 32,
                "items": {"type": "array", "minItems": 1, "maxItems": 32, "items": {"type": "integer", "minimum": 0}},
            },
            "round_trips": {"type": ["number", "null"], "minimum": 0, "maximum": 100, "description": "Counted in; left out: 3."},
            "rtt_s": {"type": ["number", "null"], "minimum": 0, "description": "What one usually takes; left out: 0."},
        },
    },
    "Quality": {
        "type": "object",
        "required": [
            "metric",
            "direction",
            "unit",
            "value",
            "interval",
            "confidence",
            "interval_method",
            "samples",
            "dataset",
            "split",
        ],
        "properties": {
            "metric": {"type": "string"},
            "direction": {"enum": ["higher", "lower"]},
            "unit": {"type": "string"},
            "value": {"type": "number"},
            "interval": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
            "confidence": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            "interval_method": {"type": "string"},
            "samples": {"type": "integer", "minimum": 0},
            "dataset": {"type": "string"},
            "split": {"type": "string"},
        },
    },
    "Layer": {
        "type": "object",
        "required": ["digest", "size", "mediaType"],
        "properties": {"digest": _DIGEST, "size": {"type": "integer", "minimum": 0}, "mediaType": {"type": "string"}},
    },
    "Plan": {
        "type": "object",
        "required": [
            "name",
            "manifest",
            "configuration",
            "quality",
            "bytes_to_send",
            "bytes_total",
            "expected_s",
            "ranges",
            "layers",
        ],
        "properties": {
            "name": {"type": "string"},
            "manifest": _DIGEST,
            "configuration": {"type": "integer", "minimum": 0},
            "quality": {"$ref": "#/components/schemas/Quality"},
            "bytes_to_send": {"type": "integer", "minimum": 0, "description": "Bytes of the layers that the device lacks."},
            "bytes_total": {"type": "integer", "minimum": 0, "description": "Bytes of all layers of the configuration."},
            "expected_s": {"type": "number", "minimum": 0, "description": "Round trips, manifest and layers."},
            "expected_j": {"type": "number", "minimum": 0, "description": "Joules, where the request bounds them."},
            "ranges": {
                "type": "array",
                "description": "[start, end] in the stream, both inclusive.",
                "items": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 2, "maxItems": 2},
            },
            "layers": {"type": "array", "items": {"$ref": "#/components/schemas/Layer"}},
            "assumed_throughput_bps": {"type": "number", "description": "What was assumed where the request said nothing."},
            "promised": {
                "type": "number",
                "minimum": 0,
                "maximum": 1,
                "description": "With link and deadline_s: the probability of the arrival in time.",
            },
            "scarce": {"enum": ["bytes", "macs"], "description": "By what the endpoint chose among versions of one family."},
        },
    },
    "Problem": {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "field": {"type": "string", "description": "The request's field that is wrong."},
            "limit": {"type": "string", "description": "The limit that can't be kept."},
            "nearest": {"$ref": "#/components/schemas/Plan"},
            "errors": {**_ERRORS, "description": "The same for registry clients, where the gate refuses."},
        },
    },
    "RegistryErrors": {
        "type": "object",
        "required": ["errors"],
        "properties": {"errors": _ERRORS},
    },
    "Tags": {
        "type": "object",
        "required": ["name", "tags"],
        "properties": {"name": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}},
    },
    "Catalog": {
        "type": "object",
        "required": ["repositories"],
        "properties": {"repositories": {"type": "array", "items": {"type": "string"}}},
    },
    "Index": {
        "type": "object",
        "required": ["schemaVersion", "mediaType", "manifests"],
        "properties": {
            "schemaVersion": {"const": 2},
            "mediaType": {"type": "string"},
            "manifests": {"type": "array", "items": {"$ref": "#/components/schemas/Layer"}},
        },
    },
    "Health": {
        "type": "object",
        "required": ["status", "packages", "problems"],
        "properties": {
            "status": {"enum": ["ok", "empty"]},
            "packages": {"type": "integer", "minimum": 0},
            "problems": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name", "problem"],
                    "properties": {"name": {"type": "string"}, "problem": {"type": "string"}},
                },
            },
        },
    },
}


def _body(description: str, media_type: str, schema: str | None) -> dict[str, Any]:
    shape = {"$ref": f"#/components/schemas/{schema}"} if schema else {}
    return {"description": description, "content": {media_type: {"schema": shape}}}


def _problem(description: str) -> dict[str, Any]:
    return _body(description, "application/problem+json", "Problem")


def _registry_error(description: str) -> dict[str, Any]:
    return _body(description, "application/json", "RegistryErrors")


_GUARDED: Mapping[str, Any] = {
    "401": _problem("A token is needed, or this one is not valid."),
    "403": _problem("This token does not have the right."),
    "429": _problem("Too many requests or transfers of one client; Retry-After says when to come back."),
    "503": _problem("It can't be read just now: the disk fails, or no descriptor is left; Retry-After says when to come back."),
}
_OCTETS = "application/octet-stream"
_PARTIAL = _body("The range asked for; several ranges as multipart/byteranges.", _OCTETS, None)
_MULTIPART: Mapping[str, Any] = {"multipart/byteranges": {"schema": {}}}
_CONTENT: Mapping[str, Any] = {
    "200": _body("All of it.", _OCTETS, None),
    "206": {**_PARTIAL, "content": {**_PARTIAL["content"], **_MULTIPART}},
    "304": {"description": "What If-None-Match names."},
    "416": {"description": "No byte lies in the ranges asked for."},
    "503": _problem("All places for transfers are taken, or it can't be read; Retry-After says when to come back."),
}
_RANGE = [
    {"name": name, "in": "header", "required": False, "schema": {"type": "string"}}
    for name in ("Range", "If-Range", "If-None-Match")
]
_PAGE = [
    {"name": "n", "in": "query", "required": False, "description": "At most so many.", "schema": {"type": "integer", "minimum": 0}},
    {"name": "last", "in": "query", "required": False, "description": "Those after this one.", "schema": {"type": "string"}},
]


def _parameter(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _read(identifier: str, summary: str, responses: Mapping[str, Any], parameters: list[Any] | None = None) -> dict[str, Any]:
    """GET, and HEAD with the same headers."""
    responses = {**_GUARDED, **responses}
    head = {status: {"description": answer["description"]} for status, answer in responses.items() if status not in ("206", "416")}
    path: dict[str, Any] = {
        "get": {"operationId": identifier, "summary": summary, "responses": dict(responses)},
        "head": {"operationId": f"{identifier}Headers", "summary": f"{summary} Headers only.", "responses": head},
    }
    if parameters:
        path["parameters"] = parameters
    return path


@cache
def openapi() -> dict[str, Any]:
    """The description as JSON values."""
    digest = _parameter("digest", {"$ref": "#/components/schemas/Digest"})
    unknown = {"404": _registry_error("There is no such package, or nothing of this tag or digest in it.")}
    bad_digest = {"400": _registry_error("This is not a digest.")}
    bad_page = {"400": _registry_error("n is not a number of items.")}
    index_type = "application/vnd.oci.image.index.v1+json"
    paths: dict[str, Any] = {
        "/v2/": _read("base", "Whether this is a registry.", {"200": _body("It is.", "application/json", None)}),
        "/v2/_catalog": _read(
            "catalog", "The names of all packages.", {"200": _body("Names.", "application/json", "Catalog"), **bad_page}, _PAGE
        ),
        "/v2/{name}/tags/list": _read(
            "tags",
            "The tags of a package, signatures' too.",
            {"200": _body("Tags.", "application/json", "Tags"), **bad_page, **unknown},
            [_NAME, *_PAGE],
        ),
        "/v2/{name}/manifests/{reference}": _read(
            "manifest",
            "A manifest by tag or digest.",
            {"200": _body("Its exact bytes.", "application/vnd.oci.image.manifest.v1+json", None), **unknown},
            [_NAME, _parameter("reference", _REFERENCE)],
        ),
        "/v2/{name}/blobs/{digest}": _read("blob", "A blob.", {**_CONTENT, **bad_digest, **unknown}, [_NAME, digest, *_RANGE]),
        "/v2/{name}/referrers/{digest}": _read(
            "referrers",
            "What refers to a manifest: its signature.",
            {"200": _body("Descriptors.", index_type, "Index"), **bad_digest, **unknown},
            [_NAME, digest, {"name": "artifactType", "in": "query", "required": False, "schema": {"type": "string"}}],
        ),
        "/v2/{name}/_accordion/stream/{digest}": _read(
            "stream",
            "All layers of a model version, in order, one after the other.",
            {**_CONTENT, "400": _problem("This is not a digest."), "404": _problem("There is no such package or version.")},
            [_NAME, digest, *_RANGE],
        ),
        "/v2/{name}/_accordion/plan": {
            "parameters": [_NAME],
            "post": {
                "operationId": "plan",
                "summary": "Which configuration to fetch, what would be sent, and how long it would take. Sends nothing.",
                "requestBody": {
                    "required": False,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/PlanRequest"}}},
                },
                "responses": {
                    "200": _body("The plan.", "application/json", "Plan"),
                    "400": _problem("The body is not a JSON object."),
                    "404": _problem("There is no such package or version."),
                    "408": _problem("The body came too slowly."),
                    "409": _problem("No configuration keeps the limits: which one failed, and the nearest plan."),
                    "413": _problem("The body is too large."),
                    "422": _problem("A field is wrong: which one."),
                    **_GUARDED,
                },
            },
        },
        "/tuf/{file}": _read(
            "tuf",
            "A file of the TUF repository that is served beside the packages.",
            {"200": _body("Signed metadata.", "application/json", None), "404": _problem("There is no such file.")},
            [_parameter("file", {"type": "string", "pattern": "^(timestamp|[1-9][0-9]{0,9}\\.(root|snapshot|targets))\\.json$"})],
        ),
        "/healthz": _read(
            "healthz",
            "Whether packages are served, and which are broken.",
            {
                "200": _body("Some are served.", "application/json", "Health"),
                "503": _body("None is.", "application/json", "Health"),
            },
        ),
        "/metrics": _read("metrics", "Counters in Prometheus's text form.", {"200": _body("Text.", "text/plain", None)}),
        "/openapi.json": _read("openapi", "This description.", {"200": _body("OpenAPI 3.1.", "application/json", None)}),
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Accordion endpoint",
            "version": "1",
            "description": "Packages of neural networks of which every prefix runs: an OCI registry's pull side, plans, streams.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "Where the endpoint has tokens."},
                "password": {"type": "http", "scheme": "basic", "description": "The same: any user, the token as password."},
            },
        },
        "security": [{}, {"token": []}, {"password": []}],
    }
