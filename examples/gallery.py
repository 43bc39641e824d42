"""What the examples share: a small model that is warmed up on traces of an example's own language, and one command that
trains it inside the example's graph and measures it before and after."""

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from selfcorrect import GREEDY, Policy, Problem, TransformersPolicy, TurnPPOConfig, train
from selfcorrect.agents import Message, PolicyCall
from selfcorrect.training import ProgressSink

PAD, EOS = "<pad>", "<eos>"
NAMES_OF_PEOPLE = (
    "ada", "ben", "cleo", "dan", "eve", "finn", "gus", "hana", "ida", "jon", "kim", "lea", "max", "nora", "otto",
    "pia", "quinn", "rosa", "sam", "tess", "ugo", "vera", "will", "xena", "yan", "zoe", "alba", "bram", "cora", "dirk",
)  # fmt: skip
"""Whom questions are about."""

Optimiser = Literal["adamw", "muon"]
Trace = tuple[str, str]
"""What a node shows the policy, and what the policy may say to it."""
Rewards = list[float | None]


@dataclass(frozen=True)
class Example:
    """A graph, its problems, and what is paid in it.

    Attributes:
        name: of its folder.
        words: all that is ever shown or written, one token a word.
        traces: prompts and continuations for the warm-up, without end, by seed; some of the continuations are wrong.
        build: the compiled graph around a policy.
        known, held_out: the problems to train on, and others.
        inputs: the graph's input for a problem.
        paid: the reward of each call for its own work.
        outcome: from the final state, what the whole episode is worth, in [0, 1]: what `broadcast` pays every call.
        warm_up_by: see `warm_up`.
        trainable: names of the nodes that learn; None is all.
        chat_template: of the tokenizer, for graphs that speak in messages; None writes messages one after the other.
    """

    name: str
    words: Sequence[str]
    traces: Callable[[int], Iterator[Trace]]
    build: Callable[[Policy], Any]
    known: Sequence[Problem]
    held_out: Sequence[Problem]
    inputs: Callable[[Problem], dict[str, Any]]
    paid: Callable[[Any, Sequence[PolicyCall], Problem], Rewards]
    outcome: Callable[[Any, Problem], float]
    max_new_tokens: int = 8
    warm_up_steps: int = 200
    warm_up_by: Optimiser = "adamw"
    batches: int = 40
    learning_rate: float = 1e-3
    trainable: frozenset[str] | None = None
    chat_template: str | None = None

    def broadcast(self, state: Any, calls: Sequence[PolicyCall], problem: Problem) -> Rewards:
        """One reward for all: every call is paid what the episode is worth."""
        return [self.outcome(state, problem)] * len(calls)

    def warmed_up(self, *, seed: int, steps: int | None = None) -> TransformersPolicy:
        """A small model that speaks the example's language, often wrongly. Then it can learn."""
        torch.manual_seed(seed)
        words = tokenizer(self.words, self.chat_template)
        policy = untrained(words, max_new_tokens=self.max_new_tokens)
        wanted = self.warm_up_steps if steps is None else steps
        warm_up(policy, self.traces(seed), steps=wanted, by=self.warm_up_by)
        return policy


def ask(policy: Policy) -> Callable[[str], Any]:
    """A function that shows `policy` a text and awaits what it writes; greedy in use, sampled while it trains."""

    async def asked(text: str) -> str:
        said = (await policy.generate([Message(role="user", content=text)], GREEDY))["text"]
        return str(said)

    return asked


def tokenizer(words: Iterable[str], chat_template: str | None = None) -> Any:
    """One token a word; any other word is read as the end mark."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    known = {word: number for number, word in enumerate(dict.fromkeys([PAD, EOS, *" ".join(words).split()]))}
    inner = Tokenizer(WordLevel(known, unk_token=EOS))
    inner.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token=PAD, eos_token=EOS, unk_token=EOS, padding_side="left",
        chat_template=chat_template,
    )  # fmt: skip


def untrained(words: Any, *, hidden: int = 64, layers: int = 2, max_new_tokens: int = 24) -> TransformersPolicy:
    """A random model of about `hidden` ** 2 * 10 * `layers` parameters, for a tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    return TransformersPolicy(LlamaForCausalLM(config), words, max_new_tokens=max_new_tokens)


def warm_up(
    policy: TransformersPolicy,
    traces: Iterator[Trace],
    *,
    steps: int,
    rows: int = 64,
    by: Optimiser = "adamw",
    learning_rate: float | None = None,
) -> None:
    """Supervised steps on traces: the loss is on the continuations.

    Args:
        by: with Muon, of torch 2.9, a small model learns to copy what it is shown in half the steps: of the queries of
            the SQL example 0.96 were right but for its traces' habits after 225, by AdamW 0.34 after 450, which wrote
            the same number whatever the question said.
        learning_rate: at its highest; None is 0.02 for Muon, 0.003 for AdamW.
    """
    optimisers = _optimisers(policy.model, by, learning_rate)
    rates = [[group["lr"] for group in optimiser.param_groups] for optimiser in optimisers]
    for step in range(steps):
        share = min(1.0, (step + 1) / 20, 2 * (steps - step) / steps)
        for optimiser, highest in zip(optimisers, rates, strict=True):
            optimiser.zero_grad()
            for group, rate in zip(optimiser.param_groups, highest, strict=True):
                group["lr"] = rate * share
        _loss(policy, [next(traces) for _ in range(rows)]).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()


def _optimisers(model: Any, by: Optimiser, learning_rate: float | None) -> list[torch.optim.Optimizer]:
    """AdamW; or Muon for the matrices, and AdamW for embeddings and norms."""
    if by == "adamw":
        return [torch.optim.AdamW(model.parameters(), lr=learning_rate or 3e-3, weight_decay=0.0)]
    rate, named = learning_rate or 2e-2, list(model.named_parameters())
    matrices = [weight for name, weight in named if weight.ndim == 2 and "embed" not in name]
    others = [weight for name, weight in named if weight.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.0, momentum=0.95),
        torch.optim.AdamW(others, lr=0.15 * rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _loss(policy: TransformersPolicy, batch: Sequence[Trace]) -> torch.Tensor:
    encode = policy.tokenizer.encode
    shown = [encode(prompt, add_special_tokens=False) for prompt, _ in batch]
    ended = [encode(text, add_special_tokens=False) + [policy.tokenizer.eos_token_id] for _, text in batch]
    length = max(len(prompt) + len(text) for prompt, text in zip(shown, ended, strict=True))
    ids = torch.full((len(batch), length), policy.tokenizer.pad_token_id)
    labels = torch.full((len(batch), length), -100)
    for row, (prompt, text) in enumerate(zip(shown, ended, strict=True)):
        ids[row, : len(prompt) + len(text)] = torch.tensor([*prompt, *text])
        labels[row, len(prompt) : len(prompt) + len(text)] = torch.tensor(text)
    loss: torch.Tensor = policy.model(input_ids=ids, labels=labels).loss
    return loss


async def outcomes(example: Example, graph: Any, problems: Sequence[Problem] | None = None) -> list[float]:
    """What greedy episodes of the held-out problems, or of `problems`, are worth: the graph as it is used."""
    asked = example.held_out if problems is None else problems
    states = await asyncio.gather(*(graph.ainvoke(example.inputs(problem)) for problem in asked))
    return [example.outcome(state, problem) for state, problem in zip(states, asked, strict=True)]


def trained(
    example: Example, policy: TransformersPolicy, out: Path, *, seed: int, batches: int, broadcast: bool,
    problems: int = 16, minibatches: int = 4, progress: ProgressSink | None = None,
    held_out: Sequence[Problem] | None = None,
) -> Any:  # fmt: skip
    """Train `policy` in the example's graph: batches of `problems` problems with 8 episodes each."""
    config = TurnPPOConfig(
        output_dir=out, steps=batches, problems_per_step=problems, episodes_per_problem=8, minibatches=minibatches,
        learning_rate=example.learning_rate, seed=seed, save_every=0,
    )  # fmt: skip
    return train(
        example.build(policy), example.known, policy=policy, config=config, inputs=example.inputs, kl=0.0,
        reward_fn=example.broadcast if broadcast else example.paid, trainable=example.trainable,
        held_out=example.held_out if held_out is None else held_out, progress=progress,
    )  # fmt: skip


def main(example: Example) -> None:
    """The command of an example: warm up, measure, train, measure again."""
    parser = argparse.ArgumentParser(prog=f"python -m {example.name}")
    parser.add_argument("--out", type=Path, default=Path("runs") / example.name)
    parser.add_argument("--warm-up", type=int, default=example.warm_up_steps, help="supervised steps")
    parser.add_argument("--batches", type=int, default=example.batches, help="batches of 128 episodes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--broadcast", action="store_true", help="pay every call what the whole episode is worth")
    chosen = parser.parse_args()
    began = time.monotonic()
    policy = example.warmed_up(seed=chosen.seed, steps=chosen.warm_up)
    graph = example.build(policy)
    first = mean(asyncio.run(outcomes(example, graph)))
    run = trained(
        example, policy, chosen.out, seed=chosen.seed, batches=chosen.batches, broadcast=chosen.broadcast
    )  # fmt: skip
    last = mean(asyncio.run(outcomes(example, graph)))
    told = {
        "example": example.name, "seed": chosen.seed, "broadcast": chosen.broadcast,
        "outcome": [first, last], "before": _paid_shown(run.before), "after": _paid_shown(run.after),
        "tokens": sum(step["tokens"] for step in run.steps), "seconds": round(time.monotonic() - began),
    }  # fmt: skip
    (chosen.out / "gallery.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    for label, outcome, figures in (("before", first, run.before), ("after", last, run.after)):
        shown = "  ".join(f"{name} {value:.2f}" for name, value in _paid_shown(figures).items())
        print(f"{label}: outcome {outcome:.3f}  {shown}")


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _paid_shown(figures: Mapping[str, float]) -> dict[str, float]:
    """The mean reward of each call, by node and turn."""
    return {name.removeprefix("reward/"): value for name, value in figures.items() if name.startswith("reward/")}
