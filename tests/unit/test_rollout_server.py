"""A server that samples is asked in vLLM's words, and refused before the run if it cannot."""

from __future__ import annotations

import json
import math

import pytest
from helpers import ROOT, TINY_MODEL
from peft import get_peft_model
from rollout_servers import FixedSampler, serving
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from grpo_helpers.files import InputError
from grpo_helpers.models import load_tokenizer, lora_config
from grpo_helpers.rollout_server import (
    RolloutServer,
    ServerError,
    check_rollout_server,
    parse_completions,
    trial_adapter,
)
from grpo_helpers.settings import TrainSettings

NOBODY = "http://127.0.0.1:9"  # the port of a service that no machine offers any more


def reply(*choices):
    """Return the text of a reply with these choices."""
    return json.dumps({"choices": list(choices)})


def choice(index, ids, log_probs):
    return {"index": index, "token_ids": ids, "logprobs": {"token_logprobs": log_probs}}


# -- replies ---------------------------------------------------------------------------------------


def test_completions_come_in_the_order_of_the_prompts():
    text = reply(choice(1, [7], [-0.5]), choice(0, [3, 2], [-1.0, -2.0]))

    assert parse_completions(text, 2).ids == [[3, 2], [7]]


def test_log_probability_that_the_server_lacks_is_nan():
    completions = parse_completions(reply(choice(0, [3, 2], [-1.0, None])), 1)

    first, second = completions.log_probs[0]
    assert first == -1.0
    assert math.isnan(second)


UNUSABLE = {
    "fewer completions": (reply(choice(0, [3], [-1.0])), "1 instead of 2"),
    "no token ids": (reply({"index": 0}, {"index": 1}), "no token_ids"),
    "an empty completion": (reply(choice(0, [], []), choice(1, [3], [-1.0])), "no token_ids"),
    "no log-probabilities": (
        reply({"index": 0, "token_ids": [3], "logprobs": None}, choice(1, [3], [-1.0])),
        "not every token has a log-probability",
    ),
    "one log-probability too few": (
        reply(choice(0, [3, 4], [-1.0]), choice(1, [3], [-1.0])),
        "not every token has a log-probability",
    ),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_reply_without_all_of_it_is_no_use(case):
    text, message = UNUSABLE[case]
    with pytest.raises(ValueError, match=message):
        parse_completions(text, 2)


# -- requests --------------------------------------------------------------------------------------


@pytest.fixture
def server():
    """A server that samples from a fixed distribution."""
    with serving(FixedSampler()) as running:
        yield running


def sample(server, **sampling):
    """Sample two completions of two tokens from the base model."""
    prompts = [[5, 6], [5, 6]]
    asked = {"temperature": 1.0, "max_tokens": 2} | sampling
    return RolloutServer(server.address).sample(TINY_MODEL, prompts, asked)


def test_equal_prompts_get_completions_of_their_own(server):
    first, second = sample(server, max_tokens=8).ids

    assert first != second


def test_request_sends_no_seed(server):
    sample(server)

    (_, body) = server.requests[-1]
    assert "seed" not in body


def test_words_of_the_server_are_passed_on(server):
    with pytest.raises(ServerError, match=r"cannot sample: The model `x` does not exist\."):
        RolloutServer(server.address).sample("x", [[5]], {})


def test_server_that_is_not_there_is_named():
    with pytest.raises(ServerError, match=f"rollout_server {NOBODY} does not answer"):
        RolloutServer(NOBODY).base_models()


def test_adapters_are_not_base_models(server, tmp_path):
    write_adapter(tmp_path)
    client = RolloutServer(server.address)
    client.load_adapter("mine", tmp_path)

    assert [model.name for model in client.base_models()] == [TINY_MODEL]


def write_adapter(folder):
    """Write what the server looks at in an adapter."""
    (folder / "adapter_config.json").write_text('{"r": 4}')
    (folder / "adapter_model.safetensors").touch()


# -- before the run --------------------------------------------------------------------------------


def check(server, **changes):
    """Check a server for a run with the embedded model and two prompts."""
    settings = TrainSettings(rollout_server=server.address, **changes)
    check_rollout_server(settings, load_tokenizer(TINY_MODEL), ["며칠이 걸렸다.", "며칠"])


def test_server_that_can_sample_is_named(server, capsys):
    check(server)

    line = f"rollouts come from {server.address}: vLLM 0.30.0 with {TINY_MODEL}\n"
    assert capsys.readouterr().out == line


def test_check_leaves_no_adapter_behind(server):
    check(server)

    assert [path for path, _ in server.calls()] == [
        "/v1/load_lora_adapter",
        "/v1/completions",
        "/v1/unload_lora_adapter",
    ]
    assert not server.adapters


CANNOT = {
    "another model": ({"model": "Qwen/Qwen3-0.6B"}, "another model than the run: Qwen/Qwen3-0.6B"),
    "too short": ({"max_length": 100}, "takes 100 tokens at most"),
    "no adapters at run time": ({"runtime_adapters": False}, "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"),
    "no adapters at all": ({"enable_lora": False}, "--enable-lora"),
    "a smaller rank": ({"max_rank": 8}, "LoRA rank 16 is greater than max_lora_rank 8"),
    "an engine that fails": ({"broken": {"/v1/completions"}}, "cannot sample: EngineCore"),
    "raw log-probabilities": (
        {"sampler": FixedSampler(processed=False)},
        "--logprobs-mode processed_logprobs",
    ),
}


@pytest.mark.parametrize("case", CANNOT)
def test_server_that_cannot_sample_for_the_run_is_refused(case):
    options, message = CANNOT[case]
    with (
        serving(**({"sampler": FixedSampler()} | options)) as server,
        pytest.raises(InputError) as error,
    ):
        check(server)

    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_same_folder_under_another_name_is_the_same_model():
    with serving(FixedSampler(), model="policy", root=str(ROOT / TINY_MODEL)) as server:
        check(server)

        assert server.requests


def test_adapter_of_the_check_has_the_tensors_of_the_run(tmp_path):
    settings = TrainSettings()
    base = AutoModelForCausalLM.from_pretrained(ROOT / TINY_MODEL)
    get_peft_model(base, lora_config(settings)).save_pretrained(tmp_path)

    with trial_adapter(settings) as folder:
        of_check = shapes(folder)

    assert of_check == shapes(tmp_path)


def shapes(folder):
    """Return the shape of every tensor of an adapter, by name."""
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
