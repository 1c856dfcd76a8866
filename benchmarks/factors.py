"""What encodings lose of a package's convolutions, and for how many bytes: `python benchmarks/factors.py PACKAGE`.

Integers, low-rank factors of integers, and pruned weights (the smallest of each layer, not retrained), as the share of the weights'
energy that is lost and of their float32 bytes that is needed, as they are and all together through zstd. The package must hold
its weights as float32.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from accordion.artifact.archive import compress
from accordion.artifact.layout import Layout
from accordion.packaging.check import lay_out_prefixes
from accordion.packaging.codecs import Encoded, by_name

SHARES = (0.25, 0.5, 0.75)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    weights = convolutions(parser.parse_args().package)
    lost, needed = defaultdict[str, float](float), defaultdict[str, bytes](bytes)
    for weight in weights:
        rows = weight.reshape(len(weight), -1)
        for name, value, parts in encodings(rows):
            lost[name] += float(((value - rows).astype(np.float64) ** 2).sum())
            needed[name] += parts
    energy, plain = sum(float((w.astype(np.float64) ** 2).sum()) for w in weights), sum(w.nbytes for w in weights)
    print(f"{len(weights)} convolutions, {plain} bytes in float32")
    for name in sorted(needed, key=lambda name: len(needed[name])):
        small = len(compress(needed[name]))
        share = len(needed[name]) / plain
        print(f"{name:35} {lost[name] / energy:7.2%} lost {share:7.2%} of the bytes, {small / plain:6.2%} with zstd")


def encodings(rows: Any) -> list[tuple[str, Any, bytes]]:
    """Name, what comes back, the bytes that travel."""
    made = []
    for name in ("int4", "sparse4", "int8", "sparse8"):
        one = by_name(name).planes[0].encode(rows)
        made.append((name, one.value, content(one)))
    u, s, v = np.linalg.svd(rows.astype(np.float64), full_matrices=False)
    for name in ("int4", "int8"):
        for share in SHARES:
            rank = max(1, round(share * len(s)))
            root = np.sqrt(s[:rank])
            factors = [u[:, :rank] * root, root[:, None] * v[:rank]]
            left, right = (by_name(name).planes[0].encode(np.ascontiguousarray(one, np.float32)) for one in factors)
            made.append((f"{share:.0%} of the rank, factors as {name}", left.value @ right.value, content(left) + content(right)))
    for share in (*SHARES, 0.9):
        pruned = np.where(np.abs(rows) >= np.quantile(np.abs(rows), share), rows, 0)
        for name in ("int4", "sparse4"):
            one = by_name(name).planes[0].encode(pruned)
            made.append((f"{share:.0%} pruned, {name}", one.value, content(one)))
    return made


def content(encoded: Encoded) -> bytes:
    return b"".join(part.array.tobytes() for part in encoded.parts.values())


def convolutions(package: Path) -> list[Any]:
    """The weights of the complete network's convolutions."""
    layout = Layout.open(package)
    manifest = layout.manifest()
    ladder = layout.ladder(manifest)
    with tempfile.TemporaryDirectory() as name:
        *_, (last, folder) = lay_out_prefixes(layout, manifest, ladder, Path(name))
        model = onnx.load(str(folder / last.graph))
        return [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer if len(tensor.dims) == 4]


if __name__ == "__main__":
    main()
