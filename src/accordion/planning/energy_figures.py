"""Every constant of the energy model, with its source and its range. There is no other place for one. docs/energy.md says which
sources were read, and which are known from others who quote them.

Three numbers each: what the model takes, and how far the sources (or, where they are silent, a sweep) reach to either side.
`swept` says that no published figure was found and the range is a sweep, not a measurement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "ACCELERATOR_J_PER_MAC",
    "ARITHMETIC_J",
    "BACKWARD_FACTOR",
    "BYTES_PER_VALUE",
    "DEFAULT_RADIO",
    "INSTRUCTION_J",
    "MEMORY_J_PER_BYTE",
    "RADIOS",
    "VECTOR_BITS",
    "Figure",
    "Radio",
]

HUANG = (
    "J. Huang, F. Qian, A. Gerber, Z. M. Mao, S. Sen, O. Spatscheck: A Close Examination of Performance and Power Characteristics "
    "of 4G LTE Networks. MobiSys 2012, power model"
)
NARAYANAN = (
    "A. Narayanan et al.: A Variegated Look at 5G in the Wild. SIGCOMM 2021; their measurements "
    "(SIGCOMM21-5G/artifact, Data-Transfer-Power/MN-Transfer, Verizon, downlink), fitted by us as power = base + slope x rate"
)
HOROWITZ = "M. Horowitz: Computing's Energy Problem (and what we can do about it). ISSCC 2014, figures for 45 nm and 0.9 V"
KAPLAN = "J. Kaplan et al.: Scaling Laws for Neural Language Models. arXiv 2001.08361, section 2.1: backward about twice forward"
A100 = "NVIDIA A100 Tensor Core GPU, data sheet (2020): 400 W (SXM), 19.5 TFLOPS float32, 156 TFLOPS TF32"


@dataclass(frozen=True, slots=True)
class Figure:
    """`value`, between `low` and `high`, in SI units."""

    value: float
    low: float
    high: float
    source: str
    swept: bool = False


@dataclass(frozen=True, slots=True)
class Radio:
    """A receiver: watts while it receives at all, joules for each bit, and joules of the tail, the time for which it stays awake
    after the last byte. The tail is the same whatever was sent, so plans leave it out."""

    name: str
    base_w: Figure
    bit_j: Figure
    tail_j: Figure


_NOTHING = Figure(0.0, 0.0, 0.0, "counted as nothing")

# Of Narayanan et al.'s seconds: base and slope are fitted to the means of their target rates; the low slope to all seconds, the
# high one is the line from the slowest to the fastest mean rate reached. The base is the whole telephone's, as measured; its low
# end leaves out what telephone and screen take anyway, which is put at the LTE base less Huang et al.'s (they subtract it):
# 2.719 W - 1.288 W = 1.431 W. The high end adds the 95th percentile of the residuals of the fit to all seconds.
_LTE = Radio(
    "lte",
    Figure(2.719, 1.288, 3.270, f"{NARAYANAN}; low end: {HUANG}, 1,288 mW"),
    Figure(15.02e-9, 11.54e-9, 51.97e-9, f"{NARAYANAN}; high end: {HUANG}, 51.97 mW/Mbps"),
    Figure(12.27, 0.0, 12.27, f"{HUANG}: 1,060 mW for 11.576 s; none where the network sends the telephone to sleep at once"),
)
_LOW_BAND = Radio(
    "5g-low",
    Figure(2.883, 1.452, 3.615, f"{NARAYANAN}, non-standalone low band"),
    Figure(15.36e-9, 11.54e-9, 15.72e-9, f"{NARAYANAN}, non-standalone low band"),
    Figure(12.27, 0.0, 12.27, f"as LTE, whose anchor it uses: {HUANG}", swept=True),
)
_MMWAVE = Radio(
    "5g-mmwave",
    Figure(5.221, 3.790, 5.936, f"{NARAYANAN}, non-standalone millimetre wave"),
    Figure(1.76e-9, 1.73e-9, 1.81e-9, f"{NARAYANAN}, non-standalone millimetre wave"),
    Figure(12.27, 0.0, 12.27, f"as LTE, whose anchor it uses: {HUANG}", swept=True),
)
_MID_BAND = Radio(
    "5g-mid",
    Figure(3.880, 1.452, 5.936, "no figure found: swept from low band to millimetre wave (geometric mean)", swept=True),
    Figure(5.20e-9, 1.73e-9, 15.72e-9, "no figure found: swept from millimetre wave to low band (geometric mean)", swept=True),
    Figure(12.27, 0.0, 12.27, "as low band", swept=True),
)
_WIFI = Radio(
    "wifi",
    Figure(0.1329, 0.1329, 1.564, f"{HUANG}, 132.86 mW; high end: with 1.431 W for telephone and screen, see above"),
    Figure(137.01e-9, 13.70e-9, 137.01e-9, f"{HUANG}, 137.01 mW/Mbps (802.11g); low end swept to a tenth for later standards"),
    Figure(0.0284, 0.0, 0.0284, f"{HUANG}: 119.3 mW for 238.1 ms"),
)
_NONE = Radio("none", _NOTHING, _NOTHING, _NOTHING)

RADIOS: Mapping[str, Radio] = {one.name: one for one in (_LTE, _LOW_BAND, _MID_BAND, _MMWAVE, _WIFI, _NONE)}
"""By the name that a request uses; `none` is a cable, or whoever wants inference alone counted."""

DEFAULT_RADIO = "lte"
"""Where nobody says: the one that most devices in reach of a network have, and the dearest for each byte at low rates but one."""

# One multiplication and one addition. Eyeriss, a whole accelerator chip, took 12 pJ a 16-bit MAC (Y.-H. Chen et al., JSSC 2017:
# the 666 M MACs of AlexNet's convolutional layers 35 times a second at 278 mW), eight times the arithmetic alone.
ARITHMETIC_J: Mapping[str, Figure] = {
    "float32": Figure(4.6e-12, 4.6e-12, 4.6e-12, f"{HOROWITZ}: multiply 3.7 pJ, add 0.9 pJ"),
    "float16": Figure(1.5e-12, 1.5e-12, 1.5e-12, f"{HOROWITZ}: multiply 1.1 pJ, add 0.4 pJ"),
    "int8": Figure(0.3e-12, 0.23e-12, 0.3e-12, f"{HOROWITZ}: multiply 0.2 pJ, add 0.1 pJ (32 bit) or 0.03 pJ (8 bit)"),
    "int4": Figure(0.15e-12, 0.08e-12, 0.3e-12, "no figure found: swept from a quarter of int8's to all of it", swept=True),
}

BYTES_PER_VALUE: Mapping[str, float] = {"float32": 4.0, "float16": 2.0, "int8": 1.0, "int4": 0.5}

INSTRUCTION_J = Figure(
    70e-12, 0.0, 70e-12, f"{HOROWITZ}: one instruction of a simple processor, 70 pJ; none where hardware is wired for the network"
)

VECTOR_BITS = 128
"""Numbers of this many bits share one instruction (Arm's NEON and the like); at the high end each has one of its own."""

MEMORY_J_PER_BYTE = Figure(
    162.5e-12, 1.25e-12, 325e-12, f"{HOROWITZ}: 1.3 to 2.6 nJ for 64 bits from DRAM; low end: 10 pJ for 64 bits from an 8 kB cache"
)

BACKWARD_FACTOR = Figure(3.0, 3.0, 3.0, f"{KAPLAN}: a training step is 3 forward passes")

ACCELERATOR_J_PER_MAC = Figure(
    82e-12,
    5.1e-12,
    410e-12,
    f"{A100}; float32 at half of the peak; low end: TF32 at the peak; high end: swept to a tenth of it",
)
"""For training: 400 W over the multiply-accumulates of a second, which are half of the operations."""
