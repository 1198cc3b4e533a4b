"""The old name of ``python -m tools.corpus.build``."""

import sys

from tools.corpus.build import main

if __name__ == "__main__":
    sys.exit(main())
