"""What counts as right: exact match, choice accuracy, ROUGE-1 and BERTScore, each defined once.

In: predictions and gold answers (strings). Out: one float per pair. The rewards and the evaluation
both call these functions: the metric is the reward. Differences from the article:

* Exact match compares the sentence, so 이/가 alone cannot make a right sentence wrong. The
  contest's and the article's readings are kept beside it.
* ROUGE-1 gets a Korean tokenizer, because the package's own drops Hangul.
* ROUGE-1 and BERTScore compare the reasons only; a missing reason scores 0.
* BERTScore runs in batches with one encoder.
* BLEURT is left out, as in the article.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from grpo_helpers.answers import (
    Answer,
    gold_reason,
    normalize_quotes,
    parse,
    parse_gold,
    split_official,
    split_seed,
    split_thought,
    without_thought,
)
from grpo_helpers.files import InputError, first_line, resolve_path
from grpo_helpers.library_fixes import LONGEST_TEXT, limit_text_length
from grpo_helpers.questions import (
    CORRECTION,
    Item,
    choice_forms,
    offered_choices,
    question_sentences,
    without_spaces,
)

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

ENCODER = "data/tiny_model"  # the embedded model's own hidden states: offline, milliseconds a pair
ENCODER_LAYERS = 2

_SPLITTERS = {"official": split_official, "seed": split_seed}
READINGS = ("sentence", *_SPLITTERS)  # of exact match

_HANGUL = re.compile("[가-힣]")
_WORD_CHARACTER = re.compile(r"[^\W_]")
_ANY_CHARACTER = re.compile(r"\S")
_BRACE = re.compile("[{}]")
_NOT_ROUGE = re.compile(r"[^A-Za-z0-9가-힣]")
_SENTENCE_END = re.compile(r"[다요까어][.?]")

# Double quotes only: a reason may well end in '며칠'이 옳다.
_SECOND_HEAD = re.compile(r'"\s*(으?[이가]\s*옳다|으?로\s*고쳐)')


# -- the answer part -------------------------------------------------------------------------------


def exact_match(prediction: str, gold: str, reading: str = "sentence") -> float:
    """Return 1.0 if the sentence that an answer calls right is one of the gold answer's, else 0.0.

    Args:
        prediction: An answer.
        gold: A gold answer; ``#`` separates alternatives.
        reading: ``"sentence"`` (ours): the particle, white space and the quotes around the sentence
            do not count, quotes inside it do. ``"official"`` (the contest's): everything up to
            가 옳다 must be the same, straight quotes apart. ``"seed"`` (the article's): the same
            after NFKC, with curly quotes and spaces normalised.

    Raises:
        InputError: The reading is unknown.

    >>> gold = '"며칠이 걸렸다."가 옳다. 소리대로 적는다.'
    >>> exact_match('“며칠이 걸렸다.”이 옳다.', gold), exact_match('"몇일이 걸렸다."가 옳다.', gold)
    (1.0, 0.0)
    >>> [exact_match("“며칠이 걸렸다.”가 옳다.", gold, reading) for reading in READINGS]
    [1.0, 0.0, 1.0]
    """
    if reading == "sentence":
        return _same_sentence(prediction, gold)

    if reading not in _SPLITTERS:
        known = ", ".join(READINGS)
        raise InputError(f"unknown reading of exact match {reading!r}; known are {known}")

    split = _SPLITTERS[reading]
    answer, _ = split(prediction)
    gold_answers = [split(alternative)[0] for alternative in gold.split("#")]

    return float(answer in gold_answers)


def _same_sentence(prediction: str, gold: str) -> float:
    """Return 1.0 if every sentence that the prediction calls right is one of the gold answer's."""
    predicted = set(parse(prediction).sentences)
    right = set(parse_gold(gold).sentences)

    return float(bool(predicted) and predicted <= right)


def choice_accuracy(prediction: str, item: Item) -> float:
    """Return 1.0 if the answer part has the right form and no wrong one, else 0.0.

    The format does not count.

    >>> question = '"{며칠/몇일}이 걸렸다." 가운데 ...'
    >>> item = Item("1", "선택형", question, '"며칠이 걸렸다."가 옳다. 까닭.')
    >>> choice_accuracy("며칠이 걸렸다. '몇일'은 틀리다.", item)
    1.0
    >>> choice_accuracy("몇일이 걸렸다.", item)
    0.0
    """
    right, wrong_forms = choice_forms(item)
    answer = _answer_part(prediction)

    has_right = bool(right) and right in answer
    has_wrong = any(wrong in answer for wrong in wrong_forms if wrong)

    return float(has_right and not has_wrong)


def _answer_part(prediction: str) -> str:
    """Return what comes before the reason.

    That is the sentences that the answer calls right or, in a text without them, its first
    sentence.
    """
    sentences = parse(prediction).sentences
    if sentences:
        return " ".join(sentences)

    text = normalize_quotes(without_thought(prediction)).lstrip("\"'")
    end = _SENTENCE_END.search(text)

    return text[: end.end()] if end else text


def format_score(prediction: str, item: Item | None = None) -> float:
    """Return 1.0 for an answer in the form ``"sentence"가 옳다. reason``, else 0.0.

    That is: one head, the quoted sentence at the start, everything in one line, and a reason in
    Korean. What else belongs to the format, the question decides:

    * *The head.* To "correct the sentence" (교정형), 으로 고쳐 쓴다 ("is corrected to") is an
      answer as well; to "choose", it is not, unless the gold answer has it.
    * *Braces.* The options ``{A/B}`` must be gone. A brace that belongs to the sentence, as in a
      question about 중괄호 (the punctuation mark), may stay.
    * *Words.* The sentence must have Hangul if the gold sentence has, and only then: a date, a time
      or a ratio needs none.

    One thought may come before the answer, and costs nothing. It must be closed: a thought that is
    cut off, holds or follows another one, or comes after the answer has no place in the form.

    Args:
        prediction: An answer.
        item: The question with its gold answer, or without; what is not known is not excused.

    >>> format_score('"며칠이 걸렸다."가 옳다. 소리대로 적는다.'), format_score("며칠이 걸렸다.")
    (1.0, 0.0)
    >>> date = Item("1", "교정형", '"2024. 5. 3"', '"2024. 5. 3."이 옳다. 일 뒤에도 점을 찍는다.')
    >>> format_score(date.answer, date)
    1.0
    """
    split = split_thought(prediction)
    if split.fault:
        return 0.0

    prediction = split.answer
    parsed = parse(prediction)
    straight = normalize_quotes(prediction)
    item = item or Item("", "", "")

    starts_with_quote = straight.startswith('"')
    one_head = _has_head(parsed, item) and not _SECOND_HEAD.search(parsed.reason)
    one_line = "\n" not in prediction.strip()
    in_korean = bool(_HANGUL.search(parsed.reason))
    in_words = _has_words(parsed.sentences, item)

    well_formed = starts_with_quote and one_head and one_line and in_korean and in_words
    return float(well_formed and not _keeps_braces(straight, item))


def _has_head(parsed: Answer, item: Item) -> bool:
    """Return whether an answer's head is one that answers the question."""
    if parsed.head == "quoted":
        return True

    gold_head = parse_gold(item.answer or "").head
    is_accepted = item.question_type == CORRECTION or gold_head == "other"
    return parsed.head == "other" and is_accepted


def _keeps_braces(prediction: str, item: Item) -> bool:
    """Return whether an answer has a brace that does not belong to its sentence."""
    sentences = [normalize_quotes(sentence) for sentence in question_sentences(item.question)]
    answer = without_spaces(prediction)
    rest = "".join(sentences)

    for choice in offered_choices(item):
        brace = sentences[0][choice.start : choice.end]
        if without_spaces(brace) in answer:
            return True
        rest = rest.replace(brace, "")

    gold_sentences = parse_gold(item.answer or "").sentences
    are_marks = any(map(_BRACE.search, [rest, *gold_sentences]))
    return bool(_BRACE.search(answer)) and not are_marks


def _has_words(sentences: Sequence[str], item: Item) -> bool:
    """Return whether sentences have Hangul, or else letters or digits, as the gold one has."""
    gold_sentences = parse_gold(item.answer or "").sentences
    script = _WORD_CHARACTER

    if all(map(_HANGUL.search, gold_sentences)):
        script = _HANGUL
    elif not all(map(_WORD_CHARACTER.search, gold_sentences)):
        script = _ANY_CHARACTER

    return all(map(script.search, sentences))


# -- ROUGE-1 of the reasons ------------------------------------------------------------------------


def clean_for_rouge(text: str) -> str:
    """Return ``text`` in lower case, with a space for all but Latin letters, digits and Hangul."""
    return _NOT_ROUGE.sub(" ", text.lower())


class KoreanTokenizer:
    """Tokenizer for ``rouge_score``: the contest's cleaning, then Mecab-ko morphemes.

    Where python-mecab-ko has no wheel, it falls back to syllables, with a mark on the first of each
    word, and warns.
    """

    def __init__(self) -> None:
        """Load Mecab-ko, or the fallback."""
        morphemes: Callable[[str], list[str]]

        try:
            from mecab import MeCab

            morphemes = MeCab().morphs
        except ImportError:
            warnings.warn(
                "python-mecab-ko is not installed: ROUGE-1 counts syllables instead of morphemes "
                "and differs from the contest's by about 0.04 on average; do not compare it with "
                "published figures",
                stacklevel=2,
            )
            morphemes = _marked_syllables

        # The same gold reason is compared with each completion of its group.
        self._morphs = lru_cache(maxsize=100_000)(morphemes)

    def tokenize(self, text: str) -> list[str]:
        """Return the morphemes of ``text``."""
        return self._morphs(clean_for_rouge(text))


def _marked_syllables(text: str) -> list[str]:
    """Return the syllables of ``text``, the first of each word with a mark before it."""
    syllables = []

    for word in text.split():
        syllables.append(f"▁{word[0]}")
        syllables.extend(word[1:])

    return syllables


@lru_cache(maxsize=1)
def _rouge_scorer() -> RougeScorer:
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

    scores = _rouge_scorer().score(reference, prediction)
    return scores["rouge1"].fmeasure


# -- BERTScore of the reasons ----------------------------------------------------------------------


class BertScore:
    """BERTScore F1 of reasons, with one encoder that stays in memory."""

    def __init__(
        self, model: str = ENCODER, num_layers: int = ENCODER_LAYERS, device: str = "cpu"
    ) -> None:
        """Load the encoder.

        Args:
            model: A local folder or a hub id.
            num_layers: The layer whose hidden states are compared; the contest's
                ``bert-base-multilingual-cased`` uses 9.
            device: By default the CPU, so that scoring never competes with training for GPU memory.
        """
        from bert_score import BERTScorer
        from transformers.utils import logging

        logging.disable_progress_bar()  # "Loading weights" would clutter the notebooks

        self._scorer = BERTScorer(
            model_type=_encoder_source(model),
            num_layers=num_layers,
            device=device,
        )
        # A model that is kept in half precision would give a text and its copy less than 1.
        self._scorer._model.float()
        tokenizer = self._scorer._tokenizer
        positions = getattr(self._scorer._model.config, "max_position_embeddings", None)
        limit_text_length(tokenizer, positions or LONGEST_TEXT)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._cache: dict[tuple[str, str], float] = {}

    def __call__(self, predictions: Sequence[str], references: Sequence[str]) -> list[float]:
        """Return one F1 per pair, 0 to 1.

        It is 0.0 where either side is empty: bert-score itself would crash.
        """
        pairs = []
        for prediction, reference in zip(predictions, references, strict=True):
            pairs.append((_encodable(prediction), _encodable(reference)))

        self._score_new(pairs)
        return [self._cache.get(pair, 0.0) for pair in pairs]

    def _score_new(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Score the pairs that are neither empty nor scored already, and remember their scores."""
        new = set()
        for pair in pairs:
            prediction, reference = pair
            if prediction.strip() and reference.strip() and pair not in self._cache:
                new.add(pair)

        if not new:
            return

        ordered = sorted(new)
        predictions = [prediction for prediction, _ in ordered]
        references = [reference for _, reference in ordered]
        # One text at a time: in a batch, texts are padded to the longest, and the padding changes
        # the last digits. So a pair has one score, whatever is scored beside it, and a resumed run
        # repeats an uninterrupted one. Short texts take no longer one by one.
        _, _, f1_scores = self._scorer.score(predictions, references, batch_size=1)

        for pair, f1 in zip(ordered, f1_scores, strict=True):
            # A cosine of float32 vectors may be 1.0000001.
            self._cache[pair] = min(1.0, max(0.0, float(f1)))


def _encodable(text: str) -> str:
    """Return ``text`` with lone surrogates replaced: tokenizers written in Rust raise on them."""
    return text.encode("utf-8", "replace").decode()


@lru_cache(maxsize=2)
def bert_scorer(model: str = ENCODER, num_layers: int = ENCODER_LAYERS) -> BertScore:
    """Return the one scorer of this process for an encoder; it is built on first use.

    Raises:
        InputError: The encoder cannot be loaded, has no such layer, or is of a kind that bert-score
            does not support.
    """
    check_encoder(model, num_layers)
    try:
        return BertScore(model, num_layers)
    except ValueError as error:
        if str(error) != "Not supported":  # bert-score's whole message
            raise _encoder_error(model, error) from None
        raise InputError(
            f"BERTScore encoder {model!r} is of a kind that bert-score does not support: "
            "use BERT, RoBERTa, ELECTRA or another encoder with a list of layers"
        ) from None
    except (AssertionError, AttributeError, ImportError, OSError, RuntimeError) as error:
        raise _encoder_error(model, error) from None


def check_encoder(model: str, num_layers: int) -> None:
    """Make sure, by its configuration, that an encoder can be had and has a layer of that number.

    Raises:
        InputError: It cannot, or has not.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(_encoder_source(model))
    except (ImportError, OSError, ValueError) as error:
        raise _encoder_error(model, error) from None

    layers = getattr(config.get_text_config(), "num_hidden_layers", None)
    if num_layers < 0 or (layers is not None and num_layers > layers):
        raise InputError(
            f"BERTScore encoder {model!r} has layers 1 to {layers}, "
            f"and bertscore_layers (--encoder_layers) is {num_layers}"
        )


def _encoder_source(model: str) -> str:
    """Return what transformers loads an encoder from."""
    folder = resolve_path(model)
    return str(folder) if folder.exists() else model


def _encoder_error(model: str, error: Exception) -> InputError:
    offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
    return InputError(f"BERTScore encoder {model!r} cannot be loaded{offline}: {first_line(error)}")


# -- all scores of one answer file -----------------------------------------------------------------


def score_answers(
    predictions: Sequence[str],
    items: Sequence[Item],
    encoder: str = ENCODER,
    num_layers: int = ENCODER_LAYERS,
) -> dict[str, list[float]]:
    """Return the scores of one answer file, item by item.

    Args:
        predictions: One answer per item.
        items: The items, with gold answers.
        encoder: BERTScore's encoder, a local folder or a hub id.
        num_layers: The layer of it that is compared.

    Returns:
        Lists of scores, 0 to 1, by name. ``rouge1``, ``bertscore``, ``em``, ``choice`` and
        ``format`` are ours. ``em_seed`` is the article's reading of exact match. ``em_official``,
        ``rouge1_official`` and ``bertscore_official`` follow the contest's rules; the last two are
        NaN where either reason is missing, since the contest leaves such an item out of the mean.
    """
    bert_score = bert_scorer(encoder, num_layers)

    scores = _reason_scores(predictions, items, bert_score)
    scores |= _answer_scores(predictions, items)
    scores |= _official_reason_scores(predictions, items, bert_score)

    return scores


def _answer_scores(predictions: Sequence[str], items: Sequence[Item]) -> dict[str, list[float]]:
    """Return the scores of everything but the reasons, by name."""
    scores: dict[str, list[float]] = {
        "em": [],
        "choice": [],
        "format": [],
        "em_seed": [],
        "em_official": [],
    }

    for prediction, item in zip(predictions, items, strict=True):
        gold = item.answer or ""
        scores["em"].append(exact_match(prediction, gold))
        scores["choice"].append(choice_accuracy(prediction, item))
        scores["format"].append(format_score(prediction, item))
        scores["em_seed"].append(exact_match(prediction, gold, "seed"))
        scores["em_official"].append(exact_match(prediction, gold, "official"))

    return scores


def _reason_scores(
    predictions: Sequence[str], items: Sequence[Item], bert_score: BertScore
) -> dict[str, list[float]]:
    """Return ROUGE-1 and BERTScore of the reasons as our parser reads them."""
    reasons = []
    references = []
    for prediction, item in zip(predictions, items, strict=True):
        reasons.append(parse(prediction).reason)
        references.append(gold_reason(item.answer or "", prediction))

    return {
        "rouge1": list(map(rouge1_reasons, reasons, references)),
        "bertscore": bert_score(reasons, references),
    }


def _official_reason_scores(
    predictions: Sequence[str], items: Sequence[Item], bert_score: BertScore
) -> dict[str, list[float]]:
    """Return ROUGE-1 and BERTScore of the reasons as the contest reads them."""
    reasons = []
    references = []
    for prediction, item in zip(predictions, items, strict=True):
        first_alternative = (item.answer or "").split("#")[0]
        reasons.append(split_official(prediction)[1])
        references.append(split_official(first_alternative)[1])

    bert_scores = bert_score(reasons, references)
    scores: dict[str, list[float]] = {"rouge1_official": [], "bertscore_official": []}

    for reason, reference, bert in zip(reasons, references, bert_scores, strict=True):
        if reason and reference:
            scores["rouge1_official"].append(rouge1_reasons(reason, reference))
            scores["bertscore_official"].append(bert)
        else:
            scores["rouge1_official"].append(math.nan)
            scores["bertscore_official"].append(math.nan)

    return scores


# -- one figure for a checkpoint -------------------------------------------------------------------


def _article_mean(means: Mapping[str, float]) -> float:
    """The mean of three, as printed in the article."""
    return (means["rouge1"] + means["bertscore"] + means["em"]) / 3


def _code_mean(means: Mapping[str, float]) -> float:
    """As the code of the article's author computes it: exact match counts half."""
    likeness = (means["rouge1"] + means["bertscore"]) / 2
    return (likeness + means["em"]) / 2


def _official_mean(means: Mapping[str, float]) -> float:
    """The contest's, without BLEURT."""
    likeness = (means["rouge1_official"] + means["bertscore_official"]) / 2
    return (likeness + means["em_official"]) / 2


AGGREGATES: dict[str, Callable[[Mapping[str, float]], float]] = {
    "article": _article_mean,
    "code": _code_mean,
    "official": _official_mean,
}


def final_mean(means: Mapping[str, float], aggregate: str = "article") -> float:
    """Return one figure for a checkpoint, the Final Mean, from the means of its scores.

    Args:
        means: The mean of each score of :func:`score_answers`, by name.
        aggregate: ``"article"`` (the mean of three) and ``"code"`` (exact match counts half) count
            a missing reason as 0; ``"official"`` (the contest's, without BLEURT) leaves such items
            out of the means of ROUGE-1 and BERTScore.

    Returns:
        The Final Mean, 0 to 1.

    Raises:
        InputError: The aggregate is unknown.

    >>> means = {"rouge1": 0.4132, "bertscore": 0.6871, "em": 0.5528}
    >>> round(final_mean(means), 4), round(final_mean(means, "code"), 4)
    (0.551, 0.5515)
    """
    if aggregate not in AGGREGATES:
        known = ", ".join(AGGREGATES)
        raise InputError(f"unknown aggregate {aggregate!r}; known are {known}")

    return AGGREGATES[aggregate](means)
