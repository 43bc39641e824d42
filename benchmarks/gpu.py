"""How busy a GPU is kept: the graph, plain `generate`, static `generate`, and a PPO step by parts. One NVIDIA GPU.

    python benchmarks/gpu.py --json gpu.json       # 125 M and 1.4 B parameters in bf16; under five minutes on an H100
    python benchmarks/gpu.py --tiny --device cpu   # every line of it on a tiny model, to see that it runs

Two-turn episodes, all at once, of models with random weights: their sizes count, their words do not. "tokens/s" are
sampled tokens. The graph is played both ways of `decoding`; `generate` is transformers' own on the prompts that the
graph showed, without log-probabilities and without text:

- generate: as it comes. On NVIDIA GPUs cuDNN's attention made a plan for every length of the cache (1.3 to 1.5 ms a
  call); `TransformersPolicy` leaves it out. The row "generate, no cuDNN" is the same with it left out: if that one is
  twice as fast, the trap is there, and "graph, dynamic" has to be near the second and not near the first;
- generate, static: a compiled step with a static cache, timed after its warm-up.

GPU % is the mean of NVML's utilisation every quarter of a second, GiB the peak of what torch allocated.
"""

import argparse
import asyncio
import json
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from selfcorrect.agents.episodes import play_sync
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.pretrained import decoding_attention
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.agents.state import EpisodeState
from selfcorrect.rewards.checker import judged
from selfcorrect.tasks.countdown import CountdownTask
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.ppo.objectives import StageTwo
from selfcorrect.training.ppo.rollouts import CheckerRewards
from selfcorrect.training.ppo.trainer import TurnPPOTrainer


@dataclass(frozen=True)
class Size:
    """A model and the load that goes with it."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    key_heads: int
    inner: int
    episodes: int
    tokens: int


SIZES = {
    "125m": Size(49_152, 576, 30, 9, 3, 1536, episodes=256, tokens=128),
    "1.4b": Size(151_936, 1536, 28, 12, 2, 8960, episodes=256, tokens=128),
    "tiny": Size(240, 32, 2, 2, 1, 64, episodes=8, tokens=6),
}
SAMPLES_A_PROBLEM = 4


@dataclass(frozen=True)
class Row:
    """One measurement; a speed and a share are None where there is none to be had."""

    size: str
    what: str
    seconds: float
    tokens_per_second: float | None
    gpu_percent: float | None
    peak_gib: float | None


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
        self._device, self._seen, self._over = device, list[int](), threading.Event()

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
                self._seen.append(torch.cuda.utilization(self._device))
            except (ModuleNotFoundError, RuntimeError):  # nvidia-ml-py is not installed, or has no driver to ask
                return

    @property
    def percent(self) -> float | None:
        return sum(self._seen) / len(self._seen) if self._seen else None


class Bench:
    """Measures one size.

    Args:
        name: of `SIZES`.
        device: where to.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.name, self.size, self.device = name, SIZES[name], device
        self.model, self.tokenizer = self._model(), make_tokenizer(self.size.vocabulary)
        distinct = CountdownTask(4).problems("train", self.size.episodes // SAMPLES_A_PROBLEM)
        every = (problem for problem in distinct for _ in range(SAMPLES_A_PROBLEM))
        self.problems: list[Problem] = list(islice(every, self.size.episodes))
        self.rows: list[Row] = []

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
            tie_word_embeddings=True,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=None,
        )
        dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        with self.device:
            return LlamaForCausalLM(config).to(dtype).eval()

    def timed(self, what: str, run: Callable[[], int | None]) -> None:
        """Note a row about `run`, which says how many tokens it sampled."""
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        with BusyShare(self.device) as busy:
            start = time.perf_counter()
            tokens = run()
            if on_gpu:
                torch.cuda.synchronize()
            seconds = time.perf_counter() - start
        peak = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None
        speed = None if tokens is None else tokens / seconds
        self.rows.append(Row(self.name, what, seconds, speed, busy.percent, peak))
        print(_line(self.rows[-1]), flush=True)

    def decode(self) -> None:
        """The graph both ways, and `generate` on the prompts that it showed."""
        prompts: list[list[list[int]]] = []
        for decoding in ("dynamic", "static"):
            policy = TransformersPolicy(self.model, self.tokenizer, max_new_tokens=self.size.tokens, decoding=decoding)
            graph = build_graph(policy, prompts=COUNTDOWN)
            play = lambda graph=graph: play_sync(graph, self.problems, sampling=Sampling(), seed=1)
            states = play()  # imports, kernels, captures
            self.timed(f"graph, {decoding}", lambda play=play: sampled_tokens(play()))
            shown = [[state["turns"][turn]["generation"]["prompt_ids"] for state in states] for turn in range(2)]
            prompts = prompts or shown
            policy.forget()
        for what, options, attention in (
            ("generate", {}, nullcontext()),
            ("generate, no cuDNN", {}, decoding_attention(self.device)),
            ("generate, static", {"cache_implementation": "static"}, decoding_attention(self.device)),
        ):
            with attention:
                self.generate(prompts, options)
                self.timed(what, lambda options=options: self.generate(prompts, options))

    def generate(self, turns: Sequence[Sequence[list[int]]], options: dict[str, Any]) -> int:
        """Tokens that plain `generate` samples after these prompts, a batch a turn."""
        width, total = max(len(row) for rows in turns for row in rows), 0
        for rows in turns:  # one width for all, so that a static cache is compiled once
            ids = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=self.device)
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=self.device)
            output = self.model.generate(
                input_ids=ids, attention_mask=mask, do_sample=True, top_k=0, max_new_tokens=self.size.tokens, **options
            )
            total += int((output[:, width:] != 0).sum())  # after its EOS a row is padded
        return total

    def ppo_step(self) -> None:
        """A step of per-turn PPO by its parts, on half of the episodes."""
        episodes = self.size.episodes // 2
        policy = TransformersPolicy(self.model, self.tokenizer, max_new_tokens=self.size.tokens)
        checker, distinct = (
            CountdownTask(4).checker,
            self.problems[::SAMPLES_A_PROBLEM][: episodes // SAMPLES_A_PROBLEM],
        )
        with tempfile.TemporaryDirectory() as folder:
            trainer = TurnPPOTrainer(
                policy,
                build_graph(policy, prompts=COUNTDOWN),
                distinct,
                lambda batch: CheckerRewards(StageTwo(alpha=2.0), checker),
                TurnPPOConfig(
                    output_dir=Path(folder),
                    steps=1,
                    problems_per_step=len(distinct),
                    episodes_per_problem=SAMPLES_A_PROBLEM,
                ),
            )
            trainer.current_gradient_accumulation_steps = 1
            trainer.model.train()
            optimizer = torch.optim.AdamW(trainer.model.parameters(), lr=1e-6)
            played: list[Any] = []
            inputs: dict[str, Any] = {}

            def playing() -> int:
                every = [problem for problem in distinct for _ in range(SAMPLES_A_PROBLEM)]
                played.extend(trainer._play(every)[1])
                return sum(sampled_tokens([episode.state]) for episode in played)

            def judging() -> None:
                asyncio.run(_judge_all(checker, played))

            def scoring() -> None:
                inputs.update(trainer._tensors(played))

            def update() -> None:
                trainer._compute_loss(trainer.model, inputs).backward()
                optimizer.step()
                optimizer.zero_grad()

            self.timed("PPO: playing (and judging meanwhile)", playing)
            self.timed("PPO: judging, alone", lambda: judging())
            trainer.model.train()
            self.timed("PPO: scoring", lambda: scoring())
            self.timed("PPO: update", lambda: update())


async def _judge_all(checker: Any, episodes: Sequence[Any]) -> None:
    asked = [(turn["generation"]["text"], episode.problem) for episode in episodes for turn in episode.state["turns"]]
    await asyncio.gather(*(judged(checker, text, problem.reference, problem.prompt) for text, problem in asked))


def _line(row: Row) -> str:
    shown = [row.tokens_per_second, row.gpu_percent, row.peak_gib]
    cells = "".join(f"{'-' if value is None else f'{value:.1f}':>12}" for value in shown)
    return f"{row.size:8}{row.what:40}{row.seconds:10.2f}{cells}"


def _ratios(rows: Sequence[Row]) -> dict[str, float]:
    """Of the graph to plain `generate` as it comes, for each size and way."""
    speed = {(row.size, row.what): row.tokens_per_second for row in rows if row.tokens_per_second}
    return {
        f"{size} {what}": speed[size, what] / speed[size, "generate"]
        for size, what in speed
        if what.startswith("graph") and (size, "generate") in speed
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", choices=["125m", "1.4b"], action="append", help="may be given again; default both")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to see that everything runs")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("skipped: this machine has no NVIDIA GPU (--tiny --device cpu runs everything on a tiny model)")
        return
    rows: list[Row] = []
    print(f"{'size':8}{'what':40}{'seconds':>10}{'tokens/s':>12}{'GPU %':>12}{'peak GiB':>12}")
    for name in ["tiny"] if arguments.tiny else arguments.size or ["125m", "1.4b"]:
        bench = Bench(name, device)
        bench.decode()
        bench.ppo_step()
        rows += bench.rows
    ratios = _ratios(rows)
    print("  ".join(f"{what}: {ratio:.2f} x generate" for what, ratio in ratios.items()))
    if arguments.json is not None:
        machine = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        written = {"device": machine, "torch": torch.__version__, "rows": [asdict(row) for row in rows]}
        arguments.json.write_text(json.dumps(written | {"ratios": ratios}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
