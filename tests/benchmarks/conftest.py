"""The benchmarks are scripts that import one another by their own names; last, since some of these names are tests' too."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
