"""What a link may deliver, as values: constants, distributions, measured traces, estimates with their error. Pure, no I/O.

Every one is a `LinkModel`, so whoever plans, replays or trains asks the same questions of each.
"""

from accordion.planning.links.distribution import Distribution
from accordion.planning.links.estimated import ErrorTable, EstimatedLink
from accordion.planning.links.estimators import ESTIMATORS, Estimate, Estimator, HarmonicMean, MinEwma
from accordion.planning.links.formats import LinkError, link_from, parse_link_file, parse_mahimahi, to_mahimahi
from accordion.planning.links.model import ConstantLink, LinkModel, RateLink
from accordion.planning.links.trace import Trace, TraceLink

__all__ = [
    "ESTIMATORS",
    "ConstantLink",
    "Distribution",
    "ErrorTable",
    "Estimate",
    "EstimatedLink",
    "Estimator",
    "HarmonicMean",
    "LinkError",
    "LinkModel",
    "MinEwma",
    "RateLink",
    "Trace",
    "TraceLink",
    "link_from",
    "parse_link_file",
    "parse_mahimahi",
    "to_mahimahi",
]
