"""The memory model: the sizes it must reproduce, the directions it must move in, its commands."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields, replace

import pytest
import yaml
from helpers import ROOT

from grpo_helpers.architecture import (
    ATTENTION,
    load_architecture,
    lora_params,
    template_characters,
    weights_bytes,
)
from grpo_helpers.files import InputError, read_yaml
from grpo_helpers.memory import (
    GIB,
    OVERHEAD,
    QUESTIONS,
    Budget,
    budget_of_params,
    longest_prompt,
    main,
    plans_that_fit,
    predict,
    predict_params,
    smallest_card,
    verdict,
)
from grpo_helpers.prompts import PromptSource, load_prompted
from grpo_helpers.settings import TrainSettings

PROFILE = "params/gpu_24gb/04_train.yaml"
BUDGET = Budget(B=2, S=4, A=16, prompt_tokens=1024, completion_tokens=512, quant="4bit")


@pytest.fixture
def midm():
    return load_architecture("K-intelligence/Midm-2.0-Base-Instruct")


def write_profile(tmp_path, profile=PROFILE, **changes):
    """Return the path of a copy of a profile with ``changes``; None removes a parameter."""
    params = yaml.safe_load((ROOT / profile).read_text(encoding="utf-8")) | changes
    given = {name: value for name, value in params.items() if value is not None}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(given), encoding="utf-8")
    return path


def peak_of_profile(tmp_path, **changes):
    return predict_params(write_profile(tmp_path, **changes), prompt_tokens=1024).peak


# -- shapes and weights ----------------------------------------------------------------------------

# Billions of parameters, and GiB of the weights in 4 bits and in bfloat16.
PUBLISHED = {
    "Midm-2.0-Base-Instruct": (11.546, 7.03, 21.5),
    "Midm-2.0-Mini-Instruct": (2.3055, 1.43, 4.29),
    "Qwen3-0.6B": (0.596, 0.50, 1.11),
    "Qwen3-4B": (4.022, 2.47, 7.49),
    "Qwen3-8B": (8.190, 5.66, 15.3),
    "gemma-3-270m": (0.268, 0.36, 0.50),
}
each_model = pytest.mark.parametrize("name", PUBLISHED)


@each_model
def test_shape_has_the_published_number_of_parameters(name):
    arch = load_architecture(name)
    billions = (arch.linear_params + arch.unquantised_params) / 1e9
    assert billions == pytest.approx(PUBLISHED[name][0], rel=2e-3)


@each_model
def test_weights_in_four_bits_have_the_published_size(name):
    size = weights_bytes(load_architecture(name), "4bit") / GIB
    assert size == pytest.approx(PUBLISHED[name][1], abs=0.01)


@each_model
def test_weights_in_bfloat16_have_the_published_size(name):
    size = weights_bytes(load_architecture(name)) / GIB
    assert size == pytest.approx(PUBLISHED[name][2], rel=0.005)


@each_model
def test_weights_in_eight_bits_lie_between(name):
    arch = load_architecture(name)
    assert weights_bytes(arch, "4bit") < weights_bytes(arch, "8bit") < weights_bytes(arch)


def test_only_the_midm_shapes_are_marked_inferred():
    table = json.loads((ROOT / "data" / "architectures.json").read_text(encoding="utf-8"))
    inferred = {name for name, row in table.items() if row["inferred"]}
    assert inferred == {"Midm-2.0-Base-Instruct", "Midm-2.0-Mini-Instruct"}


def test_mini_model_has_the_cache_of_the_base_model(midm):
    mini = load_architecture("Midm-2.0-Mini-Instruct")
    assert mini.kv_bytes_per_token == midm.kv_bytes_per_token == 192 * 1024


@pytest.mark.parametrize("given", ["folder", "file"])
def test_local_config_is_read_before_the_table(tmp_path, given):
    folder = tmp_path / "Midm-2.0-Base-Instruct"
    folder.mkdir()
    file = folder / "config.json"
    shape = {
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "vocab_size": 100,
    }
    file.write_text(json.dumps(shape), encoding="utf-8")

    arch = load_architecture(folder if given == "folder" else file)

    assert (arch.name, arch.num_hidden_layers) == ("Midm-2.0-Base-Instruct", 2)
    assert arch.head_dim == 16
    assert not arch.inferred


def test_unknown_model_lists_the_known_ones():
    with pytest.raises(InputError, match="the table knows Midm"):
        load_architecture("someone/unknown-7b")


def test_config_of_another_kind_names_the_missing_key(tmp_path):
    (tmp_path / "config.json").write_text('{"hidden_size": 64}', encoding="utf-8")
    with pytest.raises(InputError, match="num_hidden_layers is missing"):
        load_architecture(tmp_path)


# -- figures to reproduce --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "completion", "B", "S", "expected"),
    [
        (512, 256, 1, 8, [9.0, 8.9, 8.1]),
        (512, 256, 2, 4, [9.0, 8.9, 8.6]),
        (512, 256, 8, 8, [17.4, 17.0, 11.3]),
        (1024, 512, 2, 4, [10.2, 10.0, 9.5]),
        (1024, 512, 8, 4, [17.4, 16.9, 15.1]),
        (1024, 512, 8, 8, [27.1, 26.1, 15.1]),
        (2048, 512, 2, 4, [12.6, 11.6, 10.7]),
        (2048, 512, 8, 4, [27.1, 23.0, 20.0]),
    ],
)
def test_reference_table_of_the_closed_form_is_reproduced(midm, prompt, completion, B, S, expected):
    """Its rows count gradients in sampling, too: a round inside an optimizer step, so A above S."""
    budget = Budget(
        B=B, S=S, A=2 * S, prompt_tokens=prompt, completion_tokens=completion, quant="4bit"
    )
    phases = predict(midm, budget).phases

    predicted = [phases[name] / GIB for name in ("prefill", "decode", "backward")]
    assert predicted == pytest.approx(expected, abs=0.06)


def test_trace_of_the_first_micro_batch_is_met(midm):
    budget = Budget(B=4, S=1, prompt_tokens=512, completion_tokens=256, quant="4bit")
    prediction = predict(midm, budget)

    # It was traced before gradients existed.
    first = prediction.phases["backward"] - prediction.static.gradients
    assert first / GIB == pytest.approx(9.353, rel=0.01)


def test_full_logits_add_two_copies_to_the_forward_pass(midm):
    budget = Budget(B=4, S=1, prompt_tokens=512, completion_tokens=512, quant="4bit")
    fused = predict(midm, budget).phases
    full = predict(midm, replace(budget, lm_head="full_logits")).phases

    scored = 4 * 512 * midm.vocab_size
    assert full["forward"] - fused["forward"] == pytest.approx(8 * scored, rel=0.3)


def test_full_logits_add_four_copies_to_the_backward_pass(midm):
    budget = Budget(B=4, S=1, prompt_tokens=512, completion_tokens=512, quant="4bit")
    fused = predict(midm, budget).phases
    full = predict(midm, replace(budget, lm_head="full_logits")).phases

    scored = 4 * 512 * midm.vocab_size
    assert full["backward"] >= fused["forward"] + 16 * scored - GIB


def test_full_logits_leave_the_other_phases_alone(midm):
    fused = predict(midm, BUDGET).phases
    full = predict(midm, replace(BUDGET, lm_head="full_logits")).phases

    for name in set(fused) - {"forward", "backward", "logprobs"}:
        assert full[name] == fused[name]


# -- float32 ---------------------------------------------------------------------------------------

FLOAT32 = replace(BUDGET, quant=None, dtype="float32")
BFLOAT16 = replace(FLOAT32, dtype="bfloat16")


def test_float32_doubles_weights_that_are_not_quantised(midm):
    wide = predict(midm, FLOAT32).static.weights
    assert wide == 2 * predict(midm, BFLOAT16).static.weights


def test_float32_doubles_the_cache(midm):
    wide = predict(midm, FLOAT32).made_of["decode"].kv_cache
    assert wide == 2 * predict(midm, BFLOAT16).made_of["decode"].kv_cache


@pytest.mark.parametrize("phase", ["prefill", "decode", "forward", "backward"])
def test_float32_takes_more_working_memory_in(midm, phase):
    wide = predict(midm, FLOAT32).made_of[phase].working
    assert wide > predict(midm, BFLOAT16).made_of[phase].working


def test_float32_leaves_the_adapter_as_it_is(midm):
    assert predict(midm, FLOAT32).static.trained == predict(midm, BFLOAT16).static.trained


def test_float16_takes_what_bfloat16_takes_where_nothing_is_quantised(midm):
    float16 = predict(midm, replace(BFLOAT16, dtype="float16"))

    assert float16.phases == predict(midm, BFLOAT16).phases


def test_adapter_of_a_quantised_model_is_wide_unless_it_is_bfloat16(midm):
    """Gradients of float16 are scaled, which torch does for float32 weights only."""
    narrow = predict(midm, BUDGET).static
    wide = predict(midm, replace(BUDGET, dtype="float16")).static

    assert wide.trained == 2 * narrow.trained
    assert wide.weights == narrow.weights


def test_unknown_dtype_is_refused():
    with pytest.raises(InputError, match="dtype must be one of bfloat16, float16, float32"):
        replace(BUDGET, dtype="half")


@pytest.mark.parametrize(("dtype", "expected"), [("bfloat16", "fits"), ("float32", "does not fit")])
def test_profile_of_the_smaller_model_fits_16_gib_in_bfloat16_only(tmp_path, dtype, expected):
    peak = peak_of_profile(tmp_path, profile="params/gpu_24gb_mini/04_train.yaml", dtype=dtype)

    assert verdict(peak, 16) == expected


def test_profile_without_a_dtype_has_the_default_of_the_notebook(tmp_path):
    assert peak_of_profile(tmp_path, dtype=None) == peak_of_profile(tmp_path, dtype="float32")


def test_profile_with_the_earlier_name_of_dtype_is_read(tmp_path):
    named = peak_of_profile(tmp_path, dtype="bfloat16")

    assert peak_of_profile(tmp_path, dtype=None, bf16=True) == named


# -- how long prompts are --------------------------------------------------------------------------


def test_longest_prompt_is_that_of_train_and_dev():
    texts = []
    for path in ("data/train.json", "data/dev.json"):
        _, prompts = load_prompted(path, PromptSource("data/few_shot.json", num_few_shot=3))
        texts += ["".join(message["content"] for message in prompt) for prompt in prompts]
    params = {
        "train_data_path": "data/train.json",
        "eval_data_path": "data/dev.json",
        "few_shot_data_path": "data/few_shot.json",
        "num_few_shot": 3,
    }

    assert longest_prompt(params) == max(map(len, texts))


def test_text_of_the_models_own_template_counts():
    midm = {"model_name": "K-intelligence/Midm-2.0-Base-Instruct"}

    assert longest_prompt(midm) - longest_prompt({}) == template_characters(midm["model_name"]) > 0


def test_template_that_takes_its_place_does_not():
    midm = {"model_name": "K-intelligence/Midm-2.0-Base-Instruct", "chat_template_path": "a.jinja"}

    assert longest_prompt(midm) == longest_prompt({})


def test_questions_have_the_defaults_of_the_notebook():
    defaults = {field.name: field.default for field in fields(TrainSettings)}

    assert QUESTIONS.items() <= defaults.items()


# -- what the memory depends on --------------------------------------------------------------------


def test_budget_has_no_number_of_generations():
    assert not {"G", "num_generations"} & {field.name for field in fields(Budget)}


def test_number_of_generations_leaves_the_peak_alone(tmp_path):
    peaks = {peak_of_profile(tmp_path, num_generations=G) for G in (2, 4, 8)}
    assert len(peaks) == 1


def test_accumulation_is_free_while_s_is_fixed(tmp_path):
    peaks = {peak_of_profile(tmp_path, gradient_accumulation_steps=A) for A in (8, 16, 64)}
    assert len(peaks) == 1


def test_accumulation_costs_memory_where_s_follows_it(tmp_path):
    fixed = peak_of_profile(tmp_path, gradient_accumulation_steps=64)
    following = peak_of_profile(tmp_path, gradient_accumulation_steps=64, steps_per_generation=0)
    assert following > fixed


def test_doubling_the_rows_costs_what_doubling_the_length_costs(midm):
    """What notebook 03 says of its table of cards."""
    twice_the_rows = replace(BUDGET, B=2 * BUDGET.B)
    twice_the_length = replace(
        BUDGET,
        prompt_tokens=2 * BUDGET.prompt_tokens,
        completion_tokens=2 * BUDGET.completion_tokens,
    )

    peaks = [predict(midm, budget).peak for budget in (twice_the_rows, twice_the_length)]

    assert peaks[0] == pytest.approx(peaks[1], rel=1e-6)


def test_prefill_is_ahead_of_decode_by_less_than_the_error_of_the_formula(midm):
    """What notebook 03 says of the settings at its top; the band of the trace is 3 percent."""
    phases = predict(midm, BUDGET).phases

    assert 1 < phases["prefill"] / phases["decode"] < 1.03


@pytest.mark.parametrize("knob", ["B", "S", "prompt_tokens", "completion_tokens", "lora_rank"])
@pytest.mark.parametrize("quant", [None, "8bit", "4bit"])
@pytest.mark.parametrize("checkpointing", [True, False])
def test_no_phase_shrinks_when_a_knob_is_doubled(midm, knob, quant, checkpointing):
    budget = replace(
        BUDGET, A=None, lora_rank=16, quant=quant, gradient_checkpointing=checkpointing
    )
    less = predict(midm, budget).phases
    more = predict(midm, replace(budget, **{knob: 2 * getattr(budget, knob)})).phases

    assert all(more[name] >= less[name] for name in less)
    assert sum(more.values()) > sum(less.values())


def test_phase_is_the_sum_of_its_parts(midm):
    prediction = predict(midm, BUDGET)
    for name, phase in prediction.made_of.items():
        parts = phase.weights + phase.adapter + phase.kv_cache + phase.working + phase.second_model
        assert prediction.phases[name] == parts


def test_peak_is_the_largest_phase_but_the_callback(midm):
    prediction = predict(midm, BUDGET)
    training = {name: size for name, size in prediction.phases.items() if name != "callback"}
    assert prediction.peak == max(training.values()) == training[prediction.binds]


def test_larger_round_leaves_the_backward_pass_alone(midm):
    budget = Budget(B=1, S=2, prompt_tokens=512, completion_tokens=256)
    small = predict(midm, budget).phases
    large = predict(midm, replace(budget, S=8)).phases

    assert small["backward"] == large["backward"]


def test_larger_round_makes_decoding_dearer(midm):
    budget = Budget(B=1, S=2, prompt_tokens=512, completion_tokens=256)
    small = predict(midm, budget).phases
    large = predict(midm, replace(budget, S=8)).phases

    assert small["decode"] < large["decode"]


def backward_bytes(arch, **changes):
    return predict(arch, replace(BUDGET, **changes)).phases["backward"]


def test_checkpointing_saves_more_than_dropout_costs(midm):
    without = backward_bytes(midm, gradient_checkpointing=False)
    assert without > backward_bytes(midm, lora_dropout=0.05) > backward_bytes(midm)


def test_more_lora_targets_make_the_backward_pass_dearer(midm):
    targets = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
    assert backward_bytes(midm, lora_targets=targets) > backward_bytes(midm)


def test_second_model_costs_weights_and_adapter_again(midm):
    prediction = predict(midm, BUDGET)
    second = prediction.made_of["callback"].second_model
    assert second == prediction.static.weights + prediction.static.lora


def test_callback_with_a_second_model_needs_fifteen_gib(midm):
    callback = predict(midm, BUDGET).phases["callback"] / GIB
    assert callback == pytest.approx(7.5 + 7.2 + 0.5, abs=0.1)


@pytest.mark.parametrize(("quant", "bytes_per_number"), [("4bit", 2), (None, 4)])
def test_adapter_is_bfloat16_only_over_a_quantised_base(midm, quant, bytes_per_number):
    static = predict(midm, replace(BUDGET, quant=quant)).static
    assert static.lora == bytes_per_number * lora_params(midm, 64)


def inference_phase(arch, rows):
    return predict(arch, replace(BUDGET, inference_rows=rows)).made_of["inference"]


def test_questions_share_no_prompt_even_if_completions_do(midm):
    budget = replace(BUDGET, inference_rows=8)
    sharing = replace(budget, rows_per_prompt=8)
    assert predict(midm, sharing).phases["inference"] == predict(midm, budget).phases["inference"]


def test_answering_many_questions_at_once_costs_cache(midm):
    assert inference_phase(midm, 64).kv_cache == 64 * inference_phase(midm, 1).kv_cache


def test_answering_many_questions_at_once_costs_working_memory(midm):
    assert inference_phase(midm, 64).working > inference_phase(midm, 1).working


@pytest.mark.parametrize(("rows", "binds"), [(64, True), (1, False)])
def test_answering_sets_the_peak_only_with_many_rows(midm, rows, binds):
    prediction = predict(midm, replace(BUDGET, inference_rows=rows))
    assert (prediction.binds == "inference") == binds


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"B": 0}, "B must be"),
        ({"quant": "2bit"}, "quant must be"),
        ({"lora_targets": ["lm_head"]}, "lora targets"),
        ({"lm_head": "chunked"}, "lm_head must be"),
    ],
)
def test_bad_value_of_a_budget_is_refused_by_name(midm, changes, message):
    with pytest.raises(InputError, match=message):
        predict(midm, replace(BUDGET, **changes))


# -- cards -----------------------------------------------------------------------------------------


def test_prediction_of_the_24_gb_profile_is_of_an_inferred_shape():
    assert predict_params(PROFILE, 1024).arch.inferred


@pytest.mark.parametrize("vram_gb", [24, 22.5])  # what a card with error correction may expose
def test_24_gb_profile_fits_its_card(vram_gb):
    assert verdict(predict_params(PROFILE, 1024).peak, vram_gb) == "fits"


@pytest.mark.parametrize(
    ("vram_gb", "expected"),
    [(11.5, "fits"), (11, "tight"), (10.5, "tight"), (10, "does not fit")],
)
def test_verdict_is_tight_within_the_overhead(vram_gb, expected):
    assert verdict(10 * GIB, vram_gb) == expected


@pytest.mark.parametrize(("gib", "card"), [(14.5, 16), (14.6, 24), (78.5, 80), (78.6, None)])
def test_smallest_card_has_room_for_all_of_the_overhead(gib, card):
    assert smallest_card(gib * GIB) == card


def fitting(arch, vram_gb):
    return plans_that_fit(arch, BUDGET, effective_completions=32, G=8, vram_gb=vram_gb)


def test_larger_card_takes_more_plans(midm):
    assert 0 < len(fitting(midm, 16)) < len(fitting(midm, 80))


def test_fitting_plan_needs_no_more_than_the_card(midm):
    assert all(fit.needed <= 16 * GIB for fit in fitting(midm, 16))


def test_fitting_plan_needs_its_peak_and_the_whole_overhead(midm):
    fit = fitting(midm, 16)[-1]
    budget = replace(BUDGET, B=fit.plan.B, S=fit.plan.S, A=fit.plan.A)
    assert fit.needed == predict(midm, budget).peak + OVERHEAD[1]
    assert OVERHEAD[1] == 1.5 * GIB


def test_card_that_is_too_small_takes_no_plan(midm):
    assert fitting(midm, 8) == []


# -- the command -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("vram_gb", "code"), [("24", 0), ("10", 1), ("8", 1)])
def test_command_exits_with_whether_it_fits(vram_gb, code, capsys):
    assert main(["--params", PROFILE, "--vram_gb", vram_gb]) == code


def test_command_prints_the_phases_from_the_shell():
    command = [sys.executable, "-m", "grpo_helpers.memory", "--params", PROFILE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    assert "predicted, not measured" in done.stdout
    assert "<- peak" in done.stdout


def test_command_measures_the_longest_prompt_of_the_profile(capsys):
    main(["--params", PROFILE])
    longest = longest_prompt(yaml.safe_load((ROOT / PROFILE).read_text(encoding="utf-8")))

    assert f"for a prompt of {longest} tokens" in capsys.readouterr().out


def test_length_that_is_given_is_not_measured(capsys):
    main(["--params", PROFILE, "--prompt_tokens", "1024"])

    assert "for a prompt of" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_generations": 6}, "Nearest legal: "),
        ({"model_name": "someone/unknown-7b"}, "the table knows"),
        ({"lora_r": None}, "lora_r is missing"),
    ],
)
def test_command_reports_bad_input_in_one_line(tmp_path, capsys, changes, message):
    assert main(["--params", str(write_profile(tmp_path, **changes))]) == 2

    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_command_reports_a_missing_file_in_one_line(tmp_path, capsys):
    assert main(["--params", str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_command_reports_a_broken_file_in_one_line(tmp_path, capsys):
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1", encoding="utf-8")

    assert main(["--params", str(broken)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_predicting_imports_neither_torch_nor_trl():
    code = "import sys, grpo_helpers.memory; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )

    imported = set(done.stdout.split())
    assert "grpo_helpers.memory" in imported
    assert not {"torch", "trl", "transformers"} & imported


# -- shared prompts --------------------------------------------------------------------------------

SHARED = Budget(
    B=8,
    S=1,
    prompt_tokens=1024,
    completion_tokens=64,
    gradient_checkpointing=False,
    rows_per_prompt=8,
)
APART = replace(SHARED, rows_per_prompt=1)
QWEN = load_architecture("Qwen3-0.6B")


@pytest.mark.parametrize("phase", ["prefill", "decode", "forward", "backward"])
def test_shared_prompt_takes_less_memory_in(phase):
    shared, apart = predict(QWEN, SHARED), predict(QWEN, APART)
    assert shared.phases[phase] < apart.phases[phase]


@pytest.mark.parametrize("phase", ["forward", "backward", "logprobs"])
def test_recomputed_loss_reads_every_prompt(phase):
    shared = predict(QWEN, replace(SHARED, gradient_checkpointing=True))
    apart = predict(QWEN, replace(APART, gradient_checkpointing=True))
    assert shared.phases[phase] == apart.phases[phase]


def test_one_row_per_prompt_is_trls_own_way():
    assert not APART.shares_in_loss


def test_group_that_is_not_whole_still_needs_its_prompt():
    assert SHARED.prompts_of(9) == 2


@pytest.mark.parametrize(("shared", "rows"), [(True, 8), (False, 1)])
def test_profile_says_whether_prompts_are_shared(shared, rows):
    params = read_yaml(PROFILE) | {"shared_prefix": shared}
    assert budget_of_params(params, 1024).rows_per_prompt == rows


def test_memory_of_a_server_that_samples_is_not_predicted():
    params = read_yaml(PROFILE) | {"rollout_server": "http://localhost:8000"}
    phases = predict(load_architecture(params["model_name"]), budget_of_params(params, 1024)).phases

    assert not {"prefill", "decode"} & set(phases)
    assert "inference" in phases
