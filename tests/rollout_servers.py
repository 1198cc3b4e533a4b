"""A server that speaks the HTTP of ``vllm serve``, as far as the course asks it for something.

It runs in a thread of the test. What samples is given to it: :class:`FixedSampler` draws from one
distribution and needs no model, :class:`PolicySampler` is the embedded model with the adapter that
was loaded last. Replies and errors have vLLM's form and status.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Protocol

import numpy as np
from helpers import ROOT, TINY_MODEL

VOCABULARY = 2742  # of the embedded model
Row = tuple[list[int], list[float]]  # tokens and their log-probabilities


class Sampler(Protocol):
    """Samples a completion of each prompt of a request."""

    def __call__(self, body: Mapping[str, Any], folder: Path | None) -> list[Row]:
        """Take the request, and the folder of the adapter that it names, if it names one."""


@dataclass
class Server:
    """What a server has been started with, and what it was asked.

    Attributes:
        sampler: What samples.
        model: The base model's name, and where it was read from.
        root: The latter, if it differs.
        max_length: ``--max-model-len``.
        enable_lora: ``--enable-lora``.
        max_rank: ``--max-lora-rank``.
        runtime_adapters: ``VLLM_ALLOW_RUNTIME_LORA_UPDATING``.
        broken: Paths that answer with an error of the server.
        address: Where it listens.
        adapters: The folders of the adapters that it has, by name.
        requests: Every POST so far: path and body.
    """

    sampler: Sampler
    model: str = TINY_MODEL
    root: str = ""
    max_length: int = 1024
    enable_lora: bool = True
    max_rank: int = 16
    runtime_adapters: bool = True
    broken: set[str] = field(default_factory=set)
    address: str = ""
    adapters: dict[str, Path] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def calls(self) -> list[tuple[str, str]]:
        """Return the path of every POST, and the adapter that it names."""
        return [(path, body.get("lora_name") or body["model"]) for path, body in self.requests]

    # -- one request: status and content --

    def get(self, path: str) -> tuple[int, Any]:
        """Answer a GET."""
        if path == "/version":
            return 200, {"version": "0.30.0"}
        if path != "/v1/models":
            return 404, {"detail": "Not Found"}

        root = self.root or self.model
        base = {"id": self.model, "root": root, "parent": None, "max_model_len": self.max_length}
        loras = [{"id": name, "parent": self.model} for name in self.adapters]
        return 200, {"object": "list", "data": [base, *loras]}

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Answer a POST."""
        self.requests.append((path, body))
        if path in self.broken:
            return error(500, "EngineCore encountered an issue.")
        if path == "/v1/completions":
            return self.complete(body)
        if not self.runtime_adapters:
            return 404, {"detail": "Not Found"}
        if path == "/v1/load_lora_adapter":
            return self.load(body["lora_name"], Path(body["lora_path"]))
        return self.unload(body["lora_name"])

    def load(self, name: str, folder: Path) -> tuple[int, Any]:
        if name in self.adapters:
            return error(400, f"The lora adapter '{name}' has already been loaded.")
        if not self.enable_lora:
            return error(500, "LoRA is not enabled.")
        if not (folder / "adapter_model.safetensors").is_file():
            return error(404, f"Loading lora {name} failed: No adapter found for {folder}")

        rank = json.loads((folder / "adapter_config.json").read_text())["r"]
        if rank > self.max_rank:
            return error(500, f"LoRA rank {rank} is greater than max_lora_rank {self.max_rank}.")
        self.adapters[name] = folder
        return 200, f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, name: str) -> tuple[int, Any]:
        if name not in self.adapters:
            return error(404, f"The lora adapter '{name}' cannot be found.")
        del self.adapters[name]
        return 200, f"Success: LoRA adapter '{name}' removed successfully."

    def complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        name = body["model"]
        if name not in (self.model, *self.adapters):
            return error(404, f"The model `{name}` does not exist.")

        choices = []
        rows = self.sampler(body, self.adapters.get(name))
        for index, (ids, log_probs) in enumerate(rows):
            logprobs = {"token_logprobs": log_probs, "tokens": [f"token_id:{id_}" for id_ in ids]}
            choices.append({"index": index, "token_ids": ids, "logprobs": logprobs, "text": ""})
        return 200, {"object": "text_completion", "choices": choices}


def error(status: int, message: str) -> tuple[int, Any]:
    """Return an error in vLLM's form."""
    return status, {"error": {"message": message, "type": "Error", "code": status}}


@contextmanager
def serving(sampler: Sampler, **options: Any) -> Iterator[Server]:
    """Run a server in a thread, on a free port of this machine."""
    server = Server(sampler, **options)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(*server.get(self.path))

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            self.reply(*server.post(self.path, json.loads(self.rfile.read(length))))

        def reply(self, status: int, content: Any) -> None:
            text = content if isinstance(content, str) else json.dumps(content)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode("utf-8"))

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.address = f"http://127.0.0.1:{http.server_port}"
    thread = Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


# -- what samples ----------------------------------------------------------------------------------


class FixedSampler:
    """Draws every token from one distribution, from nearly impossible tokens to likely ones.

    Args:
        processed: ``--logprobs-mode processed_logprobs``: log-probabilities are those after
            temperature.
    """

    def __init__(self, processed: bool = True) -> None:
        self.processed = processed
        self.rng = np.random.default_rng(0)
        self.logits = np.linspace(0, 20, VOCABULARY)

    def __call__(self, body: Mapping[str, Any], folder: Path | None) -> list[Row]:
        """Sample as many tokens as may be; the adapter makes no difference."""
        sampled_from = log_softmax(self.logits / body["temperature"])
        reported = sampled_from if self.processed else log_softmax(self.logits)
        rows = []
        for _ in body["prompt"]:
            ids = self.rng.choice(VOCABULARY, size=body["max_tokens"], p=np.exp(sampled_from))
            rows.append((ids.tolist(), reported[ids].tolist()))
        return rows


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log-probabilities that add up to 1."""
    shifted = logits - logits.max()
    return shifted - math.log(np.exp(shifted).sum())


class PolicySampler:
    """The embedded model with an adapter, which is read from its folder at every request."""

    def __init__(self) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self.base: Any = AutoModelForCausalLM.from_pretrained(
            ROOT / TINY_MODEL, dtype=torch.float32
        )

    def __call__(self, body: Mapping[str, Any], folder: Path | None) -> list[Row]:
        """Sample one completion of each prompt."""
        import torch
        from peft import PeftModel

        model = copy.deepcopy(self.base)  # an adapter changes the model that it is put on
        if folder is not None:
            model = PeftModel.from_pretrained(model, folder)
        longest = max(len(prompt) for prompt in body["prompt"])
        ids = torch.tensor([[0] * (longest - len(row)) + row for row in body["prompt"]])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in body["prompt"]])

        with torch.random.fork_rng(devices=[]), torch.no_grad():  # as another process would
            torch.manual_seed(len(body["prompt"]))
            output = model.eval().generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=True,
                temperature=body["temperature"],
                top_k=0,
                max_new_tokens=body["max_tokens"],
                eos_token_id=body.get("stop_token_ids") or 2,
                pad_token_id=0,
                output_scores=True,
                return_dict_in_generate=True,
            )
        return rows_of(output, longest, body.get("stop_token_ids") or [2])


def rows_of(output: Any, prompt_length: int, stops: list[int]) -> list[Row]:
    """Return the tokens that were generated, up to one that ends, and their log-probabilities."""
    import torch

    scores = torch.stack(output.scores, dim=1).log_softmax(dim=-1)
    completions = output.sequences[:, prompt_length:]
    log_probs = scores.gather(2, completions.unsqueeze(2)).squeeze(2)

    rows = []
    for ids, values in zip(completions.tolist(), log_probs.tolist(), strict=True):
        ends = [place for place, token in enumerate(ids) if token in stops]
        length = ends[0] + 1 if ends else len(ids)
        rows.append((ids[:length], values[:length]))
    return rows
