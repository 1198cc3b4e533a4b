"""The old name of ``python -m tools.benchmarks.memory_trace``."""

import sys

from tools.benchmarks.memory_trace import main

if __name__ == "__main__":
    sys.exit(main())
