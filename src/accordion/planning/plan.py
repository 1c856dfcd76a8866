"""The answer to a request, and its JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accordion.artifact.digest import is_digest
from accordion.artifact.manifest import Descriptor
from accordion.artifact.quality import Quality
from accordion.errors import FormatError

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Which configuration, what to send, and what to expect.

    `bytes_to_send` counts the layers that the device lacks, `bytes_total` all that the configuration needs, so their difference is
    what the device has already. `expected_s` is the time from the request to the last byte: round trips, manifest and layers.
    `promised` is the probability of its arrival by the deadline under the link that the request described; None without one.
    `ranges` are [start, end] in the stream of `manifest`, both inclusive, in order, not touching; `layers` are what they hold.
    """

    name: str
    manifest: str
    configuration: int
    quality: Quality
    bytes_to_send: int
    bytes_total: int
    expected_s: float
    ranges: tuple[tuple[int, int], ...]
    layers: tuple[Descriptor, ...]
    promised: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The plan as the protocol has it."""
        made = {
            "name": self.name,
            "manifest": self.manifest,
            "configuration": self.configuration,
            "quality": self.quality.to_json(),
            "bytes_to_send": self.bytes_to_send,
            "bytes_total": self.bytes_total,
            "expected_s": self.expected_s,
            "ranges": [[start, end] for start, end in self.ranges],
            "layers": [{"digest": layer.digest, "size": layer.size, "mediaType": layer.media_type} for layer in self.layers],
        }
        return made if self.promised is None else {**made, "promised": self.promised}

    @classmethod
    def from_json(cls, data: object) -> Plan:
        """A plan that came from elsewhere. What it says of layers is a hint: the manifest is what counts.

        Raises:
            FormatError: a field is missing, wrong, or contradicts another.
        """
        if not isinstance(data, Mapping):
            raise FormatError("the plan is not a JSON object")
        name, manifest, expected_s = data.get("name"), data.get("manifest"), data.get("expected_s")
        if not isinstance(name, str) or len(name) > 1000:
            raise FormatError("the plan: 'name' is not a text")
        if not is_digest(manifest):
            raise FormatError("the plan: 'manifest' is not a digest")
        if isinstance(expected_s, bool) or not isinstance(expected_s, int | float) or not 0 <= expected_s < float("inf"):
            raise FormatError("the plan: 'expected_s' is not a number of seconds")
        promised = data.get("promised")
        if promised is not None and (isinstance(promised, bool) or not isinstance(promised, int | float) or not 0 <= promised <= 1):
            raise FormatError("the plan: 'promised' is not a probability")
        made = cls(
            name=name,
            manifest=str(manifest),
            configuration=_whole(data.get("configuration"), "configuration"),
            quality=Quality.from_json(data.get("quality"), "the plan: quality"),
            bytes_to_send=_whole(data.get("bytes_to_send"), "bytes_to_send"),
            bytes_total=_whole(data.get("bytes_total"), "bytes_total"),
            expected_s=float(expected_s),
            ranges=_ranges(data.get("ranges")),
            layers=_layers(data.get("layers")),
            promised=None if promised is None else float(promised),
        )
        asked = sum(end - start + 1 for start, end in made.ranges)
        listed = sum(layer.size for layer in made.layers)
        if not made.bytes_to_send == asked == listed or made.bytes_to_send > made.bytes_total:
            raise FormatError(
                f"the plan contradicts itself: {made.bytes_to_send} of {made.bytes_total} bytes to send, "
                f"{asked} in its ranges, {listed} in its layers"
            )
        return made


def _whole(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 2**53:
        raise FormatError(f"the plan: {name!r} is not a whole number")
    return value


def _ranges(value: object) -> tuple[tuple[int, int], ...]:
    if not isinstance(value, list) or len(value) > 10_000:
        raise FormatError("the plan: 'ranges' is not a list")
    made: list[tuple[int, int]] = []
    for item in value:
        if not isinstance(item, list) or len(item) != 2:
            raise FormatError("the plan: a range is not [start, end]")
        start, end = _whole(item[0], "ranges"), _whole(item[1], "ranges")
        if end < start or (made and start <= made[-1][1]):
            raise FormatError("the plan: the ranges are not in order")
        made.append((start, end))
    return tuple(made)


def _layers(value: object) -> tuple[Descriptor, ...]:
    if not isinstance(value, list) or len(value) > 10_000:
        raise FormatError("the plan: 'layers' is not a list")
    return tuple(Descriptor.from_json(item, f"the plan: layer {index}") for index, item in enumerate(value))
