"""All targets: the parsers of whatever may come from a stranger, over the network or as a file."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from accordion.artifact.archive import unpack
from accordion.artifact.bounds import Declared
from accordion.artifact.graph import check_graph
from accordion.artifact.ladder import Ladder, decode_ladder
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import LADDER_JSON, LADDER_JSON_ZSTD, Descriptor, Manifest
from accordion.artifact.segment import parse_header
from accordion.artifact.strict_json import dump, parse_object
from accordion.artifact.weights import SegmentFile, Weights, check_segment_bytes
from accordion.device.rebuilding import Rebuilder
from accordion.device.state import State
from accordion.errors import ContentError, UsageError
from accordion.planning import Plan, Request
from accordion.planning.links.formats import parse_link_file
from fuzz import mutate, seeds
from fuzz.target import Target

__all__ = ["TARGETS"]

SMALL = 2**20
ARCHIVE_LIMIT = 4 * 2**20
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


# The package --------------------------------------------------------------------------------------------------------------


def _manifest(data: bytes) -> None:
    found = Manifest.parse(data)
    again = Manifest.build(found.config, found.layers, found.annotations)
    assert (again.config, again.layers, again.offsets) == (found.config, found.layers, found.offsets)


def _index(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
        (Path(folder) / "index.json").write_bytes(data)
        layout = Layout.open(folder)
        assert set(layout.tags()) <= set(layout.references())
        layout.resolve()


def _ladder(data: bytes) -> None:
    kind = LADDER_JSON_ZSTD if data.startswith(ZSTD_MAGIC) else LADDER_JSON
    found = decode_ladder(Descriptor(kind, "sha256:" + "0" * 64, len(data)), data)
    assert Ladder.parse(found.to_bytes()) == found
    found.check_against(Manifest.parse(seeds.manifests()[0]))


def _segment(data: bytes) -> None:
    tensors = parse_header(data, len(data), "it")
    assert sum(info.end - info.start for info in tensors.values()) <= len(data)
    check_segment_bytes(data, "it")
    from safetensors import deserialize  # what is taken here, the format's own library takes too

    assert {name for name, _ in deserialize(data)} == set(tensors)


def _archive(data: bytes) -> None:
    found = dict(unpack(io.BytesIO(data), limit=ARCHIVE_LIMIT, what="it"))
    assert sum(map(len, found.values())) <= ARCHIVE_LIMIT


@cache
def _weights(name: str) -> Weights:
    files = {path: SegmentFile.of(data, check_segment_bytes(data, path)) for path, data in seeds.segment_files(name).items()}
    return Weights(files)


@cache
def _folder(name: str) -> tempfile.TemporaryDirectory[str]:
    """The same files on disk; they go when the program ends."""
    folder = tempfile.TemporaryDirectory(prefix="accordion-fuzz-")
    for path, data in seeds.segment_files(name).items():
        (Path(folder.name) / path).parent.mkdir(parents=True, exist_ok=True)
        (Path(folder.name) / path).write_bytes(data)
    return folder


def _graph(data: bytes) -> None:
    """The first byte says whose segments the graph may read. Of what is taken, the device makes the weights without trouble."""
    name = seeds.PACKAGES[data[0] % len(seeds.PACKAGES)] if data else seeds.PACKAGES[0]
    check_graph(data[1:], Weights(_weights(name).files), "it", Declared(10_000, 10_000))
    Rebuilder(Path(_folder(name).name)).rebuild(data[1:])


def _graph_seeds() -> list[bytes]:
    return [bytes([index]) + data for index, name in enumerate(seeds.PACKAGES) for data in seeds.graphs(name).values()]


def _state(data: bytes) -> None:
    found = State.parse(data, "state.json")
    assert State.parse(found.to_bytes(), "state.json") == found


# The protocol -------------------------------------------------------------------------------------------------------------


def _plan(data: bytes) -> None:
    found = Plan.from_json(parse_object(data, "the plan", SMALL))
    assert Plan.from_json(parse_object(dump(found.to_json()), "the plan", SMALL)) == found


def _plan_seeds() -> list[bytes]:
    from accordion.planning import make_plan

    made = []
    for raw, ladder in zip(seeds.manifests(), (data for data in seeds.ladders() if not data.startswith(ZSTD_MAGIC)), strict=True):
        manifest = Manifest.parse(raw)
        plan = make_plan("golden", manifest, Ladder.parse(ladder), Request())
        made.append(dump(plan.to_json()))
    return made


def _request(data: bytes) -> None:
    found = Request.from_json(parse_object(data, "the request", SMALL))
    assert Request.from_json(json.loads(json.dumps(found.to_json()))) == found


def _request_seeds() -> list[bytes]:
    link = {"levels": [0.5, 0.9], "seconds": [0.1, 1.0], "bytes": [[10, 1000], [5, 500]], "round_trips": 3, "rtt_s": 0.05}
    held = {"manifest": "sha256:" + "a" * 64, "configuration": 1}
    limits = {"max_bytes": 1e7, "max_macs": 10**9, "max_energy_j": 0.5, "radio": "lte", "inferences": 3, "min_quality": 0.9}
    return [
        b"{}",
        dump({"reference": "latest", "deadline_s": 0.3, "throughput_bps": 1e7, "rtt_s": 0.02, "confidence": 0.95}),
        dump({**limits, "held": held, "prefer": "bytes"}),
        dump({"link": link, "deadline_s": 1, "confidence": 0.9, "reference": "sha256:" + "b" * 64}),
    ]


# Files of people -----------------------------------------------------------------------------------------------------------


def _link(data: bytes) -> None:
    found = parse_link_file(data, "it")
    assert found.link is not None or found.traces or found.rtts_s


def _link_seeds() -> list[bytes]:
    return [
        b'{"id":"a","dt_s":0.5,"mbps":[1,2.5,0,4]}\n{"id":"b","dt_s":1,"mbps":[3],"connect_rtt_ms":20}\n',
        b'{"id":"a","rtt_ms":[10,null,30.5]}\n',
        b"carrier,radio_type,connections,downlink_mbps,latency_ms\nx,lte,1,10.5,30\ny,5g,4,100,12\n",
        b"0\n1\n1\n5\n120\n",
        b'{"accordion_link":1,"kind":"constant","throughput_bps":1e6,"rtt_s":0.05}',
        b'{"accordion_link":1,"kind":"distribution","throughput_bps":[1e6,2e6],"rtt_s":[0.01,0.1],"weights":[0.5,0.25]}',
        b'{"accordion_link":1,"kind":"estimate","throughput_bps":1e6,"errors":[-0.5,0,0.5]}',
        b'{"accordion_link":1,"kind":"traces","traces":[{"id":"a","dt_s":1,"mbps":[1,2]}],"fresh":false}',
    ]


def _in_a_file(read: Callable[[Path], object], data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "it.json"
        path.write_bytes(data)
        read(path)


def _order(path: Path) -> None:
    from accordion.elastic.order_table import OrderTable

    OrderTable.from_file(path).order((("a", "b", "c"), ("d", "e", "f")))


def _recipe(path: Path) -> None:
    from accordion.training.recipes import Recipe

    Recipe.from_file(path)


def _policy(data: bytes) -> None:
    from accordion.training.policies import parse

    assert abs(sum(parse(data, "it").probabilities) - 1) < 1e-3


def _asks(data: bytes) -> None:
    from accordion.training.requests import parse_requests

    assert parse_requests(data.decode("utf-8", "replace"), "it")


def _these(*texts: bytes) -> Callable[[], Sequence[bytes]]:
    return lambda: texts


_SPECS: tuple[tuple[Any, ...], ...] = (
    ("manifest", _manifest, seeds.manifests, mutate.json_bytes, (ContentError,)),
    ("index", _index, seeds.indices, mutate.json_bytes, (ContentError, UsageError)),
    ("ladder", _ladder, seeds.ladders, mutate.json_bytes, (ContentError,)),
    ("segment", _segment, seeds.segments, mutate.segment_bytes, (ContentError,)),
    ("archive", _archive, seeds.archives, mutate.archive_bytes, (ContentError,)),
    ("graph", _graph, _graph_seeds, mutate.graph_bytes, (ContentError,)),
    ("state", _state, seeds.states, mutate.json_bytes, (ContentError,)),
    ("plan", _plan, _plan_seeds, mutate.json_bytes, (ContentError,)),
    ("request", _request, _request_seeds, mutate.json_bytes, (ContentError, UsageError)),
    ("link", _link, _link_seeds, mutate.lines_bytes, (UsageError,)),
    (
        "order", partial(_in_a_file, _order), _these(b'{"name":"mine","configurations":[[1,0],[1,1],[2,1],[3,3]]}'),
        mutate.json_bytes, (UsageError,),
    ),
    (
        "recipe", partial(_in_a_file, _recipe),
        _these(b'{"base":"modern","epochs":3,"sizes":[[0.5,0.5],[1.0,1.0]],"norms":"4"}',
               b'{"name":"a","epochs":1,"batch":8,"learning_rate":0.1,"milestones":[1,2],"draws":2}'),
        mutate.json_bytes, (UsageError,),
    ),
    (
        "policy", _policy, _these(b'{"schema_version":1,"name":"p","probabilities":[0.25,0.25,0.5]}'),
        mutate.json_bytes, (UsageError,),
    ),
    (
        "requests", _asks,
        _these(b'{"configuration":2,"count":3}\n{"max_bytes":1000,"name":"a","planned":null}\n',
               b"min_quality,max_bytes,deadline_s,count\n0.9,,0.5,2\n,1000,,1\n"),
        mutate.lines_bytes, (UsageError,),
    ),
)  # fmt: skip
TARGETS: dict[str, Target] = {spec[0]: Target(*spec) for spec in _SPECS}
"""By name."""
