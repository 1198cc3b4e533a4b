"""A vocabulary cut to Korean: text splits as before, the remaining logits are the same."""

from dataclasses import dataclass

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from grpo_helpers.data import load_items
from tools.experiments.trim_vocabulary import LATIN_WORD, trim

pytestmark = pytest.mark.heavy  # a model of transformers is loaded

SPECIAL = ["<pad>", "<eos>", "<bos>", "<turn>", "<unused>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
OTHER_TEXT = ["the user and the model and the others", "日本語の文字"] * 20


@dataclass(frozen=True)
class Cut:
    """A tokenizer before and after, the model that was cut with it, and its logits before."""

    whole: PreTrainedTokenizerFast
    small: PreTrainedTokenizerFast
    model: LlamaForCausalLM
    logits_before: torch.Tensor


@pytest.fixture(scope="module")
def questions():
    items = load_items("data/embedded/dev.json")[:60]
    return [item.question.replace("[", "(").replace("]", ")") for item in items]


def train_tokenizer(texts):
    """Train a BPE tokenizer on ``texts``, with bytes for everything else."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<pad>"))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=SPECIAL + BYTES)
    backend.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        padding_side="left",
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
    )


def small_model(vocabulary_size):
    from transformers import LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def cut(questions):
    whole = train_tokenizer(questions + OTHER_TEXT)
    model = small_model(len(whole))
    ids = whole(questions[0], return_tensors="pt").input_ids
    before = model(ids).logits.detach()[0]
    small = trim(model, whole, words=("user", "model"), special=("<turn>",))
    return Cut(whole, small, model, before)


def test_korean_text_splits_as_before(cut, questions):
    for text in [*questions, "<turn>user\nmodel"]:
        before = cut.whole.convert_ids_to_tokens(cut.whole(text).input_ids)
        after = cut.small.convert_ids_to_tokens(cut.small(text).input_ids)
        assert after == before


def test_korean_text_decodes_to_itself(cut, questions):
    assert cut.small.decode(cut.small(questions[0]).input_ids) == questions[0]


def test_logits_of_the_remaining_tokens_are_the_same(cut, questions):
    ids = cut.small(questions[0], return_tensors="pt").input_ids
    tokens = cut.small.convert_ids_to_tokens(range(len(cut.small)))
    rows = [cut.whole.convert_tokens_to_ids(token) for token in tokens]
    torch.testing.assert_close(cut.model(ids).logits.detach()[0], cut.logits_before[:, rows])


def test_model_config_has_the_small_vocabulary(cut):
    config = cut.model.config
    assert config.vocab_size == len(cut.small)
    assert config.tie_word_embeddings


def test_model_config_has_the_new_ids_of_special_tokens(cut):
    config = cut.model.config
    assert config.eos_token_id == cut.small.eos_token_id
    assert config.pad_token_id == cut.small.pad_token_id


def test_only_named_special_tokens_stay(cut):
    vocabulary = cut.small.get_vocab()
    assert len(cut.small) < len(cut.whole)
    assert "<unused>" not in vocabulary
    assert "<turn>" in vocabulary


def test_latin_words_go_unless_the_template_needs_them(cut):
    assert any("the" in token for token in cut.whole.get_vocab())
    assert not any("the" in token for token in cut.small.get_vocab())

    latin = [token for token in cut.small.get_vocab() if LATIN_WORD.fullmatch(token)]
    assert all(token in "user" or token in "model" for token in latin)


def test_other_scripts_are_spelled_in_bytes(cut):
    assert "日本" in "".join(cut.whole.get_vocab())
    assert "日" not in cut.small.get_vocab()

    ids = cut.small("日").input_ids
    assert cut.small.convert_ids_to_tokens(ids) == ["<0xE6>", "<0x97>", "<0xA5>"]
    assert cut.small.decode(ids) == "日"
