"""From a profiled run to a package: graphs, segments, and the check that every prefix of it runs."""

from accordion.packaging.check import check_prefixes, lay_out_prefixes
from accordion.packaging.packager import package, package_network
from accordion.packaging.parts import Part, make_parts
from accordion.packaging.rounding import rounding

__all__ = ["Part", "check_prefixes", "lay_out_prefixes", "make_parts", "package", "package_network", "rounding"]
