"""The old name of ``python -m tools.pages.experiments``: ``python -m tools.experiments``."""

import sys

from tools.pages.experiments import main

if __name__ == "__main__":
    sys.exit(main())
