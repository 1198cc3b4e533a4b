"""What counts as right: exact match, choice accuracy, ROUGE-1 and BERTScore, each defined once.

In: predictions and gold answers (strings). Out: one float per pair. The rewards and the evaluation both call these
functions: the metric is the reward. Differences from the article: exact match compares the sentence, so 이/가 alone
cannot make a right sentence wrong (the contest's and the article's readings are kept beside it); ROUGE-1 gets a Korean
tokenizer (the package's own drops Hangul); ROUGE-1 and BERTScore compare the reasons only, a missing reason scores 0;
BERTScore runs in batches with one encoder. BLEURT is left out, as in the article.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from grpo_helpers.answers import normalize_quotes, parse, parse_gold, split_official, split_seed
from grpo_helpers.files import InputError, resolve_path
from grpo_helpers.questions import Item, choice_forms

ENCODER = "data/tiny_model"  # the embedded model's own hidden states: offline, milliseconds a pair
ENCODER_LAYERS = 2
_SPLITS = {"official": split_official, "seed": split_seed}
READINGS = ("sentence", *_SPLITS)  # of exact match
_NOT_ROUGE = re.compile(r"[^A-Za-z0-9가-힣]")
_SECOND_HEAD = re.compile(
    r'"\s*으?[이가]\s*옳다'
)  # double quotes: a reason may well end in '며칠'이 옳다.


def exact_match(prediction: str, gold: str, reading: str = "sentence") -> float:
    """Return 1.0 if the sentence an answer calls right is one of the gold answer's (``#`` separates them), else 0.0.

    Reading ``"sentence"`` (ours): the particle, white space and the quotes around the sentence do not count, quotes
    inside it do. ``"official"`` (the contest's): everything up to 가 옳다 must be the same, straight quotes apart.
    ``"seed"`` (the article's): the same after NFKC, with curly quotes and spaces normalised. Others: InputError.

    >>> gold = '"며칠이 걸렸다."가 옳다. 소리대로 적는다.'
    >>> exact_match('“며칠이 걸렸다.”이 옳다.', gold), exact_match('"몇일이 걸렸다."가 옳다.', gold)
    (1.0, 0.0)
    >>> [exact_match("“며칠이 걸렸다.”가 옳다.", gold, reading) for reading in ("official", "seed", "sentence")]
    [0.0, 1.0, 1.0]
    """
    if reading == "sentence":
        sentences, right = parse(prediction).sentences, parse_gold(gold).sentences
        return float(bool(sentences) and all(sentence in right for sentence in sentences))
    if reading not in _SPLITS:
        raise InputError(
            f"unknown reading of exact match {reading!r}; known are {', '.join(READINGS)}"
        )
    split = _SPLITS[reading]
    return float(split(prediction)[0] in [split(part)[0] for part in gold.split("#")])


def choice_accuracy(prediction: str, item: Item) -> float:
    """Return 1.0 if the answer part holds the right form and no wrong one, else 0.0; the format is ignored.

    >>> item = Item("1", "선택형", '"{며칠/몇일}이 걸렸다." 가운데 ...', '"며칠이 걸렸다."가 옳다. 까닭.')
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


def clean_for_rouge(text: str) -> str:
    """Return ``text`` lower-cased with everything but Latin letters, digits and Hangul syllables made a space."""
    return _NOT_ROUGE.sub(" ", text.lower())


class KoreanTokenizer:
    """Tokenizer for ``rouge_score``: the contest's cleaning, then Mecab-ko morphemes.

    Where python-mecab-ko has no wheel, syllables with a mark on the first of each word stand in, with a warning.
    """

    def __init__(self) -> None:
        try:
            from mecab import MeCab

            morphs = MeCab().morphs
        except ImportError:
            warnings.warn(
                "python-mecab-ko is not installed: ROUGE-1 counts syllables instead of morphemes and differs from the "
                "contest's by about 0.04 on average; do not compare it with published figures",
                stacklevel=2,
            )
            morphs = _marked_syllables
        self._morphs = lru_cache(maxsize=100_000)(
            morphs
        )  # a gold reason comes back with each completion of its group

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

    >>> rouge1_reasons("소리대로 적는다.", "소리대로 적는다.")
    1.0
    """
    if not prediction.strip() or not reference.strip():
        return 0.0
    return _rouge_scorer().score(reference, prediction)["rouge1"].fmeasure


class BertScore:
    """BERTScore F1 of reasons, in batches, with one encoder (a local folder or a hub id) kept in memory.

    ``num_layers`` is the layer whose hidden states are compared; the contest's ``bert-base-multilingual-cased`` uses 9.
    The default device is the CPU, so that scoring never competes with training for GPU memory.
    """

    def __init__(self, model: str = ENCODER, num_layers: int = ENCODER_LAYERS, device: str = "cpu"):
        from bert_score import BERTScorer
        from transformers.utils import logging

        logging.disable_progress_bar()  # "Loading weights" says nothing in a notebook
        folder = resolve_path(model)
        model = str(folder) if folder.exists() else model
        self._scorer = BERTScorer(
            model_type=model, num_layers=num_layers, device=device, batch_size=256
        )
        tokenizer = self._scorer._tokenizer
        # Some tokenizers state no length limit; bert-score then passes 1e30 to Rust code and overflows.
        tokenizer.model_max_length = min(tokenizer.model_max_length, 512)
        self._cache: dict[tuple[str, str], float] = {}

    def __call__(self, predictions: Sequence[str], references: Sequence[str]) -> list[float]:
        """Return one F1 per pair, 0 to 1; 0.0 where either side is empty (bert-score itself would crash)."""
        # Lone surrogates are replaced: tokenizers in Rust raise on them.
        sides = (
            [text.encode("utf-8", "replace").decode() for text in side]
            for side in (predictions, references)
        )
        pairs = list(zip(*sides, strict=True))
        new = sorted(
            {pair for pair in pairs if all(text.strip() for text in pair)} - self._cache.keys()
        )
        if new:
            scores = self._scorer.score([p for p, _ in new], [r for _, r in new])[2]
            # A cosine of float32 vectors may be 1.0000001.
            self._cache.update(
                zip(new, (min(1.0, max(0.0, float(score))) for score in scores), strict=True)
            )
        return [self._cache.get(pair, 0.0) for pair in pairs]


@lru_cache(maxsize=2)
def bert_scorer(model: str = ENCODER, num_layers: int = ENCODER_LAYERS) -> BertScore:
    """Return the process's one scorer for this encoder, built on first use; InputError if it cannot be loaded."""
    try:
        return BertScore(model, num_layers)
    except OSError as error:
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        first = str(error).splitlines()[0]
        raise InputError(
            f"BERTScore encoder {model!r} cannot be loaded{offline}: {first}"
        ) from None


def score_answers(
    predictions: Sequence[str],
    items: Sequence[Item],
    encoder: str = ENCODER,
    num_layers: int = ENCODER_LAYERS,
) -> dict[str, list[float]]:
    """Return the per-item scores of one answer file.

    ``rouge1``, ``bertscore``, ``em``, ``choice`` and ``format`` are ours; ``em_seed`` is the article's reading of exact
    match; ``em_official``, ``rouge1_official`` and ``bertscore_official`` follow the contest's rules, the last two NaN
    where either reason is missing (the contest leaves such an item out of the mean).
    """
    golds = [item.answer or "" for item in items]
    answers = list(zip(predictions, golds, strict=True))
    scores = _likeness(
        [(parse(p).reason, parse_gold(g).reason) for p, g in answers], encoder, num_layers
    )
    scores |= {
        "em": [exact_match(p, g) for p, g in answers],
        "choice": [choice_accuracy(p, item) for p, item in zip(predictions, items, strict=True)],
        "format": [format_score(p) for p in predictions],
        "em_seed": [exact_match(p, g, "seed") for p, g in answers],
        "em_official": [exact_match(p, g, "official") for p, g in answers],
    }
    reasons = [(split_official(p)[1], split_official(g.split("#")[0])[1]) for p, g in answers]
    for name, values in _likeness(reasons, encoder, num_layers).items():
        scores[f"{name}_official"] = [
            v if all(pair) else math.nan for v, pair in zip(values, reasons, strict=True)
        ]
    return scores


def _likeness(
    reasons: Sequence[tuple[str, str]], encoder: str, num_layers: int
) -> dict[str, list[float]]:
    bertscore = bert_scorer(encoder, num_layers)(
        [said for said, _ in reasons], [asked for _, asked in reasons]
    )
    return {
        "rouge1": [rouge1_reasons(said, asked) for said, asked in reasons],
        "bertscore": bertscore,
    }


def format_score(prediction: str) -> float:
    """Return 1.0 for ``"sentence"가 옳다. reason``: one quoted head at the start, one line, no brace, a reason.

    >>> format_score('"며칠이 걸렸다."가 옳다. 소리대로 적는다.'), format_score("며칠이 걸렸다.")
    (1.0, 0.0)
    """
    parsed = parse(prediction)
    return float(
        parsed.head == "quoted"
        and normalize_quotes(prediction).startswith('"')
        and all(re.search("[가-힣]", sentence) for sentence in parsed.sentences)
        and "\n" not in prediction.strip()
        and not set("{}") & set(prediction)
        and re.search("[가-힣]", parsed.reason) is not None
        and not _SECOND_HEAD.search(parsed.reason)
    )


AGGREGATES: dict[str, Callable[[Mapping[str, float]], float]] = {
    "article": lambda m: (m["rouge1"] + m["bertscore"] + m["em"]) / 3,  # as printed in the article
    "code": lambda m: (
        ((m["rouge1"] + m["bertscore"]) / 2 + m["em"]) / 2
    ),  # as its author's code computes it
    "official": lambda m: (
        ((m["rouge1_official"] + m["bertscore_official"]) / 2 + m["em_official"]) / 2
    ),
}


def final_mean(means: Mapping[str, float], aggregate: str = "article") -> float:
    """Return one figure for a checkpoint from the means of its scores, 0 to 1; InputError for an unknown aggregate.

    ``article`` (the mean of three) and ``code`` (exact match weighs half) count a missing reason as likeness 0;
    ``official`` (the contest's, without BLEURT) leaves such items out of the likeness.

    >>> means = {"rouge1": 0.4132, "bertscore": 0.6871, "em": 0.5528}
    >>> round(final_mean(means), 4), round(final_mean(means, "code"), 4)
    (0.551, 0.5515)
    """
    if aggregate not in AGGREGATES:
        raise InputError(f"unknown aggregate {aggregate!r}; known are {', '.join(AGGREGATES)}")
    return AGGREGATES[aggregate](means)
