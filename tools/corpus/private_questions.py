"""Questions that only you have: ``python -m tools.corpus.private_questions --out private.json``.

In: the families of words (``data/norms/families``) and a seed. Out: a contest file like
``data/embedded/test_nonce.json``, about invented words that are in none of the course's files. For
the last round of a league, or for an exam: the answers to all other questions are in every clone.

The same seed gives the same file, so whoever knows the seed has the answers: keep both to yourself.
Without ``--seed`` one is drawn and printed. Words are invented by chance, and now and then chance
hits on a real word, which may have another norm; if you read Korean, look through the file.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from grpo_helpers.command_line import SUCCESS, run_command
from grpo_helpers.data import item_to_row, load_items
from grpo_helpers.files import check_output_file, project_root, show_path, write_json
from grpo_helpers.questions import Item
from grpo_helpers.splits import CORPUS_SPLITS, SPLITS
from tools.corpus.families import Family, Word, load_families
from tools.corpus.family_splits import NONCE_WORDS, ask_about_invented, items_of
from tools.corpus.nonce import distinct_words
from tools.corpus.sentences import seeded

NAME = "private"
SPARE = 2  # times as many words are invented as needed: some of them are known


def known_text() -> str:
    """Return every question and answer of the course's own files in one text."""
    files = [f"data/embedded/{split.file}" for split in SPLITS]
    files += [f"data/{split.file}" for split in CORPUS_SPLITS]
    items = [item for file in files for item in load_items(project_root() / file)]
    return "\n".join(f"{item.question}\n{item.answer}" for item in items)


def new_words(family: Family, seed: str, known: str) -> list[Word]:
    """Return as many invented words of a family as ``test_nonce`` has; their right forms alternate.

    Args:
        family: The family.
        seed: Decides the words.
        known: A text that holds neither form of any of them.
    """
    count = NONCE_WORDS[family.kind]
    rng = seeded("private words", seed, family.card.id)
    invented = distinct_words(family, rng, SPARE * count)

    by_form: dict[str, list[Word]] = {form: [] for form in family.right_forms}
    for word in invented:
        if word.entry.right not in known and word.entry.wrong not in known:
            by_form[word.side.form].append(word)

    each = count // len(by_form)
    pairs = zip(*(words[:each] for words in by_form.values()), strict=True)
    return [word for pair in pairs for word in pair]


def private_items(families: Iterable[Family], seed: str, known: str) -> list[Item]:
    """Return questions about invented words of all families.

    Args:
        families: The families.
        seed: Decides the words.
        known: A text that holds neither form of any word that is asked about.
    """
    asked = ask_about_invented(families, lambda family: new_words(family, seed, known))
    return items_of(NAME, asked)


def write_questions(seed: str, out: str) -> int:
    """Write the file, and print what is in it."""
    check_output_file(out)
    items = private_items(load_families(), seed, known_text())
    written = write_json(Path(out), list(map(item_to_row, items)))

    types = Counter(item.question_type for item in items)
    counts = ", ".join(f"{name} {count}" for name, count in sorted(types.items()))
    print(f"{show_path(written)}: {len(items)} questions ({counts}), seed {seed}")
    return SUCCESS


def main(argv: Sequence[str] | None = None) -> int:
    """Write questions about words that nobody has seen; return 0, or 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.corpus.private_questions",
        description="Write questions about invented words that are in none of the course's files.",
        epilog="Whoever knows the seed has the answers: keep it to yourself.",
    )
    parser.add_argument("--seed", default="", help="any text; left out, one is drawn and printed")
    parser.add_argument("--out", default="private.json", help="the file that is written")
    args = parser.parse_args(argv)
    return run_command(lambda: write_questions(args.seed or secrets.token_hex(8), args.out))


if __name__ == "__main__":
    sys.exit(main())
