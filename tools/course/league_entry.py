"""One entry of the league, in a process of its own: ``python -m tools.course.league_entry``.

In: a student's file, and what all entries have in common, as JSON. Out: the run folder of a
training by that file's reward alone. :mod:`tools.course.league` starts this module once for each
entry: what one student's code does to its process (a patched function, an exhausted memory, a call
of ``sys.exit``) cannot reach the next entry or the scoring. What it does to files can. Of those
that it leaves, the league reads the weights of the adapter, and whether the run has come to its
end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from grpo_helpers.chat_template import DEFAULT_DATE
from grpo_helpers.command_line import SUCCESS, run_command
from grpo_helpers.files import InputError
from grpo_helpers.questions import Item
from grpo_helpers.reward_module import describe_error, load_reward_module
from grpo_helpers.rewards import Reward, extra_rewards, extra_scores
from grpo_helpers.settings import FirstRunSettings, TrainSettings

TRIED_ON = 4  # gold answers that a reward is tried on before anything is trained


@dataclass(frozen=True)
class Rules:
    """What all entries of a league have in common.

    Attributes:
        output_dir: The folder of the league; each entry's run folder lies in it.
        steps: Optimizer steps; 0 leaves them to notebook 00, or to ``params``.
        seed: Seed of every training.
        params: A profile of notebook 04 whose settings take the place of notebook 00's; may be
            empty.
    """

    output_dir: str
    steps: int = 0
    seed: int = 0
    params: str = ""

    def settings(self) -> TrainSettings:
        """Return the settings of every training, but for the reward and the name.

        Raises:
            InputError: The profile cannot be read, or a setting cannot work.
        """
        settings = FirstRunSettings().training
        if self.params:
            from grpo_helpers.training import read_params

            settings = read_params(self.params)

        steps = self.steps or settings.max_steps
        if steps < 1:
            raise InputError(
                f"--steps is {self.steps}, and {self.params} has no max_steps: set one"
            )
        return replace(
            settings,
            output_dir=self.output_dir,
            max_steps=steps,
            save_strategy="steps",
            save_steps=steps,
            seed=self.seed,
            date_string=DEFAULT_DATE,  # the same for all, on whatever day they train
            resume="auto",
            report_to="none",
        )

    def run_name(self, file: Path) -> str:
        """Return the name of an entry's run folder: another one once its file or a rule changes."""
        shared = asdict(self) | {"output_dir": ""}
        content = file.read_bytes() + json.dumps(shared, sort_keys=True).encode()
        stem = re.sub(r"[^\w.-]+", "_", file.stem)
        return f"{stem}-{hashlib.sha256(content).hexdigest()[:8]}"


def only_reward(file: Path) -> Reward:
    """Load a student's file and return the one reward that it registers.

    Raises:
        InputError: The file cannot be run, or registers none or several rewards.
    """
    load_reward_module(str(file))

    rewards = extra_rewards()
    if len(rewards) > 1:
        names = ", ".join(reward.name for reward in rewards)
        raise InputError(f"{file.name} registers {names}: an entry is one reward, so add them up")
    return rewards[0]


def try_reward(reward: Reward, items: Sequence[Item]) -> None:
    """Make sure, before anything is trained, that a reward judges a few gold answers.

    Raises:
        InputError: It does not return one number for each, or judges none of them.
    """
    texts = [(item.answer or "").split("#")[0] for item in items]
    values = extra_scores(texts, items)[reward.name]

    if any(math.isinf(value) for value in values):
        raise InputError(f"reward {reward.name} is infinite for a gold answer")
    if all(math.isnan(value) for value in values):
        raise InputError(f"reward {reward.name} judges none of {len(values)} gold answers")


def train_entry(file: Path, rules: Rules) -> None:
    """Train with the reward of one file; a training that is complete is left as it is."""
    from grpo_helpers.training import prepare, train

    reward = only_reward(file)
    settings = replace(
        rules.settings(),
        run_name=rules.run_name(file),
        reward_module=str(file),
        reward_weights=f"{reward.name} 1",
    )
    prepared = prepare(settings)
    try_reward(reward, prepared.train_items[:TRIED_ON])
    train(settings, prepared)


def main(argv: Sequence[str] | None = None) -> int:
    """Train one entry; return 0, or 2 with one line that says what is wrong with it."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.course.league_entry", description=__doc__.splitlines()[0]
    )
    parser.add_argument("file", type=Path, help="a Python file that registers one reward")
    parser.add_argument("rules", help="what all entries have in common, as JSON")
    args = parser.parse_args(argv)

    def body() -> int:
        try:
            train_entry(args.file, Rules(**json.loads(args.rules)))
        except InputError:
            raise
        except Exception as error:  # of the student's code, most likely: one line is enough
            raise InputError(describe_error(error, args.file)) from error
        return SUCCESS

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
