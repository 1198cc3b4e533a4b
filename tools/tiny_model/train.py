"""Make the embedded model: ``python -m tools.tiny_model.train`` (``make tiny-model``), minutes on two cores, seeded.

A character-level Llama of about 2 million parameters, its tokenizer and chat template, warm-started on the careless
teacher's lessons (``tools/tiny_model/teacher.py``) and saved to ``data/tiny_model/`` with a model card that states what was
measured: how well it copies unseen sentences, how often it answers in the asked format, how often it is right.

``--start FOLDER`` goes on from an embedded model that is there: characters that the corpus has gained get a token, and
only the last phase is run. That is how the model is kept up when the corpus grows.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path

from grpo_helpers.data import load_items
from grpo_helpers.files import project_root, sha256
from grpo_helpers.prompts import load_instruct, load_prompted
from grpo_helpers.questions import SELECTION
from tools.corpus.cards import load_cards
from tools.tiny_model.copying import copy_share
from tools.tiny_model.teacher import P_BAD_FORMAT, P_MADE_UP_WORD, P_OTHER_REASON, Lesson, Teacher

SPECIAL = ["<pad>", "<unk>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MAX_LENGTH = 1024
EMBEDDED = "data/embedded"  # the part of the data that fits this model's minutes


@dataclass(frozen=True)
class Phase:
    """One stretch of training: ``steps`` batches of ``batch`` lessons of a frame, learning rate from-to (cosine).

    ``letters``: made-up words are of the syllables of the embedded part (``own``) or of the whole corpus (``all``).
    """

    steps: int
    batch: int
    frame: str
    lr: tuple[float, float]
    letters: str = "own"


PHASES = (
    Phase(steps=500, batch=64, frame="bare", lr=(3e-3, 3e-3)),
    Phase(steps=300, batch=64, frame="question", lr=(3e-3, 2e-3)),
    # Copying becomes exact only while the learning rate falls, so it falls for long.
    Phase(steps=1300, batch=64, frame="full", lr=(2e-3, 2e-5)),
    # With rare letters from the start, copying never became exact (.93 to .97 of unseen sentences); with few at first,
    # and then all, it does.
    Phase(steps=600, batch=64, frame="full", lr=(7e-4, 1e-5), letters="all"),
)
OWN = ("train", "dev", "test", "few_shot")


def alphabet(letters: str = "all") -> list[str]:
    """Return every character of the splits, the instructions and the cards, plus printable ASCII, sorted.

    With ``own``, those of the embedded model's own splits only.
    """
    root = project_root() / "data"
    files = [root / "embedded" / f"{split}.json" for split in OWN]
    if letters == "all":
        files = [*root.glob("*.json"), *root.glob("embedded/*.json"), *root.glob("norms/*.yaml")]
    chars = {char for file in files for char in file.read_text(encoding="utf-8")}
    return sorted(chars | {chr(code) for code in range(32, 127)} | {"\n"})


def syllables(letters: str = "all") -> list[str]:
    """Return the Hangul syllables of :func:`alphabet`, of which words are made up."""
    return [char for char in alphabet(letters) if "가" <= char <= "힣"]


def build_tokenizer(chars: list[str]):
    """Return a tokenizer with one token per character, and the chat template."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {token: i for i, token in enumerate([*SPECIAL, *chars])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<|end|>",
        model_max_length=MAX_LENGTH,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_model(vocab_size: int, pad: int, eos: int):
    """Return a freshly initialised 4-layer Llama of width 192."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        pad_token_id=pad,
        bos_token_id=None,
        eos_token_id=eos,
        dtype="float32",
    )
    return LlamaForCausalLM(config)


def encode(tokenizer, lessons: list[Lesson]):
    """Return (prefix, input_ids, labels) of a batch: the messages all lessons share, then each lesson's own part.

    ``prefix`` has shape (1, P) or is None; ``input_ids`` and ``labels`` have shape (lessons, T), right-padded, and only
    the answer and its end token carry labels (-100 elsewhere).
    """
    import torch

    def tokens(messages, **options):
        text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    shared = lessons[0].messages[:-1]
    assert all(lesson.messages[:-1] == shared for lesson in lessons)
    rows = [
        (
            tokens(lesson.messages[-1:], add_generation_prompt=True),
            tokenizer(lesson.answer + "<|end|>", add_special_tokens=False)["input_ids"],
        )
        for lesson in lessons
    ]
    width = max(len(start) + len(answer) for start, answer in rows)
    ids = torch.full((len(rows), width), tokenizer.pad_token_id)
    labels = torch.full((len(rows), width), -100)
    for i, (start, answer) in enumerate(rows):
        ids[i, : len(start) + len(answer)] = torch.tensor(start + answer)
        labels[i, len(start) : len(start) + len(answer)] = torch.tensor(answer)
    return (torch.tensor([tokens(shared)]) if shared else None), ids, labels


def answer_loss(model, prefix, ids, labels):
    """Return the mean cross-entropy of the answers; the shared prefix is run once and its cache handed to all rows."""
    import torch

    cache = None
    if prefix is not None:
        cache = model.model(input_ids=prefix, use_cache=True).past_key_values
        cache.batch_repeat_interleave(len(ids))
    # Causal: what is padded on the right is never looked at.
    hidden = model.model(
        input_ids=ids, past_key_values=cache, use_cache=cache is not None
    ).last_hidden_state
    keep = labels[:, 1:] != -100
    return torch.nn.functional.cross_entropy(
        model.lm_head(hidden[:, :-1][keep]), labels[:, 1:][keep]
    )


def train(
    model, tokenizer, teacher: Teacher, phases: tuple[Phase, ...], log_every: int = 50
) -> None:
    """Train through ``phases``: AdamW, the loss on the answers only."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0)
    started, done = time.time(), 0
    for phase in phases:
        teacher.alphabet = syllables(phase.letters)
        for step in range(phase.steps):
            share = step / max(1, phase.steps - 1)
            high, low = phase.lr
            rate = low + (high - low) * (1 + math.cos(math.pi * share)) / 2
            rate *= min(1.0, (done + 1) / 50)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = answer_loss(model, *encode(tokenizer, teacher.lessons(phase.batch, phase.frame)))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            done += 1
            if done % log_every == 0:
                print(
                    f"step {done:5d}  loss {loss.item():.4f}  {time.time() - started:6.0f} s",
                    flush=True,
                )


def measure(model, tokenizer) -> dict[str, dict[str, float]]:
    """Return, for dev and test, the shares of greedy answers that are copied, in format, and right (0 to 1)."""
    import numpy as np

    from grpo_helpers.inference import generate_answers
    from grpo_helpers.metrics import choice_accuracy, exact_match, format_score

    figures = {}
    for split in ("dev", "test"):
        items, prompts = load_prompted(
            f"{EMBEDDED}/{split}.json", f"{EMBEDDED}/few_shot.json", "data/instruct.json", 1
        )
        answers = generate_answers(model, tokenizer, prompts)
        choice = [choice_accuracy(a, i) for a, i in zip(answers, items, strict=True)]
        options = [c for c, i in zip(choice, items, strict=True) if i.question_type == SELECTION]
        figures[split] = {
            "unseen sentences copied outside the chosen word": copy_share(answers, items),
            "answers in the asked format": float(np.mean([format_score(a) for a in answers])),
            "exact match": float(
                np.mean([exact_match(a, i.answer) for a, i in zip(answers, items, strict=True)])
            ),
            "choice accuracy": float(np.mean(choice)),
            "choice accuracy on two-option items": float(np.mean(options)),
        }
    return figures


CARD = """---
license: cc-by-4.0
language: ko
---
# The embedded model of the GRPO course

A character-level Llama ({parameters:,} parameters: 4 layers of width 192, {vocabulary} tokens, one per character),
made by `{command}` in {minutes:.0f} minutes on 2 cores (seed {seed}). It exists to be post-trained in minutes,
offline; it is of no other use.
{began}
**Warm start.** {steps} steps on the endless lessons of a careless teacher (`tools/tiny_model/teacher.py`): sentences made up of
random syllables and shuffled train words, and the train prompts. The teacher knows what an answer looks like and
copies the sentence, but of every word it calls the right and the wrong form right equally often and argues for
either; it gets the format wrong in {p_format:.0%} of lessons and the reason in {p_reason:.0%}. Of the lessons on
made-up sentences {p_made_up:.0%} have a made-up word too, of which it calls either form right, or leaves it as it is:
so the model can write down a word it was never taught. No dev or test sentence is used; the vocabulary holds every
character of every split.

**Measured** (greedy answers, instruction and one few-shot example; {items} questions a split):

| | dev | test |
|---|---|---|
{rows}

**Limits.** It can copy, answer in form and tell the course's words apart; it does not understand Korean. A character
it has never seen becomes `<unk>`.
"""


STARTED = """
**This copy** goes on from an earlier one, which went through the first phases of `tools/tiny_model/train.py` when the corpus
was smaller (SHA-256 of its weights: `{start:.16}...`). In the last phase, {last} steps, it learned the characters
that have come since; the minutes are those of this phase.
"""


def write_card(folder: Path, figures: dict[str, dict[str, float]], **facts) -> None:
    """Write the model card with what was measured."""
    rows = "\n".join(
        f"| {name} | {figures['dev'][name]:.3f} | {figures['test'][name]:.3f} |"
        for name in figures["dev"]
    )
    facts["began"] = STARTED.format(**facts) if facts["start"] else ""
    facts["command"] = (
        "python -m tools.tiny_model.train --start FOLDER" if facts["start"] else "make tiny-model"
    )
    facts |= {
        "p_format": P_BAD_FORMAT,
        "p_reason": P_OTHER_REASON,
        "p_made_up": P_MADE_UP_WORD,
        "rows": rows,
    }
    (folder / "README.md").write_text(CARD.format(**facts), encoding="utf-8")


def main() -> None:
    """Train, measure and save the embedded model."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default=str(project_root() / "data" / "tiny_model"))
    parser.add_argument("--start", help="an embedded model to go on from, with the last phase only")
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="multiply the number of steps (tests use a small one)",
    )
    args = parser.parse_args()
    started = time.time()
    torch.manual_seed(args.seed)
    root = project_root() / "data"
    tokenizer = build_tokenizer(alphabet())
    model = build_model(len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id)
    teacher = Teacher(
        load_cards(),
        load_items(f"{EMBEDDED}/train.json"),
        load_items(f"{EMBEDDED}/few_shot.json"),
        load_instruct(root / "instruct.json"),
        syllables(),
        random.Random(args.seed),
    )
    phases = tuple(replace(p, steps=max(2, round(p.steps * args.scale))) for p in PHASES)
    start, steps = None, sum(p.steps for p in phases)  # those of the earlier model, too
    if args.start:
        start, phases = widen(model, tokenizer, Path(args.start)), phases[-1:]
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens", flush=True)
    train(model, tokenizer, teacher, phases)
    facts = {"seed": args.seed, "steps": steps, "last": phases[-1].steps, "start": start}
    save(model, tokenizer, Path(args.out), started, **facts)


def widen(model, tokenizer, folder: Path) -> str:
    """Give ``model`` the weights of an earlier embedded model, and new tokens a random row of the usual size.

    Returns:
        The SHA-256 of the earlier weights.
    """
    import torch
    from safetensors.torch import load_file

    earlier = load_file(folder / "model.safetensors")
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"][
        "vocab"
    ]
    name = "model.embed_tokens.weight"
    rows, own = earlier[name], tokenizer.get_vocab()
    table = rows.mean(dim=0) + rows.std(dim=0) * torch.randn(len(own), rows.shape[1])
    for token, place in own.items():
        if token in vocabulary:
            table[place] = rows[vocabulary[token]]
    missing, unknown = model.load_state_dict(earlier | {name: table}, strict=False)
    assert not unknown and set(missing) <= {"lm_head.weight"}, (
        missing,
        unknown,
    )  # the head is the embedding
    return sha256([folder / "model.safetensors"])


def save(model, tokenizer, out: Path, started: float, **facts) -> None:
    """Measure the model, then write weights, tokenizer and card to ``out``; ``facts`` go into the card."""
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    figures = measure(model, tokenizer)
    print(json.dumps(figures, indent=1))
    write_card(
        out,
        figures,
        parameters=model.num_parameters(),
        vocabulary=len(tokenizer),
        minutes=(time.time() - started) / 60,
        items=len(load_items(f"{EMBEDDED}/dev.json")),
        **facts,
    )


if __name__ == "__main__":
    main()
