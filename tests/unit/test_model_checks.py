"""What is found out about a model before its weights are read."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
from helpers import ROOT, TINY_MODEL

from grpo_helpers.files import InputError, sha256, sha256_of_model, write_json
from grpo_helpers.model_checks import (
    Room,
    check_adapter,
    check_lora_targets,
    check_model,
    check_model_kwargs,
    check_quantization,
    check_room,
    is_model,
    lora_targets,
    model_revision,
)
from grpo_helpers.models import load_model, load_tokenizer, lora_config
from grpo_helpers.prompts import prompt_texts
from grpo_helpers.questions import Item
from grpo_helpers.settings import TrainSettings

PROMPT = [{"role": "user", "content": "몇일이 걸렸다."}]
ITEM = Item("q1", "교정형", "몇일이 걸렸다.", None)


@pytest.fixture
def model(tmp_path):
    """A copy of the embedded model."""
    return shutil.copytree(ROOT / TINY_MODEL, tmp_path / "model")


def edit(file, **changes):
    """Change entries of a JSON file; None removes one."""
    content = json.loads(file.read_text(encoding="utf-8")) | changes
    content = {name: value for name, value in content.items() if value is not None}
    file.write_text(json.dumps(content), encoding="utf-8")


# -- files -----------------------------------------------------------------------------------------


def test_whole_model_passes(model):
    check_model(str(model))


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub_model(tmp_path, monkeypatch):
    """The name of a model whose configuration is in the cache of the hub."""
    cached = tmp_path / "models--someone--small"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs/main").write_text(COMMIT)
    (cached / "snapshots" / COMMIT).mkdir(parents=True)
    shutil.copy(ROOT / TINY_MODEL / "config.json", cached / "snapshots" / COMMIT)

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return "someone/small"


def test_revision_of_a_model_from_the_hub_is_its_commit(hub_model):
    assert model_revision(hub_model) == COMMIT


def test_revision_of_a_gguf_file_on_the_hub_is_that_of_its_repository(hub_model):
    assert model_revision(f"{hub_model}/q8.gguf") == COMMIT


def test_local_model_has_no_revision(model):
    assert model_revision(str(model)) is None


def test_model_in_pickles_only_is_refused_with_the_fix(model):
    (model / "model.safetensors").rename(model / "pytorch_model.bin")

    with pytest.raises(InputError, match=r"only pytorch_model.bin.*save it as model.safetensors"):
        check_model(str(model))


def test_model_without_weights_is_refused(model):
    (model / "model.safetensors").unlink()

    with pytest.raises(InputError, match=r"no model.safetensors"):
        check_model(str(model))


def test_missing_part_of_a_large_model_is_named(model):
    parts = {"a": "part-1.safetensors", "b": "part-2.safetensors"}
    write_json(model / "model.safetensors.index.json", {"weight_map": parts})
    (model / "model.safetensors").rename(model / "part-1.safetensors")

    with pytest.raises(InputError, match=r"1 of 2 parts are missing, part-2.safetensors"):
        check_model(str(model))


def test_pointer_to_weights_is_one_line(model):
    (model / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1")

    with pytest.raises(InputError, match="damaged, or only a pointer"):
        load_model(str(model))


def test_tokenizer_without_an_end_token_is_refused(model):
    edit(model / "tokenizer_config.json", eos_token=None, pad_token=None)

    with pytest.raises(InputError, match=r"no token that ends an answer: set eos_token"):
        load_tokenizer(str(model))


def test_missing_tokenizer_is_one_line(model):
    for file in model.glob("tokenizer*"):
        file.unlink()

    with pytest.raises(InputError, match=r"tokenizer of model .* cannot be read"):
        load_tokenizer(str(model))


def test_attention_that_can_be_had_passes():
    check_model_kwargs(TINY_MODEL, {"attn_implementation": "eager"})


@pytest.mark.parametrize("attention", ["flash_attention_2", "fast"])
def test_attention_that_cannot_be_had_is_refused_before_weights_are_read(attention, monkeypatch):
    monkeypatch.setattr("grpo_helpers.models._read_weights", None)

    with pytest.raises(InputError, match=f"cannot have attn_implementation '{attention}'") as error:
        check_model_kwargs(TINY_MODEL, {"attn_implementation": attention})
    assert "\n" not in str(error.value)


def test_quantisation_without_bitsandbytes_is_refused(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(InputError, match="needs bitsandbytes"):
        check_quantization("8bit")


# -- hashes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["README.md", "LICENSE", ".cache/download", "figure.png"])
def test_page_in_a_models_folder_leaves_its_hash(model, name):
    before = sha256_of_model(model)
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("other words")

    assert sha256_of_model(model) == before


@pytest.mark.parametrize("name", ["config.json", "merges.txt", "chat_template.jinja"])
def test_file_that_a_model_is_read_from_changes_its_hash(model, name):
    before = sha256_of_model(model)
    (model / name).write_text("{}")

    assert sha256_of_model(model) != before


def test_hash_of_every_file_as_runs_recorded_it_is_still_known(model):
    assert is_model(model, sha256([model]))


# -- room for prompt and answer --------------------------------------------------------------------


def room_for(model, new_tokens, **words):
    """Check one prompt of a model."""
    tokenizer = load_tokenizer(str(model))
    texts = prompt_texts([PROMPT], tokenizer)
    check_room(tokenizer, [ITEM], texts, Room(str(model), new_tokens, **words))


def test_prompt_and_answer_that_fit_pass(model):
    room_for(model, 96)


def test_answer_beyond_the_positions_is_refused_with_what_would_fit(model):
    message = r"prompt of id 'q1' has 11 tokens .* 1024 positions .* max_completion_length to 1013"

    with pytest.raises(InputError, match=message):
        room_for(model, 1014)


def test_prompt_beyond_the_positions_is_not_told_to_shorten_the_answer(model):
    edit(model / "config.json", max_position_embeddings=10)

    with pytest.raises(InputError, match=r"positions of model [^:]*: lower num_few_shot$"):
        room_for(model, 4)


def test_longest_prompt_that_would_fit_is_named(model):
    edit(model / "config.json", max_position_embeddings=20)

    with pytest.raises(InputError, match="or set max_prompt_tokens=10"):
        room_for(model, 10, fix="set max_prompt_tokens={left}")


def test_model_without_positions_takes_every_prompt(monkeypatch):
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(vocab_size=5000))
    monkeypatch.setattr("grpo_helpers.model_checks.model_config", lambda name: config)

    room_for(TINY_MODEL, 10**6)


def test_token_that_the_model_has_no_row_for_is_refused(model):
    edit(model / "config.json", vocab_size=100)

    with pytest.raises(InputError, match=r"writes token \d+, the model knows 100"):
        room_for(model, 8)


# -- layers of LoRA --------------------------------------------------------------------------------


def test_every_linear_layer_is_peft_s_own_word():
    settings = TrainSettings(lora_target_modules="all-linear")

    assert lora_config(settings).target_modules == "all-linear"


def test_blanks_between_names_do_not_count():
    assert lora_targets("q_proj, v_proj,") == ["q_proj", "v_proj"]


@pytest.mark.parametrize("text", ["", " , "])
def test_no_name_at_all_is_refused(text):
    with pytest.raises(InputError, match="lora_target_modules is empty"):
        lora_targets(text)


def test_all_linear_beside_other_names_is_refused():
    with pytest.raises(InputError, match="give it alone"):
        lora_targets("all-linear,q_proj")


@pytest.mark.parametrize("text", ["q_proj,v_proj", "down_proj", "all-linear", "embed_tokens"])
def test_names_of_the_models_layers_pass(text):
    check_lora_targets(text, TINY_MODEL)


@pytest.mark.parametrize("text", ["query_key_value", "q_proj,v_porj", "mlp", "proj"])
def test_name_without_a_layer_is_refused_with_the_models_own(text):
    with pytest.raises(InputError, match="use q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj"):
        check_lora_targets(text, TINY_MODEL)


def test_output_head_is_refused():
    with pytest.raises(InputError, match="'lm_head', the output head"):
        check_lora_targets("lm_head", TINY_MODEL)


# -- adapter and base ------------------------------------------------------------------------------


@pytest.fixture
def adapter(tmp_path, model):
    """The folder of an adapter of the model, alone in the world."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path / "alone" / "step_2"
    folder.mkdir(parents=True)
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    weights = {f"{layer}.lora_A.weight": torch.zeros(4, 192)}
    weights[f"{layer}.lora_B.weight"] = torch.zeros(192, 4)
    save_file(weights, folder / "adapter_model.safetensors")
    write_json(folder / "adapter_config.json", {"base_model_name_or_path": str(model)})
    return folder


@pytest.fixture
def adapter_of_a_run(adapter, model):
    """The same adapter in a run that recorded its base."""
    about = {"parameters": {"model_name": str(model)}, "sha256": {"model": sha256_of_model(model)}}
    write_json(adapter.parent / "settings.json", about)
    return adapter


@pytest.fixture
def other(model, tmp_path):
    """A model of the same sizes with other contents."""
    folder = shutil.copytree(model, tmp_path / "other")
    edit(folder / "config.json", rms_norm_eps=1e-5)
    return folder


@pytest.mark.parametrize("kind", ["adapter", "adapter_of_a_run"])
def test_model_that_an_adapter_was_trained_on_passes(kind, model, request, capsys):
    check_adapter(request.getfixturevalue(kind), str(model))

    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", ["adapter", "adapter_of_a_run"])
def test_copy_of_the_model_passes(kind, model, tmp_path, request, capsys):
    copy = shutil.copytree(model, tmp_path / "copy")
    (copy / "README.md").write_text("a copy")
    check_adapter(request.getfixturevalue(kind), str(copy))

    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", ["adapter", "adapter_of_a_run"])
def test_other_model_of_the_same_sizes_is_refused(kind, other, request):
    folder = request.getfixturevalue(kind)

    with pytest.raises(InputError, match=r"trained on .*model.*is another one"):
        check_adapter(folder, str(other))


def test_base_that_has_changed_in_its_place_is_told(adapter_of_a_run, model, capsys):
    edit(model / "config.json", rms_norm_eps=1e-5)
    check_adapter(adapter_of_a_run, str(model))

    assert "warning: the adapter in" in capsys.readouterr().err


def test_base_that_nobody_can_compare_is_told(adapter, model, capsys):
    write_json(adapter / "adapter_config.json", {"base_model_name_or_path": "someone/else"})
    check_adapter(adapter, str(model))

    (line,) = capsys.readouterr().err.splitlines()
    assert "was trained on someone/else, and answers here with" in line


def test_base_of_other_sizes_is_refused_before_weights_are_read(adapter, model):
    edit(model / "config.json", hidden_size=96, num_attention_heads=2, num_key_value_heads=2)
    (model / "model.safetensors").unlink()

    with pytest.raises(InputError, match=r"another model.layers.0.self_attn.q_proj"):
        check_adapter(adapter, str(model))


def test_adapter_without_weights_is_refused(adapter, model):
    (adapter / "adapter_model.safetensors").unlink()

    with pytest.raises(InputError, match=r"has no adapter_model.safetensors"):
        check_adapter(adapter, str(model))
