"""What a link may deliver, as values: constants, distributions, measured traces, estimates with their error. Pure, no I/O.

Every one is a `LinkModel`, so whoever plans, replays or trains asks the same questions of each.
"""

from accordion.planning.links.distribution import Distribution
from accordion.planning.links.formats import LinkError, link_from, parse_link_file, parse_mahimahi, to_mahimahi
from accordion.planning.links.model import ConstantLink, LinkModel, RateLink
from accordion.planning.links.trace import Trace, TraceLink

__all__ = [
    "ConstantLink",
    "Distribution",
    "LinkError",
    "LinkModel",
    "RateLink",
    "Trace",
    "TraceLink",
    "link_from",
    "parse_link_file",
    "parse_mahimahi",
    "to_mahimahi",
]
