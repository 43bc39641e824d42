"""How fast are episodes played in the graph, against a plain batched `generate` of as many tokens?

    python benchmarks/rollout_speed.py                      # all sizes
    python benchmarks/rollout_speed.py --size embedded --episodes 1024 --json speed.json

Three ways to sample two turns an episode from the same model, in turns, round after round:

- graph: `play` on the graph of `build_graph`, everything included (LangGraph, rendering, decoding, log-probabilities);
- generate: transformers' own `model.generate` on the prompts that the graph showed, one call a batch and turn,
left-padded,
  sampling at temperature 1, without log-probabilities and without decoding to text;
- one by one: the graph with one episode at a time (on fewer episodes).

Models have random weights: their sizes count, their words do not. The figure of a way is its best round, because other
programs on the machine can only slow it down; all rounds are in the JSON.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from selfcorrect.agents.episodes import play_sync
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.agents.state import EpisodeState
from selfcorrect.tasks.countdown import CountdownTask


@dataclass(frozen=True)
class Size:
    """A model and the load that goes with it."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    inner: int
    episodes: int
    tokens: int
    target: float


SIZES = {
    "embedded": Size(216, 128, 4, 4, 344, episodes=256, tokens=18, target=0.6),
    "512x8": Size(8_000, 512, 8, 8, 1376, episodes=64, tokens=48, target=1.2),
    "100m": Size(32_000, 768, 12, 12, 2048, episodes=32, tokens=48, target=0.9),
}
WORDS = [
    "<pad>",
    "<eos>",
    "<unk>",
    *map(str, range(200)),
    "+",
    "-",
    "*",
    "/",
    "=",
    ";",
    ":",
    "get",
    "again",
    "check",
    "right",
    "wrong",
    "hint",
]
SAMPLES_A_PROBLEM = 8


@dataclass
class Measured:
    """Tokens per second of each way, a number a round, and what was run."""

    size: str
    parameters: int
    episodes: int
    threads: int
    graph: list[float] = field(default_factory=list)
    generate: list[float] = field(default_factory=list)
    one_by_one: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        ratio = max(self.graph) / max(self.generate)
        return asdict(self) | {"ratio": ratio, "speed_up": max(self.graph) / max(self.one_by_one)}


def make_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    words = [*WORDS, *(f"w{number}" for number in range(vocabulary - len(WORDS)))]
    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def make_model(size: Size) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


def sampled_tokens(states: list[EpisodeState]) -> int:
    return sum(len(turn["generation"]["completion_ids"]) for state in states for turn in state["turns"])


def plain_generate(model: LlamaForCausalLM, prompts: list[list[int]], tokens: int, batch: int) -> int:
    """Sample one completion for each prompt by transformers alone; the tokens up to each EOS."""
    total = 0
    for begin in range(0, len(prompts), batch):
        rows = prompts[begin : begin + batch]
        width = max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        output = model.generate(
            input_ids=ids, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, max_new_tokens=tokens
        )
        total += int((output[:, width:] != 0).sum())  # after its EOS a row is padded
    return total


def measure(name: str, episodes: int, rounds: int, max_batch: int) -> Measured:
    size = SIZES[name]
    model, tokenizer = make_model(size), make_tokenizer(size.vocabulary)
    policy = TransformersPolicy(model, tokenizer, max_new_tokens=size.tokens, max_batch=max_batch)
    graph = build_graph(policy, prompts=COUNTDOWN)
    distinct = CountdownTask().problems("train", -(-episodes // SAMPLES_A_PROBLEM))
    problems = list(islice((problem for problem in distinct for _ in range(SAMPLES_A_PROBLEM)), episodes))
    few = problems[:: max(1, episodes // 8)]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    measured = Measured(name, parameters, episodes, torch.get_num_threads())
    play_sync(graph, problems[:2], sampling=Sampling())  # imports and first-call costs are no rollout
    for seed in range(rounds):
        start = time.perf_counter()
        states = play_sync(graph, problems, sampling=Sampling(), seed=seed)
        measured.graph.append(sampled_tokens(states) / (time.perf_counter() - start))

        turns = [[state["turns"][turn]["generation"]["prompt_ids"] for state in states] for turn in range(2)]
        start = time.perf_counter()
        tokens = sum(plain_generate(model, prompts, size.tokens, max_batch) for prompts in turns)
        measured.generate.append(tokens / (time.perf_counter() - start))

        start = time.perf_counter()
        states = play_sync(graph, few, sampling=Sampling(), seed=seed, concurrency=1)
        measured.one_by_one.append(sampled_tokens(states) / (time.perf_counter() - start))
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=[*SIZES, "all"], default="all")
    parser.add_argument("--episodes", type=int, help="episodes a round; default: those of the size")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="torch threads; default is torch's own choice")
    parser.add_argument("--max-batch", type=int, default=256)
    parser.add_argument("--json", type=Path, help="write all rounds there")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    summaries = []
    print(
        f"{'model':10}{'episodes':>10}{'graph':>12}{'generate':>12}{'one by one':>12}"
        f"{'ratio':>8}{'target':>8}{'speed-up':>10}"
    )
    for name in SIZES if arguments.size == "all" else [arguments.size]:
        measured = measure(name, arguments.episodes or SIZES[name].episodes, arguments.rounds, arguments.max_batch)
        summary = measured.summary()
        ways = "".join(f"{max(way):12.0f}" for way in (measured.graph, measured.generate, measured.one_by_one))
        compared = f"{summary['ratio']:8.2f}{SIZES[name].target:8.2f}{summary['speed_up']:10.1f}"
        print(f"{name:10}{measured.episodes:10}{ways}{compared}", flush=True)
        summaries.append(summary)
    print("(tokens per second, best of the rounds; ratio = graph / generate, speed-up = graph / one by one)")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(summaries, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
