"""What has run and what has not."""

from __future__ import annotations

from collections.abc import Sequence

from accordion.training.config import INITIALISATION
from accordion.units import format_seconds
from experiments.outcome import Outcome
from experiments.run import Run
from experiments.tables.markdown import table

__all__ = ["lines"]


def lines(runs: Sequence[Run], outcomes: Sequence[Outcome]) -> list[str]:
    """Seeds done of seeds listed, by experiment, network, data set and recipe; what has to be done again is not done."""
    done = {outcome.name: outcome for outcome in outcomes if outcome.config.initialisation == INITIALISATION}
    again = {outcome.name for outcome in outcomes} - set(done)
    together: dict[tuple[str, str, str, str, str], list[Run]] = {}
    for run in runs:
        # References differ by network alone: those of one kind are one row.
        network = "several" if run.experiment == "reference" else run.network
        together.setdefault((run.experiment, network, run.dataset, run.recipe, run.scheme), []).append(run)
    rows = []
    for (experiment, network, dataset, recipe, scheme), members in together.items():
        found = [done[run.name] for run in members if run.name in done]
        seconds = sum(outcome.seconds for outcome in found)
        none = "to do again" if again & {run.name for run in members} else "not run"
        rows.append(
            [
                experiment,
                network,
                dataset,
                recipe,
                scheme,
                f"{len(found)} of {len(members)}" if found else none,
                format_seconds(seconds) if found else "–",
            ]
        )
    total = sum(run.name in done for run in runs)
    head = f"{total} of {len(runs)} runs of the list are done."
    if count := sum(run.name in again for run in runs):
        head += f" {count} were done with networks that began as in an earlier version, and are to do again."
    others: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        if run.name in done and done[run.name].config.precision != run.precision:
            others.setdefault((done[run.name].config.precision, run.precision), []).append(run.name)
    for (precision, asked), names in sorted(others.items()):
        head += f" Trained in {precision} where the list says {asked}: {', '.join(names)}."
    return [head, "", *table(["experiment", "network", "data set", "recipe", "scheme", "runs", "time"], rows)]
