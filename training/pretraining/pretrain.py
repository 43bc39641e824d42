"""Make a small policy from nothing: `python -m selfcorrect.training.pretraining.pretrain --recipe countdown --out
FOLDER`.

A small Llama learns a task in phases: solutions alone; then solutions, second answers, verdicts and hints, in which the
first answers are its own; then the same with mostly verdicts; for equations, a little of mostly second answers at last.
It ends as a base model
does: it solves about half of the problems, and its second answers break about as many first ones as they mend.
"""

import itertools
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from selfcorrect.agents.policies.pretrained import model_location
from selfcorrect.agents.prompts import record_turns
from selfcorrect.bars import no_unseen_bars
from selfcorrect.rewards.checker import Checker, judged_sync
from selfcorrect.training.pretraining.chains import ChainMixture, chains_about, grouped, of_like_length
from selfcorrect.training.pretraining.corpus import Attempted, Mixture, Text, mixed, solution
from selfcorrect.training.pretraining.learning import Report, architecture, learn
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
    """The most looks at an answer that a document of the second phase holds; above 1 it holds chains of looks, with
    solutions beside them, and is the last phase."""
    chain_rows: int = 20
    """Chains of looks per step."""
    beside_rows: int = 56
    """Solutions per step that are learnt beside them, with as much weight: so the first answer stays as good."""
    chain_verdicts: float = 0.3
    """How often a chain holds a verdict before a look; see `ChainMixture`."""
    chain_stands_by: float = 0.45
    """Share of a chain's looks that say "right" and repeat the answer."""
    chain_gaps: float = 0.5
    """Share of the chains that pretend to hold more looks than they do."""
    restated: bool = False
    """Looks of a chain say the problem again before they answer."""
    grows_over: int = 0
    """Chains over which the most looks grow from 2."""
    made_for: int = 1
    """With chains: for how many answers to a problem the policy is made, by the distances that are learnt."""
    begins_with: str = ""
    """A policy by its name or folder that goes on learning; "" begins with the first phase."""
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

LOOKS = Recipe(
    begins_with="embedded",
    looks=8,
    made_for=33,
    positions=1280,
    attempts=80_000,
    attempts_each=2,
    solution_steps=0,
    mixed_steps=8000,
    verdict_steps=0,
    mixed_learning_rate=0.012,
    chain_rows=128,
    beside_rows=128,
    chain_stands_by=0.5,
    chain_gaps=0.2,
    restated=True,
    grows_over=60_000,
)
"""`embedded-looks`: the embedded policy, gone on with for up to 32 looks at an answer. Minutes on a GPU, hours on a
CPU."""

RECIPES = {"countdown": COUNTDOWN, "equations": EQUATIONS, "looks": LOOKS}


VERDICTS = Mixture(retries=0.30, verdicts=0.55, hints=0.03)
"""The mixture of the third phase. By then the model works the step out rightly; what it must still learn is to
compare."""

RETRIES = Mixture(retries=0.80, verdicts=0.10, hints=0.03)
"""The mixture of the fourth phase, if there is one."""


def pretrain(
    recipe: Recipe,
    report: Report = print,
    *,
    first_phase: Path | None = None,
    device: str = "cpu",
    minutes: float = math.inf,
    keep: Path | None = None,
) -> tuple[Any, Any]:
    """The trained model, on `device`, and its tokenizer.

    Args:
        recipe: what to make.
        report: told of the progress, line by line.
        first_phase: keep the model of the first phase in this folder, and begin with it if it is there already.
        device: where it learns.
        minutes: after which chains end, however many steps they have made.
        keep: what has learnt chains so far is written into folders in this one, every 45 seconds.
    """
    home = HOMES[recipe.task]
    task, tokenizer = home.open(recipe.numbers), home.tokenizer(recipe.positions)
    if recipe.looks > 1:
        record_turns(tokenizer, recipe.made_for)
    model = learn_solutions(recipe, tokenizer, report, first_phase, device)
    torch.manual_seed(recipe.seed + 1)
    stream = task.stream("train", seed=recipe.seed + 2)
    problems = list(itertools.islice(stream, recipe.attempts // recipe.attempts_each)) * recipe.attempts_each
    rows = 512 if model.device.type == "cpu" else 8192
    attempted = attempts(model, tokenizer, problems, task.checker, max_new_tokens=6 * recipe.numbers, rows=rows)
    report(f"own attempts: {sum(item.correct for item in attempted) / max(1, len(attempted)):.3f} correct")
    if recipe.looks > 1:
        watch = None if keep is None else _Keeper(keep, model, tokenizer)
        _learn_chains(recipe, model, tokenizer, attempted, report, minutes, watch)
        return model, tokenizer
    for steps, mixture, rate in _later_phases(recipe):
        documents = _again_and_again(attempted, mixture, random.Random(recipe.seed + steps), home.look)
        learn(model, tokenizer, documents, rows=recipe.rows, steps=steps, learning_rate=rate, report=report)
    return model, tokenizer


KEPT_EVERY = 45.0
"""Seconds."""


@dataclass
class _Keeper:
    """Writes a model that is learning into folders named by its steps."""

    folder: Path
    model: Any
    tokenizer: Any
    last: float = field(default_factory=time.perf_counter)

    def __call__(self, step: int) -> None:
        if time.perf_counter() - self.last < KEPT_EVERY:
            return
        self.last = time.perf_counter()
        unfinished, whole = self.folder / f".step-{step}", self.folder / f"step-{step}"
        self.model.save_pretrained(unfinished)
        self.tokenizer.save_pretrained(unfinished)
        unfinished.rename(whole)


def _learn_chains(
    recipe: Recipe,
    model: Any,
    tokenizer: Any,
    attempted: Sequence[Attempted],
    report: Report,
    minutes: float,
    watch: Callable[[int], None] | None,
) -> None:
    """The second phase of a policy for many looks: chains, and fresh solutions beside them."""
    home, rng = HOMES[recipe.task], random.Random(recipe.seed + recipe.mixed_steps)
    mixture = ChainMixture(
        looks=recipe.looks,
        verdicts=recipe.chain_verdicts,
        stands_by=recipe.chain_stands_by,
        gaps=recipe.chain_gaps,
        farthest=recipe.made_for - 1,
        restated=recipe.restated,
        grows_over=recipe.grows_over,
    )
    chains = chains_about(grouped(attempted), mixture, rng, home.look)
    fresh = map(solution, home.open(recipe.numbers).stream("train", seed=recipe.seed + 3))
    learn(
        model,
        tokenizer,
        of_like_length(chains, recipe.chain_rows, rng),
        rows=recipe.chain_rows,
        steps=recipe.mixed_steps,
        learning_rate=recipe.mixed_learning_rate,
        report=report,
        beside=(fresh, recipe.beside_rows),
        minutes=minutes,
        watch=watch,
    )


def _later_phases(recipe: Recipe) -> list[tuple[int, Mixture, float]]:
    """Steps, documents and learning rate of the phases that follow the solutions."""
    rate = recipe.mixed_learning_rate
    phases = [(recipe.mixed_steps, Mixture(), rate), (recipe.verdict_steps, VERDICTS, rate)]
    return [*phases, (recipe.retry_steps, RETRIES, rate / 3)]


def learn_solutions(recipe: Recipe, tokenizer: Any, report: Report, folder: Path | None, device: str = "cpu") -> Any:
    """The model after the first phase: it knows solutions, but no second turn. Or the policy that the recipe begins
    with."""
    from transformers import LlamaForCausalLM

    if recipe.begins_with:
        return LlamaForCausalLM.from_pretrained(
            model_location(recipe.begins_with), max_position_embeddings=recipe.positions
        ).to(device)
    if folder is not None and (folder / "config.json").exists():
        return LlamaForCausalLM.from_pretrained(folder, max_position_embeddings=recipe.positions).to(device)
    torch.manual_seed(recipe.seed)
    model = LlamaForCausalLM(architecture(recipe, tokenizer)).to(device)
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
        asked = [problem.prompt for problem in chunk]
        shown = tokenizer(asked, return_tensors="pt", return_token_type_ids=False).to(model.device)
        with torch.no_grad():
            ids = model.generate(
                **shown, max_new_tokens=max_new_tokens, do_sample=True, temperature=1.0, top_k=None, top_p=1.0
            )
        for problem, row in zip(chunk, ids[:, shown["input_ids"].shape[1] :].cpu(), strict=True):
            text = tokenizer.decode(row).split(EOS)[0].strip()
            made.append(Attempted(problem, text, judged_sync(checker, text, problem.reference, problem.prompt).correct))
    model.train()
    return made


def _again_and_again(
    attempted: Sequence[Attempted], mixture: Mixture, rng: random.Random, look: SecondLook
) -> Iterator[Text]:
    while True:
        yield from mixed(attempted, mixture, rng, look)


@no_unseen_bars()
def main(arguments: Sequence[str] | None = None) -> None:
    """Pre-train by a recipe and write the model, its tokenizer and the recipe to a folder."""
    import argparse
    import json

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", "--task", dest="recipe", choices=sorted(RECIPES), default="countdown")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first-phase", type=Path, help="keep the first phase here, or begin with it")
    parser.add_argument("--device", help="where it learns; default: the CPU")
    parser.add_argument("--minutes", type=float, help="of a recipe of chains: end then, however many steps were made")
    parser.add_argument(
        "--keep", type=Path, help="of a recipe of chains: keep what it is so far in folders in this one"
    )
    for one in fields(Recipe):
        if one.name != "task":
            kind = type(one.default)
            how: dict[str, Any] = {"action": argparse.BooleanOptionalAction} if kind is bool else {"type": kind}
            parser.add_argument(f"--{one.name.replace('_', '-')}", help="default: the task's own", **how)
    chosen = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    out = chosen.pop("out")
    where = {name: chosen.pop(name) for name in ("first_phase", "device", "minutes", "keep") if name in chosen}
    recipe = replace(RECIPES[chosen.pop("recipe")], **chosen)
    start = time.perf_counter()
    model, tokenizer = pretrain(recipe, lambda line: print(line, flush=True), **where)
    seconds = time.perf_counter() - start
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    made: dict[str, Any] = {name: where[name] for name in ("device", "minutes") if name in where}
    made["seconds"] = round(seconds)
    (out / "recipe.json").write_text(json.dumps(asdict(recipe) | made, indent=2) + "\n")
    print(f"written to {out} after {seconds / 60:.1f} minutes")


if __name__ == "__main__":
    main()
