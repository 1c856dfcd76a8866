"""`accordion package RUN -o PACKAGE`: writes the package."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from accordion.cli import options
from accordion.cli.console import Context
from accordion.cli.extras import extra
from accordion.units import format_bytes

__all__ = ["add", "execute"]


def add(commands: Any) -> argparse.ArgumentParser:
    """The command's arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "package",
        help="write the package of a profiled run",
        description="Writes a trained and profiled network as one version of a package, and checks every configuration.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="what accordion train and accordion profile wrote")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="PACKAGE", help="package directory, new or with other versions"
    )
    parser.add_argument("--tag", default="latest", help="the version's name (latest)")
    parser.add_argument(
        "--name", help="the model's name in the package's config (the directory's own, by which devices ask for it)"
    )
    parser.add_argument(
        "--family", help="the network of which this version is one form: without a tag, a plan chooses among a family's versions"
    )
    parser.add_argument(
        "--codec",
        default="float32",
        help="how the weights are written: float32, float16, bfloat16, float8, int8, int4, planes, sparse8, sparse4, lowrank8, "
        "auto (the best path through depth and precision, measured on the validation split), or a file that holds a path (float32)",
    )
    parser.add_argument(
        "--rounding", choices=["nearest", "compensated"], help="of 4-bit weights (the better one on the validation split)"
    )
    parser.add_argument(
        "--first-answer",
        type=options.data,
        metavar="SIZE",
        help="with --codec auto, begin with the best network whose bytes are at most this, ladder and graph included: 20kB (as the "
        "path of least error over a download begins)",
    )
    parser.add_argument("--integer", action="store_true", help="add graphs for integer kernels, measured like the others")
    parser.add_argument("--no-latency", dest="latency", action="store_false", help="do not time float against integer kernels")
    parser.add_argument(
        "--alternate",
        choices=["nnc"],
        help="add layers in this smaller encoding too, for devices that ask for them: nnc, for which nncodec must be installed",
    )
    parser.add_argument(
        "--created", metavar="TIME", help="an RFC 3339 time to state in the package (none: the same run, the same bytes)"
    )
    return parser


def _tags(out: Path) -> dict[str, str]:
    """The digest that each tag names now."""
    from accordion.artifact.layout import Layout

    if not (out / "oci-layout").is_file():
        return {}
    return {tag: descriptor.digest for tag, descriptor in Layout.open(out).tags().items()}


def execute(arguments: argparse.Namespace, context: Context) -> int:
    """Writes the version and says what it is."""
    from accordion.artifact.names import is_name

    with extra("train"):
        from accordion.packaging import package

    out: Path = arguments.out
    before = _tags(out)
    if not is_name(out.resolve().name):
        context.console.progress(f"{out.resolve().name!r:.80} can't be served or signed: letters, digits, '.', '_' and '-' only")
    manifest = package(
        arguments.run,
        out,
        tag=arguments.tag,
        name=arguments.name,
        codec=arguments.codec,
        family=arguments.family,
        rounding=arguments.rounding,
        integer=arguments.integer,
        latency=arguments.latency,
        first_answer=arguments.first_answer,
        created=arguments.created,
        alternate=arguments.alternate,
        progress=context.console.progress,
    )
    size = manifest.offsets[-1]
    document = {
        "package": str(out),
        "tag": arguments.tag,
        "manifest": manifest.digest,
        "layers": len(manifest.layers),
        "bytes": size,
    }
    moved = before.get(arguments.tag, manifest.digest)
    lines = [
        f"wrote {out}, version {arguments.tag}: {len(manifest.layers)} layers, {format_bytes(size)}",
        manifest.digest,
        *([] if moved == manifest.digest else [f"{arguments.tag} was {moved}, which can still be asked for by its digest"]),
        f"next: accordion show {out}{'' if arguments.tag == 'latest' else f' --reference {arguments.tag}'}",
    ]
    context.console.result(document, lines)
    return 0
