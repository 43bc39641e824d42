"""Make the embedded policy from nothing: `python -m selfcorrect.training.pretraining.pretrain --out FOLDER`.

A small Llama learns Countdown in three phases: solutions alone; then solutions, second answers, verdicts and hints, in which the
first answers are its own; then the same with mostly verdicts. It ends as a base model does: it solves about half of the problems, and its second answers break
about as many first ones as they mend.
"""

import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selfcorrect.rewards.countdown import CountdownChecker
from selfcorrect.tasks.countdown import CountdownTask
from selfcorrect.training.pretraining.corpus import Attempted, Document, Mixture, mixed, solution
from selfcorrect.training.pretraining.vocabulary import EOS, make_tokenizer, vocabulary

Report = Callable[[str], None]

VERDICTS = Mixture(retries=0.30, verdicts=0.55, hints=0.03)
"""The mixture of the third phase. By then the model works the step out rightly; what it must still learn is to compare."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the result, besides the library's versions."""

    numbers: int = 4
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
    attempts: int = 40_000
    """The model's own attempts that the second phase uses."""
    learning_rate: float = 0.02
    """Of Muon, for the weight matrices; embeddings and norms take AdamW at 0.15 of it."""
    mixed_learning_rate: float = 0.015
    seed: int = 0


def pretrain(recipe: Recipe, report: Report = print, *, first_phase: Path | None = None) -> tuple[Any, Any]:
    """The trained model and its tokenizer.

    Args:
        recipe: what to make.
        report: told of the progress, line by line.
        first_phase: keep the model of the first phase in this folder, and begin with it if it is there already.
    """
    tokenizer = make_tokenizer()
    model = learn_solutions(recipe, tokenizer, report, first_phase)
    torch.manual_seed(recipe.seed + 1)
    problems = CountdownTask(recipe.numbers).stream("train", seed=recipe.seed + 2)
    attempted = attempts(model, tokenizer, list(itertools.islice(problems, recipe.attempts)))
    report(f"own attempts: {sum(item.correct for item in attempted) / max(1, len(attempted)):.3f} correct")
    _learn_mixed(model, tokenizer, attempted, recipe, recipe.mixed_steps, Mixture(), report)
    _learn_mixed(model, tokenizer, attempted, recipe, recipe.verdict_steps, VERDICTS, report)
    return model, tokenizer


def _learn_mixed(
    model: Any, tokenizer: Any, attempted: Sequence[Attempted], recipe: Recipe, steps: int, mixture: Mixture, report: Report
) -> None:
    documents = _again_and_again(attempted, mixture, random.Random(recipe.seed + steps))
    _learn(model, tokenizer, documents, recipe, steps, recipe.mixed_learning_rate, report)


def learn_solutions(recipe: Recipe, tokenizer: Any, report: Report, folder: Path | None) -> Any:
    """The model after the first phase: it knows solutions, but no second turn."""
    from transformers import LlamaForCausalLM

    if folder is not None and (folder / "config.json").exists():
        return LlamaForCausalLM.from_pretrained(folder)
    torch.manual_seed(recipe.seed)
    model = LlamaForCausalLM(_architecture(recipe, tokenizer))
    report(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    problems = CountdownTask(recipe.numbers).stream("train", seed=recipe.seed + 1)
    solutions = (solution(problem) for problem in problems)
    _learn(model, tokenizer, solutions, recipe, recipe.solution_steps, recipe.learning_rate, report)
    if folder is not None:
        model.save_pretrained(folder)
    return model


def _architecture(recipe: Recipe, tokenizer: Any) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=len(vocabulary()),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def attempts(model: Any, tokenizer: Any, problems: Sequence[Any], *, rows: int = 512) -> list[Attempted]:
    """One attempt of the model at each problem, sampled at temperature 1."""
    checker, made = CountdownChecker(), []
    model.eval()
    for start in range(0, len(problems), rows):
        chunk = problems[start : start + rows]
        shown = tokenizer([problem.prompt for problem in chunk], return_tensors="pt", return_token_type_ids=False)
        with torch.no_grad():
            ids = model.generate(**shown, max_new_tokens=24, do_sample=True, temperature=1.0, top_k=None, top_p=1.0)
        for problem, row in zip(chunk, ids[:, shown["input_ids"].shape[1] :], strict=True):
            text = tokenizer.decode(row).split(EOS)[0].strip()
            made.append(Attempted(problem, text, checker.check_sync(text, problem.reference).correct))
    model.train()
    return made


def _again_and_again(attempted: Sequence[Attempted], mixture: Mixture, rng: random.Random) -> Iterator[Document]:
    while True:
        yield from mixed(attempted, mixture, rng)


def _learn(
    model: Any,
    tokenizer: Any,
    documents: Iterator[Document],
    recipe: Recipe,
    steps: int,
    learning_rate: float,
    report: Report,
) -> None:
    """`steps` updates; the learning rate rises over 50 steps and falls to 0 over the second half."""
    optimisers = _optimisers(model, learning_rate)
    rates = [[group["lr"] for group in optimiser.param_groups] for optimiser in optimisers]
    losses: list[float] = []
    start = time.perf_counter()
    for step in range(1, steps + 1):
        share = min(1.0, step / 50) * min(1.0, (steps - step + 1) / (steps * 0.5))
        for optimiser, peaks in zip(optimisers, rates, strict=True):
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * share
        ids, learnt = collate(tokenizer, list(itertools.islice(documents, recipe.rows)))
        losses.append(_update(model, optimisers, ids, learnt))
        if step % 100 == 0 or step == steps:
            report(f"step {step}/{steps}: loss {sum(losses) / len(losses):.4f}, {time.perf_counter() - start:.0f} s")
            losses.clear()


def _optimisers(model: Any, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the weight matrices, AdamW for embeddings and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.0, momentum=0.95),
        torch.optim.AdamW(others, lr=0.15 * learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def collate(tokenizer: Any, documents: Sequence[Document]) -> tuple[Tensor, Tensor]:
    """Token ids (R, T), right-padded, and which of them are learnt (R, T) as 0.0 or 1.0."""
    context = [tokenizer.encode(document.context) for document in documents]
    whole = [tokenizer.encode(f"{document.context} {document.continuation} {EOS}") for document in documents]
    length = max(map(len, whole))
    ids = torch.full((len(whole), length), tokenizer.pad_token_id)
    learnt = torch.zeros(len(whole), length)
    for row, (shown, document) in enumerate(zip(context, whole, strict=True)):
        ids[row, : len(document)] = torch.tensor(document)
        learnt[row, len(shown) : len(document)] = 1.0
    return ids, learnt


def _update(model: Any, optimisers: Sequence[torch.optim.Optimizer], ids: Tensor, learnt: Tensor) -> float:
    logits = model(input_ids=ids).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    loss = (losses.view(len(ids), -1) * learnt[:, 1:]).sum() / learnt.sum()
    for optimiser in optimisers:
        optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimiser in optimisers:
        optimiser.step()
    return float(loss.detach())


def main() -> None:
    """Pre-train with the recipe above and write the model, its tokenizer and the recipe to a folder."""
    import argparse
    import json

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first-phase", type=Path, help="keep the first phase here, or begin with it")
    defaults = Recipe()
    for name in ("solution_steps", "mixed_steps", "verdict_steps", "attempts", "numbers", "seed"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(defaults, name))
    chosen = vars(parser.parse_args())
    out, first_phase = chosen.pop("out"), chosen.pop("first_phase")
    recipe = Recipe(**chosen)
    start = time.perf_counter()
    model, tokenizer = pretrain(recipe, lambda line: print(line, flush=True), first_phase=first_phase)
    seconds = time.perf_counter() - start
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "recipe.json").write_text(json.dumps(asdict(recipe) | {"seconds": round(seconds)}, indent=2) + "\n")
    print(f"written to {out} after {seconds / 60:.1f} minutes")


if __name__ == "__main__":
    main()
