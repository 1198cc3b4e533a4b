"""What the course relies on in TRL, PEFT, transformers and bitsandbytes: an upgrade that moves it fails here, by name.

Each test says which of our modules leans on what it checks. Nothing is trained.
"""

import dataclasses
import inspect
import re

import bitsandbytes as bnb
import pytest
from peft import LoraConfig, PeftModel
from transformers import BitsAndBytesConfig, Trainer, TrainerCallback, TrainerControl, TrainerState
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from grpo_helpers import callbacks
from grpo_helpers.files import project_root
from grpo_helpers.settings import TrainSettings
from grpo_helpers.training import grpo_config

CONFIG = {field.name: field for field in dataclasses.fields(GRPOConfig)}
OURS_ONLY = {  # settings of our own; every other name in notebook 04 is TRL's, transformers' or PEFT's
    "run_name", "train_data_path", "eval_data_path", "few_shot_data_path", "instruct_path", "num_few_shot",
    "max_prompt_tokens", "model_name", "use_quant", "quant_type", "lora_r", "lora_alpha", "lora_dropout",
    "lora_target_modules", "reward_weights", "bertscore_model", "bertscore_layers", "inference_batch_size",
    "stop_on_alarm", "device", "resume", "num_processes", "num_threads", "extra_grpo_args",
}  # fmt: skip


def parameters(function):
    return inspect.signature(function).parameters


def missing(names, known, where):
    """Return one line for what is not there any more."""
    gone = sorted(set(names) - set(known))
    return f"DRIFT: {where} has no {', '.join(gone)}" if gone else ""


def test_every_parameter_of_notebook_04_that_is_not_ours_is_a_field_of_grpo_config():
    theirs = {field.name for field in dataclasses.fields(TrainSettings)} - OURS_ONLY
    assert not (told := missing(theirs, CONFIG, "trl.GRPOConfig (settings.TrainSettings)")), told


def test_every_field_that_training_sets_is_there():
    """By building the configuration: ``training.grpo_config`` would refuse a name that TRL does not know."""
    config = grpo_config(TrainSettings(num_processes=1))
    assert config.use_vllm is False and config.bf16 is False


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("bf16", None), ("beta", 0.0), ("num_iterations", 1), ("epsilon", 0.2), ("loss_type", "dapo"),
        ("scale_rewards", "group"), ("num_generations", 8), ("temperature", 1.0), ("use_bias_correction_kl", True),
        ("steps_per_generation", None), ("generation_batch_size", None), ("importance_sampling_level", "token"),
    ],
)  # fmt: skip
def test_the_defaults_that_the_prose_names_are_still_trls(name, default):
    found = CONFIG[name].default
    assert found == default, (
        f"DRIFT: GRPOConfig.{name} is {found!r} by default; notebooks 02 and 03 say {default!r}"
    )


def test_max_prompt_length_is_still_gone():
    assert "max_prompt_length" not in CONFIG, (
        "TRL cuts prompts again: max_prompt_tokens may not be needed any more"
    )


def test_the_trainers_take_what_training_passes():
    passed = {
        "model",
        "args",
        "processing_class",
        "train_dataset",
        "eval_dataset",
        "reward_funcs",
        "peft_config",
    }
    told = missing(
        passed | {"callbacks"}, parameters(GRPOTrainer), "trl.GRPOTrainer (training.build_trainer)"
    )
    told += missing(
        passed - {"reward_funcs"},
        parameters(SFTTrainer),
        "trl.SFTTrainer (tools.experiments.supervised)",
    )
    told += missing(
        {"max_length", "completion_only_loss"},
        {f.name for f in dataclasses.fields(SFTConfig)},
        "SFTConfig",
    )
    assert not told, told


@pytest.mark.parametrize(
    ("method", "asked"),
    [
        ("_get_train_sampler", {"dataset"}),  # run_folder.restore_position
        (
            "_load_from_checkpoint",
            {"resume_from_checkpoint", "model"},
        ),  # run_folder.restore_position
        ("get_train_dataloader", set()),  # run_folder.restore_position
        ("_generate_and_score_completions", {"inputs"}),  # training.count_equal_groups
        ("compute_loss", {"model", "inputs"}),  # notebooks 02 and 03
        (
            "_get_per_token_logps_and_entropies",
            {"input_ids", "attention_mask", "logits_to_keep"},
        ),  # notebook 02
    ],
)
def test_the_inner_methods_of_the_trainer_that_we_use_are_there(method, asked):
    assert hasattr(GRPOTrainer, method), f"DRIFT: GRPOTrainer.{method} is gone"
    told = missing(asked, parameters(getattr(GRPOTrainer, method)), f"GRPOTrainer.{method}")
    assert not told, told


def test_the_trainer_still_counts_micro_batches_where_resume_restores_them():
    source = inspect.getsource(GRPOTrainer)
    for name in (
        "self._step ",
        "self.num_iterations",
        "steps_per_generation",
        "num_items_in_batch",
    ):
        assert name in source, (
            f"DRIFT: GRPOTrainer has no {name} (run_folder.restore_position, notebook 02)"
        )


def test_what_the_count_of_equal_groups_reads_is_still_kept_by_the_trainer():
    source = inspect.getsource(GRPOTrainer)
    for name in (
        'self._logs["rewards"]',
        "self.reward_weights",
        "self.reward_func_names",
        "self.num_generations",
    ):
        assert name in source, f"DRIFT: GRPOTrainer has no {name} (training.count_equal_groups)"


def test_the_metrics_that_health_and_plots_read_are_still_logged():
    source = inspect.getsource(inspect.getmodule(GRPOTrainer))
    names = (
        "frac_reward_zero_std",
        "completions/mean_length",
        "completions/clipped_ratio",
        "entropy",
        "step_time",
    )
    for name in (*names, "reward", "num_tokens", 'f"rewards/{reward_func_name}/mean"'):
        quoted = name if name.startswith("f") else f'"{name}"'
        parts = (quoted, *([f'"{name.split("/")[-1]}"'] if "/" in name else []))
        assert any(part in source for part in parts), f"DRIFT: TRL logs no {name} (health, plots)"


def test_callbacks_have_the_hooks_and_arguments_that_ours_override():
    for name, hook in inspect.getmembers(callbacks, inspect.isclass):
        if issubclass(hook, TrainerCallback) and hook is not TrainerCallback:
            for method in (m for m in vars(hook) if m.startswith("on_")):
                assert hasattr(TrainerCallback, method), (
                    f"DRIFT: TrainerCallback.{method} is gone ({name})"
                )
                assert list(parameters(getattr(TrainerCallback, method)))[1:4] == [
                    "args",
                    "state",
                    "control",
                ]
    told = missing(
        {"global_step", "max_steps", "epoch"},
        {f.name for f in dataclasses.fields(TrainerState)},
        "TrainerState",
    )
    told += missing(
        {"should_save", "should_training_stop"},
        {f.name for f in dataclasses.fields(TrainerControl)},
        "Control",
    )
    assert not told, told


def test_a_save_is_told_to_callbacks_before_the_next_step_and_with_the_live_model():
    assert "callback_handler.on_save(" in inspect.getsource(Trainer)
    handler = inspect.getsource(inspect.getmodule(TrainerCallback))
    assert "model=self.model" in handler and "processing_class=self.processing_class" in handler


def test_lora_and_adapters_take_what_models_passes():
    fields = {"r", "lora_alpha", "lora_dropout", "target_modules", "bias", "task_type"}
    told = missing(
        fields,
        {f.name for f in dataclasses.fields(LoraConfig)},
        "peft.LoraConfig (models.lora_config)",
    )
    told += missing(
        {"autocast_adapter_dtype"},
        parameters(PeftModel.from_pretrained),
        "PeftModel.from_pretrained",
    )
    assert not told, told


def test_bitsandbytes_keeps_the_switch_that_saves_gradients_on_the_cpu():
    layer = bnb.nn.Linear4bit(64, 64)
    told = "DRIFT: Linear4bit.support_avx512bf16_for_cpu is gone; is its repacking, too? (models.keep_gradients_on_cpu)"
    assert hasattr(layer, "support_avx512bf16_for_cpu"), told
    fields = {
        "load_in_4bit",
        "load_in_8bit",
        "bnb_4bit_quant_type",
        "bnb_4bit_use_double_quant",
        "bnb_4bit_compute_dtype",
    }
    assert not (told := missing(fields, parameters(BitsAndBytesConfig), "BitsAndBytesConfig")), told


def test_the_pins_are_the_versions_that_are_installed():
    from importlib.metadata import version

    pinned = dict(
        re.findall(r"^([\w-]+)==(\S+)$", (project_root() / "constraints.txt").read_text(), re.M)
    )
    for name in ("trl", "peft", "transformers", "bitsandbytes", "accelerate", "datasets"):
        assert version(name) == pinned[name], (
            f"{name} {version(name)} is installed, {pinned[name]} was tested"
        )
