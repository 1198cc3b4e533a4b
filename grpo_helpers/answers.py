"""The answer format ``"sentence"가 옳다. reason``: read it from any text, and write it.

In: an answer as a person or a model wrote it. Out: :class:`Answer`. The article splits with one regular expression
that refuses nested quotes, so it rejects some of the contest's own gold answers; this parser looks for the first
closing quote followed by 가/이 옳다 instead, and never raises. The two older ways to split an answer, the contest
scorer's and the article's, stand beside it (:func:`split_official`, :func:`split_seed`): published figures need them.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

_QUOTES = str.maketrans(
    {"“": '"', "”": '"', "„": '"', "‟": '"', "＂": '"', "‘": "'", "’": "'", "‚": "'", "＇": "'"}
)
_SPACES = re.compile(r"\s+")
_PREFIX = re.compile(r"^\s*(?:\[?\s*(?:답변|정답|답)\s*\]?\s*[:：])\s*")
_HEAD = re.compile(
    r"""["']\s*(?P<particle>으?[이가])\s*옳다"""
)  # 으가 is a slip in the contest's own gold answers
_OTHER_HEAD = re.compile(
    r"""["']\s*(?P<particle>으로|로|[와과]\s*같이)\s*(?:고쳐\s*)?(?:쓴다|써야\s*한다|적는다|적어야\s*한다)"""
)
_OUTER_QUOTE = re.compile(r"""^["']|["']$""")
_ALTERNATIVE = re.compile(r"""(["'])\s*(?:혹은|또는|[와과]\s*같이\s*쓰거나|이나|나|,)\s*\1""")


@dataclass(frozen=True)
class Answer:
    """One parsed answer. Its head is what ends the quoted sentence: 가 옳다 in the asked form."""

    sentences: tuple[
        str, ...
    ]  # called right: one, or several where alternatives are allowed; empty without a head
    particle: str  # 이 or 가 (or what stood in its place); empty without a head
    reason: str  # what follows the head, stripped; empty if nothing does
    head: str  # "quoted" for the asked form, "other" for 으로 고쳐 쓴다 and its like, "none" without a head


def normalize_quotes(text: str) -> str:
    """Return ``text`` with curly quotes made straight and every run of white space folded to one space.

    >>> normalize_quotes("“며칠”이\\u00a0 옳다.")
    '"며칠"이 옳다.'
    """
    return _SPACES.sub(" ", text.translate(_QUOTES)).strip()


def strip_prefixes_and_normalize(text: str) -> str:
    """Return ``text`` without a leading ``[답변]:`` ("answer:") and with quotes and spaces normalised.

    >>> strip_prefixes_and_normalize('[답변]: “며칠”이 옳다. ')
    '"며칠"이 옳다.'
    """
    # Spaces are folded first: the pattern would try every split of a long run of them.
    return normalize_quotes(_PREFIX.sub("", normalize_quotes(text)))


def parse(text: str) -> Answer:
    """Return the parts of one answer; never raises on any string.

    >>> parse('"며칠이 걸렸다."가 옳다. 소리대로 적는다.')
    Answer(sentences=('며칠이 걸렸다.',), particle='가', reason='소리대로 적는다.', head='quoted')
    >>> parse("모르겠다").head
    'none'
    """
    text = strip_prefixes_and_normalize(text)
    for kind, pattern in (("quoted", _HEAD), ("other", _OTHER_HEAD)):
        found = list(pattern.finditer(text))
        if found:
            # The head is at the first closing quote of the kind that opened the text, else at the first of any kind:
            # "'며칠'이 옳다고 본다." inside double quotes does not end the sentence it stands in.
            head = next((match for match in found if match[0][0] == text[0]), found[0])
            reason = text[head.end() :].lstrip(" .,").rstrip()
            return Answer(_alternatives(text[: head.start() + 1]), head["particle"], reason, kind)
    return Answer((), "", "", "none")


def _alternatives(quoted: str) -> tuple[str, ...]:
    """Return the sentences of ``"a" 또는 "b"``, each without its outer quotes; inner ones are part of a sentence."""
    parts, start = [], 0
    for match in _ALTERNATIVE.finditer(quoted):
        if (
            match[1] == quoted[-1]
        ):  # else: '사과'나 '배' inside a double-quoted sentence is one sentence
            parts.append(quoted[start : match.start() + 1])
            start = match.end() - 1
    return tuple(
        dict.fromkeys(
            _OUTER_QUOTE.sub("", part.strip()).strip() for part in [*parts, quoted[start:]]
        )
    )


def parse_gold(text: str) -> Answer:
    """Return the parts of a gold answer: the sentences of all its ``#``-separated alternatives, the first's reason."""
    parts = [parse(part) for part in text.split("#")]
    sentences = tuple(dict.fromkeys(s for part in parts for s in part.sentences))
    return Answer(sentences, parts[0].particle, parts[0].reason, parts[0].head)


def split_official(text: str) -> tuple[str, str]:
    """Return (answer, reason) as the contest's scorer splits them.

    The answer ends at the first 가 옳다 anywhere, and only without one at the first 이 옳다; straight quotes are
    deleted from it, curly ones are not. Without either the whole text is the answer.

    >>> split_official('"며칠이 걸렸다."가 옳다. 소리대로 적는다.')
    ('며칠이 걸렸다.가 옳다', '소리대로 적는다.')
    """
    before, end, reason = text.partition("가 옳다" if "가 옳다" in text else "이 옳다")
    return (before + end).replace('"', "").replace("'", "").strip(), reason.lstrip(" .,").strip()


def split_seed(text: str) -> tuple[str, str]:
    """Return (answer, reason) as the article splits them: like the contest, after NFKC, curly quotes and spaces.

    >>> split_seed("“며칠이  걸렸다.”가 옳다. 소리대로 적는다.")
    ('며칠이 걸렸다.가 옳다', '소리대로 적는다.')
    """
    return split_official(normalize_quotes(unicodedata.normalize("NFKC", text)))


def subject_particle(text: str) -> str:
    """Return 이 after a final consonant and 가 after a vowel, by the last Hangul syllable of ``text``.

    >>> subject_particle("며칠이 걸렸다."), subject_particle("봄")
    ('가', '이')
    """
    last = next((char for char in reversed(text) if "가" <= char <= "힣"), "가")
    return (
        "이" if (ord(last) - ord("가")) % 28 else "가"
    )  # of each 28 syllables the first has no final


def format_answer(sentence: str, reason: str) -> str:
    """Return the asked form of an answer.

    >>> format_answer("며칠이 걸렸다.", "소리대로 적는다.")
    '"며칠이 걸렸다."가 옳다. 소리대로 적는다.'
    """
    return f'"{sentence}"{subject_particle(sentence)} 옳다. {reason}'
