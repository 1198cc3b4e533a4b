"""What the entries of a league answer, computed where no student's file is loaded.

In: the run folders of the entries, the settings that all of them share, a contest file. Out: the
answers of each, and those of the model before training.

A student's code could write whatever it liked into its run folder, so nothing there is believed:
neither the answers, nor ``settings.json``, nor the configuration of the adapter, which could name
another kind of adapter or another place. Only the weights are taken, from a safetensors file, which
holds numbers and no code; everything else comes from the league's own settings.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from grpo_helpers.files import InputError, first_line, show_path
from grpo_helpers.inference import AnswerOptions, answer_file
from grpo_helpers.kept_model import KeptModel
from grpo_helpers.model_checks import ADAPTER_WEIGHTS
from grpo_helpers.questions import Item
from grpo_helpers.run_folder import RunFolder
from grpo_helpers.scoring import read_answers
from grpo_helpers.settings import TrainSettings

UNTRAINED = "(the model before training)"


@dataclass(frozen=True)
class LeagueAnswers:
    """What was answered.

    Attributes:
        texts: The answers of each entry, by name, and those of :data:`UNTRAINED`, which come first.
        faults: Why an entry could not answer, in one line, by name.
    """

    texts: dict[str, list[str]]
    faults: dict[str, str]


def last_checkpoint(settings: TrainSettings) -> str:
    """Return the name of the checkpoint that is ranked: the one after the last step."""
    return f"step_{settings.max_steps}"


def copy_adapter(run: RunFolder, settings: TrainSettings, folder: Path) -> Path:
    """Copy the weights of an entry's last checkpoint beside a configuration of the league's own.

    Args:
        run: The run folder of the entry.
        settings: What all entries share.
        folder: A new folder; it is made.

    Returns:
        The folder.

    Raises:
        InputError: There are no weights.
    """
    from grpo_helpers.models import lora_config

    weights = run.adapter_folder(last_checkpoint(settings)) / ADAPTER_WEIGHTS
    if not weights.is_file():
        raise InputError(f"has no {show_path(weights)}")

    config = lora_config(settings)
    config.base_model_name_or_path = settings.model_name
    folder.mkdir(parents=True)
    config.save_pretrained(str(folder))
    shutil.copyfile(weights, folder / ADAPTER_WEIGHTS)
    return folder


def answer_questions(
    runs: Mapping[str, RunFolder],
    settings: TrainSettings,
    questions: str,
    items: Sequence[Item],
) -> LeagueAnswers:
    """Return what the model answers before training, and with the adapter of each entry.

    An earlier answer is never used again: whoever trains could have written it.

    Args:
        runs: The run folder of each entry, by name.
        settings: What all entries share.
        questions: The contest file.
        items: What is in it.
    """
    faults: dict[str, str] = {}

    with tempfile.TemporaryDirectory() as made, KeptModel() as kept:

        def ask(number: int, adapter: Path | None) -> list[str]:
            parameters, template = settings.as_dict(), settings.chat_template_path
            options = AnswerOptions.of_settings(parameters, adapter, template)
            file = Path(made) / f"{number}.json"
            return read_answers(answer_file(questions, file, options, kept=kept), items)

        texts = {UNTRAINED: ask(0, None)}
        for number, (name, run) in enumerate(runs.items(), start=1):
            print(f"{name}: answering ({number} of {len(runs)})", flush=True)
            try:
                adapter = copy_adapter(run, settings, Path(made) / str(number))
                texts[name] = ask(number, adapter)
            except (InputError, OSError) as error:
                faults[name] = first_line(error)

    return LeagueAnswers(texts, faults)
