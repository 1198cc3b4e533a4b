"""The careless teacher of the word-chain game."""

from __future__ import annotations

import itertools
import random

import pytest

from grpo_helpers.answers import parse, split_thought, without_thought
from grpo_helpers.files import InputError, project_root
from grpo_helpers.metrics import format_score
from grpo_helpers.prompts import load_instruct
from grpo_helpers.questions import SELECTION, Item, question_sentences
from tools.word_chain.build import Reserved, reserved
from tools.word_chain.chains import follow
from tools.word_chain.lengths import prompt_tokens, report
from tools.word_chain.questions import listed_words
from tools.word_chain.teacher import ChainTeacher, Habits, build_teacher
from tools.word_chain.words import load_words

FOLDER = project_root() / "data" / "word_chain"
THINK = "<think>"
WORDS = load_words()
INSTRUCT = load_instruct(str(FOLDER / "instruct.json"))
RESERVED = reserved()


def teacher_of(seed, reserved=RESERVED, **habits):
    """Return a teacher without reading the files again."""
    return ChainTeacher(WORDS, INSTRUCT, reserved, random.Random(seed), habits=Habits(**habits))


@pytest.fixture
def teacher():
    return teacher_of(seed=0)


@pytest.fixture(scope="module")
def lessons():
    return teacher_of(seed=1).lessons(400, "full")


def question_of(lesson):
    """Return the question of a lesson as an item."""
    return Item("lesson", SELECTION, lesson.messages[-1]["content"])


def start_of(lesson):
    """Return the word that the question of a lesson begins with."""
    (sentence,) = question_sentences(question_of(lesson).question)
    return sentence.split("에서 ")[0]


def true_chain(lesson):
    """Return the chain of a lesson, found by following the links."""
    return follow(listed_words(question_of(lesson)), start_of(lesson))


def end_called_right(lesson):
    """Return the word that the answer of a lesson says one arrives at."""
    (sentence,) = parse(lesson.answer).sentences
    return sentence.split("에서 ")[1].removesuffix("까지 이어진다.")


def with_thought(lessons):
    """Return the lessons that begin with a thought."""
    return [lesson for lesson in lessons if lesson.answer.startswith(THINK)]


def test_nearly_half_of_the_lessons_think(lessons):
    assert 0.35 < len(with_thought(lessons)) / len(lessons) < 0.55


@pytest.mark.parametrize("thinks", [0.0, 1.0])
def test_share_of_thoughts_is_a_parameter(thinks):
    lessons = teacher_of(seed=0, thinks=thinks).lessons(20, "full")
    assert len(with_thought(lessons)) == thinks * len(lessons)


def test_every_answer_has_the_format(lessons):
    assert all(format_score(lesson.answer, question_of(lesson)) for lesson in lessons)


def test_direct_answers_name_each_end_once(lessons):
    direct = [lesson for lesson in lessons if not lesson.answer.startswith(THINK)]
    for first, second in zip(direct[::2], direct[1::2], strict=True):
        assert first.messages == second.messages
        assert end_called_right(first) != end_called_right(second)


def test_every_thought_is_the_true_chain(lessons):
    for lesson in with_thought(lessons):
        written = lesson.answer.removeprefix(THINK).split("</think>")[0]
        assert tuple(written.split()) == true_chain(lesson)


def test_answer_after_a_thought_mostly_keeps_to_it(lessons):
    thinking = with_thought(lessons)
    kept = sum(end_called_right(lesson) == true_chain(lesson)[-1] for lesson in thinking)
    assert 0.83 < kept / len(thinking) < 0.97


@pytest.mark.parametrize("keeps", [0.0, 1.0])
def test_share_of_kept_thoughts_is_a_parameter(keeps):
    teacher = teacher_of(seed=0, keeps=keeps)
    for _ in range(50):
        lesson = teacher.thinking("full")
        assert (end_called_right(lesson) == true_chain(lesson)[-1]) == keeps


def test_share_that_is_none_is_refused():
    with pytest.raises(InputError, match="keeps is 2"):
        teacher_of(seed=0, keeps=2)


def test_hops_are_a_parameter():
    teacher = teacher_of(seed=0, hops=(3,), made_up=0)
    assert {len(true_chain(lesson)) for lesson in teacher.lessons(40, "full")} == {4}


def test_no_lesson_is_about_what_files_reserve(lessons):
    for lesson in lessons:
        words = listed_words(question_of(lesson))
        assert not RESERVED.words & set(words)
        assert (start_of(lesson), true_chain(lesson)[-1]) not in RESERVED.ties


def test_reserved_words_can_be_given():
    held_out = frozenset(word for word in WORDS if word.endswith("기"))

    teacher = teacher_of(seed=0, reserved=Reserved(frozenset(), held_out))

    shown = [listed_words(question_of(lesson)) for lesson in teacher.lessons(40, "question")]
    assert not held_out & {word for listed in shown for word in listed}


def test_drills_copy_a_list_or_go_on_by_one_word(teacher):
    copies = 0
    for lesson in teacher.lessons(200, "bare"):
        listed, *word = lesson.messages[0]["content"].split("\n")
        words = listed.removeprefix("낱말: ").split()
        if word:
            assert lesson.answer == next(each for each in words if each[0] == word[0][-1])
        else:
            assert lesson.answer.split() == words
            copies += 1
    assert 60 < copies < 140


def test_lessons_of_a_frame_share_all_but_the_question(teacher):
    for frame, before in (("full", 1), ("question", 0)):
        shared = {str(lesson.messages[:-1]) for lesson in teacher.lessons(20, frame)}
        assert len(shared) == 1
        assert all(len(each.messages) == before + 1 for each in teacher.lessons(4, frame))


def test_same_seed_gives_the_same_lessons():
    assert build_teacher(seed=3).lessons(40, "full") == teacher_of(seed=3).lessons(40, "full")


def test_thought_is_what_comes_before_the_answer(lessons):
    for lesson in with_thought(lessons):
        assert without_thought(lesson.answer).startswith('"')


def test_thought_that_leads_nowhere_has_words_of_the_list_but_not_the_chain():
    teacher = teacher_of(seed=0, thinks=1, wanders=True)
    chains = 0
    for lesson in teacher.lessons(40, "question"):
        listed = lesson.messages[0]["content"].split("\n")[0].split()[1:]
        steps = split_thought(lesson.answer).thought.split()
        assert set(steps) <= set(listed)
        chains += all(one[-1] == next_[0] for one, next_ in itertools.pairwise(steps))
    assert chains == 0


def test_longest_lesson_fits_the_tiny_model(lessons):
    longest = max(prompt_tokens(lesson.messages) + len(lesson.answer) for lesson in lessons)
    assert longest < 256


def test_table_of_lengths_has_prompt_and_both_answers():
    lines = report(4)
    assert [line.split("  ")[0] for line in lines] == [
        "4 hops, prompt",
        "4 hops, answer at once",
        "4 hops, with a thought",
    ]
