"""Measure on a card what only a card can tell: ``python -m tools.gpu_check --out FOLDER``.

In: a folder, and the package versions that are there; nothing is downloaded or installed. Out: a
table, ``gpu_check.csv``, ``memory_cuda.csv``, and results and logs by part. ``make gpu-check`` runs
it. The command can be stopped at any time: called again, it goes on with the parts that are left.
With ``--device cpu`` the same code runs on tiny models, in a few minutes, as a rehearsal.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from grpo_helpers.command_line import FAILURE, SUCCESS, run_command
from grpo_helpers.files import InputError, check_output_folder
from tools.gpu_check import table
from tools.gpu_check.parts import Part, parts_of
from tools.gpu_check.results import Report, Result, ResultFile
from tools.gpu_check.runner import LOGS, Check


def run_check(check: Check, parts: Sequence[Part], chosen: Sequence[Part]) -> int:
    """Run the chosen parts that are due, then print and write the tables of all parts.

    Args:
        check: Where and on what.
        parts: All parts.
        chosen: Those that are to be run.

    Returns:
        The exit code: 1 if a chosen part is left or could not be measured.
    """
    check.run(chosen)

    results = [result for part in parts if (result := check.result(part))]
    print(table.text_of(results))
    for file in table.write_tables(parts, results, check.folder, check.device):
        print(f"written: {file}")
    return _verdict(check, chosen)


def _verdict(check: Check, chosen: Sequence[Part]) -> int:
    """Print what is left to do; return the exit code."""
    due = [part for part in chosen if check.is_due(part)]
    if not due:
        return SUCCESS

    names = ", ".join(part.name for part in due)
    print(f"not measured: {names}; see {check.folder / LOGS}, and call the same command again")
    return FAILURE


def _named(parts: Sequence[Part], names: Sequence[str]) -> list[Part]:
    """Return parts by name.

    Raises:
        InputError: There is no such part.
    """
    by_name = {part.name: part for part in parts}
    for name in names:
        if name not in by_name:
            raise InputError(f"there is no part {name!r}; the parts are {', '.join(by_name)}")
    return [by_name[name] for name in names]


def measure_part(part: Part, folder: Path, device: str) -> None:
    """Measure one part in this process, which ends when the one that started it does."""
    import torch

    from grpo_helpers.launch import end_with_launcher
    from tools.benchmarks.memory_meters import cap_memory

    end_with_launcher()
    card = ""
    if device == "cuda" and torch.cuda.is_available():
        card = torch.cuda.get_device_name()
        if part.cap_gib:
            cap_memory(part.cap_gib)

    report = Report(folder, device, Result(part.name, part.setting, card))
    report.put()
    part.measure(report)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.gpu_check", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/gpu-check"), help="folder for all that is written")
    add("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: a rehearsal, tiny models")
    add("--only", nargs="+", default=[], metavar="PART", help="run these parts only")
    add("--again", nargs="+", default=[], metavar="PART", help="drop the results of these first")
    add("--minutes", type=float, help="start no part that might end later than this")
    add("--list", action="store_true", help="list the parts and end")
    add("--child", help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the check; return 0 if every part has a result, 1 if not, 2 on bad input."""
    args = build_parser().parse_args(argv)

    def body() -> int:
        parts = parts_of(args.device)
        if args.child:
            (part,) = _named(parts, [args.child])
            measure_part(part, args.out, args.device)
            return SUCCESS
        if args.list:
            for part in parts:
                print(f"{part.name:<16}{part.limit / 60:>3g} min at most  {part.about}")
            return SUCCESS

        check_output_folder(args.out)
        check = Check(folder=args.out, device=args.device, minutes=args.minutes)
        for part in _named(parts, args.again):
            ResultFile(check.folder, part.name).remove()
        return run_check(check, parts, chosen=_named(parts, args.only) or parts)

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
