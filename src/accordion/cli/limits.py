"""The options that say what a caller wants and can bear, as a request."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from accordion.cli import options
from accordion.errors import UsageError
from accordion.planning.request import PREFERENCES, Held, Request

if TYPE_CHECKING:
    from accordion.planning.links import LinkModel

__all__ = ["add_limits", "link_from", "request_from"]


def add_limits(parser: argparse.ArgumentParser) -> None:
    """The same limits for `plan`, `fetch` and `upgrade`."""
    group = parser.add_argument_group("limits")
    group.add_argument("--deadline", type=options.seconds, metavar="TIME", help="when something must run, from the call on: 300ms")
    group.add_argument("--min-quality", type=options.number, metavar="Q", help="at least this good, in the metric's unit: 0.9")
    group.add_argument("--max-bytes", type=options.data, metavar="SIZE", help="send no more than this: 10MB")
    group.add_argument("--max-macs", type=options.count, metavar="N", help="multiply-accumulates for one input: 50e6")
    group.add_argument("--max-energy", type=options.number, metavar="JOULES", help="for receiving and for --inferences: 2.5")
    group.add_argument("--radio", metavar="NAME", help="what receives: lte (the default), 5g-low, 5g-mid, 5g-mmwave, wifi or none")
    group.add_argument("--inferences", type=options.count, metavar="N", help="how many inferences --max-energy is to last for (1)")
    group.add_argument(
        "--confidence",
        type=options.fraction,
        metavar="P",
        help="keep the deadline with this probability, under --link; hold --min-quality against the interval's worse end: 0.95",
    )
    group.add_argument(
        "--throughput",
        type=options.bits_per_second,
        metavar="RATE",
        help="what you believe of the link, such as 100Mbps; left out, 10Mbps",
    )
    group.add_argument(
        "--rtt",
        type=options.seconds,
        metavar="TIME",
        help="what you believe of its round trip, such as 50ms; left out, 0, which is hopeful",
    )
    group.add_argument(
        "--link",
        action="append",
        default=[],
        metavar="FILE[:ID]",
        help="what you know of the link instead: a link file, measured traces, speed tests, a Mahimahi trace; "
        "once more for a file of round trips",
    )
    group.add_argument(
        "--prefer", choices=PREFERENCES, help="what is scarce: of what is as good as the best, what needs least of it"
    )


def link_from(arguments: argparse.Namespace) -> LinkModel | None:
    """What `--link` describes, with `--rtt` where that is given too; None without it. UsageError for what makes no sense."""
    if not arguments.link:
        return None
    from accordion.link_files import read_link
    from accordion.planning.links.formats import with_round_trips

    if arguments.throughput is not None:
        raise UsageError("--link says what the link carries: leave --throughput out")
    link = read_link(*arguments.link)
    return link if arguments.rtt is None else with_round_trips(link, [arguments.rtt])


def request_from(arguments: argparse.Namespace, *, reference: str | None = None, held: Held | None = None) -> Request:
    """The request that the options make; UsageError where a value makes no sense."""
    return Request(
        reference=reference,
        deadline_s=arguments.deadline,
        throughput_bps=arguments.throughput,
        rtt_s=None if arguments.link else arguments.rtt,
        confidence=arguments.confidence,
        min_quality=arguments.min_quality,
        max_bytes=arguments.max_bytes,
        max_macs=arguments.max_macs,
        max_energy_j=arguments.max_energy,
        radio=arguments.radio,
        inferences=arguments.inferences,
        held=held,
        prefer=arguments.prefer,
    )
