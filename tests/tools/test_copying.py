"""Copying: an answer may have either form, but must not change a letter elsewhere."""

from __future__ import annotations

import pytest

from grpo_helpers.questions import CORRECTION, SELECTION, Item
from tools.tiny_model.copying import copied, copy_share

GOLD = '"며칠이 걸렸다."가 옳다. 까닭.'
CHOICE = Item("1", SELECTION, '"{며칠/몇일}이 걸렸다." 가운데 ...', GOLD)
ERROR = Item("2", CORRECTION, '다음 문장에서 ...\n"몇일이 걸렸다."', GOLD)


@pytest.mark.parametrize("item", [CHOICE, ERROR])
@pytest.mark.parametrize("form", ["며칠", "몇일"])
def test_either_form_is_a_copy(item, form):
    assert copied(f'"{form}이 걸렸다."가 옳다. 까닭.', item)


@pytest.mark.parametrize("item", [CHOICE, ERROR])
@pytest.mark.parametrize("sentence", ["며칠이 걸린다.", "며칠 걸렸다.", "며칠이걸렸다."])
def test_changed_letter_is_no_copy(item, sentence):
    assert not copied(f'"{sentence}"가 옳다. 까닭.', item)


def test_copy_with_typographic_quotes_counts():
    said = Item(
        "3",
        CORRECTION,
        '다음 ...\n"그는 "몇일"이라고 썼다."',
        '"그는 "며칠"이라고 썼다."가 옳다. 까닭.',
    )
    assert copied("“그는 “며칠”이라고 썼다.”가 옳다.", said)


def test_copy_needs_no_format():
    assert copied("며칠이 걸렸다.", CHOICE)


def test_copy_share_is_the_mean():
    answers = ["며칠이 걸렸다.", "몇일이 걸렸다.", "며칠", ""]
    assert copy_share(answers, [CHOICE] * 4) == 0.5


def test_copy_share_needs_an_answer_per_item():
    with pytest.raises(ValueError):
        copy_share(["며칠이 걸렸다."], [CHOICE, ERROR])
