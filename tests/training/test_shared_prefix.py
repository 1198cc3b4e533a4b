"""The shared prompt is computed once: same rollouts, losses and gradients as TRL's own way."""

from __future__ import annotations

import copy

import pytest
import torch
from datasets import Dataset
from helpers import TINY_MODEL, smoke_settings
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
from trl import GRPOConfig, GRPOTrainer

from grpo_helpers import shared_prefix
from grpo_helpers.models import load_tokenizer
from grpo_helpers.settings import CHOICES
from grpo_helpers.shared_prefix import SharedPrefixTrainer, keep_groups_together
from grpo_helpers.shared_prompts import (
    SharedPrompts,
    generate_from_shared_prompts,
    why_not_shared,
)
from grpo_helpers.training import build_trainer, grpo_config, prepare

TRL_LOGPS = GRPOTrainer._get_per_token_logps_and_entropies
LOSS_TYPES = CHOICES["loss_type"]
VOCABULARY = 60

SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}


def small_model(kind, **changes):
    """Return a model of a kind with random weights."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **(SIZES | changes))
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()


# -- which rows have the same prompt ---------------------------------------------------------------


def rows_of_groups(*sizes, padding=0):
    """Return prompts of random tokens, each in as many rows as ``sizes`` says, and their mask."""
    torch.manual_seed(1)
    ids = torch.randint(3, VOCABULARY, (len(sizes), 9))
    mask = torch.ones_like(ids)
    ids[0, :padding] = 0
    mask[0, :padding] = 0

    repeats = torch.tensor(sizes)
    return ids.repeat_interleave(repeats, 0), mask.repeat_interleave(repeats, 0)


def test_prompts_are_numbered_as_they_first_appear():
    ids, mask = rows_of_groups(2, 1, 3)
    assert SharedPrompts.of(ids, mask).prompt_of.tolist() == [0, 0, 1, 2, 2, 2]


def test_same_tokens_with_another_mask_are_another_prompt():
    ids, mask = rows_of_groups(2)
    mask[1, 0] = 0
    assert SharedPrompts.of(ids, mask).count == 2


# -- rollouts --------------------------------------------------------------------------------------

MODELS = {
    "llama": {},
    "llama with as many key heads": {"num_key_value_heads": 4},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "mistral": {"sliding_window": None},
}
GROUPS = {
    "equal groups": (4, 4),
    "groups of several sizes": (1, 5, 2),
    "one group": (6,),
    "no group": (1, 1, 1),
}


def generation(sampled):
    """Return how to generate six tokens."""
    sampling = {"temperature": 0.7, "top_k": 0} if sampled else {}
    return GenerationConfig(
        max_new_tokens=6, pad_token_id=0, eos_token_id=1, do_sample=sampled, **sampling
    )


def both_ways(model, ids, mask, config):
    """Return what the model generates in its own way, and from shared prompts."""
    texts = []
    for generate in (model.generate, shared_generate(model)):
        torch.manual_seed(2)
        with torch.no_grad():
            texts.append(generate(input_ids=ids, attention_mask=mask, generation_config=config))
    return texts


def shared_generate(model):
    """Return a function that generates from shared prompts."""

    def generate(**inputs):
        return generate_from_shared_prompts(model, model.generate, **inputs)

    return generate


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("kind", MODELS)
def test_model_generates_the_same_from_shared_prompts(kind, sampled):
    model = small_model(kind.split()[0], **MODELS[kind])
    ids, mask = rows_of_groups(4, 4, padding=3)
    usual, shared = both_ways(model, ids, mask, generation(sampled))
    assert usual.equal(shared)


@pytest.mark.parametrize("groups", GROUPS)
def test_groups_of_any_sizes_generate_the_same(groups):
    ids, mask = rows_of_groups(*GROUPS[groups], padding=2)
    usual, shared = both_ways(small_model("llama"), ids, mask, generation(sampled=True))
    assert usual.equal(shared)


def test_rows_in_any_order_generate_the_same():
    ids, mask = rows_of_groups(3, 3, padding=2)
    order = torch.tensor([3, 0, 4, 1, 5, 2])
    usual, shared = both_ways(small_model("llama"), ids[order], mask[order], generation(True))
    assert usual.equal(shared)


def test_model_attends_in_its_own_way_afterwards():
    model = small_model("llama")
    ids, mask = rows_of_groups(2)
    both_ways(model, ids, mask, generation(sampled=False))
    assert model.config._attn_implementation == "sdpa"


def test_failure_while_sampling_leaves_the_attention_as_it_was():
    model = small_model("llama")
    ids, mask = rows_of_groups(2)

    def fail(**_):
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        generate_from_shared_prompts(model, fail, ids, mask, generation_config=generation(False))
    assert model.config._attn_implementation == "sdpa"


# -- models that cannot share ----------------------------------------------------------------------

UNSHARED = {
    "a sliding window": ("mistral", {"sliding_window": 4}, "remembers every token"),
    "sliding and full layers": ("gemma3_text", {"head_dim": 8}, "remembers every token"),
    "capped scores": ("llama", {"attn_logit_softcapping": 30.0}, "caps its scores"),
    "linear attention": (
        "qwen3_next",
        {
            "head_dim": 8,
            "linear_num_value_heads": 2,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "num_experts": 2,
            "num_experts_per_tok": 1,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
        },
        "remembers every token",
    ),
}


@pytest.mark.parametrize("kind", UNSHARED)
def test_reason_is_given_for_a_model_with(kind):
    name, changes, reason = UNSHARED[kind]
    assert reason in why_not_shared(small_model(name, **changes))


def test_plain_model_has_no_reason():
    assert why_not_shared(small_model("llama")) == ""


# -- micro-batches ---------------------------------------------------------------------------------


def micro_batches():
    """Return two micro-batches of a round, the rows of three prompts mixed."""
    ids, mask = rows_of_groups(4, 2, 2)
    order = torch.tensor([0, 4, 6, 1, 2, 5, 7, 3])
    rows = {"prompt_ids": ids[order], "prompt_mask": mask[order], "advantages": order.float()}
    halves = []
    for half in (slice(0, 4), slice(4, 8)):
        batch = {name: values[half] for name, values in rows.items()}
        halves.append(batch | {"num_items_in_batch": torch.tensor(99)})
    return halves


def test_rows_of_a_prompt_come_together():
    first, _ = keep_groups_together(micro_batches())
    assert SharedPrompts.of(first["prompt_ids"], first["prompt_mask"]).count == 1


def test_no_row_is_lost_between_micro_batches():
    batches = keep_groups_together(micro_batches())
    rows = torch.cat([batch["advantages"] for batch in batches])
    assert sorted(rows.tolist()) == list(range(8))


def test_size_of_micro_batches_stays():
    assert [len(batch["prompt_ids"]) for batch in keep_groups_together(micro_batches())] == [4, 4]


# -- a step of training ----------------------------------------------------------------------------


def trainer_of(folder, **changes):
    """Return a trainer of the smoke profile, built as a run builds it."""
    settings = smoke_settings(folder, **({"num_threads": 1, "max_steps": 2} | changes))
    trainer = build_trainer(settings, prepare(settings), grpo_config(settings)).trainer
    # TRL's own flow callback is enough: nothing need be answered or written.
    trainer.callback_handler.callbacks = trainer.callback_handler.callbacks[:1]
    return trainer


def loss_and_gradients(trainer, inputs):
    """Return the loss of a micro-batch, and its gradient for every trained weight."""
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()

    trained = [weights for weights in trainer.model.parameters() if weights.requires_grad]
    return loss.item(), torch.cat([weights.grad.flatten() for weights in trained])


@pytest.fixture(scope="module", params=["no KL", "one group", "KL", "two iterations", "4 bit"])
def prepared(request, tmp_path_factory):
    """A trainer of the shared way after its first step, and a micro-batch of its next round."""
    changes = {
        "no KL": {},
        "one group": {"num_generations": 8},  # one prompt, so none is padded
        "KL": {"beta": 0.1},
        "two iterations": {"num_iterations": 2},
        "4 bit": {"use_quant": True},
    }[request.param]
    trainer = trainer_of(tmp_path_factory.mktemp("shared"), max_steps=1, **changes)
    trainer.train()

    trainer.model.train()
    rows = next(iter(trainer.get_train_dataloader()))
    trainer._buffered_inputs = None
    return trainer, trainer._prepare_inputs(rows)


def assert_as_trl(trainer, inputs, monkeypatch):
    """Assert that loss and gradient of a micro-batch are TRL's; advantages differ row by row."""
    inputs = copy.copy(inputs)
    inputs["advantages"] = torch.linspace(-1, 1, len(inputs["advantages"]))
    loss, gradient = loss_and_gradients(trainer, inputs)

    monkeypatch.setattr(SharedPrefixTrainer, "_get_per_token_logps_and_entropies", TRL_LOGPS)
    trl_loss, trl_gradient = loss_and_gradients(trainer, inputs)

    # Over a quantised base, TRL keeps the adapter in bfloat16: three digits.
    accuracy = 3e-5 if gradient.dtype == torch.float32 else 1e-2
    assert loss == pytest.approx(trl_loss, rel=accuracy, abs=1e-7)
    assert (gradient - trl_gradient).norm() <= accuracy * trl_gradient.norm()


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_loss_and_gradient_are_those_of_trl(prepared, loss_type, monkeypatch):
    trainer, inputs = prepared
    monkeypatch.setattr(trainer, "loss_type", loss_type)
    assert_as_trl(trainer, inputs, monkeypatch)


@pytest.mark.parametrize("loss_type", ["grpo", "luspo"])  # those TRL recommends with sequences
def test_sequence_loss_and_gradient_are_those_of_trl(prepared, loss_type, monkeypatch):
    trainer, inputs = prepared
    monkeypatch.setattr(trainer, "importance_sampling_level", "sequence")
    monkeypatch.setattr(trainer, "loss_type", loss_type)
    assert_as_trl(trainer, inputs, monkeypatch)


def test_prompts_of_a_micro_batch_are_read_once(prepared, monkeypatch):
    trainer, inputs = prepared
    read = []
    usual = shared_prefix.read_prompts

    def reading(model, shared, **kwargs):
        read.append(shared.count)
        return usual(model, shared, **kwargs)

    monkeypatch.setattr(shared_prefix, "read_prompts", reading)
    loss_and_gradients(trainer, inputs)
    assert set(read) == {len(inputs["prompt_ids"]) // trainer.num_generations}


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """What two steps log, by whether prompts are shared."""
    logged = {}
    for shared in (True, False):
        folder = tmp_path_factory.mktemp("logs")
        changes = {"gradient_accumulation_steps": 2, "steps_per_generation": 2}
        trainer = trainer_of(folder, shared_prefix=shared, **changes)
        trainer.train()
        logged[shared] = [row for row in trainer.state.log_history if "reward" in row]
    return logged


@pytest.mark.parametrize("name", ["reward", "completions/mean_length", "num_tokens"])
def test_two_steps_sample_the_same_completions(logs, name):
    shared, apart = ([row[name] for row in logs[way]] for way in (True, False))
    assert shared == apart


@pytest.mark.parametrize("name", ["loss", "grad_norm"])
def test_two_steps_log_the_same_up_to_rounding(logs, name):
    shared, apart = ([row[name] for row in logs[way]] for way in (True, False))
    assert shared == pytest.approx(apart, rel=1e-4, abs=1e-6)


def test_model_with_a_sliding_window_is_trained_in_trls_way(tmp_path, capsys):
    tokenizer = load_tokenizer(TINY_MODEL)
    model = small_model("mistral", sliding_window=4, vocab_size=len(tokenizer))
    trainer = SharedPrefixTrainer(
        model=model,
        args=GRPOConfig(
            str(tmp_path),
            use_cpu=True,
            bf16=False,
            report_to="none",
            max_steps=1,
            per_device_train_batch_size=2,
            num_generations=2,
            max_completion_length=3,
        ),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([{"prompt": "며칠이 걸렸다."}]),
        reward_funcs=lambda completions, **_: [1.0, 0.0],
    )
    trainer.train()
    assert "no effect: not every layer of Mistral" in capsys.readouterr().out


def test_trl_itself_trains_if_prompts_are_not_to_be_shared(tmp_path):
    assert type(trainer_of(tmp_path, shared_prefix=False)) is GRPOTrainer


def test_checkpointed_model_is_trained_in_trls_way(tmp_path, capsys):
    trainer = trainer_of(tmp_path, max_steps=1, gradient_checkpointing=True)
    trainer.train()
    assert "in the rollouts only" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changes",
    [
        {"steps_per_generation": 2, "gradient_accumulation_steps": 1},
        {"loss_type": "bnpo"},
        {"extra_grpo_args": "{top_entropy_quantile: 0.5}"},
        {"extra_grpo_args": "{entropy_coef: 0.01}"},
    ],
)
def test_rows_stay_where_trl_put_them_if_it_matters(changes, tmp_path):
    assert not trainer_of(tmp_path, **changes)._may_sort_rows()
