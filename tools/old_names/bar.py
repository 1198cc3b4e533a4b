"""The old name of ``python -m tools.course.acceptance``."""

import sys

from tools.course.acceptance import main

if __name__ == "__main__":
    sys.exit(main())
