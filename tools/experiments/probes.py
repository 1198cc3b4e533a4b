"""The questions with which coins are watched: one for each word, and its two answers.

In: the data of a run. Out: :class:`Probe` objects, and their tokens. There are four kinds
(:data:`grpo_helpers.coins.BLOCKS`):

* *rewarded*: every word of train that dev has a sentence of. If dev asks about it in a 교정형
  only, the same sentence is asked as a 선택형: the wrong form becomes a brace with both. A 교정형
  shows only the wrong form, and whoever always writes the other one is right.
* *corrected*: the same words where dev asks about them in a 교정형. Here a model can be right by
  swapping, and a reward can be gamed by quoting.
* *real* and *invented*: the 선택형 of the test sets of unseen and of invented words. They are
  asked here to watch, and nothing is chosen by them.

Two answers are compared, the gold sentence and the sentence with the wrong form. They part where
their tokens first differ; what they have in common before that is given, what they have in common
after the form does not count (:func:`part`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from grpo_helpers.answers import parse_gold
from grpo_helpers.coins import COLUMNS, CORRECTED, REWARDED
from grpo_helpers.data import load_items
from grpo_helpers.files import InputError
from grpo_helpers.prompts import (
    PromptSource,
    prompt_texts,
    prompts_from,
    suit_template,
)
from grpo_helpers.questions import CORRECTION, SELECTION, Item, choice_forms, question_sentences
from grpo_helpers.settings import TrainSettings
from grpo_helpers.similarity import common_start
from grpo_helpers.splits import TEST_NONCE, TEST_UNSEEN_WORDS
from tools.corpus.questions import CHOOSE, option_order
from tools.experiments.quoted import quotable
from tools.tiny_model.copying import EMBEDDED

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

NEVER_REWARDED = {"real": TEST_UNSEEN_WORDS, "invented": TEST_NONCE}
BOTH = "both"  # train asks about the word in either type of question

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Probe:
    """A question about one word, and the two sentences that its answer can state.

    Attributes:
        block: One of :data:`grpo_helpers.coins.BLOCKS`, or empty where no coin is recorded.
        item: The question: a 선택형 with two options, or a 교정형.
        trained_as: The type in which train asks about the word, :data:`BOTH`, or empty.
        right: The gold sentence.
        wrong: The sentence with the wrong form.
    """

    block: str
    item: Item
    trained_as: str
    right: str
    wrong: str


@dataclass(frozen=True)
class Parting:
    """Where the tokens of two texts part.

    Attributes:
        common: The tokens before that.
        right: The tokens of the first text from there on, through the last that differs.
        wrong: Those of the second.
    """

    common: Tokens
    right: Tokens
    wrong: Tokens


@dataclass(frozen=True)
class EncodedProbe:
    """A probe as the model reads it.

    Attributes:
        head: Instruction and worked examples, which many probes share.
        middle: The question, and the answer up to where the two sentences part.
        right: The tokens of the right form from there on.
        wrong: Those of the wrong form.
    """

    head: Tokens
    middle: Tokens
    right: Tokens
    wrong: Tokens


# -- what is asked ---------------------------------------------------------------------------------


def load_probes(settings: TrainSettings) -> list[Probe]:
    """Return a probe for every word that can be asked about.

    Args:
        settings: The run's parameters, whose train and dev files count.
    """
    train = load_items(settings.train_data_path)
    dev = load_items(settings.eval_data_path)
    probes = rewarded_probes(train, dev) + corrected_probes(train, dev)

    for block, split in NEVER_REWARDED.items():
        items = load_items(f"{EMBEDDED}/{split.file}")
        asked = [item for item in items if item.question_type == SELECTION]
        probes += [_probe(block, item) for item in _one_a_word(asked)]
    return probes


def rewarded_probes(train: Sequence[Item], dev: Sequence[Item]) -> list[Probe]:
    """Return a probe for every word of train that dev has a sentence of.

    Args:
        train: The train items; where a word is in both types of question, both count.
        dev: The dev items; of a word with both types, the 선택형 is taken as it is.
    """
    ways = trained_ways(train)
    known = [item for item in dev if _key(item) in ways]
    natural_first = sorted(known, key=lambda item: item.question_type != SELECTION)
    chosen = _one_a_word(natural_first)

    made = [item for item in chosen if item.question_type != SELECTION]
    order = option_order("coins", len(made))

    probes = []
    for item in chosen:
        asked = item if item.question_type == SELECTION else as_choice(item, next(order))
        probes.append(_probe(REWARDED, asked, ways[_key(item)]))
    return probes


def corrected_probes(train: Sequence[Item], dev: Sequence[Item]) -> list[Probe]:
    """Return a probe for every word of train that dev asks about in a 교정형.

    Args:
        train: The train items.
        dev: The dev items.
    """
    ways = trained_ways(train)
    probes = []
    for item in _one_a_word(item for item in dev if item.question_type == CORRECTION):
        if _key(item) in ways:
            probes.append(_probe(CORRECTED, item, ways[_key(item)]))
    return probes


def choice_probes(items: Iterable[Item]) -> list[Probe]:
    """Return a probe for each 선택형 question that offers two forms, as it is.

    Args:
        items: The questions; others than such are left out.
    """
    of_two = []
    for item in items:
        if item.question_type == SELECTION and len(choice_forms(item)[1]) == 1:
            of_two.append(_probe("", item))
    return of_two


def trained_ways(train: Sequence[Item]) -> dict[tuple[str, str], str]:
    """Return by card and word in which type of question train asks about it, or :data:`BOTH`."""
    ways: dict[tuple[str, str], str] = {}
    for item in train:
        known = ways.setdefault(_key(item), item.question_type)
        if known != item.question_type:
            ways[_key(item)] = BOTH
    return ways


def as_choice(item: Item, right_first: bool) -> Item:
    """Return a 교정형 item as a 선택형: the same sentence, with both forms in a brace.

    Args:
        item: An item whose ``word`` is the right form.
        right_first: Whether the right form comes first.

    Raises:
        InputError: The question's sentence is not the gold one with another form of the word.

    >>> answer = '"며칠 걸렸다."가 옳다. 까닭.'
    >>> item = Item("1", "교정형", '"몇일 걸렸다."', answer, {"word": "며칠"})
    >>> as_choice(item, right_first=True).question
    '"{며칠/몇일} 걸렸다." 가운데 올바른 것을 선택하고, 그 이유를 설명하세요.'
    """
    gold = _gold_sentence(item)
    sentence = question_sentences(item.question)[0]
    right = item.extra["word"]
    before, _, after = gold.partition(right)
    wrong = sentence[len(before) : len(sentence) - len(after)]

    if sentence != before + wrong + after or sentence == gold:
        raise InputError(f"{item.id}: {sentence!r} is not {gold!r} with another form of {right!r}")

    first, second = (right, wrong) if right_first else (wrong, right)
    question = CHOOSE.format(f"{before}{{{first}/{second}}}{after}")
    return replace(item, question_type=SELECTION, question=question)


def _probe(block: str, item: Item, trained_as: str = "") -> Probe:
    """Return the probe of an item.

    Raises:
        InputError: Its question does not show exactly one wrong sentence.
    """
    gold = _gold_sentence(item)
    others = [sentence for sentence in quotable(item.question) if sentence != gold]
    if len(others) != 1:
        raise InputError(f"{item.id}: one wrong sentence is needed, not {len(others)}")
    return Probe(block, item, trained_as, right=gold, wrong=others[0])


def _gold_sentence(item: Item) -> str:
    return parse_gold(item.answer or "").sentences[0]


def _key(item: Item) -> tuple[str, str]:
    """Return what a word is known by: the same letters may be a word of two norms."""
    return item.extra["card"], item.extra["word"]


def _one_a_word(items: Iterable[Item]) -> list[Item]:
    """Return the first item of each word."""
    first: dict[tuple[str, str], Item] = {}
    for item in items:
        first.setdefault(_key(item), item)
    return list(first.values())


def words_table(probes: Sequence[Probe]) -> pd.DataFrame:
    """Return what each probe is about, with the columns of the record."""
    import pandas as pd

    rows = []
    for probe in probes:
        right, (wrong, *_) = choice_forms(probe.item)
        row = {name: probe.item.extra[name] for name in ("kind", "card", "form", "word")}
        row |= {"block": probe.block, "trained_as": probe.trained_as, "id": probe.item.id}
        rows.append(row | {"right": right, "wrong": wrong})
    return pd.DataFrame(rows, columns=list(COLUMNS))


# -- tokens ----------------------------------------------------------------------------------------


def part(right: Sequence[int], wrong: Sequence[int]) -> Parting:
    """Return where two texts part, and their tokens through the last that differs.

    Neither of the two stretches is empty, and they begin with different tokens: a text cannot
    continue with both. Where a form only lacks something (a space: 먹은만큼 and 먹은 만큼), each
    stretch has what follows, too.

    Args:
        right: The tokens of the right text.
        wrong: Those of the wrong text.

    Raises:
        InputError: One text begins with the other, or they are the same.

    >>> part([5, 6, 7, 9], [5, 8, 7, 9])
    Parting(common=(5,), right=(6,), wrong=(8,))
    >>> part([5, 1, 6, 7, 9], [5, 6, 7, 9])
    Parting(common=(5,), right=(1, 6), wrong=(6,))
    """
    start = common_start(right, wrong)
    right_rest = right[start:]
    wrong_rest = wrong[start:]
    shorter = min(len(right_rest), len(wrong_rest))
    if shorter == 0:
        raise InputError("the tokens of one sentence are the beginning of the other's")

    common_end = common_start(right_rest[::-1], wrong_rest[::-1])
    tail = min(common_end, shorter - 1)
    return Parting(
        common=tuple(right[:start]),
        right=tuple(right_rest[: len(right_rest) - tail]),
        wrong=tuple(wrong_rest[: len(wrong_rest) - tail]),
    )


def encode_probes(
    probes: Sequence[Probe], tokenizer: PreTrainedTokenizerBase, settings: TrainSettings
) -> list[EncodedProbe]:
    """Return probes as the model reads them, with the prompts that the run gives to such questions.

    A prompt is cut before its question, and the parts are encoded one by one: a token of the
    embedded model is a character, so that no token reaches over a cut.

    Args:
        probes: The probes.
        tokenizer: The run's tokenizer.
        settings: The run's parameters.
    """
    source = PromptSource.from_settings(settings)
    prompts = prompts_from(source, [probe.item for probe in probes])

    template = settings.chat_template_kwargs
    prompts = suit_template(tokenizer, prompts, template, settings.chat_template_path)
    texts = prompt_texts(prompts, tokenizer, template)

    encoded = []
    for probe, prompt, text in zip(probes, prompts, texts, strict=True):
        question = prompt[-1]["content"]
        head, _, end = text.rpartition(question)
        right, wrong = (_tokens(f'"{each}"', tokenizer) for each in (probe.right, probe.wrong))
        parting = part(right, wrong)
        middle = _tokens(question + end, tokenizer) + parting.common
        head_tokens = _tokens(head, tokenizer)
        encoded.append(EncodedProbe(head_tokens, middle, parting.right, parting.wrong))
    return encoded


def _tokens(text: str, tokenizer: PreTrainedTokenizerBase) -> Tokens:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
