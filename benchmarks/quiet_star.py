"""Quiet-STaR on chains of arithmetic whose steps are left out, against plain training and pause tokens of equal length.

    python benchmarks/quiet_star.py --seeds 0 1 2 --runs runs/quiet-star-study      # train what is missing, then
    measure python benchmarks/quiet_star.py --runs runs/quiet-star-study --only-cost        # what thinking costs

Every arm sees the same texts in the same order and begins with the same pre-trained model. Runs that are finished are
not run again, interrupted ones go on. Writes benchmarks/results/quiet_star.json and docs/quiet_star.svg.
"""

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from quiet_star_cost import cost_of_arms, growth, parallel_against_one_by_one
from quiet_star_plot import plot

from selfcorrect.agents.quiet.model import QuietModel, sampled
from selfcorrect.agents.quiet.streams import read_texts
from selfcorrect.agents.quiet.thinking import open_model
from selfcorrect.training.quiet_star.chain_model import ChainRecipe, save_chain_model
from selfcorrect.training.quiet_star.evaluation import JudgedToken, judge
from selfcorrect.training.quiet_star.learners import Learner, PlainLearner, ThinkingLearner
from selfcorrect.training.quiet_star.loss import talk_logprobs, targets_of
from selfcorrect.training.quiet_star.run import train_quiet_star
from selfcorrect.training.quiet_star.settings import (
    LossSettings,
    QuietRun,
    QuietSettings,
    StepSettings,
    ThoughtSettings,
    saved_settings,
)
from selfcorrect.training.quiet_star.texts import ASIDE_BEGINS, ASIDE_ENDS, Chain, ChainTexts, aside_of, chains, padded

ROOT = Path(__file__).parents[1]
LENGTHS = (2, 4, 8)
HELD_OUT = 1000


def arms(lengths: Sequence[int]) -> dict[str, tuple[ThoughtSettings, LossSettings]]:
    """What is compared. Thoughts are drawn twice at each position; pauses are all alike and read once."""
    marks: dict[str, Any] = {"like": (ASIDE_BEGINS, ASIDE_ENDS), "never": (ASIDE_ENDS,)}
    thinking: dict[str, Any] = {"ahead": 2, "initial_weight": 0.1}
    found = {"plain": (ThoughtSettings(kind="none"), LossSettings())}
    for tokens in lengths:
        pause = ThoughtSettings(kind="pause", tokens=tokens, per_position=1, **thinking)
        found[f"pause-{tokens}"] = (pause, LossSettings())
    for tokens in lengths:
        found[f"quiet-{tokens}"] = (ThoughtSettings(tokens=tokens, **thinking, **marks), REWARDED)
    longest = ThoughtSettings(tokens=max(lengths), **thinking, **marks)
    found[f"unrewarded-{max(lengths)}"] = (longest, LossSettings(policy_weight=0.0))
    return found


def train(name: str, base: Path, seed: int, steps: int, runs: Path, lengths: Sequence[int]) -> QuietRun:
    """The finished run of one arm and seed, trained now if it is not there."""
    thought, loss = arms(lengths)[name]
    run = QuietRun(runs / f"{name}-{seed}")
    if run.read_final() is None:
        settings = QuietSettings(
            model=str(base), thought=thought, loss=loss, optimiser=STEP, steps=steps, seed=seed, evaluation_texts=300
        )
        print(f"training {run.path}", flush=True)
        train_quiet_star(settings, out=run.path, resume=run.config_path.exists())
    return run


STEP = StepSettings(texts=16, learning_rate=2e-4, head_learning_rate=3e-3)
REWARDED = LossSettings(policy_weight=3.0)


def open_run(run: QuietRun) -> tuple[Learner, Any]:
    """The trained model of a run, ready to be judged, and its tokenizer."""
    thought = saved_settings(run.path).thought
    if thought.kind == "none":
        lm, tokenizer = open_model(run.model_path)
        return PlainLearner(lm, tokenizer), tokenizer
    model = QuietModel.load(run.model_path)
    return ThinkingLearner(model, thought, LossSettings()), model.tokenizer


def measure(run: QuietRun) -> dict[str, Any]:
    """Answers of held-out chains, by how many operations they have; and what thinking does to the other tokens."""
    learner, tokenizer = open_run(run)
    drawn = list(islice(chains(0, held_out=True), HELD_OUT))
    tokens = judge(learner, ChainTexts(tokenizer, 0).held_out(HELD_OUT))
    answers = [token for token in tokens if token.answer]
    others = [token for token in tokens if not token.answer]
    by_length: dict[int, list[JudgedToken]] = {}
    for token in answers:
        by_length.setdefault(len(drawn[token.text].values), []).append(token)
    operations = sorted(by_length.items())
    right_steps = [_said_steps(drawn[token.text], tokenizer.decode(list(token.thought)).split()) for token in answers]
    return {
        **_means(answers),
        "accuracy_by_operations": {n: statistics.fmean(token.talk_right for token in found) for n, found in operations},
        "gain_by_operations": {n: statistics.fmean(token.gain for token in found) for n, found in operations},
        "right_steps": statistics.fmean(right_steps),
        "weight_at_answers": statistics.fmean(token.weight for token in answers),
        "weight_elsewhere": statistics.fmean(token.weight for token in others),
        "gain_elsewhere": statistics.fmean(token.gain for token in others),
        "nll_elsewhere": statistics.fmean(token.talk for token in others),
        **(_sampled(learner.module, drawn) if isinstance(learner.module, QuietModel) else {}),
    }


@torch.no_grad()
def _sampled(model: QuietModel, drawn: Sequence[Chain]) -> dict[str, float]:
    """The same with thoughts sampled at temperature 1, as in training: what the answer's NLL is, and how often they
    hold the steps."""
    if model.thinking.kind == "pause":
        return {}
    texts = ChainTexts(model.tokenizer, 0).held_out(len(drawn))
    ids_BT, mask_BT = padded(texts, torch.device("cpu"))
    anchor_B1 = torch.tensor([[text.answers[0] - 1] for text in texts])
    reading = read_texts(model.lm, ids_BT, mask_BT)
    thoughts = model.think(reading, anchor_B1, sampled(torch.Generator().manual_seed(0)))
    targets = targets_of(ids_BT, mask_BT, anchor_B1, 1)
    talk = talk_logprobs(reading.logits_BTV, thoughts.logits_BNSV, thoughts.weight_BS, anchor_B1, targets)
    said = model.tokenizer.batch_decode(thoughts.ids_BSM[:, 0])
    steps = [_said_steps(chain, thought.split()) for chain, thought in zip(drawn, said, strict=True)]
    return {"nll_sampled": -float(talk.mean()), "right_steps_sampled": statistics.fmean(steps)}


def _means(answers: Sequence[JudgedToken]) -> dict[str, float]:
    return {
        "accuracy": statistics.fmean(token.talk_right for token in answers),
        "accuracy_without": statistics.fmean(token.right for token in answers),
        "nll": statistics.fmean(token.talk for token in answers),
        "nll_without": statistics.fmean(token.nll for token in answers),
        "gain": statistics.fmean(token.gain for token in answers),
    }


def _said_steps(chain: Chain, thought: Sequence[str]) -> float:
    """The share of a thought's tokens that are the running values, in their places."""
    if not thought:
        return 0.0
    wanted = aside_of(chain, len(thought)).split()
    return sum(said == value for said, value in zip(thought, wanted, strict=True)) / len(wanted)


@torch.no_grad()
def oracle(base: Path) -> dict[str, dict[str, float]]:
    """What asides given by hand do for the pre-trained model: the most that thoughts could."""
    lm, tokenizer = open_model(base)
    asides: dict[str, Any] = {"none": lambda chain: ""}
    for tokens in LENGTHS:
        asides[f"steps-{tokens}"] = lambda chain, tokens=tokens: (
            f" {ASIDE_BEGINS} {aside_of(chain, tokens)} {ASIDE_ENDS}"
        )
    found: dict[str, dict[str, float]] = {}
    for name, write in asides.items():
        nll, right = 0.0, 0
        for chain in islice(chains(0, held_out=True), HELD_OUT):
            ids = tokenizer.encode(chain.question + write(chain))
            told = torch.log_softmax(lm(input_ids=torch.tensor([ids])).logits[0, -1], dim=-1)
            answer = tokenizer.encode(str(chain.answer))[0]
            nll, right = nll - float(told[answer]), right + int(told.argmax() == answer)
        found[name] = {"nll": nll / HELD_OUT, "accuracy": right / HELD_OUT}
    return found


def summary(measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over seeds."""
    table: dict[str, Any] = {"seeds": list(measured), "mean": {}, "sd": {}}
    for name in measured[0]:
        values = [figures[name] for figures in measured]
        if all(isinstance(value, float) for value in values):
            table["mean"][name] = statistics.fmean(values)
            table["sd"][name] = statistics.stdev(values) if len(values) > 1 else math.nan
    for name in ("accuracy_by_operations", "gain_by_operations"):
        table["mean"][name] = {
            number: statistics.fmean(figures[name][number] for figures in measured) for number in measured[0][name]
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--arms", nargs="+", default=list(arms(LENGTHS)))
    parser.add_argument("--base", type=Path, help="the pre-trained model; made in --runs if it is not given")
    parser.add_argument("--runs", type=Path, default=Path("runs/quiet-star-study"))
    parser.add_argument("--only-cost", action="store_true")
    parser.add_argument("--only-finished", action="store_true", help="train nothing; measure the runs that are there")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    result_path = ROOT / "benchmarks" / "results" / "quiet_star.json"
    result: dict[str, Any] = json.loads(result_path.read_text()) if result_path.exists() else {}
    base = chosen.base or chosen.runs / "base"
    if not (base / "config.json").exists():
        save_chain_model(base, ChainRecipe())
    if chosen.only_cost:
        result["cost"] = cost_of_arms(base, arms(LENGTHS), STEP)
        result["parallel"] = parallel_against_one_by_one()
        result["growth_ms"] = growth()
    else:
        runs: dict[str, list[QuietRun]] = {name: [] for name in chosen.arms}
        for seed in chosen.seeds:
            for name in chosen.arms:
                if not chosen.only_finished or QuietRun(chosen.runs / f"{name}-{seed}").read_final() is not None:
                    runs[name].append(train(name, base, seed, chosen.steps, chosen.runs, LENGTHS))
        result |= {"steps": chosen.steps, "texts_per_step": STEP.texts, "held_out": HELD_OUT, "oracle": oracle(base)}
        measured = {name: summary([measure(run) for run in found]) for name, found in runs.items()}
        result["arms"] = result.get("arms", {}) | measured
        plot(result, {name: [run.read_metrics() for run in found] for name, found in runs.items()}, ROOT / "docs")
    result_path.write_text(json.dumps(result, indent=2) + "\n")
    for name, table in result.get("arms", {}).items():
        mean, sd = table["mean"], table["sd"]
        print(
            f"{name:14} accuracy {mean['accuracy']:.3f} ± {sd['accuracy']:.3f}  NLL {mean['nll']:.3f} ± {sd['nll']:.3f}"
        )


if __name__ == "__main__":
    main()
