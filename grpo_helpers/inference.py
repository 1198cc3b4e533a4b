"""⑤ Answer a contest file with a model: batched, greedy, written in the contest's format.

In: a contest file, and a run with one of its checkpoints, or a model by name. Out: one JSON file of
answers. :func:`generate_answers` works on a model in memory (the one that is being trained);
:func:`answer` loads a checkpoint of a run with the run's own settings; :func:`run_inference` loads
any model, with every option given by hand. The article loads a second base model at every save and
answers one question at a time; here one function serves both ways, and several processes share the
questions. From the shell:

    python -m grpo_helpers.inference --run runs/default --checkpoint epoch_3 \
        --input_path data/test.json --output_path answers.json
    python -m grpo_helpers.inference --model_id data/tiny_model \
        --input_path data/test.json --output_path answers.json
"""

from __future__ import annotations

import argparse
import glob
import hashlib
import json
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from grpo_helpers.answers import (
    opens_thought,
    strip_prefixes_and_normalize,
    with_opening_tag,
)
from grpo_helpers.architecture import DTYPE_BYTES
from grpo_helpers.chat_template import (
    DEFAULT_DATE,
    dated,
    parse_date,
    recorded_date,
    template_kwargs,
    with_thinking,
)
from grpo_helpers.command_line import program_name, run_command
from grpo_helpers.data import item_to_row
from grpo_helpers.device_memory import explain_out_of_memory, free_memory, is_out_of_memory
from grpo_helpers.files import (
    InputError,
    check_output_file,
    read_json,
    replace_halves,
    resolve_path,
    sha256,
    show_path,
    write_json,
)
from grpo_helpers.kept_model import BaseModel, KeptModel
from grpo_helpers.library_fixes import plain_generation
from grpo_helpers.model_checks import (
    Room,
    adapter_folder,
    check_model,
    check_room,
    model_hash,
    model_revision,
)
from grpo_helpers.models import load_tokenizer
from grpo_helpers.prompts import (
    Message,
    PromptSource,
    load_prompted,
    prompt_texts,
    suit_template,
    unknown_characters,
)
from grpo_helpers.questions import Item
from grpo_helpers.run_folder import RunFolder

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    AnsweringModel = PreTrainedModel | PeftModel

Answers = dict[int, str]  # by the place of the prompt, counted from 0


# -- a model in memory -----------------------------------------------------------------------------


def generate_answers(
    model: AnsweringModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[Message] | str],
    batch_size: int = 32,
    max_new_tokens: int = 96,
    known: Answers | None = None,
    after_batch: Callable[[Answers], None] | None = None,
) -> list[str]:
    """Return the greedy answer to each prompt, in order.

    Prompts are answered in batches of similar length, longest first. Where the memory is too small
    for a batch, it is halved, with all that follow. In a ``torch.distributed`` run the processes
    share the batches, and each of them gets all the answers.

    Args:
        model: Put into evaluation mode while it answers, and back afterwards. What its own
            generation settings say does not count, now or later.
        tokenizer: Its tokenizer.
        prompts: One per question: chat messages, or a text that the chat template made of them
            (:func:`grpo_helpers.prompts.prompt_texts`).
        batch_size: Prompts answered at once.
        max_new_tokens: Length at which an answer is cut off.
        known: Answers that are there already; a batch of known ones only is left out.
        after_batch: Called after each batch with all answers of this process so far.
    """
    texts = [_prompt_text(prompt, tokenizer) for prompt in prompts]
    rank, world_size = process_place()
    waiting = deque(_batches_by_length(texts, batch_size)[rank::world_size])

    answers = dict(known or {})
    was_training = model.training
    plain_generation(model)
    model.eval()
    free_memory()  # of what training has left there
    try:
        while waiting:
            places = waiting.popleft()
            if answers.keys() >= set(places):
                continue

            batch = [texts[place] for place in places]
            new = _generate_if_it_fits(model, tokenizer, batch, max_new_tokens)
            if new is None:
                waiting = _halved([places, *waiting])
                continue

            answers.update(zip(places, new, strict=True))
            if after_batch:
                after_batch(answers)
    finally:
        model.train(was_training)
        free_memory()

    answers = _gather(answers)
    return [answers[place] for place in range(len(texts))]


def _prompt_text(prompt: list[Message] | str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a prompt as the model reads it."""
    if isinstance(prompt, str):
        return prompt

    (text,) = prompt_texts([prompt], tokenizer)
    return text


def _batches_by_length(texts: Sequence[str], batch_size: int) -> list[list[int]]:
    """Return the places of ``texts``, longest first, in batches."""
    places = range(len(texts))
    longest_first = sorted(places, key=lambda place: (-len(texts[place]), place))
    return _in_batches(longest_first, batch_size)


def _in_batches(places: Sequence[int], batch_size: int) -> list[list[int]]:
    """Return places in batches, in their order."""
    starts = range(0, len(places), batch_size)
    return [list(places[start : start + batch_size]) for start in starts]


def _halved(batches: Sequence[list[int]]) -> deque[list[int]]:
    """Return the same places in batches of half the size of the first, and say so."""
    too_large = len(batches[0])
    size = too_large // 2
    print(
        f"out of memory with {too_large} questions at once: going on with {size}",
        file=sys.stderr,
        flush=True,
    )

    places = [place for batch in batches for place in batch]
    return deque(_in_batches(places, size))


def is_distributed() -> bool:
    """Return whether this is one of several processes that talk to each other."""
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized()


def process_place() -> tuple[int, int]:
    """Return the rank of this process and the number of processes."""
    import torch.distributed as dist

    if not is_distributed():
        return 0, 1

    return dist.get_rank(), dist.get_world_size()


def _gather(answers: Answers) -> Answers:
    """Return the answers of all processes."""
    import torch.distributed as dist

    if not is_distributed():
        return answers

    by_process: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(by_process, answers)

    gathered = dict(answers)
    for others in by_process:
        gathered.update(others)
    return gathered


def stop_tokens(model: AnsweringModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return every token that ends an answer: the model's own and the tokenizer's, as in TRL."""
    own = model.generation_config.eos_token_id
    if not isinstance(own, list):
        own = [own]

    tokens = {tokenizer.eos_token_id, *own}
    return sorted(tokens - {None})


def _generate_if_it_fits(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    max_new_tokens: int,
) -> list[str] | None:
    """Return the answers to one batch, or None if the memory is too small for several at once."""
    if len(texts) == 1:
        return _generate(model, tokenizer, texts, max_new_tokens)

    try:
        return _generate(model, tokenizer, texts, max_new_tokens)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise

    # The error is gone here, and with it its traceback, which held the tensors of the attempt.
    free_memory()
    return None


def _generate(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    max_new_tokens: int,
) -> list[str]:
    """Return the greedy answer to each text of one batch."""
    # The chat template has written the special tokens already: adding them again would give two
    # tokens for the beginning of the text.
    encoded = tokenizer(
        texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
    )
    input_ids = encoded["input_ids"].to(model.device)

    with _generating(model):
        output = model.generate(
            input_ids=input_ids,
            attention_mask=encoded["attention_mask"].to(model.device),
            max_new_tokens=max_new_tokens,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=stop_tokens(model, tokenizer),
            do_sample=False,  # greedy, and otherwise like the rollouts: see plain_generation
        )

    completions = output[:, input_ids.shape[1] :]
    written = tokenizer.batch_decode(completions, skip_special_tokens=True)
    return list(map(_with_its_tag, texts, written))


def _with_its_tag(prompt: str, answer: str) -> str:
    """Return an answer, with the tag of its thought where the chat template has written that."""
    return with_opening_tag(answer) if opens_thought(prompt) else answer


def _generating(model: AnsweringModel) -> AbstractContextManager[None]:
    """Return a context in which no cache is copied while the model generates, if that can be."""
    from grpo_helpers.shared_prompts import sharing_generate, why_not_shared

    if why_not_shared(model):
        return nullcontext()
    return sharing_generate(model)


def sample_groups(
    model: AnsweringModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    group_size: int,
    temperature: float,
    max_new_tokens: int,
) -> list[list[str]]:
    """Sample several completions of each prompt, as in training.

    Args:
        model: A causal language model, with or without an adapter.
        tokenizer: Its tokenizer.
        texts: Prompts as the model reads them.
        group_size: Completions of each prompt (G).
        temperature: Of the sampling.
        max_new_tokens: Length at which a completion is cut off.

    Returns:
        ``group_size`` completions for each text, in order.
    """
    import torch

    batch = tokenizer(list(texts), return_tensors="pt", padding=True, add_special_tokens=False)
    generator: Any = model
    with torch.no_grad():
        output = generator.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            do_sample=True,
            top_k=0,  # as TRL samples; transformers' own default is 50
            temperature=temperature,
            num_return_sequences=group_size,
            max_new_tokens=max_new_tokens,
        )

    prompt_length = batch["input_ids"].shape[1]
    completions = tokenizer.batch_decode(output[:, prompt_length:], skip_special_tokens=True)

    starts = range(0, len(completions), group_size)
    return [completions[start : start + group_size] for start in starts]


def write_answers(path: str | Path, items: Sequence[Item], answers: Sequence[str]) -> Path:
    """Write answers in the contest's format, atomically.

    Each row has ``id``, ``input`` and ``output`` with ``answer`` and ``normalized_answer``. The
    first is all that the model wrote, a thought included; the second is the answer alone.

    Returns:
        The path written.
    """
    rows = []

    for item, text in zip(items, map(replace_halves, answers), strict=True):
        output = {
            "answer": text.strip(),
            "normalized_answer": strip_prefixes_and_normalize(text),
        }
        row = item_to_row(item, output)
        rows.append({key: row[key] for key in ("id", "input", "output")})

    return write_json(path, rows)


# -- a model from disk -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """Everything that decides the answers to a file.

    Attributes:
        model_id: A model folder, a hub id or a GGUF file.
        lora_weights_path: The folder of a checkpoint's adapter; None for the base model.
        quant_type: ``"4bit"``, ``"8bit"`` or None, as in training.
        dtype: The numbers that the model computes with, as in training.
        model_kwargs: Further arguments of ``from_pretrained``, as in training.
        few_shot_data_path: Pool of worked examples.
        instruct_path: Instruction texts.
        num_few_shot: Worked examples in each prompt, as in training.
        batch_size: Prompts answered at once; decides the padding, and so the last digits.
        max_new_tokens: Length at which an answer is cut off, its thought included.
        enable_thinking: Whether Qwen3 and its like think before they answer, as in training.
        chat_template_kwargs: What the chat template gets besides, as in training; an
            ``enable_thinking`` among it counts.
        chat_template_path: A jinja file in the place of the model's chat template, as in training;
            empty: the model's own.
        date_string: The date that the chat template prints, if it prints one: that of the run, or
            :data:`grpo_helpers.chat_template.DEFAULT_DATE` where there is no run.
    """

    model_id: str
    lora_weights_path: str | None = None
    quant_type: str | None = None
    dtype: str = "float32"
    model_kwargs: dict[str, Any] = field(default_factory=dict)
    few_shot_data_path: str = PromptSource.few_shot_data_path
    instruct_path: str = PromptSource.instruct_path
    num_few_shot: int = PromptSource.num_few_shot
    batch_size: int = 32
    max_new_tokens: int = 96
    enable_thinking: bool = False
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    chat_template_path: str = ""
    date_string: str = DEFAULT_DATE

    def __post_init__(self) -> None:
        parse_date(self.date_string)
        if self.dtype not in DTYPE_BYTES:
            raise InputError(f"dtype is {self.dtype!r}; it must be one of {', '.join(DTYPE_BYTES)}")
        for name in ("batch_size", "max_new_tokens"):
            value = getattr(self, name)
            if value < 1:
                raise InputError(f"{name} is {value}; it must be 1 or more")

    @classmethod
    def of_run(cls, run: RunFolder, checkpoint: str) -> Self:
        """Return the options under which a run answers while it trains, from its ``settings.json``.

        Args:
            run: The run.
            checkpoint: ``"epoch_3"``, ``"step_20"``, or ``"epoch_0"`` for the base model.

        Raises:
            InputError: The folder has no ``settings.json``, or the run has no such checkpoint.
        """
        settings = run.settings
        return cls.of_settings(settings, run.adapter(checkpoint), run.chat_template_path)

    @classmethod
    def of_settings(
        cls, settings: Mapping[str, Any], adapter: Path | None, chat_template_path: str
    ) -> Self:
        """Return the options under which a training with these settings answers.

        Args:
            settings: The parameters of notebook 04, by name.
            adapter: The folder of a checkpoint's adapter; None for the base model.
            chat_template_path: As in the attribute.
        """
        return cls(
            model_id=settings["model_name"],
            lora_weights_path=str(adapter) if adapter else None,
            quant_type=settings["quant_type"] if settings["use_quant"] else None,
            dtype=settings.get("dtype", "float32"),
            model_kwargs=settings.get("model_kwargs", {}),
            few_shot_data_path=settings["few_shot_data_path"],
            instruct_path=settings["instruct_path"],
            num_few_shot=settings["num_few_shot"],
            batch_size=settings["inference_batch_size"],
            max_new_tokens=settings["max_completion_length"],
            enable_thinking=settings.get("enable_thinking", False),
            chat_template_kwargs=template_kwargs(settings.get("extra_grpo_args", {})),
            chat_template_path=chat_template_path,
            date_string=recorded_date(settings),
        )

    @property
    def prompt_source(self) -> PromptSource:
        """What the prompts are made of besides the questions."""
        return PromptSource.from_settings(self)

    @property
    def base_model(self) -> BaseModel:
        """The base model, and how it is loaded."""
        return BaseModel(
            name=self.model_id,
            quant_type=self.quant_type,
            dtype=self.dtype,
            model_kwargs=self.model_kwargs,
        )

    @property
    def template_arguments(self) -> dict[str, Any]:
        """What the chat template gets besides the messages."""
        kwargs = with_thinking(self.chat_template_kwargs, self.enable_thinking)
        return dated(kwargs, self.date_string)


@dataclass(frozen=True)
class Questions:
    """The questions of a contest file as a model reads them.

    Attributes:
        items: The questions.
        prompts: Their prompts, in a form that the chat template shows completely.
        texts: What the chat template makes of the prompts.
        tokenizer: The model's tokenizer.
    """

    items: list[Item]
    prompts: list[list[Message]]
    texts: list[str]
    tokenizer: PreTrainedTokenizerBase


def load_questions(input_path: str, options: AnswerOptions, need_answer: bool = True) -> Questions:
    """Return the questions of a contest file as a model reads them.

    Args:
        input_path: The contest file.
        options: The model, and how its prompts are made.
        need_answer: Whether each question must have an answer.

    Raises:
        InputError: The file or the tokenizer cannot be read.
    """
    items, prompts = load_prompted(input_path, options.prompt_source, need_answer=need_answer)
    tokenizer = load_tokenizer(options.model_id, options.chat_template_path)
    template = options.template_arguments
    prompts = suit_template(tokenizer, prompts, template, options.chat_template_path)
    return Questions(items, prompts, prompt_texts(prompts, tokenizer, template), tokenizer)


def answer(
    run: RunFolder | str | Path,
    checkpoint: str,
    input_path: str,
    output_path: str | Path,
    *,
    progress: bool = False,
    kept: KeptModel | None = None,
    **changes: Any,
) -> Path:
    """Answer every question of a contest file with a checkpoint of a run.

    Quantisation, precision, few-shot examples, instructions, chat template with its date and its
    thinking, lengths and batch size are the run's own, read from its ``settings.json``.

    Args:
        run: The run's folder, ``"runs/default"`` for one.
        checkpoint: ``"epoch_3"``, ``"step_20"``, or ``"epoch_0"`` for the base model.
        input_path: The contest file; answers in it are neither needed nor read.
        output_path: Where the answers go.
        progress: Show a progress bar.
        kept: A model that stays in memory from one call to the next: the weights are read once for
            all checkpoints of a run, its base included. None: they go when the file is answered.
        **changes: Fields of :class:`AnswerOptions` to replace, ``batch_size=8`` for one.

    Returns:
        The path written.

    Raises:
        InputError: The run, the checkpoint, a file or the model cannot be read.
    """
    if not isinstance(run, RunFolder):
        run = RunFolder(run)

    options = replace(AnswerOptions.of_run(run, checkpoint), **changes)
    return answer_file(input_path, output_path, options, progress=progress, kept=kept)


def run_inference(
    input_path: str,
    output_path: str | Path,
    model_id: str,
    lora_weights_path: str | None = None,
    *,
    progress: bool = False,
    **options: Any,
) -> Path:
    """Answer every question of a contest file with a model, every option given by hand.

    For a checkpoint of a run, :func:`answer` reads the options from the run itself. Here, a chat
    template that prints a date prints :data:`grpo_helpers.chat_template.DEFAULT_DATE`, today and
    tomorrow, unless ``date_string`` says otherwise.

    Args:
        input_path: The contest file; answers in it are neither needed nor read.
        output_path: Where the answers go.
        model_id: A model folder, a hub id or a GGUF file.
        lora_weights_path: The folder of a checkpoint's adapter; None for the base model.
        progress: Show a progress bar.
        **options: Further fields of :class:`AnswerOptions`.

    Returns:
        The path written.

    Raises:
        InputError: A file, the model or the adapter cannot be read.
    """
    answer_options = AnswerOptions(
        model_id=model_id, lora_weights_path=lora_weights_path, **options
    )
    return answer_file(input_path, output_path, answer_options, progress=progress)


def answer_file(
    input_path: str,
    output_path: str | Path,
    options: AnswerOptions,
    *,
    progress: bool = False,
    kept: KeptModel | None = None,
) -> Path:
    """Answer every question of a contest file.

    The answers so far are kept beside ``output_path`` as ``<name>.partial``: an interrupted call
    continues from there when it is made again with the same questions and options. A finished file
    is not computed again as long as its questions, the model and the options stay the same.

    Args:
        input_path: The contest file; answers in it are neither needed nor read.
        output_path: Where the answers go.
        options: The model, and how it answers.
        progress: Show a progress bar.
        kept: As in :func:`answer`.

    Returns:
        The path written.

    Raises:
        InputError: A file, the model or the adapter cannot be read.
    """
    from tqdm.auto import tqdm

    _check_files(input_path, output_path)
    check_model(options.model_id)
    questions = load_questions(input_path, options, need_answer=False)
    items, tokenizer, texts = questions.items, questions.tokenizer, questions.texts

    fingerprint = _fingerprint(options, input_path, texts)
    finished = FinishedAnswers(output_path, fingerprint)
    if finished.are_there():
        return finished.output

    partial = PartialAnswers(output_path, fingerprint)
    known = partial.read()

    room = Room(options.model_id, options.max_new_tokens, parameter="max_new_tokens")
    check_room(tokenizer, items, texts, room)
    report_unknown_characters(questions.prompts, tokenizer, input_path)

    with tqdm(total=len(items), initial=len(known), disable=not progress, unit="answer") as bar:

        def after_batch(answers: Answers) -> None:
            partial.write(answers)
            bar.update(len(answers) - bar.n)

        with explain_out_of_memory(lambda: f"the answers so far are in {partial.path}: call again"):
            answers = _load_and_answer(
                options, tokenizer, texts, kept, known=known, after_batch=after_batch
            )
    free_memory()  # of a model that only the call before still held

    written = write_answers(output_path, items, answers)
    finished.note()
    partial.remove()
    return written


def _load_and_answer(
    options: AnswerOptions,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    kept: KeptModel | None,
    *,
    known: Answers,
    after_batch: Callable[[Answers], None],
) -> list[str]:
    """Return the answers of a model; nothing of it is left afterwards unless it is kept."""
    in_memory = nullcontext(kept) if kept else KeptModel()

    with in_memory as models, models.ready(options.base_model, options.lora_weights_path) as model:
        return generate_answers(
            model,
            tokenizer,
            texts,
            batch_size=options.batch_size,
            max_new_tokens=options.max_new_tokens,
            known=known,
            after_batch=after_batch,
        )


def _check_files(input_path: str, output_path: str | Path) -> None:
    """Make sure that the answers have a place of their own."""
    check_output_file(output_path)
    if Path(output_path).resolve() == resolve_path(input_path).resolve():
        raise InputError(
            f"the answers would replace the questions in {input_path}: give another output_path"
        )


def report_unknown_characters(
    prompts: Sequence[list[Message]], tokenizer: PreTrainedTokenizerBase, input_path: str
) -> None:
    """Say once how many characters of the questions the tokenizer does not know."""
    unknown = unknown_characters(prompts, tokenizer)
    if not unknown:
        return

    questions = 0
    for prompt in prompts:
        questions += any(character in unknown for character in prompt[-1]["content"])
    print(
        f"{input_path}: the model does not know {sum(unknown.values())} characters "
        f"({len(unknown)} different: {''.join(list(unknown)[:10])}) in {questions} of "
        f"{len(prompts)} questions and cannot copy them: use a model that knows Korean",
        file=sys.stderr,
    )


def _fingerprint(options: AnswerOptions, input_path: str, texts: Sequence[str]) -> str:
    """Return a hash of everything that decides an answer file: questions, prompts, weights, limits.

    Args:
        options: The model, and how it answers.
        input_path: The contest file.
        texts: The prompts as the model reads them. What they are made of does not count: neither
            messages that a template may render in another way tomorrow, nor options that it
            ignores.
    """
    model = resolve_path(options.model_id)
    weights = model_hash(model) if model.exists() else model_revision(options.model_id)

    adapter = None
    if options.lora_weights_path is not None:
        adapter = sha256([adapter_folder(options.lora_weights_path)])

    decisive = {
        "questions": sha256([input_path]),
        "prompts": list(texts),
        "model": [options.model_id, weights],
        "adapter": adapter,
        "precision": [options.quant_type, options.dtype],
        "model_kwargs": options.model_kwargs,
        "limits": [options.batch_size, options.max_new_tokens],
    }
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()


class FinishedAnswers:
    """What a finished answer file was made from, noted in a file beside it."""

    def __init__(self, output_path: str | Path, fingerprint: str) -> None:
        """Take the answer file, and what its answers depend on."""
        self.output = Path(output_path)
        self.path = self.output.with_name(f"{self.output.name}.made_from")
        self.fingerprint = fingerprint

    def are_there(self) -> bool:
        """Return whether the file has these answers, and nobody has changed it since."""
        if not (self.output.is_file() and self.path.is_file()):
            return False

        return bool(read_json(self.path, "note beside an answer file") == self._facts())

    def note(self) -> None:
        """Write down what the answers were made from, atomically."""
        write_json(self.path, self._facts())

    def _facts(self) -> dict[str, str]:
        return {"fingerprint": self.fingerprint, "answers": sha256([self.output])}


class PartialAnswers:
    """The answers so far of a call that may be interrupted, in a file beside its output.

    Each of several processes writes a file of its own; all of them are read.
    """

    def __init__(self, output_path: str | Path, fingerprint: str, rank: int = 0) -> None:
        """Take the output file, what its answers depend on, and the number of this process."""
        output = Path(output_path)
        self.first = output.with_name(f"{output.name}.partial")
        self.path = self.first.with_name(f"{self.first.name}-{rank}") if rank else self.first
        self.fingerprint = fingerprint

    def read(self) -> Answers:
        """Return the answers of an earlier call, if it had the same questions and options."""
        answers: Answers = {}
        for file in self._files():
            earlier = read_json(file, "answers so far")
            if earlier.get("fingerprint") == self.fingerprint:
                answers |= {int(place): text for place, text in earlier["answers"].items()}
        return answers

    def write(self, answers: Answers) -> None:
        """Replace the file, atomically."""
        write_json(self.path, {"fingerprint": self.fingerprint, "answers": answers})

    def remove(self) -> None:
        """Remove the files of all processes; the answers are in the output now."""
        for file in self._files():
            file.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        """Return the files that there are; none of them is one that is still being written."""
        return sorted(self.first.parent.glob(f"{glob.escape(self.first.name)}*"))


# -- from the shell --------------------------------------------------------------------------------


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; what is not given on the command line is missing from its result."""
    parser = argparse.ArgumentParser(
        prog=program_name("inference"),
        description="Answer a contest file with a checkpoint of a run, or with any model.",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--input_path", required=True, help="contest file with the questions")
    parser.add_argument("--output_path", required=True, help="file for the answers")
    _add_checkpoint_options(parser)
    _add_model_options(parser)
    return parser


def _add_checkpoint_options(parser: argparse.ArgumentParser) -> None:
    run = parser.add_argument_group("a checkpoint of a run; everything below is read from the run")
    run.add_argument("--run", help="run folder, runs/default for one")
    run.add_argument("--checkpoint", help="epoch_3 for one; epoch_0 is the base model")


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    model = parser.add_argument_group("any model; with --run, options that replace the run's")
    model.add_argument("--model_id", help="model folder, hub id or GGUF file")
    model.add_argument("--lora_weights_path", help="adapter folder; left out: the base model")
    model.add_argument("--few_shot_data_path", help="pool of worked examples")
    model.add_argument("--instruct_path", help="instruction texts")
    model.add_argument("--num_few_shot", type=int, help="worked examples in each prompt")
    model.add_argument("--quant_type", choices=["4bit", "8bit"], help="load the model quantised")
    model.add_argument("--dtype", choices=list(DTYPE_BYTES), help="what the model computes in")
    model.add_argument(  # the earlier way to say it
        "--bf16", action="store_const", const="bfloat16", dest="dtype", help=argparse.SUPPRESS
    )
    model.add_argument(
        "--model_kwargs",
        type=_json_mapping,
        help="further arguments of from_pretrained, as JSON",
    )
    model.add_argument("--chat_template_path", help="jinja file in the place of the model's own")
    model.add_argument("--date_string", help=f"date for chat templates (default: {DEFAULT_DATE})")
    model.add_argument("--batch_size", type=int, help="prompts answered at once")
    model.add_argument("--max_new_tokens", type=int, help="longest answer, thought included")
    model.add_argument(
        "--enable_thinking",
        action=argparse.BooleanOptionalAction,
        help="let Qwen3 and its like think before they answer",
    )
    model.add_argument(
        "--chat_template_kwargs",
        type=_template_arguments,
        help="what the chat template gets besides messages, date and thinking, as JSON",
    )


def _template_arguments(text: str) -> dict[str, Any]:
    try:
        return template_kwargs({"chat_template_kwargs": text})
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _json_mapping(text: str) -> dict[str, Any]:
    try:
        mapping = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None
    if not isinstance(mapping, dict):
        raise argparse.ArgumentTypeError(f'{text} is no mapping such as {{"name": "value"}}')
    return mapping


def options_from(args: dict[str, Any]) -> AnswerOptions:
    """Return the options that the command line names.

    Args:
        args: Arguments that were given, by name, without ``input_path`` and ``output_path``.

    Raises:
        InputError: There is neither a run nor a model, or both, or a run without a checkpoint.
    """
    changes = dict(args)
    run_path = changes.pop("run", None)
    checkpoint = changes.pop("checkpoint", None)

    if run_path is None:
        if checkpoint is not None or "model_id" not in changes:
            raise InputError("give --run and --checkpoint, or --model_id")
        return AnswerOptions(**changes)

    if "model_id" in changes or "lora_weights_path" in changes:
        raise InputError("--run brings its own model and adapter: leave out --model_id")

    run = RunFolder(run_path)
    if checkpoint is None:
        known = ", ".join(run.checkpoints())
        raise InputError(f"--run needs --checkpoint; {show_path(run.path)} has {known}")

    return replace(AnswerOptions.of_run(run, checkpoint), **changes)


def main(argv: Sequence[str] | None = None) -> int:
    """Answer a file from the shell; return 0, or 2 on bad input."""
    args = vars(build_parser().parse_args(argv))
    input_path = args.pop("input_path")
    output_path = args.pop("output_path")

    def body() -> int:
        print(answer_file(input_path, output_path, options_from(args), progress=True))
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
