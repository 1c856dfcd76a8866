"""One open piece of work after the other, while there is time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from accordion.errors import AccordionError, StoppedError

__all__ = ["LEAST_SECONDS", "one_by_one"]

LEAST_SECONDS = 60.0
"""With less time left, nothing is begun or gone on with."""


class _Named(Protocol):
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=_Named)


def one_by_one(
    still_open: Callable[[], Iterable[T]],
    work: Callable[[T], object],
    say: Callable[[str], None],
    *,
    deadline: float | None = None,
    once: bool = False,
    patiently: Callable[[T], object] | None = None,
) -> int:
    """Works on the first of `still_open()`, which is asked again each time, until nothing is left or `deadline` (of
    `time.monotonic`) is near; the exit code.

    What another process is at is left to it; `patiently` is how such work is done once nothing else is open, if it is waited for
    then. What fails is said and left, so that the others get done. StoppedError if a signal stopped one: whoever sent it wants no
    other instead.
    """
    from experiments.execute import BusyError  # torch comes with it

    left: set[str] = set()
    busy: set[str] = set()
    failed: AccordionError | None = None
    while True:
        if deadline is not None and deadline - time.monotonic() <= LEAST_SECONDS:
            say(f"with {LEAST_SECONDS:.0f} s or less left, nothing is begun or gone on with")
            break
        open_now = list(still_open())
        one = next((one for one in open_now if one.name not in left | busy), None)
        do = work
        if one is None and patiently is not None:
            one, do = next((one for one in open_now if one.name not in left), None), patiently
        if one is None:
            say("nothing is left to do here" if not left | busy else "nothing else is left to do here")
            break
        try:
            do(one)
        except BusyError as error:
            say(str(error))
            (left if do is patiently else busy).add(one.name)
            continue
        except StoppedError as error:
            raise StoppedError(f"{one.name}: {error}") from error
        except AccordionError as error:
            say(f"{one.name} failed: {error}")
            failed = error
            left.add(one.name)
        if once:
            break
    return failed.exit_code if failed else 0
