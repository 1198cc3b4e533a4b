"""④ Rewards from a file of your own: what the parameter ``reward_module`` names.

In: the path of a Python file that calls :func:`grpo_helpers.rewards.register`. Out: its rewards are
registered. :mod:`grpo_helpers.rewards` shows such a file.
"""

from __future__ import annotations

import sys
import traceback
import types
from pathlib import Path

from grpo_helpers.files import InputError, read_json, resolve_path, sha256
from grpo_helpers.rewards import Reward, registered, restore

# File and hash -> the rewards it registered.
_loaded: dict[tuple[Path, str], dict[str, Reward]] = {}


def load_reward_module(path: str) -> None:
    """Run a Python file that registers rewards, unless it was loaded already.

    A file that was edited since is loaded anew; its rewards then replace the earlier ones.

    Args:
        path: Looked for in the working folder, then in the project folder; an empty path loads
            nothing.

    Raises:
        InputError: The file is missing, cannot be run, or registers no reward. In all three cases
            the registered rewards stay what they were.
    """
    if not path:
        return

    file = resolve_path(path)
    if not file.is_file() or file.suffix != ".py":
        raise InputError(
            f"reward_module: no Python file {path} "
            "(looked in the working folder and in the project folder)"
        )

    key = (file, sha256([file]))
    if key in _loaded and _loaded[key].items() <= registered().items():
        return

    before = registered()
    try:
        _run_file(file)
    except Exception as error:
        restore(before)
        raise InputError(f"reward_module {path}: {describe_error(error, file)}") from error

    added = {name: reward for name, reward in registered().items() if before.get(name) != reward}
    if not added:
        raise InputError(
            f"reward_module {path} registers no reward: "
            "call grpo_helpers.rewards.register(name, function) in it"
        )
    _loaded[key] = added


def recorded_reward_module(run_dir: Path) -> str:
    """Return the reward module that a run was trained with, if the file is still there, else ""."""
    file = run_dir / "settings.json"
    if not file.is_file():
        return ""

    parameters = read_json(file, "run settings")["parameters"]
    path = parameters.get("reward_module", "")
    return path if resolve_path(path).is_file() else ""


def _run_file(file: Path) -> None:
    module = types.ModuleType(f"reward_module_{file.stem}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # a dataclass looks its own module up there

    # Not by an import: that would leave bytecode beside the file, and could read it after an edit.
    source = file.read_text(encoding="utf-8")
    exec(compile(source, str(file), "exec"), module.__dict__)


def describe_error(error: Exception, file: Path) -> str:
    """Return in one line what went wrong, and in which line of ``file``.

    Args:
        error: What running the file, or calling a function of it, has raised.
        file: The file, as it was given to :func:`load_reward_module` and resolved.
    """
    line = None
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == str(file):
            line = frame.lineno
    if isinstance(error, SyntaxError):
        line = error.lineno

    where = f"line {line}: " if line else ""
    message = " ".join(str(error).split())
    if isinstance(error, InputError):
        return f"{where}{message}"
    return f"{where}{type(error).__name__}: {message}"
