"""The old name of ``python -m tools.experiments.gemma``."""

import sys

from tools.experiments.gemma import main

if __name__ == "__main__":
    sys.exit(main())
