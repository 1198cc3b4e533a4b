"""The parameters of the ten notebooks, checked before anything costly starts.

Each notebook's parameters cell is its interface; the cell after it hands the namespace to one of
these classes. An unknown name stops the run, and the error names the closest match (papermill
itself only warns); values are converted to their declared types, files are looked for, and TRL's
batch rule is checked. Names are TRL's.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from grpo_helpers.architecture import DTYPE_BYTES
from grpo_helpers.batch import BatchPlan
from grpo_helpers.chat_template import (
    dated,
    parse_date,
    read_chat_template,
    recorded_date,
    template_kwargs,
    today,
    with_thinking,
)
from grpo_helpers.data import load_items
from grpo_helpers.files import InputError, find_path, nfc, project_root, read_json, resolve_path
from grpo_helpers.metrics import AGGREGATES, ENCODER, ENCODER_LAYERS
from grpo_helpers.parameters import SUPERSEDED, convert, parameter_names, present_names
from grpo_helpers.reward_module import load_reward_module, recorded_reward_module
from grpo_helpers.rewards import reward_weights
from grpo_helpers.splits import BASE_ANSWERS, DEV, TEST_SPLITS, split_paths

# Paths that may be empty: label_path then means the run's own dev file, chat_template_path the
# model's own template, and a split is left out.
MAY_BE_EMPTY = (
    "label_path",
    "test_unseen_words_path",
    "test_nonce_path",
    "test_unseen_norms_path",
    "chat_template_path",
)
CHOICES = {
    "quant_type": ("4bit", "8bit"),
    "dtype": tuple(DTYPE_BYTES),
    "save_strategy": ("no", "steps", "epoch"),
    "eval_strategy": ("no", "steps", "epoch"),
    # TRL looks at these two only when it computes the first advantages and the first loss.
    "loss_type": ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"),
    "scale_rewards": ("group", "batch", "none"),
    "resume": ("no", "auto"),
    "device": ("auto", "cuda"),
    "aggregate": tuple(AGGREGATES),
    "rule": ("highest", "earliest_tied"),
}
ONE_OR_MORE = (
    "lora_r",
    "max_completion_length",
    "logging_steps",
    "save_steps",
    "inference_batch_size",
    "num_processes",
)
ZERO_OR_MORE = (
    "learning_rate",
    "num_few_shot",
    "max_prompt_tokens",
    "bertscore_layers",
    "checkpoint_steps",
    "num_threads",
)
# Fields of GRPOConfig that let something else than the model itself sample completions.
ENGINES = ("use_vllm", "use_transformers_continuous_batching")
# What transformers can report to, by the names that it has for them.
TRACKERS = (
    "azure_ml",
    "clearml",
    "codecarbon",
    "comet_ml",
    "dagshub",
    "dvclive",
    "flyte",
    "kubeflow",
    "mlflow",
    "neptune",
    "swanlab",
    "tensorboard",
    "trackio",
    "wandb",
)
CLINIC_KEYS_FILE = "keys.json"  # in the folder of recorded cases: what a diagnosis is checked by
# Arguments of from_pretrained that model_kwargs cannot set, and why.
SET_ELSEWHERE = {
    "pretrained_model_name_or_path": "the model is model_name",
    "dtype": "there is a parameter dtype",
    "torch_dtype": "there is a parameter dtype",
    "quantization_config": "there are parameters use_quant and quant_type",
    "device_map": "each process has the whole model on its own device",
    "gguf_file": "name the file in model_name",
    "use_safetensors": "weights of another kind can run code when they are read",
    "trust_remote_code": "no code of a model's repository is run here",
    "revision": "the tokenizer would be of another one; download it and name its folder",
}
# Fields of GRPOConfig that a parameter stands for under a name of its own.
STOOD_FOR = {"bf16": "dtype", "fp16": "dtype", "model_init_kwargs": "model_kwargs"}
# Fields of GRPOConfig that training fills in and no parameter is named after.
FILLED_IN = (
    "log_completions",
    "load_best_model_at_end",
    "resume_from_checkpoint",
    "use_cpu",
)


@dataclass(kw_only=True)
class Settings:
    """Base of every notebook's settings: known names, declared types, and the run's folders.

    Attributes:
        run_name: The run's folder in ``output_dir``: letters, digits, ``-``, ``_`` and ``.``.
        output_dir: Where runs are kept; a relative path is taken from the project folder.
    """

    may_be_empty: ClassVar[tuple[str, ...]] = MAY_BE_EMPTY

    run_name: str = "default"
    output_dir: str = "runs"

    @classmethod
    def from_namespace(cls, namespace: Mapping[str, Any]) -> Self:
        """Return the settings that a namespace holds.

        Args:
            namespace: A notebook's ``globals()``, or the mapping of a YAML profile.

        Raises:
            InputError: An unknown name, a value of the wrong type, or a value that cannot work.
        """
        defaults = {declared.name: declared.default for declared in fields(cls)}
        known = list(defaults)
        earlier = [name for name, successor in SUPERSEDED.items() if successor.name in known]

        set_here = parameter_names(namespace, [*known, *earlier])
        for name in set_here:
            if name not in known and name not in earlier:
                raise InputError(f"unknown parameter {name!r}: {_hint(name, known)}")

        given = {name: namespace[name] for name in known if name in namespace}
        for name in earlier:
            if name in set_here:
                given[name] = namespace[name]
                print(f"note: {name} is called {SUPERSEDED[name].name} now", file=sys.stderr)

        return cls(**present_names(given, defaults))

    def __post_init__(self) -> None:
        for declared in fields(self):
            value = nfc(getattr(self, declared.name))  # a name typed on a Mac is the same name
            setattr(self, declared.name, convert(declared.name, value, str(declared.type)))

        self._check_run_name()
        self._check_paths()
        self.check()

    def _check_run_name(self) -> None:
        is_word = re.fullmatch(r"[\w.-]+", self.run_name) is not None
        is_only_dots = set(self.run_name) == {"."}
        _need(
            is_word and not is_only_dots,
            f"run_name {self.run_name!r} must be a plain folder name: letters, digits, - _ .",
        )

    def _check_paths(self) -> None:
        for declared in fields(self):
            name = declared.name
            path = getattr(self, name)
            if not name.endswith("_path") or (not path and name in self.may_be_empty):
                continue
            _need(path != "", f"{name} is empty; give it a file")
            _need(
                resolve_path(path).is_file(),
                f"{name}: no file {path} (looked in the working folder and in the project folder)",
            )

    def check(self) -> None:
        """Raise InputError where a value cannot work; subclasses say what they need."""

    @property
    def run_dir(self) -> Path:
        """The run's folder, ``<output_dir>/<run_name>``."""
        root = Path(self.output_dir).expanduser()
        if not root.is_absolute():
            root = project_root() / root
        return find_path(root / self.run_name)

    @property
    def figures_dir(self) -> Path:
        """The run's ``figures`` folder; :func:`grpo_helpers.plots.save_figure` makes it."""
        return self.run_dir / "figures"

    def as_dict(self) -> dict[str, Any]:
        """Return the parameters as plain values."""
        return asdict(self)


def _hint(name: str, known: Iterable[str]) -> str:
    """Return what to write in the place of an unknown parameter."""
    names = sorted(known)
    closest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if closest:
        return f"did you mean {closest[0]}?"
    return f"known are {', '.join(names)}"


def _need(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)


def _check_choices(settings: Settings) -> None:
    """Check every parameter that has a short list of possible values."""
    for name, known in CHOICES.items():
        if not hasattr(settings, name):
            continue
        value = getattr(settings, name)
        listed = f"{', '.join(known[:-1])} or {known[-1]}"
        _need(value in known, f"{name} is {value!r}; it must be {listed}")


def _check_least(settings: Settings, names: Iterable[str], least: int) -> None:
    for name in names:
        value = getattr(settings, name)
        _need(value >= least, f"{name} is {value}; it must be {least} or more")


@dataclass(kw_only=True)
class DataSettings(Settings):
    """Parameters of notebook 01; an empty path of a test split leaves that split out."""

    may_be_empty: ClassVar[tuple[str, ...]] = (*MAY_BE_EMPTY, "test_data_path")

    train_data_path: str = "data/train.json"
    eval_data_path: str = "data/dev.json"
    test_data_path: str = "data/test.json"
    test_unseen_words_path: str = "data/test_unseen_words.json"
    test_unseen_norms_path: str = "data/test_unseen_norms.json"
    few_shot_data_path: str = "data/few_shot.json"
    embedded_data_path: str = "data/embedded/train.json"
    instruct_path: str = "data/instruct.json"
    model_name: str = "data/tiny_model"
    num_few_shot: int = 1


@dataclass(kw_only=True)
class PromptSettings(Settings):
    """What a prompt of the embedded model is made of: shared by notebooks 02, 04 and 05."""

    few_shot_data_path: str = "data/embedded/few_shot.json"
    instruct_path: str = "data/instruct.json"
    bertscore_model: str = ENCODER
    bertscore_layers: int = ENCODER_LAYERS
    seed: int = 0


@dataclass(kw_only=True)
class RewardLabSettings(PromptSettings):
    """Parameters of notebook 02."""

    eval_data_path: str = "data/embedded/dev.json"
    model_name: str = "data/tiny_model"
    num_few_shot: int = 1
    num_prompts: int = 12
    num_generations: int = 8
    temperature: float = 0.7
    max_completion_length: int = 96
    sliders: bool = True

    def check(self) -> None:
        """A group has at least two completions, and there is something to sample."""
        _check_least(self, ("num_prompts", "max_completion_length"), least=1)
        _need(
            self.num_generations >= 2,
            f"num_generations is {self.num_generations}; a group needs 2 or more",
        )


@dataclass(kw_only=True)
class BudgetSettings(Settings):
    """Parameters of notebook 03."""

    model_name: str = "K-intelligence/Midm-2.0-Base-Instruct"
    per_device_train_batch_size: int = 2
    num_generations: int = 8
    gradient_accumulation_steps: int = 16
    world_size: int = 1
    steps_per_generation: int = 4
    prompt_tokens: int = 1024
    max_completion_length: int = 512
    quant: str = "4bit"
    lora_r: int = 64
    vram_gb: float = 24.0


@dataclass(kw_only=True)
class FirstRunSettings(Settings):
    """Parameters of notebook 00, which trains a short run of its own beside that of notebook 04."""

    may_be_empty: ClassVar[tuple[str, ...]] = ()

    train_data_path: str = "data/embedded/train.json"
    eval_data_path: str = "data/embedded/dev.json"
    model_name: str = "data/tiny_model"
    max_steps: int = 24
    seed: int = 0

    def check(self) -> None:
        """There is something to train."""
        _check_least(self, ("max_steps",), least=1)

    @property
    def training(self) -> TrainSettings:
        """The settings of the short run: those of the default run, ended earlier."""
        return TrainSettings(
            run_name=f"{self.run_name}-first",
            output_dir=self.output_dir,
            train_data_path=self.train_data_path,
            eval_data_path=self.eval_data_path,
            model_name=self.model_name,
            max_steps=self.max_steps,
            save_strategy="steps",
            save_steps=self.max_steps,
            seed=self.seed,
        )


@dataclass(kw_only=True)
class WithRecordedRuns(Settings):
    """Parameters of a notebook that reads recorded runs."""

    recorded_dir: str = "data/reference_runs"

    @property
    def recorded_folder(self) -> Path:
        """The folder of recorded runs."""
        return resolve_path(self.recorded_dir)

    def _check_recorded(self) -> None:
        """There is a folder of recorded runs."""
        _need(
            self.recorded_folder.is_dir(),
            f"recorded_dir: no folder {self.recorded_dir} (looked in the working folder and in the "
            "project folder); the course's own is data/reference_runs",
        )


@dataclass(kw_only=True)
class ThinkingSettings(WithRecordedRuns):
    """Parameters of notebook 07, which trains a model that may think before it answers."""

    may_be_empty: ClassVar[tuple[str, ...]] = ()

    train_data_path: str = "data/word_chain/train.json"
    eval_data_path: str = "data/word_chain/dev.json"
    few_shot_data_path: str = "data/word_chain/few_shot.json"
    instruct_path: str = "data/word_chain/instruct.json"
    model_name: str = "data/thinking_model"
    max_steps: int = 40
    max_completion_length: int = 96
    num_questions: int = 24
    seed: int = 0

    def check(self) -> None:
        """There are recorded runs, something to train, and something to ask."""
        self._check_recorded()
        _check_least(self, ("max_steps", "num_questions", "max_completion_length"), least=1)

    @property
    def training(self) -> TrainSettings:
        """The settings of the training: those of ``params/thinking``, with what is set here."""
        return TrainSettings(
            run_name=f"{self.run_name}-thinking",
            output_dir=self.output_dir,
            train_data_path=self.train_data_path,
            eval_data_path=self.eval_data_path,
            few_shot_data_path=self.few_shot_data_path,
            instruct_path=self.instruct_path,
            num_few_shot=0,
            model_name=self.model_name,
            max_completion_length=self.max_completion_length,
            max_steps=self.max_steps,
            save_strategy="steps",
            save_steps=self.max_steps,
            seed=self.seed,
        )


@dataclass(kw_only=True)
class EvaluateSettings(PromptSettings):
    """Parameters of notebook 05.

    An empty ``test_unseen_words_path``, ``test_nonce_path`` or ``test_unseen_norms_path`` leaves
    that split out; an empty ``label_path`` or ``reward_module`` stands for the run's own.
    """

    label_path: str = ""
    test_data_path: str = "data/embedded/test.json"
    test_unseen_words_path: str = "data/embedded/test_unseen_words.json"
    test_nonce_path: str = "data/embedded/test_nonce.json"
    test_unseen_norms_path: str = "data/embedded/test_unseen_norms.json"
    reward_module: str = ""
    aggregate: str = "article"
    rule: str = "highest"
    inference_batch_size: int = 32
    bootstrap_samples: int = 10_000

    def check(self) -> None:
        """The choices are known, the run has checkpoints to score, and its rewards registered."""
        _check_choices(self)
        _check_least(self, ("inference_batch_size", "bootstrap_samples"), least=1)
        self._check_answers()
        load_reward_module(self.reward_module or recorded_reward_module(self.run_dir))
        self._check_gold_answers()

    def _check_answers(self) -> None:
        """Make sure that the base is not all there is: a training is judged by its checkpoints."""
        files = {file.name for file in DEV.answer_folder(self.run_dir).glob("*.json")}
        _need(
            bool(files),
            f"run {self.run_name!r} has no answers in infer_results: run 04_train first",
        )
        _need(
            files != {BASE_ANSWERS},
            f"run {self.run_name!r} has no checkpoint, only the answers of the base model: "
            "let 04_train come to its first save (resume=auto goes on with a run that was cut off)",
        )

    def _check_gold_answers(self) -> None:
        """Raise InputError if a file has no gold answers to score with."""
        paths = {"label_path": self.label_path}
        for split, path in split_paths(self, TEST_SPLITS).items():
            paths[split.parameter] = path

        for parameter, path in paths.items():
            try:
                if path:
                    load_items(path)
            except InputError as error:
                raise InputError(
                    f"{parameter}: {error}; notebook 05 scores answers against gold ones: "
                    "python -m grpo_helpers.inference only answers a file"
                ) from None


@dataclass(kw_only=True)
class RecordedSettings(WithRecordedRuns):
    """Parameters of notebook 06, which reads recorded runs; any of them may be missing."""

    may_be_empty: ClassVar[tuple[str, ...]] = ()

    test_nonce_path: str = "data/embedded/test_nonce.json"
    bootstrap_samples: int = 10_000
    seed: int = 0

    def check(self) -> None:
        """There is a folder of recorded runs, and enough is resampled for an interval."""
        self._check_recorded()
        _check_least(self, ("bootstrap_samples",), least=1)


@dataclass(kw_only=True)
class ByHandSettings(Settings):
    """Parameters of notebook 08."""

    may_be_empty: ClassVar[tuple[str, ...]] = ()

    train_data_path: str = "data/embedded/train.json"
    few_shot_data_path: str = "data/embedded/few_shot.json"
    instruct_path: str = "data/instruct.json"
    model_name: str = "data/tiny_model"
    num_few_shot: int = 1
    num_questions: int = 32
    prompts_per_step: int = 4
    num_generations: int = 8
    temperature: float = 0.7
    max_completion_length: int = 96
    max_steps: int = 20
    learning_rate: float = 3e-4
    seed: int = 0

    def check(self) -> None:
        """A step has questions to draw, a group something to compare, and sampling heat."""
        _check_least(self, ("prompts_per_step", "max_completion_length", "max_steps"), least=1)
        _check_least(self, ("num_few_shot", "learning_rate"), least=0)
        _check_least(self, ("num_generations", "num_questions"), least=2)
        _need(
            self.prompts_per_step <= self.num_questions,
            f"prompts_per_step is {self.prompts_per_step}, but num_questions is only "
            f"{self.num_questions}: a step draws different questions",
        )
        _need(
            self.temperature > 0,
            f"temperature is {self.temperature}; sampling needs more than 0",
        )


@dataclass(kw_only=True)
class ClinicSettings(Settings):
    """Parameters of notebook 09, which reads recorded cases; any of them may be missing."""

    may_be_empty: ClassVar[tuple[str, ...]] = ()

    clinic_dir: str = "data/clinic"
    groups_shown: int = 2

    def check(self) -> None:
        """There is a folder with the keys of the cases, and something of them to print."""
        _need(
            (self.clinic_folder / CLINIC_KEYS_FILE).is_file(),
            f"clinic_dir: no file {self.clinic_dir}/{CLINIC_KEYS_FILE} (looked in the working "
            "folder and in the project folder); the course's own folder is data/clinic",
        )
        _check_least(self, ("groups_shown",), least=1)

    @property
    def clinic_folder(self) -> Path:
        """The folder of recorded cases."""
        return resolve_path(self.clinic_dir)


@dataclass(kw_only=True)
class TrainSettings(PromptSettings):
    """Parameters of notebook 04, explained there, under TRL's, transformers' and PEFT's names.

    0 means TRL's default for ``steps_per_generation``, no limit for ``max_prompt_tokens``, and no
    further checkpoints for ``checkpoint_steps``; ``max_steps`` below 1 means no limit. With
    an empty ``rollout_server``, the model that is trained samples its completions itself.
    ``reward_weights`` takes what :func:`grpo_helpers.rewards.reward_weights` takes. An empty
    ``date_string`` becomes the date of the run, here and nowhere else: today's, or what an earlier
    part of the run has recorded.

    >>> TrainSettings(per_device_train_batch_size=8).batch_plan.completions_per_step
    64
    """

    train_data_path: str = "data/embedded/train.json"
    eval_data_path: str = "data/embedded/dev.json"
    num_few_shot: int = 1
    max_prompt_tokens: int = 0
    model_name: str = "data/tiny_model"
    chat_template_path: str = ""
    date_string: str = ""
    enable_thinking: bool = False
    use_quant: bool = False
    quant_type: str = "4bit"
    lora_r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    lora_target_modules: str = "all-linear"
    reward_weights: str | dict = "article"
    reward_module: str = ""
    per_device_train_batch_size: int = 16
    num_generations: int = 8
    gradient_accumulation_steps: int = 8
    steps_per_generation: int = 0
    num_iterations: int = 1
    max_completion_length: int = 96
    temperature: float = 0.7
    num_train_epochs: float = 3.0
    max_steps: int = -1
    learning_rate: float = 1e-3
    lr_scheduler_type: str = "constant_with_warmup"
    warmup_steps: int = 5
    adam_epsilon: float = 1e-6
    max_grad_norm: float = 1.0
    beta: float = 0.0
    loss_type: str = "dapo"
    scale_rewards: str = "group"
    shared_prefix: bool = True
    rollout_server: str = ""
    gradient_checkpointing: bool = False
    dtype: str = "float32"
    logging_steps: int = 1
    save_strategy: str = "epoch"
    save_steps: int = 10
    save_total_limit: int = 2
    checkpoint_steps: int = 0
    eval_strategy: str = "no"
    inference_batch_size: int = 32
    stop_on_alarm: bool = False
    report_to: str = "none"
    device: str = "auto"
    resume: str = "no"
    num_processes: int = 1
    num_threads: int = 2
    model_kwargs: dict = field(default_factory=dict)
    extra_grpo_args: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.date_string:
            self.date_string = self._date_of_run()

    def _date_of_run(self) -> str:
        """Return the date that an earlier part of this run has recorded, else today's."""
        recorded = self.run_dir / "settings.json"
        if self.resume != "auto" or not recorded.is_file():
            return today()

        return recorded_date(read_json(recorded, "run settings").get("parameters", {}))

    def check(self) -> None:
        """Rewards and choices are known, numbers in range, and TRL takes the batch sizes."""
        if self.chat_template_path:
            read_chat_template(self.chat_template_path)
        if self.date_string:
            parse_date(self.date_string)
        load_reward_module(self.reward_module)
        reward_weights(self.reward_weights)
        self._check_thinking()
        _check_choices(self)
        _check_least(self, ONE_OR_MORE, least=1)
        _check_least(self, ZERO_OR_MORE, least=0)
        self._check_ranges()
        self._check_trackers()
        self._check_model_kwargs()
        self._check_extra_args()
        self._check_quantised_rollouts()
        self._check_continuous_batching()
        self._check_rollout_server()
        self.batch_plan  # noqa: B018  raises where TRL would

    def _check_ranges(self) -> None:
        _need(
            0 <= self.lora_dropout < 1,
            f"lora_dropout is {self.lora_dropout}; it must be 0 or more and below 1",
        )
        _need(
            self.temperature > 0,
            f"temperature is {self.temperature}; sampling needs more than 0",
        )
        _need(
            self.save_total_limit != 1,
            "save_total_limit is 1; resuming needs 2 or more (0 keeps all)",
        )

    def _check_trackers(self) -> None:
        known = ", ".join(TRACKERS)
        for name in self.trackers:
            _need(
                name in TRACKERS,
                f"report_to is {self.report_to!r}; it must be none, all, or one or more of {known}",
            )

    def _check_model_kwargs(self) -> None:
        """Make sure that nothing about the model has two places where it is set."""
        for name in self.model_kwargs:
            _need(
                name not in SET_ELSEWHERE,
                f"model_kwargs sets {name}: leave it out, {SET_ELSEWHERE.get(name)}",
            )

    def _check_thinking(self) -> None:
        """Make sure that thinking is switched in one place."""
        _need(
            "enable_thinking" not in template_kwargs(self.extra_grpo_args),
            "extra_grpo_args: chat_template_kwargs sets enable_thinking, which is a parameter: "
            "set the parameter enable_thinking",
        )

    def _check_extra_args(self) -> None:
        """Make sure that no field of TRL's has two places where it is set."""
        parameters = {declared.name for declared in fields(self)} - {"run_name"}  # TRL has one, too

        for name in self.extra_grpo_args:
            _need(
                name not in parameters,
                f"extra_grpo_args sets {name}, which is a parameter: set the parameter {name}",
            )
            _need(
                name not in STOOD_FOR,
                f"extra_grpo_args sets {name}: set the parameter {STOOD_FOR.get(name)}",
            )
            _need(
                name not in FILLED_IN,
                f"extra_grpo_args sets {name}, which the course fills in itself: leave it out",
            )

    def _check_quantised_rollouts(self) -> None:
        """Make sure that quantised weights are sampled from by the model itself.

        TRL adds the adapter to the weights before it sends them to vLLM, in 4 bits: vLLM refuses
        what comes out, and most of the adapter would be lost in rounding. Continuous batching casts
        the whole model, adapter included, to another type for good.
        """
        for engine in ENGINES:
            _need(
                not (self.use_quant and self.extra_grpo_args.get(engine)),
                f"extra_grpo_args sets {engine}, which cannot sample from a quantised model: "
                "leave it out (there is rollout_server), or set use_quant=false",
            )

    def _check_continuous_batching(self) -> None:
        """Make sure that sampling leaves the adapter in float32.

        TRL casts the model in training, adapter included, to the type that it computes in, and
        leaves it there. In bfloat16 most of an adapter would not move at the usual rates.
        """
        is_on = self.extra_grpo_args.get("use_transformers_continuous_batching")
        _need(
            not is_on or self.dtype == "float32",
            f"extra_grpo_args sets use_transformers_continuous_batching, which casts the adapter "
            f"to {self.dtype} for good: leave it out, or set dtype=float32",
        )

    def _check_rollout_server(self) -> None:
        """Make sure that a server can be what samples: nothing else does, in one process."""
        if not self.rollout_server:
            return

        _need(
            re.fullmatch(r"https?://[^/\s]+/?", self.rollout_server) is not None,
            f"rollout_server is {self.rollout_server!r}; it must be an address such as "
            "http://localhost:8000, without a path",
        )
        for engine in ENGINES:
            _need(
                not self.extra_grpo_args.get(engine),
                f"rollout_server and {engine} (in extra_grpo_args) both sample: leave one out",
            )
        _need(
            self.loss_type != "vespo",
            "loss_type is 'vespo', which is not corrected for what a rollout_server samples: "
            "set another one, or leave rollout_server empty",
        )
        processes = int(os.environ.get("WORLD_SIZE", self.num_processes))
        _need(
            processes == 1,
            f"rollout_server serves one process, not {processes}: set num_processes=1, or leave it "
            "empty",
        )

    @property
    def trackers(self) -> list[str]:
        """The trackers that ``report_to`` names; ``none`` and ``all`` name no single one."""
        if self.report_to in ("none", "all"):
            return []
        return [name.strip() for name in self.report_to.split(",")]

    @property
    def chat_template_kwargs(self) -> dict[str, Any]:
        """What chat templates get besides the messages, in rollouts and dev answers alike."""
        kwargs = with_thinking(template_kwargs(self.extra_grpo_args), self.enable_thinking)
        return dated(kwargs, self.date_string)

    @property
    def batch_plan(self) -> BatchPlan:
        """The batch arithmetic of this run, on as many processes as were launched, or will be."""
        return BatchPlan(
            B=self.per_device_train_batch_size,
            G=self.num_generations,
            A=self.gradient_accumulation_steps,
            D=int(os.environ.get("WORLD_SIZE", self.num_processes)),
            S=self.steps_per_generation or None,  # type: ignore[arg-type]  # None: S follows A
            num_iterations=self.num_iterations,
        )
