"""The embedding table that is a sum of letters while the model is made."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def made():
    """A fresh model after a step with letters seen, and its tokenizer."""
    import torch

    from tools.tiny_model.letter_table import letters_seen
    from tools.tiny_model.model import alphabet, build_model, build_tokenizer

    torch.manual_seed(0)
    tokenizer = build_tokenizer(alphabet())
    model = build_model(tokenizer)
    with letters_seen(model, tokenizer) as head:
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        tokens = torch.tensor([tokenizer("합격률이 높다.")["input_ids"]])
        hidden = model.model(input_ids=tokens).last_hidden_state
        head.cross_entropy(hidden[0, :-1], tokens[0, 1:]).backward()
        optimizer.step()
    return model, tokenizer


def row(made, char):
    """Return the embedding of a character."""
    model, tokenizer = made
    return model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids(char)]


def test_syllables_that_differ_in_one_letter_differ_alike(made):
    one = row(made, "격") - row(made, "겨")
    other = row(made, "합") - row(made, "하") + row(made, "학") - row(made, "합")
    assert one.allclose(other, atol=1e-5)


def test_head_is_the_embedding_table_afterwards(made):
    model, _ = made
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_table_is_an_ordinary_parameter_afterwards(made):
    model, _ = made
    names = [name for name, _ in model.named_parameters()]
    assert "model.embed_tokens.weight" in names
    assert not any("parametrizations" in name for name in names)


def test_table_keeps_the_usual_size(made):
    model, _ = made
    assert model.get_input_embeddings().weight.std().item() == pytest.approx(0.02, rel=0.2)


def test_loss_equals_that_of_the_whole_table():
    import torch

    from tools.tiny_model.letter_table import LETTERS, LetterHead, SumOfLetters

    torch.manual_seed(1)
    sums = SumOfLetters(first=5, tokens=11_172 + 9)
    vectors = torch.randn(LETTERS + 9, 16, requires_grad=True)
    hidden = torch.randn(40, 16)
    characters = [*range(5), *range(11_177, 11_181)]
    syllables = range(5, 11_177, 361)
    targets = torch.tensor([*characters, *syllables])[:40]

    ours = LetterHead(sums, vectors).cross_entropy(hidden, targets)
    whole = torch.nn.functional.cross_entropy(hidden @ sums(vectors).T, targets)
    assert ours.item() == pytest.approx(whole.item(), rel=1e-5)

    (our_gradient,) = torch.autograd.grad(ours, vectors)
    (whole_gradient,) = torch.autograd.grad(whole, vectors)
    assert torch.allclose(our_gradient, whole_gradient, atol=1e-5)


def test_loss_of_an_ordinary_table_is_that_of_the_model():
    import torch

    from tools.tiny_model.letter_table import TableHead
    from tools.tiny_model.model import build_model, build_tokenizer

    torch.manual_seed(0)
    tokenizer = build_tokenizer(list("격합 "))
    model = build_model(tokenizer)
    tokens = torch.tensor([tokenizer("격 합 격")["input_ids"]])
    hidden = model.model(input_ids=tokens).last_hidden_state

    loss = TableHead(model).cross_entropy(hidden[0, :-1], tokens[0, 1:])

    assert loss.item() == pytest.approx(
        model(input_ids=tokens, labels=tokens).loss.item(), rel=1e-5
    )
