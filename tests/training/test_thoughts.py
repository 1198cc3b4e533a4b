"""A run whose model thinks: its log and its rewards, on TRL's own path."""

from __future__ import annotations

import pytest
from chat_templates import TURNS
from helpers import smoke_settings

from grpo_helpers.run_folder import read_log
from grpo_helpers.thoughts import THOUGHT_LENGTH, THOUGHT_RATIO, UNFINISHED_RATIO
from grpo_helpers.training import build_trainer, grpo_config, prepare

ANSWER = '"몇일이 걸렸다."가 옳다. 소리대로 적는다.'
THOUGHT = '"며칠이 걸렸다."가 옳다. 까닭이다.'  # another answer
OPENS_THOUGHT = TURNS + "{% if add_generation_prompt %}<think>{% endif %}"


@pytest.fixture(scope="module")
def first_row(tmp_path_factory):
    """A function that returns the first row of the log of a run whose model writes one text."""

    def row(text, ends=True, template=""):
        folder = tmp_path_factory.mktemp("run")
        changes = {}
        if template:
            (folder / "own.jinja").write_text(template, encoding="utf-8")
            changes = {"chat_template_path": folder / "own.jinja"}
        settings = smoke_settings(
            folder,
            max_steps=1,
            save_strategy="no",
            max_completion_length=8,
            num_generations=2,
            per_device_train_batch_size=2,
            **changes,
        )

        trainer = build_trainer(settings, prepare(settings), grpo_config(settings)).trainer
        tokenizer = trainer.processing_class
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids += [tokenizer.eos_token_id] if ends else []
        trainer._generate_single_turn = lambda prompts, *_: ([list(ids) for _ in prompts], None)
        trainer.train()
        return read_log(settings.run_dir / "log.jsonl")[0]

    return row


@pytest.fixture(scope="module")
def plain(first_row):
    return first_row(ANSWER)


def rewards_of(row):
    """Return the mean of each reward."""
    return {name: value for name, value in row.items() if name.startswith("rewards/")}


def test_log_of_a_run_without_thoughts_has_no_new_quantities(plain):
    assert not {THOUGHT_RATIO, UNFINISHED_RATIO, THOUGHT_LENGTH}.intersection(plain)


def test_run_that_thinks_earns_what_its_answers_earn(first_row, plain):
    row = first_row(f"<think>{THOUGHT}</think>{ANSWER}")

    assert rewards_of(row) == rewards_of(plain)
    assert (row[THOUGHT_RATIO], row[UNFINISHED_RATIO]) == (1.0, 0.0)
    assert row[THOUGHT_LENGTH] == len(THOUGHT)  # the model has a token for each character


def test_thought_that_is_cut_off_earns_nothing_and_is_counted(first_row):
    row = first_row(f"<think>{ANSWER}", ends=False)

    assert set(rewards_of(row).values()) == {0.0}
    assert row[UNFINISHED_RATIO] == row["completions/clipped_ratio"] == 1.0


def test_thought_that_the_template_opens_is_never_an_answer(first_row):
    row = first_row(ANSWER, template=OPENS_THOUGHT)

    assert set(rewards_of(row).values()) == {0.0}
    assert row[UNFINISHED_RATIO] == 1.0
