"""The old name of ``python -m tools.corpus.check``."""

import sys

from tools.corpus.check import main

if __name__ == "__main__":
    sys.exit(main())
