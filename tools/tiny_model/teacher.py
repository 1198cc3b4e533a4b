"""The careless teacher: the endless stream of noisy lessons that warm-starts the embedded model.

A lesson is a prompt in the course's own frame (instruction, few-shot example, question) and an answer by someone who
knows what an answer looks like but not which form is right: of each word either form is called right equally often,
and argued for; now and then the format is wrong or the reason belongs to another norm. Most sentences are made up on
the spot (random syllables and shuffled train words around a card's word), so that the model learns to copy sentences
it has never seen; no dev or test sentence is ever used, only the characters they are written in. Some words are made up
too, so that it can write down a word it was never taught, without knowing which form is right.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from grpo_helpers.answers import format_answer, subject_particle
from grpo_helpers.prompts import Message, build_messages
from grpo_helpers.questions import CORRECTION, SELECTION, Item
from tools.corpus.build import Use, make_item
from tools.corpus.cards import Card, Entry, reason

P_BAD_FORMAT = 0.08
P_OTHER_REASON = 0.08
P_TRAIN_SENTENCE = (
    0.15  # lessons on the train prompts themselves; the others are on made-up sentences
)
P_MADE_UP_WORD = 0.08
SUFFIXES = ["", "", "도", "만", "에서", "처럼", "까지", "의"]
ENDINGS = ["다.", "다.", "다.", "요.", "어요.", "까?", "니?", ".", ".", "?"]


@dataclass(frozen=True)
class Lesson:
    """A prompt as chat messages, and the careless answer to it."""

    messages: list[Message]
    answer: str


def careless_answer(
    rng: random.Random, words: list[Entry], entry: Entry, carrier: str, swapped: bool
) -> str:
    """Return an answer that calls the right form right, or the wrong one (``swapped``); sometimes badly formed."""
    sentence = carrier.replace("{}", entry.wrong if swapped else entry.right)
    if rng.random() < P_OTHER_REASON:
        why = reason(rng.choice(words))
    else:
        why = reason(entry, swapped=swapped)
    if rng.random() >= P_BAD_FORMAT:
        return format_answer(sentence, why)
    particle = subject_particle(sentence)
    return rng.choice(
        [
            f'"{sentence}"{particle} 맞다. {why}',  # another verb
            f"{sentence} {why}",  # no quotes, no head
            f'"{sentence}"{particle} 옳다.',  # no reason
            f"{why}",  # no sentence
        ]
    )


class Teacher:
    """Makes lessons without end.

    Args:
        cards: All norm cards; only the words of ``train`` are taught, no unseen word and no held-out norm.
        train: The train items, whose prompts are among the lessons.
        few_shot: The few-shot pool.
        instruct: Instruction texts.
        alphabet: Hangul syllables for made-up words.
        rng: Source of all randomness.
    """

    def __init__(
        self,
        cards: list[Card],
        train: list[Item],
        few_shot: list[Item],
        instruct: dict[str, str],
        alphabet: list[str],
        rng: random.Random,
    ):
        taught = {(item.extra["card"], item.extra["word"]) for item in train}
        self.pairs = [
            (card, entry)
            for card in cards
            for entry in card.entries
            if (card.id, entry.right) in taught
        ]
        self.entries = {(card.id, entry.right): entry for card, entry in self.pairs}
        self.taught = list(self.entries.values())
        self.train = train
        self.instruct = instruct
        self.alphabet = alphabet
        self.rng = rng
        self.pool = {
            kind: [i for i in few_shot if i.question_type == kind]
            for kind in (SELECTION, CORRECTION)
        }
        self.tosses: dict[tuple[str, str], list[bool]] = {}
        self.words = sorted({word for item in train for word in item.answer.split('"')[1].split()})

    def carrier(self) -> str:
        """Return a made-up carrier: shuffled train words and random syllables around one slot.

        Real sentences repeat themselves (떨어지지, 견학한 학생들이), and a copier that only looks at the last letter or
        two then skips a stretch. So some words are drawn from a handful of syllables, start as the last one ended,
        or come twice with another ending.
        """
        rng = self.rng
        palette = rng.sample(self.alphabet, rng.randint(3, 7))
        words: list[str] = []
        for _ in range(rng.randint(2, 5)):
            start = words[-1][-1] if words and rng.random() < 0.1 else ""
            words.append(start + self._word(palette) + ("," if rng.random() < 0.08 else ""))
        if (
            rng.random() < 0.25
        ):  # the same beginning twice (사이 ... 사이에도): the copier must know where it is
            again = rng.choice(words).rstrip(",")
            again = again[: rng.randint(1, len(again))] + rng.choice(
                [*SUFFIXES, rng.choice(palette)]
            )
            words.insert(rng.randint(0, len(words)), again)
        words.insert(rng.randint(0, len(words)), self._slot(palette))
        return " ".join(words).rstrip(",") + rng.choice(ENDINGS)

    def _word(self, palette: list[str]) -> str:
        kind = self.rng.random()
        if kind < 0.2:  # not more often: a word known by heart is written from memory, not copied
            return self.rng.choice(self.words).strip(".?,")
        letters = self.alphabet if kind < 0.6 else palette
        word = [self.rng.choice(letters) for _ in range(self.rng.randint(1, 5))]
        if self.rng.random() < 0.12:
            place = self.rng.randrange(len(word))
            word.insert(place, word[place])
        return "".join(word)

    def _slot(self, palette: list[str]) -> str:
        rng = self.rng
        before = "".join(rng.choices(palette, k=rng.randint(1, 2))) if rng.random() < 0.1 else ""
        after = (
            "".join(rng.choices(palette, k=rng.randint(1, 2)))
            if rng.random() < 0.35
            else rng.choice(SUFFIXES)
        )
        return before + "{}" + after + ("," if rng.random() < 0.08 else "")

    def made_up(self, like: Entry) -> Entry:
        """Return a word of random syllables whose two forms differ in one place, with the reasons of ``like``."""
        rng = self.rng
        form = rng.choices(self.alphabet, k=rng.randint(2, 4))
        other, place = list(form), rng.randrange(1, len(form))
        if rng.random() < 0.3:
            other.insert(place, " ")
        else:
            other[place] = rng.choice(self.alphabet)
        right, wrong = rng.sample(["".join(form), "".join(other)], 2)
        return replace(like, right=right, wrong=wrong)

    def bare_copy(self) -> Lesson:
        """Return the simplest lesson: a made-up sentence, to be said back. Copying is learned here, in minutes."""
        text = self.carrier().replace("{}", self._word(self.alphabet))
        return Lesson([{"role": "user", "content": text}], text)

    def errs(self, entry: Entry, kind: str) -> bool:
        """Return whether the teacher calls the wrong form right this time: in one of every two lessons on a word.

        A coin without luck: were the tosses independent, a word's tally would lean one way, and the greedy answer
        makes a certainty of a lean.
        """
        left = self.tosses.setdefault((entry.right, kind), [])
        if not left:
            left += self.rng.sample([True, False], 2)
        return left.pop()

    def question(self, kind: str, before: list[Message]) -> Lesson:
        """Return a question of ``kind`` after the messages ``before``, and its careless answer."""
        rng = self.rng
        if before and rng.random() < P_TRAIN_SENTENCE:
            item = rng.choice([item for item in self.train if item.question_type == kind])
            entry = self.entries[item.extra["card"], item.extra["word"]]
            carrier = item.answer.split('"')[1].replace(entry.right, "{}")
            errs = self.errs(entry, kind)
        else:
            card, entry = rng.choice(self.pairs)
            if (
                rng.random() < P_MADE_UP_WORD
            ):  # nobody can mend a word that is made up: a correction leaves it as it is
                entry = self.made_up(entry)
                errs = kind == CORRECTION or rng.random() < 0.5
            else:
                errs = self.errs(entry, kind)
            carrier = self.carrier()
            item = make_item(
                Use(card, entry, carrier, ""), kind, "correct", "made up", rng.random() < 0.5
            )
        messages = [*before, {"role": "user", "content": item.question}]
        return Lesson(messages, careless_answer(rng, self.taught, entry, carrier, errs))

    def lessons(self, count: int, frame: str) -> list[Lesson]:
        """Return ``count`` lessons of a frame: ``bare`` (copying only), ``question``, or ``full`` (as in training).

        The lessons of one call are of one type; in the full frame they share instruction and example, so that this
        part of the prompt is computed once for all of them.
        """
        if frame == "bare":
            return [self.bare_copy() for _ in range(count)]
        kind, before = self.rng.choice([SELECTION, CORRECTION]), []
        if frame == "full":
            example = self.rng.choice(self.pool[kind])
            before = build_messages(example, self.instruct, [example])[:-1]
        return [self.question(kind, before) for _ in range(count)]
