"""Every profile of ``params/``: its memory is predicted, and all of its run is built but the weights."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import yaml

from grpo_helpers.architecture import load_architecture, lora_params
from grpo_helpers.files import InputError, project_root
from grpo_helpers.memory import predict_params, verdict
from grpo_helpers.models import lora_config
from grpo_helpers.settings import EvaluateSettings, TrainSettings
from grpo_helpers.training import grpo_config, prepare, read_params
from tools.benchmarks.memory_trace import llama_config

ROOT = project_root()
CARDS = {
    "default": 4,
    "smoke": 4,
    "gpu_24gb": 24,
    "gpu_24gb_mini": 24,
    "multi_gpu": 24,
    "small_real": 8,
}  # GiB


def params_file(profile: str, tmp_path: Path) -> str:
    """Return a file with all of a profile's parameters; the notebook's own where it names none."""
    file = ROOT / "params" / profile / "04_train.yaml"
    named = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    whole = tmp_path / "whole.yaml"
    whole.write_text(yaml.safe_dump(TrainSettings(**named).as_dict()), encoding="utf-8")
    return str(whole)


def stand_in(model_name: str, tmp_path: Path) -> Path:
    """Return a model folder with the profile's shape and the embedded model's tokenizer, but no weights."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in (
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "generation_config.json",
    ):
        shutil.copy(ROOT / "data/tiny_model" / name, folder)
    llama_config(load_architecture(model_name)).save_pretrained(folder)
    return folder


def test_every_profile_is_here():
    assert {path.parent.name for path in (ROOT / "params").glob("*/04_train.yaml")} | {
        "default"
    } == set(CARDS)


@pytest.mark.parametrize("profile", CARDS)
def test_the_predicted_memory_fits_the_card_a_profile_is_for(profile, tmp_path):
    _, got = predict_params(params_file(profile, tmp_path), prompt_tokens=1024)
    assert verdict(got["peak"], CARDS[profile]) == "fits"


@pytest.mark.heavy
@pytest.mark.parametrize("profile", CARDS)
def test_all_of_a_profiles_run_is_built_but_the_weights(profile, tmp_path):
    from peft import get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    file = params_file(profile, tmp_path)
    arch = load_architecture(read_params(file).model_name)
    folder = stand_in(read_params(file).model_name, tmp_path)
    settings = read_params(
        file, [("model_name", str(folder)), ("device", "auto")]
    )  # no GPU is asked for here
    prepared = prepare(settings)
    assert prepared.train_items and prepared.eval_items and not prepared.dropped
    config = grpo_config(settings)
    assert config.num_generations == settings.num_generations and config.bf16 == settings.bf16
    with torch.device("meta"):
        model = get_peft_model(
            AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)),
            lora_config(settings),
        )
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert trained == lora_params(arch, settings.lora_r, settings.lora_target_modules.split(","))


@pytest.mark.parametrize(
    "file",
    sorted((ROOT / "params").glob("*/05_evaluate_and_select.yaml")),
    ids=lambda file: file.parent.name,
)
def test_a_profile_evaluates_on_the_files_it_answers_at_every_save(file):
    chosen = {field.name: field.default for field in fields(EvaluateSettings)}
    chosen |= yaml.safe_load(file.read_text(encoding="utf-8"))
    trained = read_params(str(file.with_name("04_train.yaml")))
    assert chosen["label_path"] == ""  # the run's own
    assert chosen["few_shot_data_path"] == trained.few_shot_data_path


def test_the_fsdp_configuration_is_one_that_accelerate_reads(tmp_path):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(ROOT / "params/accelerate/fsdp.yaml"))
    assert config.num_processes == 4 and config.fsdp_config["fsdp_version"] == 2
    assert (
        json.loads(json.dumps(config.fsdp_config))["fsdp_auto_wrap_policy"]
        == "TRANSFORMER_BASED_WRAP"
    )


def test_a_card_older_than_ampere_is_refused_for_bf16(tmp_path, monkeypatch):
    """PyTorch calls bf16 supported there, for it is imitated; the names of a T4 stand in for one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    with pytest.raises(InputError, match="Tesla T4 is older: set bf16=false, use_quant=false"):
        prepare(read_params(params_file("gpu_24gb", tmp_path)))


@pytest.mark.parametrize("profile", CARDS)
def test_a_step_at_a_profiles_rate_moves_the_adapter(profile, tmp_path):
    """TRL keeps the adapter in bfloat16 over a quantised base: a step below half the distance of two numbers is lost.

    A starts between -1/64 and 1/64 at a width of 4,096 (its bound is one over the root of it); an Adam step is at
    most the rate, and often a half of it.
    """
    settings = read_params(params_file(profile, tmp_path))
    kept = torch.bfloat16 if settings.use_quant else torch.float32
    weight = torch.tensor(1 / 128, dtype=kept)
    assert weight - torch.tensor(settings.learning_rate / 2, dtype=kept) != weight


PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
COMMAND = re.compile(r"^python -m (grpo_helpers\.\w+) ((?:.*\\\n)*.*)", re.M)
PAGE_COMMANDS = [command for page in PAGES for command in COMMAND.findall(page.read_text("utf-8"))]


@pytest.mark.parametrize(
    ("module", "words"), PAGE_COMMANDS, ids=[name for name, _ in PAGE_COMMANDS]
)
def test_options_of_a_pages_command_exist(module, words):
    told = subprocess.run(
        [sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True
    ).stdout
    known = set(re.findall(r"(?<![\w-])--?\w+", told))
    assert {word for word in shlex.split(words, comments=True) if word.startswith("-")} <= known


def test_gpu_page_answers_with_an_adapter_as_its_profile_trained_it():
    words = next(
        shlex.split(words, comments=True)
        for name, words in PAGE_COMMANDS
        if name.endswith("inference") and "--model_id" in words
    )
    given = dict(zip(words, [*words[1:], ""], strict=True))
    settings = read_params(str(ROOT / "params/gpu_24gb/04_train.yaml"))
    assert (
        given["--model_id"] == settings.model_name and given["--quant_type"] == settings.quant_type
    )
    assert (
        given["--few_shot_data_path"] == settings.few_shot_data_path
        and ("--bf16" in words) == settings.bf16
    )
    numbers = [int(given[f"--{name}"]) for name in ("num_few_shot", "max_new_tokens", "batch_size")]
    assert numbers == [
        settings.num_few_shot,
        settings.max_completion_length,
        settings.inference_batch_size,
    ]
