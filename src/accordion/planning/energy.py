"""What a delivery and its inferences cost in joules. Pure functions; every constant stands in `energy_figures`.

    transfer   base x seconds + bits x joules a bit, where seconds are those until the last byte: round trips and bits / rate
    inference  MACs x (arithmetic + a share of an instruction) + weights' bytes x memory
    training   MACs x 3 x pictures x an accelerator's joules a MAC

A result is a range, since no constant is better known than that: what the model says, and what it says with every constant at the
low and at the high end of its own range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from accordion.artifact.ladder import Configuration, Ladder
from accordion.errors import UsageError
from accordion.planning.energy_figures import (
    ACCELERATOR_J_PER_MAC,
    ARITHMETIC_J,
    BACKWARD_FACTOR,
    BYTES_PER_VALUE,
    INSTRUCTION_J,
    MEMORY_J_PER_BYTE,
    RADIOS,
    VECTOR_BITS,
    Figure,
    Radio,
)

__all__ = ["Joules", "inference_j", "ladder_j", "radio", "stated_j", "tail_j", "training_j", "transfer_j"]


class Joules(NamedTuple):
    """`value`, and the range around it."""

    value: float
    low: float
    high: float

    def plus(self, other: Joules) -> Joules:
        """The sum, end by end."""
        return Joules(self.value + other.value, self.low + other.low, self.high + other.high)

    def times(self, count: float) -> Joules:
        """So many of these."""
        return Joules(self.value * count, self.low * count, self.high * count)

    def to_json(self) -> dict[str, float]:
        """With as many digits as mean anything."""
        return {name: float(f"{number:.4g}") for name, number in zip(("value", "low", "high"), self, strict=True)}


def _ends(compute: Callable[[Callable[[Figure], float]], float]) -> Joules:
    """`compute` once with each figure's value, once with the low ends, once with the high ones."""
    return Joules(compute(lambda one: one.value), compute(lambda one: one.low), compute(lambda one: one.high))


def radio(name: str) -> Radio:
    """UsageError naming those that there are."""
    try:
        return RADIOS[name]
    except KeyError:
        raise UsageError(f"unknown radio {name!r:.60}: choose {', '.join(RADIOS)}") from None


def transfer_j(which: Radio, count: float, seconds: float) -> Joules:
    """Joules for `count` bytes received in `seconds`, without the tail. Slower is dearer: the receiver is awake for longer."""
    return _ends(lambda end: end(which.base_w) * seconds + end(which.bit_j) * 8 * count)


def tail_j(which: Radio) -> Joules:
    """Joules after the last byte, once for each transfer that stands alone."""
    return _ends(lambda end: end(which.tail_j))


def inference_j(macs: float, weights: float, arithmetic: str = "float32") -> Joules:
    """Joules for one inference of `macs` multiply-accumulates over `weights` numbers that are read once from memory.

    `arithmetic` is what is multiplied: float32, float16, int8 or int4. Activations are taken to stay in caches. The model is
    vector instructions; the low end is wired hardware with the weights beside it, the high end a processor without vectors.

    Raises:
        UsageError: an arithmetic without figures.
    """
    if arithmetic not in ARITHMETIC_J:
        raise UsageError(f"no energy figures for {arithmetic!r:.60}: there are some for {', '.join(ARITHMETIC_J)}")
    size = BYTES_PER_VALUE[arithmetic]
    together = VECTOR_BITS / (8 * size)

    def joules(mac: float, instruction: float, byte: float) -> float:
        return macs * (mac + instruction) + weights * size * byte

    mac, step, byte = ARITHMETIC_J[arithmetic], INSTRUCTION_J, MEMORY_J_PER_BYTE
    return Joules(
        joules(mac.value, step.value / together, byte.value),
        joules(mac.low, step.low, byte.low),
        joules(mac.high, step.high, byte.high),
    )


def stated_j(energy: object) -> Joules | None:
    """A ladder's `energy_j`: a number, or `{value, low, high}`; None if it is neither, or makes no sense."""
    if isinstance(energy, Mapping):
        fields: list[Any] = [energy.get(name) for name in ("value", "low", "high")]
        numbers = [float(one) for one in fields if _is_energy(one)]
        if len(numbers) == 3 and numbers[1] <= numbers[0] <= numbers[2]:
            return Joules(*numbers)
        return None
    return Joules(float(energy), float(energy), float(energy)) if _is_energy(energy) else None  # type: ignore[arg-type]


def _is_energy(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1e18 and math.isfinite(value)


def ladder_j(ladder: Ladder) -> list[Joules]:
    """Joules for one inference of each configuration: the ladder's `energy_j` where every configuration states one (measured), else
    what the model says of all of them, so that they can be compared.

    The model multiplies in float32 unless a configuration's `arithmetic` says otherwise: weights that travel as 8 or 4 bits are
    made float32 again before they are used, unless there are kernels for them.
    """
    stated = [stated_j(rung.extra.get("energy_j")) for rung in ladder.configurations]
    measured = [one for one in stated if one is not None]
    return measured if len(measured) == len(stated) else [_modelled(rung) for rung in ladder.configurations]


def _modelled(rung: Configuration) -> Joules:
    named = rung.extra.get("arithmetic")
    arithmetic = named if isinstance(named, str) and named in ARITHMETIC_J else "float32"
    return inference_j(rung.macs, rung.parameters, arithmetic)


def training_j(macs_per_picture: float, pictures: float) -> Joules:
    """Joules for training on `pictures` (those of all epochs), each `macs_per_picture` forward, on a data centre's accelerator."""
    return _ends(lambda end: end(BACKWARD_FACTOR) * end(ACCELERATOR_J_PER_MAC) * macs_per_picture * pictures)
