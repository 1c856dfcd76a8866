"""A model folder that answers: all of it or a fraction, while it grows, shrinks or changes to another version."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from accordion.artifact.alternative import FLOAT_KERNELS
from accordion.artifact.ladder import Ladder
from accordion.artifact.manifest import Manifest
from accordion.device.inputs import check_range
from accordion.device.lock import locked
from accordion.device.rebuilding import Rebuilder
from accordion.device.sessions import make_session
from accordion.device.store import Store
from accordion.device.yielding import yielding
from accordion.errors import AccordionError, ContentError, DigestError, FormatError, StorageError, UnmeetableError, UsageError
from accordion.planning.energy import ladder_j
from accordion.trust import Trust
from accordion.units import whole_number

if TYPE_CHECKING:  # it takes long to import: a transfer can begin meanwhile
    import onnxruntime

__all__ = ["Model", "shed", "verify_model"]

Array = NDArray[Any]
SESSIONS = 2  # kept at once: of what answers, and of what answers next
CHANGES = 3  # of a folder by others, while one configuration is being made ready, that are borne


class Model:
    """`manifest`, `ladder` and `configuration` (the largest complete one, None before the first) say what is there.

    `warnings` are for people: a line each on what this device last heard of the model's signers, where it trusts by rules.

    Safe to use from several threads. An inference under way keeps the session that it began with, so `refresh` never disturbs it,
    and one thread may make a session (`prepare`, `advance`) while others answer from those that are there.
    """

    def __init__(
        self, store: Store, ladder: Ladder, threads: int, trust: Trust | None, warnings: tuple[str, ...], sessions: int = SESSIONS
    ) -> None:
        self._store, self.ladder, self._threads, self._most = store, ladder, threads, max(1, sessions)
        self._trust, self.warnings = trust, warnings
        self._rebuilder = Rebuilder(store.root)
        self._beside = False  # whether its sessions are made beside answers, and give way to them
        # The least recently used first.
        self._sessions: dict[tuple[int, str], onnxruntime.InferenceSession] = {}
        self._lock = threading.Lock()  # around a glance at the sessions: who answers never waits for longer
        self._making = threading.Lock()  # around making one, and around changing the version; taken before the other

    @classmethod
    def open(cls, path: Path | str, *, threads: int = 0, sessions: int = SESSIONS, trust: Trust | None = None) -> Model:
        """A folder as `fetch` makes it; `threads` for one inference, 0 for one a core. `trust` is what this device trusts; left
        out, what it is configured to.

        Of the configurations that have run, the last `sessions` stay ready; more cost memory, and save the time of making them anew
        for a program that goes back and forth between more.

        Raises:
            UsageError: there is no model.
            UnmeetableError: not even its ladder has arrived.
            ContentError: what is there is broken, or not signed as this device wants it (SignatureError).
        """
        threads = whole_number(threads, "the number of threads", least=0)
        trust = trust or Trust.configured()
        # Where it is now, whatever becomes the working directory: a daemon changes that.
        store, ladder, warnings = _opened(Path(path).absolute(), trust)
        return cls(store, ladder, threads, trust, warnings, sessions)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The folder."""
        return self._store.root

    @property
    def manifest(self) -> Manifest:
        """The manifest of the version that is there."""
        return self._store.manifest

    @property
    def configuration(self) -> int | None:
        """The largest complete configuration."""
        return self._store.complete(self.ladder)

    def refresh(self) -> int | None:
        """Reads again what is there, after a fetch, an upgrade or a shed by anyone; returns `configuration`.

        Sessions of configurations that are the same as before stay; those of another version are dropped. What has become the
        largest has no session yet: who runs it first waits for that. `advance` makes it before.
        """
        store, ladder, warnings = _opened(self.path, self._trust)
        with self._making, self._lock:
            return self._take(store.remember(self._store), ladder, warnings)

    def advance(
        self, *, max_macs: int | None = None, max_energy_j: float | None = None, kernels: str = FLOAT_KERNELS
    ) -> int | None:
        """As `refresh`, but what `run` would take then (as `choose` has it) is made ready first, and only then anything changes.

        Called in one thread while others answer: none of them waits, and all go on with what they had until the next one is ready.
        For so long there are two sessions. Returns the configuration that is ready; None if nothing is complete.

        Raises: what `prepare` raises; then nothing has changed.
        """
        with yielding(), self._making:
            for left in reversed(range(CHANGES)):
                store, ladder, warnings = _opened(self.path, self._trust)
                following = Model(store.remember(self._store), ladder, self._threads, self._trust, warnings)
                following._beside = True
                if store.manifest.digest == self._store.manifest.digest:
                    following._rebuilder = self._rebuilder  # what it has made is of use for the next one
                k, session = None, None
                try:
                    if following.configuration is not None:
                        k = following.choose(max_macs=max_macs, max_energy_j=max_energy_j)
                        if (session := self._kept(store, k, kernels)) is None:
                            self._make_room(1)
                            session = following._made(k, kernels)
                    break
                except (ContentError, StorageError):
                    self._rebuilder = Rebuilder(self.path)  # what it keeps may be of a version that came meanwhile
                    if not left or Store.open(self.path).state == store.state:
                        raise
            with self._lock:
                changed = store.manifest.digest != self._store.manifest.digest
                self._take(store, ladder, warnings)
                if changed:
                    self._rebuilder = following._rebuilder
                if k is not None and session is not None:
                    self._sessions[k, kernels] = session
            return k

    def _take(self, store: Store, ladder: Ladder, warnings: tuple[str, ...]) -> int | None:
        """What is there from now on, without the sessions of what is there no more. Both locks are held."""
        if store.manifest.digest != self._store.manifest.digest:
            self._sessions, self._rebuilder = {}, Rebuilder(store.root)
        self._store, self.ladder, self.warnings = store, ladder, warnings
        complete = self.configuration
        self._sessions = {key: s for key, s in self._sessions.items() if complete is not None and key[0] <= complete}
        return complete

    def choose(self, configuration: int | None = None, *, max_macs: int | None = None, max_energy_j: float | None = None) -> int:
        """The configuration that would run: the one asked for, else the best complete one within `max_macs` and `max_energy_j`.

        `max_energy_j` bounds the joules of one inference, as `accordion.planning.energy.ladder_j` has them.

        Raises:
            UsageError: there is no such configuration.
            UnmeetableError: it is not complete here, or none keeps the limit.
        """
        complete = self.configuration
        if configuration is not None and not 0 <= configuration < len(self.ladder):
            raise UsageError(f"there is no configuration {configuration}: this model has 0 to {len(self.ladder) - 1}")
        if complete is None:
            raise UnmeetableError(f"{self.path} has no complete configuration yet: fetch it", limit="configuration")
        if configuration is not None:
            if configuration > complete:
                raise UnmeetableError(
                    f"configuration {configuration} is not here, {complete} is the largest: `accordion upgrade` fetches the rest",
                    limit="configuration",
                )
            return configuration
        rungs = self.ladder.configurations[: complete + 1]
        if max_macs is None and max_energy_j is None:
            return complete
        fitting = [rung for rung in rungs if max_macs is None or rung.macs <= max_macs]
        if not fitting:
            least = min(rung.macs for rung in rungs)
            raise UnmeetableError(
                f"no configuration here runs in {max_macs} multiply-accumulates: the least is {least}", limit="max_macs"
            )
        if max_energy_j is not None:
            joules = ladder_j(self.ladder)
            frugal = [rung for rung in fitting if joules[rung.index].value <= max_energy_j]
            if not frugal:
                needed = min(joules[rung.index].value for rung in fitting)
                raise UnmeetableError(
                    f"no configuration here runs with {max_energy_j:g} J: the least is {needed:.3g} J", limit="max_energy_j"
                )
            fitting = frugal
        return _best(fitting)

    def choose_within(self, seconds: float, *, kernels: str | None = None, max_macs: int | None = None) -> tuple[int, str]:
        """The complete configuration and the kernels with the best measured quality whose inference took `seconds` at most.

        What it took is the median that the ladder states for the machine where it was measured; another machine may be faster or
        slower. `kernels` leaves only these; of equal qualities the faster is taken.

        Raises:
            UsageError: the ladder states no times, or none for these kernels.
            UnmeetableError: nothing is complete, or nothing is so fast.
        """
        complete = self.choose()
        held = self.ladder.configurations[complete].layers
        found = []
        for rung in self.ladder.configurations[: complete + 1]:
            if max_macs is not None and rung.macs > max_macs:
                continue
            for name, quality, extra in (
                (FLOAT_KERNELS, rung.quality, rung.extra),
                *((one.kernels, one.quality, one.extra) for one in rung.alternatives_within(held)),
            ):
                if kernels in (None, name) and (took := _latency_s(extra)) is not None:
                    sign = 1 if quality.direction == "higher" else -1
                    found.append((sign * quality.value, -took, rung.index, name))
        if not found:
            which = "" if kernels is None else f" for {kernels} kernels"
            raise UsageError(f"the ladder of {self.path} states no inference times{which}: choose by --max-macs")
        fast = [row for row in found if -row[1] <= seconds]
        if not fast:
            least = min(-row[1] for row in found)
            raise UnmeetableError(
                f"no configuration here was measured to run in {seconds * 1e3:.3g} ms: the least is {least * 1e3:.3g} ms",
                limit="max_latency_s",
            )
        _, _, k, name = max(fast)
        return k, name

    def kernels(self, k: int) -> tuple[str, ...]:
        """The ways in which configuration `k` can be run with what is here: `float`, and what else its ladder names. UsageError if
        there is no such configuration."""
        if not 0 <= k < len(self.ladder):
            raise UsageError(f"there is no configuration {k}: this model has 0 to {len(self.ladder) - 1}")
        rung, complete = self.ladder.configurations[k], self.configuration
        held = rung.layers if complete is None else self.ladder.configurations[complete].layers
        return (FLOAT_KERNELS, *(one.kernels for one in rung.alternatives_within(max(held, rung.layers))))

    def run(
        self,
        inputs: Mapping[str, Array] | Array,
        configuration: int | None = None,
        *,
        max_macs: int | None = None,
        max_energy_j: float | None = None,
        kernels: str = FLOAT_KERNELS,
    ) -> dict[str, Array]:
        """The outputs by name, of the configuration that `choose` names. A single array is the first input.

        Raises:
            ContentError: a file is not what was fetched; it does not run.
            UsageError: the inputs don't fit, or hold values beyond the ladder's range; the configuration has no such kernels.
        """
        k, session, ladder = self._prepared(configuration, max_macs, max_energy_j, kernels)
        specs = ladder.inputs_of(k)
        feed = dict(inputs) if isinstance(inputs, Mapping) else {specs[0].name: inputs}
        try:
            given = {name: np.asarray(value) for name, value in feed.items()}
        except ValueError as error:  # rows of different lengths
            raise UsageError(f"what was given is no array: {_first_line(error)}") from error
        for spec in specs:
            if spec.name in given:
                check_range(given[spec.name], spec, f"what was given for {spec.name!r}")
        names = [output.name for output in session.get_outputs()]
        try:
            found = session.run(names, given)
        except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
            raise UsageError(f"configuration {k} can't take these inputs: {_first_line(error)}") from error
        return dict(zip(names, found, strict=True))

    def prepare(
        self,
        configuration: int | None = None,
        *,
        max_macs: int | None = None,
        max_energy_j: float | None = None,
        kernels: str = FLOAT_KERNELS,
    ) -> int:
        """As `choose`, with the session made, so that the next `run` takes no longer than inference does.

        Where another process has meanwhile put another version in this one's place, or shed of it, it goes on with what is there.
        """
        return self._prepared(configuration, max_macs, max_energy_j, kernels)[0]

    def _prepared(
        self, configuration: int | None, max_macs: int | None, max_energy_j: float | None, kernels: str
    ) -> tuple[int, onnxruntime.InferenceSession, Ladder]:
        """A configuration, its session, and the ladder of the version that both are of."""
        for _ in range(CHANGES):
            with self._lock:
                store, ladder = self._store, self.ladder
            k = self.choose(configuration, max_macs=max_macs, max_energy_j=max_energy_j)
            try:
                session = self.session(k, kernels)
                if self._store.manifest.digest == store.manifest.digest:
                    return k, session, ladder
            except (ContentError, StorageError, UnmeetableError, UsageError):
                if self._store is not store:
                    continue  # another thread has refreshed since `k` was chosen: choose again
                if Store.open(self.path).state == store.state:
                    raise
                self.refresh()
        ladder = self.ladder
        k = self.choose(configuration, max_macs=max_macs, max_energy_j=max_energy_j)
        return k, self.session(k, kernels), ladder

    def session(self, k: int, kernels: str = FLOAT_KERNELS) -> onnxruntime.InferenceSession:
        """The ONNX Runtime session of configuration `k`, made when first asked for.

        Raises:
            ContentError: a file can't be trusted.
            UsageError: the configuration has no such kernels.
            UnmeetableError: the graph for these kernels comes with a later configuration, which is not here.
        """
        if (session := self._kept(self._store, k, kernels)) is not None:
            return session
        with self._making:
            if (session := self._kept(self._store, k, kernels)) is None:
                self._make_room(0)
                session = self._made(k, kernels)
                with self._lock:
                    self._sessions[k, kernels] = session
            return session

    def _kept(self, store: Store, k: int, kernels: str) -> onnxruntime.InferenceSession | None:
        """The session, if there is one of this version; it was used last from now on."""
        with self._lock:
            if store.manifest.digest != self._store.manifest.digest:
                return None
            if (session := self._sessions.pop((k, kernels), None)) is not None:
                self._sessions[k, kernels] = session
            return session

    def _make_room(self, keep: int) -> None:
        """Lets sessions go before the next one is made, so that memory never holds one more; at least `keep` are left."""
        going = []
        with self._lock:
            while len(self._sessions) > max(keep, self._most - 1):
                going.append(self._sessions.pop(next(iter(self._sessions))))
        going.clear()

    def _made(self, k: int, kernels: str) -> onnxruntime.InferenceSession:
        """A new session. No other thread makes one meanwhile."""
        if not 0 <= k < len(self.ladder):
            raise UsageError(f"there is no configuration {k}: this model has 0 to {len(self.ladder) - 1}")
        rung = self.ladder.configurations[k]
        alternatives = {one.kernels: one for one in rung.alternatives}
        graphs = {FLOAT_KERNELS: rung.graph, **{name: one.graph for name, one in alternatives.items()}}
        if kernels not in graphs:
            raise UsageError(f"configuration {k} has no {kernels} kernels, only {', '.join(graphs)}")
        if kernels not in self.kernels(k):
            bringing = next(one.index for one in self.ladder.configurations if one.layers >= alternatives[kernels].layers)
            raise UnmeetableError(
                f"what runs configuration {k} by {kernels} kernels comes with configuration {bringing}: "
                f"`accordion upgrade {self.path} --to {bringing}` fetches it",
                limit="kernels",
            )
        self._store.check_configuration(self.ladder, k)
        session = self._load(k, graphs[kernels])
        # What was checked may have been another version's when it was read: two versions must never run as one.
        if Store.open(self.path).manifest.digest != self._store.manifest.digest:
            self._rebuilder = Rebuilder(self.path)  # what it keeps for the next one may be of the other version
            raise DigestError(f"another version took the place of this one in {self.path} while it was read")
        return session

    def close(self) -> None:
        """Lets the sessions go."""
        with self._lock:
            self._sessions, self._rebuilder = {}, Rebuilder(self.path)

    def _load(self, k: int, graph: str) -> onnxruntime.InferenceSession:
        try:
            return make_session(self.path, graph, self._rebuilder, self._threads, beside=self._beside)
        except AccordionError:
            raise
        except Exception as error:  # as above
            raise FormatError(f"ONNX Runtime does not load configuration {k}: {_first_line(error)}") from error


def _opened(path: Path, trust: Trust | None) -> tuple[Store, Ladder, tuple[str, ...]]:
    """A folder, its ladder and warnings, also while another process changes it. What `trust` does not vouch for is not read."""
    store = Store.open(path)
    try:
        return store, *_trusted(store, trust)
    except (ContentError, StorageError, UnmeetableError):  # a file may go between being seen and being read
        again = Store.open(path)
        if again.state == store.state:
            raise
        return again, *_trusted(again, trust)


def _trusted(store: Store, trust: Trust | None) -> tuple[Ladder, tuple[str, ...]]:
    warnings: tuple[str, ...] = ()
    if trust is not None:
        warnings = trust.vouch(store.state.name, store.manifest.digest, store.proof())
        store.provable = True
    return store.ladder(), warnings


def _best(rungs: Any) -> int:
    best = rungs[0]
    for rung in rungs[1:]:
        if rung.quality.better_than(best.quality):
            best = rung
    return int(best.index)


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:300] if lines else type(error).__name__


def shed(path: Path | str, to: int) -> tuple[int, int]:
    """Gives back the disk of what lies above configuration `to`; returns (configuration that is left, bytes given back).

    Raises:
        UsageError: no model, or no such configuration.
        UnmeetableError: configuration `to` is not complete here.
    """
    root, to = Path(path), whole_number(to, "the configuration to keep")
    Store.open(root)
    with locked(root):
        store = Store.open(root)
        ladder = store.ladder()
        if not 0 <= to < len(ladder):
            raise UsageError(f"there is no configuration {to}: this model has 0 to {len(ladder) - 1}")
        complete = store.complete(ladder)
        if complete is None or to > complete:
            raise UnmeetableError(f"configuration {to} is not complete in {root}", limit="configuration")
        return to, store.shed(ladder, to)


def _latency_s(extra: Mapping[str, Any]) -> float | None:
    """The median inference time that a ladder's row states; None where it states none, or nonsense."""
    fields = extra.get("latency_s")
    took = fields.get("median") if isinstance(fields, Mapping) else None
    if isinstance(took, bool) or not isinstance(took, int | float) or not 0 <= took < float("inf"):
        return None
    return float(took)


def verify_model(path: Path | str, *, trust: Trust | None = None) -> list[str]:
    """What is wrong with a model folder, a line each; empty if nothing is. UsageError if there is none, StorageError if a file
    can't be read.

    `trust` is what this device trusts; left out, what it is configured to.
    """
    try:
        store = Store.open(Path(path))
    except ContentError as error:
        return [str(error)]
    problems = []
    if (trust := trust or Trust.configured()) is not None:
        try:
            trust.vouch(store.state.name, store.manifest.digest, store.proof())
            store.provable = True
        except ContentError as error:
            problems.append(str(error))
    try:
        missing = store.missing(len(store.manifest.layers))
        store.prove(missing[0] if missing else len(store.manifest.layers))
    except ContentError as error:
        problems.append(str(error))
    for name in store.state.files:
        try:
            store.check_file(name)
        except ContentError as error:
            problems.append(str(error))
    try:
        ladder = store.ladder()
    except UnmeetableError as error:  # a fetch was cut off early: nothing is wrong with what is there
        return list(dict.fromkeys([*problems, *([] if store.state.configuration is None else [str(error)])]))
    except ContentError as error:
        return list(dict.fromkeys([*problems, str(error)]))
    stated = store.state.configuration
    if stated is not None:
        complete = store.complete(ladder)
        if complete is None or complete < stated:
            problems.append(f"state.json says that configuration {stated} is complete; it is not")
        for k in range((complete if complete is not None else -1) + 1):
            try:
                store.check_graph(ladder, k)
            except ContentError as error:
                problems.append(f"configuration {k}: {error}")
    return list(dict.fromkeys(problems))
