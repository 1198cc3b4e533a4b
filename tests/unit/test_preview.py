"""What a run says before it starts: its device, its prompts as the model reads them, its memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
from chat_templates import LIKE_MIDM, TURNS
from helpers import SMOKE_PARAMS, TINY_MODEL

from grpo_helpers import training
from grpo_helpers.architecture import load_architecture
from grpo_helpers.devices import Machine, this_machine
from grpo_helpers.memory import GIB, budget_of_params, predict
from grpo_helpers.models import load_tokenizer
from grpo_helpers.preview import (
    SHOWN,
    PeakMemory,
    Preview,
    preview_run,
    shortened,
)
from grpo_helpers.prompts import PromptSizes, prompt_lengths, prompt_sizes, prompt_texts
from grpo_helpers.settings import TrainSettings
from grpo_helpers.training import prepare

PROMPT = [
    {"role": "system", "content": "고쳐라."},
    {"role": "user", "content": "몇일이 걸렸다."},
]
CARD = Machine("2.13.0", has_gpu=True, gpus=1, name="some card", gib=24.0)
SIZES = PromptSizes(count=10, longest=300, mean=250.4, template_share=0.125)
PREVIEW = Preview(
    machine=CARD,
    precision="bfloat16",
    processes=1,
    completions=32,
    sizes=SIZES,
    prompt="<user>몇일이 걸렸다.<assistant>",
    gloss="It took a few days.",
    memory=PeakMemory(10 * GIB, "decode"),
)


# -- how long prompts are, and who wrote them ------------------------------------------------------


def tokenizer_with(template):
    """Return the embedded model's tokenizer with another chat template."""
    tokenizer = load_tokenizer(TINY_MODEL)
    tokenizer.chat_template = template
    return tokenizer


def test_template_that_adds_nothing_has_no_share():
    tokenizer = tokenizer_with("{% for m in messages %}{{ m.content }}{% endfor %}")

    assert prompt_sizes([PROMPT], tokenizer).template_share == 0


def test_share_of_a_template_is_what_it_adds_to_the_messages():
    """Every character is a token of this tokenizer."""
    tokenizer = tokenizer_with("여덟 글자입니다{% for m in messages %}{{ m.content }}{% endfor %}")
    ours = sum(len(message["content"]) for message in PROMPT)

    sizes = prompt_sizes([PROMPT], tokenizer)

    assert sizes.longest == ours + 8
    assert sizes.template_share == pytest.approx(8 / (ours + 8))


def test_text_built_into_a_template_counts_as_its_own():
    plain = prompt_sizes([PROMPT], tokenizer_with(TURNS))
    with_built_in_text = prompt_sizes([PROMPT], tokenizer_with(LIKE_MIDM))

    assert with_built_in_text.template_share > plain.template_share


def test_sizes_are_those_of_all_prompts():
    prompts = [PROMPT, [*PROMPT, {"role": "assistant", "content": "며칠"}, PROMPT[1]]]
    tokenizer = load_tokenizer(TINY_MODEL)
    lengths = prompt_lengths(prompts, tokenizer)

    sizes = prompt_sizes(prompts, tokenizer)

    assert (sizes.count, sizes.longest) == (2, max(lengths))
    assert sizes.mean == sum(lengths) / 2


# -- a run -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def settings():
    return TrainSettings(num_processes=1)


@pytest.fixture(scope="module")
def prepared(settings):
    return prepare(settings)


@pytest.fixture(scope="module")
def preview(settings, prepared):
    return preview_run(settings, prepared.items, prepared.prompts)


def test_train_and_dev_prompts_are_counted(preview, prepared):
    assert preview.sizes.count == len(prepared.train_items) + len(prepared.eval_items)


def test_prompt_is_the_first_one_as_the_model_reads_it(preview, prepared, settings):
    tokenizer = load_tokenizer(settings.model_name)
    texts = prompt_texts(prepared.train_prompts[:1], tokenizer, settings.chat_template_kwargs)

    assert [preview.prompt] == texts
    assert preview.gloss == prepared.train_items[0].extra["gloss"]


def test_memory_is_predicted_for_the_longest_prompt(preview, settings):
    budget = budget_of_params(settings.as_dict(), preview.sizes.longest)
    head = "fused" if this_machine().has_gpu else "fused_cpu"
    expected = predict(load_architecture(TINY_MODEL), replace(budget, lm_head=head))

    assert preview.memory == PeakMemory(expected.peak, expected.binds)


def test_template_of_the_run_is_the_one_that_is_shown(prepared, tmp_path):
    own = tmp_path / "own.jinja"
    own.write_text(LIKE_MIDM, encoding="utf-8")
    settings = TrainSettings(chat_template_path=str(own), date_string="27 Nov 2026")

    preview = preview_run(settings, prepared.items, prepared.prompts)

    assert preview.prompt.startswith("<system>우리는 날마다 돕는다. 오늘은 27 Nov 2026이다.")


def test_layers_that_the_formula_does_not_know_are_said_to_be_unpredicted(prepared):
    settings = TrainSettings(lora_target_modules="embed_tokens")

    text = preview_run(settings, prepared.items, prepared.prompts).text()

    assert "memory: not predicted (lora targets ['embed_tokens']" in text


@pytest.mark.parametrize(
    ("changes", "precision"),
    [
        ({}, "float32"),
        ({"dtype": "bfloat16"}, "bfloat16"),
        ({"dtype": "float16", "use_quant": True}, "weights in 4bit, the rest in float16"),
    ],
)
def test_precision_is_that_of_the_settings(prepared, changes, precision):
    preview = preview_run(TrainSettings(**changes), prepared.items, prepared.prompts)

    assert preview.precision == precision


# -- the text --------------------------------------------------------------------------------------


def test_text_says_device_prompts_memory_and_prompt():
    assert PREVIEW.text().splitlines() == [
        "device: some card, bfloat16",
        "prompts: 10, 250 tokens on average, 300 at most; "
        "12 % of the tokens are the chat template's own text",
        "memory: 10.00 GiB at the peak (decode), predicted; "
        "with overhead 10.5 to 11.5 GiB of the card's 24.0: fits",
        "first prompt, as the model reads it:",
        "<user>몇일이 걸렸다.<assistant>",
        "(its question in English: It took a few days.)",
    ]


def test_card_that_is_too_small_is_said_to_be():
    small = replace(PREVIEW, machine=replace(CARD, gib=8.0))

    assert small.text().splitlines()[2].endswith("of the card's 8.0: does not fit")


def test_cpu_has_no_memory_to_compare_with():
    without_card = replace(PREVIEW, machine=Machine("2.13.0+cpu"))

    lines = without_card.text().splitlines()

    assert lines[0] == "device: cpu, bfloat16"
    assert lines[2].endswith("besides Python and PyTorch themselves")


def test_several_processes_are_named_with_the_step_that_they_make():
    first = replace(PREVIEW, processes=4, completions=128).text().splitlines()[0]

    assert first == (
        "device: some card, bfloat16; 4 processes, one device each: 128 completions a step"
    )


def test_step_of_more_processes_is_larger(prepared):
    settings = TrainSettings(num_processes=8)
    preview = preview_run(settings, prepared.items, prepared.prompts)

    assert preview.completions == 8 * TrainSettings().batch_plan.completions_per_step


def test_prompt_without_a_gloss_ends_the_text():
    assert replace(PREVIEW, gloss="").text().endswith("<assistant>")


def test_long_prompt_is_shown_by_its_beginning_and_its_end():
    text = "가" * SHOWN + "나" * 40 + "다" * SHOWN

    assert shortened(text) == f"{'가' * SHOWN}\n[... 40 characters left out ...]\n{'다' * SHOWN}"


# -- from the shell --------------------------------------------------------------------------------


def test_training_from_the_shell_begins_with_the_preview(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(training, "train", lambda settings, prepared: print("step 1"))
    training.main(["--params", SMOKE_PARAMS, "-p", "output_dir", str(tmp_path)])

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"device: {this_machine().device}, float32")
    assert lines[-1] == "step 1"


def test_only_the_first_process_shows_the_preview(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(training, "train", lambda settings, prepared: None)
    monkeypatch.setenv("RANK", "1")
    training.main(["--params", SMOKE_PARAMS, "-p", "output_dir", str(tmp_path)])

    assert capsys.readouterr().out == ""
