"""A profiled run becomes a version in a package directory."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from accordion.artifact.build import ConfigurationParts, build_version, prefix_bytes
from accordion.artifact.ladder import Ladder, decode_ladder
from accordion.artifact.layout import Layout, check_tag
from accordion.artifact.manifest import Manifest
from accordion.artifact.names import is_name
from accordion.artifact.strict_json import Fields, dump, parse_object
from accordion.artifact.tensor_spec import TensorSpec
from accordion.elastic import ElasticNetwork, Order
from accordion.errors import AccordionError, FormatError, StorageError, UsageError
from accordion.packaging.alternates import check_encoding, with_alternates
from accordion.packaging.check import check_answers, check_prefixes
from accordion.packaging.compact import FirstAnswer, make_compact
from accordion.packaging.graph import Graph
from accordion.packaging.parts import Part, make_parts, parts_of
from accordion.packaging.slim import slim
from accordion.packaging.timing import time_both_kernels
from accordion.training import RunDirectory, load_run
from accordion.training.run_directory import MEASURED_ON

__all__ = ["package", "package_network"]

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)")
FLOAT32 = "float32"
CHECKED_PICTURES = 4
MOST_LADDER_BYTES = 64 * 2**20
LATER = 64  # bytes that figures measured later may take more in the ladder than those that stand for them while a path is sought


def package(
    run: Path | str,
    out: Path | str,
    *,
    tag: str = "latest",
    name: str | None = None,
    codec: str = FLOAT32,
    rounding: str | None = None,
    integer: bool = False,
    latency: bool = True,
    first_answer: int | None = None,
    family: str | None = None,
    created: str | None = None,
    alternate: str | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Manifest:
    """Writes the trained and profiled network in `run` as version `tag` of the package directory `out`.

    `out` is made, or gets one more version (a tag that is there already moves); blobs that versions have in common are kept once.
    The same run gives the same bytes. `name` is the model's name (the directory's own if left out), `created` an RFC 3339 time to
    state, if any. `family` names the network of which this version is one form, for plans that choose among forms. Nothing appears
    in `out` before every prefix has been run and compared with the network.

    `codec` is `float32`, one of `accordion.packaging.schemes.SCHEMES`, `auto` (the best path through depth × precision, measured on
    the validation split and kept in `run`), or the path of a file that holds such a path. With any but float32, quality is measured
    anew. `rounding` is `nearest` or `compensated`; left out, the better one on the validation split. `integer` adds graphs for
    integer kernels, and with `latency` both kinds are timed on this machine. `first_answer` lets the path of `auto` begin with the
    best point whose configuration takes at most so many bytes, as the ladder counts them: its own, the graph's and the weights'.
    `alternate` is the encoding (`nnc`) in which layers of weights stand once more, after all others, where that is smaller.

    Raises:
        UnmeetableError: nothing answers with `first_answer` bytes.
        UsageError: no finished or no profiled run, an unknown codec, a directory that holds something else.
        AccordionError: a configuration of the package answers other than the network.
        StorageError: the disk failed; `out` is as it was.
    """
    run, out = Path(run), Path(out)
    _check_target(out)
    check_tag(tag)
    _check_name(name)
    _check_time(created)
    if alternate is not None:
        check_encoding(alternate)
    config, network, dataset = load_run(run)
    if config.explores:
        raise UsageError(
            f"{run} was trained over a grid of configurations and can't be packaged: choose an order with "
            f"`accordion order {run}`, train on it with --initial, and package that run"
        )
    fields = read_ladder_fields(run)
    _check_rows(fields, network)
    if family:
        fields["family"] = family
    pictures = torch.from_numpy(dataset.test.x[:CHECKED_PICTURES]).float() / 255
    if codec == FLOAT32:
        if integer or rounding is not None:
            raise UsageError("rounding and integer kernels are for the smaller codecs: choose another than float32")
        if first_answer is not None:
            raise UsageError("a first answer of a given size needs a path to be searched for: choose the codec auto")
        return package_network(
            network, fields, pictures, out, tag=tag, name=name, created=created, alternate=alternate, progress=progress
        )
    made = make_compact(
        run,
        network,
        dataset,
        fields["configurations"],
        pictures,
        codec=codec,
        rounding=rounding,
        integer=integer,
        first=None if first_answer is None else FirstAnswer(first_answer, partial(_first_bytes, fields)),
        progress=progress,
    )
    parts = parts_of(made.graphs, {"i": made.integer} if made.integer else {})
    rows = time_both_kernels(parts, made.rows, pictures[:1].numpy(), progress) if integer and latency else made.rows

    def check(layout: Layout, manifest: Manifest, ladder: Ladder) -> None:
        if first_answer is not None and (taken := ladder.configurations[0].bytes) > first_answer:
            raise AccordionError(
                f"the first answer takes {taken} bytes, since the ladder's figures came out longer than was foreseen: allow as many"
            )
        check_answers(layout, manifest, ladder, made.expected, pictures.numpy())

    return _write(
        {**fields, "configurations": rows},
        [_for_build(part, compress=True) for part in parts],
        check,
        out,
        tag=tag,
        name=name,
        created=created,
        alternate=alternate,
        progress=progress,
    )


def _first_bytes(fields: dict[str, Any], graphs: list[Graph], integer: list[Graph] | None, rows: list[dict[str, Any]]) -> int:
    """The most that the first of these configurations would take."""
    parts = parts_of(graphs, {"i": integer} if integer else {})
    return prefix_bytes(slim({**fields, "configurations": rows}), [_for_build(part, compress=True) for part in parts])[0] + LATER


def package_network(
    network: ElasticNetwork,
    ladder_fields: dict[str, Any],
    pictures: Tensor,
    out: Path,
    *,
    tag: str = "latest",
    name: str | None = None,
    created: str | None = None,
    alternate: str | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Manifest:
    """What `package` does for any elastic network; `pictures` [n ≥ 2, …] are real inputs for the check of every prefix.

    The ladder's first input and output give the graphs' names and say, by a name instead of a size, which axes are open.
    """
    out = Path(out)
    if not isinstance(network.order, Order):
        raise UsageError(
            "a network trained over a grid of configurations can't be packaged: choose an order with `accordion order`, train on it"
        )
    _check_rows(ladder_fields, network)
    takes, gives = _interface(ladder_fields)
    _check_inputs(takes, pictures)
    network.check(pictures)
    _check_target(out)
    check_tag(tag)
    _check_name(name)
    _check_time(created)
    return _write(
        ladder_fields,
        [_for_build(part) for part in make_parts(network, pictures, progress, takes=takes, gives=gives)],
        lambda layout, manifest, ladder: check_prefixes(layout, manifest, ladder, network, pictures),
        out,
        tag=tag,
        name=name,
        created=created,
        alternate=alternate,
        progress=progress,
    )


def _write(
    ladder_fields: dict[str, Any],
    parts: list[ConfigurationParts],
    check: Callable[[Layout, Manifest, Ladder], None],
    out: Path,
    *,
    tag: str,
    name: str | None,
    created: str | None,
    alternate: str | None,
    progress: Callable[[str], None],
) -> Manifest:
    """Builds the version beside `out`, checks it there, and moves it in."""
    with _staging(out) as folder:
        staged = Layout.create(folder)
        manifest = build_version(
            staged, tag, ladder_fields=slim(ladder_fields), configurations=parts, name=name or out.name, created=created
        )
        ladder = decode_ladder(manifest.layers[0], staged.read_blob(manifest.layers[0], limit=MOST_LADDER_BYTES))
        check(staged, manifest, ladder)
        progress(f"{len(ladder)} configurations answer from their prefixes as the network does")
        if alternate is not None:
            manifest = with_alternates(staged, tag, alternate, progress)
        _publish(staged, manifest, tag, out)
    return manifest


def _interface(fields: dict[str, Any]) -> tuple[TensorSpec, TensorSpec]:
    """The one input and the one output that the ladder names. FormatError, or UsageError where there are more."""
    ladder = Fields(parse_object(dump(fields), "the ladder", MOST_LADDER_BYTES), "the ladder")
    found = [TensorSpec.from_list(ladder, name) for name in ("inputs", "outputs")]
    for name, specs in zip(("inputs", "outputs"), found, strict=True):
        if len(specs) > 1:
            raise UsageError(f"the ladder names {len(specs)} {name}: a network is packaged with one input and one output")
    return found[0][0], found[1][0]


def _check_inputs(spec: TensorSpec, x: Tensor) -> None:
    if not isinstance(x, Tensor):
        raise UsageError(f"the inputs to check by are one tensor, not {type(x).__name__}")
    fits = len(spec.shape) == x.ndim and all(isinstance(a, str) or a == b for a, b in zip(spec.shape, x.shape, strict=True))
    if not fits or len(x) < 2 or spec.dtype != str(x.dtype).removeprefix("torch."):
        raise UsageError(
            f"the inputs to check by are {x.dtype} {list(x.shape)}, the ladder's {spec.name!r} is {spec.dtype} {list(spec.shape)}: "
            "give two or more of them"
        )
    if spec.range is not None and x.numel() and not spec.range[0] <= float(x.min()) <= float(x.max()) <= spec.range[1]:
        low, high = spec.range
        raise UsageError(
            f"the inputs to check by go from {float(x.min()):.4g} to {float(x.max()):.4g}, the ladder says {low:g} to {high:g}: "
            "devices will give the network what the ladder says, so let it normalise its inputs itself"
        )


def _check_rows(fields: dict[str, Any], network: ElasticNetwork) -> None:
    if not isinstance(fields.get("configurations"), list):
        raise UsageError("the ladder has no configurations: make it with `measure_ladder`, or as the specification says")
    if len(fields["configurations"]) != len(network):
        raise UsageError(
            f"the ladder has {len(fields['configurations'])} configurations, the network {len(network)}: profile it again"
        )


def read_ladder_fields(run: Path) -> dict[str, Any]:
    """What `accordion profile` wrote. UsageError if it hasn't, FormatError if it is something else."""
    path = run / "ladder.json"
    try:
        with path.open("rb") as stream:
            raw = stream.read(MOST_LADDER_BYTES + 1)
    except FileNotFoundError as error:
        raise UsageError(f"{run} has no ladder yet: measure it with `accordion profile {run}`") from error
    except OSError as error:
        raise StorageError(f"can't read {path}: {error.strerror}") from error
    fields = parse_object(raw, str(path), MOST_LADDER_BYTES)
    rows = fields.get("configurations")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise FormatError(f"{path} is not a ladder: measure it again with `accordion profile {run}`")
    measured_on = fields.pop(MEASURED_ON, None)
    if measured_on is not None and measured_on != RunDirectory(run).digest():
        raise UsageError(f"{path} was measured on other weights or batch-norm statistics than {run} has now: profile it again")
    return fields


def _check_name(name: str | None) -> None:
    if name is not None and not is_name(name):
        raise UsageError(f"{name!r:.100} is no name: parts of letters and digits with '.', '_' and '-' between, joined by '/'")


def _check_time(text: str | None) -> None:
    try:
        sound = text is None or (_TIME.fullmatch(text) is not None and datetime.fromisoformat(text) is not None)
    except ValueError:
        sound = False
    if not sound:
        raise UsageError(f"{text!r} is no time as RFC 3339 has it, such as 2026-11-28T12:00:00Z")


def _check_target(out: Path) -> None:
    """Says what is wrong with the target before anything is computed."""
    if (out / "oci-layout").exists():
        Layout.open(out)
    elif not out.name or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise UsageError(f"{out} can't become a package directory: name a new one, an empty one, or a package")


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """A place beside `out`, so that moving it there is one step on one disk."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
            yield Path(folder) / "package"
    except OSError as error:
        raise StorageError(f"can't write {out}: {error.strerror or error}") from error


def _publish(staged: Layout, manifest: Manifest, tag: str, out: Path) -> None:
    """Moves the finished package to `out`, or adds its version to the package that is there; the index changes last."""
    if (out / "oci-layout").exists():
        target = Layout.open(out)
        for descriptor in (manifest.config, *manifest.layers):
            target.write_blob(staged.blob_path(descriptor.digest))
        target.add_version(tag, manifest)
    else:
        if out.exists():
            out.rmdir()  # empty, as checked before; a rename onto a folder is not possible everywhere
        staged.path.rename(out)


def _for_build(part: Part, *, compress: bool = False) -> ConfigurationParts:
    segments = {} if part.segment is None else {part.segment_path: part.segment}
    return ConfigurationParts(part.graph_path, part.graph, segments, part.alternatives, compress)
