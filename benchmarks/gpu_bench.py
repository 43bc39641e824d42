"""What the jobs of `gpu.py` measure with: models of random weights, and rows that are written as soon as they are
measured."""

import json
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from selfcorrect.agents.episodes import play_sync
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.transformers import DecodingName, TransformersPolicy
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.agents.state import EpisodeState
from selfcorrect.tasks.countdown import CountdownTask
from selfcorrect.tasks.problem import Problem

SAMPLES_A_PROBLEM = 4


@dataclass(frozen=True)
class Size:
    """A model and the load that goes with it; `slices` are the backward passes of a PPO step."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    key_heads: int
    inner: int
    episodes: int
    tokens: int
    slices: int
    spread: float = 0.02
    """Standard deviation of the random weights."""


SIZES = {
    "125m": Size(49_152, 576, 30, 9, 3, 1536, episodes=256, tokens=128, slices=4),
    "1.4b": Size(151_936, 1536, 28, 12, 2, 8960, episodes=256, tokens=128, slices=8),
    "small": Size(49_152, 576, 4, 9, 3, 1536, episodes=32, tokens=32, slices=1, spread=0.06),
    "tiny": Size(240, 32, 2, 2, 1, 64, episodes=8, tokens=6, slices=1, spread=0.06),
}


def make_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """The words of Countdown, and as many others as the vocabulary has room for."""
    words = ["<pad>", "<eos>", "<unk>", *map(str, range(200)), *"+-*/=;:", "get", "again", "check", "right", "wrong"]
    every = [*words, *(f"w{number}" for number in range(vocabulary - len(words)))]
    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(every)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def sampled_tokens(states: Sequence[EpisodeState]) -> int:
    return sum(len(turn["generation"]["completion_ids"]) for state in states for turn in state["turns"])


class BusyShare:
    """Asks the driver how busy the GPU is, every quarter of a second, inside a `with` block."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._seen, self._over = device, list[tuple[float, int]](), threading.Event()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while self._device.type == "cuda" and not self._over.wait(0.25):
            try:
                self._seen.append((time.perf_counter(), torch.cuda.utilization(self._device)))
            except (ModuleNotFoundError, RuntimeError):  # nvidia-ml-py is not installed, or has no driver to ask
                return

    def percent(self, begun: float = float("-inf"), over: float = float("inf")) -> float | None:
        """The mean of what was seen between two times."""
        seen = [share for at, share in self._seen if begun <= at <= over]
        return sum(seen) / len(seen) if seen else None


class Memory:
    """GiB that torch allocated on a GPU; None elsewhere."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def begin(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()

    @property
    def peak(self) -> float | None:
        return torch.cuda.max_memory_allocated() / 2**30 if self._device.type == "cuda" else None

    @property
    def held(self) -> float | None:
        return torch.cuda.memory_allocated() / 2**30 if self._device.type == "cuda" else None


class Rows:
    """Writes rows, and prints them."""

    def __init__(self, size: str, path: Path, device: torch.device) -> None:
        self._size, self._path, self._device = size, path, device
        self._machine = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

    def add(self, what: str, seconds: float | None = None, **more: Any) -> None:
        told = {"size": self._size, "what": what, "seconds": seconds, "device": self._machine}
        row = told | {"torch": torch.__version__} | more
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        shown = [more.pop(name, None) for name in ("tokens_per_second", "gpu_percent", "peak_gib", "held_gib")]
        if "error" in more:
            more["error"] = more["error"].strip().splitlines()[-1]
        cells = "".join(f"{'-' if value is None else f'{value:.1f}':>12}" for value in shown)
        taken = "-" if seconds is None else f"{seconds:.3f}"
        print(f"{self._size:8}{what:40}{taken:>10}{cells}  {more or ''}", flush=True)

    def tried(self, what: str, measure: Callable[[], None]) -> None:
        """Measure; if that fails, the row tells how, and the next is measured all the same."""
        try:
            measure()
        except Exception:  # noqa: BLE001  # whatever it is, it is told, and other rows do not depend on it
            self.add(what, error=traceback.format_exc()[-3000:])

    def timed(self, what: str, run: Callable[[], int | None], **more: Any) -> None:
        """Time `run`, which says how many tokens it sampled."""
        memory = Memory(self._device)
        memory.begin()
        with BusyShare(self._device) as busy:
            start = time.perf_counter()
            tokens = run()
            synchronised(self._device)
            seconds = time.perf_counter() - start
        speed = None if tokens is None else tokens / seconds
        measured = {"gpu_percent": busy.percent(), "peak_gib": memory.peak, "held_gib": memory.held}
        self.add(what, seconds, tokens_per_second=speed, **measured, **more)


def synchronised(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


class Bench:
    """A model with random weights, and problems to play.

    Args:
        name: of `SIZES`.
        device: where to.
        dtype: of the weights; on the CPU all is float32.
    """

    def __init__(self, name: str, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> None:
        self.name, self.size, self.device = name, SIZES[name], device
        self.dtype = dtype if device.type == "cuda" else torch.float32
        self.model, self.tokenizer = self._model(), make_tokenizer(self.size.vocabulary)
        self.distinct = CountdownTask(4).problems("train", self.size.episodes // SAMPLES_A_PROBLEM)
        every = (problem for problem in self.distinct for _ in range(SAMPLES_A_PROBLEM))
        self.problems: list[Problem] = list(islice(every, self.size.episodes))

    def _model(self) -> LlamaForCausalLM:
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=self.size.vocabulary,
            hidden_size=self.size.hidden,
            intermediate_size=self.size.inner,
            num_hidden_layers=self.size.layers,
            num_attention_heads=self.size.heads,
            num_key_value_heads=self.size.key_heads,
            max_position_embeddings=1024,
            initializer_range=self.size.spread,
            tie_word_embeddings=True,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=None,
        )
        with self.device:
            return LlamaForCausalLM(config).to(self.dtype).eval()

    def policy(self, decoding: DecodingName, **options: Any) -> TransformersPolicy:
        return TransformersPolicy(
            self.model, self.tokenizer, max_new_tokens=self.size.tokens, decoding=decoding, **options
        )

    def play(self, policy: TransformersPolicy, sampling: Sampling | None = None) -> list[EpisodeState]:
        graph = build_graph(policy, prompts=COUNTDOWN)
        return play_sync(graph, self.problems, sampling=sampling or Sampling(), seed=1)

    def generate(self, turns: Sequence[Sequence[list[int]]], tokens: int, options: dict[str, Any]) -> int:
        """Tokens that plain `generate` samples after these prompts, a batch a turn."""
        width, total = max(len(row) for rows in turns for row in rows), 0
        for rows in turns:  # one width for all, so that a static cache is compiled once
            ids = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=self.device)
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=self.device)
            output = self.model.generate(
                input_ids=ids, attention_mask=mask, do_sample=True, top_k=0, max_new_tokens=tokens, **options
            )
            total += int((output[:, width:] != 0).sum())  # after its EOS a row is padded
        return total
