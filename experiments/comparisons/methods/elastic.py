"""Ours: an elastic network as a float32 package and as a compact one, configuration by configuration."""

from __future__ import annotations

import tempfile
from pathlib import Path

from accordion.artifact.layout import Layout
from accordion.artifact.manifest import FILEPATH, Descriptor
from accordion.packaging import package
from accordion.packaging.check import lay_out_prefixes
from accordion.profiling import profile
from experiments.comparisons.bases import Base, listed_run, trained
from experiments.comparisons.context import Context, Made, Method
from experiments.comparisons.files import Shipped
from experiments.comparisons.methods.common import measured
from experiments.comparisons.outcome import File, Row
from experiments.tables.markdown import blocks

__all__ = ["METHOD", "ORDERS"]

ORDERS = {"CoML-05": "right-to-left", "BlockCoML-05": "blockwise", "learned": "learned order", "balanced": "even order, balanced"}
FORMS = {"float32": "float32", "compact": "auto"}
"""What a form is called, and the codec that makes it."""


def execute(context: Context) -> Made:
    base = trained(context, listed_run(context.comparison, context.comparison.variant))
    run = base.folder / "run"
    if not (run / "ladder.json").exists():
        profile(run, split="test", device_latency=False, progress=context.progress)
    rows: list[Row] = []
    for form, codec in FORMS.items():
        path = base.folder / ("package" if form == "float32" else form)
        if not path.exists():
            package(run, path, name=base.run.name, codec=codec, progress=context.progress)
        rows += _rows(context, base, path, f"Accordion, {ORDERS[context.comparison.variant]}, {form}")
    return Made(base.training, tuple(rows))


def _rows(context: Context, base: Base, path: Path, family: str) -> list[Row]:
    layout = Layout.open(path)
    manifest = layout.manifest(None)
    ladder = layout.ladder(manifest)
    rows = []
    with tempfile.TemporaryDirectory(prefix="accordion-prefixes-") as name:
        for configuration, folder in lay_out_prefixes(layout, manifest, ladder, Path(name)):
            files = tuple(_file(layer) for layer in manifest.layers[: configuration.layers])
            rows.append(
                measured(
                    context,
                    Shipped(files, (folder / configuration.graph,)),
                    family=family,
                    label=f"{configuration.index}: {blocks(configuration.blocks.by_stage)} {configuration.precision}",
                    parameters=configuration.parameters,
                    macs=configuration.macs,
                    needs=NEEDS,
                )
            )
    return rows


def _file(layer: Descriptor) -> File:
    digest = layer.digest.removeprefix("sha256:")
    return File(layer.annotations.get(FILEPATH, digest[:12]), layer.size, digest)


NEEDS = "a new session with each upgrade"

METHOD = Method(
    "elastic",
    "Accordion",
    "Ayed, De Domenico, Garcia-Rodriguez, Lopez-Perez: Accordion: A Communication-Aware Machine Learning Framework for Next "
    "Generation Networks",
    "the compact form is `--codec auto`; all layers count, ladder and graphs included",
    NEEDS,
    "everything",
    execute,
)
