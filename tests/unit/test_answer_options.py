"""Which options a file is answered with: the run's own, or those of the command line."""

from __future__ import annotations

import json

import pytest

from grpo_helpers.files import InputError, write_json
from grpo_helpers.inference import (
    AnswerOptions,
    PartialAnswers,
    build_parser,
    main,
    options_from,
    report_unknown_characters,
)
from grpo_helpers.models import load_tokenizer
from grpo_helpers.run_folder import RunFolder

PARAMETERS = {
    "model_name": "data/tiny_model",
    "use_quant": True,
    "quant_type": "8bit",
    "dtype": "bfloat16",
    "model_kwargs": {"attn_implementation": "eager"},
    "few_shot_data_path": "data/few_shot.json",
    "instruct_path": "data/other_instruct.json",
    "num_few_shot": 3,
    "inference_batch_size": 7,
    "max_completion_length": 50,
}
FILES = ["--input_path", "data/smoke/dev.json", "--output_path", "answers.json"]


@pytest.fixture
def run(tmp_path):
    """A run with one checkpoint and parameters that are not the default ones."""
    write_json(tmp_path / "settings.json", {"parameters": PARAMETERS})
    (tmp_path / "epoch_1").mkdir()
    (tmp_path / "epoch_1/adapter_config.json").write_text("{}")
    return RunFolder(tmp_path)


def options_of(*words):
    """Return the options that a command line names."""
    args = vars(build_parser().parse_args([*FILES, *words]))
    del args["input_path"], args["output_path"]
    return options_from(args)


# -- from a run ------------------------------------------------------------------------------------


def test_run_decides_every_option(run):
    assert AnswerOptions.of_run(run, "epoch_1") == AnswerOptions(
        model_id="data/tiny_model",
        lora_weights_path=str(run.path / "epoch_1"),
        quant_type="8bit",
        dtype="bfloat16",
        model_kwargs={"attn_implementation": "eager"},
        few_shot_data_path="data/few_shot.json",
        instruct_path="data/other_instruct.json",
        num_few_shot=3,
        batch_size=7,
        max_new_tokens=50,
    )


def test_earlier_run_computes_in_what_it_called_bf16(run):
    earlier = {name: value for name, value in PARAMETERS.items() if name != "dtype"}
    write_json(run.path / "settings.json", {"parameters": earlier | {"bf16": True}})

    assert AnswerOptions.of_run(run, "epoch_1").dtype == "bfloat16"


TEMPLATE = {"skip_reasoning": True}


def test_run_decides_what_the_chat_template_gets(run):
    changed = PARAMETERS | {"extra_grpo_args": {"chat_template_kwargs": TEMPLATE}}
    write_json(run.path / "settings.json", {"parameters": changed})

    assert AnswerOptions.of_run(run, "epoch_1").chat_template_kwargs == TEMPLATE


def test_base_of_a_run_has_no_adapter(run):
    assert AnswerOptions.of_run(run, "epoch_0").lora_weights_path is None


def test_run_without_quantisation_ignores_its_kind(run):
    write_json(run.path / "settings.json", {"parameters": PARAMETERS | {"use_quant": False}})

    assert AnswerOptions.of_run(run, "epoch_1").quant_type is None


def test_unknown_checkpoint_is_refused_with_the_known_ones(run):
    with pytest.raises(InputError, match=r"no checkpoint 'epoch_9'; it has epoch_0, epoch_1"):
        AnswerOptions.of_run(run, "epoch_9")


def test_folder_without_settings_is_no_run(tmp_path):
    with pytest.raises(InputError, match=r"no settings\.json"):
        AnswerOptions.of_run(RunFolder(tmp_path), "epoch_1")


# -- from the command line -------------------------------------------------------------------------


def test_command_line_takes_options_from_the_run(run):
    words = ("--run", str(run.path), "--checkpoint", "epoch_1")

    assert options_of(*words) == AnswerOptions.of_run(run, "epoch_1")


def test_command_line_replaces_single_options_of_the_run(run):
    words = ("--run", str(run.path), "--checkpoint", "epoch_1", "--batch_size", "2")

    assert options_of(*words).batch_size == 2
    assert options_of(*words).num_few_shot == 3


def test_model_on_the_command_line_has_default_options():
    assert options_of("--model_id", "data/tiny_model") == AnswerOptions(model_id="data/tiny_model")


def test_command_line_takes_arguments_of_the_template_as_json():
    words = ("--model_id", "m", "--chat_template_kwargs", json.dumps(TEMPLATE))

    assert options_of(*words).chat_template_kwargs == TEMPLATE


def test_template_arguments_that_are_no_mapping_are_refused(capsys):
    with pytest.raises(SystemExit):
        options_of("--model_id", "m", "--chat_template_kwargs", "off")
    assert "chat_template_kwargs is 'off'; give a mapping" in capsys.readouterr().err


def test_old_arguments_of_the_command_line_still_work():
    words = (
        *("--model_id", "m", "--lora_weights_path", "runs/a/epoch_1", "--quant_type", "4bit"),
        *("--bf16", "--few_shot_data_path", "f", "--instruct_path", "i", "--num_few_shot", "0"),
        *("--batch_size", "1", "--max_new_tokens", "9"),
    )

    assert options_of(*words) == AnswerOptions(
        model_id="m",
        lora_weights_path="runs/a/epoch_1",
        quant_type="4bit",
        dtype="bfloat16",
        few_shot_data_path="f",
        instruct_path="i",
        num_few_shot=0,
        batch_size=1,
        max_new_tokens=9,
    )


def test_unknown_characters_are_told_once_with_their_count(capsys):
    tokenizer = load_tokenizer("data/tiny_model")
    prompts = [[{"role": "user", "content": text}] for text in ("뷁뷁 며칠", "몇일", "𝕏")]
    report_unknown_characters(prompts, tokenizer, "dev.json")

    message = capsys.readouterr().err
    assert message.startswith("dev.json: the model does not know 3 characters (2 different: 뷁𝕏)")
    assert "in 2 of 3 questions" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize("words", [(), ("--checkpoint", "epoch_1")])
def test_neither_run_nor_model_is_refused(words):
    with pytest.raises(InputError, match="give --run and --checkpoint, or --model_id"):
        options_of(*words)


def test_run_and_model_together_are_refused(run):
    with pytest.raises(InputError, match="--run brings its own model"):
        options_of("--run", str(run.path), "--checkpoint", "epoch_1", "--model_id", "m")


def test_run_without_a_checkpoint_lists_those_it_has(run):
    with pytest.raises(InputError, match=r"--run needs --checkpoint; .* has epoch_0, epoch_1"):
        options_of("--run", str(run.path))


def test_bad_input_is_one_line(tmp_path, capsys):
    assert main([*FILES, "--run", str(tmp_path), "--checkpoint", "epoch_1"]) == 2
    assert capsys.readouterr().err.startswith("error: no settings.json")


def test_arguments_of_the_model_are_json_on_the_command_line():
    words = ("--model_id", "m", "--model_kwargs", '{"attn_implementation": "eager"}')

    assert options_of(*words).model_kwargs == {"attn_implementation": "eager"}


def test_unknown_dtype_is_refused():
    with pytest.raises(InputError, match="dtype is 'half'; it must be one of bfloat16, float16"):
        AnswerOptions(model_id="m", dtype="half")


@pytest.mark.parametrize("name", ["batch_size", "max_new_tokens"])
def test_count_of_zero_is_refused(name):
    with pytest.raises(InputError, match=f"{name} is 0; it must be 1 or more"):
        AnswerOptions(model_id="m", **{name: 0})


def test_folder_in_the_place_of_the_answers_is_refused_before_a_model_is_read(tmp_path, capsys):
    words = ["--input_path", "data/smoke/dev.json", "--output_path", str(tmp_path)]

    assert main([*words, "--model_id", "no/model"]) == 2
    assert "is a folder: name a file in it" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_answers_never_replace_the_questions(tmp_path, capsys):
    questions = tmp_path / "dev.json"
    questions.write_text("[]")
    words = ["--input_path", str(questions), "--output_path", str(questions)]

    assert main([*words, "--model_id", "no/model"]) == 2
    assert "would replace the questions" in capsys.readouterr().err


# -- answers so far --------------------------------------------------------------------------------


def test_answers_so_far_are_read_back(tmp_path):
    PartialAnswers(tmp_path / "a.json", "same").write({0: "며칠", 12: "몇 일"})

    assert PartialAnswers(tmp_path / "a.json", "same").read() == {0: "며칠", 12: "몇 일"}


def test_answers_under_other_options_are_not_taken(tmp_path):
    PartialAnswers(tmp_path / "a.json", "one").write({0: "며칠"})

    assert PartialAnswers(tmp_path / "a.json", "other").read() == {}


def test_answers_of_an_earlier_version_are_not_taken(tmp_path):
    old = {"asked": "0", "answers": {"0": "며칠"}}
    (tmp_path / "a.json.partial").write_text(json.dumps(old), encoding="utf-8")

    assert PartialAnswers(tmp_path / "a.json", "0").read() == {}


def test_removed_answers_leave_no_file(tmp_path):
    partial = PartialAnswers(tmp_path / "a.json", "same")
    partial.write({0: "며칠"})
    partial.remove()

    assert list(tmp_path.iterdir()) == []
