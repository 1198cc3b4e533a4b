"""Check the data and print its counts and rates: ``python -m tools.corpus.check``.

In: the committed files (not the builder's memory). Out: the tables, and one line per fault; exit 1
if there is one. ``make check-data`` installs what it needs. The items are checked for gold answers,
forms, splits, shapes and rates, the length of reasons, with an independent rule checker (matchum),
and with a spacing model (kiwipiepy) whose disagreements with us were read one by one. The last one
is large and comes with ``pip install -e ".[check]"``; without it that check is reported as skipped.
The cards are checked for what their reasons say (``tools/corpus/reasons.py``).
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import yaml

from grpo_helpers.answers import parse, parse_gold
from grpo_helpers.command_line import run_command
from grpo_helpers.data import load_items
from grpo_helpers.files import project_root
from grpo_helpers.metrics import exact_match, format_score
from grpo_helpers.prompts import load_instruct
from grpo_helpers.questions import CORRECTION, SELECTION, Item, choice_forms, offered_choices
from tools.corpus import reasons
from tools.corpus.cards import CATEGORIES, Card, load_cards
from tools.corpus.questions import BULLETS
from tools.corpus.sentences import SPLIT_NAMES, near_copies

Corpus = Mapping[str, Sequence[Item]]
QUESTION_SPLITS = tuple(name for name in SPLIT_NAMES if name != "few_shot")
SHOWN_FAULTS = 40


@dataclass(frozen=True)
class Expected:
    """A share in percent and how far the data may be from it."""

    share: float
    tolerance: float


# The shares of the contest's own data. The names of categories are the contest's, too.
MIX = {"한글 맞춤법": 37, "띄어쓰기": 20, "문장 부호": 20, "외래어 표기법": 17, "표준어": 6}
SHARES = {
    **{f"{name} of all": Expected(share, 3.0) for name, share in MIX.items()},
    "선택형 of all": Expected(50.0, 2.0),
    "right form first, of 선택형": Expected(50.0, 2.0),
    "two lines, of 선택형": Expected(5.0, 1.5),
    "forms that differ in spacing only, of 선택형": Expected(20.0, 4.0),
    "bullet, of 교정형": Expected(40.0, 3.0),
    "blank ( ), of 교정형": Expected(8.0, 1.5),
    "nested quotes, of all": Expected(2.5, 1.0),
    "several right answers, of all": Expected(1.0, 0.7),
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
    return {split: load_items(f"data/{split}.json") for split in SPLIT_NAMES}


def items_of(corpus: Corpus, splits: Iterable[str] = SPLIT_NAMES) -> list[Item]:
    """Return the items of several splits in one list."""
    items: list[Item] = []
    for split in splits:
        items += corpus[split]
    return items


def gold_answer(item: Item) -> str:
    """Return the gold answer of an item: every item of the corpus has one."""
    return item.answer or ""


def gold_sentence(item: Item) -> str:
    """Return the first right sentence of an item."""
    return parse_gold(gold_answer(item)).sentences[0]


# -- the checks of items: each returns its faults, one line each -------------------------------


def gold_faults(corpus: Corpus) -> list[str]:
    """Check that every gold answer parses, is in the required format, and is an exact match.

    Every alternative of a gold answer is checked.
    """
    faults = []
    for item in items_of(corpus):
        gold = gold_answer(item)
        for answer in gold.split("#"):
            parsed = parse(answer)
            if parsed.head != "quoted" or not parsed.reason:
                faults.append(f"{item.id}: the gold answer does not parse: {answer}")
            elif format_score(answer, item) != 1 or exact_match(answer, gold) != 1:
                faults.append(f"{item.id}: the gold answer misses a reward: {answer}")
    return faults


def form_faults(corpus: Corpus) -> list[str]:
    """Check that the gold sentence contains the right form and not the wrong one.

    For a 교정형 this includes that the question has exactly one error.
    """
    faults = []
    for item in items_of(corpus):
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
    """Check that nothing leaks from one split into another.

    No near copy crosses a split, train has no held-out word or norm, and no question is about a
    few-shot norm.
    """
    return _near_copy_faults(corpus) + _norm_faults(corpus) + _word_faults(corpus)


def _near_copy_faults(corpus: Corpus) -> list[str]:
    sentences = {split: map(gold_sentence, items) for split, items in corpus.items()}
    faults = []
    for copy in near_copies(sentences):
        faults.append(
            f"near copies in {copy.split} and {copy.other_split}: "
            f"{copy.sentence} | {copy.other_sentence}"
        )
    return faults


def _norm_faults(corpus: Corpus) -> list[str]:
    norms = {split: set(map(_norm, items)) for split, items in corpus.items()}
    faults = []
    for split in ("test_unseen_norms", "few_shot"):
        for other in SPLIT_NAMES:
            if other == split:
                continue
            for norm in sorted(norms[split] & norms[other]):
                faults.append(f"norm of {split} is in {other} too: {norm}")

    for split in ("dev", "test"):
        for norm in sorted(norms[split] - norms["train"]):
            faults.append(f"norm of {split} is not in train: {norm}")
    return faults


def _word_faults(corpus: Corpus) -> list[str]:
    words = {split: set(map(_word, items)) for split, items in corpus.items()}
    faults = []
    for split in ("train", "dev", "test"):
        for word in sorted(words["test_unseen_words"] & words[split]):
            faults.append(f"unseen word is in {split}: {word}")
    return faults


def _norm(item: Item) -> str:
    return item.extra["card"]


def _word(item: Item) -> tuple[str, str]:
    return item.extra["card"], item.extra["word"]


def rate_faults(corpus: Corpus) -> list[str]:
    """Check that every share is that of the contest's data, within its tolerance."""
    measured = shares(corpus)
    faults = []
    for name, expected in SHARES.items():
        if abs(measured[name] - expected.share) > expected.tolerance:
            faults.append(
                f"{name}: {measured[name]:.1f} %, "
                f"expected {expected.share:g} +- {expected.tolerance:g}"
            )
    return faults


def rule_faults(corpus: Corpus) -> list[str]:
    """Check that matchum finds no error in a gold sentence.

    matchum is a rule checker written by others. Sentences in ``reviewed.yaml`` are excused.

    Raises:
        ImportError: matchum is not installed.
    """
    from matchum import check

    excused = _reviewed()["matchum"]
    faults = []
    for item in items_of(corpus):
        sentence = gold_sentence(item)
        if sentence in excused:
            continue
        for correction in check(sentence).corrections:
            faults.append(
                f"{item.id}: matchum: {correction.original} -> {correction.suggestion}: {sentence}"
            )
    return faults


def spacing_faults(corpus: Corpus) -> list[str]:
    """Check that kiwipiepy spaces every gold sentence as we do, or that the difference was read.

    The model is not always right: the differences that were read are in ``reviewed.yaml``.

    Raises:
        ImportError: kiwipiepy is not installed.
    """
    from kiwipiepy import Kiwi

    kiwi = Kiwi()
    reviewed = _reviewed()["kiwipiepy"]
    faults = []
    for sentence in dict.fromkeys(map(gold_sentence, items_of(corpus))):
        spaced = kiwi.space(sentence)
        if spaced != sentence and sentence not in reviewed:
            faults.append(
                f"kiwipiepy spaces this differently, and nobody has read it: {sentence} | {spaced}"
            )
    return faults


def instruction_faults(corpus: Corpus) -> list[str]:
    """Check that the reasons, also the short ones, have the length that the instruction names."""
    items = items_of(corpus)
    for split in SPLIT_NAMES:
        items += load_items(f"data/embedded/{split}.json")
    return reasons.length_faults(items, load_instruct("data/instruct.json")["prompt"])


def _reviewed() -> dict[str, dict[str, str]]:
    """Return the disagreements that were read, and the verdict on each, by checker and sentence."""
    file = project_root() / "data" / "norms" / "reviewed.yaml"
    verdicts = yaml.safe_load(file.read_text(encoding="utf-8"))
    return {checker: by_sentence or {} for checker, by_sentence in verdicts.items()}


CHECKS: dict[str, Callable[[Corpus], list[str]]] = {
    "gold answers": gold_faults,
    "forms": form_faults,
    "splits": split_faults,
    "rates": rate_faults,
    "length of reasons": instruction_faults,
    "rule checker": rule_faults,
    "spacing model": spacing_faults,
}
CARD_CHECKS: dict[str, Callable[[Sequence[Card]], list[str]]] = {
    "forms in reasons": reasons.form_faults,
    "reasons of further right forms": reasons.alternative_faults,
    "reasons of blanks": reasons.blank_faults,
    "reasons of their own": reasons.sharing_faults,
    "citations": reasons.citation_faults,
}


# -- counts and shares ------------------------------------------------------------------------


def shares(corpus: Corpus) -> dict[str, float]:
    """Return each share of :data:`SHARES` in percent, over all splits but few-shot."""
    items = items_of(corpus, QUESTION_SPLITS)
    selections = [item for item in items if item.question_type == SELECTION]
    corrections = [item for item in items if item.question_type == CORRECTION]
    braces = [item for item in selections if has_option_brace(item)]
    categories = Counter(map(_category, items))

    percentages = {}
    for category in MIX:
        percentages[f"{category} of all"] = 100 * categories[category] / max(1, len(items))

    percentages |= {
        "선택형 of all": 100 * len(selections) / max(1, len(items)),
        "right form first, of 선택형": percent(right_form_is_first, braces),
        "two lines, of 선택형": percent(_has_two_lines, selections),
        "forms that differ in spacing only, of 선택형": percent(_differs_in_spacing, selections),
        "bullet, of 교정형": percent(_has_bullet, corrections),
        "blank ( ), of 교정형": percent(_has_blank, corrections),
        "nested quotes, of all": percent(_has_nested_quotes, items),
        "several right answers, of all": percent(_has_several_answers, items),
    }
    return percentages


def percent(property_of: Callable[[Item], bool], items: Sequence[Item]) -> float:
    """Return the percentage of ``items`` with a property."""
    return 100 * sum(map(property_of, items)) / max(1, len(items))


def _category(item: Item) -> str:
    return item.extra["category"]


def has_option_brace(item: Item) -> bool:
    """Return whether the options of an item stand in a brace; a brace may also be a form's own."""
    return bool(offered_choices(item))


def right_form_is_first(item: Item) -> bool:
    """Return whether the first option of an item's brace is the right one."""
    right, _ = choice_forms(item)
    return item.question.split("{")[1].startswith(right + "/")


def _has_two_lines(item: Item) -> bool:
    return item.question.count("\n― ") == 2


def _differs_in_spacing(item: Item) -> bool:
    right, wrong = choice_forms(item)
    letters = right.replace(" ", "")
    return all(form.replace(" ", "") == letters for form in wrong)


def _has_bullet(item: Item) -> bool:
    last_line = item.question.split("\n")[-1]
    return last_line[:1] in BULLETS and last_line[1:2] == " "


def _has_blank(item: Item) -> bool:
    return "( )" in item.question


def _has_nested_quotes(item: Item) -> bool:
    return '"' in gold_sentence(item)


def _has_several_answers(item: Item) -> bool:
    return "#" in gold_answer(item)


def counts(corpus: Corpus, cards: Sequence[Card]) -> dict[str, int]:
    """Return the counts of :data:`AT_LEAST`."""
    entries = 0
    carriers = set()
    sentences_of_card: Counter[str] = Counter()
    for card in cards:
        entries += len(card.entries)
        for entry in card.entries:
            sentences_of_card[card.id] += len(entry.sentences)
            for carrier, _ in entry.sentences:
                carriers.add(carrier)

    return {
        "cards": len(cards),
        "entries": entries,
        "carrier sentences": len(carriers),
        "sentences of the smallest card": min(sentences_of_card.values()),
        "items": len(items_of(corpus, QUESTION_SPLITS)),
        "held-out norms": len(set(map(_norm, corpus["test_unseen_norms"]))),
    }


# -- the report -------------------------------------------------------------------------------


def report(corpus: Corpus, cards: Sequence[Card]) -> str:
    """Return the tables of counts, splits, lengths and rates."""
    lines = []
    for name, count in counts(corpus, cards).items():
        lines.append(f"{name:46} {count:6d}   (at least {AT_LEAST[name]})")

    lines.append("")
    for split, items in corpus.items():
        lines.append(f"{split:18} {len(items):5d} items")

    lines.append("")
    sources: Counter[str] = Counter()
    lengths = defaultdict(list)
    for item in items_of(corpus, QUESTION_SPLITS):
        sources[item.extra["source"]] += 1
        lengths[_category(item)].append(len(parse_gold(gold_answer(item)).reason))
    for category in CATEGORIES.values():
        median = statistics.median(lengths[category])
        lines.append(f"{category}: median reason {median:.0f} characters")
    lines.append(f"source: {dict(sources)}")

    lines.append("")
    for name, share in shares(corpus).items():
        lines.append(f"{name:46} {share:6.1f} % (expected {SHARES[name].share:g})")

    own = 100 * reasons.distinct_share(cards)
    least = 100 * reasons.DISTINCT_FULL_REASONS
    lines.append(f"{'distinct full reasons, of words':46} {own:6.1f} % (at least {least:g})")
    return "\n".join(lines)


def count_faults(corpus: Corpus, cards: Sequence[Card]) -> list[str]:
    """Return a line for each count that is too low."""
    counted = counts(corpus, cards)
    faults = []
    for name, least in AT_LEAST.items():
        if counted[name] < least:
            faults.append(f"too few {name}: {counted[name]}, expected at least {least}")
    return faults


def run_checks(corpus: Corpus, cards: Sequence[Card]) -> list[str]:
    """Run every check and print how it ended; return all faults."""
    faults = []
    for name, check in CHECKS.items():
        try:
            new = check(corpus)
        except ImportError as error:
            print(f"SKIPPED  {name}: {error.name} is not installed (pip install -e '.[dev,check]')")
            continue
        _print_result(name, new)
        faults += new

    for name, check_cards in CARD_CHECKS.items():
        new = check_cards(cards)
        _print_result(name, new)
        faults += new
    return faults


def _print_result(name: str, faults: Sequence[str]) -> None:
    """Print how a check ended."""
    if faults:
        print(f"FAULTS   {name}: {len(faults)}")
    else:
        print(f"passed   {name}")


def check_data() -> int:
    """Print the tables and all faults; return 1 if there is a fault."""
    corpus = load_corpus()
    cards = load_cards()
    print(report(corpus, cards), "\n")

    faults = count_faults(corpus, cards) + run_checks(corpus, cards)
    print("\n".join(faults[:SHOWN_FAULTS]))
    return 1 if faults else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Check the data; return 0, 1 where a check found a fault, or 2 where a file is unusable."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.corpus.check", description=__doc__.splitlines()[0]
    )
    parser.parse_args(argv)
    return run_command(check_data)


if __name__ == "__main__":
    sys.exit(main())
