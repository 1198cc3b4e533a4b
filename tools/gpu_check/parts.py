"""The parts of the check, in the order in which they run: what tells most comes first.

In: a device, and the profiles in ``params/``, as they are now. Out: :class:`Part` objects. On a CPU
the same parts run with the same code and the same batches on a tiny model, as a rehearsal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from grpo_helpers.files import project_root, read_yaml
from grpo_helpers.settings import TrainSettings
from tools.benchmarks import memory_probe
from tools.benchmarks.memory_probe import FIT, Setting
from tools.gpu_check import measurements
from tools.gpu_check.results import Report

LIMIT = 450.0  # seconds of a part at most; with what it takes to end one, 8 minutes
PROMPT_TOKENS = 1024  # of the profiles: grpo_helpers.memory assumes as many
BATCHES = (8, 32)  # questions that are answered at once
MACHINE = "machine"
DONE = "done"

# The profiles whose steps are measured, and the GiB of the card that each is meant for. One that
# ``params`` does not have is left out.
PROFILES = {"gpu_24gb": 24.0, "gpu_24gb_mini": 24.0, "gpu_80gb": 80.0}
ANSWERING = "gpu_24gb"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the check, which runs in a process of its own.

    Attributes:
        name: Its name, and that of its files.
        about: What it measures.
        setting: What it measures, in every detail.
        measure: Does it, and puts what it finds into a report.
        limit: Seconds after which it is ended.
        success: Its outcome if nothing goes wrong.
        cap_gib: How much of the card's memory it may use, in GiB; 0 for all of it.
        probe: The row of the table of memory that it measures, if it measures one.
    """

    name: str
    about: str
    setting: str
    measure: Callable[[Report], None]
    limit: float = LIMIT
    success: str = FIT
    cap_gib: float = 0.0
    probe: Setting | None = None


def parts_of(device: str) -> list[Part]:
    """Return the parts of a check on ``cpu`` or ``cuda``."""
    machine = Part(
        name=MACHINE,
        about="the card, versions, and whether everything can be compiled",
        setting=device,
        measure=measurements.look_at_machine,
        limit=min(LIMIT, 240.0),
        success=DONE,
    )
    embedded = Part(
        name="embedded",
        about="the default run of the embedded model: seconds and learning curve",
        setting="the defaults" if device == "cuda" else "the profile smoke",
        measure=measurements.train_embedded,
        success=DONE,
    )

    first, *others = [_profile_part(name, device) for name in PROFILES if _is_there(name)]
    return [machine, first, embedded, _answering_part(device), *others, *_probe_parts(device)]


def _is_there(profile: str) -> bool:
    return _file_of(profile).is_file()


def _file_of(profile: str) -> Path:
    return project_root() / "params" / profile / "04_train.yaml"


# -- settings ---------------------------------------------------------------------------------


def setting_of_profile(profile: str) -> Setting:
    """Return what a profile of ``params`` trains, with prompts of :data:`PROMPT_TOKENS`."""
    settings = TrainSettings.from_namespace(read_yaml(_file_of(profile)))
    plan = settings.batch_plan

    return Setting(
        model=settings.model_name.rpartition("/")[2],
        B=plan.B,
        S=plan.S,
        A=plan.A,
        G=plan.G,
        prompt_tokens=PROMPT_TOKENS,
        completion_tokens=settings.max_completion_length,
        lora_rank=settings.lora_r,
        gradient_checkpointing=settings.gradient_checkpointing,
        quant=settings.quant_type if settings.use_quant else None,
        shared=settings.shared_prefix,
        dtype=settings.dtype,
    )


def rehearsed(setting: Setting) -> Setting:
    """Return a setting of the same batch, precision and quantisation that a CPU does in seconds."""
    return replace(
        setting,
        model="cpu-tiny",
        prompt_tokens=max(1, setting.prompt_tokens // 32),
        completion_tokens=max(1, setting.completion_tokens // 64),
        lora_rank=max(1, setting.lora_rank // 16),
    )


def _on(device: str, setting: Setting) -> Setting:
    return setting if device == "cuda" else rehearsed(setting)


def in_words(setting: Setting) -> str:
    """Return a setting in one line."""
    return " ".join(f"{name}={value}" for name, value in asdict(setting).items())


# -- parts that measure one -------------------------------------------------------------------


def _profile_part(profile: str, device: str) -> Part:
    """Return the part that trains as a profile does, within the memory of its card."""
    setting = _on(device, setting_of_profile(profile))
    cap = PROFILES[profile]

    return Part(
        name=profile,
        about=f"steps of the profile {profile} on random weights, {cap:g} GiB at most",
        setting=f"{in_words(setting)} cap_gib={cap:g}",
        measure=partial(measurements.train_shape, setting),
        cap_gib=cap,
    )


def _answering_part(device: str) -> Part:
    """Return the part that answers questions with a model in training."""
    setting = _on(device, setting_of_profile(ANSWERING))
    cap = PROFILES[ANSWERING]

    return Part(
        name="answering",
        about=f"the model of {ANSWERING} answers in place, {_listed(BATCHES)} questions at once",
        setting=f"{in_words(setting)} cap_gib={cap:g} batches={_listed(BATCHES)}",
        measure=partial(measurements.answer_in_place, setting, BATCHES),
        cap_gib=cap,
    )


def _listed(numbers: tuple[int, ...]) -> str:
    return " and ".join(map(str, numbers))


def _probe_parts(device: str) -> list[Part]:
    """Return one part for each setting of ``make gpu-probe``."""
    parts = []

    for number, setting in enumerate(memory_probe.CUDA, start=1):
        probed = _on(device, setting)
        part = Part(
            name=f"probe-{number:02}",
            about=f"memory of a step, setting {number} of make gpu-probe: {_short(setting)}",
            setting=in_words(probed),
            measure=partial(measurements.train_shape, probed),
            probe=probed,
        )
        parts.append(part)
    return parts


def _short(setting: Setting) -> str:
    """Return what tells a setting from its neighbours."""
    batch = f"B={setting.B} S={setting.S} A={setting.A}"
    tokens = f"{setting.prompt_tokens}+{setting.completion_tokens} tokens"
    return f"{setting.model} {batch} {tokens} r={setting.lora_rank}"
