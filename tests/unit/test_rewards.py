"""The rewards: full marks for gold answers, weights in any form, rewards of one's own."""

from __future__ import annotations

import json
import math
import unicodedata

import pytest
from helpers import smoke_settings

from grpo_helpers import plots, rewards
from grpo_helpers.data import load_items
from grpo_helpers.files import InputError
from grpo_helpers.metrics import score_answers
from grpo_helpers.questions import Item
from grpo_helpers.reward_module import load_reward_module
from grpo_helpers.run_folder import describe_run
from grpo_helpers.scoring import score_all, write_tables
from grpo_helpers.settings import EvaluateSettings, TrainSettings

GOLD = "\"회의까지 며칠밖에 남지 않았다.\"가 옳다. '며칠'은 소리대로 적는다."
WRONG_FORM = GOLD.replace("며칠밖에", "몇일밖에")
NO_REASON = GOLD.split(" '")[0]
TEXTS = [GOLD, WRONG_FORM, NO_REASON, GOLD.replace('"', ""), "정답은 " + GOLD, ""]
BUILT_IN = ["format", "em", "rouge1", "bertscore"]
SPLITS = (
    pytest.param("train", marks=pytest.mark.heavy),  # BERTScore of 555 answers
    "dev",
    "test",
    "test_unseen_words",
    "test_unseen_norms",
    "few_shot",
    "embedded/train",
    "embedded/test",
)

MODULE = """
from grpo_helpers import rewards


def shortness(prompts, completions, references, **_):
    texts = [rewards.completion_text(completion) for completion in completions]
    return [1.0 if len(text) < 20 else 0.0 for text in texts]


rewards.register("brevity", shortness, label="short answers", color="#123456")
"""


@pytest.fixture
def module(tmp_path):
    """A file that registers one reward of one's own."""
    file = tmp_path / "my_rewards.py"
    file.write_text(MODULE, encoding="utf-8")
    return file


def function_of(name):
    return rewards.registered()[name].function


def constant(value):
    """Return a reward function that gives every completion ``value``."""
    return lambda completions, **_: [value] * len(completions)


# -- the four built-in rewards ---------------------------------------------------------------------


def gold_alternatives(split):
    """Return every alternative of the gold answers of a split, each with its whole gold answer."""
    answers = []
    golds = []
    for item in load_items(f"data/{split}.json"):
        for alternative in item.answer.split("#"):
            answers.append(alternative)
            golds.append(item.answer)
    return answers, golds


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", BUILT_IN)
def test_gold_answer_earns_full_marks(split, name):
    answers, golds = gold_alternatives(split)
    earned = function_of(name)(None, answers, references=golds)
    worst = answers[earned.index(min(earned))]
    assert min(earned) == pytest.approx(1.0, abs=1e-5), worst


@pytest.mark.parametrize("split", SPLITS)
def test_gold_answer_earns_four_thirds_in_all(split):
    answers, golds = gold_alternatives(split)
    earned = rewards.multi_reward(None, answers, references=golds)
    assert min(earned) == pytest.approx(4 / 3, abs=1e-5)


@pytest.mark.parametrize("name", BUILT_IN)
def test_strings_earn_what_messages_earn(name):
    messages = [[{"role": "assistant", "content": text}] for text in TEXTS]
    golds = [GOLD] * len(TEXTS)
    reward = function_of(name)
    assert reward(None, messages, references=golds) == reward(None, TEXTS, references=golds)


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_reward_stays_between_zero_and_one(name):
    for value in function_of(name)(None, TEXTS, references=[GOLD] * len(TEXTS)):
        assert math.isfinite(value)
        assert 0 <= value <= 1 + 1e-5


@pytest.mark.parametrize("name", ["rouge1", "bertscore"])
def test_missing_reason_earns_no_likeness(name):
    assert function_of(name)(None, [NO_REASON], [GOLD]) == [0.0]


def test_likeness_ignores_the_sentence():
    other_sentence = GOLD.replace("회의까지 며칠밖에 남지 않았다.", "봄이다.")
    assert rewards.rouge1_reward(None, [other_sentence], [GOLD]) == [1.0]


# -- weights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", rewards.PRESETS)
def test_preset_has_the_maximum_four_thirds(preset):
    assert sum(rewards.reward_weights(preset).values()) == pytest.approx(4 / 3)


def test_presets_exchange_bertscore_and_format():
    article = rewards.reward_weights("article")
    code = rewards.reward_weights("code")
    assert (article["format"], article["bertscore"]) == (code["bertscore"], code["format"])
    assert article["format"] != article["bertscore"]


def test_presets_weigh_only_built_in_rewards():
    assert list(rewards.reward_weights("article")) == BUILT_IN


@pytest.mark.parametrize(
    "text",
    ["em 1 format 0.2", "em=1, format=0.2", "em: 1, format: 0.2", "{em: 1, 'format': .2}"],
)
def test_weights_as_text_are_those_of_the_mapping(text):
    assert rewards.reward_weights(text) == rewards.reward_weights({"em": 1, "format": 0.2})


def test_reward_that_is_not_named_weighs_nothing():
    assert rewards.reward_weights({"em": 1})["rouge1"] == 0.0


BAD_WEIGHTS = {
    "an unknown preset": ("articel", "unknown reward preset 'articel'; known are article, code"),
    "an unknown reward": ({"bleu": 1.0}, "names 'bleu'; known rewards are format, em"),
    "an unknown reward as text": ("bleu 1", "names 'bleu'"),
    "a reward without a weight": ("em 1 format", "every reward needs one weight"),
    "a weight that is a word": ("em one", "the weight of em is 'one'"),
    "a weight that is a switch": ({"em": True}, "the weight of em is True"),
    "a weight without end": ({"em": math.inf}, "the weight of em is inf"),
    "no weight at all": ({}, "give a preset or weights"),
}


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_bad_weights_are_refused_in_one_line(case):
    weights, message = BAD_WEIGHTS[case]
    with pytest.raises(InputError) as error:
        rewards.reward_weights(weights)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("weights", ["articel", "em 1 format", {}])
def test_weights_that_an_error_recommends_work(weights):
    with pytest.raises(InputError) as error:
        rewards.reward_weights(weights)
    recommended = str(error.value).rsplit('"', 2)[1]
    assert rewards.reward_weights(recommended)["em"] == 1.0


def test_multi_reward_is_the_weighted_sum_that_trl_computes():
    texts = [GOLD, NO_REASON, WRONG_FORM]
    golds = [GOLD] * 3
    functions, weights = rewards.reward_functions("code")

    sums = [0.0] * 3
    for function, weight in zip(functions, weights, strict=True):
        for i, value in enumerate(function(None, texts, references=golds)):
            sums[i] += weight * value

    assert rewards.multi_reward(None, texts, golds, weights="code") == pytest.approx(sums)


# -- what TRL takes --------------------------------------------------------------------------------


def trl_names(functions):
    from trl.trainer.utils import get_callable_name

    return [get_callable_name(function) for function in functions]


@pytest.mark.heavy
def test_trl_logs_the_built_in_rewards_under_their_names():
    functions, _ = rewards.reward_functions("article")
    names = ["format_reward", "em_reward", "rouge1_reward", "bertscore_reward"]
    assert trl_names(functions) == names


def test_reward_of_weight_zero_is_passed_to_trl():
    functions, weights = rewards.reward_functions("em 1")
    assert len(functions) == 4
    assert weights == [0.0, 1.0, 0.0, 0.0]


def advantages_of_a_step(reward_funcs, reward_weights, folder):
    """Return (completions, advantages) of a step of the real trainer."""
    from transformers import set_seed
    from trl import GRPOConfig, GRPOTrainer

    from grpo_helpers.models import load_model, load_tokenizer
    from grpo_helpers.prompts import PromptSource, build_dataset, load_prompted

    items, prompts = load_prompted("data/smoke/train.json", PromptSource())
    set_seed(0)
    config = GRPOConfig(
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        max_steps=1,
        per_device_train_batch_size=16,
        num_generations=8,
        gradient_accumulation_steps=1,
        temperature=1.2,
        max_completion_length=80,
        reward_weights=reward_weights,
        seed=0,
        disable_tqdm=True,
        logging_strategy="no",
        dataloader_pin_memory=False,
    )
    trainer = GRPOTrainer(
        model=load_model("data/tiny_model"),
        args=config,
        processing_class=load_tokenizer("data/tiny_model"),
        train_dataset=build_dataset(items, prompts),
        reward_funcs=reward_funcs,
    )
    trainer.train()
    return list(trainer._logs["completion"]), list(trainer._logs["advantages"])


@pytest.mark.heavy
@pytest.mark.parametrize("preset", rewards.PRESETS)
def test_weights_give_trl_the_advantages_of_one_summed_function(preset, tmp_path):
    functions, weights = rewards.reward_functions(preset)

    def one_function(prompts, completions, **columns):
        return rewards.multi_reward(prompts, completions, weights=preset, **columns)

    apart, advantages = advantages_of_a_step(functions, weights, tmp_path)
    together, advantages_of_sum = advantages_of_a_step(one_function, None, tmp_path)

    assert apart == together
    assert len(advantages) == 16
    assert len(set(advantages)) > 2  # the completions do differ in reward
    assert advantages == pytest.approx(advantages_of_sum, abs=1e-5)


# -- rewards of one's own --------------------------------------------------------------------------


def test_registered_reward_comes_after_the_built_in_ones():
    rewards.register("brevity", constant(1.0))
    assert list(rewards.registered()) == [*BUILT_IN, "brevity"]


def test_registered_reward_can_be_weighed():
    rewards.register("brevity", constant(1.0))
    assert rewards.reward_weights("em 1 brevity 0.5")["brevity"] == 0.5


@pytest.mark.heavy
def test_registered_reward_without_a_weight_is_only_logged():
    rewards.register("brevity", constant(1.0))
    functions, weights = rewards.reward_functions("article")
    assert trl_names(functions)[-1] == "brevity_reward"
    assert weights[-1] == 0.0


def test_registered_reward_leaves_the_other_weights_alone():
    before = rewards.reward_weights("article")
    rewards.register("brevity", constant(1.0))
    assert rewards.reward_weights("article") == before | {"brevity": 0.0}


def test_registering_again_replaces_the_reward():
    rewards.register("brevity", constant(1.0))
    rewards.register("brevity", constant(2.0))
    assert function_of("brevity")(completions=[""]) == [2.0]


def test_reward_without_a_colour_gets_one_that_is_free():
    first = rewards.register("first", constant(1.0))
    second = rewards.register("second", constant(1.0))
    assert first.color != second.color
    assert not {first.color, second.color} & set(plots.COLORS.values())


BAD_REWARDS = {
    "a built-in name": ("em", constant(1.0), "'em' is taken"),
    "a metric's name": ("choice", constant(1.0), "'choice' is taken"),
    "a preset's name": ("code", constant(1.0), "'code' is taken"),
    "two words": ("my reward", constant(1.0), "must be lower-case letters"),
    "no function": ("brevity", 1.0, "is not a function"),
}


@pytest.mark.heavy
def test_every_score_column_is_a_taken_name():
    columns = score_answers([GOLD], [Item("1", "교정형", "", GOLD)])
    assert set(columns) <= {*rewards.RESERVED, *rewards.registered()}


@pytest.mark.parametrize("case", BAD_REWARDS)
def test_reward_that_cannot_be_registered_is_refused(case):
    name, function, message = BAD_REWARDS[case]
    with pytest.raises(InputError, match=message):
        rewards.register(name, function)


def test_async_function_is_refused():
    async def later(completions, **_):
        return [1.0]

    with pytest.raises(InputError, match="must not be async"):
        rewards.register("later", later)


def test_answer_that_a_reward_does_not_judge_scores_nan():
    rewards.register("brevity", constant(None))
    (score,) = rewards.extra_scores(["며칠"], [Item("1", "선택형", "?", GOLD)])["brevity"]
    assert math.isnan(score)


def test_reward_with_too_few_values_is_named():
    rewards.register("brevity", lambda **_: [])
    with pytest.raises(InputError, match="brevity returned 0 values for 1 answers"):
        rewards.extra_scores(["며칠"], [Item("1", "선택형", "?", GOLD)])


def test_reward_sees_the_question_when_it_scores():
    questions = []

    def remember(prompts, **_):
        questions.extend(prompt[-1]["content"] for prompt in prompts)
        return [1.0 for _ in prompts]

    rewards.register("brevity", remember)
    rewards.extra_scores(["며칠"], [Item("1", "선택형", "며칠?", GOLD)])
    assert questions == ["며칠?"]


def test_scores_without_own_rewards_are_those_of_the_metrics():
    items = [Item("1", "선택형", '"{며칠/몇일}이 걸렸다." 가운데', GOLD)]
    scores = score_all({"epoch_0": [GOLD]}, items)
    assert list(scores["epoch_0"]) == list(score_answers([GOLD], items))


# -- reward_module ---------------------------------------------------------------------------------


def test_settings_load_the_module_before_the_weights(module):
    settings = TrainSettings(reward_module=str(module), reward_weights="em 1 brevity 0.5")
    assert rewards.reward_weights(settings.reward_weights)["brevity"] == 0.5


def test_settings_take_weights_as_a_mapping(module):
    weights = {"em": 1, "brevity": 0.5}
    settings = TrainSettings(reward_module=str(module), reward_weights=weights)
    assert settings.reward_weights == weights


def test_settings_take_weights_of_a_yaml_file_or_option(module, tmp_path):
    settings = smoke_settings(
        tmp_path, reward_module=module, reward_weights={"em": 1, "brevity": 0.5}
    )
    assert settings.reward_weights == {"em": 1, "brevity": 0.5}


def test_weights_of_an_option_may_be_no_yaml():
    from grpo_helpers.training import read_params

    changes = [("reward_weights", "em: 1, format: 0.2")]
    settings = read_params("params/smoke/04_train.yaml", changes)
    assert rewards.reward_weights(settings.reward_weights)["em"] == 1.0


@pytest.mark.heavy
def test_weight_of_the_module_reaches_the_config_of_trl(module):
    from grpo_helpers.training import grpo_config

    settings = TrainSettings(reward_module=str(module), reward_weights="em 1 brevity 0.5")
    assert grpo_config(settings).reward_weights == [0.0, 1.0, 0.0, 0.0, 0.5]


def test_reward_of_the_module_is_a_column_of_scores(module, tmp_path):
    import pandas as pd

    load_reward_module(str(module))
    items = load_items("data/smoke/dev.json")
    answers = {"epoch_0": ["며칠"] * len(items), "epoch_1": [item.answer for item in items]}

    write_tables(score_all(answers, items), items, tmp_path)

    table = pd.read_csv(tmp_path / "scores.csv").set_index("checkpoint")
    assert list(table["brevity"]) == [1.0, 0.0]


def test_reward_of_the_module_has_its_label_in_figures(module):
    load_reward_module(str(module))
    assert plots.label_of("brevity") == "short answers"


def test_reward_of_the_module_has_its_colour_in_figures(module):
    load_reward_module(str(module))
    assert plots.color_of("brevity") == "#123456"


def test_module_is_loaded_once(module):
    load_reward_module(str(module))
    first = rewards.registered()["brevity"]
    load_reward_module(str(module))
    assert rewards.registered()["brevity"] is first


def test_edited_module_is_loaded_again(module):
    load_reward_module(str(module))
    module.write_text(MODULE.replace("short answers", "few words"), encoding="utf-8")
    load_reward_module(str(module))
    assert rewards.registered()["brevity"].label == "few words"


BAD_MODULES = {
    "a fault at once": ("\nundefined_name", "line 2: NameError: name 'undefined_name'"),
    "a syntax error": ("def f(:", "line 1: SyntaxError"),
    "a taken name": ("from grpo_helpers.rewards import *\nregister('em', print)", "line 2: reward"),
    "no reward": ("x = 1", "registers no reward: call grpo_helpers.rewards.register"),
}


@pytest.mark.parametrize("case", BAD_MODULES)
def test_module_that_cannot_be_used_is_refused_in_one_line(case, tmp_path):
    source, message = BAD_MODULES[case]
    file = tmp_path / "bad.py"
    file.write_text(source, encoding="utf-8")

    with pytest.raises(InputError) as error:
        load_reward_module(str(file))

    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_module_says_where_it_was_looked_for():
    with pytest.raises(InputError, match=r"reward_module: no Python file nowhere\.py"):
        TrainSettings(reward_module="nowhere.py")


def test_module_that_fails_registers_nothing(module):
    module.write_text(MODULE + "\nundefined_name", encoding="utf-8")
    with pytest.raises(InputError):
        load_reward_module(str(module))
    assert "brevity" not in rewards.registered()


def test_run_records_the_hash_of_its_module(module):
    settings = TrainSettings(reward_module=str(module))
    before = describe_run(settings)["sha256"]["reward_module"]
    module.write_text(MODULE + "\n", encoding="utf-8")
    assert describe_run(settings)["sha256"]["reward_module"] != before


def test_run_without_a_module_records_no_hash():
    assert "reward_module" not in describe_run(TrainSettings())["sha256"]


def evaluate_settings(tmp_path, recorded="", **parameters):
    """Return notebook 05's settings for a run that was trained with the module ``recorded``."""
    from grpo_helpers.files import write_json

    run = tmp_path / "default"
    write_json(run / "settings.json", {"parameters": {"reward_module": recorded}})
    write_json(run / "infer_results" / "inference_epoch1.json", [])
    return EvaluateSettings(output_dir=str(tmp_path), **parameters)


def test_evaluation_loads_the_module_it_is_given(module, tmp_path):
    evaluate_settings(tmp_path, reward_module=str(module))
    assert "brevity" in rewards.registered()


def test_evaluation_loads_the_module_of_the_run(module, tmp_path):
    evaluate_settings(tmp_path, recorded=str(module))
    assert "brevity" in rewards.registered()


def test_evaluation_does_without_a_module_that_is_gone(tmp_path):
    evaluate_settings(tmp_path, recorded="gone.py")
    assert list(rewards.registered()) == BUILT_IN


def evaluate_from_the_shell(tmp_path, recorded="", options=()):
    """Score one answer file of a run with the command; return the columns of its scores.csv."""
    from grpo_helpers.evaluate_json import main
    from grpo_helpers.files import write_json
    from grpo_helpers.inference import write_answers

    items = load_items("data/smoke/dev.json")
    write_json(tmp_path / "settings.json", {"parameters": {"reward_module": recorded}})
    folder = tmp_path / "infer_results"
    write_answers(folder / "inference_epoch0.json", items, ["며칠"] * len(items))

    assert main(["--input_dir", str(folder), "--label_path", "data/smoke/dev.json", *options]) == 0
    return (tmp_path / "scores.csv").read_text(encoding="utf-8").splitlines()[0].split(",")


def test_command_scores_by_the_module_it_is_given(module, tmp_path):
    assert "brevity" in evaluate_from_the_shell(tmp_path, options=["--reward_module", str(module)])


def test_command_scores_by_the_module_of_the_run(module, tmp_path):
    assert "brevity" in evaluate_from_the_shell(tmp_path, recorded=str(module))


@pytest.fixture
def gold_file(tmp_path):
    """A contest file of one row, whose answer may be replaced."""
    row = {"id": "1", "input": {"question_type": "교정형", "question": "몇일이 걸렸다."}}

    def write(answer):
        file = tmp_path / "gold.json"
        text = json.dumps([row | {"output": {"answer": answer}}], ensure_ascii=True)
        file.write_text(text, encoding="utf-8")
        return str(file)

    return write


def test_check_of_decomposed_gold_answers_finds_nothing(gold_file):
    file = gold_file(unicodedata.normalize("NFD", GOLD))
    assert rewards.main(["check", file]) == 0


def test_check_names_the_row_with_half_a_character(gold_file, capsys):
    assert rewards.main(["check", gold_file(GOLD + "\ud83d")]) == 2
    assert "row 1 (id '1'): \\ud83d is half of a character" in capsys.readouterr().err


# -- thoughts --------------------------------------------------------------------------------------

ITEM = Item("1", "선택형", '"{며칠/몇일}이 걸렸다." 가운데', GOLD)
THOUGHT = f"<think>\n{GOLD}\n답은 이것이다.\n</think>\n\n"  # gives sentence and reason away
ANSWERS = {"gold": GOLD, "no reason": NO_REASON, "wrong form": WRONG_FORM, "nothing": ""}


def message(text, **fields):
    return [{"role": "assistant", "content": text, **fields}]


def earned(completion):
    """Return what a completion earns of every registered reward."""
    columns = {"references": [GOLD], "question": [ITEM.question], "question_type": ["선택형"]}
    values = {}
    for name, reward in rewards.registered().items():
        (values[name],) = reward.trl_function(prompts=None, completions=[completion], **columns)
    return values


@pytest.fixture
def brevity():
    """A reward of one's own that counts what it is shown."""

    def count(prompts, completions, **_):
        return [float(len(rewards.completion_text(completion))) for completion in completions]

    return rewards.register("brevity", count)


@pytest.mark.parametrize("case", ANSWERS)
def test_answer_after_a_thought_earns_what_it_earns_without(case, brevity):
    text = ANSWERS[case]
    assert earned(message(THOUGHT + text)) == earned(message(text))


@pytest.mark.parametrize("case", ANSWERS)
def test_answer_after_a_thought_scores_what_it_scores_without(case):
    text = ANSWERS[case]
    scores = score_all({"plain": [text], "thinks": [THOUGHT + text]}, [ITEM])

    for metric in score_answers([text], [ITEM]):
        assert scores["thinks"][metric] == pytest.approx(scores["plain"][metric], nan_ok=True)


def test_thought_that_was_cut_off_earns_nothing_whatever_it_says(brevity):
    assert set(earned(message(f"<think>{GOLD}")).values()) == {0.0}


def test_thought_after_an_answer_earns_nothing_but_costs_the_format(brevity):
    late = earned(message(f"{WRONG_FORM}\n{THOUGHT}"))
    assert late == earned(message(WRONG_FORM)) | {"format": 0.0}


def test_thought_that_was_parsed_by_the_tokenizer_is_not_shown(brevity):
    apart = message(WRONG_FORM, reasoning_content=GOLD)
    assert earned(apart) == earned(message(WRONG_FORM))


def test_own_reward_that_asks_for_thoughts_is_shown_them():
    def thinks(prompts, completions, **_):
        return [float(bool(rewards.split_completion(each).thought)) for each in completions]

    rewards.register("thinks_aloud", thinks, sees_thought=True)
    assert earned(message(THOUGHT + GOLD))["thinks_aloud"] == 1.0


@pytest.mark.parametrize(
    ("text", "em"), [(GOLD, 0.0), (f"음</think>{GOLD}", 1.0), (f"<think>음</think>{GOLD}", 1.0)]
)
def test_what_follows_an_open_thought_is_a_thought_until_it_is_closed(text, em):
    functions, _ = rewards.reward_functions("article", thought_is_open=True)
    em_reward = {function.__name__: function for function in functions}["em_reward"]

    assert em_reward(prompts=None, completions=[message(text)], references=[GOLD]) == [em]


def test_completion_without_a_thought_is_passed_on_as_it_is():
    completion = message(GOLD)
    assert rewards.answer_alone(completion) is completion
