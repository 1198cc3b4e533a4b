"""What counts as right: exact match, choice accuracy, ROUGE-1 and BERTScore, each defined once.

In: predictions and gold answers (strings). Out: one float per pair. The rewards and the evaluation both call these
functions: the metric is the reward. Differences from the article: exact match compares the sentence, so 이/가 alone
cannot make a right sentence wrong; ROUGE-1 gets a Korean tokenizer (the package's own drops Hangul); ROUGE-1 and
BERTScore compare the reasons only, a missing reason scores 0; BERTScore runs in batches with one encoder.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from functools import lru_cache
from itertools import takewhile

from grpo_helpers.answers import normalize_quotes, parse, parse_gold
from grpo_helpers.data import SELECTION, InputError, Item, resolve_path
from grpo_helpers.prompts import question_sentences

ENCODER = "data/tiny_model"  # the embedded model's own hidden states: offline, milliseconds a pair
ENCODER_LAYERS = 2
METRICS = ("rouge1", "bertscore", "em")


def exact_match(prediction: str, gold: str) -> float:
    """Return 1.0 if the predicted sentence is one of the gold sentences, else 0.0.

    The particle, white space and the quotes around the sentence do not count; quotes inside it do.

    Example:
        >>> gold = '"며칠이 걸렸다."가 옳다. 소리대로 적는다.'
        >>> exact_match('“며칠이 걸렸다.”이 옳다.', gold), exact_match('"몇일이 걸렸다."가 옳다.', gold)
        (1.0, 0.0)
    """
    sentences = parse(prediction).sentences
    right = parse_gold(gold).sentences
    return float(bool(sentences) and all(sentence in right for sentence in sentences))


# -- choice accuracy: is the right form there and the wrong one not, whatever the format? -------------------------

_BRACE = re.compile(r"\{([^{}]*)\}")


def choice_forms(item: Item) -> tuple[str, tuple[str, ...]]:
    """Return (right form, wrong forms) of an item, read off its question and gold answer.

    선택형: the options of the first brace, or the words in which two lines to choose from differ. 교정형: the words in
    which question and gold sentence differ. Forms are taken with their surrounding words where that is needed to tell
    them apart (할 수 vs 할수; "네, 내일" vs "네 내일").

    Example:
        >>> item = Item("1", SELECTION, '"{며칠/몇일}이 걸렸다." 가운데 ...', '"며칠이 걸렸다."가 옳다. 까닭.')
        >>> choice_forms(item)
        ('며칠', ('몇일',))
    """
    gold = parse_gold(item.answer or "").sentences
    gold = gold[0] if gold else ""
    asked = [normalize_quotes(sentence) for sentence in question_sentences(item.question)]
    brace = _BRACE.search(asked[0]) if item.question_type == SELECTION else None
    if brace:
        options = [option.strip() for option in brace[1].split("/")]
        right = next((option for option in options if _starts_like(gold, asked[0], option)), options[0])
        return right, tuple(option for option in options if option != right)
    pairs = [_differing_words(gold, other) for other in asked if other != gold] or [("", "")]
    return pairs[0][0], tuple(wrong for _, wrong in pairs)


def _starts_like(gold: str, asked: str, option: str) -> bool:
    """Return whether ``gold`` is the question's sentence with ``option`` in its first brace (others left open)."""
    before, after = asked.split("{", 1)[0], asked.split("}", 1)[1].split("{", 1)[0]
    return gold.startswith(before + option + after)


def _differing_words(gold: str, asked: str) -> tuple[str, str]:
    """Return the stretch of whole words in which two sentences differ, in each of them.

    It grows by a word where it could be read in the other sentence too: "네" is in "네, 내일", "네 내일" is not.
    """
    head = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(gold, asked, strict=False))))
    rest = zip(reversed(gold[head:]), reversed(asked[head:]), strict=False)
    tail = len(list(takewhile(lambda pair: pair[0] == pair[1], rest)))
    head, tail = _to_word_start(gold, head), _to_word_end(gold, tail)
    while True:
        right, wrong = gold[head : len(gold) - tail].strip(), asked[head : len(asked) - tail].strip()
        if not (head or tail) or (right and wrong and right not in asked and wrong not in gold):
            return right, wrong
        if tail:
            tail = _to_word_end(gold, tail - 1)
        else:
            head = _to_word_start(gold, head - 1)


def _to_word_start(text: str, head: int) -> int:
    while head and text[head - 1] != " ":
        head -= 1
    return head


def _to_word_end(text: str, tail: int) -> int:
    while tail and text[len(text) - tail] != " ":
        tail -= 1
    return tail


def choice_accuracy(prediction: str, item: Item) -> float:
    """Return 1.0 if the answer part holds the right form and no wrong one, else 0.0; the format is ignored.

    Example:
        >>> item = Item("1", SELECTION, '"{며칠/몇일}이 걸렸다." 가운데 ...', '"며칠이 걸렸다."가 옳다. 까닭.')
        >>> choice_accuracy("며칠이 걸렸다. '몇일'은 틀리다.", item), choice_accuracy("몇일이 걸렸다.", item)
        (1.0, 0.0)
    """
    right, wrong = choice_forms(item)
    text = _answer_part(prediction)
    return float(bool(right) and right in text and not any(form in text for form in wrong if form))


def _answer_part(prediction: str) -> str:
    """Return what is said before the reason: the head's sentences, or the first sentence of a text without one."""
    parsed = parse(prediction)
    if parsed.sentences:
        return " ".join(parsed.sentences)
    text = normalize_quotes(prediction).lstrip("\"'")
    end = re.search(r"[다요까어][.?]", text)
    return text[: end.end()] if end else text


# -- ROUGE-1 -------------------------------------------------------------------------------------------------------

_KEEP = re.compile(r"[^A-Za-z0-9가-힣]")


def clean_for_rouge(text: str) -> str:
    """Return ``text`` lower-cased with everything but Latin letters, digits and Hangul syllables made a space."""
    return _KEEP.sub(" ", text.lower())


class KoreanTokenizer:
    """Tokenizer for ``rouge_score``: the contest's cleaning, then Mecab-ko morphemes.

    Where python-mecab-ko has no wheel, syllables with a mark on the first of each word stand in, with a warning.
    """

    def __init__(self) -> None:
        try:
            from mecab import MeCab

            self._morphs = MeCab().morphs
        except ImportError:
            warnings.warn(
                "python-mecab-ko is not installed: ROUGE-1 counts syllables instead of morphemes and differs from the "
                "contest's by about 0.04 on average; do not compare it with published figures",
                stacklevel=2,
            )
            self._morphs = _marked_syllables

    def tokenize(self, text: str) -> list[str]:
        """Return the morphemes of ``text``."""
        return self._morphs(clean_for_rouge(text))


def _marked_syllables(text: str) -> list[str]:
    return [("▁" if i == 0 else "") + char for word in text.split() for i, char in enumerate(word)]


@lru_cache(maxsize=1)
def _rouge_scorer():
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1"], tokenizer=KoreanTokenizer())


@lru_cache(maxsize=100_000)
def rouge1_reasons(prediction: str, reference: str) -> float:
    """Return the ROUGE-1 F1 of two reasons, 0 to 1; 0.0 if either is empty.

    Example:
        >>> rouge1_reasons("소리대로 적는다.", "소리대로 적는다.")
        1.0
    """
    if not prediction.strip() or not reference.strip():
        return 0.0
    return _rouge_scorer().score(reference, prediction)["rouge1"].fmeasure


# -- BERTScore -----------------------------------------------------------------------------------------------------


class BertScore:
    """BERTScore F1 of reasons, in batches, with one encoder kept in memory.

    Args:
        model: A local folder or a hub id.
        num_layers: The layer whose hidden states are compared (the contest's encoder,
            ``bert-base-multilingual-cased``, uses 9).
        device: Torch device; default: the CPU, so that scoring never competes with training for GPU memory.
    """

    def __init__(self, model: str = ENCODER, num_layers: int = ENCODER_LAYERS, device: str = "cpu"):
        from bert_score import BERTScorer
        from transformers.utils import logging

        logging.disable_progress_bar()  # "Loading weights" says nothing in a notebook
        path = resolve_path(model)
        self._scorer = BERTScorer(
            model_type=str(path) if path.exists() else model, num_layers=num_layers, device=device, batch_size=256
        )
        tokenizer = self._scorer._tokenizer
        # Some tokenizers state no length limit; bert-score then passes 1e30 to Rust code and overflows.
        tokenizer.model_max_length = min(tokenizer.model_max_length, 512)
        self._cache: dict[tuple[str, str], float] = {}

    def __call__(self, predictions: Sequence[str], references: Sequence[str]) -> list[float]:
        """Return one F1 per pair; 0.0 where either side is empty (bert-score itself would crash)."""
        pairs = list(zip(predictions, references, strict=True))
        new = sorted({pair for pair in pairs if all(text.strip() for text in pair)} - self._cache.keys())
        if new:
            scores = self._scorer.score([p for p, _ in new], [r for _, r in new])[2]
            self._cache.update(zip(new, (float(score) for score in scores), strict=True))
        return [self._cache.get(pair, 0.0) for pair in pairs]


@lru_cache(maxsize=2)
def bert_scorer(model: str = ENCODER, num_layers: int = ENCODER_LAYERS) -> BertScore:
    """Return the process's one scorer for this encoder; built on first use.

    Raises:
        InputError: The encoder is neither a local folder nor a model that can be fetched.
    """
    try:
        return BertScore(model, num_layers)
    except OSError as error:
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        first = str(error).splitlines()[0]
        raise InputError(f"BERTScore encoder {model!r} cannot be loaded{offline}: {first}") from None


# -- all of them ---------------------------------------------------------------------------------------------------


def score_answers(
    predictions: Sequence[str], items: Sequence[Item], encoder: str = ENCODER, num_layers: int = ENCODER_LAYERS
) -> dict[str, list[float]]:
    """Return the per-item scores ``rouge1``, ``bertscore``, ``em``, ``choice`` and ``format`` of one answer file."""
    golds = [item.answer or "" for item in items]
    said = [parse(prediction).reason for prediction in predictions]
    asked = [parse_gold(gold).reason for gold in golds]
    return {
        "rouge1": [rouge1_reasons(p, g) for p, g in zip(said, asked, strict=True)],
        "bertscore": bert_scorer(encoder, num_layers)(said, asked),
        "em": [exact_match(p, g) for p, g in zip(predictions, golds, strict=True)],
        "choice": [choice_accuracy(p, item) for p, item in zip(predictions, items, strict=True)],
        "format": [format_score(p) for p in predictions],
    }


_SECOND_HEAD = re.compile(r'"\s*으?[이가]\s*옳다')  # double quotes: a reason may well end in '며칠'이 옳다.


def format_score(prediction: str) -> float:
    """Return 1.0 for ``"sentence"가 옳다. reason``: one quoted head at the start, one line, no brace, a reason.

    Example:
        >>> format_score('"며칠이 걸렸다."가 옳다. 소리대로 적는다.'), format_score("며칠이 걸렸다.")
        (1.0, 0.0)
    """
    text = normalize_quotes(prediction)
    parsed = parse(prediction)
    sentences_fit = bool(parsed.sentences) and all(re.search("[가-힣]", s) for s in parsed.sentences)
    return float(
        parsed.head == "quoted"
        and text.startswith('"')
        and sentences_fit
        and "\n" not in prediction.strip()
        and not set("{}") & set(prediction)
        and re.search("[가-힣]", parsed.reason) is not None
        and not _SECOND_HEAD.search(parsed.reason)
    )


def final_mean(rouge1: float, bertscore: float, em: float) -> float:
    """Return the article's Final Mean: the mean of ROUGE-1, BERTScore and exact match.

    Example:
        >>> round(final_mean(0.4132, 0.6871, 0.5528), 4)
        0.551
    """
    return (rouge1 + bertscore + em) / 3
