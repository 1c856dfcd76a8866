#!/usr/bin/env python3
"""Changes the rate of a namespace link as a measured trace went, in real time; scripts/netns-link.sh starts it.

    netns-replay.py TRACE[:ID] START NAMESPACE…

In each namespace the token bucket (tc tbf, handle 1:) of veth0 gets the trace's rate of that moment; the trace begins again at its
end. A token bucket has no rate of zero: in an outage it lets 8 kbit/s pass, one packet in a second and a half.
"""

from __future__ import annotations

import subprocess
import sys
import time

from accordion.errors import AccordionError
from accordion.link_files import read_traces

LEAST_BPS = 8_000


def main(arguments: list[str]) -> int:
    try:
        traces = read_traces(arguments[0])
        start = float(arguments[1])
    except (AccordionError, ValueError) as error:
        print(f"netns-replay: {error}", file=sys.stderr)
        return 2
    if len(traces) != 1:
        print(f"netns-replay: {arguments[0]} holds {len(traces)} traces: say which one, as FILE:{traces[0].name}", file=sys.stderr)
        return 2
    trace, namespaces = traces[0], arguments[2:]
    began, step = time.monotonic(), int(start / trace.dt_s)
    first = step
    while True:
        rate = max(LEAST_BPS, int(trace.rates_bps[step % len(trace.rates_bps)]))
        # A burst of two packets at least, and of what the rate brings between two ticks of the kernel's clock (4 ms).
        burst = max(3_200, rate // 8 // 250)
        change = ["tc", "qdisc", "change", "dev", "veth0", "root", "handle", "1:"]
        for namespace in namespaces:
            shape = ["tbf", "rate", f"{rate}bit", "burst", f"{burst}", "latency", "400ms"]
            if subprocess.run(["ip", "netns", "exec", namespace, *change, *shape], check=False).returncode:
                return 1  # the namespace has gone: the transfer is over
        if step == first:
            print("replaying", flush=True)
        # On a busy machine a moment is left out rather than made up for.
        step = max(step + 1, first + int((time.monotonic() - began) / trace.dt_s))
        time.sleep(max(0.0, began + (step - first) * trace.dt_s - time.monotonic()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
