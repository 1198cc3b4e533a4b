"""Every profile of ``params/``: its predicted memory, and all of its run but the weights."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from helpers import ROOT, TINY_MODEL
from safetensors.torch import save_file

from grpo_helpers.architecture import load_architecture, lora_params
from grpo_helpers.data import load_items
from grpo_helpers.files import InputError
from grpo_helpers.memory import predict_params, verdict
from grpo_helpers.models import lora_config
from grpo_helpers.settings import EvaluateSettings, TrainSettings
from grpo_helpers.training import grpo_config, prepare, read_params
from tools.benchmarks.memory_trace import llama_config

CARDS = {  # profile -> GiB that torch counts on the smallest card it is for
    "default": 4,
    "smoke": 4,
    "gpu_24gb": 22.0,  # an A10G, sold with 24 GB; error correction takes its share
    "gpu_24gb_mini": 22.0,
    "gpu_80gb": 44.3,  # an A40 or L40S, sold with 48 GB
    "multi_gpu": 22.0,
    "small_real": 7.6,  # of 8 GB
    "thinking": 4,
    "t4": 14.5,  # of 16 GB
}
GPU_PROFILES = sorted(CARDS.keys() - {"default", "smoke", "thinking"})
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
)
each_profile = pytest.mark.parametrize("profile", CARDS)


def params_file(profile: str, tmp_path: Path) -> str:
    """Return a file with all of a profile's parameters; the notebook's own where it names none."""
    file = ROOT / "params" / profile / "04_train.yaml"
    named = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}

    whole = tmp_path / "whole.yaml"
    whole.write_text(yaml.safe_dump(TrainSettings(**named).as_dict()), encoding="utf-8")
    return str(whole)


def stand_in(model_name: str, tmp_path: Path) -> Path:
    """Return a model folder with a model's shape, no weights, and a tokenizer of the repository.

    That is the model's own, or the embedded model's in the place of one that is not here.
    """
    own = ROOT / model_name
    tokenizer = own if own.is_dir() else ROOT / TINY_MODEL
    folder = tmp_path / "model"
    folder.mkdir()
    for name in TOKENIZER_FILES:
        shutil.copy(tokenizer / name, folder)

    llama_config(load_architecture(model_name)).save_pretrained(folder)
    save_file({}, folder / "model.safetensors")
    return folder


def stand_in_settings(profile: str, tmp_path: Path, **changes: str) -> TrainSettings:
    """Return a profile's settings with a model that has no weights, on any device."""
    file = params_file(profile, tmp_path)
    folder = stand_in(read_params(file).model_name, tmp_path)
    elsewhere = {"model_name": str(folder), "device": "auto"}
    return read_params(file, list((elsewhere | changes).items()))


def test_every_profile_has_a_card():
    profiles = {path.parent.name for path in (ROOT / "params").glob("*/04_train.yaml")}
    assert profiles | {"default"} == set(CARDS)


@each_profile
def test_predicted_memory_of_a_profile_fits_its_card(profile, tmp_path):
    """For its longest prompt, with a token for each character, as in no model that knows Korean."""
    prediction = predict_params(params_file(profile, tmp_path))
    assert verdict(prediction.peak, CARDS[profile]) == "fits"


@pytest.mark.parametrize("profile", GPU_PROFILES)
def test_file_of_a_gpu_profile_names_all_that_a_prediction_needs(profile, tmp_path):
    whole = predict_params(params_file(profile, tmp_path), prompt_tokens=1024)
    own = predict_params(ROOT / "params" / profile / "04_train.yaml", prompt_tokens=1024)
    assert own.peak == whole.peak


@pytest.mark.parametrize("profile", GPU_PROFILES)
def test_gpu_profile_stops_without_a_gpu(profile, tmp_path):
    assert read_params(params_file(profile, tmp_path)).device == "cuda"


@pytest.mark.parametrize("profile", GPU_PROFILES)
def test_gpu_profile_has_its_notebook_05(profile):
    trained = yaml.safe_load((ROOT / "params" / profile / "04_train.yaml").read_text("utf-8"))
    answered = ROOT / "params" / profile / "05_evaluate_and_select.yaml"
    size = yaml.safe_load(answered.read_text("utf-8"))["inference_batch_size"]
    assert size == trained["inference_batch_size"]


@pytest.mark.parametrize("profile", GPU_PROFILES)
def test_gpu_profile_samples_the_32_completions_of_a_step_in_one_round(profile, tmp_path):
    """A token takes the host as long for 32 completions as for 8: four rounds take four times."""
    plan = read_params(params_file(profile, tmp_path)).batch_plan

    assert plan.rounds_per_step == 1
    assert plan.completions_per_step == 32


@pytest.mark.parametrize("profile", GPU_PROFILES)
def test_gpu_profile_cuts_off_hardly_any_answer_that_is_as_long_as_gold(profile, tmp_path):
    """With a token for each character, as in no model that knows Korean."""
    settings = read_params(params_file(profile, tmp_path))
    lengths = [len(item.answer) for item in load_items(settings.train_data_path)]
    cut_off = [length for length in lengths if length > settings.max_completion_length]

    assert len(cut_off) < 0.01 * len(lengths)


@pytest.mark.parametrize("profile", GPU_PROFILES)
def test_gpu_profile_says_which_encoder_its_bertscore_has(profile):
    text = (ROOT / "params" / profile / "04_train.yaml").read_text(encoding="utf-8")

    assert "bertscore_model" in text


# -- the run of a profile --------------------------------------------------------------------------


@pytest.mark.heavy
@each_profile
def test_profile_prepares_its_items_and_drops_none(profile, tmp_path):
    settings = stand_in_settings(profile, tmp_path, dtype="float32")  # a CPU has no float16
    prepared = prepare(settings)
    assert prepared.train_items
    assert prepared.eval_items
    assert not prepared.dropped


@pytest.mark.heavy
@each_profile
def test_profile_is_accepted_by_trl(profile, tmp_path):
    settings = stand_in_settings(profile, tmp_path)
    config = grpo_config(settings)
    assert config.num_generations == settings.num_generations
    assert config.bf16 == (settings.dtype == "bfloat16")
    assert config.fp16 == (settings.dtype == "float16")


@pytest.mark.heavy
@each_profile
def test_adapter_of_a_profile_has_the_predicted_parameters(profile, tmp_path):
    from peft import get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = stand_in_settings(profile, tmp_path)
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(settings.model_name))
        model = get_peft_model(base, lora_config(settings))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)

    arch = load_architecture(settings.model_name)
    targets = settings.lora_target_modules.split(",")
    assert trained == lora_params(arch, settings.lora_r, targets)


@each_profile
def test_step_at_the_rate_of_a_profile_moves_the_adapter(profile, tmp_path):
    """A step must be larger than half the distance of two neighbouring numbers, or it is lost.

    TRL keeps the adapter in bfloat16 over a quantised base. A starts between -1/64 and 1/64 at a
    width of 4,096 (its bound is one over the root of it); an Adam step is at most the rate, and
    often half of it.
    """
    settings = read_params(params_file(profile, tmp_path))
    is_narrow = settings.use_quant and settings.dtype == "bfloat16"
    dtype = torch.bfloat16 if is_narrow else torch.float32

    weight = torch.tensor(1 / 128, dtype=dtype)
    step = torch.tensor(settings.learning_rate / 2, dtype=dtype)
    assert weight - step != weight


def test_card_older_than_ampere_is_refused_for_bfloat16(tmp_path, monkeypatch):
    """PyTorch calls it supported there, for it is imitated; a T4's names stand in for one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")

    properties = SimpleNamespace(total_memory=15 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda: properties)

    with pytest.raises(InputError, match="Tesla T4 is older: set dtype=float16"):
        prepare(read_params(params_file("gpu_24gb", tmp_path)))


# -- evaluation ------------------------------------------------------------------------------------

EVALUATIONS = sorted((ROOT / "params").glob("*/05_evaluate_and_select.yaml"))
each_evaluation = pytest.mark.parametrize("file", EVALUATIONS, ids=lambda file: file.parent.name)


def evaluation_parameters(file):
    """Return notebook 05's parameters with a profile's differences."""
    parameters = {field.name: field.default for field in fields(EvaluateSettings)}
    return parameters | yaml.safe_load(file.read_text(encoding="utf-8"))


@each_evaluation
def test_profile_evaluates_on_the_dev_file_of_the_run(file):
    assert evaluation_parameters(file)["label_path"] == ""


@each_evaluation
def test_profile_evaluates_with_the_examples_it_trains_with(file):
    trained = read_params(str(file.with_name("04_train.yaml")))
    assert evaluation_parameters(file)["few_shot_data_path"] == trained.few_shot_data_path


# -- several GPUs ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fsdp_config():
    from accelerate.commands.config.config_args import load_config_from_file

    return load_config_from_file(str(ROOT / "params/accelerate/fsdp.yaml"))


def test_fsdp_configuration_starts_four_processes(fsdp_config):
    assert fsdp_config.num_processes == 4


def test_fsdp_configuration_is_of_version_two(fsdp_config):
    assert fsdp_config.fsdp_config["fsdp_version"] == 2


def test_fsdp_configuration_wraps_whole_layers(fsdp_config):
    policy = fsdp_config.fsdp_config["fsdp_auto_wrap_policy"]
    assert policy == "TRANSFORMER_BASED_WRAP"


# -- commands on the pages -------------------------------------------------------------------------

PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
COMMAND = re.compile(r"^python -m (grpo_helpers\.\w+) ((?:.*\\\n)*.*)", re.MULTILINE)


def page_commands() -> list[tuple[str, list[str]]]:
    """Return (module, words) of every command of the package on README and ``docs/``."""
    commands = []
    for page in PAGES:
        for module, words in COMMAND.findall(page.read_text(encoding="utf-8")):
            commands.append((module, shlex.split(words, comments=True)))
    return commands


PAGE_COMMANDS = page_commands()
each_command = pytest.mark.parametrize(
    ("module", "words"), PAGE_COMMANDS, ids=[module for module, _ in PAGE_COMMANDS]
)


@cache
def known_options(module: str) -> set[str]:
    """Return the options that a module's ``--help`` lists."""
    command = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(re.findall(r"(?<![\w-])--?\w+", done.stdout))


@each_command
def test_options_of_a_pages_command_exist(module, words):
    options = {word for word in words if word.startswith("-")}
    assert options <= known_options(module)


@pytest.fixture
def answering_words():
    """The words of the command on the GPU page that answers with an adapter."""
    for module, words in PAGE_COMMANDS:
        if module.endswith("inference") and "--model_id" in words:
            return words
    raise AssertionError("no page answers with --model_id")


@pytest.mark.parametrize(
    ("option", "parameter"),
    [
        ("--model_id", "model_name"),
        ("--quant_type", "quant_type"),
        ("--dtype", "dtype"),
        ("--few_shot_data_path", "few_shot_data_path"),
        ("--num_few_shot", "num_few_shot"),
        ("--max_new_tokens", "max_completion_length"),
        ("--batch_size", "inference_batch_size"),
    ],
)
def test_gpu_page_answers_as_its_profile_trains(answering_words, option, parameter):
    trained = read_params(str(ROOT / "params/gpu_24gb/04_train.yaml"))
    value = answering_words[answering_words.index(option) + 1]
    assert value == str(getattr(trained, parameter))
