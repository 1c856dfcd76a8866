"""Descriptors: how many connections a process has room for, and errors that mean that there are none left.

Each connection and each open file takes one. A server that runs out of them answers 404 for files that are there, so it is given no
more connections than there is room for.
"""

from __future__ import annotations

import errno
import resource
from contextlib import suppress

__all__ = ["CONNECTIONS", "NO_LIMIT", "lacking", "most_open", "needed", "places", "raise_limit"]

CONNECTIONS = 2048  # at once, unless the operator says otherwise
OWN = 64  # of the process itself: some twenty at rest, the others for threads that read, logs, and looks into folders
EACH = 2  # of a connection: its socket, and the file that is sent over it
EACH_FAR = 4  # … and the connections to a registry for it, along a redirect
NO_LIMIT = 2**30  # what "unlimited" counts for: more than any kernel gives
_NONE_LEFT = (errno.EMFILE, errno.ENFILE)


def most_open() -> int:
    """How many descriptors this process may have at most, once it has raised its own limit as far as it may."""
    return _number(resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def raise_limit() -> int:
    """Raises this process's limit as far as it may; how many descriptors it may have then. Its children inherit that."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # some kernels give less than they say
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return _number(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def needed(connections: int, *, far: bool = False) -> int:
    """Descriptors for so many connections to one process. `far`: some packages lie in registries."""
    return OWN + connections * (EACH_FAR if far else EACH)


def places(descriptors: int, *, far: bool = False) -> int:
    """For how many connections so many descriptors are enough; the reverse of `needed`. May be none."""
    return max(0, descriptors - OWN) // (EACH_FAR if far else EACH)


def lacking(error: BaseException | None) -> bool:
    """Whether this error, or one that it came from, says that there are no descriptors left."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NONE_LEFT:
            return True
        error = error.__cause__
    return False


def _number(limit: int) -> int:
    return NO_LIMIT if limit == resource.RLIM_INFINITY else limit
