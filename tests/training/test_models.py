"""Models as they come: quantised, from a GGUF file, with templates and stop tokens of their own."""

from __future__ import annotations

import gc
import shutil
import weakref
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import transformers
from helpers import ROOT, SMOKE_PARAMS, TINY_MODEL, smoke_settings
from huggingface_hub.utils.tqdm import _get_progress_bar_context

from grpo_helpers import inference, models
from grpo_helpers.files import InputError, read_json, write_json
from grpo_helpers.inference import answer, generate_answers, run_inference, stop_tokens
from grpo_helpers.kept_model import BaseModel, KeptModel
from grpo_helpers.models import (
    DownloadLines,
    load_model,
    load_tokenizer,
    load_with_adapter,
    lora_config,
    model_source,
)
from grpo_helpers.prompts import prompt_texts, suit_template
from grpo_helpers.run_folder import answer_file_name
from grpo_helpers.settings import TrainSettings
from grpo_helpers.training import build_trainer, grpo_config, prepare, read_params, train

SMOKE_DEV = "data/smoke/dev.json"
PROMPT = [
    {"role": "system", "content": "고쳐라."},
    {"role": "user", "content": "몇일이 걸렸다."},
]


@pytest.fixture
def tiny():
    """The course's model and its tokenizer, new for every test."""
    return load_model(TINY_MODEL), load_tokenizer(TINY_MODEL)


def trainer_of(settings):
    """Return TRL's trainer for ``settings``, built as :func:`train` builds it."""
    return build_trainer(settings, prepare(settings), grpo_config(settings)).trainer


def first_layer_gradients(model, ids):
    """Return the sizes of the gradients that reach the adapter of the first layer."""
    model.zero_grad()
    model.train()
    model(input_ids=ids, labels=ids).loss.backward()

    sizes = {}
    for name, parameter in model.named_parameters():
        if "layers.0." in name and "lora_B" in name:
            sizes[name] = parameter.grad.norm().item()
    return sizes


# -- quantised -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def four_bit():
    """The tiny model in four bits, with an adapter on it."""
    from peft import get_peft_model

    return get_peft_model(load_model(TINY_MODEL, "4bit"), lora_config(TrainSettings()))


def test_four_bit_layers_are_never_repacked_for_inference(four_bit):
    from bitsandbytes.nn import Linear4bit

    layers = [layer for layer in four_bit.modules() if isinstance(layer, Linear4bit)]

    assert layers
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)


def test_four_bit_gradients_survive_an_evaluation(four_bit):
    ids = torch.arange(10, 74).reshape(2, 32)
    before = first_layer_gradients(four_bit, ids)
    generate_answers(four_bit, load_tokenizer(TINY_MODEL), [PROMPT], max_new_tokens=4)
    after = first_layer_gradients(four_bit, ids)

    assert len(before) == 7  # four of the attention, three of the MLP
    assert all(size > 0 for size in before.values())
    assert after == pytest.approx(before, rel=1e-3)


@pytest.fixture(scope="module")
def four_bit_run(tmp_path_factory):
    """A run of one step in four bits."""
    folder = tmp_path_factory.mktemp("four_bit")
    train(smoke_settings(folder, use_quant=True, max_steps=1, save_steps=1, num_threads=2))
    return folder / "smoke"


def test_four_bit_answers_in_training_are_those_of_its_checkpoint(four_bit_run, tmp_path):
    """``answer`` reads from the run that it was quantised."""
    loaded = answer(four_bit_run, "step_1", SMOKE_DEV, tmp_path / "answers.json")
    in_training = four_bit_run / "infer_results/inference_step1.json"

    assert loaded.read_bytes() == in_training.read_bytes()


def test_four_bit_model_leaves_memory_after_it_has_answered(tmp_path):
    from bitsandbytes.nn import Linear4bit

    def layers_in_memory():
        return sum(isinstance(thing, Linear4bit) for thing in gc.get_objects())

    gc.collect()
    before = layers_in_memory()
    run_inference(SMOKE_DEV, tmp_path / "a.json", TINY_MODEL, quant_type="4bit", max_new_tokens=2)

    assert layers_in_memory() == before


def adapter_dtypes(model):
    """Return the types of the numbers in a model's adapter."""
    return {weight.dtype for name, weight in model.named_parameters() if "lora_" in name}


@pytest.mark.parametrize(
    ("quant_type", "dtype", "expected"),
    [
        (None, "bfloat16", torch.float32),
        ("4bit", "bfloat16", torch.bfloat16),
        ("4bit", "float16", torch.float32),
        ("4bit", "float32", torch.float32),
    ],
)
def test_adapter_is_read_in_the_precision_it_was_trained_in(tmp_path, quant_type, dtype, expected):
    settings = smoke_settings(tmp_path, use_quant=quant_type is not None, num_generations=2)
    prepared = prepare(settings)
    settings.dtype = dtype  # on a CPU, float16 is refused when a run is prepared
    trained = build_trainer(settings, prepared, grpo_config(settings)).trainer.model
    trained.save_pretrained(tmp_path / "epoch_1")
    read = load_with_adapter(TINY_MODEL, str(tmp_path / "epoch_1"), quant_type, dtype)

    assert adapter_dtypes(trained) == adapter_dtypes(read) == {expected}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_weights_in_four_bits_are_unpacked_to_the_dtype_of_the_run(dtype):
    from bitsandbytes.nn import Linear4bit

    model = load_model(TINY_MODEL, "4bit", dtype)
    layers = [layer for layer in model.modules() if isinstance(layer, Linear4bit)]

    assert {layer.compute_dtype for layer in layers} == {getattr(torch, dtype)}
    assert model.get_input_embeddings().weight.dtype == getattr(torch, dtype)


def test_scaled_gradients_of_float16_move_an_adapter_in_float32():
    """What accelerate does on a GPU, by hand: autocast, scale, unscale, step."""
    from peft import get_peft_model

    model = get_peft_model(load_model(TINY_MODEL, "4bit", "float16"), lora_config(TrainSettings()))
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    ids = torch.arange(10, 74).reshape(2, 32)
    before = [weight.detach().clone() for weight in trained]

    with torch.autocast("cpu", dtype=torch.float16):
        loss = model(input_ids=ids, labels=ids).loss
    scaler.scale(loss).backward()
    scaler.step(optimizer)

    assert adapter_dtypes(model) == {torch.float32}
    assert any(not torch.equal(old, new) for old, new in zip(before, trained, strict=True))


def test_gradients_of_a_float16_adapter_cannot_be_scaled():
    weight = torch.nn.Parameter(torch.ones(2, dtype=torch.float16))
    weight.grad = torch.ones_like(weight)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.ones(1))

    with pytest.raises(ValueError, match="Attempting to unscale FP16 gradients"):
        scaler.unscale_(torch.optim.AdamW([weight]))


# -- arguments of from_pretrained ------------------------------------------------------------------


def test_model_has_the_attention_that_model_kwargs_ask_for():
    kwargs = {"attn_implementation": "eager"}

    assert load_model(TINY_MODEL, model_kwargs=kwargs).config._attn_implementation == "eager"


def test_unknown_argument_of_a_model_is_one_line():
    with pytest.raises(InputError, match=r"cannot be loaded: .*'attention'"):
        load_model(TINY_MODEL, model_kwargs={"attention": "eager"})


# -- where weights are read to ---------------------------------------------------------------------


@pytest.fixture
def devices_read(monkeypatch):
    """Return a list that gets the device that each model is read to, with a second GPU made up."""
    read = models._read_weights
    devices = []

    def noted_read(name, source, options):
        devices.append(options.pop("device_map", {"": "cpu"})[""])
        return read(name, source, options)

    monkeypatch.setattr(models, "_read_weights", noted_read)
    monkeypatch.setattr(models, "local_device", lambda: 1)
    return devices


def test_plain_weights_of_a_run_are_read_straight_into_its_gpu(devices_read):
    load_model(TINY_MODEL, to_gpu=True)

    assert devices_read == [1]


def test_weights_that_fsdp_spreads_are_read_into_main_memory(devices_read, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    load_model(TINY_MODEL, to_gpu=True)

    assert devices_read == ["cpu"]


# -- a model that is kept --------------------------------------------------------------------------

BASE_OF_RUN = BaseModel(name=TINY_MODEL)


@pytest.fixture
def loads(monkeypatch):
    """Return a list that gets a base model's name whenever its weights are read."""
    read = models._read_weights
    names = []

    def noted_read(name, source, options):
        names.append(name)
        return read(name, source, options)

    monkeypatch.setattr(models, "_read_weights", noted_read)
    return names


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    """A run of two steps and as many checkpoints, which learns quickly enough to change answers."""
    folder = tmp_path_factory.mktemp("two")
    settings = smoke_settings(folder, max_steps=2, save_steps=1, learning_rate=0.1, warmup_steps=0)
    train(settings)
    return folder / "smoke"


CHECKPOINTS = ["epoch_0", "step_1", "epoch_0", "step_2", "step_1"]


def test_kept_model_is_read_once_for_all_checkpoints_of_a_run(two_checkpoints, loads, tmp_path):
    with KeptModel() as kept:
        for place, checkpoint in enumerate(CHECKPOINTS):
            answer(two_checkpoints, checkpoint, SMOKE_DEV, tmp_path / f"{place}.json", kept=kept)

    assert loads == [TINY_MODEL]


def test_kept_model_answers_as_one_that_is_read_anew(two_checkpoints, tmp_path):
    with KeptModel() as kept:
        for place, checkpoint in enumerate(CHECKPOINTS):
            file = answer(two_checkpoints, checkpoint, SMOKE_DEV, tmp_path / f"{place}", kept=kept)
            anew = two_checkpoints / "infer_results" / answer_file_name(checkpoint)
            assert file.read_bytes() == anew.read_bytes(), checkpoint

    assert len({(tmp_path / str(place)).read_bytes() for place in (0, 1, 3)}) == 3


def test_files_that_are_answered_already_need_no_model(two_checkpoints, loads, tmp_path):
    answer(two_checkpoints, "step_1", SMOKE_DEV, tmp_path / "a.json")
    loads.clear()

    with KeptModel() as kept:
        answer(two_checkpoints, "step_1", SMOKE_DEV, tmp_path / "a.json", kept=kept)
        assert not kept.is_loaded

    assert loads == []


def test_model_that_is_not_kept_is_read_for_each_file(two_checkpoints, loads, tmp_path):
    for name in ("a.json", "b.json"):
        answer(two_checkpoints, "step_1", SMOKE_DEV, tmp_path / name)

    assert loads == [TINY_MODEL] * 2


def test_other_precision_is_another_model(loads):
    with KeptModel() as kept:
        for dtype in ("float32", "bfloat16"):
            with kept.ready(replace(BASE_OF_RUN, dtype=dtype), None) as model:
                assert model.dtype == getattr(torch, dtype)

    assert len(loads) == 2


def test_base_in_four_bits_is_the_model_with_its_adapter_switched_off(four_bit_run, tmp_path):
    with KeptModel() as kept:
        answer(four_bit_run, "step_1", SMOKE_DEV, tmp_path / "step_1.json", kept=kept)
        base = answer(four_bit_run, "epoch_0", SMOKE_DEV, tmp_path / "base.json", kept=kept)

    in_training = four_bit_run / "infer_results/inference_epoch0.json"
    assert base.read_bytes() == in_training.read_bytes()


def test_checkpointing_leaves_one_hook_at_the_embeddings(tmp_path):
    settings = smoke_settings(
        tmp_path, gradient_checkpointing=True, max_steps=3, save_strategy="no"
    )
    trainer = trainer_of(settings)
    trainer.train()
    hooks = trainer.model.get_input_embeddings()._forward_hooks

    assert trainer.state.global_step == 3
    assert 1 <= len(hooks) <= 2  # one of PEFT's own may be beside it


def test_all_linear_gives_every_layer_but_the_head_an_adapter(tmp_path):
    trained = trainer_of(smoke_settings(tmp_path, lora_target_modules="all-linear")).model
    names = {name.split(".lora_A")[0].split(".")[-1] for name, _ in trained.named_parameters()}

    assert {"q_proj", "o_proj", "gate_proj", "down_proj"} <= names
    assert not any("lm_head.lora" in name for name, _ in trained.named_parameters())


def test_eight_bit_layers_warn_of_their_casts_once(caplog):
    import bitsandbytes.autograd._functions as functions

    for _ in range(3):
        functions.logger.warning("MatMul8bitLt: inputs will be cast from %s to float16", "float32")

    assert len(caplog.records) <= 1


def test_building_a_trainer_makes_no_folder(tmp_path):
    settings = smoke_settings(tmp_path)
    trainer = trainer_of(settings)

    assert trainer.args.output_dir == str(settings.run_dir)
    assert not list(tmp_path.iterdir())


class Circle:
    """Something that refers to itself, as a trainer does: it goes only when it is collected."""

    def __init__(self):
        self.itself = self


def test_what_training_has_left_is_given_back_before_an_answer(tiny, monkeypatch):
    model, tokenizer = tiny
    generate = model.generate
    still_there = []

    def noting_generate(**options):
        still_there.append(left() is not None)
        return generate(**options)

    monkeypatch.setattr(model, "generate", noting_generate)
    gc.disable()  # nobody else may collect it
    try:
        left = weakref.ref(Circle())
        generate_answers(model, tokenizer, [PROMPT], max_new_tokens=1)
    finally:
        gc.enable()

    assert still_there == [False]


# -- the end of an answer --------------------------------------------------------------------------


@pytest.mark.parametrize(("own", "further"), [(None, set()), (5, {5}), ([5, 7], {5, 7})])
def test_every_token_that_ends_an_answer_is_honoured(tiny, own, further):
    model, tokenizer = tiny
    model.generation_config.eos_token_id = own

    assert set(stop_tokens(model, tokenizer)) == {tokenizer.eos_token_id} | further


def test_answer_stops_at_a_further_stop_token_of_the_model(tiny):
    model, tokenizer = tiny
    whole = generate_answers(model, tokenizer, [PROMPT])[0]
    stop = whole[len(whole) // 2]
    stop_id = tokenizer.convert_tokens_to_ids(stop)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, stop_id]
    shorter = generate_answers(model, tokenizer, [PROMPT])[0]

    assert shorter == whole[: whole.index(stop) + 1]


# What a model's generation_config.json may set: each of them bends greedy answers.
BENT = {
    "no_repeat_ngram_size": 3,
    "repetition_penalty": 10.0,
    "min_new_tokens": 60,
    "suppress_tokens": list(range(20, 300)),
    "begin_suppress_tokens": [6, 7, 8, 9],
    "bad_words_ids": [[30], [31]],
    "exponential_decay_length_penalty": [1, 2.0],
    "forced_eos_token_id": 7,
    "num_beams": 2,
    "min_p": 0.9,
    "max_time": 0.0001,
}


@pytest.fixture
def bent_folder(tmp_path):
    """A copy of the course's model that asks for all of :data:`BENT`."""
    folder = shutil.copytree(ROOT / TINY_MODEL, tmp_path / "bent")
    file = folder / "generation_config.json"
    write_json(file, read_json(file) | BENT)
    return str(folder)


def test_generation_settings_of_a_model_do_not_bend_its_answers(tiny, bent_folder):
    plain = generate_answers(*tiny, [PROMPT])

    assert generate_answers(load_model(bent_folder), load_tokenizer(bent_folder), [PROMPT]) == plain


def test_generation_settings_of_a_model_do_not_bend_rollouts(tmp_path, bent_folder):
    changes = {"max_steps": 1, "save_strategy": "no", "num_threads": 1}
    runs = []
    for name, model_name in (("plain", TINY_MODEL), ("bent", bent_folder)):
        settings = smoke_settings(tmp_path, run_name=name, model_name=model_name, **changes)
        train(settings)
        runs.append(settings.run_dir / "completions/completions_00001.parquet")

    assert runs[0].read_bytes() == runs[1].read_bytes()


def test_tokens_that_end_a_text_stay_the_models_own(tiny):
    model, _ = tiny

    assert model.generation_config.eos_token_id == 2


def test_models_own_repetition_penalty_is_ignored(tiny):
    model, tokenizer = tiny
    plain = generate_answers(model, tokenizer, [PROMPT])
    model.generation_config.repetition_penalty = 10.0

    assert generate_answers(model, tokenizer, [PROMPT]) == plain


# -- answers that are there already ----------------------------------------------------------------


def test_known_answers_are_not_computed_again(tiny, monkeypatch):
    model, tokenizer = tiny
    monkeypatch.setattr(model, "generate", None)

    assert generate_answers(model, tokenizer, [PROMPT], known={0: "며칠"}) == ["며칠"]


@pytest.fixture
def batches_answered(monkeypatch):
    """The sizes of the batches that were answered; ``limit`` batches, then an interrupt."""
    generate = inference._generate
    answered = SimpleNamespace(sizes=[], limit=None)

    def counted_generate(model, tokenizer, texts, max_new_tokens):
        if len(answered.sizes) == answered.limit:
            raise KeyboardInterrupt
        answered.sizes.append(len(texts))
        return generate(model, tokenizer, texts, max_new_tokens)

    monkeypatch.setattr(inference, "_generate", counted_generate)
    return answered


def test_interrupted_call_continues_where_it_stopped(tmp_path, batches_answered):
    options = {"batch_size": 4, "max_new_tokens": 4}
    whole = run_inference(SMOKE_DEV, tmp_path / "whole.json", TINY_MODEL, **options)
    batches = len(batches_answered.sizes)
    assert batches > 2

    batches_answered.sizes.clear()
    batches_answered.limit = 2
    with pytest.raises(KeyboardInterrupt):
        run_inference(SMOKE_DEV, tmp_path / "parts.json", TINY_MODEL, **options)

    batches_answered.sizes.clear()
    batches_answered.limit = None
    parts = run_inference(SMOKE_DEV, tmp_path / "parts.json", TINY_MODEL, **options)

    assert len(batches_answered.sizes) == batches - 2
    assert parts.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob("*.partial"))


@pytest.fixture
def answered_once(tmp_path, batches_answered):
    """A function that answers a file; it was called once, and batches are counted from now."""
    questions = tmp_path / "dev.json"
    shutil.copyfile(SMOKE_DEV, questions)

    def answer_again(**changes):
        options = {"batch_size": 4, "max_new_tokens": 4} | changes
        return run_inference(str(questions), tmp_path / "a.json", TINY_MODEL, **options)

    answer_again()
    batches_answered.sizes.clear()
    return answer_again


def test_finished_file_is_not_answered_again(answered_once, batches_answered):
    answered_once()
    assert batches_answered.sizes == []


def test_finished_file_is_answered_again_with_other_options(answered_once, batches_answered):
    answered_once(max_new_tokens=5)
    assert batches_answered.sizes


def test_finished_file_is_answered_again_once_it_was_edited(
    answered_once, batches_answered, tmp_path
):
    (tmp_path / "a.json").write_text("[]", encoding="utf-8")
    answered_once()
    assert batches_answered.sizes


def test_finished_file_is_answered_again_with_other_questions(
    answered_once, batches_answered, tmp_path
):
    write_json(tmp_path / "dev.json", read_json(tmp_path / "dev.json")[1:])
    answered_once()
    assert batches_answered.sizes


# -- chat templates --------------------------------------------------------------------------------

THINKS_ALOUD = "{% if enable_thinking is not defined or enable_thinking %}<think>{% endif %}"
REFUSES_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}"
    "{% endif %}"
)


@pytest.fixture
def thinking_tokenizer():
    """A tokenizer whose template makes the model think aloud unless it is switched off."""
    tokenizer = load_tokenizer(TINY_MODEL)
    tokenizer.chat_template += THINKS_ALOUD
    assert "<think>" in tokenizer.apply_chat_template(PROMPT, tokenize=False)
    return tokenizer


def test_thinking_is_switched_off_in_answers(thinking_tokenizer):
    assert "<think>" not in prompt_texts([PROMPT], thinking_tokenizer)[0]


def test_thinking_is_switched_off_in_rollouts(thinking_tokenizer):
    options = grpo_config(read_params(SMOKE_PARAMS)).chat_template_kwargs
    text = thinking_tokenizer.apply_chat_template(PROMPT, tokenize=False, **options)

    assert "<think>" not in text


def test_answer_has_the_tag_that_the_template_has_written(tiny, monkeypatch):
    """What follows an opened thought is known to be one, also if it never ends."""
    model, tokenizer = tiny
    prompts = ["가<think>\n", "가"]

    opened, plain = generate_answers(model, tokenizer, prompts, max_new_tokens=2)

    assert opened.startswith("<think>")
    assert not plain.startswith("<think>")


def test_template_that_takes_a_system_message_gets_one():
    assert suit_template(load_tokenizer(TINY_MODEL), [PROMPT]) == [PROMPT]


def test_refused_system_message_goes_before_the_question():
    tokenizer = load_tokenizer(TINY_MODEL)
    tokenizer.chat_template = REFUSES_SYSTEM + tokenizer.chat_template
    (suited,) = suit_template(tokenizer, [PROMPT])

    assert suited == [{"role": "user", "content": "고쳐라.\n\n몇일이 걸렸다."}]
    assert "고쳐라." in tokenizer.apply_chat_template(suited, tokenize=False)


def test_prompt_begins_with_one_beginning_token(tiny, monkeypatch):
    """A tokenizer that adds its own beginning, with a template that writes one, too."""
    from tokenizers.processors import TemplateProcessing

    model, tokenizer = tiny
    bos = tokenizer.convert_tokens_to_ids("<|system|>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|system|> $A", special_tokens=[("<|system|>", bos)]
    )
    assert tokenizer("가")["input_ids"][0] == bos

    seen = []
    generate = model.generate

    def recording_generate(**arguments):
        seen.append(arguments["input_ids"])
        return generate(**arguments)

    monkeypatch.setattr(model, "generate", recording_generate)
    generate_answers(model, tokenizer, [PROMPT], max_new_tokens=2)

    assert seen[0][0].tolist().count(bos) == 1


# -- GGUF ------------------------------------------------------------------------------------------


@pytest.fixture
def gguf_model(gguf_file):
    """The model of the GGUF file, as the course loads it."""
    return load_model(str(gguf_file))


def test_gguf_model_is_not_marked_as_quantised(gguf_model):
    assert not getattr(gguf_model, "is_quantized", False)
    assert getattr(gguf_model.config, "quantization_config", None) is None


def test_gguf_model_answers(gguf_model, gguf_file):
    tokenizer = load_tokenizer(str(gguf_file))

    assert generate_answers(gguf_model, tokenizer, [PROMPT], max_new_tokens=4)


def test_gguf_model_can_be_saved(gguf_model, tmp_path):
    gguf_model.save_pretrained(tmp_path / "unpacked")

    assert (tmp_path / "unpacked/config.json").is_file()


def test_gguf_model_can_be_trained(gguf_model, gguf_file):
    from peft import get_peft_model

    trained = get_peft_model(gguf_model, lora_config(TrainSettings()))
    ids = load_tokenizer(str(gguf_file))("몇일이 걸렸다.", return_tensors="pt")["input_ids"]
    sizes = first_layer_gradients(trained, ids)

    assert sizes
    assert all(size > 0 for size in sizes.values())


def test_gguf_file_is_not_quantised_again(gguf_file):
    with pytest.raises(InputError, match="use_quant needs a safetensors model"):
        load_model(str(gguf_file), "4bit")


def test_missing_gguf_file_is_named():
    with pytest.raises(InputError, match="does not exist"):
        model_source("data/nothing.gguf")


def test_gguf_file_is_split_into_folder_and_name(gguf_file):
    assert model_source(str(gguf_file)) == (str(gguf_file.parent), {"gguf_file": "small.gguf"})


# -- downloads -------------------------------------------------------------------------------------


@pytest.fixture
def every_line(monkeypatch):
    """Print a line at every progress of a download, not every few seconds."""
    monkeypatch.setattr(models, "SECONDS_PER_LINE", 0.0)


def download(total, **bar):
    """Fetch two halves of a file of ``total`` bytes, with the hub's own code around the bar."""
    options = {"desc": "model.safetensors", "log_level": 30} | bar
    with _get_progress_bar_context(total=total, tqdm_class=DownloadLines, **options) as progress:
        for _ in range(2):
            progress.update(total // 2)
            progress.refresh()


def test_large_download_shows_its_progress_in_lines(every_line, capsys):
    download(23_100_000_000)

    lines = capsys.readouterr().out.splitlines()
    assert "downloading: 11.6 of 23.1 GB" in lines
    assert lines[-1] == "downloading: 23.1 of 23.1 GB"


def test_line_of_a_download_comes_every_few_seconds(capsys):
    download(23_100_000_000)

    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("bar", [{"desc": "Downloading bytes"}, {"unit": "it"}])
def test_one_of_the_hubs_bars_is_shown(bar, every_line, capsys):
    download(23_100_000_000, **bar)

    assert capsys.readouterr().out == ""


def test_small_download_shows_nothing(every_line, capsys):
    download(50_000_000)

    assert capsys.readouterr() == ("", "")


def test_weights_from_the_hub_are_fetched_with_these_lines(tmp_path, monkeypatch):
    """The model lies in a cache as the hub's client keeps one, so that nothing is fetched."""
    cached = tmp_path / "models--someone--tiny"
    shutil.copytree(ROOT / TINY_MODEL, cached / "snapshots" / "0")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0", encoding="utf-8")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    bars = {}
    find = transformers.modeling_utils.cached_file

    def find_and_note(name, file, **options):
        bars[file] = options.get("tqdm_class")
        return find(name, file, **options)

    monkeypatch.setattr("transformers.modeling_utils.cached_file", find_and_note)
    load_model("someone/tiny")

    assert bars["model.safetensors"] is DownloadLines


# -- what is not there -----------------------------------------------------------------------------


def test_folder_without_an_adapter_is_refused_before_the_model_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("grpo_helpers.models.load_model", None)

    with pytest.raises(InputError, match=r"no LoRA adapter .* expected adapter_config.json"):
        load_with_adapter(TINY_MODEL, str(tmp_path))
