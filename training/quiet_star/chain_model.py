"""The small model that the experiments on chains begin with: `python -m selfcorrect.training.quiet_star.chain_model
--out FOLDER`.

A Llama of the embedded policy's make and vocabulary, pre-trained on plain chains and chains with asides (see `chains`).
"""

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from selfcorrect.training.pretraining.corpus import Document
from selfcorrect.training.pretraining.learning import Report, architecture, learn
from selfcorrect.training.pretraining.second_looks import make_tokenizer
from selfcorrect.training.quiet_star.texts import Shares, chains, pretraining_text

_WHOLE = 0.25
"""Share of the documents that are learnt from their first word; of the others only what follows "=", as questions
are chance."""


@dataclass(frozen=True, slots=True)
class ChainRecipe:
    """Everything that decides the model, besides the library's versions."""

    hidden: int = 64
    layers: int = 2
    heads: int = 4
    intermediate: int = 192
    rows: int = 128
    steps: int = 1500
    learning_rate: float = 0.02
    positions: int = 256
    seed: int = 0


def pretrain_on_chains(recipe: ChainRecipe, report: Report = print) -> tuple[Any, Any]:
    """The model and its tokenizer."""
    from transformers import LlamaForCausalLM

    tokenizer = make_tokenizer()
    torch.manual_seed(recipe.seed)
    model = LlamaForCausalLM(architecture(recipe, tokenizer))
    report(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    learn(
        model,
        tokenizer,
        documents(recipe.seed),
        rows=recipe.rows,
        steps=recipe.steps,
        learning_rate=recipe.learning_rate,
        report=report,
    )
    return model.eval(), tokenizer


def documents(seed: int) -> Iterator[Document]:
    """The corpus of pre-training, without end."""
    rng, shares = random.Random(f"kinds {seed}"), Shares()
    for chain in chains(seed):
        text = pretraining_text(chain, rng, shares)
        question, _, rest = text.partition(" = ")
        yield Document("", text) if rng.random() < _WHOLE else Document(f"{question} =", rest)


def save_chain_model(out: Path, recipe: ChainRecipe, report: Report = print) -> None:
    """Pre-train and write model, tokenizer and recipe to `out`."""
    import json

    model, tokenizer = pretrain_on_chains(recipe, report)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Pre-train with the recipe above and write the model to a folder."""
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=ChainRecipe().steps)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    save_chain_model(
        chosen.out, ChainRecipe(steps=chosen.steps, seed=chosen.seed), lambda line: print(line, flush=True)
    )


if __name__ == "__main__":
    main()
