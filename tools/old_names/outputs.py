"""The old name of ``python -m tools.course.publish``."""

import sys

from tools.course.publish import main

if __name__ == "__main__":
    sys.exit(main())
