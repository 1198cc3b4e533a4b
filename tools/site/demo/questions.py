"""What the page asks: questions to pick, and prompts for these and for what a visitor types.

In: the data, and the options under which a run answers. Out: :class:`Asking`, which becomes a JSON
file. A prompt is a head (instruction, worked example), the question, and a tail; the head depends
on the worked example alone, so few heads serve all questions. Together they are the bytes that the
run itself would give to the model. A typed sentence has no id to draw its worked example by: it
gets the example of the question without a sentence. There are two sources of questions: the norms,
for the embedded model, and the word chains, for the model that can think; of these, none is typed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grpo_helpers.answers import parse_gold
from grpo_helpers.data import load_items
from grpo_helpers.inference import AnswerOptions
from grpo_helpers.models import load_tokenizer
from grpo_helpers.prompts import (
    prompt_texts,
    prompts_from,
    suit_template,
)
from grpo_helpers.questions import CORRECTION, SELECTION, Item, question_sentences
from grpo_helpers.splits import DEV, TEST, TEST_NONCE, TEST_UNSEEN_WORDS, Split
from tools.corpus.questions import CHOOSE, CORRECT
from tools.experiments.probes import choice_probes
from tools.word_chain.build import FOLDER as WORD_CHAIN

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EMBEDDED = "data/embedded"
GROUPS = {
    DEV: "words it is rewarded for, in other sentences",
    TEST_UNSEEN_WORDS: "words it is never asked about",
    TEST_NONCE: "invented words",
}
TYPED = {SELECTION: CHOOSE, CORRECTION: CORRECT.format('"{}"')}  # around a typed sentence
CHAIN_GROUPS = {
    TEST_UNSEEN_WORDS: "chains between words that no lesson contains",
    TEST: "other chains of the words in training",
}


@dataclass(frozen=True)
class Source:
    """Where the questions of a page come from.

    Attributes:
        folder: The folder of their files.
        groups: By split, the title of its group.
        typed: By type of question, the text around a typed sentence; empty: nothing is typed.
        gloss: Returns what the page says of a question in English.
    """

    folder: str
    groups: Mapping[Split, str]
    typed: Mapping[str, str]
    gloss: Callable[[Item], str]


def whole_gloss(item: Item) -> str:
    """Return the gloss of a question."""
    gloss: str = item.extra["gloss"]
    return gloss


def sentence_gloss(item: Item) -> str:
    """Return the gloss of a word-chain question without its list of words.

    >>> gloss = 'Words: train; ticket. "From train, it goes on to ticket or dew."'
    >>> sentence_gloss(Item("1", SELECTION, "", extra={"gloss": gloss}))
    '"From train, it goes on to ticket or dew."'
    """
    _, quote, sentence = whole_gloss(item).rpartition(' "')
    return quote.lstrip() + sentence


NORMS = Source(EMBEDDED, GROUPS, TYPED, whole_gloss)
CHAINS = Source(str(WORD_CHAIN), CHAIN_GROUPS, {}, sentence_gloss)


@dataclass(frozen=True)
class RenderedPrompt:
    """A prompt in three parts.

    Attributes:
        head: Instruction and worked examples.
        question: The question.
        tail: What the chat template writes after it.
    """

    head: str
    question: str
    tail: str


@dataclass(frozen=True)
class Pick:
    """A question that a visitor can pick.

    Attributes:
        id: Its id.
        group: The title of its group.
        sentence: The sentence with its ``{A/B}``.
        right: The gold sentence.
        gloss: The sentence in English.
        question: The question as the model reads it.
        head: The number of its head.
    """

    id: str
    group: str
    sentence: str
    right: str
    gloss: str
    question: str
    head: int


@dataclass(frozen=True)
class Asking:
    """All that the page needs in order to ask.

    Attributes:
        heads: The heads of all prompts.
        tail: What follows every question.
        typed: By type of question, the text around a typed sentence, and the number of its head.
        picks: The questions to pick.
        max_new_tokens: Length at which an answer is cut off.
    """

    heads: list[str]
    tail: str
    typed: dict[str, dict[str, Any]]
    picks: list[Pick]
    max_new_tokens: int


def collect(options: AnswerOptions, source: Source = NORMS) -> Asking:
    """Return what the page asks, with the prompts of a run.

    Args:
        options: Those of the run, or those of the model before training.
        source: Where the questions come from.
    """
    groups = {split: _choice_items(source, split) for split in source.groups}
    typed = {kind: Item("typed", kind, text.format("")) for kind, text in source.typed.items()}
    items = [item for asked in groups.values() for item in asked]
    rendered = render_prompts([*items, *typed.values()], options)

    heads = list(dict.fromkeys(prompt.head for prompt in rendered))
    numbers = [heads.index(prompt.head) for prompt in rendered]
    places = iter(numbers)

    picks = []
    for split, asked in groups.items():
        picks += [_pick(item, source, split, next(places)) for item in asked]
    around = {}
    for kind, text in source.typed.items():
        before, after = text.split("{}")
        around[kind] = {"before": before, "after": after, "head": next(places)}

    return Asking(
        heads=heads,
        tail=rendered[0].tail,
        typed=around,
        picks=picks,
        max_new_tokens=options.max_new_tokens,
    )


def _choice_items(source: Source, split: Split) -> list[Item]:
    """Return the questions of a split that offer two forms."""
    items = load_items(f"{source.folder}/{split.file}")
    return [probe.item for probe in choice_probes(items) if "{" in probe.item.question]


def _pick(item: Item, source: Source, split: Split, head: int) -> Pick:
    return Pick(
        id=str(item.id),
        group=source.groups[split],
        sentence=question_sentences(item.question)[0],
        right=parse_gold(item.answer or "").sentences[0],
        gloss=source.gloss(item),
        question=item.question,
        head=head,
    )


def render_prompts(items: list[Item], options: AnswerOptions) -> list[RenderedPrompt]:
    """Return the prompts of questions as a run gives them to the model, each in three parts.

    Args:
        items: The questions.
        options: The options under which the run answers.
    """
    prompts = prompts_from(options.prompt_source, items)

    tokenizer = load_tokenizer(options.model_id, options.chat_template_path)
    template = options.template_arguments
    prompts = suit_template(tokenizer, prompts, template, options.chat_template_path)
    texts = prompt_texts(prompts, tokenizer, template)

    rendered = []
    for prompt, text in zip(prompts, texts, strict=True):
        question = prompt[-1]["content"]
        head, _, tail = text.rpartition(question)
        rendered.append(RenderedPrompt(head, question, tail))
    return rendered


def vocabulary(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Return the tokens of a model whose tokens are characters.

    Args:
        tokenizer: Its tokenizer.

    Returns:
        ``tokens`` by number; ``special``, the numbers of those that are no characters; ``unknown``
        and ``end``.
    """
    numbers = tokenizer.get_vocab()
    added = tokenizer.added_tokens_decoder.items()
    return {
        "tokens": sorted(numbers, key=lambda token: numbers[token]),
        "special": sorted(number for number, token in added if token.special),
        "unknown": tokenizer.unk_token_id,
        "end": tokenizer.eos_token_id,
    }
