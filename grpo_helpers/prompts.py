"""② Prompts: instruction + few-shot examples of the item's type -> messages -> TRL's dataset.

In: items of a contest file. Out: one list of chat messages per item, and the dataset TRL trains
on. Counterpart of the article's ``CustomDataset`` (here :func:`build_dataset`) and
``Category_FewShotGenerater`` (here :class:`CategoryFewShotGenerator`). There are two differences,
both deliberate:

* The article draws few-shot examples at random each time an item is read, so the G completions of
  one group answer G different prompts. Here they are drawn once, with a seed made from the item's
  id.
* A prompt is a list of chat messages, so each model's own chat template applies.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from grpo_helpers.answers import parse_gold
from grpo_helpers.chat_template import NO_THINK, dated, freeze_clock
from grpo_helpers.data import load_items
from grpo_helpers.files import InputError, half_character, nfc, read_json, show_path
from grpo_helpers.questions import SELECTION, Item, question_sentences
from grpo_helpers.similarity import NEAR_COPY, char_ngrams, jaccard

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]  # "role" and "content"
INSTRUCT_KEYS = ("prompt", "selection_prompt", "correction_prompt")


@dataclass(frozen=True)
class PromptSource:
    """What a prompt is made of besides the question; fields are named as in the settings.

    Attributes:
        few_shot_data_path: Contest file of worked examples; not read if ``num_few_shot`` is 0.
        instruct_path: JSON file of the instruction texts.
        num_few_shot: Worked examples in each prompt, 0 or more.
    """

    few_shot_data_path: str = "data/embedded/few_shot.json"
    instruct_path: str = "data/instruct.json"
    num_few_shot: int = 1

    @classmethod
    def from_settings(cls, settings: Any) -> PromptSource:
        """Return the source that the parameters of a notebook name."""
        return cls(
            few_shot_data_path=settings.few_shot_data_path,
            instruct_path=settings.instruct_path,
            num_few_shot=settings.num_few_shot,
        )


@dataclass(frozen=True)
class PromptSizes:
    """The lengths of some prompts as the model reads them, in tokens.

    Attributes:
        count: How many prompts they are.
        longest: The length of the longest.
        mean: The mean length.
        template_share: The share of all their tokens that the chat template adds to the messages,
            between 0 and 1: its marks, and whatever system text is built into it.
    """

    count: int
    longest: int
    mean: float
    template_share: float


@dataclass(frozen=True)
class Retained:
    """What :func:`drop_long` leaves: items and prompts, and the ids of the items left out."""

    items: list[Item]
    prompts: list[list[Message]]
    dropped_ids: list[str | int]


# -- few-shot examples -----------------------------------------------------------------------------


class CategoryFewShotGenerator:
    """Draws worked examples of an item's own type, the same ones every time.

    The draw is seeded by the item's id: an item has the same prompt in every epoch, process and
    checkpoint. The item itself, its sentence and near copies of it are never drawn.
    """

    def __init__(self, pool: Sequence[Item], num_few_shot: int) -> None:
        """Prepare to draw from a pool.

        Args:
            pool: Items with answers.
            num_few_shot: Examples per prompt, 0 or more.

        Raises:
            InputError: ``num_few_shot`` is negative.
        """
        if num_few_shot < 0:
            raise InputError(f"num_few_shot is {num_few_shot}; it must be 0 or more")

        self.num_few_shot = num_few_shot
        self._pool = [(example, _sentence_ngrams(example)) for example in pool]

    def examples(self, item: Item) -> list[Item]:
        """Return the ``num_few_shot`` examples for ``item``, in prompt order.

        Raises:
            InputError: The pool has too few usable examples of the item's type.
        """
        if not self.num_few_shot:
            return []

        usable = self._usable_examples(item)
        if len(usable) < self.num_few_shot:
            raise InputError(
                f"the few-shot pool has {len(usable)} usable {item.question_type} examples "
                f"for id {item.id!r}, but num_few_shot is {self.num_few_shot}: "
                "lower num_few_shot or enlarge the pool"
            )

        rng = random.Random(_seed_of(item))
        return rng.sample(usable, self.num_few_shot)

    def _usable_examples(self, item: Item) -> list[Item]:
        """Return the examples of the item's type that do not give its answer away."""
        own_ngrams = _sentence_ngrams(item)
        usable = []

        for example, ngrams in self._pool:
            same_type = example.question_type == item.question_type
            same_question = example.question == item.question

            if same_type and not same_question and jaccard(own_ngrams, ngrams) <= NEAR_COPY:
                usable.append(example)

        return usable


def _sentence_ngrams(item: Item) -> set[str]:
    """Return the character n-grams of the right sentence, or of the question if there is none."""
    sentences = parse_gold(item.answer).sentences if item.answer else ()

    if sentences:
        return char_ngrams(sentences[0])

    return char_ngrams(question_sentences(item.question)[0])


def _seed_of(item: Item) -> int:
    """Return a seed that depends on the item alone; Python's ``hash`` differs between processes."""
    key = f"{item.question_type}/{item.id}"
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:8])


# -- messages --------------------------------------------------------------------------------------


def load_instruct(path: str) -> dict[str, str]:
    """Return the instruction texts: ``prompt`` for all items, the others by question type.

    Raises:
        InputError: The file cannot be read, or one of :data:`INSTRUCT_KEYS` is missing or is not a
            string.
    """
    texts = nfc(read_json(path, "instruct file"))

    for key in INSTRUCT_KEYS:
        if not isinstance(texts, dict) or not isinstance(texts.get(key), str):
            needed = ", ".join(INSTRUCT_KEYS)
            raise InputError(f"{path}: needs the keys {needed}, each a string; wrong: {key}")
        if half := half_character(texts[key]):
            raise InputError(f"{path}: {key}: {half} is half of a character: remove it")

    return texts


def build_messages(
    item: Item, instruct: dict[str, str], examples: Sequence[Item] = ()
) -> list[Message]:
    """Return the chat messages of one prompt: system instruction, few-shot turns, the question."""
    by_type = "selection_prompt" if item.question_type == SELECTION else "correction_prompt"
    instruction = f"{instruct['prompt']} {instruct[by_type]}".strip()

    messages = [{"role": "system", "content": instruction}]
    for example in examples:
        messages.append({"role": "user", "content": example.question})
        messages.append({"role": "assistant", "content": example.answer or ""})
    messages.append({"role": "user", "content": item.question})

    return messages


def build_prompts(
    items: Iterable[Item], instruct: dict[str, str], few_shot: CategoryFewShotGenerator
) -> list[list[Message]]:
    """Return the prompt of each item, few-shot examples included."""
    return [build_messages(item, instruct, few_shot.examples(item)) for item in items]


def load_prompted(
    data_path: str, source: PromptSource, *, need_answer: bool = True
) -> tuple[list[Item], list[list[Message]]]:
    """Read a contest file and build the prompt of each of its items.

    Args:
        data_path: The contest file.
        source: Where instructions and worked examples come from, and how many examples.
        need_answer: Whether every row must have an answer.

    Returns:
        The items, and the prompt of each, in file order.

    Raises:
        InputError: A file cannot be used, or the few-shot pool is too small.
    """
    items = load_items(data_path, need_answer)
    return items, prompts_from(source, items)


def prompts_from(source: PromptSource, items: Sequence[Item]) -> list[list[Message]]:
    """Build the prompt of each of some items.

    Args:
        source: Where instructions and worked examples come from, and how many examples.
        items: The questions.

    Raises:
        InputError: A file of the source cannot be used, or the few-shot pool is too small.
    """
    pool = []
    if source.num_few_shot:  # a run without examples needs no few-shot file
        pool = load_items(source.few_shot_data_path)
    few_shot = CategoryFewShotGenerator(pool, source.num_few_shot)

    instruct = load_instruct(source.instruct_path)
    return build_prompts(items, instruct, few_shot)


# -- the model's chat template ---------------------------------------------------------------------


def suit_template(
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[Message]],
    chat_template_kwargs: Mapping[str, Any] = NO_THINK,
    chat_template_path: str = "",
) -> list[list[Message]]:
    """Return ``prompts`` in a form that the model's chat template shows completely.

    Some templates (Gemma's for one) refuse a system message, and some leave it out without a word;
    its text then goes to the start of the first user message.

    Args:
        tokenizer: The model's tokenizer, with its chat template.
        prompts: Chat messages, one list per question.
        chat_template_kwargs: What the template gets besides the messages.
        chat_template_path: The file that the template was read from; empty: it is the model's own.

    Raises:
        InputError: The template cannot be rendered, or the instruction, an example or the question
            does not stand in the text even so.
    """
    if not any(_flaw(prompt, tokenizer, chat_template_kwargs) for prompt in prompts):
        return prompts

    merged = [_without_system_message(prompt) for prompt in prompts]
    for number, prompt in enumerate(merged, 1):
        flaw = _flaw(prompt, tokenizer, chat_template_kwargs)
        if flaw:
            whose = chat_template_path or f"of {show_path(tokenizer.name_or_path)}"
            raise InputError(
                f"the chat template {whose} {flaw} (prompt {number}): "
                "use a model whose template shows every message, or correct the template"
            )

    return merged


def _flaw(
    prompt: Sequence[Message],
    tokenizer: PreTrainedTokenizerBase,
    chat_template_kwargs: Mapping[str, Any],
) -> str:
    """Return what a chat template does to a prompt that it should not, or an empty text.

    Every message must stand in the text as it is, white space at its ends apart: turns in their
    order, the system message anywhere.
    """
    from jinja2 import TemplateError

    try:
        (text,) = prompt_texts([prompt], tokenizer, chat_template_kwargs)
    except (TemplateError, TypeError, ValueError, KeyError) as error:
        return f"fails: {' '.join(str(error).split())}"

    for place, found in enumerate(_places(prompt, text)):
        if found < 0:
            return f"leaves out, alters or moves {_part_of_prompt(prompt, place)}"
    return ""


def _places(prompt: Sequence[Message], text: str) -> list[int]:
    """Return where in a rendered prompt the content of each message begins, or -1."""
    places = []
    position = 0

    for message in prompt:
        content = message["content"].strip()
        is_system = message["role"] == "system"
        found = text.find(content, 0 if is_system else position)
        places.append(found)
        if found >= 0 and not is_system:
            position = found + len(content)

    return places


def _part_of_prompt(prompt: Sequence[Message], place: int) -> str:
    if prompt[place]["role"] == "system":
        return "the instruction"
    if place == len(prompt) - 1:
        return "the question"
    return "a worked example"


def _without_system_message(prompt: Sequence[Message]) -> list[Message]:
    system, first, *rest = prompt
    merged = {"role": "user", "content": f"{system['content']}\n\n{first['content']}"}
    return [merged, *rest]


def prompt_texts(
    prompts: Sequence[Sequence[Message]],
    tokenizer: PreTrainedTokenizerBase,
    chat_template_kwargs: Mapping[str, Any] = NO_THINK,
) -> list[str]:
    """Return each prompt as the model reads it: after its chat template, ready to be answered.

    The text depends on no clock: where ``chat_template_kwargs`` has no ``date_string``, it is
    :data:`grpo_helpers.chat_template.DEFAULT_DATE`.
    """
    kwargs = dated(chat_template_kwargs)
    freeze_clock(tokenizer, kwargs)
    texts = []

    for prompt in prompts:
        text = tokenizer.apply_chat_template(
            list(prompt), tokenize=False, add_generation_prompt=True, **kwargs
        )
        texts.append(cast(str, text))  # a text, because nothing is tokenized

    return texts


def unknown_characters(
    prompts: Sequence[Sequence[Message]], tokenizer: PreTrainedTokenizerBase
) -> dict[str, int]:
    """Return the characters of the questions that a tokenizer does not know, with their counts.

    The model sees each of them as the same token, so it cannot copy them into its answer.
    """
    unknown = tokenizer.unk_token_id
    if unknown is None:
        return {}

    counts: Counter[str] = Counter()
    for prompt in prompts:
        counts.update(prompt[-1]["content"])

    characters = [character for character in counts if not character.isspace()]
    encoded = tokenizer(characters, add_special_tokens=False)["input_ids"]
    pairs = zip(characters, encoded, strict=True)
    return {character: counts[character] for character, ids in pairs if unknown in ids}


def prompt_lengths(
    prompts: Sequence[Sequence[Message]],
    tokenizer: PreTrainedTokenizerBase,
    chat_template_kwargs: Mapping[str, Any] = NO_THINK,
) -> list[int]:
    """Return the length of each prompt in tokens, after the model's chat template."""
    return _token_counts(prompt_texts(prompts, tokenizer, chat_template_kwargs), tokenizer)


def _token_counts(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the number of tokens of each text."""
    if not texts:  # a tokenizer takes no empty list
        return []

    # Not verbose: a prompt beyond the model's limit is only counted here, so no warning is due.
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)
    return [len(ids) for ids in encoded["input_ids"]]


def prompt_sizes(
    prompts: Sequence[Sequence[Message]],
    tokenizer: PreTrainedTokenizerBase,
    chat_template_kwargs: Mapping[str, Any] = NO_THINK,
) -> PromptSizes:
    """Return how long prompts are, and how much of them the chat template has written itself.

    Args:
        prompts: At least one, as :func:`suit_template` returns them.
        tokenizer: Counts the tokens, with its chat template.
        chat_template_kwargs: What the template gets besides the messages.
    """
    texts = prompt_texts(prompts, tokenizer, chat_template_kwargs)
    lengths = _token_counts(texts, tokenizer)

    pieces: Counter[str] = Counter()
    for prompt, text in zip(prompts, texts, strict=True):
        pieces.update(_template_pieces(prompt, text))

    added = 0
    counts = _token_counts(list(pieces), tokenizer)
    for (_, times), tokens in zip(pieces.items(), counts, strict=True):
        added += times * tokens

    total = sum(lengths)
    return PromptSizes(
        count=len(lengths),
        longest=max(lengths),
        mean=total / len(lengths),
        template_share=added / total,
    )


def _template_pieces(prompt: Sequence[Message], text: str) -> list[str]:
    """Return what is left of a rendered prompt when the contents of its messages are cut out."""
    spans = []
    for message, start in zip(prompt, _places(prompt, text), strict=True):
        spans.append((start, start + len(message["content"].strip())))

    pieces = []
    end_of_last = 0
    for start, end in sorted(spans):
        pieces.append(text[end_of_last:start])
        end_of_last = end
    pieces.append(text[end_of_last:])
    return [piece for piece in pieces if piece]


def drop_long(
    items: Sequence[Item],
    prompts: Sequence[list[Message]],
    tokenizer: PreTrainedTokenizerBase,
    limit: int,
    chat_template_kwargs: Mapping[str, Any] = NO_THINK,
) -> Retained:
    """Leave out every item whose prompt is too long; no prompt is ever cut.

    TRL 1.16 does not truncate prompts, so one long prompt sets the memory of its whole round.

    Args:
        items: The items.
        prompts: The prompt of each item.
        tokenizer: Counts the tokens, with its chat template.
        limit: The most tokens a prompt may have; 0 leaves nothing out.
        chat_template_kwargs: What the template gets besides the messages.

    Raises:
        InputError: Every prompt is longer than the limit.
    """
    if not limit:
        return Retained(list(items), list(prompts), [])

    lengths = prompt_lengths(prompts, tokenizer, chat_template_kwargs)
    retained = Retained([], [], [])

    for item, prompt, length in zip(items, prompts, lengths, strict=True):
        if length > limit:
            retained.dropped_ids.append(item.id)
        else:
            retained.items.append(item)
            retained.prompts.append(prompt)

    if not retained.items:
        raise InputError(
            f"max_prompt_tokens is {limit}, but the shortest prompt has {min(lengths)} tokens: "
            "raise it"
        )

    return retained


# -- TRL's dataset ---------------------------------------------------------------------------------


def build_dataset(items: Sequence[Item], prompts: Sequence[list[Message]]) -> Dataset:
    """Return the dataset that TRL trains on.

    Columns: ``prompt`` (messages), ``references`` (gold answer), ``question``, ``question_type``
    and ``id``. TRL passes every column but the prompt on to the rewards.
    """
    from datasets import Dataset

    rows: list[dict[str, Any]] = []

    for item, prompt in zip(items, prompts, strict=True):
        row = {
            "prompt": prompt,
            "references": item.answer,
            "question": item.question,
            "question_type": item.question_type,
            "id": str(item.id),
        }
        rows.append(row)

    return Dataset.from_list(rows)
