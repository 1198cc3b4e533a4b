"""A server that samples for a run, ``vllm serve``: asked over HTTP, and checked before the run.

In: its address; prompts as token ids; the folder of an adapter. Out: completions as token ids, with
the log-probability of each token. The article samples with transformers' ``generate``, and so does
this course unless ``rollout_server`` is set. An engine is faster, but TRL's own way to vLLM merges
the adapter into the weights, which a model in 4 bits does not survive. A server of its own adds the
adapter while it computes, as training does: nothing is merged.

Three habits of vLLM decide how it is asked:

* An adapter that is loaded again under its name may be answered from a cache of the earlier one
  (https://github.com/vllm-project/vllm/issues/42125), and is read from disk at every token
  (https://github.com/vllm-project/vllm/issues/33791). So each version has a name of its own.
* Without ``--logprobs-mode processed_logprobs`` log-probabilities are those before temperature. The
  sampler's own are needed here; :func:`check_rollout_server` tells one from the other.
* All prompts of a request share one seed if it has any, so equal prompts would have equal
  completions. No seed is sent: with a server, a run cannot be repeated bit by bit.
"""

from __future__ import annotations

import json
import math
import tempfile
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_helpers.files import InputError, first_line, resolve_path
from grpo_helpers.model_checks import model_config, skeleton
from grpo_helpers.models import lora_config
from grpo_helpers.settings import TrainSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TIMEOUT = 600.0  # seconds for one request; all completions of a round come in one
CHECK_TIMEOUT = 60.0  # seconds, before the run
SHOWN = 300  # characters of what a server says about an error
OK = 200
NOT_FOUND = 404

FLAT = 1000.0  # a temperature at which all tokens are nearly equally likely
FLAT_TOKENS = 16  # how many are sampled at that temperature
FLAT_DIFFERENCE = 0.5  # by which their mean log-probability may differ from that of equal ones

HOW_TO_START = "docs/gpu.md, 'Rollouts from a server', says how to start it"


class ServerError(InputError):
    """The server cannot be reached, or refuses what it is asked; in one line."""


@dataclass(frozen=True)
class Completions:
    """What the server sampled, in the order of the prompts.

    Attributes:
        ids: The tokens of each completion, the one that ends it included.
        log_probs: The log-probability of each token when it was sampled; NaN where the server knows
            none.
    """

    ids: list[list[int]]
    log_probs: list[list[float]]


@dataclass(frozen=True)
class ServedModel:
    """A base model that a server has.

    Attributes:
        name: What requests call it.
        root: The folder or hub id that it was read from.
        max_length: The most tokens of a prompt and its completion; None if the server does not say.
    """

    name: str
    root: str
    max_length: int | None


@dataclass(frozen=True)
class Reply:
    """A reply of the server: its status, 200 if all went well, and its text."""

    status: int
    text: str

    @property
    def words(self) -> str:
        """What the server says about an error, in one line."""
        try:
            content = json.loads(self.text)
            error = content.get("error", content)
            words = str(error.get("message") or error.get("detail") or error)
        except (ValueError, AttributeError):
            words = self.text
        lines = words.strip().splitlines() or [f"status {self.status}"]
        return lines[0][:SHOWN]


# -- requests --------------------------------------------------------------------------------------


class RolloutServer:
    """A ``vllm serve`` at an address.

    Attributes:
        address: Its address, without a slash at the end.
        timeout: How long a request may take, in seconds.
    """

    def __init__(self, address: str, timeout: float = TIMEOUT) -> None:
        """Take the address; nothing is asked yet."""
        self.address = address.rstrip("/")
        self.timeout = timeout
        # No proxy: the server is on this machine, or near it.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def version(self) -> str:
        """Return the version of vLLM; ``of unknown version`` if the server does not say."""
        reply = self._ask("/version")
        try:
            return str(json.loads(reply.text)["version"])
        except (ValueError, KeyError, TypeError):
            return "of unknown version"

    def base_models(self) -> list[ServedModel]:
        """Return the models that the server has; adapters are not among them.

        Raises:
            ServerError: It does not answer, or what answers is no such server.
        """
        reply = self._need(self._ask("/v1/models"), "lists no models")

        try:
            cards = json.loads(reply.text)["data"]
            bases = [card for card in cards if not card.get("parent")]
            return [
                ServedModel(card["id"], card.get("root") or card["id"], card.get("max_model_len"))
                for card in bases
            ]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self._error("is not an OpenAI-compatible server: /v1/models is unknown") from None

    def load_adapter(self, name: str, folder: Path) -> None:
        """Let the server read an adapter.

        Args:
            name: What requests will call it.
            folder: Its folder, which the server must see under the same path.

        Raises:
            ServerError: The server takes no adapters while it runs, or not this one.
        """
        body = {"lora_name": name, "lora_path": str(folder.resolve())}
        reply = self._ask("/v1/load_lora_adapter", body)

        if reply.status == NOT_FOUND and name not in reply.text:
            raise self._error(
                "takes no adapters while it runs: start it with --enable-lora, and with "
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 in its environment"
            )
        self._need(
            reply, "cannot load the adapter (--enable-lora, --max-lora-rank, and the same files?)"
        )

    def unload_adapter(self, name: str) -> None:
        """Let the server forget an adapter.

        Raises:
            ServerError: It has none of that name.
        """
        reply = self._ask("/v1/unload_lora_adapter", {"lora_name": name})
        self._need(reply, f"cannot unload the adapter {name}")

    def sample(
        self, model: str, prompts: Sequence[Sequence[int]], sampling: Mapping[str, Any]
    ) -> Completions:
        """Return one completion of each prompt.

        Args:
            model: The name of an adapter, or of the base model.
            prompts: The tokens of each prompt; equal ones get different completions.
            sampling: How to sample, under vLLM's names: ``temperature``, ``max_tokens`` and so on.

        Raises:
            ServerError: The server does not answer, or not completely.
        """
        body = {
            "model": model,
            "prompt": [list(prompt) for prompt in prompts],
            "n": 1,
            "logprobs": 0,  # those of the sampled tokens alone
            "return_token_ids": True,
            **sampling,
        }
        reply = self._need(self._ask("/v1/completions", body), "cannot sample")

        try:
            return parse_completions(reply.text, len(prompts))
        except (ValueError, KeyError, TypeError) as error:
            raise self._error(f"sent no usable completions: {first_line(error)}") from None

    # -- one request --

    def _ask(self, path: str, body: Mapping[str, Any] | None = None) -> Reply:
        """Send a request, a POST if it has a body, and return the reply, an error's as well."""
        data = None if body is None else json.dumps(body).encode("utf-8")
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, data=data, headers=headers)

        try:
            with self._opener.open(request, timeout=self.timeout) as response:
                return Reply(response.status, response.read().decode("utf-8"))
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, error.read().decode("utf-8", errors="replace"))
        except (OSError, ValueError) as error:  # among them URLError and time-outs
            reason = getattr(error, "reason", error)
            raise self._error(f"does not answer ({reason}); {HOW_TO_START}") from None

    def _need(self, reply: Reply, problem: str) -> Reply:
        """Return a reply, or raise what the server says about the problem."""
        if reply.status != OK:
            raise self._error(f"{problem}: {reply.words}")
        return reply

    def _error(self, problem: str) -> ServerError:
        return ServerError(f"rollout_server {self.address} {problem}")


def parse_completions(text: str, count: int) -> Completions:
    """Read the reply to ``/v1/completions``.

    Args:
        text: JSON, as vLLM writes it with ``return_token_ids`` and ``logprobs``.
        count: How many completions were asked for.

    Raises:
        ValueError: Completions are missing, empty, or without log-probabilities.
        KeyError: The reply has another form.
        TypeError: The same.
    """
    choices = json.loads(text)["choices"]
    if len(choices) != count:
        raise ValueError(f"{len(choices)} instead of {count}")

    completions = Completions([], [])
    for choice in sorted(choices, key=lambda choice: choice["index"]):
        ids = choice.get("token_ids")
        if not ids:
            raise ValueError("no token_ids: a newer vLLM is needed")

        log_probs = (choice.get("logprobs") or {}).get("token_logprobs")
        if log_probs is None or len(log_probs) != len(ids):
            raise ValueError("not every token has a log-probability")

        completions.ids.append(ids)
        completions.log_probs.append(
            [math.nan if value is None else float(value) for value in log_probs]
        )
    return completions


# -- before the run --------------------------------------------------------------------------------


def check_rollout_server(
    settings: TrainSettings, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> None:
    """Make sure that the server can sample for a run: model, lengths, adapters, log-probabilities.

    It loads an adapter of the run's shape that changes nothing, samples a few tokens, and unloads
    it. A line says which server it is.

    Args:
        settings: The run's parameters; without a ``rollout_server``, nothing is asked.
        tokenizer: The model's tokenizer.
        texts: All prompts, as the chat template renders them.

    Raises:
        InputError: The server cannot; the message says what is wrong with it.
    """
    if not settings.rollout_server:
        return

    server = RolloutServer(settings.rollout_server, CHECK_TIMEOUT)
    served = _served_model(server, settings.model_name)
    prompts = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    _check_length(server, served, settings, max(len(prompt) for prompt in prompts))

    with trial_adapter(settings) as folder:
        if folder is not None:
            _try_adapter(server, folder, min(prompts, key=len), settings.model_name)

    print(
        f"rollouts come from {server.address}: vLLM {server.version()} with {served.name}",
        flush=True,
    )


def _served_model(server: RolloutServer, model_name: str) -> ServedModel:
    """Return the server's model, which must be that of the run."""
    models = server.base_models()
    for model in models:
        if model_name in (model.name, model.root) or _is_same_folder(model.root, model_name):
            return model

    names = ", ".join(model.name for model in models) or "none"
    raise InputError(
        f"rollout_server {server.address} has another model than the run: {names}, "
        f"not {model_name}; where it is the same in another place, start the server with "
        f"--served-model-name {model_name}"
    )


def _is_same_folder(root: str, model_name: str) -> bool:
    folder = resolve_path(model_name)
    return folder.is_dir() and Path(root).is_dir() and folder.samefile(root)


def _check_length(
    server: RolloutServer, served: ServedModel, settings: TrainSettings, longest: int
) -> None:
    """Make sure that the longest prompt and its completion fit into what the server allows."""
    needed = longest + settings.max_completion_length
    if served.max_length is not None and needed > served.max_length:
        raise InputError(
            f"rollout_server {server.address} takes {served.max_length} tokens at most, the "
            f"longest prompt ({longest}) with its completion needs {needed}: start it with "
            f"--max-model-len {needed}, or set max_prompt_tokens"
        )


@contextmanager
def trial_adapter(settings: TrainSettings) -> Iterator[Path | None]:
    """Write an adapter as the run will have it, with zeros as weights, into a temporary folder.

    Yields:
        The folder; None for a model whose layers are not known before its weights are read.
    """
    import torch
    from peft import get_peft_model, get_peft_model_state_dict
    from safetensors.torch import save_file

    base = skeleton(settings.model_name)
    if base is None:
        yield None
        return

    base.name_or_path = settings.model_name
    model = get_peft_model(base, lora_config(settings))
    shapes = {name: value.shape for name, value in get_peft_model_state_dict(model).items()}
    zeros = {name: torch.zeros(shape, dtype=torch.bfloat16) for name, shape in shapes.items()}

    with tempfile.TemporaryDirectory(prefix="grpo-trial-") as name:
        model.peft_config["default"].save_pretrained(name)
        save_file(zeros, Path(name) / "adapter_model.safetensors")
        yield Path(name)


def _try_adapter(
    server: RolloutServer, folder: Path, prompt: Sequence[int], model_name: str
) -> None:
    """Load an adapter, sample with it, and unload it."""
    name = f"grpo-trial-{uuid.uuid4().hex[:8]}"
    sampling = {
        "temperature": FLAT,
        "max_tokens": FLAT_TOKENS,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
    }

    server.load_adapter(name, folder)
    try:
        completions = server.sample(name, [prompt], sampling)
    finally:
        server.unload_adapter(name)

    vocabulary = model_config(model_name).get_text_config().vocab_size
    if not is_after_temperature(completions.log_probs[0], vocabulary):
        raise InputError(
            f"rollout_server {server.address} reports log-probabilities before temperature: "
            "start it with --logprobs-mode processed_logprobs"
        )


def is_after_temperature(log_probs: Sequence[float], vocabulary: int) -> bool:
    """Return whether tokens sampled at a very high temperature have nearly the same probability.

    Args:
        log_probs: The log-probability of each.
        vocabulary: How many tokens there are.

    >>> is_after_temperature([-6.9, -6.92], vocabulary=1000)
    True
    >>> is_after_temperature([-3.2, -25.0], vocabulary=1000)
    False
    """
    known = [value for value in log_probs if not math.isnan(value)]
    if not known:
        return False

    of_equal_tokens = -math.log(vocabulary)
    mean = sum(known) / len(known)
    return abs(mean - of_equal_tokens) < FLAT_DIFFERENCE
