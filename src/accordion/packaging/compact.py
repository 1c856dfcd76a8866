"""A run becomes a package of encoded weights: what is chosen, measured and checked on the way."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from accordion.artifact.alternative import FLOAT_KERNELS, INTEGER_KERNELS
from accordion.data import Dataset, Split
from accordion.elastic import ElasticNetwork, Order
from accordion.errors import AccordionError, UsageError
from accordion.packaging.answers import correct, session_of
from accordion.packaging.calibrate import calibration_pictures, hessians
from accordion.packaging.check import ABSOLUTE, Expected
from accordion.packaging.codecs import Encoded, Precision, encode_planes
from accordion.packaging.encode import Encodings, Point, encode_graphs
from accordion.packaging.graph import Graph
from accordion.packaging.integer_kernels import activation_scales, for_integer_kernels
from accordion.packaging.lattice import LATTICE_FILE, PLANES, Lattice, Vector, by_group, measure_lattice, vectors_to_try
from accordion.packaging.prepare import Prepared, prepare
from accordion.packaging.route import LatticePoint, choose_first, find_route
from accordion.packaging.route_file import COMPENSATED, NEAREST, Route, fill, read_route
from accordion.packaging.schemes import groups_of, precision_name, scheme
from accordion.profiling import one_thread, quality_fields
from accordion.units import format_bytes

__all__ = ["Compact", "FirstAnswer", "make_compact"]

AUTO = "auto"
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Compact:
    """All that a package is made of: `rows` are the ladder's configurations, `expected` what each must answer on `pictures`."""

    graphs: list[Graph]
    integer: list[Graph] | None
    rows: list[dict[str, Any]]
    expected: Expected


@dataclass(frozen=True, slots=True)
class FirstAnswer:
    """What the first configuration may take: at most `limit` bytes, where `size(graphs, integer, rows)` is what it takes."""

    limit: int
    size: Callable[[list[Graph], list[Graph] | None, list[dict[str, Any]]], int]


class _Work:
    """The run, prepared; encodings for one rounding, made when needed."""

    def __init__(
        self, run: Path, network: ElasticNetwork, dataset: Dataset, pictures: Tensor, integer: bool, progress: Progress
    ) -> None:
        if not isinstance(network.order, Order):
            raise UsageError("a network trained over a grid of configurations can't be packaged: choose an order first")
        self.run, self.network, self.dataset, self.progress = run, network, dataset, progress
        self.order: Order = network.order
        self.pictures, self.integer = pictures, integer
        self.prepared: Prepared = prepare(network, pictures, progress, joint=True)
        self.train, self.validation = dataset.hold_out()
        self._hessians: Any = None
        self._encodings: dict[tuple[str, str], Encodings] = {}
        self._scales: Mapping[str, tuple[float, bool]] | None = None

    @property
    def joint(self) -> Graph:
        assert self.prepared.joint is not None
        return self.prepared.joint

    def encodings(self, codec: str, rounding: str) -> Encodings:
        if (codec, rounding) not in self._encodings:
            groups = groups_of(self.prepared.graphs, self.order, scheme(codec))
            if rounding == COMPENSATED and self._hessians is None:
                self._hessians = hessians(self.joint, calibration_pictures(self.train), self.progress)
            known = self._hessians if rounding == COMPENSATED else {}
            self._encodings[codec, rounding] = Encodings(groups, partial(_encode, known))
        return self._encodings[codec, rounding]

    def lattice(self, codec: str, rounding: str, vectors: Sequence[Vector]) -> Lattice:
        return measure_lattice(
            self.run,
            self.prepared,
            self.encodings(codec, rounding),
            scheme(codec),
            self.validation,
            self.order,
            vectors,
            rounding=rounding,
            dataset=self.dataset.name,
            progress=self.progress,
        )

    def graphs(self, route: Route) -> tuple[list[Graph], list[Graph] | None, Graph | None]:
        """The graph of each configuration; with integer kernels also theirs, and the one that gives all answers at once."""
        encodings = self.encodings(route.scheme.name, route.rounding)
        points = [Point(depth, by_group(vector)) for depth, vector in route.steps]
        graphs = encode_graphs(self.prepared.graphs, points, encodings, self.prepared.pool)
        if not self.integer:
            return graphs, None, None
        chosen = {identity for identity, group in encodings.groups.items() if group.name.startswith("stage")}
        if self._scales is None:
            self._scales = activation_scales(self.joint, chosen, calibration_pictures(self.train), self.progress)
        whole = for_integer_kernels(self.joint, self.joint, chosen, self._scales, self.prepared.pool)
        others = [
            for_integer_kernels(graph, self.prepared.graphs[point.depth], chosen, self._scales, self.prepared.pool)
            for graph, point in zip(graphs, points, strict=True)
        ]
        return graphs, others, whole


def _encode(known: Any, array: NDArray[np.float32], precision: Precision) -> list[Encoded]:
    return encode_planes(precision, array, known.get(id(array)))


def make_compact(
    run: Path,
    network: ElasticNetwork,
    dataset: Dataset,
    ladder_rows: Sequence[dict[str, Any]],
    pictures: Tensor,
    *,
    codec: str,
    rounding: str | None = None,
    integer: bool = False,
    first: FirstAnswer | None = None,
    test: Split | None = None,
    progress: Progress = lambda line: None,
) -> Compact:
    """Encodes the network's weights by `codec` (a scheme, `auto`, or a path file) and measures every configuration anew.

    `ladder_rows` are the run's own, one for each configuration of the network: what does not depend on the encoding is taken from
    there. Quality is measured on `test` (the test split); what must be chosen is chosen on the validation split. `integer` adds a
    graph for integer kernels to every configuration. With `first` the path of `auto` begins at the point that is best on the
    validation split of those that it allows.

    Raises:
        UnmeetableError: `first` allows no point.
        UsageError: an unknown codec or rounding, a path that does not fit.
        AccordionError: the exported network answers other than the network itself.
    """
    if rounding not in (None, NEAREST, COMPENSATED):
        raise UsageError(f"unknown rounding {rounding!r}: choose {NEAREST} or {COMPENSATED}")
    named = None if codec == AUTO or os.sep in codec or Path(codec).is_file() else scheme(codec)
    if first is not None and codec != AUTO:
        raise UsageError(f"only a path that is searched for can begin with a first answer of a given size: choose the codec {AUTO}")
    work = _Work(run, network, dataset, pictures, integer, progress)
    _check_export(work)
    if named is not None:
        route = _plain_route(work, named.name, rounding)
    elif codec == AUTO:
        route = _best_route(work, rounding, first, ladder_rows)
    else:
        route = read_route(Path(codec), work.order)
    encodings = work.encodings(route.scheme.name, route.rounding)
    graphs, others, whole = work.graphs(route)
    rows = _rows(work, route, encodings, whole, ladder_rows, test or dataset.test)
    return Compact(graphs, others, rows, _expected(work, route, encodings, whole))


def _check_export(work: _Work) -> None:
    """The folded graphs, from here on the reference, against the network that was trained."""
    answers = session_of(work.joint).run(None, {work.joint.inputs[0].name: work.pictures.numpy()})
    with torch.no_grad(), one_thread():
        for k, answer in enumerate(answers):
            wanted = work.network.at(k).eval()(work.pictures).numpy()
            off = float(np.abs(answer - wanted).max())
            if not off <= ABSOLUTE * max(1.0, float(np.abs(wanted).max())):
                raise AccordionError(f"configuration {k} was exported wrongly: it answers other than the network, by {off:.2g}")


def _plain_route(work: _Work, codec: str, rounding: str | None) -> Route:
    """Every depth at the first plane, then the complete network plane by plane."""
    planes, stages = len(scheme(codec).blocks), len(work.order.stages)
    steps = [(depth, (1,) * stages) for depth in range(len(work.order))]
    steps += [(len(work.order) - 1, (count,) * stages) for count in range(2, planes + 1)]
    return Route(scheme(codec), rounding or _rounding(work, codec), fill(steps, work.order, planes, codec))


def _rounding(work: _Work, codec: str) -> str:
    """The rounding that gets more validation pictures right over all depths. With other than 4 bits there is nothing to choose."""
    if scheme(codec).blocks.planes[0].name not in ("int4", "sparse4"):
        return NEAREST
    vector = (1,) * len(work.order.stages)
    counts = {one: sum(work.lattice(codec, one, [vector]).right[vector]) for one in (NEAREST, COMPENSATED)}
    best = max(counts, key=lambda one: counts[one])
    work.progress(f"rounding {best}: " + ", ".join(f"{one} {count} right" for one, count in counts.items()))
    return best


def _best_route(work: _Work, rounding: str | None, first: FirstAnswer | None, ladder_rows: Sequence[dict[str, Any]]) -> Route:
    codec = PLANES
    chosen = scheme(codec)
    rounding = rounding or _rounding(work, codec)
    vectors = vectors_to_try(len(work.order.stages), len(chosen.blocks))
    lattice = work.lattice(codec, rounding, vectors)
    points = lattice.points(work.encodings(codec, rounding), work.prepared, work.order)

    def path_from(point: LatticePoint | None) -> list[LatticePoint]:
        return find_route(points, start_error=1 - 1 / len(work.dataset.classes), first=point)

    def route_along(path: Sequence[LatticePoint]) -> Route:
        steps = [(point.depth, point.planes) for point in path]
        return Route(chosen, rounding, fill(steps, work.order, len(chosen.blocks), codec))

    begin = None
    if first is not None:

        def size(point: LatticePoint) -> int:
            path = path_from(point)
            route = route_along(path)
            graphs, others, _ = work.graphs(route)
            taken = first.size(graphs, others, _foreseen(work, route, path, lattice.samples, ladder_rows))
            blocks = work.order.by_stage(point.depth)
            work.progress(f"first answer with {sum(blocks)} blocks, error {point.error:.1%}: {format_bytes(taken)}")
            return taken

        begin = choose_first(points, size, first.limit)
    path = path_from(begin)
    lattice.write_route(work.run / LATTICE_FILE, rounding, points, path, work.order)
    work.progress(f"path of {len(path)} configurations through {len(points)} measured points, in {work.run / LATTICE_FILE}")
    return route_along(path)


def _foreseen(
    work: _Work, route: Route, path: Sequence[LatticePoint], samples: int, ladder_rows: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The ladder's configurations as far as they are known before the test split is: with the validation split's quality, and for
    integer kernels the same times as for the others. For their sizes only.
    """
    rows = _bare_rows(work, route, ladder_rows)
    for index, (row, point) in enumerate(zip(rows, path, strict=True)):
        right = np.arange(samples) >= round(point.error * samples)
        row["quality"] = quality_fields(right, dataset=work.dataset.name, split="test")
        if work.integer:
            times = {"latency_s": row["latency_s"]} if "latency_s" in row else {}
            row["alternatives"] = [_alternative(index, row["quality"]) | times]
    return rows


def _bare_rows(work: _Work, route: Route, ladder_rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What of the ladder's configurations does not have to be measured again."""
    rows: list[dict[str, Any]] = []
    for index, (depth, vector) in enumerate(route.steps):
        row = {**ladder_rows[depth], "index": index}
        row["precision"] = precision_name(route.scheme, vector, work.order.by_stage(depth))
        rows.append(row)
    return rows


def _alternative(index: int, quality: dict[str, Any]) -> dict[str, Any]:
    return {"kernels": INTEGER_KERNELS, "graph": f"{index:03d}i.onnx", "quality": quality}


def _rows(
    work: _Work, route: Route, encodings: Encodings, whole: Graph | None, ladder_rows: Sequence[dict[str, Any]], test: Split
) -> list[dict[str, Any]]:
    """The ladder's configurations with their precision and their quality as measured."""
    rows = _bare_rows(work, route, ladder_rows)
    for vector in dict.fromkeys(vector for _, vector in route.steps):
        indices = [index for index, (_, one) in enumerate(route.steps) if one == vector]
        depths = sorted({route.steps[index][0] for index in indices})
        work.progress(f"quality of {len(indices)} configurations at precision {vector} on {len(test)} test pictures")
        for kernels, graph in ((FLOAT_KERNELS, work.joint), (INTEGER_KERNELS, whole)):
            if graph is None:
                continue
            right = dict(zip(depths, correct(_session(graph, encodings, vector, depths), test), strict=True))
            for index in indices:
                quality = quality_fields(right[route.steps[index][0]], dataset=work.dataset.name, split="test")
                if kernels == FLOAT_KERNELS:
                    rows[index]["quality"] = quality
                else:
                    rows[index]["alternatives"] = [_alternative(index, quality)]
    return rows


def _session(graph: Graph, encodings: Encodings, vector: Vector, depths: Sequence[int]) -> Any:
    planes = by_group(vector)
    return session_of(graph, lambda name, array: encodings.value(array, planes), only=depths)


def _expected(work: _Work, route: Route, encodings: Encodings, whole: Graph | None) -> Expected:
    """What each configuration must answer, from weights decoded here and not by the package's own nodes."""

    def expected(k: int, kernels: str) -> NDArray[np.float32]:
        depth, vector = route.steps[k]
        graph = whole if kernels == INTEGER_KERNELS and whole is not None else work.joint
        session = _session(graph, encodings, vector, [depth])
        answer: NDArray[np.float32] = session.run(None, {graph.inputs[0].name: work.pictures.numpy()})[0]
        return answer

    return expected
