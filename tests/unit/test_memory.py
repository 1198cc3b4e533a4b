"""The memory model: the sizes it must reproduce, the directions it must move in, and its command line."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest
import yaml

from grpo_helpers.architecture import ATTENTION, load_architecture, lora_params, weights_bytes
from grpo_helpers.files import InputError, project_root
from grpo_helpers.memory import GIB, main, plans_that_fit, predict, predict_params, verdict

ROOT = project_root()
PROFILE = "params/gpu_24gb/04_train.yaml"
BASE = {"B": 2, "S": 4, "prompt_tokens": 1024, "completion_tokens": 512, "quant": "4bit", "A": 16}


@pytest.fixture
def midm():
    return load_architecture("K-intelligence/Midm-2.0-Base-Instruct")


def write_profile(tmp_path, **changes):
    """Return the path of a copy of the 24 GB profile with ``changes``; a value of None removes the key."""
    given = yaml.safe_load((ROOT / PROFILE).read_text(encoding="utf-8")) | changes
    path = tmp_path / "params.yaml"
    path.write_text(
        yaml.safe_dump({k: v for k, v in given.items() if v is not None}), encoding="utf-8"
    )
    return path


@pytest.mark.parametrize(
    ("name", "billions", "nf4", "bf16"),
    [
        ("Midm-2.0-Base-Instruct", 11.546, 7.03, 21.5),
        ("Midm-2.0-Mini-Instruct", 2.3055, 1.43, 4.29),
        ("Qwen3-0.6B", 0.596, 0.50, 1.11),
        ("Qwen3-4B", 4.022, 2.47, 7.49),
        ("Qwen3-8B", 8.190, 5.66, 15.3),
        ("gemma-3-270m", 0.268, 0.36, 0.50),
    ],
)
def test_the_table_reproduces_the_published_sizes(name, billions, nf4, bf16):
    arch = load_architecture(name)
    assert (arch.linear_params + arch.kept_params) / 1e9 == pytest.approx(billions, rel=2e-3)
    assert weights_bytes(arch, "4bit") / GIB == pytest.approx(nf4, abs=0.01)
    assert weights_bytes(arch) / GIB == pytest.approx(bf16, rel=0.005)
    assert weights_bytes(arch, "4bit") < weights_bytes(arch, "8bit") < weights_bytes(arch)


def test_only_the_midm_shapes_are_marked_inferred():
    table = json.loads((ROOT / "data" / "architectures.json").read_text(encoding="utf-8"))
    assert {name for name, row in table.items() if row["inferred"]} == {
        "Midm-2.0-Base-Instruct",
        "Midm-2.0-Mini-Instruct",
    }


def test_the_mini_model_pays_the_same_cache_per_token_as_the_base_model(midm):
    assert (
        load_architecture("Midm-2.0-Mini-Instruct").kv_bytes_per_token
        == midm.kv_bytes_per_token
        == 192 * 1024
    )


@pytest.mark.parametrize(
    ("P", "T", "B", "S", "prefill", "decode", "train"),
    [
        (512, 256, 1, 8, 9.0, 8.9, 8.1),
        (512, 256, 2, 4, 9.0, 8.9, 8.6),
        (512, 256, 8, 8, 17.4, 17.0, 11.3),
        (1024, 512, 2, 4, 10.2, 10.0, 9.5),
        (1024, 512, 8, 4, 17.4, 16.9, 15.1),
        (1024, 512, 8, 8, 27.1, 26.1, 15.1),
        (2048, 512, 2, 4, 12.6, 11.6, 10.7),
        (2048, 512, 8, 4, 27.1, 23.0, 20.0),
    ],
)
def test_the_reference_table_of_the_closed_form_is_reproduced(
    midm, P, T, B, S, prefill, decode, train
):
    """Its rows count the gradients in the rollout too, that is, a round inside an optimizer step: A above S."""
    phases = predict(midm, B, S, P, T, quant="4bit", A=2 * S)["phases"]
    got = [phases[name] / GIB for name in ("prefill", "decode", "backward")]
    assert got == pytest.approx([prefill, decode, train], abs=0.06)


def test_the_full_trace_of_the_first_micro_batch_is_met_within_a_percent(midm):
    got = predict(midm, 4, 1, 512, 256, quant="4bit")
    first = (
        got["phases"]["backward"] - got["static"]["gradients"]
    )  # traced before gradients existed
    assert first / GIB == pytest.approx(9.353, rel=0.01)


def test_the_number_of_generations_is_no_part_of_the_memory(tmp_path):
    assert not {"G", "num_generations"} & set(inspect.signature(predict).parameters)
    peaks = {
        predict_params(write_profile(tmp_path, num_generations=g), 1024)[1]["peak"]
        for g in (2, 4, 8)
    }
    assert len(peaks) == 1


def test_accumulation_is_free_while_s_is_held_and_costs_where_s_follows_it(tmp_path):
    held = [
        predict_params(write_profile(tmp_path, gradient_accumulation_steps=a), 1024)[1]
        for a in (8, 16, 64)
    ]
    assert len({got["peak"] for got in held}) == 1
    follows = write_profile(tmp_path, steps_per_generation=0)
    assert predict_params(follows, 1024)[1]["peak"] > held[0]["peak"]


@pytest.mark.parametrize("knob", ["B", "S", "prompt_tokens", "completion_tokens", "lora_rank"])
@pytest.mark.parametrize("quant", [None, "8bit", "4bit"])
@pytest.mark.parametrize("checkpointing", [True, False])
def test_no_phase_shrinks_when_a_knob_grows(midm, knob, quant, checkpointing):
    base = {
        **BASE,
        "lora_rank": 16,
        "quant": quant,
        "gradient_checkpointing": checkpointing,
        "A": None,
    }
    less = predict(midm, **base)
    more = predict(midm, **{**base, knob: 2 * base[knob]})
    assert all(more["phases"][name] >= size for name, size in less["phases"].items())
    assert sum(more["phases"].values()) > sum(less["phases"].values())


def test_the_phases_are_the_sum_of_their_parts_and_the_peak_is_the_largest_phase(midm):
    got = predict(midm, **BASE)
    assert all(got["phases"][name] == sum(parts.values()) for name, parts in got["made_of"].items())
    training = {name: size for name, size in got["phases"].items() if name != "callback"}
    assert got["peak"] == max(training.values()) == training[got["binds"]]


def test_the_rounds_size_sets_the_rollout_and_the_batch_sets_the_loss(midm):
    small, large = (
        predict(midm, B=1, S=s, prompt_tokens=512, completion_tokens=256)["phases"] for s in (2, 8)
    )
    assert small["backward"] == large["backward"]
    assert small["decode"] < large["decode"]


def test_checkpointing_dropout_and_more_lora_targets_move_the_backward_pass_as_they_should(midm):
    def backward(**changes):
        return predict(midm, **{**BASE, **changes})["phases"]["backward"]

    assert backward(gradient_checkpointing=False) > backward(lora_dropout=0.05) > backward()
    assert backward(lora_targets=(*ATTENTION, "gate_proj", "up_proj", "down_proj")) > backward()


def test_a_second_model_costs_its_weights_again(midm):
    got = predict(midm, **BASE)
    assert (
        got["made_of"]["callback"]["second_model"]
        == got["static"]["weights"] + got["static"]["lora"]
    )
    assert got["phases"]["callback"] / GIB == pytest.approx(7.5 + 7.2 + 0.5, abs=0.1)


def test_adapters_are_bfloat16_over_a_quantised_base_and_float32_otherwise(midm):
    trained = lora_params(midm, 64)
    assert predict(midm, **BASE)["static"]["lora"] == 2 * trained
    assert predict(midm, **{**BASE, "quant": None})["static"]["lora"] == 4 * trained


def test_a_local_config_is_read_before_the_table(tmp_path):
    folder = tmp_path / "Midm-2.0-Base-Instruct"
    folder.mkdir()
    shape = {
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
    }
    (folder / "config.json").write_text(json.dumps(shape | {"vocab_size": 100}), encoding="utf-8")
    for path in (folder, folder / "config.json"):
        arch = load_architecture(path)
        assert (arch.name, arch.num_hidden_layers, arch.head_dim) == (
            "Midm-2.0-Base-Instruct",
            2,
            16,
        )
        assert not arch.inferred


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"B": 0}, "B must be"),
        ({"quant": "2bit"}, "quant must be"),
        ({"lora_targets": ["lm_head"]}, "lora targets"),
        ({"lm_head": "chunked"}, "lm_head must be"),
    ],
)
def test_bad_arguments_are_refused_by_name(midm, changes, said):
    with pytest.raises(InputError, match=said):
        predict(midm, **{**BASE, **changes})


def test_unknown_models_and_foreign_configs_are_refused(tmp_path):
    with pytest.raises(InputError, match="the table knows Midm"):
        load_architecture("someone/unknown-7b")
    (tmp_path / "config.json").write_text('{"hidden_size": 64}', encoding="utf-8")
    with pytest.raises(InputError, match="num_hidden_layers is missing"):
        load_architecture(tmp_path)


def test_the_24_gb_profile_fits_24_gb_by_prediction():
    arch, got = predict_params(PROFILE, 1024)
    assert arch.inferred
    assert verdict(got["peak"], 24) == "fits"
    assert verdict(got["peak"], 22.5) == "fits"  # what a card with error correction may expose


def test_the_verdict_knows_the_band_of_the_overhead():
    assert [verdict(10 * GIB, card) for card in (11.5, 11, 10.5, 10)] == [
        "fits",
        "tight",
        "tight",
        "does not fit",
    ]


@pytest.mark.parametrize(("vram", "code"), [("24", 0), ("11", 1), ("8", 1)])
def test_the_command_line_exits_by_whether_it_fits(vram, code):
    command = [sys.executable, "-m", "grpo_helpers.memory", "--params", PROFILE, "--vram_gb", vram]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    assert "predicted, not measured" in done.stdout
    assert "<- peak" in done.stdout


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_generations": 6}, "Nearest legal: "),
        ({"model_name": "someone/unknown-7b"}, "the table knows"),
        ({"lora_r": None}, "lora_r is missing"),
    ],
)
def test_the_command_line_tells_bad_input_in_one_line(tmp_path, capsys, changes, said):
    assert main(["--params", str(write_profile(tmp_path, **changes))]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_the_command_line_tells_a_missing_file_and_a_broken_one(tmp_path, capsys):
    assert main(["--params", str(tmp_path / "none.yaml")]) == 2
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1", encoding="utf-8")
    assert main(["--params", str(broken)]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_predicting_needs_neither_torch_nor_trl():
    code = "import sys, grpo_helpers.memory; print({'torch', 'trl', 'transformers'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "set()"


HOW = {"prompt_tokens": 1024, "completion_tokens": 512, "quant": "4bit"}


def test_the_plans_that_fit_a_card_are_those_below_its_memory_and_a_larger_card_takes_more(midm):
    small, large = (plans_that_fit(midm, 32, G=8, vram_gb=vram, **HOW) for vram in (16, 80))
    assert 0 < len(small) < len(large)
    assert all(peak <= 16 * GIB for _, peak in small)
    plan, peak = small[-1]
    assert peak == predict(midm, plan.B, plan.S, A=plan.A, **HOW)["peak"] + 1.5 * GIB
    assert plans_that_fit(midm, 32, G=8, vram_gb=8, **HOW) == []


def test_answering_many_questions_at_once_costs_cache_and_one_costs_less_than_the_rollout(midm):
    few, many = (
        predict(midm, **BASE, inference_rows=rows)["made_of"]["inference"] for rows in (1, 64)
    )
    assert many["kv_cache"] == 64 * few["kv_cache"] and many["working"] > few["working"]
    assert predict(midm, **BASE, inference_rows=64)["binds"] == "inference"
    assert predict(midm, **BASE, inference_rows=1)["binds"] != "inference"


def test_the_full_logits_of_mid_2025_cost_gigabytes(midm):
    now, then = (
        predict(midm, 4, 1, 512, 512, quant="4bit", lm_head=head)["phases"]
        for head in ("fused", "full_logits")
    )
    scored = 4 * 512 * midm.vocab_size
    assert then["forward"] - now["forward"] == pytest.approx(8 * scored, rel=0.3)
    assert then["backward"] >= now["forward"] + 16 * scored - GIB
    assert all(
        then[name] == now[name] for name in now if name not in ("forward", "backward", "logprobs")
    )
