"""The old name of ``python -m tools.tiny_model.train``: ``python -m tools.tiny_model``."""

import sys

from tools.tiny_model.train import main

if __name__ == "__main__":
    sys.exit(main())
