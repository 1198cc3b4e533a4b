"""Check the data, print its counts and rates: ``python -m tools.corpus.check`` (``make check-data``); exit 1 on a fault.

Reads the committed files, not the builder's memory. Six kinds of check: gold answers, forms, splits, shapes and rates,
an independent rule checker (matchum), and a spacing model (kiwipiepy) whose disagreements were read one by one. The
last one is large and comes with ``pip install -e ".[check]"``; without it the others still run, and the gap is said.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import yaml

from grpo_helpers.answers import parse, parse_gold
from grpo_helpers.data import load_items
from grpo_helpers.files import project_root
from grpo_helpers.metrics import exact_match, format_score
from grpo_helpers.questions import CORRECTION, SELECTION, Item, choice_forms
from tools.corpus.build import SPLITS, near_copies
from tools.corpus.cards import CATEGORIES, Card, load_cards

Corpus = Mapping[str, Sequence[Item]]
ASKED = tuple(split for split in SPLITS if split != "few_shot")
# (wanted, tolerance) of each share, from the counts of the contest's own data.
MIX = {"한글 맞춤법": 37, "띄어쓰기": 20, "문장 부호": 20, "외래어 표기법": 17, "표준어": 6}
SHARES: dict[str, tuple[float, float]] = {
    **{f"{name} of all": (share, 3.0) for name, share in MIX.items()},
    "선택형 of all": (50.0, 2.0),
    "right form first, of 선택형": (50.0, 2.0),
    "two lines, of 선택형": (5.0, 1.5),
    "forms that differ in spacing only, of 선택형": (20.0, 4.0),
    "bullet, of 교정형": (40.0, 3.0),
    "blank ( ), of 교정형": (8.0, 1.5),
    "nested quotes, of all": (2.5, 1.0),
    "several right answers, of all": (1.0, 0.7),
}
AT_LEAST = {
    "cards": 120,
    "entries": 500,
    "carrier sentences": 1000,
    "sentences of the smallest card": 8,
    "items": 2000,
    "held-out norms": 20,
}


def load_corpus() -> dict[str, list[Item]]:
    """Return every split of the corpus."""
    return {split: load_items(f"data/{split}.json") for split in SPLITS}


def _all(corpus: Corpus, splits: Iterable[str] = SPLITS) -> list[Item]:
    return [item for split in splits for item in corpus[split]]


def gold_sentence(item: Item) -> str:
    """Return the first right sentence of an item."""
    return parse_gold(item.answer or "").sentences[0]


# -- the six checks: each returns its faults, one line each --------------------------------------------------------


def gold_faults(corpus: Corpus) -> list[str]:
    """Every alternative of every gold answer parses, has the asked format, and is an exact match."""
    faults = []
    for item in _all(corpus):
        for answer in (item.answer or "").split("#"):
            parsed = parse(answer)
            if parsed.head != "quoted" or not parsed.reason:
                faults.append(f"{item.id}: the gold answer does not parse: {answer}")
            elif format_score(answer) != 1 or exact_match(answer, item.answer) != 1:
                faults.append(f"{item.id}: the gold answer misses a reward: {answer}")
    return faults


def form_faults(corpus: Corpus) -> list[str]:
    """The right form stands in the gold sentence, the wrong one does not, and 교정형 has exactly one error."""
    faults = []
    for item in _all(corpus):
        right, wrong = choice_forms(item)
        sentence = gold_sentence(item)
        if not right or right not in sentence:
            faults.append(
                f"{item.id}: the right form {right!r} is not in the gold sentence: {sentence}"
            )
        if any(not form or form in sentence for form in wrong):
            faults.append(
                f"{item.id}: the wrong form {wrong!r} is in the gold sentence: {sentence}"
            )
    return faults


def split_faults(corpus: Corpus) -> list[str]:
    """No near copy crosses a split, no held-out word or norm is in train, and few-shot norms are asked nowhere."""
    sentences = {split: map(gold_sentence, items) for split, items in corpus.items()}
    faults = [
        f"near copies in {one} and {other}: {left} | {right}"
        for one, other, left, right in near_copies(sentences)
    ]
    cards = {split: {item.extra["card"] for item in items} for split, items in corpus.items()}
    for split in ("test_unseen_norms", "few_shot"):
        for other in SPLITS:
            shared = cards[split] & cards[other] if other != split else set()
            faults += [f"norm of {split} is in {other} too: {card}" for card in sorted(shared)]
    faults += [
        f"norm of {s} is not in train: {c}"
        for s in ("dev", "test")
        for c in sorted(cards[s] - cards["train"])
    ]
    words = {split: {_word(item) for item in items} for split, items in corpus.items()}
    for other in ("train", "dev", "test"):
        faults += [
            f"unseen word is in {other}: {word}"
            for word in sorted(words["test_unseen_words"] & words[other])
        ]
    return faults


def _word(item: Item) -> tuple[str, str]:
    return item.extra["card"], item.extra["word"]


def rate_faults(corpus: Corpus) -> list[str]:
    """Every share lies where the contest's data has it."""
    found = shares(corpus)
    return [
        f"{name}: {found[name]:.1f} %, wanted {wanted:g} +- {give:g}"
        for name, (wanted, give) in SHARES.items()
        if abs(found[name] - wanted) > give
    ]


def rule_faults(corpus: Corpus) -> list[str]:
    """matchum, a rule checker written by others, finds no error in any gold sentence beyond the excused ones."""
    from matchum import check

    excused = _reviewed()["matchum"]
    return [
        f"{item.id}: matchum: {found.original} -> {found.suggestion}: {gold_sentence(item)}"
        for item in _all(corpus)
        for found in check(gold_sentence(item)).corrections
        if gold_sentence(item) not in excused
    ]


def spacing_faults(corpus: Corpus) -> list[str]:
    """kiwipiepy spaces every gold sentence as we do, or the difference was read before. It is no oracle."""
    from kiwipiepy import Kiwi

    kiwi, read = Kiwi(), _reviewed()["kiwipiepy"]
    sentences = dict.fromkeys(map(gold_sentence, _all(corpus)))
    return [
        f"kiwipiepy spaces otherwise, and nobody has read it: {sentence} | {other}"
        for sentence in sentences
        if (other := kiwi.space(sentence)) != sentence and sentence not in read
    ]


def _reviewed() -> dict[str, dict[str, str]]:
    file = project_root() / "data" / "norms" / "reviewed.yaml"
    return {
        key: value or {} for key, value in yaml.safe_load(file.read_text(encoding="utf-8")).items()
    }


CHECKS: dict[str, Callable[[Corpus], list[str]]] = {
    "gold answers": gold_faults,
    "forms": form_faults,
    "splits": split_faults,
    "rates": rate_faults,
    "rule checker": rule_faults,
    "spacing model": spacing_faults,
}


# -- counts and shares ---------------------------------------------------------------------------------------------


def shares(corpus: Corpus) -> dict[str, float]:
    """Return each share of :data:`SHARES` in percent, over all splits that are asked."""
    items = _all(corpus, ASKED)
    choose = [item for item in items if item.question_type == SELECTION]
    mend = [item for item in items if item.question_type == CORRECTION]
    braces = [item for item in choose if "{" in item.question]
    lines = [item.question.split("\n") for item in mend]

    def percent(found: Iterable[bool], of: Sequence[Item]) -> float:
        return 100 * sum(found) / max(1, len(of))

    return {
        **{
            f"{name} of all": percent((i.extra["category"] == name for i in items), items)
            for name in MIX
        },
        "선택형 of all": percent((True for _ in choose), items),
        "right form first, of 선택형": percent((_right_first(i) for i in braces), braces),
        "two lines, of 선택형": percent((i.question.count("\n― ") == 2 for i in choose), choose),
        "forms that differ in spacing only, of 선택형": percent(
            (_spacing_only(i) for i in choose), choose
        ),
        "bullet, of 교정형": percent((line[-1][:2] in ("― ", "ㅡ ", "— ") for line in lines), mend),
        "blank ( ), of 교정형": percent(("( )" in i.question for i in mend), mend),
        "nested quotes, of all": percent(('"' in gold_sentence(i) for i in items), items),
        "several right answers, of all": percent(("#" in i.answer for i in items), items),
    }


def _right_first(item: Item) -> bool:
    return item.question.split("{")[1].startswith(choice_forms(item)[0] + "/")


def _spacing_only(item: Item) -> bool:
    right, wrong = choice_forms(item)
    return all(right.replace(" ", "") == form.replace(" ", "") for form in wrong)


def counts(corpus: Corpus, cards: Sequence[Card]) -> dict[str, int]:
    """Return the counts of :data:`AT_LEAST`."""
    sentences = [len([s for entry in card.entries for s in entry.sentences]) for card in cards]
    return {
        "cards": len(cards),
        "entries": sum(len(card.entries) for card in cards),
        "carrier sentences": len(
            {s for card in cards for entry in card.entries for s, _ in entry.sentences}
        ),
        "sentences of the smallest card": min(sentences),
        "items": len(_all(corpus, ASKED)),
        "held-out norms": len({item.extra["card"] for item in corpus["test_unseen_norms"]}),
    }


def report(corpus: Corpus, cards: Sequence[Card]) -> str:
    """Return the tables of counts, splits, lengths and rates."""
    lines = [
        f"{name:46} {value:6d}   (at least {AT_LEAST[name]})"
        for name, value in counts(corpus, cards).items()
    ]
    lines += [""] + [f"{split:18} {len(items):5d} items" for split, items in corpus.items()] + [""]
    for category in CATEGORIES.values():
        lengths = [
            len(parse_gold(i.answer).reason)
            for i in _all(corpus, ASKED)
            if i.extra["category"] == category
        ]
        lines.append(f"{category}: median reason {statistics.median(lengths):.0f} characters")
    composed = Counter(item.extra["source"] for item in _all(corpus, ASKED))
    lines += [f"source: {dict(composed)}", ""]
    lines += [
        f"{name:46} {value:6.1f} % (wanted {SHARES[name][0]:g})"
        for name, value in shares(corpus).items()
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run every check, print the tables; return 1 where a check found a fault."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    corpus, cards = load_corpus(), load_cards()
    print(report(corpus, cards), "\n")
    found = counts(corpus, cards)
    faults = [
        f"too few {name}: {found[name]}, wanted {least}"
        for name, least in AT_LEAST.items()
        if found[name] < least
    ]
    for name, check in CHECKS.items():
        try:
            new = check(corpus)
        except ImportError as error:
            print(f"SKIPPED  {name}: {error.name} is not installed (pip install -e '.[dev,check]')")
            continue
        print(f"{'FAULTS ' if new else 'passed '}  {name}" + (f": {len(new)}" if new else ""))
        faults += new
    print("\n".join(faults[:40]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
