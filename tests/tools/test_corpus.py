"""The course's data: built from the cards, split without leaks, in the contest's mix."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from grpo_helpers.data import load_items
from grpo_helpers.files import InputError, project_root
from grpo_helpers.questions import CORRECTION, SELECTION, Item, choice_forms, question_sentences
from grpo_helpers.splits import SPLITS
from tools.corpus import build, check, reasons
from tools.corpus.cards import (
    PUNCTUATION,
    Alternative,
    blank_reason,
    check_carrier,
    filled,
    load_cards,
)
from tools.corpus.questions import (
    BULLETS,
    LONGEST_ANSWER,
    Draft,
    Share,
    make_item,
    make_items,
    without_long_answers,
)
from tools.corpus.sentences import SPLIT_NAMES, Use, divide, load_plan

DATA = project_root() / "data"
CARDS = load_cards()
CORPUS = check.load_corpus()
EMBEDDED = {split.name: load_items(f"data/embedded/{split.file}") for split in SPLITS}
FAST_CHECKS = ("gold answers", "forms", "splits", "rates", "length of reasons", "rule checker")


def with_first(split, **changes):
    """Return fifty items of each split, with the first one of ``split`` changed."""
    corpus = {name: items[:50] for name, items in CORPUS.items()}
    corpus[split][0] = replace(corpus[split][0], **changes)
    return corpus


def brace_item(split="train"):
    return next(item for item in CORPUS[split] if check.has_option_brace(item))


# -- the committed data -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of all files, newly built."""
    folder = tmp_path_factory.mktemp("data")
    build.write_data(folder)
    return folder


def test_builder_makes_every_file_of_the_data(built):
    files = list(built.rglob("*.json"))
    assert len(files) == len(SPLIT_NAMES) + len(SPLITS) + len(build.SMOKE)


def test_committed_data_is_what_the_builder_makes(built):
    for file in built.rglob("*.json"):
        committed = DATA / file.relative_to(built)
        assert committed.read_bytes() == file.read_bytes(), committed


@pytest.mark.parametrize("name", FAST_CHECKS)
def test_data_passes_the_check_of(name):
    assert check.CHECKS[name](CORPUS) == []


@pytest.mark.parametrize("name", check.CARD_CHECKS)
def test_cards_pass_the_check_of(name):
    assert check.CARD_CHECKS[name](CARDS) == []


@pytest.mark.slow
def test_every_disagreement_with_the_spacing_model_was_read():
    pytest.importorskip("kiwipiepy", reason="comes with make check-data")
    assert check.spacing_faults(CORPUS) == []


@pytest.mark.slow
def test_spacing_model_finds_words_run_together():
    pytest.importorskip("kiwipiepy", reason="comes with make check-data")
    corpus = with_first("train", answer='"나는학교에간다."가 옳다. 까닭이 있다.')
    faults = check.spacing_faults(corpus)
    assert len(faults) == 1
    assert "나는학교에간다" in faults[0]


@pytest.fixture(scope="module")
def counted():
    """How much there is of everything."""
    return check.counts(CORPUS, CARDS)


@pytest.mark.parametrize("name", check.AT_LEAST)
def test_data_has_enough(counted, name):
    assert counted[name] >= check.AT_LEAST[name]


def test_every_item_has_an_english_gloss():
    for items in CORPUS.values():
        for item in items:
            assert item.extra["gloss"], item.id
            assert item.extra["word_gloss"], item.id


@pytest.mark.parametrize(
    "items", [CORPUS["train"], EMBEDDED["train"], EMBEDDED["dev"], EMBEDDED["test"]]
)
def test_option_order_gives_nothing_away(items):
    first = [check.right_form_is_first(item) for item in items if check.has_option_brace(item)]
    assert abs(sum(first) - len(first) / 2) <= max(4, 0.03 * len(first))


# -- the report -------------------------------------------------------------------------------


def test_report_names_every_count_and_share():
    report = check.report(CORPUS, CARDS)
    for name in (*check.AT_LEAST, *check.SHARES):
        assert name in report


def test_check_without_its_checker_is_reported_as_skipped(monkeypatch, capsys):
    def not_installed(corpus):
        raise ImportError(name="kiwipiepy")

    monkeypatch.setattr(check, "CHECKS", {"spacing model": not_installed})
    monkeypatch.setattr(check, "CARD_CHECKS", {})
    assert check.run_checks(CORPUS, CARDS) == []
    assert "SKIPPED  spacing model: kiwipiepy is not installed" in capsys.readouterr().out


def test_fault_makes_the_check_fail(monkeypatch, capsys):
    monkeypatch.setattr(check, "load_cards", lambda: CARDS)
    monkeypatch.setattr(check, "CHECKS", {"planted": lambda corpus: ["a planted fault"]})
    assert check.main([]) == 1
    assert "a planted fault" in capsys.readouterr().out


# -- a planted fault must be found ------------------------------------------------------------


def test_gold_answer_without_a_head_is_found():
    faults = check.gold_faults(with_first("train", answer="그냥 그렇다."))
    assert len(faults) == 1
    assert "does not parse" in faults[0]


def test_gold_answer_that_misses_the_format_is_found():
    answer = CORPUS["train"][0].answer.replace("옳다. ", "옳다. {", 1)
    faults = check.gold_faults(with_first("train", answer=answer))
    assert "misses a reward" in faults[0]


def test_wrong_form_in_a_gold_sentence_is_found():
    item = brace_item()
    right, wrong = choice_forms(item)
    # The gold answer now has the wrong form, in the reason too.
    swapped = item.answer.replace(right, wrong[0])
    broken = replace(item, answer=f'"{right} {swapped[1:]}')
    assert check.form_faults(CORPUS | {"train": [broken]})


def test_second_error_in_a_gold_sentence_is_found():
    sentence = check.gold_sentence(CORPUS["train"][0])
    answer = f'"몇일 뒤에 {sentence}"가 옳다. 까닭이 있다.'
    faults = check.rule_faults(with_first("train", answer=answer))
    assert len(faults) == 1
    assert "몇일 -> 며칠" in faults[0]


def test_near_copy_across_splits_is_found():
    sentence = check.gold_sentence(CORPUS["dev"][0])
    answer = f'"{sentence}"가 옳다. 까닭이 있다.'
    faults = check.split_faults(with_first("train", answer=answer))
    assert any("near copies" in fault for fault in faults)


LEAKS = {
    "held-out norm": ("train", "test_unseen_norms", "norm of test_unseen_norms is in train too"),
    "few-shot norm": ("test", "few_shot", "norm of few_shot is in test too"),
    "unseen word": ("dev", "test_unseen_words", "unseen word is in dev"),
}


@pytest.mark.parametrize("case", LEAKS)
def test_leak_is_found_of(case):
    split, source, message = LEAKS[case]
    leaking = with_first(split, extra=CORPUS[source][0].extra)
    assert any(message in fault for fault in check.split_faults(leaking))


def test_rate_out_of_range_is_found():
    without = {}
    for split, items in CORPUS.items():
        without[split] = [item for item in items if "( )" not in item.question]
    assert any("blank ( )" in fault for fault in check.rate_faults(without))


# -- a planted fault in a reason must be found ------------------------------------------------


def first_card(**changes):
    """Return the first card, alone in a list, with its first word changed."""
    card = CARDS[0]
    entry = replace(card.entries[0], **changes)
    return [replace(card, entries=(entry,))]


def test_reason_that_does_not_name_its_form_is_found():
    faults = reasons.form_faults(first_card(reason_full="소리대로 적는다."))
    assert "does not name" in faults[0]


@pytest.mark.parametrize("ending", ["[으로/로] 적는다.", "처럼 쓴다.", "[이/가] 옳다."])
def test_reason_that_calls_the_wrong_form_right_is_found(ending):
    reason_full = f"'{{right}}'[은/는] 틀리므로 '{{wrong}}'{ending}"
    faults = reasons.form_faults(first_card(reason_full=reason_full))
    assert "calls" in faults[0]


def test_reason_may_show_the_wrong_form_as_wrong():
    reason_full = "'{wrong}'[이/가] 아니라 '{right}'[이/가] 맞다."
    assert reasons.form_faults(first_card(reason_full=reason_full)) == []


def test_alternative_that_shares_a_reason_about_another_mark_is_found():
    about_tilde = "기간을 나타내는 물결표는 앞뒤를 붙여 '{right}'처럼 적는다."
    alternative = Alternative("3월-5월", about_tilde, about_tilde)
    faults = reasons.alternative_faults(first_card(right="3월~5월", also=(alternative,)))
    assert "does not name 붙임표" in faults[0]


BLANK_ARGUMENTS = ("'{wrong}'처럼 띄지 않고 '{right}'", "마침표가 아니라 쉼표를 찍어 '{right}'")


@pytest.mark.parametrize("argument", BLANK_ARGUMENTS)
def test_reason_of_a_blank_against_a_form_not_shown_is_found(argument):
    text = f"{argument}처럼 쓴다."
    cards = first_card(blank="( )", blank_reason=text, blank_reason_full=text)
    faults = reasons.blank_faults(cards)
    assert ["not in the question" in fault for fault in faults] == [True, True]


@pytest.mark.parametrize("promise", ["한 문장", "세 문장"])
def test_prompt_that_promises_another_length_is_found(promise):
    item = Item("1", SELECTION, "...", '"가."가 옳다. 소리대로 적는다. 그래서 맞다.')
    assert reasons.length_faults([item], f"이유를 {promise}으로 쓴다.")


@pytest.mark.parametrize("prompt", ["이유를 한두 문장으로 쓴다.", "이유를 쓴다."])
def test_prompt_that_fits_every_length_passes(prompt):
    items = [
        Item("1", SELECTION, "...", '"가."가 옳다. 소리대로 적는다.'),
        Item("2", SELECTION, "...", '"가."가 옳다. 소리대로 적는다. 그래서 맞다.'),
    ]
    assert reasons.length_faults(items, prompt) == []


def test_two_words_of_a_card_with_one_full_reason_are_found():
    entry = CARDS[0].entries[0]
    card = replace(CARDS[0], entries=(entry, entry))
    assert "2 words share a full reason" in reasons.sharing_faults([card])[0]


def test_too_few_distinct_full_reasons_over_all_cards_are_found():
    faults = reasons.sharing_faults([CARDS[0], CARDS[0]])
    assert faults == ["distinct full reasons: 50% of the words, expected at least 90%"]


@pytest.mark.parametrize(
    "article", ["표준어 규정 제20항", "한글 맞춤법 제30항, 표준어 규정 제12항"]
)
def test_citation_without_its_part_is_found(article):
    card = replace(CARDS[0], article=article)
    assert "제1부 or 제2부" in reasons.citation_faults([card])[0]


def test_citation_with_its_part_passes():
    card = replace(CARDS[0], article="표준어 규정 제1부 제20항")
    assert reasons.citation_faults([card]) == []


# -- questions --------------------------------------------------------------------------------


def use_of(right):
    """Return the first sentence of a word."""
    for card in CARDS:
        for entry in card.entries:
            if entry.right == right:
                return Use(card, entry, *entry.sentences[0])
    raise LookupError(right)


def item_of(use, question_type, shape="correct", share=None):
    return make_item(Draft(use, question_type, shape), "1", True, share=share, full=True)


def answers_to(right, shape="correct"):
    return item_of(use_of(right), CORRECTION, shape).answer.split("#")


def test_further_right_answer_argues_for_its_own_form():
    tilde, hyphen = answers_to("3월~5월")
    assert "붙임표" not in tilde
    assert hyphen.endswith("'3월-5월'처럼 적는다.")


def test_answer_to_a_blank_has_only_the_forms_that_fill_it():
    assert len(answers_to("「갯벌 ― 숨 쉬는 땅」")) == 4
    assert len(answers_to("「갯벌 ― 숨 쉬는 땅」", "blank")) == 1


def test_answer_to_a_blank_gives_the_reason_for_the_blank():
    use = use_of("오전 9:30")
    use = replace(use, entry=replace(use.entry, blank_reason_full="'{right}'[이/가] 맞다."))
    assert item_of(use, CORRECTION, "blank").answer.endswith("옳다. '오전 9:30'이 맞다.")
    assert not item_of(use, CORRECTION).answer.endswith("'오전 9:30'이 맞다.")


def test_task_of_a_word_stands_in_its_open_question():
    use = use_of("『훈민정음』")
    asked = item_of(use, CORRECTION, share=Share()).question
    assert asked.startswith(f"다음 문장에서 {use.entry.task}, 그 이유를")


def test_task_does_not_stand_in_the_main_shape():
    use = use_of("『훈민정음』")
    assert use.entry.task not in item_of(use, CORRECTION).question


OWN_SIGNS = {"a slash": ("5리터/분", "5리터 / 분"), "braces": ("집{에, 으로}", "집[에, 으로]")}


@pytest.mark.parametrize("share", [None, Share()])
@pytest.mark.parametrize("sign", OWN_SIGNS)
def test_options_stand_on_two_lines_when_a_form_has(sign, share):
    right, wrong = OWN_SIGNS[sign]
    use = use_of("5리터/분")
    use = replace(use, entry=replace(use.entry, right=right, wrong=wrong), carrier="다시 {} 보라.")
    item = item_of(use, SELECTION, share=share)
    assert question_sentences(item.question) == [f"다시 {right} 보라.", f"다시 {wrong} 보라."]
    assert not check.has_option_brace(item)


def test_double_quotes_never_stand_inside_the_quotes_of_a_correction():
    for item in check.items_of(CORPUS):
        sentence = question_sentences(item.question)[0]
        is_quoted = f'"{sentence}"' in item.question
        asks_for_quotes = is_quoted and '"' in check.gold_sentence(item)
        assert item.question_type == SELECTION or not asks_for_quotes, item.id


def test_question_about_a_wrong_mark_contains_one():
    asked = [item for item in check.items_of(CORPUS) if "잘못 쓰인 문장 부호" in item.question]
    assert asked
    for item in asked:
        _, wrong = choice_forms(item)
        assert re.search(r"[^\w\s]", wrong[0]), item.id


@pytest.mark.parametrize("right", ["2024. 5. 3.", "9:30", "3:2", "1914~1918"])
def test_right_sentence_may_be_a_bare_figure(right):
    item = item_of(use_of(right), CORRECTION)
    assert check.gold_sentence(item) == right


def test_braces_of_a_form_stand_in_both_lines_and_in_the_answer():
    item = item_of(use_of("집{에, 으로}"), SELECTION)
    assert item.question.endswith("― 집{에, 으로} 갔다.\n― 집[에, 으로] 갔다.")
    assert check.gold_sentence(item) == "집{에, 으로} 갔다."


def test_sentence_with_double_quotes_follows_a_bullet():
    use = use_of("'이번에는 꼭 이기자.'")
    line = item_of(use, CORRECTION, share=Share()).question.split("\n")[-1]
    assert line[0] in BULLETS


# -- cards ------------------------------------------------------------------------------------

BAD_CARRIERS = {
    "회의까지 남지 않았다.": "exactly one",
    "{} 며칠 남았다.": "not the only difference",
    '회의까지 {}밖에 "남지" 않았다.': "quote",
    "회의까지 {} 남음.": "must end in a vowel",
}


@pytest.mark.parametrize("carrier", BAD_CARRIERS)
def test_carrier_that_breaks_a_rule_is_refused(carrier):
    with pytest.raises(InputError, match=BAD_CARRIERS[carrier]):
        check_carrier(carrier, "며칠", "몇일", category="한글 맞춤법", where="here")


def test_carrier_of_a_punctuation_card_may_end_in_a_consonant():
    complaint = check_carrier(
        "회의까지 {} 남음.", "며칠", "몇일", category=PUNCTUATION, where="here"
    )

    assert complaint is None  # a carrier that breaks a rule raises


GOOD_CARD = """
- id: spelling-x
  article: "제1항"
  norm: "소리대로 적는다."
  norm_en: "As it sounds."
  reason: "소리대로 '{right}'[으로/로] 적는다."
  reason_full: "소리대로 적으므로 '{wrong}'[이/가] 아니라 '{right}'[으로/로] 적는다."
  entries:
    - right: "며칠"
      wrong: "몇일"
      meaning_en: "days"
      sentences: [["{} 남았다.", "Days are left."]]
"""
BROKEN_CARDS = {
    "no reason": (('  reason: "소', '  reasons: "소'), "needs reason"),
    "a form in the other": (('right: "며칠"', 'right: "몇일이"'), "contains the other"),
    "no gloss": (('"Days are left."', '" "'), "no gloss"),
    "a reason that ends badly": (("적는다.\"\n  entries", "적음.\"\n  entries"), "end in 다."),
    "an unknown particle": (("[이/가]", "[이/은]"), "unknown particle"),
    "a blank that does not fit": (
        ("      meaning_en", '      blank: "며( )날"\n      meaning_en'),
        "does not give",
    ),
    "no full reason": (("  reason_full", "  reasons"), "needs reason_full"),
    "a further form without reasons": (
        ("      meaning_en", '      also: [{form: "몇 날"}]\n      meaning_en'),
        "also needs form, reason and reason_full",
    ),
    "a further form that is the wrong one": (
        ("      meaning_en", '      also: ["몇일"]\n      meaning_en'),
        "also repeats a form",
    ),
    "a task and a further form": (
        ("      meaning_en", '      also: ["몇 날"]\n      task: "고치고"\n      meaning_en'),
        "a task leaves one right form",
    ),
}  # fmt: skip


def card_folder(folder, card):
    """Write a folder of norm cards with one card; return it."""
    for name in ("spacing", "loanwords", "standard_language", "punctuation"):
        (folder / f"{name}.yaml").write_text("[]", encoding="utf-8")
    (folder / "hangul_orthography.yaml").write_text(card, encoding="utf-8")
    return folder


def test_good_card_is_read(tmp_path):
    assert len(load_cards(card_folder(tmp_path, GOOD_CARD))) == 1


BLANK = '      blank: "며( )"\n'
BLANK_REASONS = {
    "the card's full reason": ("", "", "'몇일'이 아니라"),
    "the card's reason for blanks": (
        "  blank_reason_full: \"'{right}'[이/가] 옳다.\"\n",
        "",
        "옳다.",
    ),
    "the word's own full reason": (
        "  blank_reason_full: \"'{right}'[이/가] 옳다.\"\n",
        "      reason_full: \"'{right}'[이/가] 맞다.\"\n",
        "맞다.",
    ),
}


@pytest.mark.parametrize("case", BLANK_REASONS)
def test_blank_is_argued_for_by(case, tmp_path):
    of_card, of_word, part = BLANK_REASONS[case]
    text = GOOD_CARD.replace("  entries:", of_card + "  entries:")
    text = text.replace("      meaning_en", BLANK + of_word + "      meaning_en")
    (card,) = load_cards(card_folder(tmp_path, text))
    assert part in blank_reason(card.entries[0], full=True)


@pytest.mark.parametrize("case", BROKEN_CARDS)
def test_broken_card_is_refused_with_its_place(case, tmp_path):
    (old, new), message = BROKEN_CARDS[case]
    assert old in GOOD_CARD
    folder = card_folder(tmp_path, GOOD_CARD.replace(old, new))
    with pytest.raises(InputError, match=message) as error:
        load_cards(folder)
    assert "hangul_orthography.yaml: card 1" in str(error.value)


def test_card_id_may_be_used_once_only(tmp_path):
    with pytest.raises(InputError, match="card id used twice: spelling-x"):
        load_cards(card_folder(tmp_path, GOOD_CARD + GOOD_CARD))


@pytest.mark.parametrize(
    ("right", "wrong", "text"),
    [("봄", "길", "'봄'이 '길'로"), ("나무", "집", "'나무'가 '집'으로")],
)
def test_particle_follows_the_form_before_it(right, wrong, text):
    assert filled("'{right}'[이/가] '{wrong}'[으로/로]", right, wrong) == text


def test_card_that_the_plan_names_must_exist():
    plan = load_plan() | {"few_shot": ["no-such-card"]}
    with pytest.raises(InputError, match="no-such-card"):
        divide(CARDS, plan)


def test_share_is_exact_and_evenly_spread():
    share = Share()
    turns = [share("bullet", 0.25) for _ in range(12)]
    assert turns == [False, False, False, True] * 3


# -- the embedded model's part ----------------------------------------------------------------


def test_embedded_sentence_has_no_near_copy_in_another_split():
    faults = check.split_faults(EMBEDDED)
    assert not [fault for fault in faults if "near copies" in fault]


def test_vocabulary_covers_the_embedded_part():
    tokenizer = json.loads((DATA / "tiny_model/tokenizer.json").read_text(encoding="utf-8"))
    text = (DATA / "instruct.json").read_text(encoding="utf-8")
    for items in EMBEDDED.values():
        for item in items:
            text += f"{item.question}{item.answer}"
    assert set(text) - set(tokenizer["model"]["vocab"]) == set()


@pytest.fixture
def long_and_short():
    """Items of two dev sentences; the first is too long for the embedded model."""
    long, short = divide(CARDS, load_plan())["dev"][:2]
    long = replace(long, carrier="길" * LONGEST_ANSWER + " {}다.")
    return make_items([Draft(long, SELECTION), Draft(short, SELECTION)], "dev")


def test_answer_too_long_for_the_embedded_model_is_left_out(long_and_short):
    assert without_long_answers("dev", long_and_short) == long_and_short[1:]


def test_ids_of_answers_left_out_are_printed(long_and_short, capsys):
    without_long_answers("dev", long_and_short)
    printed = capsys.readouterr().out
    assert "over 90 characters" in printed
    assert long_and_short[0].id in printed


# -- forms are read off every shape of question -----------------------------------------------

GOLD = '"네, 내일 갈게요."가 옳다. 까닭.'
SHAPES = {
    "bullet": ("교정형", "다음 문장에서 ... 설명하세요.\n― 네 내일 갈게요.", "네 내일"),
    "two lines": (SELECTION, "다음 중 ...\n― 네 내일 갈게요.\n― 네, 내일 갈게요.", "네 내일"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_forms_are_read_off_a_question_with(shape):
    question_type, question, wrong = SHAPES[shape]
    item = Item("1", question_type, question, GOLD)
    assert choice_forms(item) == ("네, 내일", (wrong,))


def test_forms_are_read_off_a_question_with_blank():
    item = Item("2", "교정형", '다음 문장이 ... 추가하고, ...\n"네( ) 내일 갈게요."', GOLD)
    assert choice_forms(item) == ("네,", ("네( )",))
