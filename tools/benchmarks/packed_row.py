"""A cache against one long row: ``python -m tools.benchmarks.packed_row``.

In: a micro-batch of the embedded model, two prompts with a group of completions each. Out: seconds
of the forward and backward pass of its log-probabilities in two ways that compute the same, in
turns. Our way: the prompts go into a cache, from which the completions continue
(:mod:`grpo_helpers.shared_prefix`). The other way: each prompt and its completions are one packed
row, and a mask keeps the completions apart. Part of ``make bench``; ``--record`` writes the figures
to ``data/reference_runs/bench.json``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from grpo_helpers.command_line import run_command
from tools.benchmarks.pairs import TimesFaster
from tools.benchmarks.sharing import Work, embedded_model, trainer_of
from tools.benchmarks.targets import Target, add_record_option, record, report

if TYPE_CHECKING:
    import torch

PAIRS = 10  # passes of each way, in turns, after a first one that is not timed
WORK = Work(prompt_tokens=300, micro_batches=1)
CACHE = "cache"
PACKED = "packed row"


# -- the micro-batch --------------------------------------------------------------------------


def random_rows(work: Work, vocabulary: int) -> torch.Tensor:
    """Return the tokens of a micro-batch, (completions, prompt + completion), groups together."""
    import torch

    torch.manual_seed(0)
    prompts = torch.randint(3, vocabulary, (work.prompts, work.prompt_tokens))
    rows = prompts.repeat_interleave(work.group, 0)
    completions = torch.randint(3, vocabulary, (len(rows), work.completion_tokens))
    return torch.cat([rows, completions], dim=1)


# -- one long row -----------------------------------------------------------------------------


def packed_ids(rows: torch.Tensor, work: Work) -> torch.Tensor:
    """Return each prompt once with all of its completions after it, (prompts, length)."""
    import torch

    prompts = rows[:: work.group, : work.prompt_tokens]
    completions = rows[:, work.prompt_tokens :].reshape(len(prompts), -1)
    return torch.cat([prompts, completions], dim=1)


def packed_positions(work: Work) -> torch.Tensor:
    """Return the position of each token: every completion begins after the prompt, (1, length)."""
    import torch

    of_prompt = torch.arange(work.prompt_tokens)
    of_completion = work.prompt_tokens + torch.arange(work.completion_tokens)
    return torch.cat([of_prompt, of_completion.repeat(work.group)])[None]


def packed_mask(work: Work) -> torch.Tensor:
    """Return which token sees which: its prompt and its own completion, (1, 1, length, length)."""
    import torch

    of_prompt = torch.zeros(work.prompt_tokens, dtype=torch.long)
    numbers = torch.arange(1, work.group + 1)
    owner = torch.cat([of_prompt, numbers.repeat_interleave(work.completion_tokens)])

    is_earlier = torch.ones(len(owner), len(owner)).tril().bool()
    is_visible = (owner[None, :] == owner[:, None]) | (owner[None, :] == 0)
    return (is_earlier & is_visible)[None, None]


def packed_log_probs(model: Any, rows: torch.Tensor, work: Work) -> torch.Tensor:
    """Return the log-probability of each token of the completions, (completions, tokens).

    Args:
        model: A causal language model of transformers.
        rows: What :func:`random_rows` returns.
        work: Its sizes.
    """
    import torch

    hidden = model.model(
        input_ids=packed_ids(rows, work),
        attention_mask=packed_mask(work),
        position_ids=packed_positions(work),
        use_cache=False,
    ).last_hidden_state

    # A completion's first token is predicted by the last token of the prompt, which all share.
    size = hidden.shape[-1]
    shape = (len(rows), work.completion_tokens, size)
    of_completions = hidden[:, work.prompt_tokens :].reshape(shape)
    last_of_prompt = hidden[:, work.prompt_tokens - 1].repeat_interleave(work.group, 0)
    predicting = torch.cat([last_of_prompt[:, None], of_completions[:, :-1]], dim=1)

    log_probs = model.lm_head(predicting).log_softmax(dim=-1)
    tokens = rows[:, work.prompt_tokens :, None]
    return log_probs.gather(-1, tokens).squeeze(-1)


# -- the comparison ---------------------------------------------------------------------------


def both_ways(
    trainer: Any, rows: torch.Tensor, work: Work
) -> dict[str, Callable[[], torch.Tensor]]:
    """Return a function of each way that computes the log-probabilities of a micro-batch."""
    import torch

    mask = torch.ones_like(rows)
    plain = trainer.accelerator.unwrap_model(trainer.model).get_base_model()

    def with_cache() -> torch.Tensor:
        log_probs, _, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model, rows, mask, work.completion_tokens
        )
        return log_probs

    def with_packed_row() -> torch.Tensor:
        return packed_log_probs(plain, rows, work)

    return {CACHE: with_cache, PACKED: with_packed_row}


def measure(work: Work, pairs: int) -> tuple[dict[str, list[float]], float]:
    """Time both ways in turns.

    Args:
        work: The sizes of the micro-batch.
        pairs: Timed passes of each way.

    Returns:
        The seconds of each forward and backward pass, by way, and the largest difference between
        two log-probabilities.
    """
    with tempfile.TemporaryDirectory(prefix="grpo-packed-") as folder:
        trainer: Any = trainer_of("shared", embedded_model(None), work, folder)
        trainer.model.train()
        vocabulary = trainer.model.config.vocab_size
        ways = both_ways(trainer, random_rows(work, vocabulary), work)

        difference = (ways[CACHE]() - ways[PACKED]()).abs().max().item()
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(1 + pairs):
            for way, log_probs in ways.items():
                started = time.perf_counter()
                log_probs().mean().backward()
                if number > 0:
                    seconds[way].append(time.perf_counter() - started)

    return seconds, difference


def bench_packed_row(is_recorded: bool) -> int:
    """Compare both ways; return 1 if they do not compute the same.

    Args:
        is_recorded: Whether the figures are written to ``data/reference_runs/bench.json``.
    """
    import torch

    from grpo_helpers.library_fixes import quiet_libraries

    quiet_libraries()
    torch.set_num_threads(2)
    seconds, difference = measure(WORK, PAIRS)
    ratio = TimesFaster.of(seconds[PACKED], seconds[CACHE])
    medians = {way: round(float(np.median(values)), 3) for way, values in seconds.items()}
    print(
        f"forward and backward, {WORK.prompts} prompts of {WORK.prompt_tokens} tokens: "
        f"packed row {medians[PACKED]:.3f} s, cache {medians[CACHE]:.3f} s, ratio {ratio.text}"
    )

    targets = [Target("largest difference of a packed row", difference, "<=", 1e-4)]
    if is_recorded:
        facts = {"seconds": medians, "pairs": PAIRS, **ratio.facts}
        record("packed row", targets, facts)
    return report(targets)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 if the two ways do not compute the same."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.packed_row", description=__doc__.splitlines()[0]
    )
    add_record_option(parser)
    args = parser.parse_args(argv)
    return run_command(lambda: bench_packed_row(args.record))


if __name__ == "__main__":
    sys.exit(main())
