"""How far each run of the list is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from experiments.outcome import Outcome
from experiments.run import Run

__all__ = ["AGAIN", "DONE", "NEEDS", "OTHER", "PARTLY", "TO_DO", "State", "state_of"]

AGAIN, DONE, PARTLY, TO_DO, NEEDS, OTHER = "again", "done", "partly", "to do", "needs", "other settings"


@dataclass(frozen=True, slots=True)
class State:
    """`kind` is one of the words above, `detail` what goes with it, `epochs` how many are done."""

    kind: str
    detail: str
    epochs: int

    @property
    def open(self) -> bool:
        """Whether it can be worked on."""
        return self.kind in (TO_DO, PARTLY, AGAIN)


def state_of(run: Run, outcomes: dict[str, Outcome], runs: Path | None = None) -> State:
    """From the outcomes by name and, if given, the folder of checkpoints (which another machine does not have)."""
    lacks = run.missing()
    if outcome := outcomes.get(run.name):
        # A list that was changed after a run asks for something else than what was done under that name.
        if not lacks and run.config().initialisation != outcome.config.initialisation:
            return State(AGAIN, "its network began as in an earlier version, with channels that could not learn", 0)
        # Precision is where a run was done, as the machine is: a processor without bfloat16 arithmetic trains faster in float32.
        if not lacks and run.at(outcome.config.precision).config() != outcome.config:
            return State(OTHER, "its data file was made with other settings", outcome.config.recipe.epochs)
        return State(DONE, "", outcome.config.recipe.epochs)
    if lacks:
        return State(NEEDS, ", ".join(lacks), 0)
    epochs = 0
    if runs is not None:
        try:
            epochs = len((runs / run.name / "run" / "metrics.jsonl").read_text().splitlines())
        except OSError:
            if not (runs / run.name / "run" / "checkpoint.pt").exists():
                return State(TO_DO, "", 0)
        return State(PARTLY, f"{epochs} of {run.config().recipe.epochs} epochs", epochs)
    return State(TO_DO, "", 0)
