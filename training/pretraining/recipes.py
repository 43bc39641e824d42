"""Everything that decides what the pre-training makes, besides the versions of the libraries."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """The size of a policy and how long it learns what. The defaults are the embedded policy's."""

    task: str = "countdown"
    numbers: int = 4
    """How many numbers (countdown) or unknowns (equations) a problem has."""
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    intermediate: int = 352
    rows: int = 192
    """Documents per step."""
    solution_steps: int = 2200
    mixed_steps: int = 600
    verdict_steps: int = 300
    """The third phase, in which most documents are verdicts."""
    retry_steps: int = 0
    """A fourth phase, of mostly second answers at a third of the rate: where verdicts taught the policy to act on what it sees, it
    unlearns that again."""
    attempts: int = 40_000
    """The model's own attempts that the second phase uses."""
    learning_rate: float = 0.02
    """Of Muon, for the weight matrices; embeddings and norms take AdamW at 0.15 of it."""
    mixed_learning_rate: float = 0.015
    seed: int = 0


COUNTDOWN = Recipe()
"""The embedded policy."""

EQUATIONS = Recipe(
    task="equations",
    numbers=3,
    hidden=96,
    layers=3,
    intermediate=256,
    rows=128,
    solution_steps=800,
    mixed_steps=500,
    verdict_steps=300,
    retry_steps=80,
    attempts=20_000,
)
"""A policy for equations with three unknowns, of 0.35 million parameters."""

RECIPES = {recipe.task: recipe for recipe in (COUNTDOWN, EQUATIONS)}
