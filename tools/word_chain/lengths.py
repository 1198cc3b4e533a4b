"""Count the tokens of the word-chain game: ``python -m tools.word_chain.lengths``.

In: lessons of the careless teacher, with the instruction and without an example. Out: a table of
their mean and longest prompts and answers, by hops. The tiny model has one token for each
character, so nothing needs to be tokenized.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence

from grpo_helpers.command_line import run_command
from grpo_helpers.prompts import Message
from tools.word_chain.teacher import Habits, build_teacher

HOPS = (4, 6, 8)
LESSONS = 200  # of each kind


def prompt_tokens(messages: Iterable[Message]) -> int:
    """Return the length of a prompt in tokens of the tiny model.

    Its chat template adds two for each message, the role and the end, and one that opens the
    answer.

    Example:
        >>> prompt_tokens([{"role": "user", "content": "기차"}])
        5
    """
    return 1 + sum(len(message["content"]) + 2 for message in messages)


def answer_tokens(answer: str) -> int:
    """Return the length of an answer in tokens, its end included."""
    return len(answer) + 1


def row(name: str, lengths: Sequence[int]) -> str:
    """Return a line of the table: mean and longest."""
    mean = sum(lengths) / len(lengths)
    return f"{name:24} mean {mean:6.1f}  longest {max(lengths):4d}"


def report(hops: int) -> list[str]:
    """Return the lines of the table for a number of hops."""
    teacher = build_teacher(seed=0, habits=Habits(hops=(hops,)))
    prompts, direct, thinking = [], [], []
    for _ in range(LESSONS):
        at_once, _ = teacher.direct_pair("full")
        prompts.append(prompt_tokens(at_once.messages))
        direct.append(answer_tokens(at_once.answer))
        thinking.append(answer_tokens(teacher.thinking("full").answer))

    return [
        row(f"{hops} hops, prompt", prompts),
        row(f"{hops} hops, answer at once", direct),
        row(f"{hops} hops, with a thought", thinking),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; return 0, or 2 where the files cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.word_chain.lengths", description=__doc__.splitlines()[0]
    )
    parser.parse_args(argv)

    def body() -> int:
        for hops in HOPS:
            print("\n".join(report(hops)))
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
