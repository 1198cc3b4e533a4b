"""The embedded model, and the careless teacher that warm-starts it."""

from __future__ import annotations

import hashlib
import random
from dataclasses import astuple

import pytest

from grpo_helpers.answers import parse_gold
from grpo_helpers.data import load_items
from grpo_helpers.files import project_root, read_json
from grpo_helpers.letters import all_syllables, letters_of
from grpo_helpers.metrics import exact_match, format_score
from grpo_helpers.models import load_model, load_tokenizer
from grpo_helpers.splits import UNSEEN_SPLITS
from tools.corpus.check import gold_sentence
from tools.corpus.families import TWO_WAY
from tools.corpus.nonce import invent
from tools.tiny_model.card import OF_TWO, P_RIGHT, Figures, Making, card_text, measure
from tools.tiny_model.model import (
    MAX_LENGTH,
    alphabet,
    build_model,
    build_tokenizer,
    corpus_characters,
    is_common,
    kept_characters,
    with_characters,
)
from tools.tiny_model.train import Phase, build_teacher, train

DATA = project_root() / "data"
TRAIN = load_items(DATA / "embedded/train.json")
GOLDS = {item.question: item.answer for item in TRAIN}


@pytest.fixture
def teacher():
    return build_teacher(seed=0)


@pytest.fixture(scope="module")
def tiny():
    """The committed embedded model and its tokenizer."""
    return load_model("data/tiny_model"), load_tokenizer("data/tiny_model")


# -- the teacher ------------------------------------------------------------------------------


def test_teacher_sometimes_forgets_the_format(teacher):
    lessons = teacher.lessons(600, "full")
    in_format = sum(format_score(lesson.answer) for lesson in lessons)
    assert 0.85 < in_format / 600 < 0.97


def test_teacher_is_right_about_half_of_the_time(teacher):
    matches = []
    for lesson in teacher.lessons(600, "full"):
        question = lesson.messages[-1]["content"]
        if question in GOLDS:
            matches.append(exact_match(lesson.answer, GOLDS[question]))
    assert len(matches) > 60
    assert 0.3 < sum(matches) / len(matches) < 0.6


@pytest.mark.parametrize("question_type", ["선택형", "교정형"])
def test_teacher_answers_every_question_once_with_each_form(question_type, teacher, monkeypatch):
    monkeypatch.setattr("tools.tiny_model.teacher.P_BAD_FORMAT", 0.0)
    monkeypatch.setattr("tools.tiny_model.teacher.P_MADE_UP_WORD", 0.0)
    for _ in range(100):
        first, second = teacher.both_answers(question_type, [])
        assert first.messages == second.messages
        assert parse_gold(first.answer).sentences != parse_gold(second.answer).sentences


def test_lessons_come_in_pairs_with_the_same_prompt(teacher):
    lessons = teacher.lessons(40, "full")
    for first, second in zip(lessons[::2], lessons[1::2], strict=True):
        assert first.messages == second.messages


def test_teacher_invents_words_of_every_family(teacher):
    assignments = [teacher.assignment("선택형") for _ in range(1500)]
    invented = {a.item.extra["card"] for a in assignments if a.entry not in teacher.taught}
    assert {family.card.id for family in teacher.families} <= invented


def test_teacher_never_invents_a_held_out_word(teacher):
    (family,) = [family for family in teacher.families if family.card.id == "lge"]
    word = invent(family, random.Random(5)).entry
    teacher.rng = random.Random(5)
    teacher.held_out = {word.right}
    assert teacher.invented(family).entry.right != word.right


def test_made_up_word_has_two_forms_that_differ_in_one_place(teacher):
    for like in teacher.taught[:20]:
        word = teacher.made_up(like)
        forms = [word.right.replace(" ", ""), word.wrong.replace(" ", "")]
        shorter, longer = sorted(forms, key=len)
        assert word.right not in teacher.words
        assert len(longer) - len(shorter) <= 1
        assert sum(a != b for a, b in zip(shorter, longer, strict=False)) <= 1


def test_copied_words_contain_no_form_that_is_asked_about(teacher):
    copied = "\n".join(teacher.words)
    for entry in teacher.taught:
        assert entry.right not in copied
        assert entry.wrong not in copied


def test_hard_text_has_look_alike_syllables(teacher):
    palette = teacher._look_alikes(["는"] * 100)

    assert 20 < len(palette) < 60
    for syllable in palette:
        differing = zip(astuple(letters_of(syllable)), astuple(letters_of("는")), strict=True)
        assert sum(mine != other for mine, other in differing) <= 1


@pytest.mark.parametrize("is_hard", [False, True])
def test_only_hard_text_has_digits(teacher, is_hard):
    teacher.is_hard = is_hard
    texts = [teacher.bare_copy().answer for _ in range(100)]

    assert any(char.isdecimal() for text in texts for char in text) == is_hard


def test_teacher_teaches_enough_words(teacher):
    assert len({entry.right for entry in teacher.taught}) >= 300


@pytest.mark.parametrize("split", [split.name for split in UNSEEN_SPLITS])
def test_teacher_teaches_no_word_of(split, teacher):
    unseen = {item.extra["word"] for item in load_items(DATA / f"embedded/{split}.json")}
    assert not unseen & {entry.right for entry in teacher.taught}


def test_teacher_never_uses_a_sentence_of_a_question_split(teacher):
    lessons = "\n".join(
        f"{lesson.messages} {lesson.answer}" for lesson in teacher.lessons(1500, "full")
    )
    for split in ("dev", "test", *(split.name for split in UNSEEN_SPLITS)):
        for item in load_items(DATA / f"embedded/{split}.json"):
            assert gold_sentence(item) not in lessons, item.id


def test_same_seed_gives_the_same_lessons(teacher):
    first = teacher.lessons(20, "bare")
    teacher.rng.seed(0)
    assert teacher.lessons(20, "bare") == first


# Cards, data and alphabet are part of a lesson, so a new card changes these digests: put in the new
# ones. If nothing but code has changed, a new digest means that the model could not be made again.
DIGESTS = {"bare": "2166a21d43800742", "question": "ff91efd9422a70f1", "full": "a949ec5d295d2801"}


@pytest.mark.parametrize("frame", DIGESTS)
def test_first_lessons_stay_the_same(frame, teacher):
    digest = hashlib.sha256(repr(teacher.lessons(64, frame)).encode()).hexdigest()
    assert digest[:16] == DIGESTS[frame]


# -- tokenizer and alphabet -------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(alphabet())


def test_tokenizer_gives_one_token_per_character(tokenizer):
    text = '"며칠이 걸렸다."가 옳다.\n 3월~5월'
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == len(text)
    assert tokenizer.decode(ids) == text


def test_character_outside_the_vocabulary_is_unknown(tokenizer):
    assert tokenizer("漢")["input_ids"] == [tokenizer.unk_token_id]


def test_alphabet_has_every_syllable():
    assert set(all_syllables()) < set(alphabet())


# -- training ---------------------------------------------------------------------------------


@pytest.mark.heavy
def test_few_steps_of_the_warm_start_lower_the_loss(teacher, tokenizer, capsys):
    import torch

    from tools.tiny_model.letter_table import letters_seen

    torch.manual_seed(0)
    phase = Phase(steps=12, batch=8, frame="bare", lr=(3e-3, 3e-3))
    model = build_model(tokenizer)
    with letters_seen(model, tokenizer) as head:
        train(model, head, tokenizer, teacher, phases=[phase], log_every=1)
    losses = [float(line.split()[3]) for line in capsys.readouterr().out.splitlines()]
    assert len(losses) == 12
    assert losses[-1] < losses[0] - 0.3


@pytest.mark.parametrize(("step", "rate"), [(0, 0.4), (5, 0.3), (10, 0.2)])
def test_learning_rate_follows_a_cosine(step, rate):
    phase = Phase(steps=11, batch=1, frame="bare", lr=(0.4, 0.2))
    assert phase.learning_rate(step) == pytest.approx(rate)


# -- fewer characters -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def both_sizes(tokenizer):
    """An untrained model, and itself with fewer characters, each with its tokenizer."""
    model = build_model(tokenizer)
    return (model, tokenizer), with_characters(model, tokenizer, kept_characters())


@pytest.mark.heavy
def test_model_with_fewer_characters_gives_the_same_logits(both_sizes):
    import torch

    text = '"합격률이 높다."가 옳다.'
    (model, tokenizer), (small, fewer) = both_sizes
    with torch.no_grad():
        before = model(**tokenizer(text, return_tensors="pt")).logits
        after = small(**fewer(text, return_tensors="pt")).logits

    rows = tokenizer.convert_tokens_to_ids(fewer.convert_ids_to_tokens(list(range(len(fewer)))))
    assert torch.allclose(after, before[..., rows], atol=1e-5)


def test_finished_model_keeps_every_character_of_the_corpus():
    assert corpus_characters() <= set(kept_characters())


def test_finished_model_keeps_the_syllables_that_korean_text_uses():
    assert sum(map(is_common, all_syllables())) == 2350
    assert set(filter(is_common, all_syllables())) < set(kept_characters())


# -- the committed model ----------------------------------------------------------------------

FOLDER = DATA / "tiny_model"
FIGURES = read_json(FOLDER / "figures.json")
MAKING = Making(**FIGURES["making"])
SPLITS = {row["split"]: row for row in FIGURES["splits"]}
OF_KNOWN_NORMS = ("dev", "test", "unseen words", "nonce words")


def test_committed_model_is_small(tiny):
    assert 1e6 <= tiny[0].num_parameters() <= 4e6
    assert (FOLDER / "model.safetensors").stat().st_size <= 10e6


def test_committed_tokenizer_states_its_maximum_length(tiny):
    assert tiny[1].model_max_length == MAX_LENGTH


def test_committed_tokenizer_knows_every_character_of_the_corpus(tiny):
    tokens = tiny[1]("".join(sorted(corpus_characters())), add_special_tokens=False)["input_ids"]
    assert tiny[1].unk_token_id not in tokens


def test_card_is_what_the_tool_writes():
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert card_text(Figures(FIGURES["splits"], FIGURES["families"]), MAKING) == card


def test_card_counts_parameters_and_tokens(tiny):
    assert (tiny[0].num_parameters(), len(tiny[1])) == (MAKING.parameters, MAKING.vocabulary)


@pytest.mark.parametrize("split", OF_KNOWN_NORMS)
def test_sentences_are_copied_almost_perfectly(split):
    assert SPLITS[split]["copied outside the chosen word"] >= 0.98


@pytest.mark.parametrize("split", OF_KNOWN_NORMS)
def test_both_forms_are_equally_probable(split):
    assert 0.45 <= SPLITS[split][P_RIGHT] <= 0.55


TWO_WAY_FAMILIES = [row for row in FIGURES["families"] if row["kind"] == TWO_WAY]


@pytest.mark.parametrize("family", TWO_WAY_FAMILIES, ids=lambda row: row["family"])
def test_both_forms_of_a_two_way_family_are_about_equally_probable(family):
    assert 0.3 <= family[P_RIGHT] <= 0.7


@pytest.mark.parametrize("split", ["test", "nonce words"])
def test_greedy_choices_are_those_of_a_guess(split):
    assert 0.45 <= SPLITS[split][OF_TWO] <= 0.55


@pytest.mark.parametrize("split", OF_KNOWN_NORMS)
def test_greedy_choices_are_nowhere_far_from_a_guess(split):
    assert 0.36 <= SPLITS[split][OF_TWO] <= 0.64


@pytest.mark.parametrize("split", OF_KNOWN_NORMS)
def test_model_answers_in_format(split):
    assert SPLITS[split]["required format"] >= 0.8


@pytest.mark.slow
def test_figures_are_measured_again(tiny):
    assert measure(*tiny) == Figures(FIGURES["splits"], FIGURES["families"])
