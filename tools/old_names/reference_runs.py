"""The old name of ``python -m tools.experiments.record``."""

import sys

from tools.experiments.record import main

if __name__ == "__main__":
    sys.exit(main())
