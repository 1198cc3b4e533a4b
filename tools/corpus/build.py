"""Build the course's data from the norm cards: ``python -m tools.corpus.build`` (``make data``).

Writes the corpus (``data/train.json``, ``dev``, ``test``, ``test_unseen_words``, ``test_unseen_norms``, ``few_shot``)
in the contest's shape and mix, and from the same sentences ``data/embedded/``, the part that the embedded model
learns in its minutes, and ``data/smoke/``. Deterministic: the same cards give the same bytes. Every sentence goes to
one split only, and no two sentences of different splits are near copies (character 5-gram Jaccard <= 0.6).
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from grpo_helpers.answers import format_answer
from grpo_helpers.data import item_to_row
from grpo_helpers.files import InputError, project_root, write_json
from grpo_helpers.questions import CORRECTION, SELECTION, Item
from grpo_helpers.similarity import NEAR_COPY, char_ngrams, jaccard
from tools.corpus.cards import CATEGORIES, PUNCTUATION, Card, Entry, load_cards, reason

LOANWORDS = CATEGORIES["loanwords"]
SPLITS = ("train", "dev", "test", "test_unseen_words", "test_unseen_norms", "few_shot")
UNSEEN_WORDS = 2  # words of a family of five or more that train never shows
EMBEDDED_TRAIN, EMBEDDED_ANSWER = 2, 90  # sentences of a word; characters of the longest answer
EMBEDDED_UNSEEN_NORMS = 6  # sentences of each held-out card that the embedded model is asked
# First items of a split, for runs that take seconds.
SMOKE = {"train": 16, "dev": 16, "test": 16, "test_unseen_words": 8, "test_unseen_norms": 8}

CHOOSE = '"{}" 가운데 올바른 것을 선택하고, 그 이유를 설명하세요.'
CHOOSE_LINE = "다음 중 어문 규범에 부합하는 것을 선택하고, 그 이유를 설명하세요.\n{}\n{}"
CORRECT = "다음 문장에서 어문 규범에 부합하지 않는 부분을 찾아 고치고, 그 이유를 설명하세요.\n{}"
FILL_IN = "다음 문장이 어문 규범에 부합하도록 문장 부호를 추가하고, 그 이유를 설명하세요.\n{}"
MEND_MARK = "다음 문장에서 잘못 쓰인 문장 부호를 고치고, 그 이유를 설명하세요.\n{}"
BULLETS = (
    "―",
    "―",
    "―",
    "―",
    "ㅡ",
    "―",
    "―",
    "―",
    "―",
    "—",
)  # as in the contest: mostly one, two look-alikes

# How often a sentence gets a shape or a second question, set so that the shares of the whole corpus are the contest's
# (tools/corpus/check.py holds them): a rate counts only the sentences that can have the shape.
RATES = {
    "bullet": 0.40, "line": 0.05, "quotation": 0.0132, "mend_mark": 0.25,
    "second spelling": 0.28, "second spacing": 0.28, "loanword correction": 0.12, "punctuation choice": 0.30,
    "blank": 0.95,
}  # fmt: skip
# A written sentence inside a quotation of our own: the source of such an item is "composed".
QUOTATIONS = {
    "다.": ('일기장에 "{}"라고 적었다.', 'I wrote in my diary: "{}"'),
    "요.": ('친구가 "{}"라고 문자를 보냈다.', 'A friend texted: "{}"'),
    "?": ('동생이 "{}"라고 물었다.', 'My younger sibling asked: "{}"'),
}


@dataclass(frozen=True)
class Use:
    """One carrier sentence of an entry and the split it belongs to."""

    card: Card
    entry: Entry
    carrier: str
    gloss: str
    source: str = "written"

    @property
    def right(self) -> str:
        """The sentence with the right form."""
        return self.carrier.replace("{}", self.entry.right)


class Share:
    """Says yes to a given share of the questions it is asked, spread evenly: no dice, exact rates.

    Example:
        >>> share = Share()
        >>> [share("bullet", 0.4) for _ in range(5)]
        [False, False, True, False, True]
    """

    def __init__(self) -> None:
        self._due: Counter[str] = Counter()

    def __call__(self, name: str, rate: float) -> bool:
        self._due[name] += rate
        if self._due[name] < 1 - 1e-9:
            return False
        self._due[name] -= 1
        return True


def seeded(*words: str) -> random.Random:
    """Return dice that fall the same for the same words, in any process."""
    return random.Random(int.from_bytes(hashlib.sha256("/".join(words).encode()).digest()[:8]))


def load_plan(folder: Path | None = None) -> dict[str, Any]:
    """Return ``splits.yaml``: which card is few-shot, held out, or the embedded model's."""
    folder = folder or project_root() / "data" / "norms"
    return yaml.safe_load((folder / "splits.yaml").read_text(encoding="utf-8"))


# -- sentences to splits -------------------------------------------------------------------------------------------


def divide(cards: Sequence[Card], plan: dict[str, Any]) -> dict[str, list[Use]]:
    """Return the sentences of each split."""
    unknown = [
        i
        for i in (*plan["few_shot"], *plan["unseen_norms"])
        if i not in {card.id for card in cards}
    ]
    if unknown:
        raise InputError(f"splits.yaml names a card that is not there: {unknown[0]}")
    uses: dict[str, list[Use]] = {split: [] for split in SPLITS}
    turns = itertools.cycle(["dev", "test"])
    for card in cards:
        kept = unseen_entries(card)
        for entry in card.entries:
            found = [
                Use(card, entry, *s)
                for s in seeded(card.id, entry.right).sample(entry.sentences, len(entry.sentences))
            ]
            if card.id in plan["few_shot"]:
                uses["few_shot"] += found
            elif card.id in plan["unseen_norms"]:
                uses["test_unseen_norms"] += found
            elif entry in kept:
                uses["test_unseen_words"] += found
            else:
                for split, use in zip(_splits(len(found), turns), found, strict=True):
                    uses[split].append(use)
    return uses


def unseen_entries(card: Card) -> list[Entry]:
    """Return the words of a family that train never shows."""
    return (
        seeded("unseen words", card.id).sample(card.entries, UNSEEN_WORDS)
        if len(card.entries) >= 5
        else []
    )


def _splits(count: int, turns: Iterator[str]) -> list[str]:
    """Return the split of each of a seen word's sentences: of ten, three each to dev and test; of two, one to train."""
    if count >= 8:
        return ["dev"] * 3 + ["test"] * 3 + ["train"] * (count - 6)
    return ["train", *itertools.islice(turns, count - 1)]


# -- sentences to items --------------------------------------------------------------------------------------------


def corpus_items(uses: Sequence[Use], split: str) -> list[Item]:
    """Return the items of one split of the corpus: types, shapes and rates as in the contest, full reasons."""
    share = Share()
    wanted = []
    for number, use in enumerate(seeded("order", split).sample(uses, len(uses))):
        use = quoted(use, share)
        wanted += [(use, *shape) for shape in shapes(use, number, share)]
    seeded("items", split).shuffle(wanted)
    order = option_order(split, sum(kind == SELECTION for _, kind, _ in wanted))
    return [
        make_item(
            use,
            kind,
            shape,
            f"{split}-{n:04d}",
            kind == SELECTION and next(order),
            share,
            full=True,
        )
        for n, (use, kind, shape) in enumerate(wanted, 1)
    ]


def shapes(use: Use, number: int, share: Share) -> list[tuple[str, str]]:
    """Return (type, shape) of each question asked about a sentence; one or two, by category."""
    category = use.card.category
    if category == PUNCTUATION:
        blank = bool(use.entry.blank) and share("blank", RATES["blank"])
        found = [(CORRECTION, "blank")] if blank else []
        found.append(
            (CORRECTION, "mend_mark" if share("mend_mark", RATES["mend_mark"]) else "correct")
        )
        return found + [(SELECTION, "choose")] * share(
            "punctuation choice", RATES["punctuation choice"]
        )
    if category == LOANWORDS:
        both = share("loanword correction", RATES["loanword correction"])
        return [(SELECTION, "choose"), *([(CORRECTION, "correct")] if both else [])]
    pair = [(SELECTION, "choose"), (CORRECTION, "correct")]
    twice = {
        CATEGORIES["hangul_orthography"]: "second spelling",
        CATEGORIES["spacing"]: "second spacing",
    }.get(category)
    return pair if twice and share(twice, RATES[twice]) else [pair[number % 2]]


def quoted(use: Use, share: Share) -> Use:
    """Return the sentence put into a quotation where its turn has come, else as it is."""
    end = next((e for e in QUOTATIONS if use.carrier.endswith(e)), None)
    polite = use.carrier.endswith(("니다.", "까?"))
    if (
        end is None
        or polite
        or use.card.category in (PUNCTUATION, LOANWORDS)
        or '"' in use.entry.right
    ):
        return use
    if not share("quotation", RATES["quotation"]):
        return use
    frame, english = QUOTATIONS[end]
    return Use(
        use.card, use.entry, frame.format(use.carrier), english.format(use.gloss), "composed"
    )


def option_order(split: str, count: int) -> Iterator[bool]:
    """Return for each 선택형 item whether the right form comes first: exactly half of the time."""
    first = [True] * (count // 2) + [False] * (count - count // 2)
    random.Random(f"option order of {split}").shuffle(first)
    return iter(first)


def make_item(
    use: Use,
    kind: str,
    shape: str,
    item_id: str,
    right_first: bool,
    share: Share | None = None,
    full: bool = False,
) -> Item:
    """Return one item: question, gold answer, and where it comes from."""
    entry, card = use.entry, use.card
    question = choose(use, right_first, share) if kind == SELECTION else correct(use, shape, share)
    forms = (entry.right, *entry.also) if full and kind == CORRECTION else (entry.right,)
    golds = [format_answer(use.carrier.replace("{}", form), reason(entry, full)) for form in forms]
    extra = {
        "card": card.id,
        "category": card.category,
        "word": entry.right,
        "source": use.source,
        "gloss": use.gloss,
        "word_gloss": entry.meaning_en,
    }
    return Item(item_id, kind, question, "#".join(golds), extra)


def choose(use: Use, right_first: bool, share: Share | None) -> str:
    """Return a 선택형 question: the two forms in a brace, or now and then two whole sentences."""
    forms = (
        (use.entry.right, use.entry.wrong) if right_first else (use.entry.wrong, use.entry.right)
    )
    if share and (share("line", RATES["line"]) or "/" in "".join(forms)):
        return CHOOSE_LINE.format(*(f"― {use.carrier.replace('{}', form)}" for form in forms))
    return CHOOSE.format(use.carrier.replace("{}", "{" + "/".join(forms) + "}"))


def correct(use: Use, shape: str, share: Share | None) -> str:
    """Return a 교정형 question: a sentence with the wrong form, or with ( ) for a missing mark."""
    template = {"blank": FILL_IN, "mend_mark": MEND_MARK}.get(shape, CORRECT)
    sentence = use.carrier.replace("{}", use.entry.blank if shape == "blank" else use.entry.wrong)
    if share and share("bullet", RATES["bullet"]):
        bullet = next(
            b for n, b in enumerate(BULLETS) if share(f"bullet {n}", 0.1) or n == len(BULLETS) - 1
        )
        return template.format(f"{bullet} {sentence}")
    return template.format(f'"{sentence}"')


# -- the embedded model's part -------------------------------------------------------------------------------------


def embedded_splits(uses: dict[str, list[Use]], plan: dict[str, Any]) -> dict[str, list[Item]]:
    """Return the embedded model's splits: main templates, short reasons, both types of every dev and test sentence.

    Its words are those of the cards with one word; its unseen words are those of families whose norm such a word
    stands for. An item with an answer of more than ``EMBEDDED_ANSWER`` characters is left out and named.
    """
    own = plan["embedded"]
    seen = {s: [u for u in uses[s] if len(u.card.entries) == 1] for s in ("train", "dev", "test")}
    cards = {use.card.id: use.card for use in uses["few_shot"]}
    chosen = {
        "train": _first(seen["train"], lambda use: use.card.id, EMBEDDED_TRAIN),
        "dev": seen["dev"],
        "test": seen["test"],
        "test_unseen_words": [
            u for u in uses["test_unseen_words"] if u.card.id in own["unseen_words"]
        ],
        "test_unseen_norms": _first(
            uses["test_unseen_norms"], lambda use: use.card.id, EMBEDDED_UNSEEN_NORMS
        ),
        "few_shot": [
            u
            for i in cards
            if i in own["few_shot"]
            for u in _examples(cards[i], own["few_shot_sentences"])
        ],
    }
    return {split: _embedded_items(split, found) for split, found in chosen.items()}


def _examples(card: Card, count: int) -> list[Use]:
    entry = card.entries[0]
    return [
        Use(card, entry, *s)
        for s in seeded(card.id, entry.right).sample(entry.sentences[:count], count)
    ]


def _first(uses: Iterable[Use], key: Callable[[Use], Any], count: int) -> list[Use]:
    """Return the first ``count`` sentences of each group of neighbours with the same key."""
    return [
        use for _, group in itertools.groupby(uses, key) for use in itertools.islice(group, count)
    ]


def _embedded_items(split: str, uses: Sequence[Use]) -> list[Item]:
    """Return both types of each sentence; of two train sentences of a word, one type each: a prompt costs minutes."""
    kinds = (SELECTION, CORRECTION)
    wanted = []
    for _, group in itertools.groupby(uses, lambda use: (use.card.id, use.entry.right)):
        found = list(group)
        if split == "train" and len(found) == 2:
            wanted += list(zip(found, kinds, strict=True))
        else:
            wanted += [(use, kind) for use in found for kind in kinds]
    random.Random(f"item order of {split}").shuffle(wanted)
    order = option_order(split, sum(kind == SELECTION for _, kind in wanted))
    items = [
        make_item(use, kind, "correct", f"{split}-{n:04d}", kind == SELECTION and next(order))
        for n, (use, kind) in enumerate(wanted, 1)
    ]
    long = {item.id for item in items if len(item.answer) > EMBEDDED_ANSWER}
    if long:
        print(
            f"embedded/{split}: left out, answers over {EMBEDDED_ANSWER} characters: {sorted(long)}"
        )
    return [item for item in items if item.id not in long]


# -- checks and files ----------------------------------------------------------------------------------------------


def near_copies(sentences: Mapping[str, Iterable[str]]) -> list[tuple[str, str, str, str]]:
    """Return (split, split, sentence, sentence) of every pair of different splits that are near copies."""
    grams = {
        split: {text: char_ngrams(text) for text in found} for split, found in sentences.items()
    }
    return [
        (one, other, left, right)
        for one, other in itertools.combinations(grams, 2)
        for left, lgrams in grams[one].items()
        for right, rgrams in grams[other].items()
        if jaccard(lgrams, rgrams) > NEAR_COPY
    ]


def build() -> dict[str, list[Item]]:
    """Return every file of the data by its path below ``data/``, without ``.json``.

    Raises:
        InputError: A card breaks a rule, or two splits hold near copies.
    """
    plan = load_plan()
    uses = divide(load_cards(), plan)
    copies = near_copies({split: [use.right for use in found] for split, found in uses.items()})
    if copies:
        raise InputError(f"{len(copies)} near copies across splits, e.g. {copies[0]}")
    files = {split: corpus_items(found, split) for split, found in uses.items()}
    embedded = embedded_splits(uses, plan)
    files |= {f"embedded/{split}": items for split, items in embedded.items()}
    return files | {f"smoke/{split}": embedded[split][:count] for split, count in SMOKE.items()}


def main(folder: Path | None = None) -> None:
    """Build, check and write the files; print their counts."""
    folder = folder or project_root() / "data"
    for name, items in build().items():
        write_json(folder / f"{name}.json", [item_to_row(item) for item in items])
        types = Counter(item.question_type for item in items)
        print(
            f"{name:28} {len(items):5d} items  "
            + "  ".join(f"{k} {v}" for k, v in sorted(types.items()))
        )


if __name__ == "__main__":
    main()
