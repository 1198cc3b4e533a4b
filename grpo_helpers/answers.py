"""The answer format ``"sentence"가 옳다. reason``: read it from any text, and write it.

In: an answer as a person or a model wrote it. Out: :class:`Answer`. The article splits answers with
one regular expression that refuses nested quotes, so it rejects some of the contest's own gold
answers; this parser looks for the first closing quote followed by 가/이 옳다 instead, and never
raises. The two older ways to split an answer, the contest scorer's (:func:`split_official`) and the
article's (:func:`split_seed`), are kept because published figures depend on them.

A model may think before it answers, in ``<think>...</think>``; the article's does not.
:func:`split_thought` is the one place where a thought is told from an answer: nothing that compares
an answer with a gold one ever sees a thought.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from grpo_helpers.letters import is_syllable, letters_of

_STRAIGHT_QUOTES = str.maketrans(
    {
        "“": '"',
        "”": '"',
        "„": '"',
        "‟": '"',
        "＂": '"',
        "‘": "'",
        "’": "'",
        "‚": "'",
        "＇": "'",
    }
)
_SPACES = re.compile(r"\s+")

# A thought stands between two tags of one of these names. The pattern has nothing to repeat, so the
# time it takes grows with the text alone.
_THOUGHT_NAMES = ("think", "thinking", "thought", "reasoning")
_THOUGHT_TAG = re.compile(rf"<(?P<slash>/?)(?:{'|'.join(_THOUGHT_NAMES)})>", re.IGNORECASE)
_OPENING_TAGS = tuple(f"<{name}>" for name in _THOUGHT_NAMES)
THOUGHT_TAGS = (*_OPENING_TAGS, *(f"</{name}>" for name in _THOUGHT_NAMES))

# What may be wrong with the thoughts of a text: such a text never has the required format.
UNCLOSED = "not closed"
NESTED = "one inside another"
REPEATED = "more than one"
LATE = "after the answer"
THOUGHT_FAULTS = (UNCLOSED, NESTED, REPEATED, LATE)

_PREFIX = re.compile(r"^\s*(?:\[?\s*(?:답변|정답|답)\s*\]?\s*[:：])\s*")  # [답변]: "answer:"

# What ends the quoted sentence. 으가 is a slip in the contest's own gold answers.
_QUOTED_HEAD = re.compile(r"""["']\s*(?P<particle>으?[이가])\s*옳다""")
_OTHER_HEAD = re.compile(
    r"""["']\s*(?P<particle>으로|로|[와과]\s*같이)\s*"""
    r"""(?:(?:고쳐|바꿔|바꾸어)\s*)?"""
    r"""(?:쓴다|써야\s*한다|적는다|적어야\s*한다|고친다|고쳐야\s*한다|바꾼다)"""
)

_OUTER_QUOTE = re.compile(r"""^["']|["']$""")
_ALTERNATIVE = re.compile(r"""(["'])\s*(?:혹은|또는|[와과]\s*같이\s*쓰거나|이나|나|,)\s*\1""")

# Hangul syllables are ordered by their final consonant; the first of every 28 has none.
_DIGITS_WITH_FINAL = "013678"  # 영, 일, 삼, 육, 칠, 팔 (and 십, 백, 천, 만 after a 0)
_DIGITS = "0123456789"
_CLOCK_TIME = re.compile(r"\d:[0-5]\d\W*$")


@dataclass(frozen=True)
class Answer:
    """One parsed answer. Its head is what ends the quoted sentence: 가 옳다 in the required form.

    Attributes:
        sentences: What the answer calls right: one sentence, or several where it names
            alternatives; empty without a head.
        particle: 이 or 가, or whatever is in its place; empty without a head.
        reason: What follows the head, stripped; may be empty.
        head: ``"quoted"`` for 가 옳다 ("is right"), ``"other"`` for 으로 고쳐 쓴다 ("is corrected
            to") and its like, ``"none"`` without a head.
    """

    sentences: tuple[str, ...]
    particle: str
    reason: str
    head: str


@dataclass(frozen=True)
class ThoughtSplit:
    """A text in two parts: what was thought, and what is answered.

    Attributes:
        thoughts: The text of each thought, without its tags, stripped, in order.
        answer: All that stands outside of thoughts; where there is none, the text as it is.
        fault: What is wrong with the thoughts, one of :data:`THOUGHT_FAULTS`; empty if nothing is.
            One thought that is closed before the answer begins is no fault, nor is none at all.
    """

    thoughts: tuple[str, ...]
    answer: str
    fault: str = ""

    @property
    def thought(self) -> str:
        """All that was thought; empty if nothing was, as in ``<think></think>``."""
        return "\n\n".join(filter(None, self.thoughts))


# -- thought and answer ----------------------------------------------------------------------------


def split_thought(text: str) -> ThoughtSplit:
    r"""Return what a text thinks and what it answers; never raises, whatever the string.

    A thought goes from ``<think>`` to the next ``</think>``, or to the end of a text that was cut
    off. A closing tag without an opening one ends a thought that goes back to the last tag, or to
    the beginning: some chat templates write the opening tag themselves, at the end of the prompt.

    >>> split_thought("<think>음...</think>\n며칠")
    ThoughtSplit(thoughts=('음...',), answer='며칠', fault='')
    >>> split_thought("음...</think>며칠").answer
    '며칠'
    >>> split_thought("며칠 <think>음...")
    ThoughtSplit(thoughts=('음...',), answer='며칠', fault='not closed')
    """
    if _THOUGHT_TAG.search(text) is None:
        return ThoughtSplit((), text)

    thoughts: list[str] = []
    outside: list[str] = []
    faults: set[str] = set()
    is_inside = False
    start = 0

    for tag in _THOUGHT_TAG.finditer(text):
        is_opening = not tag["slash"]
        if is_opening and is_inside:
            faults.add(NESTED)
            continue

        piece = text[start : tag.start()].strip()
        start = tag.end()
        if not is_opening:
            thoughts.append(piece)
        elif piece:
            outside.append(piece)
            faults.add(LATE)
        is_inside = is_opening

    rest = text[start:].strip()
    if is_inside:
        thoughts.append(rest)
        faults.add(UNCLOSED)
    elif rest:
        outside.append(rest)
    if len(thoughts) > 1:
        faults.add(REPEATED)

    return ThoughtSplit(tuple(thoughts), "\n".join(outside), _first_fault(faults))


def _first_fault(faults: set[str]) -> str:
    """Return the first of several faults in the order of :data:`THOUGHT_FAULTS`, or nothing."""
    for fault in THOUGHT_FAULTS:
        if fault in faults:
            return fault
    return ""


def without_thought(text: str) -> str:
    r"""Return what a text answers, without what it thinks; all of it where it does not think.

    Nothing is left of a thought that was cut off.

    >>> without_thought("<think>음...</think>\n며칠"), without_thought("<think>음...")
    ('며칠', '')
    """
    return split_thought(text).answer


def opens_thought(prompt: str) -> bool:
    r"""Return whether a prompt ends inside a thought, so that what the model writes continues it.

    >>> opens_thought("<|assistant|><think>\n"), opens_thought("<think></think>\n\n")
    (True, False)
    """
    return prompt.rstrip().lower().endswith(_OPENING_TAGS)


def with_opening_tag(text: str) -> str:
    """Return what was written after a prompt that ends inside a thought, with the tag before it.

    Without the tag, a thought that was cut off would be read as an answer.

    >>> with_opening_tag("음..."), with_opening_tag("<think>음...")
    ('<think>음...', '<think>음...')
    """
    if text.lstrip().lower().startswith(_OPENING_TAGS):
        return text
    return f"{_OPENING_TAGS[0]}{text}"


# -- normalising -----------------------------------------------------------------------------------


def normalize_quotes(text: str) -> str:
    r"""Return ``text`` with straight quotes, and with every run of white space as one space.

    >>> normalize_quotes("“며칠”이\u00a0 옳다.")
    '"며칠"이 옳다.'
    """
    straight = text.translate(_STRAIGHT_QUOTES)
    return _SPACES.sub(" ", straight).strip()


def strip_prefixes_and_normalize(text: str) -> str:
    """Return ``text`` without its thoughts and a leading ``[답변]:`` ("answer:").

    Quotes and spaces are normalised.

    >>> strip_prefixes_and_normalize('[답변]: “며칠”이 옳다. ')
    '"며칠"이 옳다.'
    """
    # Spaces are folded first: the prefix pattern would try every way to split a long run of them.
    text = normalize_quotes(without_thought(text))
    return normalize_quotes(_PREFIX.sub("", text))


# -- parsing ---------------------------------------------------------------------------------------


def parse(text: str) -> Answer:
    """Return the parts of one answer; never raises, whatever the string.

    A thought (``<think>...</think>``) is no part of it.

    >>> parse('"며칠이 걸렸다."가 옳다. 소리대로 적는다.')
    Answer(sentences=('며칠이 걸렸다.',), particle='가', reason='소리대로 적는다.', head='quoted')
    >>> parse("모르겠다").head
    'none'
    """
    text = strip_prefixes_and_normalize(text)
    kind = "quoted"
    head = _find_head(_QUOTED_HEAD, text)
    other = _find_head(_OTHER_HEAD, text)

    if head is None or (other is not None and _ends_the_answer(other, text, before=head)):
        kind = "other"
        head = other
    if head is None:
        return Answer((), "", "", "none")

    quoted = text[: head.start() + 1]  # up to and including the closing quote
    reason = text[head.end() :].lstrip(" .,").rstrip()
    return Answer(_alternatives(quoted), head["particle"], reason, kind)


def _ends_the_answer(other: re.Match[str], text: str, before: re.Match[str]) -> bool:
    """Return whether 으로 고쳐 쓴다 is the head, and a later 가 옳다 belongs to the reason.

    It closes the quote that opens the text, and a full stop follows: a sentence that quotes
    somebody, as in "'며칠'로 적는다." with its own quotes around it, goes on.
    """
    closes_first_quote = other[0][0] == text[0]
    ends_a_sentence = text[other.end() :].startswith(".")
    return closes_first_quote and ends_a_sentence and other.end() <= before.start()


def _find_head(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """Return the head of an answer, or None.

    It is at the first closing quote of the kind that opens the text, or, without one, at the first
    of any kind: "'며칠'이 옳다고 본다." inside double quotes does not end the sentence around it.
    """
    first = None

    for match in pattern.finditer(text):
        if match[0][0] == text[0]:
            return match
        if first is None:
            first = match

    return first


def _alternatives(quoted: str) -> tuple[str, ...]:
    """Return the different sentences of ``"a" 또는 "b"`` ("a" or "b"), without outer quotes."""
    parts = []
    start = 0

    for match in _ALTERNATIVE.finditer(quoted):
        # '사과'나 '배' inside a double-quoted sentence does not separate two sentences.
        if match[1] == quoted[-1]:
            parts.append(quoted[start : match.start() + 1])
            start = match.end() - 1
    parts.append(quoted[start:])

    sentences = [_OUTER_QUOTE.sub("", part.strip()).strip() for part in parts]
    return _unique(sentences)


def _unique(texts: list[str]) -> tuple[str, ...]:
    """Return the texts without repetitions, in order of first appearance."""
    return tuple(dict.fromkeys(texts))


def parse_gold(text: str) -> Answer:
    """Return the parts of a gold answer, where ``#`` separates whole alternative answers.

    The sentences are those of all alternatives; the particle, reason and head are the first's.

    >>> parse_gold('"하나"가 옳다. 까닭.#"둘"이 옳다. 까닭.').sentences
    ('하나', '둘')
    """
    alternatives = [parse(part) for part in text.split("#")]

    sentences: list[str] = []
    for alternative in alternatives:
        sentences.extend(alternative.sentences)

    first = alternatives[0]
    return Answer(_unique(sentences), first.particle, first.reason, first.head)


def gold_reason(text: str, prediction: str) -> str:
    """Return the reason of the gold alternative whose sentence a prediction gives as correct.

    Alternatives may have different reasons. The first one's counts where the prediction gives none
    of their sentences.

    >>> gold = '"서울~강릉"이 옳다. 물결표를 쓴다.#"서울-강릉"이 옳다. 붙임표도 쓸 수 있다.'
    >>> gold_reason(gold, '"서울-강릉"이 옳다. 모르겠다.')
    '붙임표도 쓸 수 있다.'
    """
    alternatives = [parse(part) for part in text.split("#")]
    if len(alternatives) == 1:
        return alternatives[0].reason

    predicted = set(parse(prediction).sentences)
    for alternative in alternatives:
        if predicted and predicted <= set(alternative.sentences):
            return alternative.reason

    return alternatives[0].reason


# -- the older ways to split an answer -------------------------------------------------------------


def split_official(text: str) -> tuple[str, str]:
    """Return the answer and the reason as the contest's scorer splits them.

    The answer ends at the first 가 옳다 anywhere, and only without one at the first 이 옳다;
    straight quotes are deleted from it, curly ones are not. Without either, all of the text is the
    answer and the reason is empty. A thought of the model is no part of its answer.

    >>> split_official('"며칠이 걸렸다."가 옳다. 소리대로 적는다.')
    ('며칠이 걸렸다.가 옳다', '소리대로 적는다.')
    """
    text = without_thought(text)
    before, ending, reason = text.partition("가 옳다")
    if not ending:
        before, ending, reason = text.partition("이 옳다")

    answer = before + ending
    answer = answer.replace('"', "").replace("'", "").strip()

    return answer, reason.lstrip(" .,").strip()


def split_seed(text: str) -> tuple[str, str]:
    """Return the answer and the reason as the article splits them.

    This is the contest's way after Unicode normalisation (NFKC), with curly quotes made straight
    and spaces folded.

    >>> split_seed("“며칠이  걸렸다.”가 옳다. 소리대로 적는다.")
    ('며칠이 걸렸다.가 옳다', '소리대로 적는다.')
    """
    return split_official(normalize_quotes(unicodedata.normalize("NFKC", text)))


# -- writing ---------------------------------------------------------------------------------------


def subject_particle(text: str) -> str:
    """Return the particle that follows ``text``: 이 after a final consonant, 가 after a vowel.

    The last Hangul syllable or digit decides, as it is read aloud, and a clock time is read with 분
    ("minutes"); without any it is 가.

    >>> subject_particle("며칠이 걸렸다."), subject_particle("봄"), subject_particle("14:05")
    ('가', '이', '이')
    """
    if _CLOCK_TIME.search(text):
        return "이"

    for char in reversed(text):
        if char in _DIGITS:
            return "이" if char in _DIGITS_WITH_FINAL else "가"
        if is_syllable(char):
            return "이" if letters_of(char).final else "가"

    return "가"


def format_answer(sentence: str, reason: str) -> str:
    """Return an answer in the required form.

    >>> format_answer("며칠이 걸렸다.", "소리대로 적는다.")
    '"며칠이 걸렸다."가 옳다. 소리대로 적는다.'
    """
    return f'"{sentence}"{subject_particle(sentence)} 옳다. {reason}'
