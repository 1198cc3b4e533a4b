"""③ ④ The group inspector: from the rewards of one group to the push on each of its tokens.

In: groups of completions and what they earned, of a run folder, of a table in ``completions/``, or
made by hand. Out: an :class:`Inspector`: HTML that needs no network, and a plain table for what
shows no HTML. The page, ``inspector.html``, has a slider for the weight of each reward, and repeats
in JavaScript what the functions here compute: TRL's weighted sum, its advantage, and the divisor of
its loss. The article logs the mean reward of a step and does not look into a group.

The page leaves out three things, and says so. The ratio of new to old probability is 1, as it is at
the first update from a round: TRL keeps no log-probabilities with the completions. The KL term is
left out. And the group stands for the whole step; other groups in it make every push smaller alike.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from html import escape
from itertools import combinations, pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from grpo_helpers.by_hand import NEVER_BY_ZERO
from grpo_helpers.data import load_items
from grpo_helpers.files import InputError, read_json, replace_halves, resolve_path
from grpo_helpers.questions import SELECTION, Item, question_sentences
from grpo_helpers.rewards import PRESETS, Weights, completion_text, registered, reward_weights
from grpo_helpers.run_folder import (
    COMPLETIONS_FOLDER,
    RECORDED_COMPLETIONS,
    SETTINGS_FILE,
    RunFolder,
)
from grpo_helpers.settings import TrainSettings
from grpo_helpers.similarity import common_start

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

PAGE_FILE = "inspector.html"
ENDING = "_reward"  # of the columns that hold rewards
EQUAL = 1e-6  # rewards whose standard deviation is smaller differ by rounding only

ALIKE = 2 / 3  # completions that share this part of the longer one are compared letter by letter
LONGEST_COMPARED = 400  # letters; a longer stretch between common ends counts as different

GROUPS_IN_NOTEBOOK = 2
GROUPS_OF_A_STEP = 4  # on the page of a run, of three of its steps
OTHER_COLOR = "#777777"  # of a reward that is not registered


# -- groups ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScoredCompletion:
    """A completion of a group, with what it earned.

    Attributes:
        text: The completion.
        rewards: Unweighted rewards by name; None where a reward does not judge the completion.
        logged: The advantage that TRL logged, if it is known.
    """

    text: str
    rewards: Mapping[str, float | None]
    logged: float | None = None


@dataclass(frozen=True)
class Group:
    """The completions of one prompt.

    Attributes:
        question: The question, as the contest words it.
        completions: What the model wrote, two or more.
        item: The item of the question, for its gloss and its gold answer.
        step: The optimizer step, if it is known.
    """

    question: str
    completions: Sequence[ScoredCompletion]
    item: Item | None = None
    step: int | None = None


def groups_of_rows(
    rows: Sequence[Mapping[str, Any]],
    num_generations: int,
    items: Sequence[Item] = (),
) -> list[Group]:
    """Return the whole groups among rows, in their order; a row outside a whole group is left out.

    Args:
        rows: What a run keeps of its completions: ``completion``; ``prompt`` (or ``question``);
            ``step`` and ``advantage``, if known; and one ``<name>_reward`` per reward.
        num_generations: G; a group is that many rows in succession with one question.
        items: Where to look for the question's gloss and gold answer.

    Raises:
        InputError: No column ends in ``_reward``.
    """
    if rows and not _reward_names(rows[0]):
        raise InputError(
            f"completions without rewards: no column ends in {ENDING}, there are "
            f"{', '.join(rows[0])}; give a table of a run's completions/"
        )

    by_question = {item.question: item for item in items}
    groups = []
    place = 0
    while place + num_generations <= len(rows):
        members = rows[place : place + num_generations]
        if not _are_one_group(members):
            place += 1
            continue

        question = _question_of(members[0])
        completions = tuple(_scored(row) for row in members)
        step = _number(members[0].get("step"))
        item = by_question.get(question)
        groups.append(Group(question, completions, item, None if step is None else int(step)))
        place += num_generations

    return groups


def groups_of_table(
    table: pd.DataFrame,
    num_generations: int,
    items: Sequence[Item] = (),
) -> list[Group]:
    """Return the groups of a table that TRL wrote to ``completions/``; see groups_of_rows."""
    return groups_of_rows(_rows_of_table(table), num_generations, items)


def _rows_of_table(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def groups_of_run(run: RunFolder) -> list[Group]:
    """Return the whole groups that a run keeps of its first, middle and last logged step.

    Args:
        run: A run folder, or a recorded run, which has ``completions.json``. The course's recorded
            runs keep single completions of many questions: they have no whole group.

    Raises:
        InputError: The folder has no ``settings.json``.
    """
    settings = run.settings
    rows = _rows_of_run(run)
    if not rows:
        return []

    train_path = resolve_path(settings["train_data_path"])  # has the glosses
    items = load_items(train_path, need_answer=False) if train_path.is_file() else []
    return groups_of_rows(rows, int(settings["num_generations"]), items)


def _rows_of_run(run: RunFolder) -> list[dict[str, Any]]:
    """Return the completions of the first, middle and last logged step."""
    files = sorted((run.path / COMPLETIONS_FOLDER).glob("*.parquet"))
    recorded = run.path / RECORDED_COMPLETIONS
    if not files:
        return read_json(recorded) if recorded.is_file() else []

    import pandas as pd

    rows: list[dict[str, Any]] = []
    for place in sorted({0, len(files) // 2, len(files) - 1}):
        rows += _rows_of_table(pd.read_parquet(files[place]))
    return rows


def instructive(
    groups: Sequence[Group],
    weights: Weights = "article",
    most: int = GROUPS_IN_NOTEBOOK,
) -> list[Group]:
    """Return some groups: the one whose rewards differ most, one that teaches nothing, others.

    Args:
        groups: The groups to choose from.
        weights: As for :func:`grpo_helpers.rewards.reward_weights`.
        most: How many groups are returned.
    """
    deviations = []
    for group in groups:
        deviations.append(spread_of(weighted_sums(group, weights)).std)

    by_deviation = sorted(range(len(groups)), key=lambda place: -deviations[place])
    silent = [place for place in range(len(groups)) if deviations[place] < EQUAL]
    chosen = dict.fromkeys(by_deviation[:1] + silent[:1] + by_deviation)  # in order, each once
    return [groups[place] for place in list(chosen)[:most]]


def _reward_names(row: Mapping[str, Any]) -> list[str]:
    return [name.removesuffix(ENDING) for name in row if name.endswith(ENDING)]


def _are_one_group(rows: Sequence[Mapping[str, Any]]) -> bool:
    first = rows[0]
    same_step = all(row.get("step") == first.get("step") for row in rows)
    return same_step and all(_question_of(row) == _question_of(first) for row in rows)


def _question_of(row: Mapping[str, Any]) -> str:
    """Return the question of a row: its own, or the last message of its prompt."""
    if "question" in row:
        return str(row["question"])

    prompt = row["prompt"]
    return prompt if isinstance(prompt, str) else str(prompt[-1]["content"])


def _scored(row: Mapping[str, Any]) -> ScoredCompletion:
    written = row["completion"]
    text = written if isinstance(written, str) else completion_text(list(written))
    rewards = {name: _number(row[f"{name}{ENDING}"]) for name in _reward_names(row)}
    return ScoredCompletion(text, rewards, _number(row.get("advantage")))


def _number(value: Any) -> float | None:
    """Return a number of a table; None where there is none."""
    if value is None or math.isnan(value):
        return None
    return float(value)


# -- from rewards to pushes ------------------------------------------------------------------------


@dataclass(frozen=True)
class Start:
    """What the page begins with; a run's own ``TrainSettings`` may take its place.

    Attributes:
        reward_weights: As for :func:`grpo_helpers.rewards.reward_weights`.
        scale_rewards: ``group`` or ``none``.
        loss_type: A key of :data:`DIVISORS`.
        max_completion_length: Tokens; dr_grpo divides by it.
    """

    reward_weights: Weights = "article"
    scale_rewards: str = "group"
    loss_type: str = "dapo"
    max_completion_length: int = 96


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (of a sample, n - 1) of the rewards of a group."""

    mean: float
    std: float


def weighted_sums(group: Group, weights: Weights) -> list[float | None]:
    """Return the reward of each completion; None where no reward judges it.

    Args:
        group: The group.
        weights: As for :func:`grpo_helpers.rewards.reward_weights`.
    """
    named = reward_weights(weights)
    sums: list[float | None] = []

    for completion in group.completions:
        terms = []
        for name, value in completion.rewards.items():
            if value is not None:
                terms.append(named.get(name, 0.0) * value)
        sums.append(sum(terms) if terms else None)

    return sums


def spread_of(sums: Sequence[float | None]) -> Spread:
    """Return mean and standard deviation of the rewards that there are."""
    judged = [value for value in sums if value is not None]
    if len(judged) < 2:
        return Spread(judged[0] if judged else 0.0, 0.0)
    return Spread(fmean(judged), stdev(judged))


def group_advantages(sums: Sequence[float | None], scale_rewards: str = "group") -> list[float]:
    """Return the advantage of each completion, as TRL computes it.

    Args:
        sums: The rewards of one group; None where nothing judges a completion: its advantage is 0.
        scale_rewards: ``group`` divides by the standard deviation + 1e-4, ``none`` does not.

    >>> [round(value, 3) for value in group_advantages([1.0, 0.0])]
    [0.707, -0.707]
    >>> group_advantages([1.0, 0.0], "none")
    [0.5, -0.5]
    """
    spread = spread_of(sums)
    divisor = spread.std + NEVER_BY_ZERO if scale_rewards == "group" else 1.0
    return [0.0 if value is None else (value - spread.mean) / divisor for value in sums]


# What a loss divides by, for a completion of ``own`` tokens in a group with these ``lengths``.
DIVISORS: dict[str, Callable[[Sequence[int], int, int], int]] = {
    "dapo": lambda lengths, own, longest: sum(lengths),
    "grpo": lambda lengths, own, longest: len(lengths) * own,
    "dr_grpo": lambda lengths, own, longest: len(lengths) * longest,
}


def token_pushes(
    advantages: Sequence[float],
    lengths: Sequence[int],
    loss_type: str,
    longest: int,
) -> list[float]:
    """Return the push on each token, one number per completion: its tokens are pushed alike.

    It is minus the derivative of the loss by the token's log-probability, where the ratio is 1.

    Args:
        advantages: One per completion of the group.
        lengths: The tokens of each completion.
        loss_type: A key of :data:`DIVISORS`.
        longest: ``max_completion_length``.

    >>> token_pushes([1.0, -1.0], [4, 6], "dapo", 10)
    [0.1, -0.1]
    """
    divisor = DIVISORS[loss_type]
    pushes = []
    for advantage, own in zip(advantages, lengths, strict=True):
        pushes.append(advantage / divisor(lengths, own, longest))
    return pushes


# -- texts -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tokens:
    """A text in tokens.

    Attributes:
        pieces: The text, cut where tokens begin.
        count: How many tokens it has: more than pieces, if tokens divide a character.
    """

    pieces: tuple[str, ...]
    count: int


Tokenize = Callable[[str], Tokens]


def by_character(text: str) -> Tokens:
    """Return a text in the tokens of the embedded model: one per character."""
    return Tokens(tuple(text), len(text))


def by_tokenizer(tokenizer: PreTrainedTokenizerBase) -> Tokenize:
    """Return a function that cuts a text into the tokens of a model."""

    def tokenize(text: str) -> Tokens:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        starts = {start for start, _ in encoded["offset_mapping"]} | {0}
        borders = [*sorted(starts), len(text)]
        pieces = [text[left:right] for left, right in pairwise(borders)]
        return Tokens(tuple(pieces), len(encoded["input_ids"]))

    return tokenize


@dataclass(frozen=True)
class Part:
    """A stretch of a completion that the page treats alike.

    Attributes:
        text: Its letters; none where another completion has a letter more.
        differs: Whether another completion has something else here.
        shared_by: The places of the completions that are the same up to here, its own included.
    """

    text: str
    differs: bool
    shared_by: tuple[int, ...]


@dataclass
class Differences:
    """Where a text differs from those that it is compared with.

    Attributes:
        letters: Places of letters that another text does not have.
        gaps: Places before which another text has a letter more.
        compared: Whether any other text was alike enough.
    """

    letters: set[int]
    gaps: set[int]
    compared: bool = False


def differences_of(texts: Sequence[str]) -> dict[str, Differences]:
    """Return where each text differs from those that are like it.

    >>> found = differences_of(["며칠 뒤에 봬요", "몇일 뒤에 봬요"])
    >>> sorted(found["며칠 뒤에 봬요"].letters)
    [0, 1]
    """
    distinct = list(dict.fromkeys(texts))
    found = {text: Differences(set(), set()) for text in distinct}
    if len(distinct) == 1:
        found[distinct[0]].compared = True

    for one, other in combinations(distinct, 2):
        blocks = _common_blocks(one, other)
        common = sum(length for _, _, length in blocks)
        if common >= ALIKE * max(len(one), len(other)):
            _mark(found[one], found[other], blocks)

    return found


def group_parts(texts: Sequence[str], tokens: Sequence[Tokens]) -> list[list[Part]]:
    """Return the parts of each text of a group.

    Args:
        texts: The completions.
        tokens: The tokens of each.
    """
    differences = differences_of(texts)
    parts = []

    for text, own in zip(texts, tokens, strict=True):
        agreed = [_letters_in_common(own, other) for other in tokens]
        parts.append(_cut(text, differences[text], agreed))

    return parts


def _common_blocks(one: str, other: str) -> list[tuple[int, int, int]]:
    """Return what two texts have in common: place in one, place in the other, length."""
    start = common_start(one, other)
    rest, other_rest = one[start:], other[start:]
    end = common_start(rest[::-1], other_rest[::-1])
    rest, other_rest = rest[: len(rest) - end], other_rest[: len(other_rest) - end]

    blocks = [(0, 0, start)]
    if max(len(rest), len(other_rest)) <= LONGEST_COMPARED:
        for block in SequenceMatcher(None, rest, other_rest, autojunk=False).get_matching_blocks():
            blocks.append((start + block.a, start + block.b, block.size))
    blocks.append((len(one) - end, len(other) - end, end))
    return blocks


def _mark(one: Differences, other: Differences, blocks: list[tuple[int, int, int]]) -> None:
    """Mark in two texts what lies between their common blocks."""
    one.compared = other.compared = True
    place, other_place = 0, 0

    for start, other_start, length in blocks:
        one.letters.update(range(place, start))
        other.letters.update(range(other_place, other_start))
        if place == start and other_place < other_start:
            one.gaps.add(place)
        if other_place == other_start and place < start:
            other.gaps.add(other_place)
        place, other_place = start + length, other_start + length


def _letters_in_common(one: Tokens, other: Tokens) -> int:
    """Return how many letters the first tokens have that two texts share."""
    shared = one.pieces[: common_start(one.pieces, other.pieces)]
    return sum(map(len, shared))


def _cut(text: str, differences: Differences, agreed: Sequence[int]) -> list[Part]:
    """Return the parts of one text; ``agreed`` has the letters it shares with each completion."""
    parts: list[Part] = []

    for place in range(len(text) + 1):
        shared_by = tuple(other for other, letters in enumerate(agreed) if letters > place)
        if place in differences.gaps:
            parts.append(Part("", True, shared_by))
        if place == len(text):
            break

        differs = place in differences.letters
        last = parts[-1] if parts else None
        if last and last.text and (last.differs, last.shared_by) == (differs, shared_by):
            parts[-1] = Part(last.text + text[place], differs, shared_by)
        else:
            parts.append(Part(text[place], differs, shared_by))

    return parts


# -- the page --------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Inspector:
    """Groups to look into; a notebook shows it as it can.

    Attributes:
        html: The page: part of a document, with its own style and script, and a plain table until
            the script runs.
        text: The plain table.
    """

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def inspect_groups(
    groups: Sequence[Group],
    start: Start | TrainSettings | None = None,
    tokenize: Tokenize = by_character,
) -> Inspector:
    """Return the inspector of some groups.

    Args:
        groups: One or more groups; the page shows one at a time, the first one first.
        start: What the controls begin with: usually the settings of the run.
        tokenize: Cuts a completion into tokens: ``by_tokenizer(tokenizer)`` for any model but the
            embedded one.

    Raises:
        InputError: There is no group, a group has fewer than two completions, or the weights name
            an unknown reward.
    """
    if not groups:
        raise InputError(
            "no whole group to inspect: give groups of a run, as groups_of_table returns them"
        )
    for group in groups:
        if len(group.completions) < 2:
            raise InputError("a group to inspect has fewer than two completions")

    start = start or Start()
    text = "\n\n".join(group_text(group, start) for group in groups)
    return Inspector(_page(groups, start, tokenize), text)


def inspect_run(run: RunFolder, tokenize: Tokenize = by_character) -> Inspector | None:
    """Return the inspector of some groups of a run's first, middle and last logged step.

    Args:
        run: The run folder.
        tokenize: As for :func:`inspect_groups`.

    Returns:
        None if the run keeps no whole group of completions.
    """
    if not (run.path / SETTINGS_FILE).is_file():
        return None

    by_step: dict[int | None, list[Group]] = {}
    for group in groups_of_run(run):
        by_step.setdefault(group.step, []).append(group)
    if not by_step:
        return None

    settings = run.settings
    weights = settings["reward_weights"]
    chosen = []
    for groups in reversed(by_step.values()):  # the last step first
        chosen += instructive(groups, weights, GROUPS_OF_A_STEP)
    if not chosen:
        return None

    start = Start(
        reward_weights=weights,
        scale_rewards=settings["scale_rewards"],
        loss_type=settings["loss_type"],
        max_completion_length=settings["max_completion_length"],
    )
    return inspect_groups(chosen, start, tokenize)


def group_text(group: Group, start: Start | TrainSettings) -> str:
    """Return a group as plain text: question, gloss, and one line per completion."""
    lines = [_sentence(group), f"({_gloss(group) or 'no gloss in this file'})", ""]

    for row in _table_rows(group, start):
        numbers = [f"{name} {value}" for name, value in row.numbers.items()]
        lines.append("  ".join([*numbers, row.text]))

    return "\n".join(lines)


@dataclass(frozen=True)
class _Row:
    """A line of the plain table: its numbers by heading, and the completion."""

    numbers: dict[str, str]
    text: str


def _table_rows(group: Group, start: Start | TrainSettings) -> list[_Row]:
    sums = weighted_sums(group, start.reward_weights)
    advantages = group_advantages(sums, _scale(start))
    rows = []

    for completion, reward, advantage in zip(group.completions, sums, advantages, strict=True):
        numbers = {}
        for name in _names_of([group]):
            numbers[_label(name)] = _shown(completion.rewards.get(name), ".2f")
        numbers["reward"] = _shown(reward, ".3f")
        numbers["advantage"] = _shown(_zero_if_tiny(advantage), "+.2f")
        rows.append(_Row(numbers, completion.text))

    return rows


def _table_html(group: Group, start: Start | TrainSettings) -> str:
    """Return a group as an HTML table without any style: what is there until a script runs."""
    rows = _table_rows(group, start)
    headings = [*rows[0].numbers, "completion"]
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)

    body = []
    for row in rows:
        cells = "".join(f"<td>{number}</td>" for number in row.numbers.values())
        # JupyterLab aligns cells to the right.
        body.append(f'{cells}<td><div align="left">{escape(row.text)}</div></td>')

    sentence = escape(_sentence(group))
    gloss = escape(_gloss(group) or "no gloss in this file")
    lines = "".join(f"<tr>{cells}</tr>" for cells in body)
    return f"<p>{sentence}<br><i>{gloss}</i></p><table><tr>{head}</tr>{lines}</table>"


def _page(groups: Sequence[Group], start: Start | TrainSettings, tokenize: Tokenize) -> str:
    """Return the filled page."""
    data = page_data(groups, start, tokenize)
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    text = text.replace("<", "\\u003c")  # no tag can end or begin in the data

    fill = {
        # Two inspectors of one document must not start each other.
        "INSPECTOR_ID": hashlib.sha256(replace_halves(text).encode()).hexdigest()[:12],
        "INSPECTOR_DATA": text,
        "INSPECTOR_TABLES": "".join(_table_html(group, start) for group in groups),
    }
    page = (Path(__file__).parent / PAGE_FILE).read_text(encoding="utf-8")
    filled = re.sub("|".join(fill), lambda found: fill[found[0]], page)
    return replace_halves(filled)


def page_data(
    groups: Sequence[Group],
    start: Start | TrainSettings,
    tokenize: Tokenize = by_character,
) -> dict[str, Any]:
    """Return what the page's script is given, ready for JSON."""
    names = _names_of(groups)
    rewards = []
    for name in names:
        rewards.append({"name": name, "label": _label(name), "color": _color(name)})

    presets = {title: _weights_of(names, weights) for title, weights in PRESETS.items()}
    own = _weights_of(names, start.reward_weights)
    if own not in presets.values():
        presets = {"this run": own} | presets

    longest = start.max_completion_length
    return {
        "rewards": rewards,
        "presets": presets,
        "start": {"weights": own, "scale": _scale(start), "loss": _loss(start)},
        "asRun": {"scale": start.scale_rewards, "loss": start.loss_type},
        "longest": longest,
        "byCharacter": tokenize is by_character,
        "groups": [_group_data(group, names, longest, tokenize) for group in groups],
    }


def _group_data(
    group: Group,
    names: Sequence[str],
    longest: int,
    tokenize: Tokenize,
) -> dict[str, Any]:
    """Return what the page is given of one group."""
    texts = [completion.text for completion in group.completions]
    tokens = [tokenize(text) for text in texts]
    differences = differences_of(texts)
    completions = []

    for place, parts in enumerate(group_parts(texts, tokens)):
        completion = group.completions[place]
        count = tokens[place].count
        is_finished = count < longest  # else it was cut off, and has no end token
        same = [other for other, text in enumerate(texts) if text == texts[place]]
        completions.append(
            {
                "rewards": {name: completion.rewards.get(name) for name in names},
                "logged": completion.logged,
                "tokens": count + is_finished,
                "compared": differences[texts[place]].compared,
                "parts": [[part.text, part.differs, part.shared_by] for part in parts],
                "end": same if is_finished else None,
            }
        )

    item = group.item
    return {
        "step": group.step,
        "sentence": _sentence(group),
        "gloss": _gloss(group),
        "task": _task(group),
        "gold": item.answer if item else None,
        "completions": completions,
    }


def _sentence(group: Group) -> str:
    """Return what a question is about, without the words of the contest around it."""
    return "\n".join(question_sentences(group.question))


def _gloss(group: Group) -> str:
    """Return the English of a question, and of its word; empty if its file has none."""
    if group.item is None:
        return ""

    extra = group.item.extra
    gloss = str(extra.get("gloss") or "")
    if extra.get("word") and extra.get("word_gloss"):
        gloss += f" ({extra['word']}: {extra['word_gloss']})"
    return gloss.strip()


def _task(group: Group) -> str:
    if group.item is None:
        return ""
    if group.item.question_type == SELECTION:
        return "choose the right form"
    return "correct the one error"


def _names_of(groups: Sequence[Group]) -> list[str]:
    """Return the rewards that the groups have: the registered ones first, in their order."""
    names: dict[str, None] = {}
    for group in groups:
        for completion in group.completions:
            names.update(dict.fromkeys(completion.rewards))

    known = [name for name in registered() if name in names]
    return known + [name for name in names if name not in known]


def _weights_of(names: Sequence[str], weights: Weights) -> dict[str, float]:
    named = reward_weights(weights)
    return {name: named.get(name, 0.0) for name in names}


def _label(name: str) -> str:
    reward = registered().get(name)
    return reward.label if reward else name


def _color(name: str) -> str:
    reward = registered().get(name)
    return reward.color if reward else OTHER_COLOR


def _scale(start: Start | TrainSettings) -> str:
    """Return how one group can be scaled: the deviation of a batch is not known from it."""
    return "none" if start.scale_rewards == "none" else "group"


def _loss(start: Start | TrainSettings) -> str:
    return start.loss_type if start.loss_type in DIVISORS else "dapo"


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _zero_if_tiny(value: float) -> float:
    """Return 0 for what rounding left of it: no -0.00 in a table."""
    return 0.0 if abs(value) < 0.005 else value
