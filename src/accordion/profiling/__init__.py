"""From a trained run to its ladder: quality with an exact interval, parameters, multiply-accumulates, latency."""

from accordion.profiling.cost import count_macs, count_parameters
from accordion.profiling.energy_meter import Meter, NoMeterError, open_meter, per_inference
from accordion.profiling.export import INPUT_NAME, OUTPUT_NAME, export_onnx
from accordion.profiling.interval import CLOPPER_PEARSON, clopper_pearson
from accordion.profiling.latency import Latency, measure, measure_in_turns
from accordion.profiling.lattice import measure_lattice
from accordion.profiling.path_search import Lattice, best_path, parse_objective, value_of
from accordion.profiling.profiler import Profile, measure_ladder, profile
from accordion.profiling.quality import quality_fields
from accordion.profiling.threads import one_thread

__all__ = [
    "CLOPPER_PEARSON",
    "INPUT_NAME",
    "OUTPUT_NAME",
    "Latency",
    "Lattice",
    "Meter",
    "NoMeterError",
    "Profile",
    "best_path",
    "clopper_pearson",
    "count_macs",
    "count_parameters",
    "export_onnx",
    "measure",
    "measure_in_turns",
    "measure_ladder",
    "measure_lattice",
    "one_thread",
    "open_meter",
    "parse_objective",
    "per_inference",
    "profile",
    "quality_fields",
    "value_of",
]
