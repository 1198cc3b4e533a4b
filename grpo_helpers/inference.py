"""Answer a contest file with a model: batched, greedy, written in the contest's shape.

:func:`generate_answers` works on a model in memory (the one that is training), :func:`run_inference` loads a base
model and an adapter from disk. The article loads a second base model at every save and answers one question at a
time; here one function serves both ways.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from grpo_helpers.answers import strip_prefixes_and_normalize
from grpo_helpers.data import Item, item_to_row, write_json
from grpo_helpers.models import load_tokenizer, load_with_adapter, model_source
from grpo_helpers.prompts import Message, load_prompted

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@contextmanager
def answering(model: PreTrainedModel) -> Iterator[None]:
    """Put ``model`` in evaluation mode without gradients, and back as it was."""
    import torch

    was_training, used_cache = model.training, model.config.use_cache
    model.eval()
    model.config.use_cache = True
    try:
        with torch.no_grad():
            yield
    finally:
        model.config.use_cache = used_cache
        model.train(was_training)


def generate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[Message]],
    batch_size: int = 64,
    max_new_tokens: int = 96,
) -> list[str]:
    """Return the greedy answer to each prompt, in order.

    Prompts are answered in batches of similar length (longest first, so that a batch too large fails at once).
    """
    texts = [tokenizer.apply_chat_template(p, tokenize=False, add_generation_prompt=True) for p in prompts]
    order = sorted(range(len(texts)), key=lambda i: (-len(texts[i]), i))
    answers = [""] * len(texts)
    with answering(model):
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            found = _generate(model, tokenizer, [texts[i] for i in chosen], max_new_tokens)
            for i, answer in zip(chosen, found, strict=True):
                answers[i] = answer
    return answers


def _generate(model, tokenizer, texts: list[str], max_new_tokens: int) -> list[str]:
    # The chat template has written the special tokens already: adding them again would give two BOS.
    batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    batch = {key: batch[key].to(model.device) for key in ("input_ids", "attention_mask")}
    output = model.generate(
        **batch,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        pad_token_id=tokenizer.pad_token_id,
    )
    return tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)


def write_answers(path: str | Path, items: Sequence[Item], answers: Sequence[str]) -> Path:
    """Write answers in the contest's shape, ``output{answer, normalized_answer}``, atomically; return the path."""
    rows = []
    for item, text in zip(items, answers, strict=True):
        row = item_to_row(item, {"answer": text.strip(), "normalized_answer": strip_prefixes_and_normalize(text)})
        rows.append({key: row[key] for key in ("id", "input", "output")})
    return write_json(path, rows)


def run_inference(
    input_path: str,
    output_path: str | Path,
    model_id: str,
    lora_weights_path: str | None = None,
    *,
    few_shot_data_path: str = "data/embedded/few_shot.json",
    instruct_path: str = "data/instruct.json",
    num_few_shot: int = 1,
    quant_type: str | None = None,
    bf16: bool = False,
    batch_size: int = 64,
    max_new_tokens: int = 96,
) -> Path:
    """Answer every question of a contest file with a base model and, if given, a checkpoint's adapter.

    Args:
        input_path: Contest JSON; answers in it are not needed and not looked at.
        output_path: Where the answers go.
        model_id: A model folder or hub id.
        lora_weights_path: An ``epoch_{E}/`` folder; ``None`` answers with the base model.
        num_few_shot: Examples per prompt; use what the checkpoint was trained with.

    Returns:
        The path written.

    Raises:
        InputError: A file, the model or the adapter cannot be read.
    """
    model_source(model_id)
    items, prompts = load_prompted(input_path, few_shot_data_path, instruct_path, num_few_shot, need_answer=False)
    tokenizer = load_tokenizer(model_id)
    model = load_with_adapter(model_id, lora_weights_path, quant_type, bf16)
    return write_answers(output_path, items, generate_answers(model, tokenizer, prompts, batch_size, max_new_tokens))
