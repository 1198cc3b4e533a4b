"""The old name of ``python -m tools.benchmarks.rewards``."""

import sys

from tools.benchmarks.rewards import main

if __name__ == "__main__":
    sys.exit(main())
