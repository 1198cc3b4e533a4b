"""The course's own data: built from the cards, split without leaks, in the contest's mix, covered by the vocabulary."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from grpo_helpers.data import load_items
from grpo_helpers.files import InputError, project_root
from grpo_helpers.questions import Item, choice_forms
from tools.corpus import build as build_data
from tools.corpus import check as check_data
from tools.corpus.cards import PUNCTUATION, check_carrier, filled, load_cards

DATA = project_root() / "data"
CORPUS = check_data.load_corpus()
EMBEDDED = {name: load_items(f"data/embedded/{name}.json") for name in build_data.SPLITS}
FAST_CHECKS = ("gold answers", "forms", "splits", "rates", "rule checker")


def test_the_committed_data_is_what_the_builder_makes(tmp_path):
    build_data.main(tmp_path)
    made = {file.relative_to(tmp_path): file.read_bytes() for file in tmp_path.rglob("*.json")}
    assert len(made) == 2 * len(build_data.SPLITS) + len(build_data.SMOKE)
    assert all((DATA / name).read_bytes() == content for name, content in made.items())


@pytest.mark.parametrize("name", FAST_CHECKS)
def test_the_data_passes_the_check_of(name):
    assert check_data.CHECKS[name](CORPUS) == []


@pytest.mark.slow
def test_every_disagreement_with_the_spacing_model_has_been_read():
    pytest.importorskip("kiwipiepy", reason="comes with make check-data")
    assert check_data.spacing_faults(CORPUS) == []
    faults = check_data.spacing_faults(
        with_first("train", answer='"나는학교에간다."가 옳다. 까닭이 있다.')
    )
    assert len(faults) == 1 and "나는학교에간다" in faults[0]


def test_there_are_enough_cards_words_sentences_and_items():
    found = check_data.counts(CORPUS, load_cards())
    assert all(found[name] >= least for name, least in check_data.AT_LEAST.items()), found


# -- a fault that is planted must be found -------------------------------------------------------------------------


def with_first(split, **changes):
    """Return the corpus with the first item of ``split`` changed."""
    first = replace(CORPUS[split][0], **changes)
    return CORPUS | {split: [first, *CORPUS[split][1:]]}


def brace_item(split="train"):
    return next(item for item in CORPUS[split] if "{" in item.question)


def test_a_gold_answer_without_a_head_is_found():
    faults = check_data.gold_faults(with_first("train", answer="그냥 그렇다."))
    assert len(faults) == 1 and "does not parse" in faults[0]


def test_a_gold_answer_that_misses_the_format_is_found():
    answer = CORPUS["train"][0].answer.replace("옳다. ", "옳다. {", 1)
    assert "misses a reward" in check_data.gold_faults(with_first("train", answer=answer))[0]


def test_a_wrong_form_in_a_gold_sentence_is_found():
    item = brace_item()
    right, wrong = choice_forms(item)
    swapped = item.answer.replace(
        right, wrong[0]
    )  # the gold now says the wrong form, in the reason too
    broken = CORPUS | {
        "train": [replace(item, answer=f'"{right} {swapped[1:]}', question=item.question)]
    }
    assert check_data.form_faults(broken)


def test_a_second_error_in_a_gold_sentence_is_found():
    sentence = check_data.gold_sentence(CORPUS["train"][0])
    answer = f'"몇일 뒤에 {sentence}"가 옳다. 까닭이 있다.'
    faults = check_data.rule_faults(with_first("train", answer=answer))
    assert len(faults) == 1 and "몇일 -> 며칠" in faults[0]


def test_a_near_copy_across_splits_is_found():
    sentence = check_data.gold_sentence(CORPUS["dev"][0])
    answer = f'"{sentence}"가 옳다. 까닭이 있다.'
    assert any(
        "near copies" in fault
        for fault in check_data.split_faults(with_first("train", answer=answer))
    )


@pytest.mark.parametrize(
    ("split", "source", "told"),
    [
        ("train", "test_unseen_norms", "norm of test_unseen_norms is in train too"),
        ("test", "few_shot", "norm of few_shot is in test too"),
        ("dev", "test_unseen_words", "unseen word is in dev"),
    ],
)
def test_a_leak_of_a_norm_or_word_is_found(split, source, told):
    extra = CORPUS[source][0].extra
    assert any(told in fault for fault in check_data.split_faults(with_first(split, extra=extra)))


def test_a_rate_out_of_range_is_found():
    without = {
        split: [i for i in items if "( )" not in i.question] for split, items in CORPUS.items()
    }
    assert any("blank ( )" in fault for fault in check_data.rate_faults(without))


@pytest.mark.parametrize(
    ("carrier", "told"),
    [
        ("회의까지 남지 않았다.", "exactly one"),
        ("{} 며칠 남았다.", "not the only difference"),
        ("회의까지 {}밖에 \"남지\" 않았다.", "quote"),
        ("회의까지 {} 남음.", "must end in a vowel"),
    ],
)  # fmt: skip
def test_a_carrier_that_breaks_a_rule_is_refused(carrier, told):
    with pytest.raises(InputError, match=told):
        check_carrier(carrier, "며칠", "몇일", "한글 맞춤법", "here")
    if "vowel" in told:
        check_carrier(carrier, "며칠", "몇일", PUNCTUATION, "here")


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
    "a blank that does not fit": (("      meaning_en", '      blank: "며( )날"\n      meaning_en'), "does not give"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_CARDS)
def test_a_broken_card_is_refused_with_its_place(case, tmp_path):
    (old, new), told = BROKEN_CARDS[case]
    for name in ("spacing", "loanwords", "standard_language", "punctuation"):
        (tmp_path / f"{name}.yaml").write_text("[]", encoding="utf-8")
    file = tmp_path / "hangul_orthography.yaml"
    file.write_text(GOOD_CARD, encoding="utf-8")
    assert len(load_cards(tmp_path)) == 1
    assert old in GOOD_CARD
    file.write_text(GOOD_CARD.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=told) as error:
        load_cards(tmp_path)
    assert "hangul_orthography.yaml: card 1" in str(error.value)


def test_a_particle_follows_the_form_before_it():
    template = "'{right}'[이/가] '{wrong}'[으로/로]"
    assert filled(template, "봄", "길") == "'봄'이 '길'로"
    assert filled(template, "나무", "집") == "'나무'가 '집'으로"


def test_a_card_that_the_plan_names_must_exist():
    plan = build_data.load_plan() | {"few_shot": ["no-such-card"]}
    with pytest.raises(InputError, match="no-such-card"):
        build_data.divide(load_cards(), plan)


# -- the embedded model's part -------------------------------------------------------------------------------------


def test_the_embedded_part_is_large_enough_and_both_types_are_equally_frequent():
    for name in ("dev", "test"):
        types = Counter(item.question_type for item in EMBEDDED[name])
        assert (
            len(EMBEDDED[name]) >= 240
            and len(types) == 2
            and max(types.values()) - min(types.values()) <= 4
        )
    assert 96 <= len(EMBEDDED["train"]) <= 128
    assert len(EMBEDDED["test_unseen_words"]) >= 40 and len(EMBEDDED["test_unseen_norms"]) >= 40


def test_the_embedded_part_has_the_same_splits_as_the_corpus():
    for name, items in EMBEDDED.items():
        whole = {
            check_data.gold_sentence(item)
            for item in CORPUS[name]
            if item.extra["source"] == "written"
        }
        quoted = [
            check_data.gold_sentence(item)
            for item in CORPUS[name]
            if item.extra["source"] == "composed"
        ]
        for sentence in map(check_data.gold_sentence, items):
            assert sentence in whole or any(sentence in text for text in quoted), (name, sentence)


def test_no_sentence_of_the_embedded_part_is_a_near_copy_of_one_in_another_split():
    assert not [fault for fault in check_data.split_faults(EMBEDDED) if "near copies" in fault]


def test_the_option_order_gives_nothing_away():
    for items in (CORPUS["train"], EMBEDDED["train"], EMBEDDED["dev"], EMBEDDED["test"]):
        first = [check_data._right_first(item) for item in items if "{" in item.question]
        assert abs(sum(first) - len(first) / 2) <= max(4, 0.03 * len(first))


def test_every_item_has_an_english_gloss():
    assert all(
        item.extra["gloss"] and item.extra["word_gloss"]
        for items in CORPUS.values()
        for item in items
    )


def test_the_vocabulary_covers_every_character_of_the_embedded_part_and_the_instruction():
    vocabulary = json.loads((DATA / "tiny_model/tokenizer.json").read_text())["model"]["vocab"]
    texts = [f"{item.question}{item.answer}" for items in EMBEDDED.values() for item in items]
    texts.append((DATA / "instruct.json").read_text(encoding="utf-8"))
    assert {char for text in texts for char in text} - set(vocabulary) == set()


def test_an_answer_that_is_too_long_for_the_embedded_model_is_left_out_and_named(capsys):
    uses = build_data.divide(load_cards(), build_data.load_plan())["dev"][:2]
    long = replace(uses[0], carrier="길" * build_data.EMBEDDED_ANSWER + " {}다.")
    assert {item.extra["card"] for item in build_data._embedded_items("dev", [long, uses[1]])} == {
        uses[1].card.id
    }
    said = capsys.readouterr().out
    assert "over 90 characters" in said and said.count("dev-000") == 2


def test_forms_are_read_off_every_shape_of_question():
    gold = '"네, 내일 갈게요."가 옳다. 까닭.'
    mend = Item("1", "교정형", "다음 문장에서 ... 설명하세요.\n― 네 내일 갈게요.", gold)
    assert choice_forms(mend) == ("네, 내일", ("네 내일",))
    fill = Item("2", "교정형", '다음 문장이 ... 추가하고, ...\n"네( ) 내일 갈게요."', gold)
    assert choice_forms(fill) == ("네,", ("네( )",))
    lines = Item("3", "선택형", "다음 중 ...\n― 네 내일 갈게요.\n― 네, 내일 갈게요.", gold)
    assert choice_forms(lines) == ("네, 내일", ("네 내일",))
