"""What the course relies on in other libraries: an upgrade that moves it fails here, by name.

Each test says which of our modules leans on what it checks. The last part has one test for every
patch in ``grpo_helpers/library_fixes.py``; where such a test fails because the library was fixed,
the patch can go. Nothing is trained.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from datetime import datetime
from importlib.metadata import version

import accelerate
import bert_score.utils
import bitsandbytes as bnb
import pytest
import torch
import transformers
import trl.models.utils
from helpers import ROOT, TINY_MODEL, run_offline
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import BitsAndBytesConfig, Trainer, TrainerCallback, TrainerControl, TrainerState
from transformers.utils import chat_template_utils
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer
from trl.generation.vllm_generation import VLLMGeneration
from trl.import_utils import is_vllm_available
from trl.trainer.grpo_trainer import nanstd
from trl.trainer.utils import RepeatSampler

from grpo_helpers import callbacks, library_fixes
from grpo_helpers.models import load_tokenizer
from grpo_helpers.preflight import VLLM_RELEASES
from grpo_helpers.settings import (
    CHOICES,
    FILLED_IN,
    SET_ELSEWHERE,
    STOOD_FOR,
    TRACKERS,
    TrainSettings,
)
from grpo_helpers.training import grpo_config

CONFIG_FIELDS = {field.name: field for field in dataclasses.fields(GRPOConfig)}

# Settings of our own; every other parameter of notebook 04 is TRL's, transformers' or PEFT's.
OUR_SETTINGS = {
    "run_name",
    "train_data_path",
    "eval_data_path",
    "few_shot_data_path",
    "instruct_path",
    "num_few_shot",
    "max_prompt_tokens",
    "model_name",
    "chat_template_path",
    "date_string",
    "enable_thinking",
    "use_quant",
    "quant_type",
    "dtype",
    "model_kwargs",
    "lora_r",
    "lora_alpha",
    "lora_dropout",
    "lora_target_modules",
    "reward_weights",
    "reward_module",
    "bertscore_model",
    "bertscore_layers",
    "inference_batch_size",
    "checkpoint_steps",
    "stop_on_alarm",
    "device",
    "resume",
    "num_processes",
    "num_threads",
    "shared_prefix",
    "rollout_server",
    "extra_grpo_args",
}
THEIR_SETTINGS = sorted({field.name for field in dataclasses.fields(TrainSettings)} - OUR_SETTINGS)


def parameters(function):
    """Return the parameters of a function, by name."""
    return inspect.signature(function).parameters


def field_names(dataclass):
    """Return the names of a dataclass's fields."""
    return {field.name for field in dataclasses.fields(dataclass)}


def assert_has(names, known, where):
    """Fail, naming them, if some of ``names`` are not among the ``known`` ones."""
    gone = sorted(set(names) - set(known))
    assert not gone, f"DRIFT: {where} has no {', '.join(gone)}"


# -- configuration ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", THEIR_SETTINGS)
def test_parameter_of_notebook_04_is_a_field_of_grpo_config(name):
    assert_has([name], CONFIG_FIELDS, "trl.GRPOConfig (settings.TrainSettings)")


@pytest.mark.parametrize("name", [name for name in THEIR_SETTINGS if name != "output_dir"])
def test_parameter_of_notebook_04_reaches_grpo_config(name):
    settings = TrainSettings(num_processes=1)
    config = grpo_config(settings)

    value = getattr(config, name)
    if name == "report_to":  # TRL keeps a list of trackers
        value = value[0] if value else "none"
    expected = getattr(settings, name)
    if name == "steps_per_generation":  # 0 stands for A
        expected = expected or settings.gradient_accumulation_steps
    assert value == expected


def test_trl_writes_into_the_run_folder():
    settings = TrainSettings(num_processes=1)

    assert grpo_config(settings).output_dir == str(settings.run_dir)


def test_trl_samples_without_vllm_by_default():
    """Building the configuration also shows that TRL knows every field that training sets."""
    config = grpo_config(TrainSettings(num_processes=1))

    assert config.use_vllm is False


def test_releases_of_vllm_are_those_that_trl_supports():
    source = inspect.getsource(is_vllm_available)

    for release in VLLM_RELEASES:
        assert f'Version("{release}.0")' in source


@pytest.mark.parametrize(
    ("dtype", "mixed_precision"), [("float32", "no"), ("bfloat16", "bf16"), ("float16", "fp16")]
)
def test_dtype_is_the_precision_that_trl_computes_in(dtype, mixed_precision):
    config = grpo_config(TrainSettings(num_processes=1, dtype=dtype))

    assert (config.mixed_precision or "no") == mixed_precision


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("bf16", None),
        ("beta", 0.0),
        ("num_iterations", 1),
        ("epsilon", 0.2),
        ("loss_type", "dapo"),
        ("scale_rewards", "group"),
        ("num_generations", 8),
        ("temperature", 1.0),
        ("use_bias_correction_kl", True),
        ("steps_per_generation", None),
        ("generation_batch_size", None),
        ("importance_sampling_level", "token"),
    ],
)
def test_default_that_the_notebooks_name_is_still_trls(name, default):
    value = CONFIG_FIELDS[name].default

    assert value == default, (
        f"DRIFT: GRPOConfig.{name} is {value!r} by default; notebooks 02 and 03 say {default!r}"
    )


def test_trl_still_truncates_no_prompts():
    assert "max_prompt_length" not in CONFIG_FIELDS, (
        "TRL cuts prompts again: max_prompt_tokens may not be needed any more"
    )


def test_trackers_are_those_of_transformers():
    known = transformers.integrations.integration_utils.INTEGRATION_TO_CALLBACK

    assert sorted(known) == sorted(TRACKERS)


@pytest.mark.parametrize("word", CHOICES["loss_type"])
def test_loss_of_the_settings_is_one_of_trls(word):
    assert f'"{word}"' in inspect.getsource(GRPOTrainer), f"DRIFT: TRL has no loss {word}"


def test_scales_of_the_settings_are_those_of_trl():
    source = inspect.getsource(GRPOTrainer)

    assert "Must be one of 'batch', 'group', or 'none'." in source
    assert sorted(CHOICES["scale_rewards"]) == ["batch", "group", "none"]


def test_fields_that_training_fills_in_are_trls():
    assert_has(FILLED_IN, CONFIG_FIELDS, "trl.GRPOConfig (settings.FILLED_IN)")


def test_fields_that_a_parameter_stands_for_are_trls():
    assert_has(STOOD_FOR, CONFIG_FIELDS, "trl.GRPOConfig (settings.STOOD_FOR)")


def test_arguments_that_model_kwargs_may_not_set_exist():
    """Some are named in the signature, the others where it reads its keyword arguments."""
    source = inspect.getsource(transformers.PreTrainedModel.from_pretrained)
    source += inspect.getsource(transformers.AutoModelForCausalLM.from_pretrained.__func__)

    for name in SET_ELSEWHERE:
        assert name in source, f"DRIFT: from_pretrained does not know {name}"


# -- trainers, models, callbacks -------------------------------------------------------------------

TRAINER_ARGUMENTS = {
    "model",
    "args",
    "processing_class",
    "train_dataset",
    "eval_dataset",
    "peft_config",
}


def test_grpo_trainer_takes_what_training_passes():
    passed = TRAINER_ARGUMENTS | {"reward_funcs", "callbacks"}

    assert_has(passed, parameters(GRPOTrainer), "trl.GRPOTrainer (training.build_trainer)")


def test_grpo_trainer_takes_the_answers_that_notebook_02_hands_in():
    assert_has({"rollout_func"}, parameters(GRPOTrainer), "trl.GRPOTrainer (notebook 02)")


def test_grpo_config_has_what_the_losses_of_notebook_02_set():
    set_there = {"loss_type", "scale_rewards", "beta", "importance_sampling_level", "epsilon_high"}

    assert_has(set_there, CONFIG_FIELDS, "trl.GRPOConfig (notebook 02)")


def test_sft_trainer_takes_what_the_controls_pass():
    where = "trl.SFTTrainer (tools.experiments.supervised)"

    assert_has(TRAINER_ARGUMENTS, parameters(SFTTrainer), where)


def test_sft_config_has_the_fields_that_the_controls_set():
    assert_has({"max_length", "completion_only_loss"}, field_names(SFTConfig), "SFTConfig")


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("_get_train_sampler", {"dataset"}),  # library_fixes.replay_shuffles
        ("_load_from_checkpoint", {"resume_from_checkpoint", "model"}),  # keep_adapter_dtypes
        ("get_train_dataloader", set()),  # library_fixes.apply_on_resume
        ("_generate_and_score_completions", {"inputs"}),  # count_equal_groups; notebook 02
        ("compute_loss", {"model", "inputs"}),  # notebooks 02 and 03
        (
            "_get_per_token_logps_and_entropies",  # tests/unit/test_loss_by_hand.py
            {"input_ids", "attention_mask", "logits_to_keep"},
        ),
    ],
)
def test_inner_method_of_the_trainer_is_still_there(method, expected):
    assert hasattr(GRPOTrainer, method), f"DRIFT: GRPOTrainer.{method} is gone"

    assert_has(expected, parameters(getattr(GRPOTrainer, method)), f"GRPOTrainer.{method}")


@pytest.mark.parametrize(
    "name", ["self._step ", "self.num_iterations", "steps_per_generation", "num_items_in_batch"]
)
def test_trainer_still_has_the_names_of_its_rounds(name):
    source = inspect.getsource(GRPOTrainer)

    assert name in source, f"DRIFT: GRPOTrainer has no {name} (library_fixes, notebook 02)"


@pytest.mark.parametrize(
    "name",
    [
        'self._logs["rewards"]',
        "self.reward_weights",
        "self.reward_func_names",
        "self.num_generations",
    ],
)
def test_trainer_still_records_what_equal_groups_are_counted_from(name):
    source = inspect.getsource(GRPOTrainer)

    assert name in source, f"DRIFT: GRPOTrainer has no {name} (library_fixes.count_equal_groups)"


@pytest.mark.parametrize(
    "name",
    [
        "frac_reward_zero_std",
        "completions/mean_length",
        "completions/clipped_ratio",
        "entropy",
        "step_time",
        "reward",
        "num_tokens",
    ],
)
def test_metric_that_health_and_plots_read_is_still_logged(name):
    source = inspect.getsource(inspect.getmodule(GRPOTrainer))

    # TRL writes "completions/mean_length" as one text, or its last part after a prefix.
    last_part = name.split("/")[-1]
    assert f'"{name}"' in source or f'"{last_part}"' in source, (
        f"DRIFT: TRL logs no {name} (health, plots)"
    )


def test_mean_of_each_reward_is_still_logged():
    source = inspect.getsource(inspect.getmodule(GRPOTrainer))

    assert 'f"rewards/{reward_func_name}/mean"' in source, "DRIFT: TRL logs no means of rewards"


def our_hooks():
    """Return the hooks that our callbacks override: pairs of callback and method."""
    hooks = []
    for name, kind in inspect.getmembers(callbacks, inspect.isclass):
        if issubclass(kind, TrainerCallback) and kind is not TrainerCallback:
            hooks += [(name, method) for method in vars(kind) if method.startswith("on_")]
    return hooks


@pytest.mark.parametrize(("callback", "method"), our_hooks())
def test_hook_of_a_callback_is_still_called_that_way(callback, method):
    assert hasattr(TrainerCallback, method), f"DRIFT: TrainerCallback.{method} is gone ({callback})"

    names = list(parameters(getattr(TrainerCallback, method)))
    assert names[1:4] == ["args", "state", "control"]


def test_trainer_state_has_the_fields_that_callbacks_read():
    assert_has({"global_step", "max_steps", "epoch"}, field_names(TrainerState), "TrainerState")


def test_trainer_control_has_the_fields_that_callbacks_set():
    needed = {"should_save", "should_training_stop"}

    assert_has(needed, field_names(TrainerControl), "TrainerControl")


def test_callbacks_see_a_save_before_the_next_step():
    assert "callback_handler.on_save(" in inspect.getsource(Trainer)


@pytest.mark.parametrize("part", ["model=self.model", "processing_class=self.processing_class"])
def test_callbacks_get_the_live_model_and_its_tokenizer(part):
    handler = inspect.getsource(inspect.getmodule(TrainerCallback))

    assert part in handler


def test_lora_config_takes_what_models_passes():
    passed = {"r", "lora_alpha", "lora_dropout", "target_modules", "bias", "task_type"}

    assert_has(passed, field_names(LoraConfig), "peft.LoraConfig (models.lora_config)")


def test_adapters_can_be_read_in_their_own_precision():
    known = parameters(PeftModel.from_pretrained)

    assert_has({"autocast_adapter_dtype"}, known, "PeftModel.from_pretrained")


def test_bitsandbytes_config_takes_what_models_passes():
    passed = {
        "load_in_4bit",
        "load_in_8bit",
        "bnb_4bit_quant_type",
        "bnb_4bit_use_double_quant",
        "bnb_4bit_compute_dtype",
    }

    assert_has(passed, parameters(BitsAndBytesConfig), "BitsAndBytesConfig")


@pytest.mark.parametrize(
    "name", ["trl", "peft", "transformers", "bitsandbytes", "accelerate", "datasets"]
)
def test_installed_version_is_the_pinned_one(name):
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([\w-]+)==(\S+)$", constraints, re.MULTILINE))

    assert version(name) == pinned[name], f"{version(name)} is installed, {pinned[name]} was tested"


# -- one test for each patch in library_fixes ------------------------------------------------------


def patches():
    """Return the functions of ``library_fixes`` that name a drift test, with that name."""
    named = []
    for name, function in inspect.getmembers(library_fixes, inspect.isfunction):
        match = re.search(r"Drift test: ``(\w+)``", inspect.getdoc(function) or "")
        if match:
            named.append((name, match[1]))
    return named


@pytest.mark.parametrize(("patch", "test"), patches())
def test_drift_test_of_a_patch_is_here(patch, test):
    assert test in globals(), f"{patch} names a test that is not here"


@pytest.mark.parametrize(("patch", "_"), patches())
def test_patch_states_library_symptom_and_place(patch, _):
    text = inspect.getdoc(getattr(library_fixes, patch))

    for part in ("Library:", "Symptom:", "Where:"):
        assert part in text


def test_every_patch_names_a_drift_test():
    appliers = {"apply_at_import", "apply_to", "apply_on_resume"}  # they only call the others
    functions = {name for name, _ in inspect.getmembers(library_fixes, inspect.isfunction)}

    assert functions - appliers == {name for name, _ in patches()}


@pytest.fixture
def smallest_llama():
    """A model of transformers with random weights."""
    config = transformers.LlamaConfig(
        vocab_size=8,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
    )
    return transformers.LlamaForCausalLM(config)


def test_torch_takes_the_setting_of_its_allocator_without_a_word():
    code = "import grpo_helpers, torch; print(torch._C._accelerator_getAllocatorSettings())"
    setting = library_fixes.ALLOCATOR_SETTING
    command = [sys.executable, "-W", "error", "-c", code]
    done = run_offline(command, PYTORCH_ALLOC_CONF=setting)

    assert done.stderr == ""
    assert done.stdout == f"{setting}\n"


def test_bitsandbytes_warns_about_kernels_at_import():
    module = inspect.getmodule(bnb).backends.cpu.ops

    assert module.logger.name == "bitsandbytes.backends.cpu.ops"
    assert "Failed to load CPU gemm_4bit_forward" in inspect.getsource(module)


def test_bitsandbytes_warns_of_casts_in_every_pass():
    functions = bnb.autograd._functions

    assert functions.logger.name == "bitsandbytes.autograd._functions"
    assert 'logger.warning("MatMul8bitLt: inputs will be cast' in inspect.getsource(functions)


def test_transformers_fills_generation_settings_in_from_the_model(smallest_llama):
    smallest_llama.generation_config.no_repeat_ngram_size = 3
    asked = transformers.GenerationConfig(max_new_tokens=1)
    used, _ = smallest_llama._prepare_generation_config(asked)

    assert used.no_repeat_ngram_size == 3


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        (Trainer, "os.makedirs(self.args.output_dir, exist_ok=True)"),
        (GRPOTrainer, 'os.makedirs(os.path.join(self.args.output_dir, "completions")'),
    ],
)
def test_trainers_make_folders_when_they_are_built(trainer, words):
    assert words in inspect.getsource(trainer.__init__)


def test_one_process_takes_every_visible_gpu(tmp_path, monkeypatch):
    """Only the count is made up: without a GPU the configuration stays on the CPU."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    config = GRPOConfig(output_dir=str(tmp_path), use_cpu=False, bf16=False)

    assert config.n_gpu == 3
    assert "if args.n_gpu > 1:" in inspect.getsource(GRPOTrainer.__init__)


def test_trl_leaves_the_variables_of_a_launch_where_it_starts_vllm():
    source = inspect.getsource(VLLMGeneration._init_vllm)
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        assert f'os.environ["{name}"] = ' in source
    assert "ensure_master_addr_port()" in source
    assert "del os.environ" not in source


def test_merging_an_adapter_for_vllm_moves_the_base(smallest_llama):
    """Measured in ``test_vllm_sync.py``; here, that TRL still merges and PEFT still rounds."""
    source = inspect.getsource(VLLMGeneration._iter_named_params)
    assert "model.merge_adapter()" in source
    assert "model.unmerge_adapter()" in source

    adapter = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    model = get_peft_model(smallest_llama.to(torch.bfloat16), adapter)
    weight = model.base_model.model.model.layers[0].self_attn.q_proj.get_base_layer().weight
    before = weight.detach().clone()

    model.merge_adapter()
    model.unmerge_adapter()

    assert not torch.equal(weight, before), "an unmerge restores the base now"


def test_trl_casts_the_adapter_of_a_quantised_model_to_bfloat16():
    source = inspect.getsource(GRPOTrainer.__init__)

    assert "param.data = param.data.to(torch.bfloat16)" in source, (
        "DRIFT: keep_adapter_in_float32 may not be needed any more"
    )


def test_trl_casts_the_model_in_training_for_continuous_batching():
    """Why ``TrainSettings`` refuses it unless a run computes in float32."""
    source = inspect.getsource(GRPOTrainer._generate_single_turn)
    before, _, after = source.partition("unwrapped_model.generate_batch(")

    assert "unwrapped_model.to(torch.bfloat16)" in before
    assert "unwrapped_model.to(torch.float16)" in before
    assert "unwrapped_model.to(" not in after


def test_accelerate_scales_gradients_of_float16_on_a_gpu_only():
    """So float16 is refused on a CPU: small gradients would vanish without a word."""
    source = " ".join(inspect.getsource(accelerate.Accelerator.__init__).split())

    assert 'self.state.mixed_precision == "fp16" and self.device.type != "cpu"' in source


def test_trl_logs_completions_of_evaluations_under_the_same_name():
    source = inspect.getsource(GRPOTrainer.log)

    assert 'f"completions_{self.state.global_step:05d}.parquet"' in source
    assert "if self.accelerator.is_main_process and self.log_completions:" in source


def test_trl_switches_checkpointing_by_its_deprecated_names(smallest_llama):
    source = inspect.getsource(trl.models.utils)
    assert ".is_gradient_checkpointing" in source
    assert ".gradient_checkpointing_enable(" in source

    with pytest.warns(FutureWarning, match="`is_gradient_checkpointing` is deprecated"):
        _ = smallest_llama.is_gradient_checkpointing


@pytest.mark.parametrize("name", ["support_avx512bf16_for_cpu", "_convert_weight_packed_for_cpu"])
def test_bitsandbytes_repacks_weights_by_the_switch_we_turn_off(name):
    source = inspect.getsource(bnb.nn.Linear4bit.forward)

    assert name in source, f"DRIFT: Linear4bit.forward has no {name}; does it repack still?"


def test_gguf_models_are_marked_as_quantised(gguf_file):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        gguf_file.parent, gguf_file=gguf_file.name, dtype=torch.float32
    )

    assert model.is_quantized
    assert model.hf_quantizer is not None
    assert model.config.quantization_config is not None


def test_transformers_gives_chat_templates_the_present_time():
    source = inspect.getsource(chat_template_utils._cached_compile_jinja_template)
    assert "return datetime.now().strftime(format)" in source
    compiled = chat_template_utils._compile_jinja_template("{{ strftime_now('%Y') }}")

    assert compiled is chat_template_utils._compile_jinja_template("{{ strftime_now('%Y') }}")
    assert compiled.render() == f"{datetime.now():%Y}"


def test_transformers_hands_no_function_to_a_chat_template():
    tokenizer = load_tokenizer(TINY_MODEL)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": ""}],
        chat_template="{{ strftime_now }}",
        tokenize=False,
        strftime_now=lambda format: "27 Nov 2026",
    )

    assert text == "<function>", "DRIFT: stop_clock could be an argument of the template"


def test_bert_score_overflows_without_a_length_limit():
    tokenizer = load_tokenizer(TINY_MODEL)
    tokenizer.model_max_length = int(1e30)  # what transformers sets where a tokenizer has none

    with pytest.raises(OverflowError, match="int too big to convert"):
        bert_score.utils.sent_encode(tokenizer, "며칠이 걸렸다.")


def test_trl_writes_a_model_card_at_every_save():
    assert "self.create_model_card(" in inspect.getsource(GRPOTrainer._save_checkpoint)


def test_trl_counts_equal_groups_by_a_float32_deviation():
    source = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    assert "torch.isclose(std_rewards, torch.zeros_like(std_rewards))" in source

    equal_rewards = torch.full((1, 8), 0.3)
    deviation = nanstd(equal_rewards, dim=1)
    assert not torch.isclose(deviation, torch.zeros(1)).any(), "TRL's deviation is exact now"


def test_trl_logs_nothing_about_thoughts():
    source = inspect.getsource(GRPOTrainer)

    assert "_metrics[mode][" in source
    assert not re.search(r'_metrics\[mode\]\["[^"]*(think|thought|reasoning)', source)


@pytest.mark.parametrize("name", ['self._logs["completion"].extend(gather_object(', "maxlen="])
def test_trl_keeps_the_completions_of_a_round_of_all_processes(name):
    assert name in inspect.getsource(GRPOTrainer), "DRIFT: library_fixes.measure_rounds"


def test_decoding_leaves_out_tags_that_are_special_tokens():
    tokenizer = load_tokenizer(TINY_MODEL)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<think>"]})
    ids = tokenizer("<think>며칠", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "며칠"

    library_fixes.keep_tags(tokenizer, ["<think>", "</think>"])

    assert tokenizer("<think>며칠", add_special_tokens=False)["input_ids"] == ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<think>며칠"


def test_transformers_registers_a_further_hook_at_every_call(smallest_llama):
    for _ in range(2):
        smallest_llama.enable_input_require_grads()

    assert len(smallest_llama.get_input_embeddings()._forward_hooks) == 2


def test_trl_counts_micro_batches_from_zero():
    assert "self._step = 0" in inspect.getsource(GRPOTrainer.__init__)
    assert "self._step % generate_every" in inspect.getsource(GRPOTrainer._prepare_inputs)


def test_trl_shuffles_with_a_generator_that_starts_anew():
    first_process = RepeatSampler(range(50), mini_repeat_count=1, seed=0)
    new_process = RepeatSampler(range(50), mini_repeat_count=1, seed=0)

    first_epoch = list(first_process)
    second_epoch = list(first_process)

    assert list(new_process) == first_epoch
    assert second_epoch != first_epoch


def test_trainer_reads_adapters_with_autocast():
    source = inspect.getsource(Trainer._load_from_checkpoint)

    assert "load_adapter(" in source
    assert "autocast_adapter_dtype" not in source


# -- rollouts from a server ------------------------------------------------------------------------


def test_trl_asks_a_rollout_func_for_what_the_server_returns():
    source = inspect.getsource(GRPOTrainer._generate)

    assert "output = self.rollout_func(prompts, self)" in source
    assert 'required_keys = {"prompt_ids", "completion_ids", "logprobs"}' in source
    assert_has(["prompts"], parameters(GRPOTrainer._tokenize_prompts), "GRPOTrainer")


def test_trl_corrects_the_rollouts_of_its_own_vllm_only():
    """Else those of a server would be corrected twice."""
    source = inspect.getsource(GRPOTrainer._compute_loss)

    assert "if self.use_vllm and self.vllm_importance_sampling_correction and" in source


def test_trl_takes_advantages_of_single_tokens():
    assert "if advantages.dim() == 1:" in inspect.getsource(GRPOTrainer._compute_loss)


def test_trl_warns_of_every_rollout_func():
    source = inspect.getsource(GRPOTrainer.__init__)

    assert "You are using 'rollout_func', which is an experimental feature" in source
