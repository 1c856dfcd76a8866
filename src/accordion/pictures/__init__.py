"""Pictures drawn from data: error against bytes, timelines, policies, orders, the lattice of depth and precision; none measures."""

from accordion.pictures.error_bytes import draw_error_against_bytes
from accordion.pictures.lattice import LatticePicture, draw_lattice, read_lattice
from accordion.pictures.orders import draw_orders
from accordion.pictures.policy import draw_policy
from accordion.pictures.timeline import draw_timeline
from accordion.pictures.timeline_data import Prediction, Timeline, read_timeline

__all__ = [
    "LatticePicture",
    "Prediction",
    "Timeline",
    "draw_error_against_bytes",
    "draw_lattice",
    "draw_orders",
    "draw_policy",
    "draw_timeline",
    "read_lattice",
    "read_timeline",
]
