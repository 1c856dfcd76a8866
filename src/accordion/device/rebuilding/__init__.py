"""Weights made of what was delivered: the part of a graph that hangs on no input, carried out in numpy before a session begins.

A runtime does this as well, node by node through its own machinery, and takes longer for it than for everything else of a session.
Here only what gives the same bits is taken over: whole numbers, casts to float32, single additions and multiplications. Everything
else stays in the graph. Two things make it fast. What operators do to single bytes is done once for the 256 values that a byte can
have, and looked up. And tensors laid one behind the other are not joined but stay pieces, each known by what it is made of: what
an earlier configuration made is not made again for the next one.
"""

from accordion.device.rebuilding.rebuilder import Rebuilder, Rebuilt

__all__ = ["Rebuilder", "Rebuilt"]
