"""⑤ Answer a contest file with a model: batched, greedy, written in the contest's shape.

:func:`generate_answers` works on a model in memory (the one that is training), :func:`run_inference` loads a base
model and an adapter from disk. The article loads a second base model at every save and answers one question at a
time; here one function serves both ways, and several processes share the questions out. From the shell:

    python -m grpo_helpers.inference --input_path data/test.json --output_path answers.json --model_id data/tiny_model
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from grpo_helpers.answers import strip_prefixes_and_normalize
from grpo_helpers.data import item_to_row
from grpo_helpers.files import InputError, read_json, sha256, write_json
from grpo_helpers.models import check_model, load_tokenizer, load_with_adapter
from grpo_helpers.prompts import Message, load_prompted, prompt_texts, suit_template
from grpo_helpers.questions import Item

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def generate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[Message]],
    batch_size: int = 32,
    max_new_tokens: int = 96,
    known: dict[int, str] | None = None,
    after_batch: Callable[[dict[int, str]], None] | None = None,
) -> list[str]:
    """Return the greedy answer to each prompt, in order.

    Prompts are answered in batches of similar length (longest first, so that a batch too large fails at once). Where
    ``torch.distributed`` runs, the batches are shared out over its processes and each of them gets all the answers.
    Answers ``known``, by place, need not be computed again: a batch of known ones only is left out. ``after_batch`` is
    called after each batch with all answers of this process so far, by place.
    """
    import torch.distributed as dist

    texts = prompt_texts(prompts, tokenizer)
    order = sorted(range(len(texts)), key=lambda i: (-len(texts[i]), i))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    shared = dist.is_available() and dist.is_initialized()
    rank, world = (dist.get_rank(), dist.get_world_size()) if shared else (0, 1)
    answers, was_training = dict(known or {}), model.training
    model.eval()
    try:
        for chosen in batches[rank::world]:
            if all(i in answers for i in chosen):
                continue
            found = _generate(model, tokenizer, [texts[i] for i in chosen], max_new_tokens)
            answers.update(zip(chosen, found, strict=True))
            if after_batch:
                after_batch(answers)
    finally:
        model.train(was_training)
    if shared:
        gathered: list = [None] * world
        dist.all_gather_object(gathered, answers)
        for others in gathered:
            answers.update(others)
    return [answers[i] for i in range(len(texts))]


def stop_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return every token that ends an answer: those of the generation config and the tokenizer's, as TRL does."""
    own = model.generation_config.eos_token_id
    return sorted({tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None})


def _generate(model, tokenizer, texts: list[str], max_new_tokens: int) -> list[str]:
    # The chat template has written the special tokens already: adding them again would give two BOS.
    batch = tokenizer(
        texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
    )
    batch = {key: batch[key].to(model.device) for key in ("input_ids", "attention_mask")}
    # As the rollouts, and greedy, whatever the model's own defaults: a penalty on repetition would forbid to copy.
    greedy = {
        "do_sample": False,
        "temperature": None,
        "top_p": None,
        "top_k": None,
        "repetition_penalty": 1.0,
    }
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": stop_tokens(model, tokenizer)}
    output = model.generate(**batch, **greedy, **ends, max_new_tokens=max_new_tokens)
    return tokenizer.batch_decode(
        output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True
    )


def write_answers(path: str | Path, items: Sequence[Item], answers: Sequence[str]) -> Path:
    """Write answers in the contest's shape, ``output{answer, normalized_answer}``, atomically; return the path."""
    rows = []
    for item, text in zip(items, answers, strict=True):
        row = item_to_row(
            item, {"answer": text.strip(), "normalized_answer": strip_prefixes_and_normalize(text)}
        )
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
    batch_size: int = 32,
    max_new_tokens: int = 96,
    progress: bool = False,
) -> Path:
    """Answer every question of a contest file with a base model and, if given, a checkpoint's adapter.

    Answers in it are not needed and not looked at. ``model_id`` is a model folder or hub id, ``lora_weights_path``
    an ``epoch_{E}/`` folder or None (the base model answers); ``num_few_shot`` should be what the checkpoint was
    trained with; ``progress`` shows a bar. Returns the path written. The answers so far are kept beside ``output_path``
    as ``<name>.partial``; a call that was cut off goes on from there when it is made again with the same arguments.
    InputError where a file, the model or the adapter cannot be read.
    """
    from tqdm.auto import tqdm

    check_model(model_id)
    shots = (few_shot_data_path, instruct_path, num_few_shot)
    items, prompts = load_prompted(input_path, *shots, need_answer=False)
    how = (model_id, lora_weights_path, quant_type, bf16, batch_size, max_new_tokens)
    adapter = sha256([lora_weights_path]) if lora_weights_path else ""
    asked = hashlib.sha256(json.dumps([*how, adapter, prompts]).encode()).hexdigest()
    kept = Path(output_path).with_name(f"{Path(output_path).name}.partial")
    # What an earlier call with the same arguments left, by place.
    before = read_json(kept, "answers so far") if kept.is_file() else {"asked": None}
    known = (
        {int(place): text for place, text in before["answers"].items()}
        if before["asked"] == asked
        else {}
    )
    model, tokenizer = load_with_adapter(*how[:4]), load_tokenizer(model_id)
    prompts = suit_template(tokenizer, prompts)
    with tqdm(total=len(items), initial=len(known), disable=not progress, unit="answer") as bar:

        def after_batch(answers: dict[int, str]) -> None:
            write_json(kept, {"asked": asked, "answers": answers})
            bar.update(len(answers) - bar.n)

        answers = generate_answers(
            model, tokenizer, prompts, batch_size, max_new_tokens, known, after_batch
        )
    del model  # 4-bit layers refer to themselves: without a collection they stay on the card
    gc.collect()
    written = write_answers(output_path, items, answers)
    kept.unlink(missing_ok=True)
    return written


def main(argv: Sequence[str] | None = None) -> int:
    """Answer a file from the shell; return 0, or 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m grpo_helpers.inference", description="Answer a contest file."
    )
    for name in ("input_path", "output_path", "model_id"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument(
        "--lora_weights_path",
        help="a checkpoint's folder, epoch_3 for one; left out: the base model",
    )
    parser.add_argument("--few_shot_data_path", default="data/embedded/few_shot.json")
    parser.add_argument("--instruct_path", default="data/instruct.json")
    parser.add_argument("--quant_type", choices=["4bit", "8bit"])
    parser.add_argument("--bf16", action="store_true")
    for name, default in (("num_few_shot", 1), ("batch_size", 32), ("max_new_tokens", 96)):
        parser.add_argument(f"--{name}", type=int, default=default)
    try:
        print(run_inference(**vars(parser.parse_args(argv)), progress=True))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
