"""Batch-norm statistics of a finished run, measured again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from accordion.data import Dataset, Split, load
from accordion.elastic import ElasticNetwork
from accordion.errors import UsageError
from accordion.training.config import TrainingConfig, build_network
from accordion.training.evaluation import correct
from accordion.training.norms import recalibrated
from accordion.training.run_directory import RunDirectory
from accordion.training.runs import load_weights

__all__ = ["Calibration", "calibrate"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Validation errors of the `configurations` before and after; `changed_values` are the numbers that some configuration has
    different from the complete one, each counted once: what a package has to carry on top."""

    configurations: tuple[int, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    changed_values: int


def calibrate(
    run: Path | str,
    *,
    norms: str = "configuration",
    pictures: int = 8000,
    progress: Callable[[str], None] = lambda line: None,
    dataset: Dataset | None = None,
) -> Calibration:
    """Measures the batch-norm statistics of the finished training in `run` again and writes them there.

    `norms` and `pictures` are the recipe's `norms` and `norm_pictures`; "running" goes back to what the training tracked. Profiling
    and packaging see the result; profile again after it. What `adapt` brought is gone. UsageError if the training has not finished,
    or if the run was restored from a package.
    """
    directory = RunDirectory(run)
    if directory.out_of_package:
        raise UsageError(
            f"{run} was restored from a package, in which batch norms are folded into weights: there are no statistics that could "
            "be measured again. Its configurations have what the package gives them; to train on, begin with it (--initial)"
        )
    settings = directory.read_settings()
    config = TrainingConfig.from_json(settings.get("config", {}))
    recipe = config.recipe.with_changes(norms=norms, norm_pictures=pictures)
    dataset = dataset or load(config.dataset)
    network = load_weights(directory, build_network(config, dataset)).eval()
    watched = network.order.watched()
    training, validation = dataset.hold_out()

    with directory.locked():
        progress(f"{len(watched)} configurations on {len(validation)} validation pictures, as they are")
        old = directory.read_norms()
        before = _errors(network if old is None else old.applied(network), validation)
        found = None
        if norms != "running":
            progress(f"statistics of {len(network)} configurations on {min(pictures, len(training))} training pictures")
            # As it was trained: a file of probabilities may have changed meanwhile.
            policy = settings.get("policy_probabilities") or config.policy_for(len(network)).probabilities
            found = recalibrated(network, recipe, training, policy, seed=config.seed, mirror=dataset.mirror)
        directory.write_adapting(None)  # what was adapted before is gone, and first of all the record that it was
        directory.write_norms(found)
        progress("the same validation pictures again")
        after = _errors(network if found is None else found.applied(network), validation)
    return Calibration(watched, before, after, 0 if found is None else found.changed_values)


def _errors(measured: ElasticNetwork, validation: Split) -> tuple[float, ...]:
    return tuple(1 - float(hits.float().mean()) for hits in correct(measured, validation, measured.order.watched()).values())
