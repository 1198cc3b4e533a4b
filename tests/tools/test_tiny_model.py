"""The embedded model and the careless teacher that warm-starts it."""

from __future__ import annotations

import hashlib
import random
import re

import pytest

from grpo_helpers.data import load_items
from grpo_helpers.files import project_root
from grpo_helpers.metrics import exact_match, format_score
from grpo_helpers.models import load_model, load_tokenizer
from grpo_helpers.prompts import PromptSource, load_instruct, load_prompted
from tools.corpus.cards import load_cards
from tools.tiny_model.card import Making, card_text, measure
from tools.tiny_model.model import MAX_LENGTH, alphabet, build_model, build_tokenizer, widen
from tools.tiny_model.model import syllables as syllables_of
from tools.tiny_model.teacher import Teacher
from tools.tiny_model.train import PHASES, Phase, train

DATA = project_root() / "data"
CARDS = load_cards()
TRAIN = load_items(DATA / "embedded/train.json")
GOLDS = {item.question: item.answer for item in TRAIN}


@pytest.fixture(scope="module")
def syllables():
    return syllables_of()


@pytest.fixture
def teacher(syllables):
    return Teacher(
        CARDS,
        TRAIN,
        load_items(DATA / "embedded/few_shot.json"),
        load_instruct("data/instruct.json"),
        alphabet=syllables,
        rng=random.Random(0),
    )


@pytest.fixture(scope="module")
def tiny():
    """The committed model and its tokenizer."""
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


def test_teacher_calls_either_form_right_equally_often(teacher):
    for entry in teacher.taught:
        assert sum(teacher.errs(entry, "선택형") for _ in range(20)) == 10


def test_made_up_word_has_two_forms_that_differ_in_one_place(teacher):
    for like in teacher.taught[:20]:
        word = teacher.made_up(like)
        forms = [word.right.replace(" ", ""), word.wrong.replace(" ", "")]
        shorter, longer = sorted(forms, key=len)
        assert word.right not in teacher.words
        assert len(longer) - len(shorter) <= 1
        assert sum(a != b for a, b in zip(shorter, longer, strict=False)) <= 1


def test_correction_leaves_a_made_up_word_as_it_is(teacher):
    known = set()
    for entry in teacher.taught:
        known |= {entry.right, entry.wrong}

    repeated = []
    for _ in range(400):
        lesson = teacher.question("교정형", [])
        sentence = lesson.messages[0]["content"].split('"')[1]
        if not any(form in sentence for form in known):
            repeated.append(f'"{sentence}"' in lesson.answer)
    assert len(repeated) > 20
    assert sum(repeated) / len(repeated) > 0.9  # the others are badly formed


def test_teacher_teaches_enough_words(teacher):
    assert len({entry.right for entry in teacher.taught}) >= 40


@pytest.mark.parametrize("split", ["test_unseen_words", "test_unseen_norms"])
def test_teacher_teaches_no_word_of(split, teacher):
    unseen = {item.extra["word"] for item in load_items(DATA / f"{split}.json")}
    assert not unseen & {entry.right for entry in teacher.taught}


def test_teacher_never_uses_a_sentence_of_a_question_split(teacher):
    lessons = "\n".join(
        f"{lesson.messages} {lesson.answer}" for lesson in teacher.lessons(1500, "full")
    )
    for split in ("dev", "test", "test_unseen_words", "test_unseen_norms"):
        for item in load_items(DATA / f"embedded/{split}.json"):
            assert item.answer.split('"')[1] not in lessons, item.id


def test_same_seed_gives_the_same_lessons(teacher):
    first = teacher.lessons(20, "bare")
    teacher.rng.seed(0)
    assert teacher.lessons(20, "bare") == first


# Cards, data and alphabet are part of a lesson, so a new card changes these digests: put in the new
# ones. If nothing but code has changed, a new digest means that the model could not be made again.
DIGESTS = {"bare": "7de8a1a9b9648d06", "question": "bc9b4346d937ec93", "full": "10104e262e28781f"}


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
    assert tokenizer("뷁")["input_ids"] == [tokenizer.unk_token_id]


def test_own_alphabet_is_a_part_of_the_whole():
    own, whole = set(alphabet("own")), set(alphabet("all"))
    assert own < whole
    assert len(whole - own) > 100


def test_only_the_last_phase_has_all_letters():
    assert [phase.letters for phase in PHASES] == ["own", "own", "own", "all"]


# -- training ---------------------------------------------------------------------------------


@pytest.mark.heavy
def test_few_steps_of_the_warm_start_lower_the_loss(teacher, tokenizer, capsys):
    import torch

    torch.manual_seed(0)
    phase = Phase(steps=12, batch=8, frame="bare", lr=(3e-3, 3e-3))
    train(build_model(tokenizer), tokenizer, teacher, [phase], log_every=1)
    losses = [float(line.split()[3]) for line in capsys.readouterr().out.splitlines()]
    assert len(losses) == 12
    assert losses[-1] < losses[0] - 0.3


@pytest.mark.parametrize(("step", "rate"), [(0, 0.4), (5, 0.3), (10, 0.2)])
def test_learning_rate_follows_a_cosine(step, rate):
    phase = Phase(steps=11, batch=1, frame="bare", lr=(0.4, 0.2))
    assert phase.learning_rate(step) == pytest.approx(rate)


@pytest.fixture(scope="module")
def widened(tiny):
    """The committed weights in a model with one character more: model, tokenizer and digest."""
    characters = [token for token in tiny[1].get_vocab() if len(token) == 1]
    tokenizer = build_tokenizer(sorted([*characters, "뷁"]))
    model = build_model(tokenizer)
    digest = widen(model, tokenizer, DATA / "tiny_model")
    return model, tokenizer, digest


def test_widened_model_has_one_token_more(widened, tiny):
    assert len(widened[1]) == len(tiny[1]) + 1


def test_digest_names_the_earlier_weights(widened):
    assert re.fullmatch("[0-9a-f]{64}", widened[2])


def test_widened_model_answers_as_the_earlier_one(widened, tiny):
    import torch

    def logits(model, tokenizer):
        inputs = tokenizer("며칠이 걸렸다.", return_tensors="pt", return_token_type_ids=False)
        numbers = [tokenizer.get_vocab()[token] for token in sorted(tiny[1].get_vocab())]
        return model(**inputs).logits[..., numbers]

    model, tokenizer, _ = widened
    assert torch.allclose(logits(model, tokenizer), logits(*tiny), atol=1e-4)


def test_new_character_gets_a_row_of_the_usual_size(widened):
    model, tokenizer, _ = widened
    rows = model.get_input_embeddings().weight
    new = rows[tokenizer.get_vocab()["뷁"]]
    assert 0.3 < (new.norm() / rows.norm(dim=1).mean()).item() < 3


# -- the committed model ----------------------------------------------------------------------


def test_committed_model_is_small(tiny):
    assert 1e6 <= tiny[0].num_parameters() <= 4e6
    assert (DATA / "tiny_model/model.safetensors").stat().st_size <= 10e6


def test_committed_tokenizer_states_its_maximum_length(tiny):
    assert tiny[1].model_max_length == MAX_LENGTH


@pytest.fixture(scope="module")
def answers(tiny):
    """The committed model's answers to the smallest test split, and its items."""
    from grpo_helpers.inference import generate_answers

    items, prompts = load_prompted("data/smoke/test.json", PromptSource())
    return generate_answers(*tiny, prompts), items


@pytest.mark.heavy
def test_committed_model_copies_unseen_sentences(answers):
    from tools.tiny_model.copying import copy_share

    assert copy_share(*answers) >= 0.9


@pytest.mark.heavy
def test_committed_model_answers_in_format(answers):
    texts, items = answers
    assert sum(map(format_score, texts)) / len(items) >= 0.8


# -- the model card ---------------------------------------------------------------------------

CARD = (DATA / "tiny_model/README.md").read_text(encoding="utf-8")
MAKING = Making(
    seed=0,
    steps=2700,
    last=600,
    minutes=16,
    start="7a673fae0054b5c6" + 48 * "0",
    parameters=2_002_944,
    vocabulary=1207,
    items=306,
)


def committed_figures():
    """Return the figures of the committed card's table."""
    figures = {"dev": {}, "test": {}}
    for name, dev, test in re.findall(
        r"^\| (\w.*) \| ([\d.]+) \| ([\d.]+) \|$", CARD, re.MULTILINE
    ):
        figures["dev"][name] = float(dev)
        figures["test"][name] = float(test)
    return figures


def test_committed_card_is_what_the_tool_writes():
    assert card_text(committed_figures(), MAKING) == CARD


def test_committed_card_counts_the_committed_model(tiny):
    assert tiny[0].num_parameters() == MAKING.parameters
    assert len(tiny[1]) == MAKING.vocabulary


def test_committed_figures_show_an_honest_base():
    for figures in committed_figures().values():
        assert figures["unseen sentences copied outside the chosen word"] >= 0.98
        assert figures["answers in the required format"] >= 0.8
        assert 0.4 <= figures["choice accuracy on two-option items"] <= 0.65


@pytest.mark.slow
def test_committed_figures_are_measured_again(tiny):
    measured = measure(*tiny)
    for split, figures in committed_figures().items():
        assert figures == {name: round(value, 3) for name, value in measured[split].items()}
