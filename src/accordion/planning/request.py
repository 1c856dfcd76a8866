"""What a device asks for. Every field is optional; what is given is checked here, once, for endpoint and device alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import isfinite
from numbers import Integral
from operator import attrgetter
from typing import Any

from accordion.artifact.digest import is_digest
from accordion.artifact.strict_json import printable
from accordion.errors import UsageError
from accordion.planning.energy_figures import RADIOS
from accordion.planning.outlook import Outlook
from accordion.units import whole_number

__all__ = ["Held", "Request", "RequestError"]

# Beyond these, products such as bytes x 8 / throughput could leave what a float and JSON can say.
_LARGEST = 1e18
_SLOWEST_BPS = 1.0
PREFERENCES = ("bytes", "macs", "energy")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")  # as the OCI distribution specification has it


class RequestError(UsageError):
    """A request is wrong; `field` names the field, dotted where it lies inside another."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field, self._problem = field, problem

    def __reduce__(self) -> tuple[Any, ...]:
        """So that it comes out of another process as what it is."""
        return type(self), (self.field, self._problem)


@dataclass(frozen=True, slots=True)
class Held:
    """What the device has already: all layers of one configuration of one manifest."""

    manifest: str
    configuration: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "configuration", whole_number(self.configuration, "the configuration that is held", least=0))

    @classmethod
    def from_json(cls, data: object) -> Held:
        """RequestError naming the field that is wrong."""
        if not isinstance(data, Mapping):
            raise RequestError("held", f"must be an object with 'manifest' and 'configuration', not {_shown(data)}")
        _refuse_unknown(data, ("manifest", "configuration"), "held.")
        manifest, configuration = data.get("manifest"), data.get("configuration")
        if not is_digest(manifest):
            raise RequestError(
                "held.manifest", f"must be a digest (sha256: and 64 lower-case hexadecimal digits), not {_shown(manifest)}"
            )
        if isinstance(configuration, bool) or not isinstance(configuration, int) or not 0 <= configuration < 2**31:
            raise RequestError("held.configuration", f"must be a configuration's number, 0 or more, not {_shown(configuration)}")
        return cls(str(manifest), configuration)

    def to_json(self) -> dict[str, Any]:
        """As it stands in a request."""
        return {"manifest": self.manifest, "configuration": self.configuration}


@dataclass(frozen=True, slots=True)
class Request:
    """The limits of one delivery; None where there is none.

    `reference` is a tag or a digest. `deadline_s` and `rtt_s` are seconds, `throughput_bps` bits a second, `max_bytes` bounds
    the layers that are *sent*, `max_macs` the multiply-accumulates of one input. `max_energy_j` bounds the joules of receiving what
    is sent, over `radio` (a name of `energy_figures.RADIOS`), and of `inferences` inferences (1 if left out). `min_quality` is in
    the metric's own unit and direction: where lower is better, it is an upper bound. With `confidence` (between 0 and 1) it is held
    against the worse end of the measured interval instead of the value, and with `link` the deadline is kept with that
    probability. `link` is what the link may deliver from now on, instead of `throughput_bps` and `rtt_s`. `prefer` is what is
    scarce, "bytes", "macs" or "energy": of what is as good, the least of it.
    """

    reference: str | None = None
    deadline_s: float | None = None
    throughput_bps: float | None = None
    rtt_s: float | None = None
    confidence: float | None = None
    min_quality: float | None = None
    max_bytes: int | None = None
    max_macs: int | None = None
    max_energy_j: float | None = None
    radio: str | None = None
    inferences: int | None = None
    held: Held | None = None
    link: Outlook | None = None
    prefer: str | None = None

    def __post_init__(self) -> None:
        for name, least, above in _NUMBERS:
            if (number := getattr(self, name)) is not None:
                _check_number(name, number, least=least, above=above)
        if _RARE(self) != _NOTHING:
            self._check_rare()

    def _check_rare(self) -> None:
        """What most requests leave out."""
        _check_reference(self.reference)
        if self.confidence is not None and self.confidence >= 1:
            raise RequestError("confidence", f"must lie between 0 and 1, both excluded, not {_shown(self.confidence)}")
        if self.radio is not None and (not isinstance(self.radio, str) or self.radio not in RADIOS):
            raise RequestError("radio", f"must be one of {', '.join(RADIOS)}, not {_shown(self.radio)}")
        for name in ("max_bytes", "max_macs", "inferences"):
            value = getattr(self, name)
            if isinstance(value, Integral) and not isinstance(value, int):  # NumPy's
                object.__setattr__(self, name, value := int(value))
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST):
                raise RequestError(name, f"must be a whole number from 1 to {_LARGEST:.0e}, not {_shown(value)}")
        if self.held is not None and not isinstance(self.held, Held):
            raise RequestError("held", f"must be a Held, not {_shown(self.held)}")
        if self.link is not None and not isinstance(self.link, Outlook):
            raise RequestError("link", f"must be an Outlook, not {_shown(self.link)}")
        if self.link is not None and (self.throughput_bps is not None or self.rtt_s is not None):
            raise RequestError("link", "says rate and round trip itself: leave throughput_bps and rtt_s out")
        if self.prefer is not None and self.prefer not in PREFERENCES:
            raise RequestError("prefer", f"must be one of {', '.join(PREFERENCES)}, not {_shown(self.prefer)}")

    @classmethod
    def from_json(cls, data: object) -> Request:
        """The request in JSON values; a field that is null counts as left out.

        Raises:
            RequestError: a field is unknown or wrong; it is named.
        """
        if not isinstance(data, (dict, Mapping)):  # a dict is quicker to recognise
            raise RequestError("request", f"must be a JSON object, not {_shown(data)}")
        if not _KNOWN.issuperset(data):
            _refuse_unknown(data, _NAMES, "")
        values = {name: value for name, value in data.items() if value is not None}
        if not values.keys() - _PLAIN:
            return cls(**values)
        if "held" in values:
            values["held"] = Held.from_json(values["held"])
        if "link" in values:
            try:
                values["link"] = Outlook.from_json(values["link"])
            except UsageError as error:
                name, _, problem = str(error).rpartition(": ")
                raise RequestError(f"link.{name}" if name else "link", problem) from error
        for name in ("max_bytes", "max_macs", "inferences"):  # 1e7 is a float in most readers of JSON, and means a whole number
            if isinstance(values.get(name), float) and values[name].is_integer():
                values[name] = int(values[name])
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """The fields that are given, as `from_json` reads them."""
        made = {name: getattr(self, name) for name in _NAMES if getattr(self, name) is not None}
        if self.held is not None:
            made["held"] = self.held.to_json()
        if self.link is not None:
            made["link"] = self.link.to_json()
        return made


_NAMES = tuple(field.name for field in fields(Request))
_KNOWN = frozenset(_NAMES)
_RARE = attrgetter("reference", "confidence", "radio", "max_bytes", "max_macs", "inferences", "held", "link", "prefer")
_NOTHING = (None,) * 9
_PLAIN = frozenset({"deadline_s", "throughput_bps", "rtt_s", "min_quality", "confidence"})  # as they are in JSON
_NUMBERS: tuple[tuple[str, float | None, float | None], ...] = (  # name, the least allowed, what it must lie above
    ("deadline_s", None, 0.0),
    ("throughput_bps", _SLOWEST_BPS, None),
    ("max_energy_j", None, 0.0),
    ("rtt_s", 0.0, None),
    ("min_quality", None, None),
    ("confidence", None, 0.0),
)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _refuse_unknown(data: Mapping[Any, Any], known: tuple[str, ...], prefix: str) -> None:
    for name in data:
        if name not in known:
            raise RequestError(f"{prefix}{printable(name)}", f"is no field of a request; there are {', '.join(known)}")


def _check_reference(value: object) -> None:
    if value is None or is_digest(value) or (isinstance(value, str) and _TAG.fullmatch(value)):
        return
    raise RequestError("reference", f"must be a tag or a digest, not {_shown(value)}")


def _is_number(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and (not isinstance(value, float) or isfinite(value))


def _check_number(name: str, value: object, *, least: float | None = None, above: float | None = None) -> None:
    # What JSON gives is a float or an int itself; everything else is looked at more closely.
    kind = type(value)
    if not (isfinite(value) if kind is float else kind is int or _is_number(value)):  # type: ignore[arg-type]
        raise RequestError(name, f"must be a finite number, not {_shown(value)}")
    assert isinstance(value, (int, float))
    if above is not None and value <= above:
        raise RequestError(name, f"must be above {above:g}, not {_shown(value)}")
    if least is not None and value < least:
        raise RequestError(name, f"must be at least {least:g}, not {_shown(value)}")
    if abs(value) > _LARGEST:
        raise RequestError(name, f"must be at most {_LARGEST:.0e}, not {_shown(value)}")
