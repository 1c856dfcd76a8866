"""What a package costs beside its weights: `python benchmarks/overhead.py PACKAGE`.

For each prefix the bytes of the layers, how many of them are tensors, and the rest: of the layers alone; with the manifest as an
endpoint sends it; with manifest and config as they lie in the package; and with these and the values that are in the prefix but
have been replaced for this configuration (batch-norm values and heads of smaller ones, which no graph of it reads any more), as far
as they take part in what travels. Scales and whatever else an encoding needs are tensors. Of a packed segment, its tensors count as
what they take when packed alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from accordion.artifact.archive import compress, unpack, unpacked_limit
from accordion.artifact.ladder import Ladder
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import WEIGHT_RAW, WEIGHT_TAR_ZSTD, Manifest
from accordion.artifact.replaced import unread_bytes
from accordion.artifact.segment import parse_header, read_header


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    layout = Layout.open(parser.parse_args().package)
    manifest = layout.manifest()
    ladder = layout.ladder(manifest)
    tensors = [0]
    for layer in manifest.layers:
        found = 0
        with layout.blob_path(layer.digest).open("rb") as stream:
            if layer.media_type == WEIGHT_RAW:
                found = sum(info.end - info.start for info in read_header(stream, layer.size, "a segment").values())
            elif layer.media_type == WEIGHT_TAR_ZSTD:
                for name, data in unpack(stream, limit=unpacked_limit(layer.size), what="a segment"):
                    first = min(info.start for info in parse_header(data, len(data), name).values())
                    found += min(layer.size, len(compress(data[first:])))
        tensors.append(tensors[-1] + found)
    gone = replaced(layout, manifest, ladder)
    fixed, sent = manifest.size + manifest.config.size, len(compress(manifest.raw))
    print(f"manifest {manifest.size} B ({sent} B as sent), config {manifest.config.size} B, ladder {manifest.layers[0].size} B")
    print(
        "  k       bytes     tensors   beside   share   with manifest as sent   with manifest and config   with replaced values too"
    )
    for rung in ladder.configurations:
        rest = rung.bytes - tensors[rung.layers]
        shares = [f"{rest / rung.bytes:7.2%}"]
        shares += [f"{rest + more:>12,} {(rest + more) / (rung.bytes + more):8.2%}" for more in (sent, fixed)]
        everything = rest + fixed + gone[rung.index]
        shares.append(f"{everything:>12,} {everything / (rung.bytes + fixed):8.2%}")
        print(f"{rung.index:3d} {rung.bytes:11,} {tensors[rung.layers]:11,} {rest:8,} {'   '.join(shares)}")
    last = ladder.configurations[-1]
    beside = last.bytes + fixed - tensors[last.layers] + gone[last.index]
    print(f"whole, replaced values too: {beside / (4 * last.parameters):.2%} of the complete float32 weights")


def replaced(layout: Layout, manifest: Manifest, ladder: Ladder) -> list[int]:
    """For each configuration, the bytes of tensors in its prefix that no graph of it reads, as they travel: of a packed segment,
    their share of it."""
    segments: dict[str, tuple[int, bytes, float]] = {}  # by path: layer, content, bytes sent for a byte
    graphs: dict[str, bytes] = {}
    for number, layer in enumerate(manifest.layers):
        with layout.blob_path(layer.digest).open("rb") as stream:
            if layer.media_type.endswith("tar+zstd"):
                files = list(unpack(stream, limit=unpacked_limit(layer.size), what="a layer"))
            else:
                files = [(str(layer.path), stream.read())]
        for path, data in files:
            if layer.media_type in (WEIGHT_RAW, WEIGHT_TAR_ZSTD):
                segments[path] = number, data, layer.size / sum(len(one) for _, one in files)
            elif path.endswith(".onnx"):
                graphs[path] = data
    found = []
    for rung in ladder.configurations:
        names = [rung.graph, *(one.graph for one in rung.alternatives if (one.layers or rung.layers) <= rung.layers)]
        there = {path: data for path, (number, data, _) in segments.items() if number < rung.layers}
        unread = unread_bytes(there, {name: graphs[name] for name in names})
        found.append(round(sum(count * segments[path][2] for path, count in unread.items())))
    return found


if __name__ == "__main__":
    main()
