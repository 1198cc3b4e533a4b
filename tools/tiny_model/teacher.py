"""The careless teacher: the endless stream of noisy lessons that warm-starts the course's models.

In: norm cards, families, train items, instructions, a seeded generator. Out: lessons. A lesson is a
prompt in the course's own frame (instruction, few-shot example, question) and an answer by someone
who knows what an answer looks like but not which form is right: every question is answered twice,
and each form is called right once, and argued for; sometimes the format is wrong or the reason
belongs to another norm.

Most sentences are made up on the spot (random syllables and shuffled train words around a card's
word), so that the model learns to copy sentences it has never seen. No dev or test sentence is
ever used, only the characters they are written in. Many words are invented too, by the pattern of a
family (뎝률, 뎝율), so that the model can write either form of a word that it was never taught.

The order in which the generator is called is part of the lessons: a call more or less changes all
that follow, and with them the model.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from grpo_helpers.answers import format_answer, subject_particle
from grpo_helpers.letters import FINALS, INITIALS, MEDIALS, all_syllables, letters_of
from grpo_helpers.prompts import Message, build_messages
from grpo_helpers.questions import CORRECTION, SELECTION, Item
from tools.corpus.cards import Card, Entry, reason
from tools.corpus.families import Family, Word
from tools.corpus.nonce import invent
from tools.corpus.questions import Draft, make_item
from tools.corpus.sentences import Use

Frame = Literal["bare", "question", "full"]

P_BAD_FORMAT = 0.08
P_OTHER_REASON = 0.08
P_TRAIN_SENTENCE = 0.15  # lessons on the train prompts themselves; the others are on made-up text
P_ANY_SYLLABLE = 0.15  # of the syllables of made-up text: any of the 11,172
P_NONCE = 0.45  # of the lessons on made-up text: an invented word of a family
P_MADE_UP_WORD = 0.08  # of the other lessons on made-up text: a word of random syllables
P_LOOK_ALIKE = 0.4  # of the syllables of hard made-up text: there is another, one letter apart
P_MARKED = 0.12  # of the words of hard made-up text: with digits and marks
MARKS = "~:/.,-()%·"

SUFFIXES = ["", "", "도", "만", "에서", "처럼", "까지", "의"]
ENDINGS = ["다.", "다.", "다.", "요.", "어요.", "까?", "니?", ".", ".", "?"]


@dataclass(frozen=True)
class Lesson:
    """A prompt as chat messages, and the careless answer to it."""

    messages: list[Message]
    answer: str


@dataclass(frozen=True)
class Material:
    """What lessons are made of, besides the norms.

    Attributes:
        train: The train items, whose prompts are among the lessons.
        few_shot: The few-shot pool.
        instruct: Instruction texts.
        alphabet: Hangul syllables for made-up text.
        held_out: Forms that no lesson is about.
    """

    train: Sequence[Item]
    few_shot: Sequence[Item]
    instruct: dict[str, str]
    alphabet: Sequence[str]
    held_out: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Assignment:
    """What a question is about.

    Attributes:
        item: The question.
        entry: The word in question; any of its forms may be called right.
        carrier: The sentence, with ``{}`` where the word goes.
        can_correct: Whether an answer can put the right form for the wrong one. Nobody can do so
            for a word without a pattern.
    """

    item: Item
    entry: Entry
    carrier: str
    can_correct: bool = True


class Teacher:
    """Makes lessons without end.

    Args:
        cards: The norm cards and those of the families; only the words of ``train`` are taught, no
            unseen word and no held-out norm.
        families: The families, whose patterns invented words follow; without any, no word has a
            pattern.
        material: What lessons are made of.
        rng: Source of all randomness.

    Attributes:
        is_hard: Whether made-up text has what is hard to copy: syllables that differ in one letter
            (오는 일은), digits and marks (3월~5월).
    """

    def __init__(
        self,
        cards: Sequence[Card],
        families: Sequence[Family],
        material: Material,
        rng: random.Random,
    ) -> None:
        """Collect the words that may be taught."""
        train = material.train
        self.train = train
        self.instruct = material.instruct
        self.alphabet = material.alphabet
        self.held_out = material.held_out
        self.all_syllables = all_syllables()
        self.families = families
        self.rng = rng
        self.is_hard = False

        taught = {(item.extra["card"], item.extra["word"]) for item in train}
        self.pairs: list[tuple[Card, Entry]] = []
        self.entries: dict[tuple[str, str], Entry] = {}
        for card in cards:
            for entry in card.entries:
                if (card.id, entry.right) in taught:
                    self.pairs.append((card, entry))
                    self.entries[card.id, entry.right] = entry
        self.taught = list(self.entries.values())

        self.pool: dict[str, list[Item]] = {SELECTION: [], CORRECTION: []}
        for example in material.few_shot:
            self.pool[example.question_type].append(example)

        self.words = self._other_words(train)

    def lessons(self, count: int, frame: Frame) -> list[Lesson]:
        """Return ``count`` lessons of a frame.

        The lessons of one call are of one question type; in the full frame they share instruction
        and example, so that this part of the prompt is computed once for all of them.

        Questions come in pairs: the same prompt twice, and each form is called right once. With a
        coin for each lesson, the tally of a word or of a whole family would lean one way by luck,
        and the greedy answer turns a lean into a certainty.

        Args:
            count: How many lessons: an even number, unless the frame is ``bare``.
            frame: ``bare`` (copying only), ``question`` (without an instruction), or ``full`` (as
                in training).
        """
        if frame == "bare":
            return [self.bare_copy() for _ in range(count)]

        assert count % 2 == 0, count
        question_type = self.rng.choice([SELECTION, CORRECTION])
        before: list[Message] = []
        if frame == "full":
            example = self.rng.choice(self.pool[question_type])
            before = build_messages(example, self.instruct, [example])[:-1]

        lessons: list[Lesson] = []
        for _ in range(count // 2):
            lessons += self.both_answers(question_type, before)
        return lessons

    def bare_copy(self) -> Lesson:
        """Return the simplest lesson: repeat a made-up sentence. It teaches copying in minutes."""
        text = self.carrier().replace("{}", self._word(self.alphabet))
        return Lesson([{"role": "user", "content": text}], text)

    def both_answers(self, question_type: str, before: Sequence[Message]) -> list[Lesson]:
        """Return a question after the messages ``before``, with both of its careless answers."""
        if before and self.rng.random() < P_TRAIN_SENTENCE:
            assignment = self._on_train_sentence(question_type)
        else:
            assignment = self.assignment(question_type)

        messages = [*before, {"role": "user", "content": assignment.item.question}]
        lessons = []
        for errs in (False, True):
            lessons.append(Lesson(messages, self._answer(assignment, errs)))
        return lessons

    # -- questions and answers ----------------------------------------------------------------

    def _on_train_sentence(self, question_type: str) -> Assignment:
        """Choose a train item of the type."""
        items = [item for item in self.train if item.question_type == question_type]
        item = self.rng.choice(items)

        entry = self.entries[item.extra["card"], item.extra["word"]]
        return Assignment(item, entry, self._carrier_of(item))

    def assignment(self, question_type: str) -> Assignment:
        """Make up a sentence around a word of a card, or around an invented word."""
        can_correct = True
        if self.families and self.rng.random() < P_NONCE:
            family = self.rng.choice(self.families)
            card, entry = family.card, self.invented(family).entry
        else:
            card, entry = self.rng.choice(self.pairs)
            if self.rng.random() < P_MADE_UP_WORD:
                entry = self.made_up(entry)
                can_correct = question_type == SELECTION

        carrier = self.carrier()
        draft = Draft(Use(card, entry, carrier, gloss=""), question_type)
        item = make_item(draft, "made up", right_first=self.rng.random() < 0.5)
        return Assignment(item, entry, carrier, can_correct)

    def invented(self, family: Family) -> Word:
        """Return an invented word of a family that is not held out."""
        while True:
            word = invent(family, self.rng)
            if word.entry.right not in self.held_out and word.entry.wrong not in self.held_out:
                return word

    def _answer(self, assignment: Assignment, errs: bool) -> str:
        """Return an answer that calls one form right and argues for it; sometimes badly formed.

        Args:
            assignment: What the question is about.
            errs: Whether the wrong form is called right.
        """
        entry = assignment.entry
        errs = errs or not assignment.can_correct
        form = entry.wrong if errs else entry.right
        sentence = assignment.carrier.replace("{}", form)

        if self.rng.random() < P_OTHER_REASON:
            why = reason(self.rng.choice(self.taught))
        else:
            why = reason(entry, swapped=errs)

        if self.rng.random() < P_BAD_FORMAT:
            return self._badly_formed(sentence, why)
        return format_answer(sentence, why)

    def _badly_formed(self, sentence: str, why: str) -> str:
        """Return an answer that misses the required format in one of four ways."""
        particle = subject_particle(sentence)
        another_verb = f'"{sentence}"{particle} 맞다. {why}'
        no_quotes = f"{sentence} {why}"
        no_reason = f'"{sentence}"{particle} 옳다.'
        no_sentence = why
        return self.rng.choice([another_verb, no_quotes, no_reason, no_sentence])

    def _other_words(self, train: Sequence[Item]) -> list[str]:
        """Return the words of the train sentences without a form that a question is about.

        Whatever is copied often is preferred to its other form, and no form may be preferred.
        """
        forms = [form for entry in self.taught for form in (entry.right, entry.wrong)]
        words = set()
        for item in train:
            for word in self._carrier_of(item).replace("{}", " ").split():
                bare = word.strip(".?,")
                if bare and not any(form in bare for form in forms):
                    words.add(bare)
        return sorted(words)

    def _carrier_of(self, item: Item) -> str:
        """Return the sentence of a train item, with ``{}`` for the word in question."""
        entry = self.entries[item.extra["card"], item.extra["word"]]
        return _gold_sentence(item).replace(entry.right, "{}")

    # -- made-up text -------------------------------------------------------------------------

    def carrier(self) -> str:
        """Return a made-up carrier: shuffled train words and random syllables around one slot.

        Real sentences repeat themselves (떨어지지, 견학한 학생들이), and a model that finds its
        place by the last letter or two then skips a stretch. So some words are drawn from a
        handful of syllables, start as the last one ended, or come twice with another ending.
        """
        rng = self.rng
        size = rng.randint(3, 7)
        palette = [self._syllable() for _ in range(size)]
        if self.is_hard:
            palette += self._look_alikes(palette)

        words: list[str] = []
        for _ in range(rng.randint(2, 5)):
            start = words[-1][-1] if words and rng.random() < 0.1 else ""
            word = start + self._word(palette)
            words.append(word + self._comma())

        # The same beginning twice (사이 ... 사이에도): the model must know where it is.
        if rng.random() < 0.25:
            again = self._same_beginning(rng.choice(words), palette)
            words.insert(rng.randint(0, len(words)), again)

        place = rng.randint(0, len(words))
        words.insert(place, self._slot(palette))
        return " ".join(words).rstrip(",") + rng.choice(ENDINGS)

    def _word(self, palette: Sequence[str]) -> str:
        """Return a word: of train, of the whole alphabet, or of the palette's syllables."""
        rng = self.rng
        if self.is_hard and rng.random() < P_MARKED:
            return self._marked_word(palette)

        kind = rng.random()
        # Not more often: a word known by heart is written from memory, not copied.
        if kind < 0.2:
            return rng.choice(self.words)

        word = []
        for _ in range(rng.randint(1, 5)):
            word.append(self._syllable() if kind < 0.6 else rng.choice(palette))
        if rng.random() < 0.12:
            place = rng.randrange(len(word))
            word.insert(place, word[place])
        return "".join(word)

    def _syllable(self) -> str:
        """Return a syllable of the alphabet, or now and then one of random letters."""
        if self.rng.random() < P_ANY_SYLLABLE:
            return self.rng.choice(self.all_syllables)
        return self.rng.choice(self.alphabet)

    def _look_alikes(self, palette: Sequence[str]) -> list[str]:
        """Return, for some of the syllables, another that differs from it in one letter."""
        rng = self.rng
        others = []
        for syllable in palette:
            if rng.random() < P_LOOK_ALIKE:
                letters = letters_of(syllable)
                changed = rng.choice(
                    [
                        replace(letters, initial=rng.choice(INITIALS)),
                        replace(letters, medial=rng.choice(MEDIALS)),
                        replace(letters, final=rng.choice(FINALS)),
                    ]
                )
                others.append(changed.syllable)
        return others

    def _marked_word(self, palette: Sequence[str]) -> str:
        """Return a word with digits and marks: 3월~5월, 3월 ~ 5월, 9:30, 24권, 쥘덕: (a colon)."""
        rng = self.rng
        first, second = rng.sample(range(1, 100), 2)
        unit = rng.choice([*palette, ""])
        mark = rng.choice(MARKS)
        space = rng.choice(["", "", " "])
        return rng.choice(
            [
                f"{first}{unit}",
                f"{first}{unit}{space}{mark}{space}{second}{unit}",
                f"{rng.choice(palette)}{rng.choice(palette)}{mark}",
                f"{rng.choice(palette)}{space}{mark}{space}{rng.choice(palette)}",
            ]
        )

    def _same_beginning(self, word: str, palette: list[str]) -> str:
        """Return a word that begins like ``word`` and ends differently."""
        word = word.rstrip(",")
        length = self.rng.randint(1, len(word))
        ending = self.rng.choice([*SUFFIXES, self.rng.choice(palette)])
        return word[:length] + ending

    def _slot(self, palette: list[str]) -> str:
        """Return the slot ``{}``, sometimes with syllables before it, a suffix or a comma."""
        before, after = "", ""
        if self.rng.random() < 0.1:
            before = self._few_syllables(palette)

        if self.rng.random() < 0.35:
            after = self._few_syllables(palette)
        else:
            after = self.rng.choice(SUFFIXES)
        return before + "{}" + after + self._comma()

    def _few_syllables(self, palette: list[str]) -> str:
        count = self.rng.randint(1, 2)
        return "".join(self.rng.choices(palette, k=count))

    def _comma(self) -> str:
        return "," if self.rng.random() < 0.08 else ""

    def made_up(self, like: Entry) -> Entry:
        """Return a word of random syllables whose two forms differ in one place.

        Args:
            like: The word whose reasons it takes.
        """
        rng = self.rng
        form = rng.choices(self.alphabet, k=rng.randint(2, 4))
        place = rng.randrange(1, len(form))

        other = list(form)
        if rng.random() < 0.3:
            other.insert(place, " ")
        else:
            other[place] = rng.choice(self.alphabet)
        right, wrong = rng.sample(["".join(form), "".join(other)], 2)
        return replace(like, right=right, wrong=wrong)


def _gold_sentence(item: Item) -> str:
    """Return the sentence of a gold answer: what is between its first two double quotes."""
    answer = item.answer or ""
    return answer.split('"')[1]
