"""How long a run takes on a GPU: predicted from a model's shape and a card's data sheet.

In: notebook 04's parameters, the questions that they name, and a :class:`Card`. Out: :class:`Hours`
at best and at worst. Nobody has measured any of this on a GPU. What it rests on:

* Reading prompts and training take the operations that the shape has, at a share of the card's
  peak. Of frozen weights nothing but the gradient of their inputs is computed, so a backward pass
  takes what a forward pass takes, and recomputed activations a third one.
* A written token takes the longest of three: the bytes of weights and cache, at a share of the
  card's bandwidth; its operations; and what the host needs to launch one layer after another, which
  was measured on a CPU (``tools.benchmarks.host_time``). An engine such as vLLM records these
  launches once and repeats them, so the last one does not count for it.
* Answers are as long as the gold ones, and a batch is written until its longest one ends.

Left out are minutes: downloads, loading, rewards, saves. The article does not say how long its run
took.

    python -m grpo_helpers.hours --params params/gpu_24gb/04_train.yaml --card "RTX 4090"
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from grpo_helpers.architecture import (
    BF16,
    Architecture,
    load_architecture,
    lora_params,
    template_characters,
    weights_bytes,
)
from grpo_helpers.batch import BatchPlan
from grpo_helpers.command_line import SUCCESS, program_name, run_command
from grpo_helpers.data import load_items
from grpo_helpers.files import InputError, read_yaml
from grpo_helpers.memory import Budget, budget_of_params, tokens_of_a_pass
from grpo_helpers.prompts import PromptSource, load_prompted
from grpo_helpers.settings import EvaluateSettings, TrainSettings
from grpo_helpers.splits import TEST_SPLITS

HOUR = 3600
TERA = 1e12
GIGA = 1e9

# What Gemma's tokenizer wrote in a recorded run (data/reference_runs/gemma_270m): prompts of 109
# characters had 82 tokens on average.
TOKENS_PER_CHARACTER = 0.75


# -- what is assumed -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Card:
    """A GPU, in the figures of its data sheet.

    Attributes:
        tflops: Dense operations a second on 16-bit numbers, summed in float32, in 1e12.
        gb_per_second: Memory bandwidth, in 1e9 bytes.
    """

    tflops: float
    gb_per_second: float


CARDS = {
    "RTX 3070": Card(40.6, 448),
    "RTX 3090": Card(71.2, 936),
    "RTX 4090": Card(165.2, 1008),
    "T4": Card(65, 320),
    "A10G": Card(70, 600),
    "L4": Card(121, 300),
    "L40S": Card(362, 864),
    "A100": Card(312, 2039),
    "H100": Card(989, 3350),
}


@dataclass(frozen=True)
class Efficiency:
    """How much of a card a run gets.

    Attributes:
        compute: The share of its peak that large products reach.
        memory: The share of its bandwidth.
        layer_seconds: What the host takes to launch one layer for one token.
        token_seconds: What it takes for a token besides the layers.
        unpacks: Whether quantised weights are written out in 16 bits for each token too, as they
            always are for larger products, rather than unpacked inside the product; bitsandbytes
            decides by the card and the number of rows.
    """

    compute: float
    memory: float
    layer_seconds: float
    token_seconds: float
    unpacks: bool


# Shares of the peak in training that are reported for one A100: 30 to 35 % untuned, 55 % tuned
# (https://github.com/google/paxml/issues/65).
BEST = Efficiency(
    compute=0.55, memory=0.85, layer_seconds=0.7e-3, token_seconds=2e-3, unpacks=False
)
WORST = Efficiency(
    compute=0.30, memory=0.60, layer_seconds=2.0e-3, token_seconds=5e-3, unpacks=True
)


# -- what is computed ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a run computes.

    Attributes:
        arch: The model's shape.
        budget: Quantisation, LoRA, checkpointing; its lengths are limits, not those of this run.
        plan: The batch.
        steps: Optimizer steps.
        dev_answers: Answers to dev questions, at all saves together.
        test_answers: Answers that notebook 05 asks for.
        prompt_tokens: Tokens of a prompt, on average.
        answer_tokens: Tokens of each gold answer, the shortest first.
    """

    arch: Architecture
    budget: Budget
    plan: BatchPlan
    steps: int
    dev_answers: int
    test_answers: int
    prompt_tokens: int
    answer_tokens: tuple[float, ...]

    def longest_of(self, rows: int) -> float:
        """Return the tokens of the longest of so many answers, as a rule.

        It is the length that one of ``rows`` answers exceeds on average; the limit cuts it off.
        """
        count = len(self.answer_tokens)
        place = min(count - 1, math.ceil(count * rows / (rows + 1)) - 1)
        return min(self.answer_tokens[place], self.budget.completion_tokens)


@dataclass(frozen=True)
class Hours:
    """How long the parts of a run take, in hours, and one optimizer step in seconds."""

    step_seconds: float
    training: float
    dev_answers: float
    test_answers: float

    @property
    def total(self) -> float:
        """All of it: training with its dev answers, and notebook 05."""
        return self.training + self.dev_answers + self.test_answers


def forward_flops(arch: Architecture, lora_rank: int, tokens: float, context: float) -> float:
    """Return the operations of the layers in one forward pass, LoRA on the attention included.

    Args:
        arch: The model's shape.
        lora_rank: Rank of the adapter; 0 for none.
        tokens: Tokens that go through the layers.
        context: Tokens that each of them attends to, on average.

    >>> forward_flops(load_architecture("Qwen3-0.6B"), 0, tokens=1, context=0) / 1e9
    0.88080384
    """
    weights = arch.linear_params
    if lora_rank:
        weights += lora_params(arch, lora_rank)

    products = 2 * weights * tokens
    attention = 4 * arch.num_hidden_layers * arch.query_width * context * tokens
    return products + attention


def head_flops(arch: Architecture, tokens: float) -> float:
    """Return the operations of the output head over so many tokens."""
    return 2 * arch.hidden_size * arch.vocab_size * tokens


@dataclass(frozen=True)
class Pace:
    """How fast a card does some work.

    Attributes:
        work: The work.
        card: The card.
        efficiency: How much of the card the work gets.
        engine: Whether completions and answers come from an engine such as vLLM.
    """

    work: Work
    card: Card
    efficiency: Efficiency
    engine: bool = False

    # Seconds of operations, of bytes, and of launching.

    def computing(self, flops: float) -> float:
        """Return the seconds of so many operations."""
        return flops / (self.card.tflops * TERA * self.efficiency.compute)

    def moving(self, size: float) -> float:
        """Return the seconds of reading or writing so many bytes."""
        return size / (self.card.gb_per_second * GIGA * self.efficiency.memory)

    def launching(self) -> float:
        """Return the seconds that the host takes for one forward pass."""
        layers = self.work.arch.num_hidden_layers
        return layers * self.efficiency.layer_seconds + self.efficiency.token_seconds

    def unpacking(self) -> float:
        """Return the seconds of writing out all quantised weights once, and reading them again."""
        if not self.work.budget.quant:
            return 0.0
        return self.moving(2 * BF16 * self.work.arch.linear_params)

    # Parts of a step.

    def reading(self, prompts: float) -> float:
        """Return the seconds of reading so many prompts at once."""
        length = self.work.prompt_tokens
        tokens = prompts * length
        flops = forward_flops(self.work.arch, self.work.budget.lora_rank, tokens, length / 2)
        return max(self.computing(flops) + self.unpacking(), self.launching())

    def writing_a_token(self, rows: int, prompts: float) -> float:
        """Return the seconds of one more token for ``rows`` answers to ``prompts`` prompts."""
        work = self.work
        arch = work.arch
        written = self.work.longest_of(rows) / 2  # half of it is there, on average
        context = work.prompt_tokens + written

        flops = forward_flops(arch, work.budget.lora_rank, rows, context) + head_flops(arch, rows)
        cache = (prompts * work.prompt_tokens + rows * written) * arch.kv_bytes_per_token
        device = max(self.computing(flops), self.moving(self._weights_read() + cache))

        if self.engine:
            return device
        if self.efficiency.unpacks:
            device += self.unpacking()
        return max(device, self.launching())

    def _weights_read(self) -> float:
        """Return the bytes of weights that a pass reads: all but the table of embeddings."""
        arch = self.work.arch
        size = weights_bytes(arch, self.work.budget.quant, self.work.budget.bytes_per_number)
        if arch.tie_word_embeddings:
            return size
        return size - arch.vocab_size * arch.hidden_size * self.work.budget.bytes_per_number

    def answering(self, rows: int, prompts: float) -> float:
        """Return the seconds of ``rows`` answers to ``prompts`` different prompts, at once."""
        tokens = self.work.longest_of(rows)
        return self.reading(prompts) + tokens * self.writing_a_token(rows, prompts)

    def training_pass(self) -> float:
        """Return the seconds of one forward and backward pass of B completions."""
        work = self.work
        budget = work.budget
        written = work.longest_of(work.plan.sequences_per_generate)
        length = work.prompt_tokens + written
        tokens = tokens_of_a_pass(budget, work.prompt_tokens, written)

        passes = 3 if budget.gradient_checkpointing else 2
        flops = passes * forward_flops(work.arch, budget.lora_rank, tokens, length / 2)
        flops += 3 * head_flops(work.arch, budget.B * written)  # its logits are computed twice
        return max(
            self.computing(flops) + passes * self.unpacking(),
            passes * self.launching(),
        )

    def step(self) -> float:
        """Return the seconds of one optimizer step, its rounds of sampling included."""
        plan = self.work.plan
        rows = plan.sequences_per_generate
        sampling = self.answering(rows, self.work.budget.prompts_of(rows))
        return plan.rounds_per_step * sampling + plan.A * self.training_pass()

    def batches(self, answers: int, processes: int) -> float:
        """Return the seconds of so many answers to different questions, which processes share."""
        rows = self.work.budget.inference_rows
        rounds = math.ceil(answers / rows / processes)
        return rounds * self.answering(rows, rows)

    def hours(self) -> Hours:
        """Return how long everything takes."""
        step = self.step()
        return Hours(
            step_seconds=step,
            training=self.work.steps * step / HOUR,
            dev_answers=self.batches(self.work.dev_answers, self.work.plan.D) / HOUR,
            test_answers=self.batches(self.work.test_answers, processes=1) / HOUR,
        )


@dataclass(frozen=True)
class PredictedHours:
    """The hours of a run, predicted and not measured.

    Attributes:
        best: With :data:`BEST`.
        worst: With :data:`WORST`.
    """

    best: Hours
    worst: Hours


def predict_hours(work: Work, card: Card, engine: bool = False) -> PredictedHours:
    """Return how long some work takes on a card.

    Args:
        work: The work.
        card: The card, or each of the cards.
        engine: Whether completions and answers come from an engine such as vLLM.
    """
    return PredictedHours(
        best=Pace(work, card, BEST, engine).hours(),
        worst=Pace(work, card, WORST, engine).hours(),
    )


# -- the work of a profile -------------------------------------------------------------------------


def work_of(
    train: TrainSettings, held_out: Sequence[str], added_characters: int | None = None
) -> Work:
    """Return what a run computes, counted in the files that its parameters name.

    Args:
        train: The parameters of notebook 04.
        held_out: The files that notebook 05 answers twice, with the base and with one checkpoint.
        added_characters: What the chat template adds to a prompt; None: as
            :func:`grpo_helpers.architecture.template_characters`.

    Raises:
        InputError: A file or the model's shape cannot be read.
    """
    arch = load_architecture(train.model_name)
    if added_characters is None:
        added_characters = template_characters(train.model_name)
    items, prompts = load_prompted(train.train_data_path, PromptSource.from_settings(train))

    ours = [sum(len(message["content"]) for message in prompt) for prompt in prompts]
    characters = sum(ours) / len(ours) + added_characters
    answers = sorted(len(item.answer or "") * TOKENS_PER_CHARACTER for item in items)

    plan = train.batch_plan
    steps = math.ceil(plan.steps_per_epoch(len(items)) * train.num_train_epochs)
    dev = len(load_items(train.eval_data_path, need_answer=False))
    tests = sum(len(load_items(path, need_answer=False)) for path in held_out)
    return Work(
        arch=arch,
        budget=budget_of_params(train.as_dict(), round(characters * TOKENS_PER_CHARACTER)),
        plan=plan,
        steps=train.max_steps if train.max_steps > 0 else steps,
        dev_answers=dev * (1 + math.ceil(train.num_train_epochs)),
        test_answers=2 * tests + dev,
        prompt_tokens=round(characters * TOKENS_PER_CHARACTER),
        answer_tokens=tuple(answers),
    )


def work_of_profile(params: str | Path, added_characters: int | None = None) -> Work:
    """Return what a run with a profile computes, its notebook 05 included.

    Args:
        params: Its file for notebook 04; the one for notebook 05 is looked for beside it.
        added_characters: As in :func:`work_of`.

    Raises:
        InputError: A file cannot be read, or a parameter cannot work.
    """
    train = TrainSettings.from_namespace(read_yaml(params))

    twin = Path(params).with_name("05_evaluate_and_select.yaml")
    paths = {split.parameter: getattr(EvaluateSettings, split.parameter) for split in TEST_SPLITS}
    if twin.is_file():
        paths |= {name: value for name, value in read_yaml(twin).items() if name in paths}

    held_out = [path for path in paths.values() if path]
    return work_of(train, held_out, added_characters)


def find_card(name: str) -> Card:
    """Return a card by its name.

    Raises:
        InputError: It is not in :data:`CARDS`.
    """
    if name not in CARDS:
        raise InputError(f"no card {name!r}; known are {', '.join(CARDS)}")
    return CARDS[name]


# -- from the shell --------------------------------------------------------------------------------


def spread(best: float, worst: float) -> str:
    """Return both ends of a range, rounded to what such a prediction can say.

    >>> spread(9.21, 17.08), spread(0.412, 0.695), spread(31.4, 61)
    ('9 to 17', '0.4 to 0.7', '31 to 61')
    """
    digits = 1 if best < 3 else 0
    low, high = f"{best:.{digits}f}", f"{worst:.{digits}f}"
    return low if low == high else f"{low} to {high}"


def report(params: str, card_name: str, added_characters: int | None) -> int:
    """Print the prediction for a parameter file."""
    work = work_of_profile(params, added_characters)
    predicted = predict_hours(work, find_card(card_name))
    best, worst = predicted.best, predicted.worst

    print(f"{work.arch.name} on {work.plan.D} x {card_name}: predicted, not measured")
    print(f"  prompts of {work.prompt_tokens} tokens, {work.steps} optimizer steps")
    print(f"  a step        {spread(best.step_seconds, worst.step_seconds)} s")
    print(f"  training      {spread(best.training, worst.training)} h")
    print(f"  dev answers   {spread(best.dev_answers, worst.dev_answers)} h")
    print(f"  notebook 05   {spread(best.test_answers, worst.test_answers)} h")
    print(f"  all of it     {spread(best.total, worst.total)} h")
    return SUCCESS


def main(argv: Sequence[str] | None = None) -> int:
    """Print the hours of a parameter file; return 0, or 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog=program_name("hours"), description="Predict the hours of a run on a GPU."
    )
    add = parser.add_argument
    add("--params", required=True, help="YAML file with the parameters of notebook 04")
    add("--card", required=True, help=f"one of {', '.join(CARDS)}")
    add(
        "--template_characters",
        type=int,
        help="characters of the chat template's own text (default: what is known of the model)",
    )
    args = parser.parse_args(argv)
    return run_command(lambda: report(args.params, args.card, args.template_characters))


if __name__ == "__main__":
    sys.exit(main())
