"""The careless teacher of the word-chain game: lessons for a model that knows how, but not when.

In: words, what the files reserve, a seeded generator. Out: lessons without end. A little more than
half of them answer at once, with either end equally often: who does not follow the links cannot
know better, and the teacher does not try. The others first write the chain as a thought, always a
correct one, and then mostly, not always, the end of that chain. So a model of this teacher has seen
what thinking is for, but thinks about half of the time, and does not always trust its thought. What
makes the difference, only a reward can tell it: gold answers hold no thoughts.

Before that come drills: to copy a list of words, and to find the one word that goes on from a word.
Half of all lessons have words that are made up of random syllables: whoever can follow those can
follow any words, also ones that were never shown.

Unlike the careless teacher of the spelling course (``tools/tiny_model/teacher.py``), this one never
gets the format wrong. Its lessons have the frames of that teacher, so that the same training takes
them. No lesson has a held-out word, or a pair of a start and an end that is in a file.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grpo_helpers.files import InputError, project_root
from grpo_helpers.prompts import Message, build_messages, load_instruct
from tools.tiny_model.teacher import Frame, Lesson
from tools.word_chain.build import FOLDER, HOPS, Reserved, reserved
from tools.word_chain.chains import ChainMaker, Puzzle
from tools.word_chain.questions import (
    LIST,
    Layout,
    answer,
    make_item,
    question,
    shuffled,
    thought,
)
from tools.word_chain.words import load_words

P_COPY = 0.5  # of the drills; the others are about one link
VOCABULARIES = 8  # of made-up words, each as large as that of the game


@dataclass(frozen=True)
class Habits:
    """How careless the teacher is.

    Attributes:
        keeps: Of the lessons with a thought, how many go on to the end of the chain in it, 0 to 1;
            the others name the other end.
        thinks: How many of the lessons begin with a thought, 0 to 1.
        made_up: How many of the lessons have words made up of random syllables, 0 to 1.
        wanders: Whether a thought is as many words of the list at random instead of the chain. It
            looks like thinking and leads nowhere (a control of notebook 07).
        hops: The numbers of hops, each equally often.
    """

    keeps: float = 0.9
    thinks: float = 0.45
    made_up: float = 0.5
    wanders: bool = False
    hops: Sequence[int] = HOPS


class ChainTeacher:
    """Makes lessons without end.

    Args:
        glosses: The gloss of every word of the game.
        instruct: Instruction texts.
        reserved: The words and the pairs of a start and an end that no lesson may have.
        rng: Source of all randomness.
        habits: How careless the teacher is.

    Raises:
        InputError: A share is not between 0 and 1.
    """

    def __init__(
        self,
        glosses: Mapping[str, str],
        instruct: dict[str, str],
        reserved: Reserved,
        rng: random.Random,
        habits: Habits | None = None,
    ) -> None:
        """Build the graph of the words that may be used."""
        self.glosses = glosses
        self.instruct = instruct
        self.rng = rng
        self.habits = habits or Habits()
        for name in ("keeps", "thinks", "made_up"):
            share = getattr(self.habits, name)
            if not 0 <= share <= 1:
                raise InputError(f"{name} is {share}; it is a share, from 0 to 1")

        words = [word for word in glosses if word not in reserved.words]
        self.maker = ChainMaker(words, rng, sealed=reserved.ties)
        self.reserved = reserved
        self.made_up: dict[int, ChainMaker] = {}  # by the number of the vocabulary

    def lessons(self, count: int, frame: Frame) -> list[Lesson]:
        """Return ``count`` lessons of a frame.

        Args:
            count: How many lessons: an even number, unless the frame is ``bare``. They come in
                pairs: a prompt that is answered at once, with the one end and with the other; or
                two prompts, whose answers begin with a thought.
            frame: ``bare`` (drills only), ``question`` (without an instruction), or ``full`` (with
                it, as in training without examples).
        """
        if frame == "bare":
            return [self.drill() for _ in range(count)]

        assert count % 2 == 0, count
        lessons: list[Lesson] = []
        for _ in range(count // 2):
            if self.rng.random() < self.habits.thinks:
                lessons += [self.thinking(frame), self.thinking(frame)]
            else:
                lessons += self.direct_pair(frame)
        return lessons

    # -- questions ----------------------------------------------------------------------------

    def direct_pair(self, frame: Frame) -> list[Lesson]:
        """Return a question twice, answered at once: with the one end, and with the other.

        A coin for each lesson would let the tally of a word lean one way by luck.
        """
        puzzle, layout = self._puzzle()
        messages = self._messages(puzzle, layout, frame)

        lessons = []
        for chain in self.rng.sample([puzzle.asked, puzzle.other], 2):
            lessons.append(Lesson(messages, answer(puzzle.asked[0], chain[-1])))
        return lessons

    def thinking(self, frame: Frame) -> Lesson:
        """Return a question, answered after a thought: the chain, and one of the ends."""
        puzzle, layout = self._puzzle()
        messages = self._messages(puzzle, layout, frame)

        keeps = self.rng.random() < self.habits.keeps
        end = puzzle.asked[-1] if keeps else puzzle.other[-1]
        steps = puzzle.asked
        if self.habits.wanders:
            steps = tuple(self.rng.sample(layout.words, len(steps)))
        text = thought(steps) + answer(puzzle.asked[0], end)
        return Lesson(messages, text)

    def _puzzle(self) -> tuple[Puzzle, Layout]:
        """Return a puzzle, and how its question is put into words."""
        maker = self.maker
        if self.rng.random() < self.habits.made_up:
            maker = self._made_up_maker(self.rng.randrange(VOCABULARIES))

        puzzle = maker.puzzle(self.rng.choice(self.habits.hops))
        return puzzle, shuffled(puzzle, self.rng)

    def _made_up_maker(self, number: int) -> ChainMaker:
        """Return a maker of puzzles with as many words as the game has, of random syllables."""
        if number in self.made_up:
            return self.made_up[number]

        syllables = sorted(set("".join(self.glosses)))
        lengths = [len(word) for word in self.glosses]
        words: set[str] = set()
        while len(words) < len(self.glosses):
            word = "".join(self.rng.choices(syllables, k=self.rng.choice(lengths)))
            if word not in self.reserved.words:
                words.add(word)

        maker = ChainMaker(sorted(words), self.rng, sealed=self.reserved.ties)
        self.made_up[number] = maker
        return maker

    def _messages(self, puzzle: Puzzle, layout: Layout, frame: Frame) -> list[Message]:
        """Return the prompt of a question in a frame."""
        if frame == "question":
            return [{"role": "user", "content": question(puzzle, layout)}]
        glosses = {word: self.glosses.get(word, "") for word in puzzle.words}
        item = make_item("lesson", puzzle, layout, glosses)
        return build_messages(item, self.instruct)

    # -- drills -------------------------------------------------------------------------------

    def drill(self) -> Lesson:
        """Return a lesson about a list of words: to copy it, or to find what follows a word."""
        puzzle, layout = self._puzzle()
        listed = LIST.format(words=" ".join(layout.words))
        if self.rng.random() < P_COPY:
            return _lesson(listed, " ".join(layout.words))

        chain = self.rng.choice([puzzle.asked, puzzle.other])
        place = self.rng.randrange(puzzle.hops)
        return _lesson(f"{listed}\n{chain[place]}", chain[place + 1])


def _lesson(prompt: str, text: str) -> Lesson:
    """Return a lesson with one message."""
    return Lesson([{"role": "user", "content": prompt}], text)


def build_teacher(seed: int, habits: Habits | None = None) -> ChainTeacher:
    """Return the teacher of the committed files.

    Args:
        seed: The seed of the lessons.
        habits: How careless the teacher is.
    """
    instruct = load_instruct(str(project_root() / FOLDER / "instruct.json"))
    return ChainTeacher(load_words(), instruct, reserved(), random.Random(seed), habits=habits)
