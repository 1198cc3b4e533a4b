"""The old name of ``python -m tools.experiments.archive.e5_encoder``."""

import sys

from tools.experiments.archive.e5_encoder import main

if __name__ == "__main__":
    sys.exit(main())
