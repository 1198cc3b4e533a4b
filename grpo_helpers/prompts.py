"""② Prompts: instruction + few-shot examples of the item's type -> chat messages -> the dataset TRL trains on.

Counterpart of the article's ``CustomDataset`` (here :func:`build_dataset`) and ``Category_FewShotGenerater`` (here
:class:`CategoryFewShotGenerator`). Two differences, both deliberate. The article draws few-shot examples at random
each time an item is read, so the G completions of one group answer G different prompts; here they are drawn once, by
a seed made from the item's id. And a prompt is a list of chat messages, so each model's own chat template applies.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from grpo_helpers.answers import parse_gold
from grpo_helpers.data import load_items
from grpo_helpers.files import InputError, read_json
from grpo_helpers.questions import SELECTION, Item, question_sentences
from grpo_helpers.similarity import NEAR_COPY, char_ngrams, jaccard

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


Message = dict[str, str]
INSTRUCT_KEYS = ("prompt", "selection_prompt", "correction_prompt")
NO_THINK = {
    "enable_thinking": False
}  # Qwen3 and its like answer at once; other chat templates do not look


def load_instruct(path: str) -> dict[str, str]:
    """Return the texts of :data:`INSTRUCT_KEYS` (for all items, and by type), or raise InputError if one is missing."""
    texts = read_json(path, "instruct file")
    missing = [
        key
        for key in INSTRUCT_KEYS
        if not isinstance(texts, dict) or not isinstance(texts.get(key), str)
    ]
    if missing:
        raise InputError(
            f"{path}: needs the keys {', '.join(INSTRUCT_KEYS)}, each a string; wrong: {missing[0]}"
        )
    return texts


class CategoryFewShotGenerator:
    """Draws ``num_few_shot`` (0 or more) examples of an item's own type from a pool of items with answers.

    The draw is seeded by the item's id: one item has one prompt in every epoch, process and checkpoint. The item
    itself, its sentence and near copies of it are never drawn.
    """

    def __init__(self, pool: Sequence[Item], num_few_shot: int):
        if num_few_shot < 0:
            raise InputError(f"num_few_shot is {num_few_shot}; it must be 0 or more")
        self.num_few_shot = num_few_shot
        self._pool = [(item, _sentence_ngrams(item)) for item in pool]

    def examples(self, item: Item) -> list[Item]:
        """Return the examples of ``item`` in prompt order; raise InputError if the pool holds too few of its type."""
        if not self.num_few_shot:
            return []
        own = _sentence_ngrams(item)
        pool = [(e, grams) for e, grams in self._pool if e.question_type == item.question_type]
        fit = [
            e
            for e, grams in pool
            if e.question != item.question and jaccard(own, grams) <= NEAR_COPY
        ]
        if len(fit) < self.num_few_shot:
            held = f"few-shot pool holds {len(fit)} usable {item.question_type} examples for id {item.id!r}"
            asked = f"num_few_shot asks for {self.num_few_shot}"
            raise InputError(f"{held}, {asked}: lower num_few_shot or enlarge the pool")
        seed = int.from_bytes(
            hashlib.sha256(f"{item.question_type}/{item.id}".encode()).digest()[:8]
        )
        return random.Random(seed).sample(fit, self.num_few_shot)


def _sentence_ngrams(item: Item) -> set[str]:
    sentences = parse_gold(item.answer).sentences if item.answer else ()
    return char_ngrams(sentences[0] if sentences else question_sentences(item.question)[0])


def build_messages(
    item: Item, instruct: dict[str, str], examples: Sequence[Item] = ()
) -> list[Message]:
    """Return the chat messages of one prompt: system instruction, few-shot turns, the question."""
    by_type = "selection_prompt" if item.question_type == SELECTION else "correction_prompt"
    messages = [{"role": "system", "content": f"{instruct['prompt']} {instruct[by_type]}".strip()}]
    for example in examples:
        messages.append({"role": "user", "content": example.question})
        messages.append({"role": "assistant", "content": example.answer or ""})
    return [*messages, {"role": "user", "content": item.question}]


def build_prompts(
    items: Iterable[Item], instruct: dict[str, str], few_shot: CategoryFewShotGenerator
) -> list[list[Message]]:
    """Return the prompt of each item, few-shot examples frozen."""
    return [build_messages(item, instruct, few_shot.examples(item)) for item in items]


def prompt_texts(
    prompts: Sequence[Sequence[Message]], tokenizer: PreTrainedTokenizerBase
) -> list[str]:
    """Return each prompt after the model's chat template, generation prompt included."""
    return [
        tokenizer.apply_chat_template(p, tokenize=False, add_generation_prompt=True, **NO_THINK)
        for p in prompts
    ]


def prompt_lengths(
    prompts: Sequence[Sequence[Message]], tokenizer: PreTrainedTokenizerBase
) -> list[int]:
    """Return the tokens of each prompt after the model's chat template."""
    # Not verbose: a prompt longer than the model's limit is counted here, not read.
    encoded = tokenizer(prompt_texts(prompts, tokenizer), add_special_tokens=False, verbose=False)
    return [len(ids) for ids in encoded["input_ids"]]


def drop_long(
    items: Sequence[Item],
    prompts: Sequence[list[Message]],
    tokenizer: PreTrainedTokenizerBase,
    limit: int,
) -> tuple[list[Item], list[list[Message]], list[str | int]]:
    """Return (items, prompts, ids dropped): prompts of more than ``limit`` tokens are left out whole, none is cut.

    TRL 1.16 truncates no prompt, so one long prompt sets the memory of its round. A limit of 0 drops nothing; raises
    InputError if every prompt is longer than the limit.
    """
    if not limit:
        return list(items), list(prompts), []
    lengths = prompt_lengths(prompts, tokenizer)
    kept = [i for i, length in enumerate(lengths) if length <= limit]
    if not kept:
        raise InputError(
            f"max_prompt_tokens is {limit}, but the shortest prompt has {min(lengths)} tokens: raise it"
        )
    dropped = [item.id for item, length in zip(items, lengths, strict=True) if length > limit]
    return [items[i] for i in kept], [prompts[i] for i in kept], dropped


def build_dataset(items: Sequence[Item], prompts: Sequence[list[Message]]) -> Dataset:
    """Return the dataset TRL trains on: ``prompt`` (messages), ``references`` (gold answer), ``question_type``, ``id``.

    TRL hands every column but the prompt to the rewards.
    """
    from datasets import Dataset

    rows: list[dict[str, Any]] = [
        {
            "prompt": prompt,
            "references": item.answer,
            "question_type": item.question_type,
            "id": str(item.id),
        }
        for item, prompt in zip(items, prompts, strict=True)
    ]
    return Dataset.from_list(rows)


def load_prompted(
    data_path: str,
    few_shot_path: str,
    instruct_path: str,
    num_few_shot: int,
    need_answer: bool = True,
) -> tuple[list[Item], list[list[Message]]]:
    """Return the items of a contest file and the prompt of each."""
    items = load_items(data_path, need_answer)
    few_shot = CategoryFewShotGenerator(
        load_items(few_shot_path) if num_few_shot else [], num_few_shot
    )
    return items, build_prompts(items, load_instruct(instruct_path), few_shot)


def suit_template(
    tokenizer: PreTrainedTokenizerBase, prompts: list[list[Message]]
) -> list[list[Message]]:
    """Return ``prompts`` as the chat template takes them; a system message it refuses goes before the user's."""
    from jinja2 import TemplateError

    try:
        tokenizer.apply_chat_template(prompts[0], tokenize=False)
        return prompts
    except TemplateError:
        return [
            [{"role": "user", "content": f"{system['content']}\n\n{first['content']}"}, *rest]
            for system, first, *rest in prompts
        ]
