"""Make a small policy from nothing: `python -m selfcorrect.training.pretraining.pretrain --recipe countdown --out
FOLDER`.

A small Llama learns a task in phases: solutions alone; then solutions, second answers, verdicts and hints, in which the
first answers are its own; then the same with mostly verdicts; for equations, a little of mostly second answers at last.
It ends as a base model
does: it solves about half of the problems, and its second answers break about as many first ones as they mend.
"""

import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from selfcorrect.rewards.checker import Checker, judged_sync
from selfcorrect.training.pretraining.chains import ChainMixture, chains_and_others, grouped, of_like_length
from selfcorrect.training.pretraining.corpus import (
    Attempted,
    Mixture,
    Report,
    Text,
    architecture,
    learn,
    mixed,
    solution,
)
from selfcorrect.training.pretraining.second_looks import EOS, HOMES, SecondLook

# Everything that decides what the pre-training makes, besides the versions of the libraries.


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
    """A fourth phase, of mostly second answers at a third of the rate: where verdicts taught the policy to act on what
    it sees, it unlearns that again."""
    attempts: int = 40_000
    """The model's own attempts that the second phase uses."""
    attempts_each: int = 1
    """How many of them are at the same problem: chains of looks need several."""
    looks: int = 1
    """The most looks at an answer that a document of the later phases holds."""
    chain_rows: int = 64
    """Documents per step where they are chains of looks, which are longer."""
    positions: int = 256
    """Tokens of the longest text that the model is for."""
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

LOOKS = Recipe(looks=8, attempts_each=4, positions=1024, mixed_steps=1200, verdict_steps=400)
"""As the embedded policy, for up to 32 looks at an answer."""

RECIPES = {"countdown": COUNTDOWN, "equations": EQUATIONS, "looks": LOOKS}


VERDICTS = Mixture(retries=0.30, verdicts=0.55, hints=0.03)
"""The mixture of the third phase. By then the model works the step out rightly; what it must still learn is to
compare."""

RETRIES = Mixture(retries=0.80, verdicts=0.10, hints=0.03)
"""The mixture of the fourth phase, if there is one."""


def pretrain(recipe: Recipe, report: Report = print, *, first_phase: Path | None = None) -> tuple[Any, Any]:
    """The trained model and its tokenizer.

    Args:
        recipe: what to make.
        report: told of the progress, line by line.
        first_phase: keep the model of the first phase in this folder, and begin with it if it is there already.
    """
    home = HOMES[recipe.task]
    task, tokenizer = home.open(recipe.numbers), home.tokenizer(recipe.positions)
    model = learn_solutions(recipe, tokenizer, report, first_phase)
    torch.manual_seed(recipe.seed + 1)
    stream = task.stream("train", seed=recipe.seed + 2)
    problems = list(itertools.islice(stream, recipe.attempts // recipe.attempts_each)) * recipe.attempts_each
    attempted = attempts(model, tokenizer, problems, task.checker, max_new_tokens=6 * recipe.numbers)
    report(f"own attempts: {sum(item.correct for item in attempted) / max(1, len(attempted)):.3f} correct")
    corpus = _later_corpus(recipe, attempted, home.look)
    rows = recipe.rows if recipe.looks == 1 else recipe.chain_rows
    for steps, mixture, rate in _later_phases(recipe):
        documents = corpus(mixture, random.Random(recipe.seed + steps))
        learn(model, tokenizer, documents, rows=rows, steps=steps, learning_rate=rate, report=report)
    return model, tokenizer


def _later_phases(recipe: Recipe) -> list[tuple[int, Mixture, float]]:
    """Steps, documents and learning rate of the phases that follow the solutions."""
    rate = recipe.mixed_learning_rate
    phases = [(recipe.mixed_steps, Mixture(), rate), (recipe.verdict_steps, VERDICTS, rate)]
    return [*phases, (recipe.retry_steps, RETRIES, rate / 3)]


def learn_solutions(recipe: Recipe, tokenizer: Any, report: Report, folder: Path | None) -> Any:
    """The model after the first phase: it knows solutions, but no second turn."""
    from transformers import LlamaForCausalLM

    if folder is not None and (folder / "config.json").exists():
        return LlamaForCausalLM.from_pretrained(folder, max_position_embeddings=recipe.positions)
    torch.manual_seed(recipe.seed)
    model = LlamaForCausalLM(architecture(recipe, tokenizer))
    report(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    problems = HOMES[recipe.task].open(recipe.numbers).stream("train", seed=recipe.seed + 1)
    learn(
        model,
        tokenizer,
        map(solution, problems),
        rows=recipe.rows,
        steps=recipe.solution_steps,
        learning_rate=recipe.learning_rate,
        report=report,
    )
    if folder is not None:
        model.save_pretrained(folder)
    return model


def attempts(
    model: Any, tokenizer: Any, problems: Sequence[Any], checker: Checker, *, max_new_tokens: int, rows: int = 512
) -> list[Attempted]:
    """One attempt of the model at each problem, sampled at temperature 1. All prompts have the same number of
    tokens."""
    made = []
    model.eval()
    for start in range(0, len(problems), rows):
        chunk = problems[start : start + rows]
        shown = tokenizer([problem.prompt for problem in chunk], return_tensors="pt", return_token_type_ids=False)
        with torch.no_grad():
            ids = model.generate(
                **shown, max_new_tokens=max_new_tokens, do_sample=True, temperature=1.0, top_k=None, top_p=1.0
            )
        for problem, row in zip(chunk, ids[:, shown["input_ids"].shape[1] :], strict=True):
            text = tokenizer.decode(row).split(EOS)[0].strip()
            made.append(Attempted(problem, text, judged_sync(checker, text, problem.reference, problem.prompt).correct))
    model.train()
    return made


def _later_corpus(
    recipe: Recipe, attempted: Sequence[Attempted], look: SecondLook
) -> Callable[[Mixture, random.Random], Iterator[Text]]:
    """The documents of a later phase, without end, by its mixture."""
    if recipe.looks == 1:
        return lambda mixture, rng: _again_and_again(attempted, mixture, rng, look)
    groups = grouped(attempted)

    def chains(mixture: Mixture, rng: random.Random) -> Iterator[Text]:
        many = ChainMixture(looks=recipe.looks, verdicts=mixture.verdicts)
        return of_like_length(chains_and_others(groups, many, mixture, rng, look), recipe.chain_rows, rng)

    return chains


def _again_and_again(
    attempted: Sequence[Attempted], mixture: Mixture, rng: random.Random, look: SecondLook
) -> Iterator[Text]:
    while True:
        yield from mixed(attempted, mixture, rng, look)


def main(arguments: Sequence[str] | None = None) -> None:
    """Pre-train by a recipe and write the model, its tokenizer and the recipe to a folder."""
    import argparse
    import json

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", "--task", dest="recipe", choices=sorted(RECIPES), default="countdown")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first-phase", type=Path, help="keep the first phase here, or begin with it")
    for field in fields(Recipe):
        if field.name != "task":
            kind = float if field.name.endswith("rate") else int
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, help="default: the task's own")
    chosen = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    out, first_phase = chosen.pop("out"), chosen.pop("first_phase", None)
    recipe = replace(RECIPES[chosen.pop("recipe")], **chosen)
    start = time.perf_counter()
    model, tokenizer = pretrain(recipe, lambda line: print(line, flush=True), first_phase=first_phase)
    seconds = time.perf_counter() - start
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "recipe.json").write_text(json.dumps(asdict(recipe) | {"seconds": round(seconds)}, indent=2) + "\n")
    print(f"written to {out} after {seconds / 60:.1f} minutes")


if __name__ == "__main__":
    main()
