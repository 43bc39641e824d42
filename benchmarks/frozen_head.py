"""What a head on a frozen model knows of answers: of all, of those to one problem, and as what to choose by.

    python benchmarks/frozen_head.py --verifier RUN/verifiers/classifier --judge POOL --learn POOL --states FILE \\
        --out RESULT.json

Pools are files of samples as `selfcorrect train vstar` leaves them (rounds/0/samples.jsonl, held_out.jsonl), with as
many answers to each problem of `--judge`. Fitted are a head on `--learn`, one on the other problems of `--judge` (five
folds) and one on both; hidden states are kept in `--states`. Intervals are over problems: of differences the paired
normal ones, of the rest from 2,000 draws.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from transformers import AutoModel, AutoTokenizer

from selfcorrect.agents.choosing.best_of_k import best_of_k, pass_at_k, vote_at_k
from selfcorrect.agents.choosing.sample_pool import Sample, by_problem, read_pool
from selfcorrect.rewards.verifiers.encoding import ResponseEncoder
from selfcorrect.rewards.verifiers.folder import read_card
from selfcorrect.rewards.verifiers.kinds import ScoringModel
from selfcorrect.training.vstar.probing import fit_head, hidden_states

FOLDS, DRAWS = 5, 2000
Array = Any


def states_of(samples: Sequence[Sample], folder: Path, kept: Path) -> Array:
    """The hidden state (N, H) where each answer ends, as the verifier in `folder` reads it."""
    known: dict[tuple[str, str], Any] = torch.load(kept) if kept.exists() else {}
    new = {(one.id, one.text): one for one in samples if (one.id, one.text) not in known}
    if new:
        card = read_card(folder)
        encoder = ResponseEncoder(AutoTokenizer.from_pretrained(folder / "model"), card.wording)
        model = ScoringModel(AutoModel.from_pretrained(card.base, dtype=torch.float32).eval())
        read = [(key, encoder.whole(one.prompt, one.text)) for key, one in new.items()]
        ids = [(key, one.ids) for key, one in read if one is not None]
        found = hidden_states(model, [row for _, row in ids], [[len(row) - 1] for _, row in ids])
        known |= {key: state[0] for (key, _), state in zip(ids, found, strict=True)}
        torch.save(known, kept)
    return torch.stack([known[one.id, one.text] for one in samples]).double().numpy()


def outcomes(samples: Sequence[Sample]) -> Array:
    return np.array([float(bool(one.correct)) for one in samples])


def folds_of(samples: Sequence[Sample], seed: int) -> Array:
    names = list(dict.fromkeys(one.id for one in samples))
    order = np.random.default_rng(seed).permutation(len(names))
    fold = {names[place]: number % FOLDS for number, place in enumerate(order)}
    return np.array([fold[one.id] for one in samples])


def crossed(states: Array, samples: Sequence[Sample], more: tuple[Array, Sequence[Sample]] | None, seed: int) -> Array:
    """Logits of every fold under a head that was fitted to the others, and to `more`."""
    right, groups, folds = outcomes(samples), [one.id for one in samples], folds_of(samples, seed)
    logits = np.zeros(len(samples))
    for fold in range(FOLDS):
        inside = folds != fold
        known, aims = states[inside], right[inside]
        names = [name for name, kept in zip(groups, inside, strict=True) if kept]
        if more is not None:
            known, aims = np.concatenate([known, more[0]]), np.concatenate([aims, outcomes(more[1])])
            names += [one.id for one in more[1]]
        head = fit_head(known, aims, names)
        logits[~inside] = states[~inside] @ head.weight + head.bias
    return logits


def area(logits: Array, right: Array) -> float:
    """The share of pairs of a right and a wrong answer in which the right one has the higher logit."""
    rights = right > 0.5
    places, count = rankdata(logits), rights.sum()
    others = len(right) - count
    return float("nan") if not count * others else float(
        (places[rights].sum() - count * (count + 1) / 2) / (count * others)
    )  # fmt: skip


def area_within(logits: Array, right: Array) -> float:
    """The same, of pairs of answers to one problem."""
    told = [
        float(high > low) + 0.5 * float(high == low)
        for row, marks in zip(logits, right, strict=True)
        for high, good in zip(row, marks, strict=True)
        for low, other in zip(row, marks, strict=True)
        if good > other
    ]
    return float(np.mean(told)) if told else float("nan")


def interval(figure: Callable[[Array], float], problems: int, seed: int = 0) -> list[float]:
    dice = np.random.default_rng(seed)
    drawn = [figure(dice.integers(0, problems, problems)) for _ in range(DRAWS)]
    return [round(float(edge), 3) for edge in np.nanpercentile(drawn, [2.5, 97.5])]


def paired(values: Array, others: Array) -> list[float]:
    gap = np.asarray(values) - np.asarray(others)
    half = 1.96 * gap.std(ddof=1) / np.sqrt(len(gap))
    return [round(float(edge), 3) for edge in (gap.mean(), gap.mean() - half, gap.mean() + half)]


def figures(logits: Array, groups: list[list[Sample]]) -> dict[str, Any]:
    each, many = len(groups[0]), len(groups)
    rows, right = (
        logits.reshape(many, each),
        np.array([[float(bool(one.correct)) for one in group] for group in groups]),
    )
    marks = [[bool(one.correct) for one in group] for group in groups]
    ks = [k for k in (2, 4, 8, 16) if k <= each]
    best = {k: [best_of_k(list(row), mark, k) for row, mark in zip(rows, marks, strict=True)] for k in ks}
    keys = [[one.answer for one in group] for group in groups]
    votes = [vote_at_k(key, mark, each, draws=40) for key, mark in zip(keys, marks, strict=True)]
    chance = 1 / (1 + np.exp(-rows))
    weighted = [
        vote_at_k(key, mark, each, list(map(float, row)), draws=40)
        for key, mark, row in zip(keys, marks, chance, strict=True)
    ]
    single = right.mean(1)
    surest = np.argsort(-rows.ravel())
    return {
        "area": round(area(rows.ravel(), right.ravel()), 3),
        "area, interval": interval(lambda drawn: area(rows[drawn].ravel(), right[drawn].ravel()), many),
        "area within problems": round(area_within(rows, right), 3),
        "area within problems, interval": interval(lambda drawn: area_within(rows[drawn], right[drawn]), many),
        "best of k": {k: round(float(np.mean(values)), 3) for k, values in best.items()},
        "best of all minus single": paired(best[ks[-1]], single),
        "best of all minus vote": paired(best[ks[-1]], votes),
        "weighted vote": round(float(np.mean(weighted)), 3),
        "weighted vote minus vote": paired(weighted, votes),
        "Brier": round(float(((chance - right) ** 2).mean()), 3),
        "right among the surest": {
            share: round(float(right.ravel()[surest[: int(share * right.size)]].mean()), 3) for share in (0.25, 0.5)
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--verifier", "--judge", "--learn", "--states", "--out"):
        parser.add_argument(name, type=Path, required=True)
    options = parser.parse_args()
    judged, learnt = (
        [one for one in read_pool(path) if one.correct is not None] for path in (options.judge, options.learn)
    )
    states, more = (states_of(samples, options.verifier, options.states) for samples in (judged, learnt))
    groups = by_problem(judged)
    head = fit_head(more, outcomes(learnt), [one.id for one in learnt])
    own = crossed(more, learnt, None, 0)
    marks = [[bool(one.correct) for one in group] for group in groups]
    result = {
        "answers learnt from": len(learnt),
        "of them right": round(float(outcomes(learnt).mean()), 3),
        "area on their own kind, five folds": round(area(own, outcomes(learnt)), 3),
        "problems judged": len(groups),
        "single": round(float(outcomes(judged).mean()), 3),
        "any of all": round(float(np.mean([pass_at_k(mark, len(mark)) for mark in marks])), 3),
        "learnt on the others": figures(states @ head.weight + head.bias, groups),
        "on problems of these": figures(crossed(states, judged, None, 0), groups),
        "on both": figures(crossed(states, judged, (more, learnt), 0), groups),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
