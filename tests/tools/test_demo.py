"""The models in the browser: what is exported for them is what the package computes with."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest

from grpo_helpers.data import load_items
from grpo_helpers.files import InputError, read_json, resolve_path, write_json
from grpo_helpers.inference import AnswerOptions
from grpo_helpers.model_checks import check_adapter
from grpo_helpers.models import load_model, load_tokenizer
from grpo_helpers.prompts import (
    CategoryFewShotGenerator,
    PromptSource,
    build_messages,
    load_instruct,
    load_prompted,
    prompt_texts,
)
from grpo_helpers.questions import CORRECTION, SELECTION, Item
from grpo_helpers.run_folder import RunFolder
from grpo_helpers.settings import ThinkingSettings
from tools.corpus.questions import CHOOSE, CORRECT
from tools.experiments.recorded_runs import FOLDER
from tools.site.demo import engine, export, graph, questions, weights
from tools.site.demo.keep import KEPT, keep
from tools.word_chain.thinking_card import PROMPTS
from tools.word_chain.words import load_words

MODEL = export.MODEL
THINKING_MODEL = export.THINKING_MODEL
CONFIG = read_json(f"{MODEL}/config.json")


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(MODEL)


@pytest.fixture(scope="module")
def asking():
    return questions.collect(AnswerOptions(model_id=MODEL))


@pytest.fixture(scope="module")
def base():
    return weights.read_base(resolve_path(MODEL))


@pytest.fixture(scope="module")
def model():
    return load_model(MODEL).eval()


# -- prompts and vocabulary ------------------------------------------------------------------------


def exported_prompt(asking, head, question):
    return (asking.heads[head] + question + asking.tail).encode()


@pytest.mark.parametrize("split", questions.GROUPS)
def test_prompt_of_a_pick_has_the_bytes_of_the_packages_prompt(asking, tokenizer, split):
    items, prompts = load_prompted(f"data/embedded/{split.file}", PromptSource())
    texts = dict(zip((item.id for item in items), prompt_texts(prompts, tokenizer), strict=True))
    picks = [pick for pick in asking.picks if pick.id in texts]

    assert len(picks) > 100
    for pick in picks:
        assert exported_prompt(asking, pick.head, pick.question) == texts[pick.id].encode()


@pytest.mark.parametrize(
    ("kind", "question"),
    [
        (SELECTION, CHOOSE.format("{며칠/몇일} 걸렸다.")),
        (CORRECTION, CORRECT.format('"몇일 걸렸다."')),
    ],
)
def test_prompt_of_a_typed_sentence_has_the_bytes_of_the_packages_prompt(
    asking, tokenizer, kind, question
):
    item = Item("typed", kind, question)
    pool = load_items(PromptSource.few_shot_data_path)
    examples = CategoryFewShotGenerator(pool, 1).examples(item)
    messages = build_messages(item, load_instruct("data/instruct.json"), examples)
    (expected,) = prompt_texts([messages], tokenizer)

    around = asking.typed[kind]
    sentence = question.removeprefix(around["before"]).removesuffix(around["after"])
    asked = around["before"] + sentence + around["after"]

    assert sentence in ("{며칠/몇일} 걸렸다.", "몇일 걸렸다.")
    assert exported_prompt(asking, around["head"], asked) == expected.encode()


def test_vocabulary_has_every_token_in_its_place(tokenizer):
    tokens = questions.vocabulary(tokenizer)["tokens"]

    assert len(tokens) == CONFIG["vocab_size"]
    assert tokens == tokenizer.convert_ids_to_tokens(range(len(tokens)))


def test_vocabulary_calls_the_marks_of_the_chat_template_special(tokenizer):
    vocabulary = questions.vocabulary(tokenizer)

    special = [vocabulary["tokens"][number] for number in vocabulary["special"]]

    assert {"<|system|>", "<|user|>", "<|assistant|>", "<|end|>"} <= set(special)
    assert all(len(token) > 1 for token in special)


def test_each_question_to_pick_offers_two_spellings_and_has_a_gloss(asking):
    for pick in asking.picks:
        assert pick.sentence.count("{") == pick.sentence.count("/") == 1, pick.id
        assert pick.gloss, pick.id


# -- the word chains, for the model that can think -------------------------------------------------


@pytest.fixture(scope="module")
def chains():
    return questions.collect(export.thinking_options(""), questions.CHAINS)


@pytest.mark.parametrize("split", questions.CHAIN_GROUPS)
def test_prompt_of_a_word_chain_has_the_bytes_of_the_packages_prompt(chains, split):
    items, prompts = load_prompted(f"data/word_chain/{split.file}", PROMPTS)
    texts = prompt_texts(prompts, load_tokenizer(THINKING_MODEL))
    picks = {pick.id: pick for pick in chains.picks}

    for item, text in zip(items, texts, strict=True):
        pick = picks[item.id]
        assert exported_prompt(chains, pick.head, pick.question) == text.encode()


def test_settings_of_notebook_07_ask_the_same(chains, tmp_path):
    (tmp_path / "step_40").mkdir()
    (tmp_path / "step_40" / "adapter_config.json").write_text("{}")
    parameters = asdict(ThinkingSettings().training)
    (tmp_path / "settings.json").write_text(json.dumps({"parameters": parameters}))

    assert questions.collect(export.thinking_options(str(tmp_path)), questions.CHAINS) == chains
    assert export.run_temperature(str(tmp_path)) == export.run_temperature("")
    assert export.run_reward_weights(str(tmp_path)) == export.run_reward_weights("")


def test_words_of_every_chain_have_a_gloss(chains):
    glosses = load_words()

    for pick in chains.picks:
        words = pick.question.split("\n")[0].split(": ")[1].split()
        assert set(words) <= set(glosses), pick.id


def test_gloss_of_a_chain_leaves_the_list_of_words_out(chains):
    for pick in chains.picks:
        assert pick.gloss.startswith("\"From '"), pick.id


def test_tags_of_a_thought_are_tokens_that_are_not_special():
    vocabulary = questions.vocabulary(load_tokenizer(THINKING_MODEL))
    tags = [vocabulary["tokens"].index(tag) for tag in ("<think>", "</think>")]

    assert not set(tags) & set(vocabulary["special"])


# -- weights ---------------------------------------------------------------------------------------


def test_base_model_loses_nothing(base, model):
    exported = weights.merged(base, None)

    for name, values in exported.items():
        assert np.array_equal(values, model.state_dict()[name].numpy()), name


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """An adapter on all linear layers, and the model with it."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=10, target_modules="all-linear", init_lora_weights=False)
    policy = get_peft_model(load_model(MODEL), config)
    folder = tmp_path_factory.mktemp("epoch_1")
    policy.save_pretrained(folder)
    return folder, policy


def test_adapter_is_merged_as_peft_does(base, adapted):
    folder, policy = adapted
    expected = policy.merge_and_unload().state_dict()

    exported = weights.merged(base, weights.read_adapter(folder))

    for name, values in exported.items():
        assert np.allclose(values, expected[name].numpy(), atol=1e-6), name


def test_adapter_that_is_no_plain_lora_is_refused(adapted, tmp_path):
    folder, _ = adapted
    config = read_json(folder / "adapter_config.json") | {"use_dora": True}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))

    with pytest.raises(InputError, match="use_dora"):
        weights.read_adapter(tmp_path)


# -- the graph -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def computed(base, tmp_path_factory):
    return logits_computer(CONFIG, base, tmp_path_factory.mktemp("graph"))


def logits_computer(config, base, folder):
    """Return what computes logits with the exported graph: ONNX's own evaluator, in numpy."""
    onnx = pytest.importorskip("onnx", reason="pip install -e .[site]")
    from onnx.reference import ReferenceEvaluator

    content = graph.build_graph(config, base.tensors)
    (folder / export.GRAPH).write_bytes(content)
    numbers = np.frombuffer(base.content, "<f2").astype("<f4")
    (folder / graph.WEIGHTS_FILE).write_bytes(numbers.tobytes())
    evaluator = ReferenceEvaluator(onnx.load(folder / export.GRAPH))

    def compute(tokens, past=None):
        if past is None:
            past = np.zeros((4, 2, 4, 0, config["head_dim"]), np.float32)
        return evaluator.run(None, {"tokens": np.array(tokens), "past": past})

    return compute


TOKENS = [4, *range(100, 140), 2, 5]


def logits_of_transformers(model):
    import torch

    with torch.no_grad():
        return model(torch.tensor([TOKENS])).logits[0].numpy()


def test_graph_computes_the_logits_of_transformers(computed, model):
    logits, _ = computed(TOKENS)

    assert np.allclose(logits, logits_of_transformers(model), atol=1e-3)


def test_graph_of_the_model_that_can_think_computes_its_logits(tmp_path):
    config = read_json(f"{THINKING_MODEL}/config.json")
    base = weights.read_base(resolve_path(THINKING_MODEL))
    expected = logits_of_transformers(load_model(THINKING_MODEL).eval())

    logits, _ = logits_computer(config, base, tmp_path)(TOKENS)

    assert np.allclose(logits, expected, atol=1e-3)


def test_graph_reads_on_where_it_has_stopped(computed):
    whole, _ = computed(TOKENS)

    first, cache = computed(TOKENS[:20])
    second, _ = computed(TOKENS[20:], cache)

    assert np.allclose(np.concatenate([first, second]), whole, atol=1e-3)


def test_graph_is_refused_for_another_kind_of_model():
    with pytest.raises(InputError, match="tie_word_embeddings"):
        graph.check_shape(CONFIG | {"tie_word_embeddings": False})


# -- engine and page -------------------------------------------------------------------------------


def test_another_archive_than_the_published_one_is_refused(tmp_path):
    archive = tmp_path / "onnxruntime-web.tgz"
    archive.write_bytes(b"something else")

    with pytest.raises(InputError, match="fetch it again"):
        engine.unpack(archive)


FILES = {
    "engine/a.wasm": bytes(2_000_000),
    "base.bin": bytes(1_000_000),
    "epoch_1.bin": bytes(300_000),
    "app.js": bytes(100_000),
}


def test_page_states_what_it_weighs():
    assert "**3.4 MB**" in export.page(FILES)


def test_each_file_counts_in_one_row_of_the_weights():
    sizes = [row.split("|")[2].strip() for row in export.weight_rows(FILES)]

    assert sizes == ["2.0 MB", "1.0 MB", "0.3 MB", "0.1 MB"]


def test_files_of_a_model_in_a_folder_count_in_the_same_rows():
    placed = {"base.bin": "thinking/base.bin", "epoch_1.bin": "thinking/after_GRPO.bin"}
    files = {placed.get(name, name): content for name, content in FILES.items()}

    assert export.weight_rows(files) == export.weight_rows(FILES)


def test_pages_share_all_but_their_own_scripts(monkeypatch):
    monkeypatch.setattr(engine, "engine_files", dict)

    norms, thinking = (set(export.shared_files(page)) for page in export.PAGES)

    assert norms ^ thinking == {"app.js", "thinking.js", "chain.js"}


def test_first_page_loads_nothing_of_the_model_that_can_think(monkeypatch):
    pytest.importorskip("onnx", reason="pip install -e .[site]")
    monkeypatch.setattr(engine, "engine_files", dict)
    norms, thinking = export.demo_files(), export.thinking_files()

    assert not [name for name in norms if "thinking" in name]
    assert {name for name in thinking if name.startswith("thinking/")} == {
        "thinking/demo.json",
        "thinking/graph.onnx",
        "thinking/base.bin",
    }


def test_page_of_the_model_that_can_think_says_whether_the_base_is_alone(finished_thinking):
    assert "only the base model is here" in export.thinking_page(FILES)
    assert "by step 40" in export.thinking_page(FILES, str(finished_thinking.path))


def test_last_checkpoint_of_a_run_answers_beside_the_base(finished_thinking, monkeypatch):
    pytest.importorskip("onnx", reason="pip install -e .[site]")
    monkeypatch.setattr(engine, "engine_files", dict)

    files = export.thinking_files(str(finished_thinking.path))

    data = json.loads(files["thinking/demo.json"])
    assert [checkpoint["file"] for checkpoint in data["checkpoints"]] == ["after_GRPO.bin"]
    assert "thinking/after_GRPO.bin" in files


def test_page_without_a_run_says_that_the_base_answers_alone(tmp_path):
    assert "only the base model is here" in export.page(FILES, str(tmp_path))


def test_checkpoints_of_a_run_are_its_epochs(adapted, tmp_path):
    folder, _ = adapted
    for name in ("epoch_2", "epoch_1", "step_20"):
        (tmp_path / name).symlink_to(folder)

    read = export.read_checkpoints(str(tmp_path), "")

    assert [checkpoint.name for checkpoint in read] == ["epoch_1", "epoch_2"]
    assert len(read[0].adapter.pairs) == 4 * 7


# -- kept checkpoints ------------------------------------------------------------------------------


@pytest.fixture
def finished_thinking(tmp_path):
    """A folder as notebook 07 leaves it: settings, and an adapter of a step."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["q_proj"])
    run = RunFolder(tmp_path / "runs" / "short-thinking")
    policy = get_peft_model(load_model(THINKING_MODEL), config)
    policy.save_pretrained(run.path / "step_40")
    parameters = asdict(ThinkingSettings().training) | {
        "train_data_path": str(tmp_path / "runs" / "questions.json")
    }
    description = {"parameters": parameters, "run_dir": "runs/short-thinking"}
    (run.path / "settings.json").write_text(json.dumps(description))
    return run


def test_kept_run_has_no_path_of_the_checkout_that_it_was_made_in(finished_thinking, tmp_path):
    kept = RunFolder(keep(finished_thinking, tmp_path / "kept", ["step_40"]))

    assert kept.settings["train_data_path"] == "runs/questions.json"
    assert str(tmp_path) not in (kept.path / "settings.json").read_text()


@pytest.fixture
def finished(adapted, tmp_path):
    """A run folder with settings and two epochs."""
    folder, _ = adapted
    run = RunFolder(tmp_path / "run")
    for name in ("epoch_1", "epoch_2"):
        shutil.copytree(folder, run.path / name)
    shutil.copyfile(FOLDER / "seed_0" / "settings.json", run.path / "settings.json")
    return run


def test_kept_run_has_the_named_checkpoints_only(finished, tmp_path):
    kept = RunFolder(keep(finished, tmp_path / "kept", ["epoch_2"]))

    assert kept.checkpoints() == ["epoch_0", "epoch_2"]


def test_kept_run_answers_as_the_run_does(finished, tmp_path):
    kept = RunFolder(keep(finished, tmp_path / "kept", ["epoch_2"]))

    own, of_copy = (AnswerOptions.of_run(run, "epoch_2") for run in (finished, kept))
    assert replace(of_copy, lora_weights_path=None) == replace(own, lora_weights_path=None)


def test_kept_run_names_no_path_of_this_machine(finished, tmp_path):
    config = finished.path / "epoch_1" / "adapter_config.json"
    base = {"base_model_name_or_path": str(resolve_path(MODEL).resolve())}
    write_json(config, read_json(config) | base)

    target = keep(finished, tmp_path / "kept", ["epoch_1"])

    kept = read_json(target / "epoch_1" / "adapter_config.json")
    assert kept["base_model_name_or_path"] == MODEL


@pytest.mark.parametrize("path", sorted(KEPT.rglob("*.json")), ids=lambda path: path.parent.name)
def test_committed_checkpoint_names_no_absolute_path(path):
    assert '": "/' not in path.read_text(encoding="utf-8")


def test_checkpoint_that_the_run_lacks_leaves_what_was_kept_alone(finished, tmp_path):
    target = keep(finished, tmp_path / "kept", ["epoch_1"])

    with pytest.raises(InputError, match="no checkpoint 'epoch_9'"):
        keep(finished, target, ["epoch_9"])

    assert RunFolder(target).checkpoints() == ["epoch_0", "epoch_1"]


@pytest.mark.parametrize(("name", "epochs"), [("default", 3), ("hacked", 1)])
def test_site_of_a_fresh_clone_has_trained_checkpoints(name, epochs):
    kept = RunFolder(KEPT / name)

    assert len(kept.checkpoints()) == 1 + epochs
    for checkpoint in kept.checkpoints()[1:]:
        check_adapter(kept.adapter_folder(checkpoint), MODEL)


def test_kept_thinking_run_is_one_of_the_model_that_can_think():
    kept = RunFolder(KEPT / "thinking")
    if not kept.path.is_dir():
        pytest.skip("no run of the model that can think is kept: its page has the base alone")

    (checkpoint,) = kept.checkpoints()[1:]
    assert kept.settings["model_name"] == THINKING_MODEL
    check_adapter(kept.adapter_folder(checkpoint), THINKING_MODEL)


def test_hacked_checkpoint_was_trained_with_a_reward_that_can_be_gamed():
    assert "quoted" in RunFolder(KEPT / "hacked").settings["reward_weights"]
