"""All files of the demo, and its two pages, which state what they weigh.

In: the folder of a run (``data/demo_runs/default`` is kept for this; ``make run`` leaves
``runs/default``), that of a run whose reward was hacked, and that of a run of the model that can
think, where there are such folders. Out: files by name, for the folder ``demo/`` of the site: the
engine and the scripts, which both pages load; the embedded model; and, in ``thinking/``, the
model that can think, which only its own page loads. Without a run, the base model answers alone,
and the page says so.

    python -m tools.site.demo.export --run runs/default --out /tmp/demo
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from grpo_helpers.command_line import SUCCESS, run_command
from grpo_helpers.files import read_json, resolve_path, show_path
from grpo_helpers.inference import AnswerOptions
from grpo_helpers.model_checks import check_adapter
from grpo_helpers.models import load_tokenizer
from grpo_helpers.rewards import reward_weights
from grpo_helpers.run_folder import BASE, RunFolder
from tools.site.demo import engine
from tools.site.demo.graph import build_graph
from tools.site.demo.questions import CHAINS, Asking, collect, vocabulary
from tools.site.demo.weights import AdapterWeights, LoraPair, read_adapter, read_base
from tools.word_chain.thinking_card import LONGEST, PROMPTS, TEMPERATURE
from tools.word_chain.words import load_words

MODEL = "data/tiny_model"
THINKING_MODEL = "data/thinking_model"
PAGE = Path(__file__).parent / "page"
DATA = "demo.json"  # what the scripts read first
GRAPH = "graph.onnx"
BASE_FILE = "base.bin"
HACKED = "hacked"
TRAINED = "after_GRPO"

# The rows of the table of weights: what they are called, and how the files of each begin.
PARTS = {
    f"the engine, onnxruntime-web {engine.VERSION}": ("engine/",),
    "the base model, in 16 bits": (BASE_FILE, GRAPH),
    "the checkpoints, as adapters": ("epoch_", f"{HACKED}.", f"{TRAINED}."),
    "questions, vocabulary and scripts": ("",),
}


@dataclass(frozen=True)
class DemoPage:
    """A page of the demo.

    Attributes:
        template: The file of its text.
        scripts: The scripts that no other page loads.
        folder: Where the files of its model lie, within ``demo/``.
    """

    template: str
    scripts: tuple[str, ...]
    folder: str = ""


NORMS_PAGE = DemoPage("index.md", ("app.js",))
THINKING_PAGE = DemoPage("thinking.md", ("thinking.js", "chain.js"), "thinking/")
PAGES = (NORMS_PAGE, THINKING_PAGE)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of the demo.

    Attributes:
        name: ``"epoch_1"``, :data:`HACKED` or :data:`TRAINED`.
        adapter: Its weights.
    """

    name: str
    adapter: AdapterWeights

    @property
    def file(self) -> str:
        """The file of its weights."""
        return f"{self.name}.bin"


def why_not() -> str:
    """Return why the demo cannot be built, or an empty text."""
    if importlib.util.find_spec("onnx") is None:
        return "onnx is not installed (pip install -e .[site])"
    if not engine.is_fetched():
        return "its engine is not there (python -m tools.site.demo.engine fetches it with npm)"
    return ""


def demo_files(run: str = "", hacked: str = "") -> dict[str, bytes]:
    """Return what the page with the embedded model loads, by name.

    Args:
        run: The folder of the run whose epochs answer; empty or not there: the base answers alone.
        hacked: The folder of a run whose last epoch answers as the hacked model, or empty.

    Raises:
        InputError: A run was trained on another model, or its adapters are not plain LoRA.
    """
    asking = collect(answer_options(run))
    more = {"rewardWeights": run_reward_weights(run)}
    own = model_files(MODEL, asking, read_checkpoints(run, hacked), more)
    return own | shared_files(NORMS_PAGE)


def thinking_files(run: str = "") -> dict[str, bytes]:
    """Return what the page with the model that can think loads, by name.

    Args:
        run: The folder of the run whose last checkpoint answers; empty or not there: the base
            answers alone.

    Raises:
        InputError: As in :func:`demo_files`.
    """
    asking = collect(thinking_options(run), CHAINS)
    checkpoints = []
    if has_run(run):
        last = RunFolder(run).checkpoints()[-1]
        checkpoints.append(_read(run, last, TRAINED, THINKING_MODEL))

    more = {
        "rewardWeights": run_reward_weights(run),
        "temperature": run_temperature(run),
        "glosses": load_words(),
    }
    own = model_files(THINKING_MODEL, asking, checkpoints, more)
    placed = {THINKING_PAGE.folder + name: content for name, content in own.items()}
    return placed | shared_files(THINKING_PAGE)


def model_files(
    model: str, asking: Asking, checkpoints: Sequence[Checkpoint], more: Mapping[str, Any]
) -> dict[str, bytes]:
    """Return the files of a model: its data, graph, weights and checkpoints.

    Args:
        model: Its folder.
        asking: What it is asked.
        checkpoints: What has become of it.
        more: What its page must know besides.
    """
    base = read_base(resolve_path(model))
    config = read_json(f"{model}/config.json")
    data = {
        "blocks": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "headDim": config["head_dim"],
        "vocabulary": vocabulary(load_tokenizer(model)),
        "asking": asdict(asking),
        "tensors": [asdict(tensor) for tensor in base.tensors],
        "checkpoints": list(map(described, checkpoints)),
        **more,
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))

    files = {DATA: text.encode(), GRAPH: build_graph(config, base.tensors), BASE_FILE: base.content}
    return files | {checkpoint.file: checkpoint.adapter.content for checkpoint in checkpoints}


def shared_files(page: DemoPage) -> dict[str, bytes]:
    """Return what a page loads besides its model: the engine, scripts and style."""
    elsewhere = {script for other in PAGES if other != page for script in other.scripts}
    files = {f"engine/{name}": content for name, content in engine.engine_files().items()}
    for path in sorted(PAGE.iterdir()):
        if path.suffix != ".md" and path.name not in elsewhere:
            files[path.name] = path.read_bytes()
    return files


def described(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what the page must know of a checkpoint."""
    adapter = checkpoint.adapter
    return {
        "name": checkpoint.name,
        "file": checkpoint.file,
        "scale": adapter.scale,
        "pairs": list(map(_pair_described, adapter.pairs)),
    }


def _pair_described(pair: LoraPair) -> dict[str, Any]:
    return {"weight": pair.weight, "a": asdict(pair.a), "b": asdict(pair.b)}


# -- runs ------------------------------------------------------------------------------------------


def has_run(run: str) -> bool:
    """Return whether a folder has a run with checkpoints."""
    return bool(run) and len(RunFolder(run).checkpoints()) > 1


def answer_options(run: str) -> AnswerOptions:
    """Return the options under which a run answers, or those of the embedded model without one."""
    if has_run(run):
        return AnswerOptions.of_run(RunFolder(run), BASE)
    return AnswerOptions(model_id=MODEL)


def thinking_options(run: str) -> AnswerOptions:
    """Return the options under which a run of the model that can think answers, or its own."""
    if has_run(run):
        return AnswerOptions.of_run(RunFolder(run), BASE)
    return AnswerOptions(model_id=THINKING_MODEL, max_new_tokens=LONGEST, **vars(PROMPTS))


def run_temperature(run: str) -> float:
    """Return the temperature at which a run samples, or that of the course without a run."""
    settings = RunFolder(run).settings if has_run(run) else {}
    temperature: float = settings.get("temperature", TEMPERATURE)
    return temperature


def run_reward_weights(run: str) -> dict[str, float]:
    """Return the weights of a run's rewards, or the article's without a run."""
    settings = RunFolder(run).settings if has_run(run) else {}
    return reward_weights(settings.get("reward_weights", "article"))


def read_checkpoints(run: str, hacked: str) -> list[Checkpoint]:
    """Return the trained checkpoints that answer in the page, in order.

    Args:
        run: As in :func:`demo_files`.
        hacked: As in :func:`demo_files`.
    """
    checkpoints = []
    if has_run(run):
        epochs = [name for name in RunFolder(run).checkpoints() if name.startswith("epoch_")]
        checkpoints += [_read(run, name, name, MODEL) for name in epochs if name != BASE]
    if has_run(hacked):
        checkpoints.append(_read(hacked, RunFolder(hacked).checkpoints()[-1], HACKED, MODEL))
    return checkpoints


def _read(run: str, checkpoint: str, name: str, model: str) -> Checkpoint:
    folder = RunFolder(run).adapter_folder(checkpoint)
    check_adapter(folder, model)
    return Checkpoint(name, read_adapter(folder))


# -- the pages -------------------------------------------------------------------------------------


def page(files: Mapping[str, bytes], run: str = "") -> str:
    """Return the page with the embedded model as Markdown.

    Args:
        files: What :func:`demo_files` returned.
        run: As in :func:`demo_files`.
    """
    return _filled(NORMS_PAGE, files, _which_checkpoints(files, run))


def thinking_page(files: Mapping[str, bytes], run: str = "") -> str:
    """Return the page with the model that can think as Markdown.

    Args:
        files: What :func:`thinking_files` returned.
        run: As in :func:`thinking_files`.
    """
    return _filled(THINKING_PAGE, files, _which_thinking_model(run))


def _filled(page: DemoPage, files: Mapping[str, bytes], checkpoints: str) -> str:
    template = (PAGE / page.template).read_text(encoding="utf-8")
    return template.format(
        checkpoints=checkpoints,
        weights="\n".join(weight_rows(files)),
        total=megabytes(sum(map(len, files.values()))),
    )


def _which_checkpoints(files: Mapping[str, bytes], run: str) -> str:
    if not has_run(run):
        return (
            "This site was built without a trained run, so only the base model is here. After "
            "`make run`, `make site` adds its checkpoints."
        )
    count = sum(name.startswith("epoch_") for name in files)
    return (
        f"The checkpoints are the base model and the {count} epochs of a default run "
        f"(`{show_path(RunFolder(run).path)}`)."
    )


def _which_thinking_model(run: str) -> str:
    if not has_run(run):
        return (
            "This site was built without a trained run, so only the base model is here. After "
            "notebook 07, `make site THINKING_RUN=runs/default-thinking` adds what it has trained."
        )
    folder = RunFolder(run)
    last = folder.checkpoints()[-1].replace("_", " ")
    return (
        f"Two models answer: the base, and what a run of GRPO has made of it by {last} "
        f"(`{show_path(folder.path)}`)."
    )


def weight_rows(files: Mapping[str, bytes]) -> list[str]:
    """Return the rows of a Markdown table that says what the parts of a page weigh."""
    rest = {name.removeprefix(THINKING_PAGE.folder): len(each) for name, each in files.items()}
    rows = []
    for part, starts in PARTS.items():
        names = [name for name in rest if name.startswith(starts)]
        size = sum(rest.pop(name) for name in names)
        rows.append(f"| {part} | {megabytes(size)} |")
    return rows


def megabytes(size: int) -> str:
    """Return a number of bytes in words.

    >>> megabytes(14_239_897)
    '14.2 MB'
    """
    return f"{size / 1e6:.1f} MB"


# -- command line ----------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """Write the files of the demo into a folder; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.site.demo.export")
    parser.add_argument("--run", default="", help="folder of a finished run")
    parser.add_argument("--hacked", default="", help="folder of a run whose reward was hacked")
    parser.add_argument("--thinking", default="", help="folder of a run of notebook 07")
    parser.add_argument("--out", required=True, type=Path, help="folder to write to")
    args = parser.parse_args(argv)

    def body() -> int:
        engine.fetch()
        for files in (demo_files(args.run, args.hacked), thinking_files(args.thinking)):
            for name, content in files.items():
                target = args.out / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            print("\n".join(weight_rows(files)))
        return SUCCESS

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
