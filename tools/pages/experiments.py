"""Write ``docs/experiments.md`` from the recorded runs: ``python -m tools.pages.experiments``.

Every figure of the page is computed here from ``data/reference_runs``; a test holds the page to what this writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from grpo_helpers.files import project_root, read_json
from grpo_helpers.run_folder import read_log
from grpo_helpers.scoring import Scores
from grpo_helpers.selection import compare
from grpo_helpers.statistics import paired_bootstrap
from tools.experiments import gemma as real_model
from tools.experiments.record import CONTROL_SEEDS, KEPT, RUNS, SEEDS, dev, log_rows, recorded

PAGE = project_root() / "docs" / "experiments.md"
ARMS = {
    "GRPO, the four rewards": "seed",
    "GRPO, the format reward only": "format_only",
    "supervised on the gold answers": "gold",
    "supervised on the careless teacher's lessons": "noisy",
}
SPLITS = {"test": "test", "unseen_words": "unseen words", "unseen_norms": "unseen norms"}


def test_means(name: str) -> pd.DataFrame:
    """Return the means of a recorded run's chosen checkpoint (the base, where nothing was better) on the test sets."""
    items = pd.read_csv(KEPT / name / "test_item_scores.csv")
    chosen = items[items["checkpoint"] == items["checkpoint"].iloc[-1]]  # written after the base
    return chosen.groupby("split")[["em", "choice"]].mean()


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table of ``rows``, all with the same keys."""
    lines = [" | ".join(rows[0]), " | ".join("---" for _ in rows[0])]
    lines += [" | ".join(str(value) for value in row.values()) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Return mean and range.

    >>> spread([0.5, 0.75])
    '0.625 (0.500 to 0.750)'
    """
    low, high = min(values), max(values)
    return f"{np.mean(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


# -- the parts of the page -----------------------------------------------------------------------------------------


def run_rows() -> str:
    """Return the table of all runs: when, what it cost, what it brought on dev."""
    rows = []
    for name in [*recorded(), *real_runs()]:
        about, log, means = read_json(KEPT / name / "about.json"), log_rows(KEPT / name), dev(name)
        peaks = [row["peak_memory_gib"] for row in log if "peak_memory_gib" in row]
        gained = 100 * (means["em"].max() - means["em"].iloc[0])
        minutes = means["train_seconds"].iloc[-1] / 60
        rows.append({
            "run": f"`{name}`",
            "date": about["date"],
            "minutes in all": about["minutes"],
            "of them training": f"{minutes:.1f}",
            "thousand tokens": f"{max(row.get('num_tokens', 0) for row in log) / 1000:.0f}",
            "peak GiB": f"{max(peaks):.1f}" if peaks else "not logged",
            "dev exact match": f"{means['em'].iloc[0]:.3f} -> {means['em'].max():.3f} ({means['em'].idxmax()})",
            "training minutes a point": f"{minutes / gained:.2f}" if gained > 0 else "none gained",
        })  # fmt: skip
    return markdown(rows)


def control_rows() -> str:
    """Return the table of the default run and its controls, three seeds each."""
    rows = []
    for arm, start in ARMS.items():
        names = [f"{start}_{seed}" for seed in CONTROL_SEEDS]
        tests = [test_means(name) for name in names]
        rows.append({
            "same base, same minutes": arm,
            "dev exact match, best": spread([dev(name)["em"].max() for name in names]),
            "dev, last": spread([dev(name)["em"].iloc[-1] for name in names]),
            "test": spread([means.loc["test", "em"] for means in tests]),
            **{f"choice, {told}": spread([m.loc[split, "choice"] for m in tests])
               for split, told in SPLITS.items() if split != "test"},
        })  # fmt: skip
    return markdown(rows)


def control_figures() -> dict[str, str]:
    """Return what the text on the controls quotes: exact match on dev, and the seconds of training behind it."""
    gold, grpo = ([dev(f"{arm}_{seed}") for seed in CONTROL_SEEDS] for arm in ("gold", "seed"))
    best = [table.loc[table["em"].idxmax()] for table in grpo]
    logs = [read_log(KEPT / f"seed_{seed}" / "log.jsonl") for seed in SEEDS]
    return {
        "gold_first": spread([table["em"].iloc[1] for table in gold]),
        "gold_first_seconds": f"{np.mean([table['train_seconds'].iloc[1] for table in gold]):.0f}",
        "grpo_best": spread([row["em"] for row in best]),
        "grpo_best_seconds": f"{np.mean([row['train_seconds'] for row in best]):.0f}",
        "no_signal": f"{100 * np.mean([row['frac_reward_zero_std'] for rows in logs for row in rows[-5:]]):.0f}",
        "control_minutes": f"{np.mean([table['train_seconds'].iloc[-1] for table in grpo]) / 60:.1f}",
    }


def sweep_rows() -> str:
    """Return the table of the runs that change one or two parameters of the default one."""
    rows = []
    for name in recorded():
        if name == "seed_0" or name.startswith(("temperature", "weights", "generations")):
            means = dev(name)["em"]
            change = ", ".join(f"{key} {value}" for key, value in RUNS[name].changed.items() if key not in
                               ("seed", "max_steps", "save_strategy", "save_steps"))  # fmt: skip
            rows.append({
                "changed": change or "nothing (temperature 0.7, rate 0.001, G 8, weights article)",
                "base": f"{means.iloc[0]:.3f}",
                "best": f"{means.max():.3f}",
                "last": f"{means.iloc[-1]:.3f}",
            })  # fmt: skip
    return markdown(rows)


def seed_figures() -> dict[str, float | str]:
    """Return, in points of exact match on dev, how much epochs, seeds and neither make the recorded seeds differ."""
    later = 100 * np.array(
        [dev(f"seed_{seed}")["em"].to_numpy()[1:] for seed in SEEDS]
    )  # (seeds, checkpoints)
    by_seed, by_epoch = later.mean(axis=1, keepdims=True), later.mean(axis=0, keepdims=True)
    luck = later - by_seed - by_epoch + later.mean()
    ordered, right = np.sort(later, axis=1), later[:, -1].mean() / 100
    count = pd.read_csv(KEPT / "seed_0" / "item_scores.csv")["id"].nunique()
    return {
        "by_epoch": by_epoch.std(ddof=1),
        "by_seed": by_seed.std(ddof=1),
        "luck": np.sqrt((luck**2).sum() / ((later.shape[0] - 1) * (later.shape[1] - 1))),
        "lead": (ordered[:, -1] - ordered[:, -2]).mean(),
        "of_questions": 100 * np.sqrt(right * (1 - right) / count),
        "winners": ", ".join(dev(f"seed_{seed}")["em"].idxmax() for seed in SEEDS),
    }


def real_runs() -> list[str]:
    """Return the names of the kept runs of the real pretrained model."""
    return [name for name in real_model.RUNS if (KEPT / name / "about.json").is_file()]


def by_checkpoint(items: pd.DataFrame) -> Scores:
    """Return {checkpoint: {"em": array}} of a table of item scores."""
    return {
        checkpoint: {"em": part["em"].to_numpy()}
        for checkpoint, part in items.groupby("checkpoint", sort=False)
    }


def rate(name: str) -> float:
    """Return the learning rate of a kept run of the real model."""
    return read_json(KEPT / name / "about.json")["changed"]["learning_rate"]


def interval(values: np.ndarray) -> str:
    """Return a mean with its 95 % interval over the questions."""
    low, high = paired_bootstrap(values, np.zeros(len(values)))
    return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"


def real_figures() -> dict[str, str]:
    """Return what the text on the real model quotes of its settings and its base."""
    name = real_runs()[0]
    warm = read_json(KEPT / name / "about.json")["warm_start"]
    run = read_json(KEPT / name / "settings.json")["parameters"]
    tested = pd.read_csv(KEPT / name / "test_item_scores.csv").query("split == 'test'")
    chosen = tested["checkpoint"].iloc[-1]  # written after base and warm start
    points = 100 * compare(by_checkpoint(tested), chosen, "warm", "em").difference
    means = dev(name)
    minutes = (means.loc[chosen, "train_seconds"] - means.loc["warm", "train_seconds"]) / 60
    return {
        "real_questions": str(pd.read_csv(KEPT / name / "item_scores.csv")["id"].nunique()),
        "real_base_format": f"{means.loc['base', 'format']:.3f}",
        "real_warm_points": f"{100 * means.loc['warm', 'em']:.1f}",
        "real_points": f"{points:.1f}",
        "real_minutes": f"{minutes:.0f}",
        "real_cost": f"{minutes / points:.1f}",
        **{f"warm_{key}": str(warm[key]) for key in ("epochs", "items", "minutes")},
        "real_steps": str(run["max_steps"]),
        "real_completions": str(
            run["per_device_train_batch_size"] * run["gradient_accumulation_steps"]
        ),
        "real_group": str(run["num_generations"]),
        "real_temperature": str(run["temperature"]),
    }


def real_dev_rows() -> str:
    """Return the table of the real model's checkpoints on dev."""
    rows = []
    for number, name in enumerate(real_runs()):
        means, items = dev(name), pd.read_csv(KEPT / name / "item_scores.csv")
        kinds = items.pivot_table(index="checkpoint", columns="question_type", values="em")
        for checkpoint, found in by_checkpoint(items).items():
            if (
                checkpoint.startswith("step") or number == 0
            ):  # base and warm start are the same in all runs
                row = means.loc[checkpoint]
                rows.append({
                    "learning rate": rate(name) if checkpoint.startswith("step") else "-",
                    "checkpoint": checkpoint,
                    "dev exact match": interval(found["em"]),
                    "선택형": f"{kinds.loc[checkpoint, '선택형']:.3f}",
                    "교정형": f"{kinds.loc[checkpoint, '교정형']:.3f}",
                    "choice": f"{row['choice']:.3f}",
                    "format": f"{row['format']:.3f}",
                    "ROUGE-1": f"{row['rouge1']:.3f}",
                    "training minutes": f"{row['train_seconds'] / 60:.1f}",
                })  # fmt: skip
    return markdown(rows)


def real_test_rows() -> str:
    """Return the table of base, warm start and each run's chosen checkpoint on the test sets."""
    rows = []
    for name in real_runs():
        items = pd.read_csv(KEPT / name / "test_item_scores.csv")
        chosen = items["checkpoint"].iloc[-1]  # written after base and warm start
        for split, told in SPLITS.items():
            found = by_checkpoint(items[items["split"] == split])
            gain = compare(found, chosen, "warm", "em")
            added = [f"{100 * value:+.1f}" for value in (gain.difference, gain.low, gain.high)]
            rows.append({
                "learning rate": rate(name),
                "split": told,
                "questions": gain.items,
                "base": interval(found["base"]["em"]),
                "warm start": interval(found["warm"]["em"]),
                "chosen": f"{interval(found[chosen]['em'])} ({chosen})",
                "GRPO added, points": f"{added[0]} [{added[1]}, {added[2]}]",
            })  # fmt: skip
    return markdown(rows)


def bench_rows() -> str:
    """Return the table of ``make bench``."""
    rows = []
    for part in read_json(KEPT / "bench.json").values():
        rows += [
            {"target": row["target"], "figure": row["figure"], "reached": "yes" if row["reached"] else "no",
             "date": part["date"]} for row in part["targets"]
        ]  # fmt: skip
    return markdown(rows)


def repeat_rows() -> str:
    """Return the table of the runs that were made twice."""
    rows = []
    for name, told in read_json(KEPT / "repeats.json").items():
        rows.append({
            "run": f"`{name}`",
            "first made": told["first"],
            "again": told["again"],
            "scored answers, dev": told["answers"],
            "scored otherwise": told["differ"],
        })  # fmt: skip
    return markdown(rows)


def page() -> str:
    """Return the whole page."""
    bench, seeds = read_json(KEPT / "bench.json")["training"], seed_figures() | control_figures()
    return PAGE_TEXT.format(
        runs=run_rows(), controls=control_rows(), sweep=sweep_rows(), bench=bench_rows(),
        repeats=repeat_rows(), real_dev=real_dev_rows(), real_test=real_test_rows(), **real_figures(),
        **bench, **{name: f"{value:.1f}" if isinstance(value, float) else value for name, value in seeds.items()},
    )  # fmt: skip


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


PAGE_TEXT = """\
# Experiments

Runs that took long, kept as data in `data/reference_runs/<run>/` (settings with versions and hashes, log, scores of
every item, some completions; no weights), so that a reader can redraw them: notebook 05 does. Each is made again by
`python -m tools.experiments.record <run>`, on 2 CPU cores. This page is written by `python -m tools.pages.experiments` from
those files, every figure in it.

## What did the reward add?

The default run and three controls, three seeds each: the same base, LoRA and learning rate, and as many seconds of
training steps as the default run took under the same seed ({control_minutes} minutes on average). Mean, in brackets the
lowest and the highest seed.

{controls}

Supervised training on the gold answers wins in time and loses nothing: after as many prompts as GRPO was given in
all, and {gold_first_seconds} s, it has {gold_first} on dev; GRPO's best checkpoints have {grpo_best} after
{grpo_best_seconds} s. At the end of the minutes the two differ by no more than a checkpoint's luck (next section).
Where gold answers can be written, write them and train on them. What the reward still buys: it asks for a judge,
not for a text to imitate, so it also works where an answer can be checked and nobody has written it down, and it
corrects the model's own sentences instead of putting others in their place. Here both were made of the same gold
answers, so that advantage cannot show.

It is the content of the reward that teaches, not the sampling: paid for the format alone, or shown more of the careless
lessons, the model stays at a coin's toss. And no arm learned a *norm*: on unseen words and unseen norms none gains.

GRPO would not have helped where the base never samples a right answer (no group has a spread), where it nearly always
does (in the last five steps of the default run {no_signal} % of the groups have none), where the reward can be gamed
(`quoted` below), or where writing gold answers is cheaper than judging samples, as here.

## How much of a checkpoint's lead is noise?

The default run under five seeds. Exact match on dev varies by {by_epoch} points (standard deviation) between epochs,
{by_seed} between seeds, and {luck} for neither reason: the luck of a checkpoint. The best checkpoint of a run leads the
second by {lead} points on average, and which one it is depends on the seed ({winners}).
The questions alone leave a standard error of {of_questions} points. A lead of a point or two is noise; the gain over
the base is not.

## Other settings

{sweep}

## A real pretrained model

Gemma 3 270M, the base model (4-bit weights from the package registry, unpacked to float32, its vocabulary cut to what
Korean needs; `tools/experiments/gemma.py`), on the data of the embedded model; {real_questions} questions of dev. It has read
Korean, but never wrote an answer of the asked form (format {real_base_format}), so GRPO would have nothing to tell
apart. Hence the *warm start*: a LoRA, {warm_epochs} times over the {warm_items} gold answers of train in {warm_minutes}
minutes, merged into the model. From there notebook 04: {real_steps} steps of {real_completions} completions in groups
of {real_group}, temperature {real_temperature}, no KL term.

{real_dev}

Chosen on dev by the Final Mean, as in notebook 05, then answered on the test sets once (intervals of 95 % over the
questions):

{real_test}

After the warm start the model keeps the form and chooses better than a coin, from what it read before; it hardly
corrects, for there no brace says where the error is. GRPO at the lower rate adds points on test whose interval excludes
zero. On dev its gain is too small to be told from nothing, and on unseen words and norms there is none, as with the
embedded model. At three times the rate ROUGE-1 and the reward fall, and exact match is no better: what the model
brought is overwritten faster than new is learned. The step that was chosen there is an early one: the Final Mean counts
ROUGE-1 too. In minutes, the gold answers were the better bargain again: the warm start's {warm_minutes} brought
{real_warm_points} points on dev, GRPO's {real_minutes} up to the chosen step {real_points} on
test, {real_cost} minutes a point. Not tried: more steps, other temperatures, a KL term, more sentences for each word;
each try takes most of an hour on two cores.

## All runs

Minutes are those of the machine at hand: `generations_2` was disturbed by another process for ten of its minutes, and
`generations_4`, `weights_code` and the two runs of a temperature at the rate 0.001 had a slower machine than the rest.
The minutes of `gemma_270m` and its like are those of notebook 04; the warm start's are in the training minutes, and
most of the points are the warm start's (the section above).

{runs}

## Do they repeat?

`python -m tools.experiments.record --again <run>` makes a kept run once more and compares the scores of every dev answer of
every checkpoint. These were repeated on a fresh clone, on another machine of the same kind (2 threads, the same
packages):

{repeats}

The controls that are supervised hold a tolerance only: they stop by the clock, so their last checkpoints fall some
steps sooner or later on another machine; take the range over their seeds for it.

## What our own code costs

`make bench`, 2 cores. Answering {questions} dev questions in place took {in_place_seconds} s (peak {in_place_mib} MiB
of the process), the article's way, a second base loaded and one question at a time, {reload_seconds} s
({reload_mib} MiB; the second copy of so small a model weighs next to nothing, the larger batch weighs more). A training
step took {step_seconds_ours} s with our callbacks and checks, {step_seconds_bare} s in a bare TRL script (medians, in
turns).

{bench}

## On a GPU

None so far: no GPU was at hand. Not run, therefore: the 4-bit LoRA step of the 11.5B shape on a card (`make gpu-probe`
does it), the profiles `gpu_24gb`, `gpu_24gb_mini`, `multi_gpu` and `small_real` as they are, FSDP
(`params/accelerate/fsdp.yaml`), vLLM. What was run instead, on CPUs: the same code in 4 bits with LoRA on the embedded
model, two processes with gloo, and the memory formula against a trace and against real steps (notebook 03).
"""


if __name__ == "__main__":
    main()
