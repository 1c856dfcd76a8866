"""Ours: an elastic network as a float32 package and as a compact one, configuration by configuration."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from accordion.artifact.layout import Layout
from accordion.artifact.manifest import FILEPATH, Descriptor
from accordion.packaging import package
from accordion.packaging.check import lay_out_prefixes
from accordion.profiling import profile
from accordion.training import RunDirectory
from experiments.catalogue import searched
from experiments.comparisons.bases import PASSES, listed_run, trained
from experiments.comparisons.context import Context, Made, Method
from experiments.comparisons.files import Shipped
from experiments.comparisons.methods.common import measured
from experiments.comparisons.outcome import File, Row
from experiments.computation import training_macs
from experiments.tables.markdown import blocks

__all__ = ["METHOD", "NEEDS", "ORDERS", "SOURCE", "packaged"]

LEARNED = "learned"
ORDERS = {
    "CoML-05": "right-to-left",
    "BlockCoML-05": "blockwise",
    LEARNED: "learned order",
    "balanced": "even order, balanced",
    "late-start": "late start, balanced",
    "by-depth": "by depth",
}
FORMS = {"float32": "float32", "compact": "auto"}
"""What a form is called, and the codec that makes it."""


def execute(context: Context) -> Made:
    base = trained(context, listed_run(context.comparison, context.comparison.variant))
    rows: list[Row] = []
    for form in FORMS:
        path = base.folder / ("package" if form == "float32" else form)
        family = f"Accordion, {ORDERS[context.comparison.variant]}, {form}"
        rows += packaged(context, base.folder / "run", path, base.run.name, form, family)
    training = base.training
    if context.comparison.variant == LEARNED:
        search = searched(context.comparison.network, context.comparison.dataset)
        training = replace(training, search_macs=round(PASSES * training_macs(search), 1))
    return Made(training, tuple(rows), trained=base.config)


def packaged(context: Context, run: Path, path: Path, name: str, form: str, family: str) -> list[Row]:
    """The finished training in `run` as a package at `path`, unless it is there, and a row for each of its configurations."""
    if not _made_after(run / "ladder.json", run):
        profile(run, split="test", device_latency=False, progress=context.progress)
    if not _made_after(path, run):
        shutil.rmtree(path, ignore_errors=True)
        package(run, path, name=name, codec=FORMS[form], progress=context.progress)
    return _rows(context, path, family)


def _made_after(path: Path, run: Path) -> bool:
    """Whether `path` is there and was made of the weights that are in `run` now."""
    return path.exists() and path.stat().st_mtime >= RunDirectory(run).weights_path.stat().st_mtime


def _rows(context: Context, path: Path, family: str) -> list[Row]:
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
SOURCE = (
    "Ayed, De Domenico, Garcia-Rodriguez, Lopez-Perez: Accordion: A Communication-Aware Machine Learning Framework for Next "
    "Generation Networks"
)

METHOD = Method(
    "elastic",
    "Accordion",
    SOURCE,
    "the compact form is `--codec auto`; all layers count, ladder and graphs included. `CoML-05` and `BlockCoML-05` are trained as "
    "in the paper, one configuration a step. `learned`, `balanced` and `late-start` are ours: each step trains the complete "
    "network, the smallest and one more, which learn from the complete one's answers (distillation inside one network); `learned` "
    "has a head for each stage and an order that was searched; in `balanced` small configurations count less, and each has "
    "batch-norm statistics of its own; `late-start` is the same on an order that begins with what two percent of the bytes hold. "
    "`by-depth` is ours, too: prefixes of the network as it is computed, from the first stage and some of the second on, each "
    "with a head of its own, all of them in one pass a step, small ones counting less: early exits without convolutions in the "
    "heads, which learn from the complete network's answers as well",
    NEEDS,
    "everything",
    execute,
)
