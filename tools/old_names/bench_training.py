"""The old name of ``python -m tools.benchmarks.training``."""

import sys

from tools.benchmarks.training import main

if __name__ == "__main__":
    sys.exit(main())
