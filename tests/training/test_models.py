"""Models as they come: quantised, from a GGUF file, with templates and stop tokens of their own."""

import gc

import numpy as np
import pytest
import torch

from grpo_helpers.files import InputError
from grpo_helpers.inference import generate_answers, run_inference, stop_tokens
from grpo_helpers.models import (
    load_model,
    load_tokenizer,
    load_with_adapter,
    lora_config,
    model_source,
)
from grpo_helpers.prompts import prompt_texts, suit_template
from grpo_helpers.settings import TrainSettings
from grpo_helpers.training import grpo_config, read_params

PROMPT = [{"role": "system", "content": "고쳐라."}, {"role": "user", "content": "몇일이 걸렸다."}]


def first_layer_gradient(model, ids):
    """Return the size of the gradient that reaches the adapter of the first layer, through all layers above it."""
    model.zero_grad()
    model.train()
    model(input_ids=ids, labels=ids).loss.backward()
    return {
        name: parameter.grad.norm().item()
        for name, parameter in model.named_parameters()
        if "layers.0." in name and "lora_B" in name
    }


def test_gradients_of_a_four_bit_model_survive_an_evaluation():
    from peft import get_peft_model

    base = load_model("data/tiny_model", "4bit")
    layers = [module for module in base.modules() if type(module).__name__ == "Linear4bit"]
    assert layers and not any(
        layer.support_avx512bf16_for_cpu for layer in layers
    )  # else repacked at the evaluation
    model = get_peft_model(base, lora_config(TrainSettings()))
    ids = torch.arange(10, 74).reshape(2, 32)
    before = first_layer_gradient(model, ids)
    generate_answers(
        model, load_tokenizer("data/tiny_model"), [PROMPT], max_new_tokens=4
    )  # evaluation mode inside
    after = first_layer_gradient(model, ids)
    assert len(before) == 4 and all(size > 0 for size in before.values())
    assert after == pytest.approx(before, rel=1e-3)


def test_a_four_bit_model_trains_and_its_answers_in_place_are_those_from_disk(tmp_path):
    from grpo_helpers.training import train

    changes = {
        "use_quant": True,
        "max_steps": 1,
        "save_steps": 1,
        "output_dir": tmp_path,
        "num_threads": 2,
    }
    train(
        read_params(
            "params/smoke/04_train.yaml", [(name, str(value)) for name, value in changes.items()]
        )
    )
    run = tmp_path / "smoke"
    again = run_inference(
        "data/smoke/dev.json",
        tmp_path / "again.json",
        "data/tiny_model",
        str(run / "step_1"),
        quant_type="4bit",
    )
    assert again.read_bytes() == (run / "infer_results/inference_step1.json").read_bytes()


@pytest.mark.parametrize("own", [None, 5, [5, 7]])
def test_every_token_that_ends_an_answer_is_honoured(own):
    model, tokenizer = load_model("data/tiny_model"), load_tokenizer("data/tiny_model")
    model.generation_config.eos_token_id = own
    wanted = {tokenizer.eos_token_id} | set(own if isinstance(own, list) else [own] if own else [])
    assert set(stop_tokens(model, tokenizer)) == wanted


def test_an_answer_stops_at_a_further_stop_token_of_the_model():
    model, tokenizer = load_model("data/tiny_model"), load_tokenizer("data/tiny_model")
    whole = generate_answers(model, tokenizer, [PROMPT])[0]
    stop = whole[len(whole) // 2]
    model.generation_config.eos_token_id = [
        tokenizer.eos_token_id,
        tokenizer.convert_tokens_to_ids(stop),
    ]
    assert generate_answers(model, tokenizer, [PROMPT])[0] == whole[: whole.index(stop) + 1]


def test_a_models_own_penalty_on_repetition_does_not_bend_its_answers():
    model, tokenizer = load_model("data/tiny_model"), load_tokenizer("data/tiny_model")
    plain = generate_answers(model, tokenizer, [PROMPT])
    model.generation_config.repetition_penalty = 10.0
    assert generate_answers(model, tokenizer, [PROMPT]) == plain


def test_a_model_that_thinks_aloud_is_told_not_to_in_rollouts_and_in_answers():
    tokenizer = load_tokenizer("data/tiny_model")
    aloud = "{% if enable_thinking is not defined or enable_thinking %}<think>{% endif %}"
    tokenizer.chat_template += aloud
    assert "<think>" in tokenizer.apply_chat_template(PROMPT, tokenize=False)
    assert "<think>" not in prompt_texts([PROMPT], tokenizer)[0]
    options = grpo_config(read_params("params/smoke/04_train.yaml")).chat_template_kwargs
    assert "<think>" not in tokenizer.apply_chat_template(PROMPT, tokenize=False, **options)


def test_a_model_in_four_bits_leaves_memory_after_it_has_answered(tmp_path):
    from bitsandbytes.nn import Linear4bit

    gc.collect()
    before = [kept for kept in gc.get_objects() if isinstance(kept, Linear4bit)]
    run_inference(
        "data/smoke/dev.json",
        tmp_path / "a.json",
        "data/tiny_model",
        quant_type="4bit",
        max_new_tokens=2,
    )
    assert sum(isinstance(kept, Linear4bit) for kept in gc.get_objects()) == len(before)


@pytest.mark.parametrize(("quant_type", "kept"), [(None, torch.float32), ("4bit", torch.bfloat16)])
def test_an_adapter_is_read_in_the_precision_in_which_it_was_trained(tmp_path, quant_type, kept):
    from grpo_helpers.training import build_trainer, prepare

    changes = {
        "bf16": True,
        "use_quant": quant_type is not None,
        "output_dir": tmp_path,
        "num_generations": 2,
    }
    settings = read_params(
        "params/smoke/04_train.yaml", [(name, str(value)) for name, value in changes.items()]
    )
    trained = build_trainer(settings, prepare(settings), grpo_config(settings)).model
    trained.save_pretrained(tmp_path / "epoch_1")
    read = load_with_adapter(settings.model_name, str(tmp_path / "epoch_1"), quant_type, bf16=True)
    for model in (trained, read):
        assert {weight.dtype for name, weight in model.named_parameters() if "lora_" in name} == {
            kept
        }


def test_switching_checkpointing_off_and_on_leaves_one_hook_at_the_embeddings(tmp_path):
    from grpo_helpers.training import build_trainer, prepare

    changes = {
        "gradient_checkpointing": True,
        "output_dir": tmp_path,
        "max_steps": 3,
        "save_strategy": "no",
    }
    settings = read_params(
        "params/smoke/04_train.yaml", [(name, str(value)) for name, value in changes.items()]
    )
    trainer = build_trainer(settings, prepare(settings), grpo_config(settings))
    trainer.train()
    hooks = trainer.model.get_input_embeddings()._forward_hooks
    assert (
        trainer.state.global_step == 3 and 1 <= len(hooks) <= 2
    )  # one of PEFT's own may be beside it


def test_a_template_that_refuses_a_system_message_gets_it_before_the_question():
    tokenizer = load_tokenizer("data/tiny_model")
    assert suit_template(tokenizer, [PROMPT]) == [PROMPT]
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    tokenizer.chat_template = refusing + tokenizer.chat_template
    (suited,) = suit_template(tokenizer, [PROMPT])
    assert suited == [{"role": "user", "content": "고쳐라.\n\n몇일이 걸렸다."}]
    assert "고쳐라." in tokenizer.apply_chat_template(suited, tokenize=False)


def test_no_prompt_begins_with_two_beginnings(monkeypatch):
    """A tokenizer that adds its own beginning, under a template that writes one too."""
    from tokenizers.processors import TemplateProcessing

    model, tokenizer = load_model("data/tiny_model"), load_tokenizer("data/tiny_model")
    bos = tokenizer.convert_tokens_to_ids("<|system|>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|system|> $A", special_tokens=[("<|system|>", bos)]
    )
    assert tokenizer("가")["input_ids"][0] == bos
    seen, generate = [], model.generate
    monkeypatch.setattr(
        model, "generate", lambda **given: (seen.append(given["input_ids"]), generate(**given))[1]
    )
    generate_answers(model, tokenizer, [PROMPT], max_new_tokens=2)
    assert seen[0][0].tolist().count(bos) == 1


# -- GGUF ----------------------------------------------------------------------------------------------------------

LETTERS = [*"몇일이며칠걸렸다고쳐라. ", "▁"]


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory):
    """A Llama of two layers with random weights, its tokenizer and a chat template, in one GGUF file."""
    import gguf

    file = tmp_path_factory.mktemp("gguf") / "small.gguf"
    special = ["<unk>", "<s>", "</s>"]
    tokens = special + [f"<0x{byte:02X}>" for byte in range(256)] + LETTERS
    kinds = [2, 3, 3] + [6] * 256 + [1] * len(LETTERS)
    width, inner, layers, heads = 64, 128, 2, 4
    writer = gguf.GGUFWriter(str(file), "llama")
    (
        writer.add_context_length(256),
        writer.add_embedding_length(width),
        writer.add_block_count(layers),
    )
    (
        writer.add_feed_forward_length(inner),
        writer.add_head_count(heads),
        writer.add_head_count_kv(heads),
    )
    writer.add_layer_norm_rms_eps(1e-5), writer.add_rope_dimension_count(width // heads)
    (
        writer.add_vocab_size(len(tokens)),
        writer.add_tokenizer_model("llama"),
        writer.add_token_list(tokens),
    )
    writer.add_token_scores([-float(i) for i in range(len(tokens))]), writer.add_token_types(kinds)
    writer.add_bos_token_id(1), writer.add_eos_token_id(2), writer.add_unk_token_id(0)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    dice = np.random.default_rng(0)
    shapes = {
        "token_embd": (len(tokens), width),
        "output": (len(tokens), width),
        "output_norm": (width,),
    }
    for i in range(layers):
        shapes |= {
            f"blk.{i}.{name}": (width, width)
            for name in ("attn_q", "attn_k", "attn_v", "attn_output")
        }
        shapes |= {f"blk.{i}.ffn_{name}": (inner, width) for name in ("gate", "up")}
        shapes |= {
            f"blk.{i}.ffn_down": (width, inner),
            f"blk.{i}.attn_norm": (width,),
            f"blk.{i}.ffn_norm": (width,),
        }
    for name, shape in shapes.items():
        data = (
            np.ones(shape, np.float32)
            if len(shape) == 1
            else dice.normal(0, 0.05, shape).astype(np.float32)
        )
        kind = gguf.GGMLQuantizationType.Q8_0
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", data)
        else:
            writer.add_tensor(f"{name}.weight", gguf.quants.quantize(data, kind), raw_dtype=kind)
    (
        writer.write_header_to_file(),
        writer.write_kv_data_to_file(),
        writer.write_tensors_to_file(),
        writer.close(),
    )
    return file


def test_a_gguf_file_is_a_model_that_can_be_trained_and_saved(gguf_file, tmp_path):
    from peft import get_peft_model

    model, tokenizer = load_model(str(gguf_file)), load_tokenizer(str(gguf_file))
    assert (
        not getattr(model, "is_quantized", False)
        and getattr(model.config, "quantization_config", None) is None
    )
    assert generate_answers(model, tokenizer, [PROMPT], max_new_tokens=4)
    model.save_pretrained(tmp_path / "unpacked")
    trained = get_peft_model(load_model(str(gguf_file)), lora_config(TrainSettings()))
    sizes = first_layer_gradient(
        trained, tokenizer("몇일이 걸렸다.", return_tensors="pt")["input_ids"]
    )
    assert sizes and all(size > 0 for size in sizes.values())


def test_a_gguf_file_is_not_quantised_again_and_a_missing_one_is_told(gguf_file):
    with pytest.raises(InputError, match="use_quant needs a safetensors model"):
        load_model(str(gguf_file), "4bit")
    with pytest.raises(InputError, match="does not exist"):
        model_source("data/nothing.gguf")
    assert model_source(str(gguf_file)) == (str(gguf_file.parent), {"gguf_file": "small.gguf"})
