"""The old name of ``python -m tools.course.run``."""

import sys

from tools.course.run import main

if __name__ == "__main__":
    sys.exit(main())
