"""Alternates for a version that has just been built: encoded, decoded again to see that nothing is lost, and counted."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from accordion.artifact import nnc
from accordion.artifact.add_alternates import add_alternates
from accordion.artifact.layout import Layout
from accordion.artifact.manifest import Manifest
from accordion.errors import AccordionError, UsageError
from accordion.units import format_bytes

__all__ = ["check_encoding", "with_alternates"]


def check_encoding(encoding: str) -> None:
    """UsageError for an unknown encoding, AccordionError if what makes it is not installed; nothing is imported."""
    if encoding != nnc.ENCODING:
        raise UsageError(f"{encoding!r:.40} is no encoding of alternates: there is {nnc.ENCODING}")
    if importlib.util.find_spec("nncodec") is None:
        raise AccordionError(f"the alternate {encoding} needs nncodec, which is not installed: {nnc.INSTALL}")


def with_alternates(layout: Layout, tag: str, encoding: str, progress: Callable[[str], None]) -> Manifest:
    """The version `tag` of `layout`, which holds it alone, with alternates wherever they are smaller.

    Errors as of `add_alternates`; AccordionError if the coder does not give back what went in.
    """
    check_encoding(encoding)
    before = layout.manifest(tag)
    made = add_alternates(layout, tag, encoding, _encode)
    if made.digest == before.digest:
        progress(f"no layer is smaller as {encoding}: the package has no alternates")
        return made
    for digest in {before.digest, before.config.digest} - {made.config.digest}:
        layout.blob_path(digest).unlink(missing_ok=True)
    sizes = {layer.digest: layer.size for layer in made.layers}
    plain = sum(sizes[one.of] for one in made.alternates.values())
    other = sum(made.layers[index].size for index in made.alternates)
    progress(f"{len(made.alternates)} layers of {format_bytes(plain)} are also there as {encoding}, in {format_bytes(other)}")
    return made


def _encode(segment: bytes) -> bytes:
    content = nnc.encode(segment)
    if nnc.decode(content, len(segment)) != segment:
        raise AccordionError("nncodec does not give back what went in: use another version of it, or leave the alternate out")
    return content
