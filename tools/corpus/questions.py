"""Sentences to questions: types, shapes and their rates as in the contest.

In: one carrier sentence and the shape that its question gets. Out: an item with question, gold
answer, and the fields that say where it comes from.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from grpo_helpers.answers import format_answer
from grpo_helpers.questions import CORRECTION, SELECTION, Item
from tools.corpus.cards import (
    CATEGORIES,
    PUNCTUATION,
    alternative_reason,
    blank_reason,
    fits_blank,
    reason,
)
from tools.corpus.sentences import Use

Shape = Literal["choose", "correct", "blank", "fix_mark"]

ORTHOGRAPHY = CATEGORIES["hangul_orthography"]
SPACING = CATEGORIES["spacing"]
LOANWORDS = CATEGORIES["loanwords"]

CHOOSE = '"{}" 가운데 올바른 것을 선택하고, 그 이유를 설명하세요.'
CHOOSE_LINE = "다음 중 어문 규범에 부합하는 것을 선택하고, 그 이유를 설명하세요.\n{}\n{}"
CORRECT = "다음 문장에서 어문 규범에 부합하지 않는 부분을 찾아 고치고, 그 이유를 설명하세요.\n{}"
FILL_IN = "다음 문장이 어문 규범에 부합하도록 문장 부호를 추가하고, 그 이유를 설명하세요.\n{}"
FIX_MARK = "다음 문장에서 잘못 쓰인 문장 부호를 고치고, 그 이유를 설명하세요.\n{}"
TASK = "다음 문장에서 {}, 그 이유를 설명하세요.\n{}"
CORRECTION_TEMPLATES = {"correct": CORRECT, "blank": FILL_IN, "fix_mark": FIX_MARK}

# As in the contest: mostly one bullet, and now and then one of two look-alikes.
BULLETS = ("―", "―", "―", "―", "ㅡ", "―", "―", "―", "―", "—")

# How often a sentence gets a shape or a second question. A rate counts only the sentences that can
# have the shape; the rates are set so that the shares of the whole corpus are the contest's, which
# tools/corpus/check.py verifies.
RATES = {
    "bullet": 0.40,
    "line": 0.05,
    "quotation": 0.0132,
    "fix_mark": 0.25,
    "second spelling": 0.28,
    "second spacing": 0.28,
    "loanword correction": 0.12,
    "punctuation choice": 0.30,
    "blank": 0.95,
}

# A written sentence inside a quotation of our own: the source of such an item is "composed".
QUOTATIONS = {
    "다.": ('일기장에 "{}"라고 적었다.', 'I wrote in my diary: "{}"'),
    "요.": ('친구가 "{}"라고 문자를 보냈다.', 'A friend texted: "{}"'),
    "?": ('동생이 "{}"라고 물었다.', 'My younger sibling asked: "{}"'),
}
_MARK = re.compile(r"[^\w\s]")
FORMAL_ENDINGS = ("니다.", "까?")  # too formal for a diary or for a text to a friend


LONGEST_ANSWER = 90  # characters that a small model is to write


class Share:
    """Says yes to a given share of the calls, evenly spread: no randomness, exact rates.

    Example:
        >>> share = Share()
        >>> [share("bullet", 0.4) for _ in range(5)]
        [False, False, True, False, True]
    """

    def __init__(self) -> None:
        """Start with nothing due."""
        self._due: defaultdict[str, float] = defaultdict(float)

    def __call__(self, name: str, rate: float | None = None) -> bool:
        """Return whether it is the turn of ``name``.

        Args:
            name: What is counted.
            rate: Its share of all calls, 0 to 1; that of :data:`RATES` if not given.
        """
        if rate is None:
            rate = RATES[name]
        self._due[name] += rate
        if self._due[name] < 1 - 1e-9:
            return False
        self._due[name] -= 1
        return True


@dataclass(frozen=True)
class Draft:
    """A question to be made: a sentence, the type of the question, and its shape."""

    use: Use
    question_type: str
    shape: Shape = "correct"


# -- what is asked about a sentence -----------------------------------------------------------


def drafts_of(use: Use, number: int, share: Share) -> list[Draft]:
    """Return the questions asked about a sentence: one or two, depending on its category.

    Args:
        use: The sentence.
        number: Its number in the split; it decides the type where there is one question only.
        share: The rates so far.
    """
    choose = Draft(use, SELECTION, "choose")
    correct = Draft(use, CORRECTION, "correct")
    category = use.card.category

    if category == PUNCTUATION:
        return _punctuation_drafts(use, share)
    if category == LOANWORDS:
        return [choose, correct] if share("loanword correction") else [choose]
    if category == ORTHOGRAPHY and share("second spelling"):
        return [choose, correct]
    if category == SPACING and share("second spacing"):
        return [choose, correct]
    return [choose] if number % 2 == 0 else [correct]


def _punctuation_drafts(use: Use, share: Share) -> list[Draft]:
    """Return the questions about a punctuation mark: to fill it in, to correct it, to choose it."""
    drafts = []
    if use.entry.blank and share("blank"):
        drafts.append(Draft(use, CORRECTION, "blank"))

    # Where a mark is missing, no mark is used wrongly.
    is_turn = share("fix_mark")
    shape: Shape = "fix_mark" if is_turn and _MARK.search(use.entry.wrong) else "correct"
    drafts.append(Draft(use, CORRECTION, shape))

    if share("punctuation choice"):
        drafts.append(Draft(use, SELECTION, "choose"))
    return drafts


def quoted(use: Use, share: Share) -> Use:
    """Return the sentence inside a quotation when it is its turn, otherwise as it is."""
    if use.card.category in (PUNCTUATION, LOANWORDS):
        return use
    if use.carrier.endswith(FORMAL_ENDINGS) or '"' in use.entry.right:
        return use

    for ending, (frame, english) in QUOTATIONS.items():
        if use.carrier.endswith(ending):
            if not share("quotation"):
                return use
            return replace(
                use,
                carrier=frame.format(use.carrier),
                gloss=english.format(use.gloss),
                source="composed",
            )
    return use


# -- items ------------------------------------------------------------------------------------


def make_items(
    drafts: list[Draft], split: str, *, share: Share | None = None, full: bool = False
) -> list[Item]:
    """Return the items of one split, numbered, the right option first in half of the 선택형.

    Args:
        drafts: The questions, in their order.
        split: The name of the split, which begins every id.
        share: See :func:`make_item`.
        full: See :func:`make_item`.
    """
    selections = [draft for draft in drafts if draft.question_type == SELECTION]
    order = option_order(split, len(selections))

    items = []
    for number, draft in enumerate(drafts, 1):
        right_first = draft.question_type == SELECTION and next(order)
        item_id = f"{split}-{number:04d}"
        items.append(make_item(draft, item_id, right_first, share=share, full=full))
    return items


def option_order(split: str, count: int) -> Iterator[bool]:
    """Yield for each 선택형 item whether the right form comes first: exactly half of the time."""
    first = [True] * (count // 2) + [False] * (count - count // 2)
    random.Random(f"option order of {split}").shuffle(first)
    return iter(first)


def make_item(
    draft: Draft,
    item_id: str,
    right_first: bool,
    *,
    share: Share | None = None,
    full: bool = False,
) -> Item:
    """Return one item: question, gold answer, and where it comes from.

    Args:
        draft: The question to be made.
        item_id: The item's id.
        right_first: Whether the right form comes first among the options of a 선택형.
        share: The rates so far, for bullets and lines; without it every question has the main
            shape of its type.
        full: Whether the answer gives the full reason, and every right form of a 교정형.
    """
    use, entry = draft.use, draft.use.entry
    if draft.question_type == SELECTION:
        question = _choose(use, right_first, share)
    else:
        question = _correct(use, draft.shape, share)

    extra = {
        "card": use.card.id,
        "category": use.card.category,
        "word": entry.right,
        "source": use.source,
        "gloss": use.gloss,
        "word_gloss": entry.meaning_en,
    }
    return Item(item_id, draft.question_type, question, answer=_gold(draft, full), extra=extra)


def without_long_answers(name: str, items: Iterable[Item]) -> list[Item]:
    """Return the items whose answer a small model can write; print the ids of the others.

    Args:
        name: What the printed line calls the items.
        items: The items of a split.
    """
    short = []
    long_ids = []
    for item in items:
        if len(item.answer or "") > LONGEST_ANSWER:
            long_ids.append(item.id)
        else:
            short.append(item)

    if long_ids:
        print(f"{name}: left out, answers over {LONGEST_ANSWER} characters: {sorted(long_ids)}")
    return short


def _gold(draft: Draft, full: bool) -> str:
    """Return the gold answer: one, or with full reasons every right one of a 교정형."""
    use, entry = draft.use, draft.use.entry
    is_blank = draft.shape == "blank"

    why = blank_reason(entry, full) if is_blank else reason(entry, full)
    golds = [format_answer(use.right, why)]
    if not full or draft.question_type == SELECTION:
        return golds[0]

    for alternative in entry.also:
        if is_blank and not fits_blank(alternative.form, entry.blank):
            continue
        sentence = use.with_form(alternative.form)
        golds.append(format_answer(sentence, alternative_reason(entry, alternative, full)))
    return "#".join(golds)


def _choose(use: Use, right_first: bool, share: Share | None) -> str:
    """Return a 선택형 question: the forms in a brace, or now and then two whole sentences."""
    forms = [use.entry.right, use.entry.wrong]
    if not right_first:
        forms.reverse()

    first, second = forms
    lines = share is not None and share("line")
    # A form with a slash or a brace of its own cannot go into a brace; and the double quotes around
    # the question would speak for single ones inside it.
    if lines or any(char in first + second for char in '{/}"'):
        return CHOOSE_LINE.format(f"― {use.with_form(first)}", f"― {use.with_form(second)}")
    return CHOOSE.format(use.with_form(f"{{{first}/{second}}}"))


def _correct(use: Use, shape: Shape, share: Share | None) -> str:
    """Return a 교정형 question: a sentence with the wrong form, or with ( ) for a missing mark."""
    form = use.entry.blank if shape == "blank" else use.entry.wrong
    sentence = use.with_form(form)

    # Double quotes around double quotes would look like a second error, or speak for single ones.
    has_double_quotes = '"' in sentence + use.right
    if share and (has_double_quotes or share("bullet")):
        sentence = f"{_next_bullet(share)} {sentence}"
    else:
        sentence = f'"{sentence}"'

    if share and use.entry.task and shape != "blank":
        return TASK.format(use.entry.task, sentence)
    return CORRECTION_TEMPLATES[shape].format(sentence)


def _next_bullet(share: Share) -> str:
    """Return the bullet whose turn it is; each of :data:`BULLETS` is used equally often."""
    rate = 1 / len(BULLETS)
    for number, bullet in enumerate(BULLETS):
        if share(f"bullet {number}", rate):
            return bullet
    return BULLETS[-1]
