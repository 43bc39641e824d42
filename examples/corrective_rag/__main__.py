"""Train a random model in the graph, and measure it before and after: `python -m corrective_rag` in `examples`."""

import argparse
from pathlib import Path

import torch
from sql_repair.warm_up import tokenizer, untrained

from corrective_rag.data import split, vocabulary
from corrective_rag.graph import broadcast, build, paid, question
from selfcorrect import TurnPPOConfig, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/corrective_rag"))
    parser.add_argument("--batches", type=int, default=60, help="batches of episodes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--broadcast", action="store_true", help="pay every call what the answer is")
    chosen = parser.parse_args()
    torch.manual_seed(chosen.seed)
    policy = untrained(tokenizer(vocabulary()), max_new_tokens=2)
    config = TurnPPOConfig(
        output_dir=chosen.out, steps=chosen.batches, problems_per_step=8, episodes_per_problem=16,
        learning_rate=2e-3, minibatches=2, seed=chosen.seed,
    )  # fmt: skip
    known, held_out = split()
    reward_fn = broadcast if chosen.broadcast else paid
    trained = train(
        build(policy), known, policy=policy, reward_fn=reward_fn, inputs=question, config=config, kl=0.0,
        held_out=held_out,
    )  # fmt: skip
    for label, figures in (("before", trained.before), ("after", trained.after)):
        shown = {name: value for name, value in figures.items() if name.startswith("reward/")}
        print(f"{label}:", " ".join(f"{name.removeprefix('reward/')} {value:.2f}" for name, value in shown.items()))
    for step in (trained.steps[0], trained.steps[-1]):
        shown = {name: value for name, value in step.items() if name.startswith("reward/")}
        print(step["step"], " ".join(f"{name.removeprefix('reward/')} {value:.2f}" for name, value in shown.items()))


if __name__ == "__main__":
    main()
