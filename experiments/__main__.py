"""`python -m experiments`: the list, the runs, and what follows from them."""

from __future__ import annotations

import sys

from experiments.commands import main

if __name__ == "__main__":
    sys.exit(main())
