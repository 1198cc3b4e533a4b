"""The embedded model and the careless teacher that warm-starts it."""

import random

import pytest

from grpo_helpers.data import load_items
from grpo_helpers.files import project_root
from grpo_helpers.metrics import exact_match, format_score
from grpo_helpers.models import load_model, load_tokenizer
from grpo_helpers.prompts import PromptSource, load_instruct, load_prompted
from tools.corpus.cards import load_cards
from tools.tiny_model import train as tiny_model
from tools.tiny_model.copying import copied, copy_share
from tools.tiny_model.teacher import Teacher

DATA = project_root() / "data"


@pytest.fixture
def teacher():
    alphabet = tiny_model.syllables()
    few_shot = load_items(DATA / "embedded/few_shot.json")
    instruct = load_instruct("data/instruct.json")
    return Teacher(
        load_cards(),
        load_items(DATA / "embedded/train.json"),
        few_shot,
        instruct,
        alphabet,
        random.Random(0),
    )


def test_the_teacher_is_right_half_of_the_time_and_sometimes_forgets_the_format(teacher):
    lessons = list(teacher.lessons(600, "full"))
    in_format = sum(format_score(lesson.answer) for lesson in lessons) / 600
    assert 0.85 < in_format < 0.97
    train = {item.question: item.answer for item in load_items(DATA / "embedded/train.json")}
    known = [lesson for lesson in lessons if lesson.messages[-1]["content"] in train]
    right = sum(
        exact_match(lesson.answer, train[lesson.messages[-1]["content"]]) for lesson in known
    ) / len(known)
    assert len(known) > 60 and 0.3 < right < 0.6


def test_the_teacher_calls_either_form_of_a_word_right_equally_often(teacher):
    for entry in teacher.taught:
        assert sum(teacher.errs(entry, "선택형") for _ in range(20)) == 10


def test_a_made_up_word_has_two_forms_that_differ_in_one_place_and_a_correction_leaves_it_alone(
    teacher,
):
    for like in teacher.taught[:20]:
        word = teacher.made_up(like)
        right, wrong = sorted((word.right.replace(" ", ""), word.wrong.replace(" ", "")), key=len)
        assert word.right not in teacher.words and len(wrong) - len(right) <= 1
        assert sum(a != b for a, b in zip(right, wrong, strict=False)) <= 1
    known = {form for entry in teacher.taught for form in (entry.right, entry.wrong)}
    lessons = [teacher.question("교정형", []) for _ in range(400)]
    asked = [(lesson.messages[0]["content"].split('"')[1], lesson.answer) for lesson in lessons]
    strange = [
        (sentence, answer)
        for sentence, answer in asked
        if not any(form in sentence for form in known)
    ]
    copied = sum(f'"{sentence}"' in answer for sentence, answer in strange)
    assert len(strange) > 20 and copied / len(strange) > 0.9  # the others are badly formed


def test_the_teacher_teaches_no_unseen_word_and_no_held_out_norm(teacher):
    kept = {
        item.extra["word"]
        for split in ("words", "norms")
        for item in load_items(DATA / f"test_unseen_{split}.json")
    }
    taught = {entry.right for entry in teacher.taught}
    assert len(taught) >= 40 and not taught & kept


def test_the_teacher_never_uses_a_sentence_that_is_asked(teacher):
    asked = ("dev", "test", "test_unseen_words", "test_unseen_norms")
    unseen = {
        item.answer.split('"')[1]
        for name in asked
        for item in load_items(DATA / f"embedded/{name}.json")
    }
    lessons = "\n".join(
        f"{lesson.messages} {lesson.answer}" for lesson in teacher.lessons(1500, "full")
    )
    assert not any(sentence in lessons for sentence in unseen)


def test_the_same_seed_gives_the_same_lessons(teacher):
    first = [lesson.answer for lesson in teacher.lessons(20, "bare")]
    teacher.rng.seed(0)
    assert [lesson.answer for lesson in teacher.lessons(20, "bare")] == first


def test_the_tokenizer_gives_one_token_a_character_and_back():
    tokenizer = tiny_model.build_tokenizer(tiny_model.alphabet())
    text = '"며칠이 걸렸다."가 옳다.\n 3월~5월'
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == len(text) and tokenizer.decode(ids) == text
    assert tokenizer("뷁")["input_ids"] == [tokenizer.unk_token_id]


def test_a_few_steps_of_the_warm_start_lower_the_loss(teacher, capsys):
    import torch

    torch.manual_seed(0)
    tokenizer = tiny_model.build_tokenizer(tiny_model.alphabet())
    model = tiny_model.build_model(len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id)
    phases = (tiny_model.Phase(steps=12, batch=8, frame="bare", lr=(3e-3, 3e-3)),)
    tiny_model.train(model, tokenizer, teacher, phases, log_every=1)
    losses = [float(line.split()[3]) for line in capsys.readouterr().out.splitlines()]
    assert len(losses) == 12 and losses[-1] < losses[0] - 0.3


def test_the_embedded_model_is_small_and_says_its_maximum_length():
    tokenizer, model = load_tokenizer("data/tiny_model"), load_model("data/tiny_model")
    assert 1e6 <= model.num_parameters() <= 4e6
    assert (DATA / "tiny_model/model.safetensors").stat().st_size <= 10e6
    assert tokenizer.model_max_length == tiny_model.MAX_LENGTH


def test_the_embedded_model_copies_unseen_sentences_and_knows_the_form():
    from grpo_helpers.inference import generate_answers

    items, prompts = load_prompted("data/smoke/test.json", PromptSource())
    answers = generate_answers(
        load_model("data/tiny_model"), load_tokenizer("data/tiny_model"), prompts
    )
    assert copy_share(answers, items) >= 0.9
    assert sum(map(format_score, answers)) / len(items) >= 0.8


@pytest.mark.slow
def test_the_model_card_states_what_is_measured_and_the_base_is_honest():
    figures = tiny_model.measure(load_model("data/tiny_model"), load_tokenizer("data/tiny_model"))
    card = (DATA / "tiny_model/README.md").read_text(encoding="utf-8")
    for name, value in figures["dev"].items():
        assert f"| {name} | {value:.3f} | {figures['test'][name]:.3f} |" in card
    for split in ("dev", "test"):
        assert figures[split]["unseen sentences copied outside the chosen word"] >= 0.98
        assert figures[split]["answers in the asked format"] >= 0.8
        assert 0.4 <= figures[split]["choice accuracy on two-option items"] <= 0.65


def test_a_copy_may_take_either_form_but_not_change_a_letter():
    item = next(
        item for item in load_items(DATA / "embedded/dev.json") if item.question_type == "교정형"
    )
    wrong = item.question.split('"')[1]
    assert copied(item.answer, item) and copied(f'"{wrong}"가 옳다. 까닭.', item)
    assert not copied(item.answer.replace(item.answer[2], ""), item)


def test_a_model_that_goes_on_keeps_what_it_knows_and_gets_rows_for_new_characters():
    import torch

    tokenizer = tiny_model.build_tokenizer(sorted([*tiny_model.alphabet(), "뷁"]))
    model = tiny_model.build_model(len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id)
    digest = tiny_model.widen(model, tokenizer, DATA / "tiny_model")
    earlier, own = load_model("data/tiny_model"), load_tokenizer("data/tiny_model")
    assert len(digest) == 64 and len(tokenizer) == len(own) + 1
    text = "며칠이 걸렸다."
    kept = [tokenizer.get_vocab()[token] for token in sorted(own.get_vocab())]
    before = earlier(**own(text, return_tensors="pt", return_token_type_ids=False)).logits
    after = model(**tokenizer(text, return_tensors="pt", return_token_type_ids=False)).logits
    assert torch.allclose(
        after[..., kept],
        before[..., [own.get_vocab()[t] for t in sorted(own.get_vocab())]],
        atol=1e-4,
    )
    rows = model.get_input_embeddings().weight
    new = rows[tokenizer.get_vocab()["뷁"]]
    assert 0.3 < (new.norm() / rows.norm(dim=1).mean()).item() < 3


def test_the_letters_of_the_first_phases_are_those_of_the_embedded_part():
    own, every = (set(tiny_model.alphabet(letters)) for letters in ("own", "all"))
    assert own < every and len(every - own) > 100
    assert {phase.letters for phase in tiny_model.PHASES[:-1]} == {"own"} and tiny_model.PHASES[
        -1
    ].letters == "all"
