"""A model folder on disk: what is there, what is missing, and changes that happen whole or not at all.

While another version arrives it is a folder of its own, `.next`, beside the running one, whose place it takes in one step (see
`exchange`).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from accordion.artifact.alternative import Alternative
from accordion.artifact.atomic import write_file
from accordion.artifact.digest import file_digest, sha256_digest
from accordion.artifact.graph import GRAPH_LIMIT, check_graph
from accordion.artifact.ladder import LADDER_LIMIT, Configuration, Ladder
from accordion.artifact.manifest import (
    FILEPATH,
    LADDER_JSON,
    LADDER_PATH,
    MANIFEST_LIMIT,
    RAW,
    WEIGHT_RAW,
    WEIGHT_TAR_ZSTD,
    Descriptor,
    Manifest,
)
from accordion.artifact.paths import check_unique
from accordion.artifact.weights import SegmentFile, Weights
from accordion.device.disk import delete, file_stamp, is_full, place_file
from accordion.device.exchange import INCOMING, NEXT, decide, finish_exchange, read_bounded, settle
from accordion.device.layers import Incoming, keep_packed, layer_files, place_layer
from accordion.device.state import STATE_LIMIT, FileEntry, State, packed_path
from accordion.errors import ContentError, DigestError, FormatError, StorageError, UnmeetableError, UsageError
from accordion.trust.proof import PROOF, PROOF_LIMIT, Proof

__all__ = ["INCOMING", "Store"]


class Store:
    """One version in a folder. Everything that changes it needs `accordion.device.lock.locked` around it.

    `provable`: the manifest is signed, and every file must follow from it. Layers that come packed are then kept as they came too.
    """

    def __init__(self, root: Path, manifest: Manifest, state: State) -> None:
        self.root, self.manifest, self.state = root, manifest, state
        self.provable = False
        self._proven: set[str] = set()  # layers whose files are known to be what the manifest promises
        self._seen = Weights()  # what graphs of this version were already seen to read and compute; files are never changed
        self._ladder: tuple[tuple[int, ...], Ladder] | None = None  # with what identifies the file that it was read from
        self._saved: bytes | None = None  # the state as this object wrote it last
        self._placed: list[Path] = []  # what layers came from that the written state does not know yet

    @classmethod
    def open(cls, root: Path) -> Store:
        """What is there. UsageError if that is no model, ContentError if it is a broken one.

        A reader meets another process, or what a killed one left, in the middle of an exchange of versions: then it waits for the
        end of that, or brings it about.
        """
        if not root.is_dir():
            raise UsageError(f"there is no model folder {root}")
        settle(root)
        with suppress(ContentError):
            return cls._load(root)
        settle(root)
        return cls._load(root)

    @classmethod
    def _load(cls, root: Path) -> Store:
        if not (root / "state.json").is_file() and not (root / "manifest.json").is_file():
            raise UsageError(f"{root} is no model folder: it has no state.json")
        state = State.parse(read_bounded(root / "state.json", STATE_LIMIT), str(root / "state.json"))
        manifest = Manifest.parse(read_bounded(root / "manifest.json", MANIFEST_LIMIT), digest=state.manifest)
        return cls(root, manifest, state)

    @classmethod
    def begin(cls, root: Path, manifest: Manifest, *, name: str, url: str, reference: str | None) -> Store:
        """A folder for this version, going on with what is there of it; anything else in it is of no use any more."""
        before = None
        with suppress(ContentError):
            before = State.parse(read_bounded(root / "state.json", STATE_LIMIT), str(root / "state.json"))
        if before is not None and before.manifest == manifest.digest:
            write_file(root / "manifest.json", manifest.raw)  # perhaps it alone was broken
            return cls(root, manifest, replace(before, name=name, url=url, reference=reference))
        made = cls(root, manifest, State(name, url, reference, manifest.digest, None, 0))
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"can't write {root}: {error.strerror or error}") from error
        write_file(root / "manifest.json", manifest.raw)
        made.save()
        made._clear(before)
        return made

    def _clear(self, before: State | None) -> None:
        """Deletes what another version left of which nothing ever ran: its files, and what had arrived of others."""
        wanted = {layer.digest.removeprefix("sha256:") for layer in self.manifest.layers}
        left = [place for place in (self.root / INCOMING).glob("*") if place.name not in wanted]
        places = {layer.path for layer in self.manifest.layers}  # where a file may turn out to be this version's too
        left += [self.root / path for path in (before.files if before is not None else ()) if path not in places]
        with suppress(OSError):  # it is in nobody's way
            for place in left:
                delete(self.root, place)
            (self.root / PROOF).unlink(missing_ok=True)  # it vouches for the other version
            shutil.rmtree(self.root / NEXT, ignore_errors=True)

    def ladder(self) -> Ladder:
        """The ladder, checked. UnmeetableError if it has not arrived yet, ContentError if it is broken."""
        entry = self.state.files.get(LADDER_PATH)
        if entry is not None and entry.layer != self.manifest.layers[0].digest:
            raise FormatError(f"the ladder in {self.root} is another version's: fetch it again")
        if entry is None:
            raise UnmeetableError(f"{self.root} has no ladder yet, and nothing to run: fetch it again", limit="configuration")
        self.prove(1)
        signature = file_stamp(self.root / LADDER_PATH)
        if self._ladder is None or signature is None or self._ladder[0] != signature:
            self.check_file(LADDER_PATH)
            ladder = Ladder.parse(read_bounded(self.root / LADDER_PATH, LADDER_LIMIT))
            ladder.check_against(self.manifest)
            self._ladder = (signature or (), ladder)
        return self._ladder[1]

    def remember(self, other: Store) -> Store:
        """Of the same version, what `other` has seen of its graphs need not be looked at again. Returns this one."""
        if other.manifest.digest == self.manifest.digest:
            self._seen = other._seen
        return self

    def has(self, layer: Descriptor) -> bool:
        """Whether the files of a layer were put here."""
        return any(entry.layer == layer.digest for entry in self.state.files.values())

    def missing(self, count: int) -> list[int]:
        """Which of the first `count` layers are not here; of several with the same bytes the first, which brings them all."""
        have = {entry.layer for entry in self.state.files.values()}
        if self.provable:
            have -= {
                one.digest
                for one in self.manifest.layers
                if _is_packed(one) and packed_path(one.digest) not in self.state.files and not self._came_otherwise(one)
            }
        found: dict[str, int] = {}
        for index, layer in enumerate(self.manifest.layers[:count]):
            if layer.digest not in have:
                found.setdefault(layer.digest, index)
        return list(found.values())

    def prove(self, count: int) -> None:
        """DigestError unless the files of the first `count` layers are what the manifest promises, whatever `state.json` says.

        What an archive became can only be asked with `provable`, since the archive is kept then. What the files hold now,
        `check_file` says.
        """
        for layer in self.manifest.layers[:count]:
            self._prove_once(layer)

    def _prove_once(self, layer: Descriptor) -> None:
        if layer.digest not in self._proven and (self.provable or not _is_packed(layer)):
            self._prove(layer)
            self._proven.add(layer.digest)

    def _prove(self, layer: Descriptor) -> None:
        found = {path: entry for path, entry in self.state.files.items() if entry.layer == layer.digest}
        plain = FileEntry(layer.size, layer.digest, layer.digest)
        if self._came_otherwise(layer):
            sound = True
        elif not _is_packed(layer):
            sound = str(layer.path) in found and all(entry == plain for entry in found.values())
        else:
            source = packed_path(layer.digest)
            if found.get(source) != plain:
                raise DigestError(
                    f"{self.root}: nothing shows that {', '.join(found)} is what was signed; the next fetch repairs it"
                )
            self.check_file(source)
            promised = {source: plain}
            for path, data in layer_files(self.root / source, layer, source).items():
                if data is not None:
                    promised[path] = FileEntry(len(data), sha256_digest(data), layer.digest)
            sound = found == promised
        if not sound:
            promised_by = "signed" if self.provable else "promised"
            what = ", ".join(found) or layer.path
            raise DigestError(f"{self.root}: {what} is not what was {promised_by}; the next fetch repairs it")

    def _came_otherwise(self, layer: Descriptor) -> bool:
        """Whether what is here of a layer is the one file that the manifest itself says an alternate of it becomes."""
        others = [one for one in self.manifest.alternates.values() if one.of == layer.digest]
        stated = {one.path: FileEntry(one.size, one.digest, one.of) for one in others}
        return bool(stated) and {path: one for path, one in self.state.files.items() if one.layer == layer.digest} == stated

    def proof(self) -> Proof | None:
        """What is kept to vouch for the manifest; None where there is nothing. FormatError if it is broken."""
        path = self.root / PROOF
        return Proof.parse(read_bounded(path, PROOF_LIMIT), str(path)) if path.exists() else None

    def keep(self, proof: Proof) -> None:
        """Keeps what vouches for the manifest: from now on every file must follow from it."""
        write_file(self.root / PROOF, proof.to_bytes())
        self.provable = True

    def check_file(self, path: str) -> None:
        """DigestError unless a file is what arrived once."""
        entry = self.state.files[path]
        place = self.root / path
        if not place.is_file():
            raise DigestError(f"{place} is missing: fetch it again")
        try:
            sound = place.stat().st_size == entry.size and file_digest(place) == entry.sha256
        except FileNotFoundError as error:  # another process has just shed it
            raise DigestError(f"{place} is missing: fetch it again") from error
        except OSError as error:
            raise StorageError(f"can't read {place}: {error.strerror or error}") from error
        if not sound:
            raise DigestError(f"{place} is corrupt: it is not what was fetched; the next fetch repairs it")

    def check_configuration(self, ladder: Ladder, k: int) -> None:
        """ContentError unless all that configuration `k` needs is here and may run."""
        count = ladder.configurations[k].layers
        if missing := self.missing(count):
            raise DigestError(f"{self.root}: configuration {k} lacks layer {missing[0]}; the next fetch repairs it")
        self.prove(count)
        for path in self._paths_of(count):
            self.check_file(path)
        for late in self._late_here(ladder.configurations[k]):
            if (entry := self.state.files.get(late.graph)) is not None:
                self._prove_once(next(layer for layer in self.manifest.layers if layer.digest == entry.layer))
                self.check_file(late.graph)
        self.check_graph(ladder, k)

    def check_graph(self, ladder: Ladder, k: int) -> None:
        """FormatError unless the graphs of configuration `k` that are here keep the rules over the files that it has."""
        rung = ladder.configurations[k]
        there = self._paths_of(rung.layers)
        graphs = [rung.graph, *(one.graph for one in rung.alternatives_within(rung.layers))]
        if missing := [graph for graph in graphs if graph not in there]:
            raise FormatError(f"configuration {k}: the graph {missing[0]!r} is not among the layers that it needs")
        for late in self._late_here(rung):
            if late.graph not in self._paths_of(late.layers):
                raise FormatError(f"configuration {k}: the graph {late.graph!r} is not among the first {late.layers} layers")
            graphs.append(late.graph)
        weights = {
            layer.digest for layer in self.manifest.layers[: rung.layers] if layer.media_type in (WEIGHT_RAW, WEIGHT_TAR_ZSTD)
        }
        files = {path: SegmentFile.at(self.root / path) for path, entry in self.state.files.items() if entry.layer in weights}
        seen = Weights(files, self._seen.checked, self._seen.remembered)
        for graph in graphs:
            check_graph(read_bounded(self.root / graph, GRAPH_LIMIT), seen, graph, ladder.declared(k))

    def _late_here(self, rung: Configuration) -> list[Alternative]:
        """Its alternatives that came later than the configuration itself, and are here."""
        return [one for one in rung.late_alternatives() if not self.missing(one.layers)]

    def repair(self) -> list[str]:
        """Forgets layers whose files are no longer what arrived, so that they come again; says which files these were."""
        broken: dict[str, str] = {}
        for path, entry in self.state.files.items():
            try:
                self.check_file(path)
            except DigestError:
                broken[path] = entry.layer
        self._forget(broken)
        for layer in self.manifest.layers:
            if self.has(layer) and layer.digest not in broken.values() and (self.provable or not _is_packed(layer)):
                try:
                    self._prove(layer)
                except ContentError:
                    broken |= {path: layer.digest for path, entry in self.state.files.items() if entry.layer == layer.digest}
        self._forget(broken)
        return sorted(broken)

    def _forget(self, broken: Mapping[str, str]) -> None:
        """What these layers, by path, had brought; what is found whole all the same is taken up again."""
        gone = set(broken.values())
        self.state = replace(self.state, files={p: e for p, e in self.state.files.items() if e.layer not in gone})
        self._recover()

    def _places(self, layer: Descriptor) -> list[str]:
        """Where the manifest wants the bytes of a raw layer: a blob may stand at several paths."""
        return [str(one.path) for one in self.manifest.layers if one.digest == layer.digest and one.media_type in RAW]

    def incoming(self, index: int) -> Incoming:
        """Layer `index` on its way."""
        return Incoming(self.root / INCOMING, self.manifest.layers[index], f"layer {index}")

    def partial(self, index: int) -> int:
        """How many bytes of layer `index` have arrived earlier."""
        layer = self.manifest.layers[index]
        path = self.root / INCOMING / layer.digest.removeprefix("sha256:")
        size = path.stat().st_size if path.is_file() else 0
        return size if size <= layer.size else 0

    def add(self, index: int, source: Path) -> None:
        """Puts the verified layer at `source` in its place; `save` makes that last, and until then `source` stays if it is not
        the file itself. Of an alternate, `source` is the file that was made of it.

        FormatError, before anything is touched, if its content breaks a rule or would lie where another layer's does.
        """
        layer, alternate = self.manifest.layers[index], self.manifest.alternates.get(index)
        if alternate is not None:
            layer = Descriptor(WEIGHT_RAW, alternate.digest, alternate.size, {FILEPATH: alternate.path})
        digest = layer.digest if alternate is None else alternate.of
        found = layer_files(source, layer, f"layer {index}")
        others = [path for path, entry in self.state.files.items() if entry.layer != digest]
        check_unique([*others, *dict.fromkeys([*found, *self._places(layer)])])
        files = place_layer(source, layer, self.root, found)
        if layer.media_type in RAW:
            files |= self._everywhere(layer, str(layer.path), files[str(layer.path)])
        if alternate is not None:
            files = {path: replace(entry, layer=digest) for path, entry in files.items()}
        if self.provable and _is_packed(layer):
            files |= keep_packed(source, layer, self.root)
        self.state = replace(self.state, files={**self.state.files, **files})
        self._placed.append(source)

    def _everywhere(self, layer: Descriptor, path: str, entry: FileEntry) -> dict[str, FileEntry]:
        """The file at `path` also at the other places of its layer."""
        others = [other for other in self._places(layer) if other != path]
        try:
            for other in others:
                place_file(self.root / path, self.root / other)
        except OSError as error:
            raise StorageError(f"can't write into {self.root}: {error.strerror or error}") from error
        return dict.fromkeys(others, entry)

    def make_room(self, index: int) -> bool:
        """Deletes what has arrived, and is not in its place, of one layer after `index`: what is not whole first, then the last.

        False if there is nothing.
        """
        found = []
        for later, layer in enumerate(self.manifest.layers[index + 1 :], index + 1):
            place = self.root / INCOMING / layer.digest.removeprefix("sha256:")
            if place.is_file():
                found.append((place.stat().st_size < layer.size, later, place))
        if not found:
            return False
        max(found)[2].unlink(missing_ok=True)
        return True

    def withdraw(self, index: int) -> None:
        """Takes a layer that was added, and not saved yet, out of its place again."""
        layer, alternate = self.manifest.layers[index], self.manifest.alternates.get(index)
        digest = layer.digest if alternate is None else alternate.of
        going = [path for path, entry in self.state.files.items() if entry.layer == digest]
        self.state = replace(self.state, files={p: e for p, e in self.state.files.items() if p not in going})
        for path in going:
            delete(self.root, self.root / path)
        (self.root / INCOMING / layer.digest.removeprefix("sha256:")).unlink(missing_ok=True)

    def complete(self, ladder: Ladder) -> int | None:
        """The largest configuration all of whose layers are here."""
        missing = self.missing(len(self.manifest.layers))
        return ladder.complete_within(missing[0] if missing else len(self.manifest.layers))

    def save(self, configuration: int | None = None) -> None:
        """Writes the state; `configuration` is the largest complete one, left alone if None."""
        missing = self.missing(len(self.manifest.layers))
        count = missing[0] if missing else len(self.manifest.layers)
        kept = self.state.configuration if configuration is None else configuration
        state = replace(self.state, configuration=kept, layers_complete=count)
        content = state.to_bytes()
        if content != self._saved:
            write_file(self.root / "state.json", content)
            self._saved = content
        self.state = state
        while self._placed:
            self._placed.pop().unlink(missing_ok=True)

    def shed(self, ladder: Ladder, k: int) -> int:
        """Deletes what only configurations above `k` need; returns the bytes given back.

        On a full disk not even the new state can be written: there the first files go before it is.
        """
        count = ladder.configurations[k].layers
        kept = {layer.digest for layer in self.manifest.layers[:count]}
        going = {path for path, entry in self.state.files.items() if entry.layer not in kept}
        # Files that a killed fetch put in place without writing the state.
        going |= {str(layer.path) for layer in self.manifest.layers[count:] if layer.path and layer.path not in self.state.files}
        self.state = replace(self.state, files={p: e for p, e in self.state.files.items() if p not in going})
        waiting = [self.root / path for path in sorted(going, reverse=True)]
        freed = 0
        try:
            for place in (self.root / INCOMING).glob("*"):
                freed += delete(self.root, place)
            shutil.rmtree(self.root / NEXT, ignore_errors=True)
            while True:
                try:
                    self.save(k)
                    break
                except StorageError as error:
                    if not waiting or not is_full(error):
                        raise
                    freed += delete(self.root, waiting.pop(0))
            for place in waiting:
                freed += delete(self.root, place)
        except OSError as error:
            raise StorageError(f"can't delete in {self.root}: {error.strerror or error}") from error
        return freed

    def next_version(self, manifest: Manifest, *, name: str, url: str, reference: str | None) -> Store:
        """A folder for another version, with all that it has in common with this one."""
        self.save()  # with what was found beside it, which goes with this version
        made = Store.begin(self.root / NEXT, manifest, name=name, url=url, reference=reference)
        made.provable = self.provable
        files = dict(made.state.files)
        wanted = {layer.digest: layer for layer in manifest.layers}
        try:
            for path, entry in self.state.files.items():
                if entry.layer not in wanted:
                    continue
                # The other version may have the same bytes at another path.
                for target in made._places(wanted[entry.layer]) or [path]:
                    if target not in files:
                        self.check_file(path)
                        place_file(self.root / path, made.root / target)
                        files[target] = entry
        except OSError as error:
            raise StorageError(f"can't write {made.root}: {error.strerror or error}") from error
        made.state = replace(made.state, files=files)
        made.save()
        return made

    def exchange(self) -> Store:
        """Of a next version: takes the place of the running one. Returns the folder as it then is."""
        parent = self.root.parent
        old: list[str] = []
        with suppress(ContentError):
            old = list(Store._load(parent).state.files)
        decide(self.root, old)
        finish_exchange(parent)
        found = Store.open(parent)
        found.provable = self.provable
        return found

    def _paths_of(self, count: int) -> list[str]:
        layers = {layer.digest for layer in self.manifest.layers[:count]}
        return [path for path, entry in self.state.files.items() if entry.layer in layers]

    def _recover(self) -> None:
        """Segments that were put in place just before a kill are not fetched again, nor what is here at another path."""
        found = {}
        here = {entry.layer: path for path, entry in self.state.files.items()}
        for layer in self.manifest.layers:
            path = layer.path
            if layer.media_type not in RAW or path is None or path in self.state.files:
                continue
            place = self.root / path
            if place.is_file() and place.stat().st_size == layer.size and file_digest(place) == layer.digest:
                found[path] = FileEntry(layer.size, layer.digest, layer.digest)
            elif layer.digest in here:
                try:
                    place_file(self.root / here[layer.digest], place)
                except OSError as error:
                    raise StorageError(f"can't write {place}: {error.strerror or error}") from error
                found[path] = self.state.files[here[layer.digest]]
        if found:
            self.state = replace(self.state, files={**self.state.files, **found})


def _is_packed(layer: Descriptor) -> bool:
    """Whether a layer's files are something else than its bytes."""
    return layer.media_type not in (*RAW, LADDER_JSON)
