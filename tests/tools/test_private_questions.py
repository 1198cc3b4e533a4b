"""Questions that only a teacher has: new words, as balanced as those of the course."""

from collections import Counter, defaultdict

import pytest

from grpo_helpers.data import load_items
from grpo_helpers.splits import SPLITS
from tools.corpus.families import TWO_WAY, load_families
from tools.corpus.private_questions import known_text, main, private_items

FAMILIES = load_families()
SEEDS = ("7", "another")


@pytest.fixture(scope="module")
def drawn():
    """The questions of two seeds."""
    known = known_text()
    return {seed: private_items(FAMILIES, seed, known) for seed in SEEDS}


def words_of(items):
    return {item.extra["word"] for item in items}


def test_private_words_are_in_no_file_of_the_course(drawn):
    items = [item for split in SPLITS for item in load_items(f"data/embedded/{split.file}")]
    text = "\n".join(f"{item.question}\n{item.answer}" for item in items)

    for private in drawn.values():
        assert [word for word in words_of(private) if word in text] == []


def test_another_seed_invents_other_words(drawn):
    one, other = (words_of(items) for items in drawn.values())

    assert len(one & other) < 0.1 * len(one)


def test_private_questions_are_as_many_as_nonce_questions(drawn):
    nonce = load_items("data/embedded/test_nonce.json")

    for items in drawn.values():
        assert abs(len(items) - len(nonce)) <= 4


def test_each_type_asks_for_both_forms_of_a_two_way_family_equally(drawn):
    forms = defaultdict(Counter)
    for item in drawn["7"]:
        if item.extra["kind"] == TWO_WAY:
            forms[item.extra["card"], item.question_type][item.extra["form"]] += 1

    for asked, counts in forms.items():
        assert len(counts) == 2, asked
        assert max(counts.values()) - min(counts.values()) <= 1, (asked, counts)


def test_id_of_a_private_question_does_not_tell_the_seed(drawn):
    one, other = ([item.id for item in items] for items in drawn.values())

    assert one == other


def test_written_file_is_the_same_for_the_same_seed(tmp_path):
    for name in ("one.json", "two.json"):
        assert main(["--seed", "7", "--out", str(tmp_path / name)]) == 0

    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_drawn_seed_is_printed(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "one.json")]) == 0

    assert len(capsys.readouterr().out.split("seed ")[1].strip()) == 16


def test_file_that_cannot_be_written_is_told_in_one_line(tmp_path, capsys):
    assert main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
