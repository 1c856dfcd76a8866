"""What `fetch` and `upgrade` have in common: the link, what is told meanwhile, and the result."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accordion.artifact.atomic import write_file
from accordion.cli import options
from accordion.cli.answers import top
from accordion.cli.console import Console, Context, document
from accordion.cli.inputs import read_inputs
from accordion.cli.limits import link_from
from accordion.cli.table import quality_text
from accordion.cli.trusting import add_trust, trust_from
from accordion.device import Delivery, Link, Model, Observer
from accordion.errors import AccordionError, UsageError
from accordion.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from accordion.trust import Trust

__all__ = ["add_transfer", "deliver"]


def add_transfer(parser: argparse.ArgumentParser) -> None:
    """Options about the transfer itself."""
    group = parser.add_argument_group("transfer")
    group.add_argument("--limit-rate", type=options.bits_per_second, metavar="RATE", help="shape the transfer to this rate: 10Mbps")
    group.add_argument("--limit-rtt", type=options.seconds, metavar="TIME", help="add this round trip to every request: 50ms")
    group.add_argument(
        "--replay",
        metavar="TRACE[:ID]",
        help="shape the transfer as this measured trace went, in real time; it begins again at its end",
    )
    group.add_argument("--start", type=options.seconds, metavar="TIME", help="begin so far into the trace: 12s")
    group.add_argument(
        "--input", action="append", default=[], metavar="FILE", help="run each configuration on this as soon as it is whole"
    )
    group.add_argument(
        "--alternate",
        metavar="ENCODING",
        help="take layers in this smaller encoding where the package has it: nnc, for which nncodec must be installed",
    )
    add_trust(parser)
    group.add_argument("--timeline", type=Path, metavar="FILE", help="write what happened when, for `accordion picture timeline`")


def deliver(arguments: argparse.Namespace, context: Context, start: Callable[..., Delivery], folder: Path) -> int:
    """Carries the delivery out and says what it brought."""
    trust = trust_from(arguments)
    watcher = _Watcher(folder, arguments.input, context, trust)
    if (target := arguments.timeline) is not None and not target.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {target.parent} for the timeline")
    if target is not None and target.is_dir():
        raise UsageError(f"{target} is a folder: name a file for the timeline")
    link = _shaped(arguments)
    observer = Observer(ready=watcher.ready, say=context.console.progress)
    delivery = start(
        link=link,
        believed=link_from(arguments),
        observer=observer,
        started=context.started,
        trust=trust,
        alternate=arguments.alternate,
    )
    watcher.finish()
    value = delivery.to_json()
    if target is not None:
        more = {
            "events": [{"seconds": seconds, "bytes": count} for seconds, count in delivery.events],
            "predictions": watcher.predictions,
            "deadline_s": arguments.deadline,
        }
        write_file(target, document({**value, **more}).encode())
    late = "" if delivery.deadline_met else "; the deadline passed before more was complete"
    lines = [
        f"configuration {delivery.configuration} of {delivery.name}: {quality_text(delivery.quality)}",
        f"{format_bytes(delivery.bytes_received)} received, {format_bytes(delivery.bytes_reused)} reused, "
        f"{format_seconds(delivery.seconds)}{late}",
    ]
    context.console.result(value, lines)
    return 0


def _shaped(arguments: argparse.Namespace) -> Link:
    """The link that the transfer is shaped to."""
    if arguments.replay is None:
        if arguments.start is not None:
            raise UsageError("--start says where a trace begins: name one with --replay")
        return Link(arguments.limit_rate, arguments.limit_rtt or 0.0)
    from accordion.link_files import read_traces

    if arguments.limit_rate is not None:
        raise UsageError("--replay shapes the transfer already: leave --limit-rate out")
    traces = read_traces(arguments.replay)
    if len(traces) > 1:
        raise UsageError(f"{arguments.replay} holds {len(traces)} traces: say which one, {arguments.replay}:{traces[0].name}")
    return Link(rtt_s=arguments.limit_rtt, trace=traces[0], start_s=arguments.start or 0.0)


class _Watcher:
    """Runs configurations on the user's input while the next ones arrive, and tells what they say."""

    def __init__(self, folder: Path, inputs: list[str], context: Context, trust: Trust | None) -> None:
        self.folder, self.inputs, self.context, self.trust = folder, inputs, context, trust
        self.console: Console = context.console
        self.predictions: list[dict[str, Any]] = []
        self._last = -1
        for text in inputs:
            path = Path(text.partition("=")[2] or text)
            if not path.is_file() and not Path(text).is_file():
                raise UsageError(f"there is no file {text}")
        self._model: Any = None
        self._waiting: list[int] = []
        self._thread: asyncio.Task[None] | None = None

    async def ready(self, k: int, seconds: float) -> None:
        """Tells of it at once; the inference goes on beside the transfer, the newest configuration first."""
        self._last = k
        if not self.inputs:
            self.console.progress(f"configuration {k} is ready after {format_seconds(seconds)}")
            return
        self._waiting.append(k)
        if self._thread is None or self._thread.done():
            self._thread = asyncio.create_task(self._work())

    def finish(self) -> None:
        """After the transfer: what has not been run yet and still matters."""
        if self.inputs and (not self.predictions or self.predictions[-1]["configuration"] != self._last):
            self._predict()

    async def _work(self) -> None:
        while self._waiting:
            self._waiting.clear()
            await asyncio.to_thread(self._predict)

    def _predict(self) -> None:
        try:
            if self._model is None:
                self._model = Model.open(self.folder, trust=self.trust)
            k = self._model.refresh()
            if k is None:
                return
            ladder = self._model.ladder
            arrays = read_inputs(self.inputs, ladder.inputs_of(k))
            spec = ladder.outputs_of(k)[0]
            logits = self._model.run(arrays, k)[spec.name]
        except AccordionError as error:
            self.console.progress(f"can't run what has arrived: {error}")
            return
        seconds = self.context.elapsed_s()
        if not spec.labels or logits.ndim != 2 or logits.shape[1] != len(spec.labels):
            self.console.progress(f"configuration {k} answered after {format_seconds(seconds)}")
            return
        rows = top(logits, spec.labels)
        self.console.progress(f"{format_seconds(seconds):>8}  configuration {k:2d}:  {' '.join(label for label, _ in rows)}")
        self.predictions.append(
            {
                "seconds": seconds,
                "configuration": k,
                "labels": [label for label, _ in rows],
                "confidence": [share for _, share in rows],
            }
        )
