"""The old name of ``python -m tools.benchmarks.memory_probe``."""

import sys

from tools.benchmarks.memory_probe import main

if __name__ == "__main__":
    sys.exit(main())
