"""The word-chain game: its words, its chains, and the files that are made of them."""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import combinations

import pytest

from grpo_helpers.answers import parse_gold
from grpo_helpers.data import item_to_row, load_items
from grpo_helpers.files import InputError, project_root
from grpo_helpers.metrics import (
    READINGS,
    choice_accuracy,
    exact_match,
    format_score,
    rouge1_reasons,
)
from grpo_helpers.prompts import build_messages, load_instruct
from grpo_helpers.questions import chance, choice_forms, offered_choices, question_sentences
from tools.word_chain import build
from tools.word_chain.build import COUNTS, HOPS, UNSEEN_SPLIT, held_out_words
from tools.word_chain.chains import ChainMaker, Puzzle, follow, is_clear
from tools.word_chain.questions import QUESTION, SENTENCE, answer, listed_words, puzzle_of, thought
from tools.word_chain.shortcuts import asked_of, outcomes
from tools.word_chain.words import SYLLABLES, build_graph, load_words

FOLDER = project_root() / "data" / "word_chain"
GLOSSES = load_words()
GRAPH = build_graph(GLOSSES, longest=8)
ITEMS = {split: load_items(FOLDER / f"{split}.json") for split in COUNTS}
ALL_ITEMS = [item for items in ITEMS.values() for item in items]
HELD_OUT = held_out_words(GLOSSES)
FARTHEST = 3.3  # standard deviations of a fair coin: one in a thousand is farther from one half

by_split = pytest.mark.parametrize("split", COUNTS)


# -- the words --------------------------------------------------------------------------------


def test_there_are_more_than_seven_hundred_words():
    assert len(GLOSSES) > 700


def test_words_have_two_or_three_syllables():
    assert {len(word) for word in GLOSSES} == set(SYLLABLES)


def test_words_are_written_in_common_syllables():
    # KS X 1001 has the 2,350 syllables of Korean text; the codec writes all others as eight bytes.
    rare = [word for word in GLOSSES if len(word.encode("euc-kr")) != 2 * len(word)]
    assert not rare


def test_no_two_words_have_the_same_gloss():
    repeated = [gloss for gloss, count in Counter(GLOSSES.values()).items() if count > 1]
    assert not repeated


def test_glosses_are_in_latin_letters():
    foreign = [word for word, gloss in GLOSSES.items() if not gloss.isascii()]
    assert not foreign


def test_most_words_can_stand_inside_a_chain():
    lasts = {word[-1] for word in GLOSSES}
    inner = [word for word in GLOSSES if word[0] in lasts and word[-1] in GRAPH.starting_with]
    assert len(inner) > 0.75 * len(GLOSSES)


def test_many_syllables_both_begin_and_end_words():
    lasts = {word[-1] for word in GLOSSES}
    assert len(lasts & set(GRAPH.starting_with)) > 200


def test_syllables_of_the_frame_are_no_words():
    frame = SENTENCE.format(start=" ", end=" ") + QUESTION.format(words="", sentence="")
    assert not [word for word in GLOSSES if word in frame]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("기차: train\n기차: train\n", "기차 is listed twice"),
        ("기차: ''\n", "기차 has no English gloss"),
        ("train: train\n", "'train' is not written in Hangul"),
        ("차: car\n", "차 has 1 syllables"),
    ],
)
def test_bad_word_list_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "words.yaml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(InputError, match=message) as error:
        load_words(path)

    assert "\n" not in str(error.value)


def test_graph_knows_how_far_syllables_are():
    graph = build_graph(["기차", "차표", "표지", "표정"], longest=3)
    assert graph.leading_to[3]["정"] == {"기"}
    assert not graph.leading_to[2]["차"]


# -- chains -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def maker():
    return ChainMaker(GLOSSES, random.Random(0))


@pytest.mark.parametrize("hops", range(3, 9))
def test_puzzle_has_two_clear_chains_of_the_asked_length(maker, hops):
    for _ in range(20):
        puzzle = maker.puzzle(hops)
        assert is_clear(puzzle)
        assert len(puzzle.asked) == len(puzzle.other) == hops + 1


def test_rule_sees_a_link_between_two_chains():
    clear = Puzzle(("기차", "차표"), ("나무", "무대"))
    linked = Puzzle(("기차", "차표"), ("나무", "무기"))

    assert is_clear(clear)
    assert not is_clear(linked)


def test_rule_sees_a_word_with_two_followers():
    assert not is_clear(Puzzle(("기차", "차표"), ("차이", "이름")))


@pytest.mark.parametrize("words", [["기차", "차표", "차이"], ["기차", "차기"]])
def test_following_refuses_forks_and_circles(words):
    with pytest.raises(InputError, match="no single next word"):
        follow(words, "기차")


@pytest.mark.parametrize("hops", [2, 9])
def test_maker_refuses_hops_out_of_range(maker, hops):
    with pytest.raises(InputError, match=f"hops is {hops}"):
        maker.puzzle(hops)


@pytest.mark.parametrize("tie", range(4))
def test_maker_joins_no_sealed_pair(maker, tie):
    puzzle = maker.puzzle(5)
    starts = (puzzle.asked[0], puzzle.other[0])
    ends = (puzzle.asked[-1], puzzle.other[-1])

    sealing = ChainMaker(GLOSSES, random.Random(1), sealed={puzzle.ties[tie]})

    assert any(maker.join(starts, ends, 5) for _ in range(20))
    assert not any(sealing.join(starts, ends, 5) for _ in range(20))


def test_coin_decides_which_end_belongs_to_a_start():
    # With four words for the outside, every puzzle has these: only the joining differs.
    first = ChainMaker(GLOSSES, random.Random(2)).puzzle(5)
    outer = (first.asked[0], first.asked[-1], first.other[0], first.other[-1])
    again = ChainMaker(GLOSSES, random.Random(3), outer=outer)

    ends = Counter()
    while ends.total() < 200:
        puzzle = again.puzzle(5)
        if puzzle.asked[0] == first.asked[0] and first.other[0] == puzzle.other[0]:
            ends[puzzle.asked[-1]] += 1

    assert set(ends) == {first.asked[-1], first.other[-1]}
    assert min(ends.values()) >= 70


# -- the files --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built():
    return build.build(GLOSSES)


@by_split
def test_committed_file_is_what_the_words_give(built, split):
    rows = list(map(item_to_row, built[split]))
    text = json.dumps(rows, ensure_ascii=False, indent=4) + "\n"
    assert (FOLDER / f"{split}.json").read_bytes() == text.encode()


def test_same_words_give_the_same_items_twice():
    counts = {"test_unseen_words": 10, "train": 20}
    once, twice = (build.build(GLOSSES, counts=counts) for _ in range(2))
    assert [*map(item_to_row, once["train"])] == [*map(item_to_row, twice["train"])]


def test_uneven_count_is_refused():
    with pytest.raises(InputError, match="dev: 7 items cannot be divided"):
        build.build(GLOSSES, counts={"dev": 7})


def test_files_for_other_hops_can_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "COUNTS", {"dev": 4})
    assert build.main(["--hops", "3", "--folder", str(tmp_path)]) == 0
    assert [item.extra["hops"] for item in load_items(tmp_path / "dev.json")] == [3] * 4


@by_split
def test_start_decides_the_path(split):
    for item in ITEMS[split]:
        words = listed_words(item)
        puzzle = puzzle_of(item)
        assert is_clear(puzzle)
        assert sorted(words) == sorted(puzzle.words)
        assert follow(words, puzzle.asked[0]) == puzzle.asked
        assert follow(words, puzzle.other[0]) == puzzle.other


@by_split
def test_each_number_of_hops_is_equally_frequent(split):
    counts = Counter(item.extra["hops"] for item in ITEMS[split])
    assert counts == {hops: COUNTS[split] // len(HOPS) for hops in HOPS}


@by_split
def test_right_option_is_first_in_half_of_the_items(split):
    for hops in HOPS:
        items = [asked_of(item) for item in ITEMS[split] if item.extra["hops"] == hops]
        assert sum(asked.right == asked.options[0] for asked in items) == len(items) / 2


def test_either_end_could_have_been_right(maker):
    for item in ITEMS["dev"]:
        puzzle = puzzle_of(item)
        starts = (puzzle.asked[0], puzzle.other[0])
        crossed = (puzzle.other[-1], puzzle.asked[-1])
        assert any(maker.join(starts, crossed, puzzle.hops) for _ in range(20)), item.id


@pytest.mark.parametrize(("one", "other"), combinations(COUNTS, 2))
def test_no_pair_of_start_and_end_is_in_two_splits(one, other):
    ties = []
    for split in (one, other):
        ties.append({tie for item in ITEMS[split] for tie in puzzle_of(item).ties})
    assert not ties[0] & ties[1]


def test_no_chain_is_there_twice():
    chains = Counter()
    for item in ALL_ITEMS:
        puzzle = puzzle_of(item)
        chains.update([puzzle.asked, puzzle.other])
    assert chains.most_common(1)[0][1] == 1


@pytest.mark.parametrize("split", [split for split in COUNTS if split != UNSEEN_SPLIT])
def test_held_out_words_are_in_no_other_file(split):
    used = {word for item in ITEMS[split] for word in listed_words(item)}
    assert not used & HELD_OUT


def test_unseen_chains_begin_and_end_with_held_out_words():
    for item in ITEMS[UNSEEN_SPLIT]:
        for chain in (puzzle_of(item).asked, puzzle_of(item).other):
            assert {chain[0], chain[-1]} <= HELD_OUT


def test_unseen_chains_have_held_out_words_inside():
    inside = [word for item in ITEMS[UNSEEN_SPLIT] for word in puzzle_of(item).asked[1:-1]]
    assert sum(word in HELD_OUT for word in inside) > 0.25 * len(inside)


@pytest.mark.parametrize("split", ["test", UNSEEN_SPLIT])
def test_shortcuts_are_right_half_of_the_time(split):
    for outcome in outcomes(ITEMS["train"], ITEMS[split]):
        assert abs(outcome.deviation) < FARTHEST, outcome


@pytest.mark.parametrize(
    ("name", "leaks"),
    [
        ("first option", lambda asked: asked.right == asked.options[0]),
        (
            "place in the list",
            lambda asked: asked.right == max(asked.options, key=asked.words.index),
        ),
        ("learned: first syllable", lambda asked: asked.right[0] < asked.wrong[0]),
    ],
)
def test_shortcut_is_found_where_there_is_one(name, leaks):
    leaky = [item for item in ITEMS["train"] if leaks(asked_of(item))]

    (found,) = [each for each in outcomes(leaky, leaky) if each.name == name]

    assert found.deviation > FARTHEST


def test_remembered_pairs_say_nothing_about_test_items():
    (pairs,) = [
        outcome
        for outcome in outcomes(ITEMS["train"], ITEMS["test"])
        if outcome.name == "learned: start and end"
    ]
    assert pairs.decided == 0


# -- parsers and rewards ----------------------------------------------------------------------


@by_split
def test_gold_answers_earn_full_marks(split):
    for item in ITEMS[split]:
        assert [exact_match(item.answer, item.answer, reading) for reading in READINGS] == [1] * 3
        assert format_score(item.answer, item) == choice_accuracy(item.answer, item) == 1
        assert rouge1_reasons(parse_gold(item.answer).reason, parse_gold(item.answer).reason) == 1


@by_split
def test_other_end_earns_nothing_for_the_sentence(split):
    for item in ITEMS[split]:
        puzzle = puzzle_of(item)
        wrong = answer(puzzle.asked[0], puzzle.other[-1])
        assert exact_match(wrong, item.answer) == choice_accuracy(wrong, item) == 0
        assert format_score(wrong, item) == 1


def test_thought_counts_neither_for_nor_against_an_answer():
    for item in ITEMS["dev"]:
        puzzle = puzzle_of(item)
        for chain in (puzzle.asked, puzzle.other):
            thinking = thought(chain) + item.answer
            assert exact_match(thinking, item.answer) == choice_accuracy(thinking, item) == 1
            assert format_score(thinking, item) == 1


def test_quoted_sentence_is_what_parsers_find():
    for item in ALL_ITEMS:
        (sentence,) = question_sentences(item.question)
        (choice,) = offered_choices(item)
        assert sentence.startswith(f"{puzzle_of(item).asked[0]}에서 {{")
        assert sentence[choice.end :] == "까지 이어진다."


def test_forms_are_the_two_ends():
    for item in ALL_ITEMS:
        puzzle = puzzle_of(item)
        assert choice_forms(item) == (puzzle.asked[-1], (puzzle.other[-1],))
        assert chance(item) == 0.5


def test_chain_is_in_no_prompt_and_in_no_gold_answer():
    instruct = load_instruct(str(FOLDER / "instruct.json"))
    for item in ALL_ITEMS:
        shown = [message["content"] for message in build_messages(item, instruct)]
        assert not any(item.extra["chain"] in text for text in [*shown, item.answer])
        assert not any(word in item.answer for word in puzzle_of(item).asked[1:-1])


def test_gloss_names_every_listed_word_in_order():
    for item in ALL_ITEMS:
        listed = "; ".join(GLOSSES[word] for word in listed_words(item))
        assert item.extra["gloss"].startswith(f"Words: {listed}. ")
        assert item.extra["word_gloss"] == GLOSSES[puzzle_of(item).asked[-1]]
