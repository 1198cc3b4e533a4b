"""A run has one date and one template: in rollouts, dev answers, a resumed part, and later."""

from __future__ import annotations

import shutil

import pytest
from chat_templates import ALL, LIKE_MIDM, TURNS, move_clock
from helpers import ROOT, TINY_MODEL, smoke_settings

from grpo_helpers import inference
from grpo_helpers.chat_template import DEFAULT_DATE
from grpo_helpers.files import InputError, read_json, write_json
from grpo_helpers.inference import answer, run_inference
from grpo_helpers.models import load_tokenizer
from grpo_helpers.prompts import prompt_texts
from grpo_helpers.run_folder import COMPLETE, RunFolder, rewind_run_folder, start_run_folder
from grpo_helpers.training import build_trainer, grpo_config, prepare, train

FRIDAY = (2026, 11, 27)
SATURDAY = (2026, 11, 28)
SMOKE_DEV = "data/smoke/dev.json"


@pytest.fixture
def template_file(tmp_path):
    """A function that writes a chat template and returns its path."""

    def write(text):
        file = tmp_path / "own.jinja"
        file.write_text(text, encoding="utf-8")
        return str(file)

    return write


# -- rollouts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_rollouts_of_the_next_day_get_the_prompts_of_the_first(
    tmp_path, template_file, monkeypatch, name
):
    move_clock(monkeypatch, FRIDAY)
    settings = smoke_settings(tmp_path, chat_template_path=template_file(ALL[name]))
    prepared = prepare(settings)
    tokenizer = load_tokenizer(TINY_MODEL, settings.chat_template_path)
    texts = prompt_texts(prepared.train_prompts, tokenizer, settings.chat_template_kwargs)

    move_clock(monkeypatch, SATURDAY)
    trainer = build_trainer(settings, prepared, grpo_config(settings)).trainer
    tokens, *_ = trainer._tokenize_prompts(prepared.train_prompts)

    assert tokens == tokenizer(texts, add_special_tokens=False)["input_ids"]


# -- a run, and what reads it later ----------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps on a Friday, with a template of its own that asks for the date."""
    folder = tmp_path_factory.mktemp("run")
    own = folder / "own.jinja"
    own.write_text(LIKE_MIDM, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        move_clock(patch, FRIDAY)
        settings = smoke_settings(
            folder, chat_template_path=own, max_steps=2, save_steps=2, max_completion_length=8
        )
        train(settings)

    own.unlink()  # the run has a copy
    return RunFolder(settings.run_dir)


def test_run_records_its_date(run):
    assert run.settings["date_string"] == "27 Nov 2026"


def test_run_records_the_hash_of_its_template(run):
    assert len(run.description["sha256"]["chat_template_path"]) == 64


def test_run_keeps_a_copy_of_its_template(run):
    assert (run.path / "chat_template.jinja").read_text(encoding="utf-8") == LIKE_MIDM


@pytest.fixture
def asked(monkeypatch):
    """The prompts that models are asked from now on, batch by batch; they answer nothing."""
    texts = []

    def record(model, tokenizer, batch, max_new_tokens):
        texts.extend(batch)
        return [""] * len(batch)

    monkeypatch.setattr(inference, "_generate", record)
    return texts


def test_checkpoint_answers_the_next_day_as_in_training(run, tmp_path, monkeypatch):
    move_clock(monkeypatch, SATURDAY)
    again = answer(run, "step_2", SMOKE_DEV, tmp_path / "again.json")

    assert again.read_bytes() == run.answers("step_2").read_bytes()


def test_checkpoint_is_asked_with_date_and_template_of_the_run(run, tmp_path, monkeypatch, asked):
    move_clock(monkeypatch, SATURDAY)
    answer(run, "step_2", SMOKE_DEV, tmp_path / "again.json")

    assert asked
    assert all("우리는 날마다 돕는다. 오늘은 27 Nov 2026이다." in text for text in asked)


# -- answers of a model without a run --------------------------------------------------------------


@pytest.fixture
def answer_file(tmp_path, template_file):
    """A function that answers the smoke questions with a template like Midm's."""
    template = template_file(LIKE_MIDM)

    def answer_again(**changes):
        options = {"batch_size": 4, "max_new_tokens": 2, "chat_template_path": template} | changes
        return run_inference(SMOKE_DEV, tmp_path / "answers.json", TINY_MODEL, **options)

    return answer_again


def test_model_without_a_run_is_asked_with_the_documented_date(answer_file, asked):
    answer_file()

    assert all(DEFAULT_DATE in text for text in asked)


def test_finished_answers_are_still_finished_the_next_day(answer_file, asked, monkeypatch):
    move_clock(monkeypatch, FRIDAY)
    answer_file()
    asked.clear()
    move_clock(monkeypatch, SATURDAY)
    answer_file()

    assert asked == []


def test_other_date_in_the_prompts_is_answered_anew(answer_file, asked):
    answer_file()
    asked.clear()
    answer_file(date_string="27 Nov 2026")

    assert asked


def test_date_that_no_prompt_prints_changes_no_answers(answer_file, asked):
    answer_file(chat_template_path="")
    asked.clear()
    answer_file(chat_template_path="", date_string="27 Nov 2026")

    assert asked == []


def test_edited_template_is_answered_anew(answer_file, asked, template_file):
    answer_file()
    asked.clear()
    template_file(TURNS)
    answer_file()

    assert asked


def test_interrupted_answers_with_another_date_begin_anew(answer_file, asked, monkeypatch):
    record = inference._generate

    def interrupt_second(model, tokenizer, batch, max_new_tokens):
        if asked:
            raise KeyboardInterrupt
        return record(model, tokenizer, batch, max_new_tokens)

    monkeypatch.setattr(inference, "_generate", interrupt_second)
    with pytest.raises(KeyboardInterrupt):
        answer_file()
    answered = len(asked)
    questions = len(read_json(SMOKE_DEV))
    assert 0 < answered < questions

    monkeypatch.setattr(inference, "_generate", record)
    asked.clear()
    answer_file(date_string="27 Nov 2026")
    assert len(asked) == questions


def test_template_that_cannot_be_rendered_is_refused_before_anything_is_written(
    tmp_path, template_file
):
    settings = smoke_settings(tmp_path, chat_template_path=template_file("{% if %}"))

    with pytest.raises(InputError, match=r"^the chat template .*own\.jinja fails: "):
        train(settings)
    assert not settings.run_dir.exists()


# -- resuming --------------------------------------------------------------------------------------


@pytest.fixture
def settings_on(tmp_path, template_file, monkeypatch):
    """A function that returns the settings of the run as they are made on a day."""
    template = template_file(LIKE_MIDM)

    def settings(day, **changes):
        move_clock(monkeypatch, day)
        given = {"run_name": "run", "chat_template_path": template} | changes
        return smoke_settings(tmp_path, **given)

    return settings


@pytest.fixture
def started(tmp_path, settings_on):
    """A run that was started on a Friday and cut off after its second step."""
    start_run_folder(settings_on(FRIDAY))
    run = RunFolder(tmp_path / "run")
    write_json(run.trl_checkpoint(2) / COMPLETE, {"step": 2})
    run.log.path.write_text("", encoding="utf-8")
    return run


def test_run_resumes_the_next_day_with_its_date(started, settings_on):
    settings = settings_on(SATURDAY, resume="auto")
    rewind_run_folder(settings, started.last_complete())

    assert settings.date_string == "27 Nov 2026"


def test_run_does_not_resume_with_another_date(started, settings_on):
    settings = settings_on(SATURDAY, resume="auto", date_string="28 Nov 2026")

    with pytest.raises(InputError, match="date_string was '27 Nov 2026', is '28 Nov 2026'"):
        rewind_run_folder(settings, started.last_complete())


def test_run_does_not_resume_with_an_edited_template(started, settings_on, template_file):
    template_file(TURNS)

    with pytest.raises(InputError, match="sha256 chat_template_path was"):
        rewind_run_folder(settings_on(SATURDAY, resume="auto"), started.last_complete())


def test_run_does_not_resume_without_its_template(started, settings_on):
    settings = settings_on(SATURDAY, resume="auto", chat_template_path="")

    with pytest.raises(InputError, match=r"parameters chat_template_path was '.*', is ''"):
        rewind_run_folder(settings, started.last_complete())


def test_template_of_an_earlier_run_is_set_aside_with_it(started, settings_on):
    start_run_folder(settings_on(SATURDAY, chat_template_path=""))

    assert (started.path / "previous-1/chat_template.jinja").is_file()
    assert not (started.path / "chat_template.jinja").exists()


@pytest.fixture
def old_run(tmp_path):
    """A run that was recorded before dates, templates and some versions were."""
    settings = smoke_settings(tmp_path, run_name="run")
    start_run_folder(settings)
    run = RunFolder(settings.run_dir)
    write_json(run.trl_checkpoint(2) / COMPLETE, {"step": 2})
    run.log.path.write_text("", encoding="utf-8")

    description = run.description
    del description["parameters"]["date_string"], description["parameters"]["chat_template_path"]
    del description["driver"], description["model_revision"]
    for name in ("accelerate", "cuda"):
        del description["versions"][name]
    write_json(run.path / "settings.json", description)
    return run


def test_old_run_resumes_with_the_documented_date(old_run, tmp_path, capsys):
    settings = smoke_settings(tmp_path, run_name="run", resume="auto")
    rewind_run_folder(settings, old_run.last_complete())

    assert settings.date_string == DEFAULT_DATE
    assert "resuming from checkpoint-2" in capsys.readouterr().out


def test_old_run_does_not_resume_with_a_date_of_its_own(old_run, tmp_path):
    settings = smoke_settings(tmp_path, run_name="run", resume="auto", date_string="27 Nov 2026")

    with pytest.raises(InputError, match=f"date_string was '{DEFAULT_DATE}', is '27 Nov 2026'"):
        rewind_run_folder(settings, old_run.last_complete())


def test_old_run_answers_with_the_documented_date(old_run, tmp_path, asked):
    model = tmp_path / "model"
    shutil.copytree(ROOT / TINY_MODEL, model)
    (model / "chat_template.jinja").write_text(LIKE_MIDM, encoding="utf-8")
    description = old_run.description
    description["parameters"]["model_name"] = str(model)
    write_json(old_run.path / "settings.json", description)

    answer(old_run, "epoch_0", SMOKE_DEV, tmp_path / "answers.json")

    assert all(DEFAULT_DATE in text for text in asked)
