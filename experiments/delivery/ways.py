"""Ways of giving a device a network, each as a staircase: so many bytes, so accurate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.comparisons.outcome import Result, Row
from experiments.delivery.cases import GROUP, is_whole
from experiments.delivery.encodings import Encoding
from experiments.outcome import Outcome

__all__ = [
    "COMPACT",
    "ORACLE",
    "PLAIN",
    "SHRUNK",
    "Way",
    "alone",
    "alone_in_int4",
    "best_alone",
    "compressed",
    "is_alone",
    "is_compressed",
    "ways_of",
]

PLAIN, SHRUNK = "ResNet, whole", "ResNet, shrunk"
COMPACT = "balanced, compact"
ORACLE = "oracle"
IN_TURN = "alone in turn, int8"
COMPRESSED = "compressed: "
COMPRESSIONS = ("quantized", "pruned", "low-rank")
"""Methods of the comparisons that make one smaller network of the plain one."""

LOW_RANK = "low rank"
"""The family whose rows do not say what they are."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Way:
    """`bytes[i]`, ascending, have to arrive for an accuracy of `accuracy[i]`; with less than the first, nothing is right."""

    name: str
    bytes: tuple[int, ...]
    accuracy: tuple[float, ...]
    shapes: tuple[tuple[int, ...], ...] = ()  # blocks by stage of what runs, where one network has several configurations

    def delivered(self, arrived: Floats, scale: float = 1.0) -> Floats:
        """The accuracy of what runs when so many bytes have arrived; any shape. `scale` multiplies what is needed."""
        steps = np.concatenate([[0.0], self.accuracy])
        return np.asarray(steps[np.searchsorted(scale * np.asarray(self.bytes, dtype=np.float64), arrived, side="right")])


def alone(name: str, encoding: Encoding) -> Way:
    """A network that runs when all of it is there."""
    last = encoding.rungs[-1]
    return Way(name, (encoding.manifest_bytes + last.bytes,), (last.accuracy,))


def prefixes(name: str, encoding: Encoding, validation: Sequence[float] | None = None) -> Way:
    """A network whose every prefix runs. Of what is there, the device runs the largest, or with `validation` (errors of its
    configurations) the one that was best on that split: a larger one need not be better."""
    chosen, best = [], 0
    for k in range(len(encoding.rungs)):
        best = k if validation is None or validation[k] <= validation[best] else best
        chosen.append(best)
    return Way(
        name,
        tuple(encoding.manifest_bytes + rung.bytes for rung in encoding.rungs),
        tuple(encoding.rungs[k].accuracy for k in chosen),
        tuple(encoding.rungs[k].blocks_by_stage for k in chosen),
    )


def in_turn(name: str, encodings: Sequence[Encoding]) -> Way:
    """Networks of their own, the smallest first; each is a whole new download, since they share nothing."""
    bytes_, accuracies, total, best = [], [], 0, 0.0
    for one in sorted(encodings, key=lambda encoding: encoding.rungs[-1].bytes):
        total += one.manifest_bytes + one.rungs[-1].bytes
        best = max(best, one.rungs[-1].accuracy)
        bytes_.append(total)
        accuracies.append(best)
    return Way(name, tuple(bytes_), tuple(accuracies))


def best_alone(ways: Sequence[Way]) -> Way:
    """Whoever owns all of these and knows what will arrive: the most accurate that does."""
    pairs = sorted((way.bytes[-1], way.accuracy[-1]) for way in ways)
    return Way(
        ORACLE, tuple(count for count, _ in pairs), tuple(np.maximum.accumulate([accuracy for _, accuracy in pairs]).tolist())
    )


def is_alone(name: str) -> bool:
    """Whether a way is one separately trained network."""
    return name.endswith((" alone, float32", " alone, int8", " alone, int4"))


def alone_in_int4(results: Sequence[Result], seed: int, manifest_bytes: int) -> list[Way]:
    """The separately trained networks of the comparisons in int4, which the compact package has too, each a download of its own."""
    found = []
    for one in _of_group(results, seed):
        network = {"alone": one.variant, "quantized": one.network}.get(one.method)
        for row in one.rows:
            if network is not None and row.label.endswith("int4"):
                title = network.replace("resnet", "ResNet-")
                found.append(Way(f"{title} alone, int4", (manifest_bytes + row.bytes,), (1 - row.test.error,)))
    return found


def _of_group(results: Sequence[Result], seed: int) -> list[Result]:
    group = (GROUP.dataset, GROUP.network, GROUP.recipe)
    return [one for one in results if one.seed == seed and (one.dataset, one.network, one.recipe) == group]


def compressed(results: Sequence[Result], seed: int, manifest_bytes: int) -> list[Way]:
    """The plain network made smaller by the methods of the comparisons, each form a download of its own."""
    return [
        Way(COMPRESSED + _label(row), (manifest_bytes + row.bytes,), (1 - row.test.error,))
        for one in _of_group(results, seed)
        if one.method in COMPRESSIONS
        for row in one.rows
    ]


def _label(row: Row) -> str:
    return f"{row.family}, {row.label}" if row.family == LOW_RANK else row.label


def is_compressed(name: str) -> bool:
    """Whether a way is the plain network made smaller."""
    return name.startswith(COMPRESSED)


def ways_of(outcomes: Sequence[Outcome], encodings: Mapping[str, Encoding], more: Sequence[Way] = ()) -> list[Way]:
    """Everything that runs of one seed allow: what has not run, or was not encoded, is left out. `more` are further separately
    trained networks."""
    found: list[Way] = []
    separate: list[Way] = [*more]
    small: list[Encoding] = []
    for one in outcomes:
        errors = [row.validation.error for row in one.configurations]
        plain = is_whole(one) and one.experiment != "reference"
        if (full := encodings.get(f"{one.name}-float32")) is not None:
            if one.experiment != "reference":
                found.append(prefixes(SHRUNK if plain else one.scheme, full, errors))
            if plain:
                found.append(alone(PLAIN, full))
        if is_whole(one):
            title = one.config.network.replace("resnet", "ResNet-")
            for codec in ("float32", "int8"):
                if (encoded := encodings.get(f"{one.name}-{codec}")) is not None:
                    separate.append(alone(f"{title} alone, {codec}", encoded))
                    small += [encoded] * (codec == "int8")
        if (compact := encodings.get(f"{one.name}-auto")) is not None:
            found.append(prefixes(f"{one.scheme}, compact", compact))
    if len(separate) > 1:
        found += [*separate, best_alone(separate)]
    if len(small) > 1:
        found.append(in_turn(IN_TURN, small))
    return found
