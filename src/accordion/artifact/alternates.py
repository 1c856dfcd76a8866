"""Alternates: other, smaller forms of single layers, for devices that can read them. Nobody needs one.

An alternate is a layer after all that configurations need. It becomes, without any loss, the one file of the weights layer that it
stands for, whose path, size and digest stand in the manifest; so whoever signed that has vouched for the outcome too. Between the
alternates, layers of graphs may occur again, so that who takes the alternates finds all in one piece of the stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from accordion.artifact.archive import unpacked_limit
from accordion.artifact.digest import check_digest
from accordion.artifact.paths import check_path
from accordion.errors import FormatError

if TYPE_CHECKING:
    from accordion.artifact.manifest import Descriptor

__all__ = ["ALTERNATE", "DIGEST", "OF", "SIZE", "Alternate", "is_alternate", "read_alternates"]

ALTERNATE = "application/vnd.accordion.alternate.v1+"  # followed by the name of the encoding
OF = "vnd.accordion.alternate.of"  # annotation: the digest of the layer that it stands for
DIGEST = "vnd.accordion.alternate.digest"  # … and of that layer's file, where the layer is an archive around it
SIZE = "vnd.accordion.alternate.size"  # … its size, in bytes
_WEIGHT_RAW = "application/vnd.cncf.model.weight.v1.raw"
_WEIGHT_TAR_ZSTD = "application/vnd.cncf.model.weight.v1.tar+zstd"
_FILEPATH = "org.cncf.model.filepath"


@dataclass(frozen=True, slots=True)
class Alternate:
    """Stands for the layer with the digest `of`; once decoded it is the file at `path`, with this digest and size in bytes."""

    encoding: str
    of: str
    path: str
    digest: str
    size: int


def is_alternate(media_type: str) -> bool:
    """Whether a layer of this type is an alternate, of whatever encoding."""
    return media_type.startswith(ALTERNATE) and len(media_type) > len(ALTERNATE)


def read_alternates(layers: Sequence[Descriptor]) -> dict[int, Alternate]:
    """The alternates among a manifest's layers by index, unknown encodings too.

    FormatError if one says of itself what can't be: it stands for no weights layer before it, or for one that has such an
    alternate already, or the file is other than the layer.
    """
    weights: dict[str, Descriptor] = {}
    found: dict[int, Alternate] = {}
    taken: set[tuple[str, str]] = set()
    for index, layer in enumerate(layers):
        if layer.media_type in (_WEIGHT_RAW, _WEIGHT_TAR_ZSTD):
            weights[layer.digest] = layer
        elif is_alternate(layer.media_type):
            made = _read(layer, weights, f"layer {index}, an alternate,")
            if (made.encoding, made.of) in taken:
                raise FormatError(f"layer {index} is a second {made.encoding} alternate of the same layer")
            taken.add((made.encoding, made.of))
            found[index] = made
    return found


def _read(layer: Descriptor, weights: dict[str, Descriptor], what: str) -> Alternate:
    notes = layer.annotations
    plain = weights.get(check_digest(notes.get(OF), f"{what} '{OF}'"))
    if plain is None:
        raise FormatError(f"{what} stands for {notes[OF]}, which is no layer of weights before it")
    encoding = layer.media_type.removeprefix(ALTERNATE)
    if plain.media_type == _WEIGHT_RAW:
        if {DIGEST, SIZE, _FILEPATH} & notes.keys():
            raise FormatError(f"{what} describes a file of its own, but stands for a layer that is one")
        return Alternate(encoding, plain.digest, str(plain.annotations.get(_FILEPATH)), plain.digest, plain.size)
    size = notes.get(SIZE, "")
    if not (size.isascii() and size.isdecimal() and len(size) <= 13 and int(size) <= unpacked_limit(plain.size)):
        raise FormatError(f"{what} has the file size {size!r:.40}, which its layer can't have")
    path = check_path(notes.get(_FILEPATH), what)
    return Alternate(encoding, plain.digest, path, check_digest(notes.get(DIGEST), f"{what} '{DIGEST}'"), int(size))
