"""The old name of ``python -m tools.pages.article``."""

import sys

from tools.pages.article import main

if __name__ == "__main__":
    sys.exit(main())
