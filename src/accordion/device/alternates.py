"""A delivery by alternates: which layers come in another form, and their way back to what they stand for."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from accordion.artifact.alternates import Alternate
from accordion.artifact.atomic import write_file
from accordion.artifact.manifest import GRAPHS_TAR_ZSTD, Manifest
from accordion.device.decoding import MOST_BYTES, Decoder, DecodingError
from accordion.device.ending import in_thread
from accordion.device.placing import Batch
from accordion.device.store import INCOMING, Store
from accordion.errors import StorageError

__all__ = ["Alternates", "route", "usable"]


def usable(manifest: Manifest, encoding: str) -> dict[str, int]:
    """Which layer, by its index, stands for the one with a digest: those that are smaller and not too large to decode."""
    sizes = {layer.digest: layer.size for layer in manifest.layers}
    return {
        one.of: index
        for index, one in manifest.alternates.items()
        if one.encoding == encoding and one.size <= MOST_BYTES and manifest.layers[index].size < sizes[one.of]
    }


def route(manifest: Manifest, wanted: list[int], encoding: str, plain: Collection[int] = ()) -> list[int]:
    """`wanted` layers, alternates in the place of those that have one and are not among `plain`, in the same order.

    Graphs that follow an alternate are taken from among the alternates, so that neighbours come in one piece.
    """
    found = usable(manifest, encoding)
    if not found:
        return wanted
    first = min(found.values())
    again = {
        layer.digest: first + offset for offset, layer in enumerate(manifest.layers[first:]) if layer.media_type == GRAPHS_TAR_ZSTD
    }
    made: list[int] = []
    for index in wanted:
        digest = manifest.layers[index].digest
        if index in plain:
            made.append(index)
            continue
        follows = bool(made) and made[-1] >= first
        made.append(found.get(digest, again.get(digest, index) if follows else index))
    return made


class Alternates:
    """Decodes what a delivery receives in this encoding. `left` says how many seconds the delivery has."""

    def __init__(self, encoding: str, left: Callable[[], float]) -> None:
        self.encoding, self._left = encoding, left
        self._decoder: Decoder | None = None

    def route(self, store: Store, wanted: list[int]) -> list[int]:
        """As the function; what has begun to come in its plain form goes on so. Starts the decoder if there is work for it."""
        made = route(store.manifest, wanted, self.encoding, [index for index in wanted if store.partial(index)])
        sizes = [store.manifest.alternates[index].size for index in made if index in store.manifest.alternates]
        if sizes and self._decoder is None:
            self._decoder = Decoder(self.encoding, max(one.size for one in store.manifest.alternates.values()))
        return made

    async def decode(self, store: Store, batch: Batch) -> tuple[Batch, DecodingError | None]:
        """The batch with files in the place of alternates, up to the first one that can't be decoded; and why it can't.

        When the deadline passes meanwhile, that is no reason: what was not decoded waits for the next time.
        """
        made: Batch = []
        for index, source in batch:
            alternate = store.manifest.alternates.get(index)
            if alternate is None:
                made.append((index, source))
                continue
            try:
                made.append((index, await in_thread(partial(self._decode, store.root, alternate, source))))
            except DecodingError as error:
                return made, None if self._left() <= 0 else error
        return made, None

    def _decode(self, root: Path, alternate: Alternate, source: Path) -> Path:
        if self._decoder is None:
            raise DecodingError("the decoder has ended")
        target = root / INCOMING / alternate.digest.removeprefix("sha256:")
        try:
            made = self._decoder.decode(source.read_bytes(), alternate, self._left())
            write_file(target, made, sync=False)
            source.unlink()
        except OSError as error:
            raise StorageError(f"can't read {source}: {error.strerror or error}") from error
        except DecodingError:
            self._decoder = None
            raise
        return target

    def discard(self, store: Store) -> None:
        """Nothing more is decoded: what has arrived to be decoded goes."""
        self.close()
        for index in store.manifest.alternates:
            (store.root / INCOMING / store.manifest.layers[index].digest.removeprefix("sha256:")).unlink(missing_ok=True)

    def close(self) -> None:
        """Ends the decoder."""
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None
