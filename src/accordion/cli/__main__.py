"""`python -m accordion.cli`, where the `accordion` script is not on the path."""

import sys

from accordion.cli import main

sys.exit(main())
