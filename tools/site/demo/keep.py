"""Keep checkpoints for the demo: ``python -m tools.site.demo.keep RUN NAME CHECKPOINT ...``.

A fresh clone has no run, and its site should show trained models all the same. In: a finished run.
Out: ``data/demo_runs/NAME`` with its settings and the adapters of the named checkpoints, which is
as much of a run folder as the demo and ``grpo_helpers.inference`` need. Paths of the checkout that
the run was made in become relative.

    python -m tools.site.demo.keep runs/bar-seed-0 default epoch_1 epoch_2 epoch_3
    python -m tools.site.demo.keep runs/reference-quoted hacked epoch_3
    python -m tools.site.demo.keep runs/thinking-grpo-0 thinking step_40
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from grpo_helpers.command_line import run_command
from grpo_helpers.files import project_root
from grpo_helpers.model_checks import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from grpo_helpers.run_folder import SETTINGS_FILE, RunFolder

KEPT = project_root() / "data" / "demo_runs"


def keep(run: RunFolder, target: Path, checkpoints: Sequence[str]) -> Path:
    """Copy settings and adapters of a run; what was kept under this name goes.

    Args:
        run: The run.
        target: Where to.
        checkpoints: The names of the checkpoints.

    Returns:
        ``target``.

    Raises:
        InputError: The run has no such checkpoint.
    """
    adapters = {name: run.adapter(name) for name in checkpoints}

    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    checkout = str(run.path.resolve()).removesuffix(run.description.get("run_dir", ""))
    _copy_text(run.path / SETTINGS_FILE, target / SETTINGS_FILE, checkout)
    for name, folder in adapters.items():
        if folder is None:  # the base has no adapter
            continue
        (target / name).mkdir()
        _copy_text(folder / ADAPTER_CONFIG, target / name / ADAPTER_CONFIG, checkout)
        shutil.copyfile(folder / ADAPTER_WEIGHTS, target / name / ADAPTER_WEIGHTS)
    return target


def _copy_text(source: Path, target: Path, checkout: str) -> None:
    """Copy a JSON file; paths in ``checkout``, and in this one, begin at its root."""
    text = source.read_text(encoding="utf-8")
    for root in (checkout, f"{project_root()}/"):
        text = text.replace(f'"{root}', '"')
    target.write_text(text, encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Keep checkpoints; return 0, or 2 where the run or a checkpoint is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.site.demo.keep", description=__doc__.splitlines()[0]
    )
    parser.add_argument("run", help="folder of a finished run")
    parser.add_argument("name", help="what the demo calls it: default, hacked or thinking")
    parser.add_argument("checkpoints", nargs="+", help="epoch_1 or step_40, for example")
    args = parser.parse_args(argv)

    def body() -> int:
        print(keep(RunFolder(args.run), KEPT / args.name, args.checkpoints))
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
