"""The old name of two tools: ``python -m tools.reward_lab sample|encoders``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tools.experiments import sample
from tools.experiments.archive import encoders

TOOLS = {"sample": sample.main, "encoders": encoders.main}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool that the first argument names; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.reward_lab", description=__doc__)
    parser.add_argument("command", choices=TOOLS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    args = parser.parse_args(argv)
    return TOOLS[args.command](args.arguments)


if __name__ == "__main__":
    sys.exit(main())
