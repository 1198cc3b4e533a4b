"""Every patch of somebody else's code, in one place.

In: their objects (a model, a tokenizer, a trainer). Out: the same objects, repaired in place. Each
patch states the library and its version, the symptom, where the cause is, and the drift test in
``tests/training/test_api_drift.py`` that fails once an upgrade fixes or moves the cause; the patch
can go then. Patches are applied in few places, each visible as one call: :func:`apply_at_import`
(``grpo_helpers/__init__.py``), :func:`quiet_libraries`, :func:`keep_tags` and the fixes of models
where tokenizer and model are loaded, :func:`stop_clock` where prompts are rendered,
:func:`use_one_gpu` where TRL's configuration is made, :func:`apply_to` and :func:`measure_rounds`
where the trainer is built, :func:`apply_on_resume` where a run resumes, and
:func:`keep_launch_variables` around a whole training. This module needs nothing of ours and imports
nothing heavy.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# A GRPOTrainer, without its type: patches replace methods and read private attributes.
Trainer = Any

SAME_REWARD = 1e-6  # rewards closer than this count as equal
JUDGE = "em_reward"  # the reward that says which completions are right
ALL_RIGHT = "frac_reward_zero_std/all_right"  # as the log calls it
ALL_WRONG = "frac_reward_zero_std/all_wrong"
LONGEST_TEXT = 512  # tokens; a limit for tokenizers that state none

# The names under which torch reads the settings of its allocator, the newest one first.
ALLOCATOR_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
ALLOCATOR_SETTING = "expandable_segments:True"

# What torchrun tells its processes.
LAUNCH_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


# -- applied when the package is imported, or before a library is used -----------------------------


def apply_at_import() -> None:
    """Apply what must be in place before a library is imported."""
    grow_memory_without_gaps()
    quiet_bitsandbytes()
    warn_of_casts_once()


def grow_memory_without_gaps() -> None:
    """Let torch enlarge the blocks of GPU memory that it has, unless you have set it up yourself.

    Library: torch 2.13. Symptom: prompts and answers of ever other lengths leave gaps between the
    blocks, until a long run is out of memory although enough of it is free. Where:
    ``c10/cuda/CUDACachingAllocator.cpp``; the variable is read once, when CUDA starts, and has no
    effect without a GPU. vLLM's sleep mode does not go with it, and looks for the older name only
    (https://github.com/vllm-project/vllm/pull/54351): ``export PYTORCH_ALLOC_CONF=`` there.
    Drift test: ``test_torch_takes_the_setting_of_its_allocator_without_a_word``.
    """
    if not any(name in os.environ for name in ALLOCATOR_VARIABLES):
        os.environ[ALLOCATOR_VARIABLES[0]] = ALLOCATOR_SETTING


def quiet_bitsandbytes() -> None:
    """Silence a warning about an optional package of faster CPU kernels.

    Library: bitsandbytes 0.50. Symptom: on CPUs with AVX512-BF16 it logs "Failed to load CPU
    gemm_4bit_forward" at import, which reads like a failure; the course does not need the package.
    Where: ``bitsandbytes/backends/cpu/ops.py``, end of the module.
    Drift test: ``test_bitsandbytes_warns_about_kernels_at_import``.
    """
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def warn_of_casts_once() -> None:
    """Let a warning about 8-bit layers through once instead of at every layer and pass.

    Library: bitsandbytes 0.50. Symptom: thousands of lines "MatMul8bitLt: inputs will be cast" in
    a few steps of a model in 8 bits that computes in float32, as on a CPU.
    Where: ``bitsandbytes/autograd/_functions.py``, ``MatMul8bitLt.forward``.
    Drift test: ``test_bitsandbytes_warns_of_casts_in_every_pass``.
    """
    warned = False

    def is_new(record: logging.LogRecord) -> bool:
        nonlocal warned
        if "inputs will be cast" not in record.msg:
            return True
        first_time = not warned
        warned = True
        return first_time

    logging.getLogger("bitsandbytes.autograd._functions").addFilter(is_new)


def quiet_libraries() -> None:
    """Keep progress bars of model loading, and one warning, out of notebooks and logs.

    Library: TRL 1.16 with transformers 5.23. Symptom: a ``FutureWarning`` at every round of
    sampling, since TRL still reads and switches checkpointing by its deprecated names.
    Where: ``trl/models/utils.py``, ``_unwrap_model_for_generation``, and
    ``transformers/modeling_utils.py``, ``PreTrainedModel.is_gradient_checkpointing``.
    Drift test: ``test_trl_switches_checkpointing_by_its_deprecated_names``.
    """
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    warnings.filterwarnings(
        "ignore", message=".*gradient_checkpointing.* is deprecated", category=FutureWarning
    )


# -- applied to models and tokenizers as they are loaded -------------------------------------------


def keep_gradients_on_cpu(model: PreTrainedModel) -> None:
    """Stop 4-bit weights from being repacked for inference.

    Library: bitsandbytes 0.50. Symptom: on CPUs with AVX512-BF16 the first forward in evaluation
    mode repacks the weights in place; from then on no gradient flows through these layers, with a
    warning only. Where: ``bitsandbytes/nn/modules.py``, ``Linear4bit.forward``.
    Drift test: ``test_bitsandbytes_repacks_weights_by_the_switch_we_turn_off``.
    """
    import bitsandbytes as bnb

    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def unmark_gguf(model: PreTrainedModel) -> None:
    """Remove the marks of quantisation from a model that was loaded from a GGUF file.

    Library: transformers 5.23. Symptom: the weights are plain ones once loaded, but the model is
    still marked as quantised, and ``Trainer`` refuses to train it ("purely quantized models").
    Where: ``transformers/trainer_utils.py``, ``validate_quantization_for_training``; loading GGUF
    came with https://github.com/huggingface/transformers/pull/30391.
    Drift test: ``test_gguf_models_are_marked_as_quantised``.
    """
    del model.config.quantization_config
    for mark in ("is_quantized", "quantization_method", "hf_quantizer"):
        vars(model).pop(mark, None)


def plain_generation(model: Any) -> None:
    """Let nothing but the settings decide how a model samples and answers.

    Library: transformers 5.23. Symptom: whatever a model's ``generation_config.json`` sets, and the
    caller does not (``no_repeat_ngram_size``, ``suppress_tokens``, ``min_new_tokens``, ``min_p``
    and dozens more), bends rollouts and answers. TRL names eight fields in its own configuration,
    the others are filled in from the model's. Where: ``transformers/generation/utils.py``,
    ``GenerationMixin._prepare_generation_config``.
    Drift test: ``test_transformers_fills_generation_settings_in_from_the_model``.
    """
    from transformers import GenerationConfig

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    own = base.generation_config

    # Which tokens begin, fill and end a text belongs to the model, not to how it is sampled.
    base.generation_config = GenerationConfig(
        bos_token_id=own.bos_token_id,
        pad_token_id=own.pad_token_id,
        eos_token_id=own.eos_token_id,
    )


def stop_clock(chat_template: str, moment: datetime) -> None:
    """Let a chat template see one moment for good where it asks for the present one.

    Library: transformers 5.23. Symptom: a template that calls ``strftime_now`` prints today's date,
    so that the prompts of one run differ from day to day. Templates that look for a ``date_string``
    first can be given one, others (gpt-oss) cannot, and a function among the arguments of a
    template arrives there as a text. Where: ``transformers/utils/chat_template_utils.py``,
    ``_cached_compile_jinja_template``; a compiled template is kept, and TRL renders the same one.
    Drift test: ``test_transformers_gives_chat_templates_the_present_time``.

    Args:
        chat_template: The text of the template.
        moment: What it sees until this function is called for it again.
    """
    from transformers.utils.chat_template_utils import _compile_jinja_template

    compiled = _compile_jinja_template(chat_template)
    compiled.globals["strftime_now"] = moment.strftime


def limit_text_length(tokenizer: PreTrainedTokenizerBase, longest: int = LONGEST_TEXT) -> None:
    """Give a tokenizer without a length limit one, so that bert-score can use it.

    Library: bert-score 0.3.13 with transformers 5. Symptom: ``OverflowError: int too big to
    convert``; a tokenizer that states no limit reports 1e30, and bert-score passes that on.
    Where: ``bert_score/utils.py``, ``sent_encode``;
    https://github.com/Tiiiger/bert_score/issues/205.
    Drift test: ``test_bert_score_overflows_without_a_length_limit``.
    """
    tokenizer.model_max_length = min(tokenizer.model_max_length, longest, LONGEST_TEXT)


def keep_tags(tokenizer: PreTrainedTokenizerBase, tags: Iterable[str]) -> None:
    """Let a tokenizer write the tags of thoughts as text where it decodes what a model wrote.

    Library: tokenizers 0.23 with transformers 5.23. Symptom: where a tokenizer has such a tag among
    its special tokens, decoding leaves it out, in TRL's rollouts too, and the thought would be read
    as part of the answer. The mark is taken from the token, but the tokenizer that is in memory
    goes on as before, until it is built anew. Where: ``TokenizersBackend._decode`` in
    ``transformers/tokenization_utils_tokenizers.py``, which passes ``skip_special_tokens`` on to
    ``tokenizers``. Drift test: ``test_decoding_leaves_out_tags_that_are_special_tokens``.

    Args:
        tokenizer: It is changed in place, if it has such a tag.
        tags: ``<think>`` and its like.
    """
    added = tokenizer.added_tokens_decoder.values()
    special = {token.content for token in added if token.special}
    marked = sorted(special.intersection(tags))
    backend = getattr(tokenizer, "_tokenizer", None)
    if not marked or backend is None:
        return

    from tokenizers import AddedToken

    plain = [AddedToken(tag, special=False, normalized=False) for tag in marked]
    tokenizer.add_tokens(plain)
    vars(tokenizer)["_tokenizer"] = type(backend).from_str(backend.to_str())


# -- applied to the trainer ------------------------------------------------------------------------


@contextlib.contextmanager
def no_folders_yet(config: Any) -> Iterator[None]:
    """Let a trainer be built without making the run folder.

    Library: TRL 1.16 and transformers 5.23. Symptom: the constructor makes ``output_dir`` and
    ``completions/`` in it, so that a start that fails afterwards leaves a folder behind.
    Where: ``trl/trainer/grpo_trainer.py``, ``GRPOTrainer.__init__``, and
    ``transformers/trainer.py``, ``Trainer.__init__``.
    Drift test: ``test_trainers_make_folders_when_they_are_built``.

    Args:
        config: TRL's configuration; it names a temporary folder in the meantime.
    """
    output_dir = config.output_dir

    with tempfile.TemporaryDirectory(prefix="grpo-build-") as folder:
        config.output_dir = folder
        try:
            yield
        finally:
            config.output_dir = output_dir


@contextlib.contextmanager
def keep_launch_variables() -> Iterator[None]:
    """Take back what a training has added to the variables of launched processes.

    Library: TRL 1.16. Symptom: vLLM in the process that trains leaves ``WORLD_SIZE=1`` and its like
    behind, so that everything after it in a notebook's kernel takes itself for one of the processes
    of torchrun: a training in several processes is refused, since only one was started.
    Where: ``trl/generation/vllm_generation.py``, ``VLLMGeneration._init_vllm``.
    Drift test: ``test_trl_leaves_the_variables_of_a_launch_where_it_starts_vllm``.
    """
    before = {name: os.environ.get(name) for name in LAUNCH_VARIABLES}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


def use_one_gpu(config: Any) -> None:
    """Let one process use one GPU, however many it sees.

    Library: transformers 5.23. Symptom: on a server with several GPUs a trainer in one process
    would spread every batch over all of them (``nn.DataParallel``), which TRL refuses. The first
    visible GPU is the one that is used. Where: ``transformers/training_args.py``,
    ``TrainingArguments._setup_devices``, and ``trl/trainer/grpo_trainer.py``,
    ``GRPOTrainer.__init__``.
    Drift test: ``test_one_process_takes_every_visible_gpu``.

    Args:
        config: TRL's configuration. With several processes each has one GPU already.
    """
    config._n_gpu = min(config.n_gpu, 1)


def apply_to(trainer: Trainer) -> None:
    """Apply every patch that a trainer needs before it trains."""
    keep_adapter_in_float32(trainer)
    skip_model_card(trainer)
    keep_train_completions(trainer)
    count_equal_groups(trainer)
    require_grads_once(trainer.model.get_base_model())
    if trainer.use_vllm and not trainer.is_fsdp_enabled:  # no process has whole weights with FSDP
        keep_base_weights(trainer.vllm_generation.model)


def keep_adapter_in_float32(trainer: Trainer) -> None:
    """Give the adapter float32 weights again, unless the run computes in bfloat16.

    Library: TRL 1.16 with torch 2.13. Symptom: over a quantised base the adapter is cast to
    bfloat16, whatever the run computes in. In float16, a GPU then fails at the first optimizer
    step: '"_amp_foreach_non_finite_check_and_unscale_cuda" not implemented for 'BFloat16'', for
    the gradients of float16 are scaled, and those of bfloat16 cannot be.
    Where: ``trl/trainer/grpo_trainer.py``, ``GRPOTrainer.__init__``;
    https://github.com/huggingface/trl/issues/4901 and
    https://github.com/pytorch/pytorch/issues/127176.
    Drift test: ``test_trl_casts_the_adapter_of_a_quantised_model_to_bfloat16``.
    """
    import torch

    if trainer.args.bf16:
        return

    for parameter in trainer.model.parameters():
        if parameter.requires_grad and parameter.dtype == torch.bfloat16:
            parameter.data = parameter.data.to(torch.float32)


def skip_model_card(trainer: Trainer) -> None:
    """Write no ``README.md`` into the run folder.

    Library: TRL 1.16. Symptom: every save writes a model card from a template, which says nothing
    about this run. Where: ``trl/trainer/grpo_trainer.py``, ``GRPOTrainer._save_checkpoint``.
    Drift test: ``test_trl_writes_a_model_card_at_every_save``.
    """

    def write_nothing(*_: Any, **__: Any) -> None:
        return None

    trainer.create_model_card = write_nothing


def keep_train_completions(trainer: Trainer) -> None:
    """Write the completions of training only; those of an evaluation are not stored.

    Library: TRL 1.16. Symptom: an evaluation writes its samples of dev to
    ``completions_{step}.parquet`` over those of the train step, and leaves them where the next
    train step looks for its own. Where: ``trl/trainer/grpo_trainer.py``, ``GRPOTrainer.log``.
    Drift test: ``test_trl_logs_completions_of_evaluations_under_the_same_name``.
    """
    log = trainer.log
    evaluate = trainer.evaluate
    is_wanted = trainer.log_completions

    def log_train_completions(*args: Any, **kwargs: Any) -> None:
        trainer.log_completions = is_wanted and trainer.model.training
        if trainer.log_completions:
            folder = Path(trainer.args.output_dir) / "completions"
            folder.mkdir(parents=True, exist_ok=True)
        log(*args, **kwargs)

    def evaluate_apart(*args: Any, **kwargs: Any) -> Any:
        of_training = trainer._logs
        trainer._logs = copy.deepcopy(of_training)
        try:
            return evaluate(*args, **kwargs)
        finally:
            trainer._logs = of_training

    trainer.log = log_train_completions
    trainer.evaluate = evaluate_apart


def count_equal_groups(trainer: Trainer) -> None:
    """Log the right ``frac_reward_zero_std``: the share of groups whose rewards are all equal.

    Library: TRL 1.16. Symptom: rewards are summed and averaged in float32, where the deviation of
    equal rewards is often not exactly zero, so that such groups are not counted. Only the logged
    number is wrong. It also adds up groups that are all right, and have no more to learn, and
    groups that are all wrong, and cannot learn it: where exact match is among the rewards, their
    shares (:data:`ALL_RIGHT`, :data:`ALL_WRONG`) are logged as well.
    Where: ``trl/trainer/grpo_trainer.py``, ``GRPOTrainer._generate_and_score_completions``; the
    metric came with https://github.com/huggingface/trl/pull/3502.
    Drift test: ``test_trl_counts_equal_groups_by_a_float32_deviation``.
    """
    import numpy as np

    generate_and_score = trainer._generate_and_score_completions
    weights = trainer.reward_weights.tolist()

    def generate_score_and_count(inputs: Any) -> Any:
        output = generate_and_score(inputs)

        # An evaluation may have groups of another size.
        if trainer.model.training:
            # The rewards of this round, of all processes, one row per reward function.
            by_name = trainer._logs["rewards"]
            rewards = [by_name[name] for name in trainer.reward_func_names]
            groups = np.dot(weights, rewards).reshape(-1, trainer.num_generations)

            is_equal = np.ptp(groups, axis=1) < SAME_REWARD
            logged = trainer._metrics["train"]
            logged["frac_reward_zero_std"][-1] = float(is_equal.mean())

            if JUDGE in trainer.reward_func_names:
                is_right = np.reshape(by_name[JUDGE], groups.shape) == 1
                logged[ALL_RIGHT].append(float((is_equal & is_right.all(axis=1)).mean()))
                logged[ALL_WRONG].append(float((is_equal & ~is_right.any(axis=1)).mean()))

        return output

    trainer._generate_and_score_completions = generate_score_and_count


def measure_rounds(
    trainer: Trainer, measure: Callable[[Sequence[Any]], Mapping[str, float]]
) -> None:
    """Log more of each round of sampling than TRL does.

    Library: TRL 1.16. Symptom: of what a model writes, the log has the length, the thought and the
    answer in one. Only a reward function can log anything else (``log_metric``); it is given
    neither the completions of the other processes nor the tokenizer. Where:
    ``trl/trainer/grpo_trainer.py``, ``GRPOTrainer._calculate_rewards``.
    Drift test: ``test_trl_logs_nothing_about_thoughts``.

    Args:
        trainer: The trainer.
        measure: Returns quantities, by their names in the log, of the completions of a round, those
            of all processes.
    """
    generate_and_score = trainer._generate_and_score_completions

    def generate_score_and_measure(inputs: Any) -> Any:
        output = generate_and_score(inputs)
        if trainer.model.training:
            for name, value in measure(list(trainer._logs["completion"])).items():
                trainer._metrics["train"][name].append(value)
        return output

    trainer._generate_and_score_completions = generate_score_and_measure


def require_grads_once(model: Any) -> None:
    """Remove the old hook at the embeddings before a new one is registered.

    Library: transformers 5.23. Symptom: with gradient checkpointing, each round of sampling leaves
    one more hook at the embeddings. Where: ``transformers/modeling_utils.py``,
    ``PreTrainedModel.enable_input_require_grads``, which forgets the handles of earlier hooks.
    Drift test: ``test_transformers_registers_a_further_hook_at_every_call``.
    """
    enable = model.enable_input_require_grads

    def disable_and_enable() -> None:
        model.disable_input_require_grads()
        enable()

    model.enable_input_require_grads = disable_and_enable


def keep_base_weights(model: Any) -> None:
    """Give the frozen weights back, bit for bit, after an adapter was merged into them.

    The adapter is merged into copies, which live only until it is taken out again.

    Library: TRL 1.16 with PEFT 0.21. Symptom: with ``use_vllm`` the adapter is added to the weights
    before they are sent to vLLM, and subtracted afterwards, both in place. In bfloat16 each rounds,
    so the base drifts with every step away from the one that the saved adapter belongs to.
    Where: ``trl/generation/vllm_generation.py``, ``VLLMGeneration._iter_named_params``, and
    ``peft/tuners/lora/layer.py``, ``Linear.merge``; https://github.com/huggingface/trl/issues/6688.
    Drift test: ``test_merging_an_adapter_for_vllm_moves_the_base``.

    Args:
        model: PEFT's model, whose weights TRL sends to vLLM.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    merge = model.merge_adapter
    unmerge = model.unmerge_adapter
    layers: list[Any] = [each for each in model.modules() if isinstance(each, BaseTunerLayer)]
    weights = [layer.get_base_layer().weight for layer in layers]
    own_values: list[torch.Tensor] = []  # of each weight, while the adapter is merged

    def merge_into_copies(*args: Any, **kwargs: Any) -> None:
        if not own_values:
            own_values.extend(weight.data for weight in weights)
            for weight in weights:
                weight.data = weight.data.clone()
        merge(*args, **kwargs)

    def unmerge_and_restore() -> None:
        unmerge()
        if own_values:
            for weight, values in zip(weights, own_values, strict=True):
                weight.data = values
            own_values.clear()

    model.merge_adapter = merge_into_copies
    model.unmerge_adapter = unmerge_and_restore


# -- applied to the trainer of a run that resumes --------------------------------------------------


def apply_on_resume(trainer: Trainer, step: int) -> None:
    """Put a new trainer where the interrupted one was after ``step`` optimizer steps.

    A save inside a round of sampling cannot be resumed exactly. This happens only where completions
    are used for more than one optimizer step; the rest of such a round is sampled again, from the
    newer weights, and a line says so.
    """
    batches_per_epoch = len(trainer.get_train_dataloader())
    batches_per_step = trainer.args.gradient_accumulation_steps
    steps_per_epoch = math.ceil(batches_per_epoch / batches_per_step)
    epochs, steps_in_epoch = divmod(step, steps_per_epoch)

    restore_batch_count(trainer, epochs * batches_per_epoch + steps_in_epoch * batches_per_step)
    replay_shuffles(trainer, epochs)
    keep_adapter_dtypes(trainer)


def restore_batch_count(trainer: Trainer, batches: int) -> None:
    """Restore the trainer's count of micro-batches.

    Library: TRL 1.16. Symptom: the count decides when completions are sampled; it is not saved, and
    a new process starts at 0. Where: ``trl/trainer/grpo_trainer.py``,
    ``GRPOTrainer._prepare_inputs``, attribute ``_step``.
    Drift test: ``test_trl_counts_micro_batches_from_zero``.

    Args:
        trainer: The new trainer.
        batches: Micro-batches that the interrupted run had trained on, in one process.
    """
    trainer._step = batches

    round_length = trainer.args.steps_per_generation * trainer.num_iterations
    if batches % round_length:
        print("the save was inside a round of sampling: its rest is sampled anew", flush=True)


def replay_shuffles(trainer: Trainer, epochs: int) -> None:
    """Shuffle the train prompts as often as the interrupted run had.

    Library: TRL 1.16. Symptom: the sampler draws each epoch's order from a generator of its own,
    which a new process seeds anew, so every resumed epoch has the order of the first one.
    Where: ``trl/trainer/utils.py``, ``RepeatSampler.__iter__``.
    Drift test: ``test_trl_shuffles_with_a_generator_that_starts_anew``.
    """
    import torch

    new_sampler = trainer._get_train_sampler

    def shuffled_sampler(dataset: Any = None) -> Any:
        sampler = new_sampler(dataset)
        if sampler.shuffle:
            for _ in range(epochs):
                torch.randperm(sampler.num_samples, generator=sampler.generator)
        return sampler

    trainer._get_train_sampler = shuffled_sampler


def keep_adapter_dtypes(trainer: Trainer) -> None:
    """Keep the precision of the adapter when its weights are read back.

    Library: PEFT 0.21, by way of transformers 5.23. Symptom: the bfloat16 adapter of a quantised
    model is read as float32, so that a resumed run trains in another precision.
    Where: ``transformers/trainer.py``, ``Trainer._load_from_checkpoint``, which calls PEFT's
    ``load_adapter`` without ``autocast_adapter_dtype=False``;
    https://github.com/huggingface/peft/issues/2421.
    Drift test: ``test_trainer_reads_adapters_with_autocast``.
    """
    load = trainer._load_from_checkpoint
    dtypes: dict[str, torch.dtype] = {}
    for name, parameter in trainer.model.named_parameters():
        if parameter.requires_grad:
            dtypes[name] = parameter.dtype

    def load_with_dtypes(*args: Any, **kwargs: Any) -> None:
        load(*args, **kwargs)
        for name, parameter in trainer.model.named_parameters():
            dtype = dtypes.get(name, parameter.dtype)
            parameter.data = parameter.data.to(dtype)

    trainer._load_from_checkpoint = load_with_dtypes
