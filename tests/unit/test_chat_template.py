"""Prompts are the same every day, and a run keeps the date and the template it started with."""

from __future__ import annotations

import json

import pytest
from chat_templates import ALL, DATED, LIKE_GPT_OSS, LIKE_MIDM, TURNS, UNDATED, move_clock
from helpers import TINY_MODEL

from grpo_helpers.chat_template import DEFAULT_DATE, parse_date, read_chat_template, today
from grpo_helpers.files import InputError, write_json
from grpo_helpers.inference import AnswerOptions, build_parser, options_from
from grpo_helpers.models import load_tokenizer
from grpo_helpers.prompts import prompt_texts, suit_template
from grpo_helpers.run_folder import RunFolder
from grpo_helpers.settings import TrainSettings

FRIDAY = (2026, 11, 27)
SATURDAY = (2026, 11, 28)
PROMPT = [
    {"role": "system", "content": "고쳐라."},
    {"role": "user", "content": "몇일이 걸렸다."},
]


def tokenizer_with(template):
    """Return the embedded model's tokenizer with another chat template."""
    tokenizer = load_tokenizer(TINY_MODEL)
    tokenizer.chat_template = template
    return tokenizer


def rendered(template, **kwargs):
    """Return the prompt as a model with this template reads it."""
    tokenizer = tokenizer_with(template)
    suited = suit_template(tokenizer, [PROMPT], kwargs)
    return prompt_texts(suited, tokenizer, kwargs)[0]


def plainly_rendered(template, **kwargs):
    """Return what transformers makes of the prompt when nobody gives it a date."""
    tokenizer = tokenizer_with(template)
    return tokenizer.apply_chat_template(
        PROMPT, tokenize=False, add_generation_prompt=True, **kwargs
    )


# -- the same prompt every day ---------------------------------------------------------------------


@pytest.mark.parametrize("template", DATED.values(), ids=DATED)
def test_template_alone_changes_from_day_to_day(template, monkeypatch):
    move_clock(monkeypatch, FRIDAY)
    on_friday = plainly_rendered(template)
    move_clock(monkeypatch, SATURDAY)

    assert plainly_rendered(template) != on_friday


@pytest.mark.parametrize("template", ALL.values(), ids=ALL)
def test_prompt_of_a_run_is_the_same_on_two_days(template, monkeypatch):
    move_clock(monkeypatch, FRIDAY)
    on_friday = rendered(template, date_string="27 Nov 2026")
    move_clock(monkeypatch, SATURDAY)

    assert rendered(template, date_string="27 Nov 2026") == on_friday


@pytest.mark.parametrize("template", ALL.values(), ids=ALL)
def test_prompt_without_a_run_is_the_same_on_two_days(template, monkeypatch):
    move_clock(monkeypatch, FRIDAY)
    on_friday = rendered(template)
    move_clock(monkeypatch, SATURDAY)

    assert rendered(template) == on_friday


@pytest.mark.parametrize("name", DATED)
def test_template_prints_the_date_of_the_run(name, monkeypatch):
    move_clock(monkeypatch, SATURDAY)

    text = rendered(DATED[name], date_string="27 Nov 2026")

    assert ("2026-11-27" if name == "gpt-oss" else "27 Nov 2026") in text


def test_template_without_a_run_prints_the_documented_date():
    assert f"오늘은 {DEFAULT_DATE}이다." in rendered(LIKE_MIDM)


def test_clock_shows_the_documented_date_beside_a_date_of_another_form():
    assert "2024-07-26" in rendered(LIKE_GPT_OSS, date_string="next Friday")


@pytest.mark.parametrize("name", ["Qwen", "plain"])
def test_template_that_knows_no_date_is_unaffected(name):
    expected = plainly_rendered(UNDATED[name], enable_thinking=False)

    assert rendered(UNDATED[name], enable_thinking=False, date_string="27 Nov 2026") == expected


def test_template_that_takes_no_system_message_is_unaffected_by_a_date():
    merged = "고쳐라.\n\n몇일이 걸렸다."

    assert rendered(UNDATED["Gemma"], date_string="27 Nov 2026") == f"<user>{merged}<assistant>"


# -- dates -----------------------------------------------------------------------------------------


def test_today_is_written_as_templates_write_it(monkeypatch):
    move_clock(monkeypatch, (2027, 3, 5))
    assert today() == "05 Mar 2027"


def test_written_day_is_read_back(monkeypatch):
    move_clock(monkeypatch, FRIDAY)
    assert parse_date(today()).date().timetuple()[:3] == FRIDAY


@pytest.mark.parametrize("text", ["2026-11-27", "27 nov 2026", "31 Feb 2026", "27 Xyz 2026", " "])
def test_date_of_another_form_is_refused_with_an_example(text):
    with pytest.raises(InputError, match=r"^date_string is .*, as in 26 Jul 2024$"):
        TrainSettings(date_string=text)


# -- the date of a run -----------------------------------------------------------------------------


@pytest.fixture
def recorded(tmp_path):
    """A function that writes the settings.json of an earlier part of the run ``run``."""

    def write(**parameters):
        write_json(tmp_path / "run/settings.json", {"parameters": parameters})
        return {"run_name": "run", "output_dir": str(tmp_path)}

    return write


def test_run_has_the_date_of_its_start(monkeypatch):
    move_clock(monkeypatch, FRIDAY)
    settings = TrainSettings(run_name="new")
    move_clock(monkeypatch, SATURDAY)

    assert settings.date_string == "27 Nov 2026"
    assert settings.chat_template_kwargs["date_string"] == "27 Nov 2026"


def test_given_date_is_that_of_the_run():
    assert TrainSettings(date_string="01 Feb 2025").date_string == "01 Feb 2025"


def test_resumed_run_keeps_its_date(recorded, monkeypatch):
    move_clock(monkeypatch, SATURDAY)
    place = recorded(date_string="27 Nov 2026")

    assert TrainSettings(resume="auto", **place).date_string == "27 Nov 2026"


def test_run_that_does_not_resume_gets_a_date_of_its_own(recorded, monkeypatch):
    move_clock(monkeypatch, SATURDAY)
    place = recorded(date_string="27 Nov 2026")

    assert TrainSettings(resume="no", **place).date_string == "28 Nov 2026"


def test_resumed_run_without_a_recorded_date_has_the_documented_one(recorded):
    place = recorded(seed=0)

    assert TrainSettings(resume="auto", **place).date_string == DEFAULT_DATE


def test_run_that_is_to_resume_but_has_no_folder_starts_today(tmp_path, monkeypatch):
    move_clock(monkeypatch, FRIDAY)
    settings = TrainSettings(resume="auto", run_name="new", output_dir=str(tmp_path))

    assert settings.date_string == "27 Nov 2026"


def test_date_among_the_arguments_of_the_template_stays():
    arguments = {"chat_template_kwargs": {"date_string": "01 Feb 2025"}}
    settings = TrainSettings(extra_grpo_args=arguments, date_string="27 Nov 2026")

    assert settings.chat_template_kwargs["date_string"] == "01 Feb 2025"


# -- the date of answers ---------------------------------------------------------------------------

PARAMETERS = TrainSettings(date_string="27 Nov 2026").as_dict()


def options_of_run(folder, *words, **parameters):
    """Return the options that a command line with a run names."""
    write_json(folder / "settings.json", {"parameters": PARAMETERS | parameters})
    run = ["--run", str(folder), "--checkpoint", "epoch_0", "--input_path", "i"]
    args = vars(build_parser().parse_args([*run, "--output_path", "o", *words]))
    del args["input_path"], args["output_path"]
    return options_from(args)


def test_answers_of_a_run_have_its_date(tmp_path):
    assert options_of_run(tmp_path).date_string == "27 Nov 2026"


def test_other_arguments_of_the_template_leave_the_date_of_the_run(tmp_path):
    options = options_of_run(tmp_path, "--chat_template_kwargs", json.dumps({"skip": True}))

    assert options.chat_template_kwargs == {"skip": True}
    assert options.date_string == "27 Nov 2026"


def test_command_line_replaces_the_date_of_the_run(tmp_path):
    assert options_of_run(tmp_path, "--date_string", "01 Feb 2025").date_string == "01 Feb 2025"


def test_answers_of_a_run_without_a_date_have_the_documented_one(tmp_path):
    old = dict(PARAMETERS)
    del old["date_string"], old["chat_template_path"]
    write_json(tmp_path / "settings.json", {"parameters": old})

    options = AnswerOptions.of_run(RunFolder(tmp_path), "epoch_0")

    assert (options.date_string, options.chat_template_path) == (DEFAULT_DATE, "")


def test_answers_without_a_run_have_the_documented_date():
    assert AnswerOptions(model_id="m").date_string == DEFAULT_DATE


def test_answers_with_a_date_of_another_form_are_refused():
    with pytest.raises(InputError, match="date_string is 'today'"):
        AnswerOptions(model_id="m", date_string="today")


# -- thinking --------------------------------------------------------------------------------------


@pytest.mark.parametrize("thinks", [False, True])
def test_run_switches_thinking_in_its_template(thinks):
    settings = TrainSettings(enable_thinking=thinks)
    tokenizer = tokenizer_with(UNDATED["Qwen"])

    (text,) = prompt_texts([PROMPT], tokenizer, settings.chat_template_kwargs)

    assert text.endswith("<think>") is thinks


def test_further_arguments_leave_thinking_off():
    arguments = {"chat_template_kwargs": {"skip": True}}
    kwargs = TrainSettings(extra_grpo_args=arguments).chat_template_kwargs

    assert (kwargs["skip"], kwargs["enable_thinking"]) == (True, False)


def test_thinking_in_a_second_place_is_refused():
    arguments = {"chat_template_kwargs": {"enable_thinking": True}}

    with pytest.raises(InputError, match="set the parameter enable_thinking"):
        TrainSettings(extra_grpo_args=arguments)


def test_answers_of_a_run_that_thinks_think(tmp_path):
    options = options_of_run(tmp_path, enable_thinking=True)

    assert options.template_arguments["enable_thinking"] is True


def test_answers_of_a_run_from_before_the_parameter_do_not_think(tmp_path):
    old = dict(PARAMETERS)
    del old["enable_thinking"]
    write_json(tmp_path / "settings.json", {"parameters": old})

    options = AnswerOptions.of_run(RunFolder(tmp_path), "epoch_0")

    assert options.template_arguments["enable_thinking"] is False


def test_run_that_switched_thinking_in_its_further_arguments_thinks(tmp_path):
    arguments = {"chat_template_kwargs": {"enable_thinking": True}}
    options = options_of_run(tmp_path, extra_grpo_args=arguments)

    assert options.template_arguments["enable_thinking"] is True


@pytest.mark.parametrize(
    ("word", "thinks"), [("--enable_thinking", True), ("--no-enable_thinking", False)]
)
def test_command_line_switches_thinking(tmp_path, word, thinks):
    options = options_of_run(tmp_path, word, enable_thinking=not thinks)

    assert options.template_arguments["enable_thinking"] is thinks


def test_model_without_a_run_does_not_think():
    assert AnswerOptions(model_id="m").template_arguments["enable_thinking"] is False


# -- a template of one's own -----------------------------------------------------------------------


@pytest.fixture
def template_file(tmp_path):
    """A function that writes a chat template and returns its path."""

    def write(text):
        file = tmp_path / "own.jinja"
        file.write_text(text, encoding="utf-8")
        return str(file)

    return write


def test_own_template_takes_the_place_of_the_models(template_file):
    tokenizer = load_tokenizer(TINY_MODEL, template_file(TURNS))

    text = prompt_texts([PROMPT], tokenizer)[0]

    assert text == "<system>고쳐라.<user>몇일이 걸렸다.<assistant>"


def test_missing_template_is_refused_with_its_path():
    with pytest.raises(InputError, match=r"^chat_template_path: no file nowhere\.jinja"):
        TrainSettings(chat_template_path="nowhere.jinja")


def test_empty_template_is_refused_with_its_path(template_file):
    with pytest.raises(InputError, match=r"chat template .*own\.jinja is empty"):
        TrainSettings(chat_template_path=template_file(" \n"))


def test_template_that_is_no_text_is_refused(tmp_path):
    file = tmp_path / "own.jinja"
    file.write_bytes(b"\xff\xfe{")
    with pytest.raises(InputError, match=r"chat template .*own\.jinja is not UTF-8 text"):
        read_chat_template(str(file))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{% for m in messages %}{{ m.content }}", "fails: Unexpected end of template"),
        ("{{ messages[0].content | uppercase_all }}", "fails: No filter named"),
        ("{{ messages[-1].content[:3] }}", "leaves out, alters or moves the question"),
    ],
    ids=["half a loop", "an unknown filter", "a hidden question"],
)
def test_template_that_cannot_be_used_is_refused_by_its_path(template_file, text, reason):
    path = template_file(text)
    tokenizer = load_tokenizer(TINY_MODEL, path)

    with pytest.raises(InputError, match=rf"^the chat template .*own\.jinja {reason}") as refusal:
        suit_template(tokenizer, [PROMPT], chat_template_path=path)
    assert "\n" not in str(refusal.value)
