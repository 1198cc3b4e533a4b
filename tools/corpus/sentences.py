"""Sentences to splits: which split each carrier sentence of the norm cards belongs to.

In: norm cards and ``data/norms/splits.yaml``. Out: the sentences of every split. A sentence goes
to one split only, and no two sentences of different splits are near copies of each other
(character 5-gram Jaccard above :data:`grpo_helpers.similarity.NEAR_COPY`).
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from grpo_helpers.files import InputError, project_root
from grpo_helpers.similarity import NEAR_COPY, char_ngrams, jaccard
from grpo_helpers.splits import CORPUS_SPLITS
from tools.corpus.cards import Card, Entry

SPLIT_NAMES = tuple(split.name for split in CORPUS_SPLITS)
MANY_WORDS = 5  # a card with at least so many words keeps some of them from train
UNSEEN_WORDS = 2  # words of such a card that train never shows
MANY_SENTENCES = 8  # a word with at least so many sentences fills dev and test, too


@dataclass(frozen=True)
class Use:
    """One carrier sentence of an entry.

    Attributes:
        card: The norm.
        entry: The word.
        carrier: The sentence, with ``{}`` where the word goes.
        gloss: Its meaning in English.
        source: ``written`` by hand, or ``composed``: a written sentence inside a quotation.
    """

    card: Card
    entry: Entry
    carrier: str
    gloss: str
    source: str = "written"

    @property
    def right(self) -> str:
        """The sentence with the right form."""
        return self.with_form(self.entry.right)

    def with_form(self, form: str) -> str:
        """Return the sentence with ``form`` in its place."""
        return self.carrier.replace("{}", form)


def seeded(*words: str) -> random.Random:
    """Return a generator seeded by ``words``: the same in every process."""
    digest = hashlib.sha256("/".join(words).encode()).digest()
    return random.Random(int.from_bytes(digest[:8]))


def load_plan(folder: Path | None = None) -> dict[str, Any]:
    """Return ``splits.yaml``: which card is few-shot, held out, or the embedded model's."""
    folder = folder or project_root() / "data" / "norms"
    return yaml.safe_load((folder / "splits.yaml").read_text(encoding="utf-8"))


def shuffled_uses(card: Card, entry: Entry, count: int | None = None) -> list[Use]:
    """Return the first ``count`` sentences of a word, or all, in a fixed random order."""
    sentences = entry.sentences[:count]
    order = seeded(card.id, entry.right).sample(sentences, len(sentences))

    uses = []
    for korean, gloss in order:
        uses.append(Use(card, entry, korean, gloss))
    return uses


def divide(cards: Sequence[Card], plan: Mapping[str, Any]) -> dict[str, list[Use]]:
    """Divide the sentences of all cards among the splits.

    Args:
        cards: All norm cards.
        plan: The content of ``splits.yaml``.

    Returns:
        The sentences of each split, in card order.

    Raises:
        InputError: The plan names a card that does not exist.
    """
    known = {card.id for card in cards}
    for name in (*plan["few_shot"], *plan["unseen_norms"]):
        if name not in known:
            raise InputError(f"splits.yaml names a card that does not exist: {name}")

    uses: dict[str, list[Use]] = {split: [] for split in SPLIT_NAMES}
    turns = itertools.cycle(["dev", "test"])
    for card in cards:
        unseen = unseen_entries(card)
        for entry in card.entries:
            sentences = shuffled_uses(card, entry)
            if card.id in plan["few_shot"]:
                uses["few_shot"] += sentences
            elif card.id in plan["unseen_norms"]:
                uses["test_unseen_norms"] += sentences
            elif entry in unseen:
                uses["test_unseen_words"] += sentences
            else:
                splits = _splits_of_seen_word(len(sentences), turns)
                for split, use in zip(splits, sentences, strict=True):
                    uses[split].append(use)
    return uses


def unseen_entries(card: Card) -> list[Entry]:
    """Return the words of a card that train never shows; none if it has few words."""
    if len(card.entries) < MANY_WORDS:
        return []
    return seeded("unseen words", card.id).sample(card.entries, UNSEEN_WORDS)


def _splits_of_seen_word(count: int, turns: Iterator[str]) -> list[str]:
    """Return the split of each of a seen word's sentences.

    Of ten sentences dev and test get three each and train the rest. Of two, one goes to train and
    the other to dev or test in turn.
    """
    if count >= MANY_SENTENCES:
        return ["dev"] * 3 + ["test"] * 3 + ["train"] * (count - 6)
    return ["train", *itertools.islice(turns, count - 1)]


@dataclass(frozen=True)
class NearCopy:
    """Two sentences of different splits that are too much alike."""

    split: str
    other_split: str
    sentence: str
    other_sentence: str


def near_copies(sentences: Mapping[str, Iterable[str]]) -> list[NearCopy]:
    """Return every pair of sentences that are near copies across two splits.

    Args:
        sentences: The sentences of each split.
    """
    ngrams = {}
    for split, texts in sentences.items():
        ngrams[split] = {text: char_ngrams(text) for text in texts}

    copies = []
    for split, other_split in itertools.combinations(ngrams, 2):
        others = ngrams[other_split]
        with_ngram = _sentences_by_ngram(others)
        for sentence, grams in ngrams[split].items():
            # Only sentences with an n-gram in common can be alike; they are few.
            candidates = set().union(*(with_ngram[gram] for gram in grams))
            for other_sentence in sorted(candidates):
                if jaccard(grams, others[other_sentence]) > NEAR_COPY:
                    copies.append(NearCopy(split, other_split, sentence, other_sentence))
    return copies


def _sentences_by_ngram(ngrams: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Return for each n-gram the sentences that contain it: an empty set for unknown ones."""
    sentences: defaultdict[str, set[str]] = defaultdict(set)
    for sentence, grams in ngrams.items():
        for gram in grams:
            sentences[gram].add(sentence)
    return sentences
