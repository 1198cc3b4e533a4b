"""A vocabulary cut to Korean: text splits as before, the logits of what is left are the same numbers."""

import pytest
import torch

from grpo_helpers.data import load_items
from tools.experiments.trim_vocabulary import LATIN_WORD, trim

SPECIAL = ["<pad>", "<eos>", "<bos>", "<turn>", "<unused>"]


@pytest.fixture(scope="module")
def questions():
    return [
        item.question.replace("[", "(").replace("]", ")")
        for item in load_items("data/embedded/dev.json")[:60]
    ]


@pytest.fixture(scope="module")
def pair(questions):
    """A real BPE tokenizer, trained here, and a model of its size; both whole and cut."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<pad>"))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    words = ["the user and the model and the others", "日本語の文字"] * 20
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=SPECIAL + [f"<0x{byte:02X}>" for byte in range(256)]
    )
    backend.train_from_iterator(questions + words, trainer)
    names = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>"}
    whole = PreTrainedTokenizerFast(tokenizer_object=backend, padding_side="left", **names)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(whole), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    ids = whole(questions[0], return_tensors="pt").input_ids
    before = model(ids).logits.detach()[0]
    cut = trim(model, whole, words=("user", "model"), special=("<turn>",))
    return whole, cut, model, before


def test_korean_text_is_split_as_before_and_comes_back_whole(pair, questions):
    whole, cut, _, _ = pair
    for text in [*questions, "<turn>user\nmodel"]:
        old, new = whole(text).input_ids, cut(text).input_ids
        assert cut.convert_ids_to_tokens(new) == whole.convert_ids_to_tokens(old)
    assert cut.decode(cut(questions[0]).input_ids) == questions[0]


def test_the_logits_of_the_kept_tokens_are_the_same(pair, questions):
    whole, cut, model, before = pair
    ids = cut(questions[0], return_tensors="pt").input_ids
    kept = [
        whole.convert_tokens_to_ids(token) for token in cut.convert_ids_to_tokens(range(len(cut)))
    ]
    torch.testing.assert_close(model(ids).logits.detach()[0], before[:, kept])
    assert model.config.vocab_size == len(cut) and model.config.tie_word_embeddings
    assert (model.config.eos_token_id, model.config.pad_token_id) == (
        cut.eos_token_id,
        cut.pad_token_id,
    )


def test_other_scripts_are_dropped_and_spelled_in_bytes_instead(pair):
    whole, cut, _, _ = pair
    assert (
        len(cut) < len(whole) and "<unused>" not in cut.get_vocab() and "<turn>" in cut.get_vocab()
    )
    latin = {token for token in cut.get_vocab() if LATIN_WORD.fullmatch(token)}
    assert any("the" in token for token in whole.get_vocab()) and not any(
        "the" in token for token in cut.get_vocab()
    )
    assert all(token in "user" or token in "model" for token in latin)
    assert "日本" in "".join(whole.get_vocab()) and "日" not in cut.get_vocab()
    assert cut.convert_ids_to_tokens(cut("日").input_ids) == ["<0xE6>", "<0x97>", "<0xA5>"]
    assert cut.decode(cut("日").input_ids) == "日"
