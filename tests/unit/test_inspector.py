"""The group inspector: the groups of a run, their numbers, their texts, and the page's data."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest
import torch
from exercises import loss_by_hand
from helpers import TINY_MODEL

from grpo_helpers import rewards
from grpo_helpers.data import load_items
from grpo_helpers.files import InputError, write_json
from grpo_helpers.inspector import (
    DIVISORS,
    LONGEST_COMPARED,
    Group,
    ScoredCompletion,
    Start,
    Tokens,
    by_character,
    by_tokenizer,
    differences_of,
    group_advantages,
    group_parts,
    groups_of_rows,
    groups_of_run,
    groups_of_table,
    inspect_groups,
    inspect_run,
    instructive,
    page_data,
    spread_of,
    token_pushes,
    weighted_sums,
)
from grpo_helpers.models import load_tokenizer
from grpo_helpers.questions import Item
from grpo_helpers.run_folder import RunFolder

ITEMS = load_items("data/smoke/train.json")
RIGHT = "며칠 뒤에 봬요"
WRONG = "몇일 뒤에 봬요"


def row(text, em, step=1, item=ITEMS[0], **more):
    """Return a completion as TRL's table has it."""
    prompt = [{"role": "user", "content": item.question}]
    completion = [{"role": "assistant", "content": text}]
    values = {"em_reward": em, "format_reward": 1.0, "advantage": 0.5}
    return {"step": step, "prompt": prompt, "completion": completion, **values, **more}


def group_of(*scores, texts=None, item=None):
    """Return a group whose completions earned these scores for exact match."""
    texts = texts or [f"{RIGHT} {place}" for place in range(len(scores))]
    completions = []
    for text, em in zip(texts, scores, strict=True):
        completions.append(ScoredCompletion(text, {"em": em, "format": 1.0}))
    question = item.question if item else '"{며칠/몇일} 뒤에 봬요" 가운데 올바른 것은?'
    return Group(question, tuple(completions), item)


# -- groups ----------------------------------------------------------------------------------------


def test_table_is_divided_into_groups():
    table = pd.DataFrame([row(RIGHT, 1.0), row(WRONG, 0.0)] * 2)

    groups = groups_of_table(table, 2)

    texts = [[each.text for each in group.completions] for group in groups]
    assert texts == [[RIGHT, WRONG], [RIGHT, WRONG]]


def test_group_knows_its_item_and_step():
    (group,) = groups_of_rows([row(RIGHT, 1.0, step=7)] * 2, 2, ITEMS)

    assert (group.item, group.step) == (ITEMS[0], 7)


def test_completion_keeps_what_it_earned_and_its_advantage():
    (group,) = groups_of_rows([row(RIGHT, 1.0), row(WRONG, 0.0)], 2)

    second = group.completions[1]
    assert second.rewards == {"em": 0.0, "format": 1.0}
    assert second.logged == 0.5


def test_reward_that_was_not_given_is_none():
    (group,) = groups_of_rows([row(RIGHT, math.nan)] * 2, 2)

    assert group.completions[0].rewards["em"] is None


def test_row_outside_a_whole_group_is_left_out():
    lone = row(RIGHT, 1.0, item=ITEMS[1])
    whole = [row(WRONG, 0.0), row(RIGHT, 1.0)]

    groups = groups_of_rows([lone, *whole, lone], 2)

    assert [group.question for group in groups] == [ITEMS[0].question]


def test_completions_of_two_steps_are_no_group():
    assert groups_of_rows([row(RIGHT, 1.0, step=1), row(RIGHT, 1.0, step=2)], 2) == []


def test_table_without_rewards_is_refused():
    with pytest.raises(InputError, match="no column ends in _reward, there are prompt"):
        groups_of_rows([{"prompt": "며칠", "completion": RIGHT}] * 2, 2)


@pytest.fixture
def run(tmp_path):
    """A run folder with the completions of three logged steps: two groups each."""
    parameters = {
        "num_generations": 2,
        "train_data_path": "data/smoke/train.json",
        "reward_weights": "em 1 format 0.5",
        "scale_rewards": "none",
        "loss_type": "grpo",
        "max_completion_length": 40,
    }
    write_json(tmp_path / "settings.json", {"parameters": parameters})
    (tmp_path / "completions").mkdir()
    for step in (1, 2, 3):
        taught = [row(RIGHT, 1.0, step), row(WRONG, 0.0, step)]
        silent = [row(RIGHT, 1.0, step, ITEMS[1])] * 2
        table = pd.DataFrame(silent + taught)
        table.to_parquet(tmp_path / f"completions/completions_{step:05}.parquet")
    return RunFolder(tmp_path)


def test_run_has_groups_of_its_first_middle_and_last_step(run):
    assert [group.step for group in groups_of_run(run)] == [1, 1, 2, 2, 3, 3]


def test_groups_of_a_run_have_the_glosses_of_its_train_file(run):
    assert groups_of_run(run)[1].item == ITEMS[0]


def test_inspector_of_a_run_begins_with_its_last_step_and_its_settings(run):
    data = data_of(inspect_run(run).html)

    assert [group["step"] for group in data["groups"]] == [3, 3, 2, 2, 1, 1]
    assert data["start"] == {"weights": {"format": 0.5, "em": 1}, "scale": "none", "loss": "grpo"}


def test_recorded_run_with_a_whole_group_has_it(run):
    for file in (run.path / "completions").iterdir():
        file.unlink()
    recorded = [row(RIGHT, 1.0), row(WRONG, 0.0)]
    write_json(run.path / "completions.json", recorded)

    assert len(groups_of_run(run)) == 1


def test_recorded_run_of_single_completions_has_no_inspector():
    assert inspect_run(RunFolder("data/reference_runs/seed_0")) is None


def test_folder_that_is_no_run_has_no_inspector(tmp_path):
    assert inspect_run(RunFolder(tmp_path)) is None


def test_instructive_groups_are_one_that_teaches_and_one_that_does_not():
    silent, little, much = group_of(1, 1, 1, 1), group_of(1, 1, 1, 0), group_of(1, 1, 0, 0)

    assert instructive([silent, little, much, silent]) == [much, silent]


# -- from rewards to pushes ------------------------------------------------------------------------


def test_weighted_sum_is_the_reward_of_training():
    weights = "em 1 format 0.5 rouge1 0.25"
    golds = [item.answer for item in ITEMS[:4]]
    written = [golds[0], golds[1].replace("가 옳다", ""), golds[2], golds[0]]
    earned = {}
    for name in ("format", "em", "rouge1"):
        earned[name] = rewards.registered()[name].function(None, written, references=golds)
    scores = [{name: earned[name][place] for name in earned} for place in range(4)]
    group = Group("", tuple(ScoredCompletion("", each) for each in scores))

    expected = rewards.multi_reward(None, written, references=golds, weights=weights)

    assert weighted_sums(group, weights) == pytest.approx(expected)


def test_reward_that_judges_nothing_counts_as_nothing():
    assert weighted_sums(group_of(1.0, None), "em 1 format 0.5") == [1.5, 0.5]


def test_completion_that_nothing_judges_has_no_reward():
    group = Group("", (ScoredCompletion("", {"em": None}), ScoredCompletion("", {"em": 1.0})))

    assert weighted_sums(group, "em 1 format 0") == [None, 1.0]


def test_advantage_is_the_one_of_notebook_02():
    sums = pd.Series([1.333, 0.959, 0.6, 0.0])

    expected = (sums - sums.mean()) / (sums.std(ddof=1) + 1e-4)

    assert group_advantages(sums.tolist()) == pytest.approx(expected.tolist(), abs=1e-12)


def test_advantage_of_a_completion_without_a_reward_is_zero():
    assert group_advantages([1.0, None, 0.0], "none") == [0.5, 0.0, -0.5]


def test_advantages_of_equal_rewards_are_zero():
    assert group_advantages([0.7] * 4) == pytest.approx([0.0] * 4, abs=1e-9)


def test_spread_of_rewards_that_are_not_there_is_zero():
    spread = spread_of([None, None])

    assert (spread.mean, spread.std) == (0.0, 0.0)


@pytest.fixture(scope="module")
def by_hand():
    """The loss of notebook 02, which another test compares with TRL's."""
    names = loss_by_hand()
    return names["token_losses"], names["average"]


@pytest.mark.parametrize("loss_type", DIVISORS)
def test_push_is_minus_the_slope_of_the_loss_by_hand(by_hand, loss_type):
    token_losses, average = by_hand
    lengths, longest = torch.tensor([4, 2, 3]), 6
    advantages = torch.tensor([1.2, -0.7, -0.5])
    mask = (torch.arange(4) < lengths[:, None]).float()
    old = torch.full((3, 4), -1.0)

    new = old.clone().requires_grad_()
    average(token_losses(new, old, advantages, mask), mask, loss_type, longest).backward()
    slopes = new.grad[:, 0].tolist()  # at the first token of each completion

    pushes = token_pushes(advantages.tolist(), lengths.tolist(), loss_type, longest)
    assert pushes == pytest.approx([-slope for slope in slopes], rel=1e-3)


# -- texts -----------------------------------------------------------------------------------------


def marked(text, others):
    """Return the letters of a text that are marked, in their order."""
    letters = differences_of([text, *others])[text].letters
    return "".join(text[place] for place in sorted(letters))


def test_letters_that_differ_are_marked():
    assert marked(RIGHT, [WRONG]) == "며칠"


def test_letter_that_one_of_two_others_lacks_is_marked():
    assert marked("할게요. 그만할게요.", ["할께요. 그만할게요.", "할게요. 그만할개요."]) == "게게"


def test_missing_letter_is_a_gap():
    found = differences_of(["나만큼 너를", "나 만큼 너를"])

    assert found["나만큼 너를"].gaps == {1}
    assert found["나 만큼 너를"].letters == {1}


def test_missing_end_is_a_gap():
    assert differences_of(["며칠 뒤에", "며칠 뒤에."])["며칠 뒤에"].gaps == {5}


def test_completions_that_are_unlike_are_not_compared():
    found = differences_of([RIGHT, "아무것도 모른다"])[RIGHT]

    assert not found.compared
    assert not found.letters


def test_group_of_one_text_differs_nowhere():
    found = differences_of([RIGHT, RIGHT])[RIGHT]

    assert found.compared
    assert not found.letters | found.gaps


def test_long_stretch_between_common_ends_counts_as_different():
    ends = "가" * 3 * LONGEST_COMPARED
    same = "다" * LONGEST_COMPARED

    assert marked(f"{ends}나{same}나", [f"{ends}라{same}라"]) == f"나{same}나"


def parts_of(*texts):
    return group_parts(texts, [by_character(text) for text in texts])


def test_parts_join_to_the_text():
    texts = ["나만큼 너를", "나 만큼 너를", "나 만큼 너를."]

    assert ["".join(part.text for part in parts) for parts in parts_of(*texts)] == texts


def test_beginning_is_shared_up_to_the_first_difference():
    parts, _, _ = parts_of("할게요", "할께요", "할게요")

    assert [(part.text, part.shared_by) for part in parts] == [
        ("할", (0, 1, 2)),
        ("게", (0, 2)),
        ("요", (0, 2)),
    ]


def test_beginning_is_shared_in_whole_tokens():
    tokens = [Tokens(("할", "게요"), 2), Tokens(("할", "게", "요"), 3)]

    (first, *_), _ = group_parts(["할게요", "할게요"], tokens)

    assert (first.text, first.shared_by) == ("할", (0, 1))


def test_embedded_model_has_a_token_per_character():
    text = '"며칠 뒤에 봬요."가 옳다.'

    assert by_tokenizer(load_tokenizer(TINY_MODEL))(text) == by_character(text)


def test_character_of_several_tokens_is_one_piece():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {letter: place for place, letter in enumerate(sorted(alphabet))}
    bytewise = Tokenizer(models.BPE(vocabulary, []))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenize = by_tokenizer(PreTrainedTokenizerFast(tokenizer_object=bytewise))

    assert tokenize("며칠a") == Tokens(("며", "칠", "a"), 7)


# -- the page --------------------------------------------------------------------------------------


def data_of(html):
    """Return the data in a page's script."""
    return json.loads(html.split("const data = ")[1].split(";\n")[0])


PAYLOAD = "</script><script>alert(1)</script><!-- <b>INSPECTOR_ID</b> \u2028 ${x}"


def test_page_has_no_tag_of_a_completion():
    item = Item("1", "선택형", PAYLOAD, PAYLOAD, extra={"gloss": PAYLOAD})

    html = inspect_groups([group_of(1, 0, texts=[PAYLOAD, RIGHT], item=item)]).html

    assert html.count("<script") == html.count("</script") == 1
    assert "<b>" not in html


def test_page_keeps_a_completion_as_it_is():
    html = inspect_groups([group_of(1, 0, texts=[PAYLOAD, PAYLOAD])]).html

    ((text, *_),) = data_of(html)["groups"][0]["completions"][0]["parts"]
    assert text == PAYLOAD


def test_half_a_character_is_replaced():
    html = inspect_groups([group_of(1, 0, texts=["\ud83d", RIGHT])]).html

    assert "\ufffd" in html.encode().decode()


def test_page_refers_to_no_address():
    assert "http" not in inspect_groups([group_of(1, 0)]).html


def test_two_groups_of_eight_stay_small():
    texts = [ITEMS[0].answer] * 8
    groups = [group_of(*[1.0] * 8, texts=texts, item=ITEMS[0])] * 2

    assert len(inspect_groups(groups).html.encode()) < 60_000


def test_table_is_there_without_a_script():
    before_script = inspect_groups([group_of(1, 0, texts=[RIGHT, WRONG])]).html.split("<script")[0]

    assert f'<td>+0.71</td><td><div align="left">{RIGHT}</div></td>' in before_script


def test_plain_text_has_a_line_per_completion():
    item = Item("1", "선택형", f'"{RIGHT}"', extra={"gloss": "See you in a few days"})

    lines = inspect_groups([group_of(1, 0, texts=[RIGHT, WRONG], item=item)]).text.splitlines()

    assert lines[:2] == [RIGHT, "(See you in a few days)"]
    assert lines[3].endswith(f"reward 0.500  advantage +0.71  {RIGHT}")


def test_missing_gloss_is_said():
    inspector = inspect_groups([group_of(1, 0)])

    assert "no gloss in this file" in inspector.text
    assert data_of(inspector.html)["groups"][0]["gloss"] == ""


def test_gloss_comes_with_that_of_the_word():
    extra = {"gloss": "See you.", "word": "봬요", "word_gloss": "see you"}
    item = Item("1", "교정형", "봬요", "봬요", extra=extra)

    assert page_data([group_of(1, 0, item=item)], Start())["groups"][0]["gloss"] == (
        "See you. (봬요: see you)"
    )


def test_presets_are_those_of_the_rewards():
    presets = page_data([group_of(1, 0)], Start("code"))["presets"]

    assert presets == {
        "article": {"format": 1 / 6, "em": 1 / 3},
        "code": {"format": 1 / 3, "em": 1 / 3},
    }


def test_weights_of_the_run_are_a_preset_of_their_own():
    data = page_data([group_of(1, 0)], Start("em 2 format -0.5"))

    assert data["presets"]["this run"] == data["start"]["weights"] == {"format": -0.5, "em": 2}


def test_groups_keep_their_sizes():
    groups = page_data([group_of(1, 0, 1), group_of(1, 0)], Start())["groups"]

    assert [len(group["completions"]) for group in groups] == [3, 2]


def test_end_counts_as_a_token_unless_the_completion_was_cut_off():
    texts = ["며칠", "며칠 뒤"]

    (group,) = page_data([group_of(1, 0, texts=texts)], Start(max_completion_length=4))["groups"]

    assert [each["tokens"] for each in group["completions"]] == [3, 4]
    assert [each["end"] for each in group["completions"]] == [[0], None]


def test_setting_that_one_group_cannot_show_is_named():
    data = page_data([group_of(1, 0)], Start("article", "batch", "bnpo"))

    assert (data["start"]["scale"], data["start"]["loss"]) == ("group", "dapo")
    assert data["asRun"] == {"scale": "batch", "loss": "bnpo"}


def test_no_group_is_refused():
    with pytest.raises(InputError, match="no whole group"):
        inspect_groups([])


def test_group_of_one_is_refused():
    with pytest.raises(InputError, match="fewer than two"):
        inspect_groups([group_of(1)])
