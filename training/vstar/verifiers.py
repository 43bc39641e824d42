"""From labelled answers to verifiers of each kind, calibrated on problems that nothing was trained on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from selfcorrect.agents.choosing.best_of_k import pick_best
from selfcorrect.agents.choosing.sample_pool import Sample, by_problem
from selfcorrect.errors import TrainingError
from selfcorrect.rewards.verifiers.base import ModelVerifier
from selfcorrect.rewards.verifiers.encoding import Wording
from selfcorrect.rewards.verifiers.folder import Calibration, write_calibration
from selfcorrect.training.settings import Kind, VstarSettings
from selfcorrect.training.vstar.fits import StepLog
from selfcorrect.training.vstar.heads import train_head
from selfcorrect.training.vstar.pairs import outcome_labels, preference_pairs, step_labels
from selfcorrect.training.vstar.preference import train_likelihood

Answers = Sequence[tuple[float, bool]]
"""(score, correct) of answers."""


def train_verifier(
    kind: Kind,
    base: str | Path,
    samples: Sequence[Sample],
    settings: VstarSettings,
    *,
    wording: Wording,
    work: Path,
    seed: int,
    log: StepLog | None = None,
) -> ModelVerifier:
    """A verifier of `kind` that starts from `base` and learns from the labelled answers of all rounds; not calibrated
    yet.

    Raises:
        TrainingError: `samples` hold no right or no wrong answers.
        DivergenceError: the fit went wrong.
    """
    seen = _different(samples)
    if kind == "likelihood":
        pairs = preference_pairs(seen, per_problem=settings.likelihood.pairs_per_problem, seed=seed)
        return train_likelihood(base, pairs, settings.likelihood, wording=wording, work=work, seed=seed, log=log)
    if kind == "classifier":
        labels, fit = outcome_labels(seen), settings.classifier
    else:
        # all samples, not only the different ones: how often a text came is what the frequencies count
        labels, fit = step_labels(samples, separator=wording.separator), settings.stepwise
    return train_head(kind, base, labels, fit, wording=wording, work=work, seed=seed, log=log)


def calibrate(verifier: ModelVerifier, samples: Sequence[Sample], folder: Path, *, temperature: float) -> None:
    """Calibrate on fresh answers and save the verifier to `folder`, with what thresholds are chosen from.

    The first fifth of the problems fits the probabilities. The others, which that fit has not seen, are kept in the
    folder: the first answer to each problem ("attempt"), and the best-scored of all ("best_of_K"), with their scores
        and outcomes. All were sampled
    at `temperature`.

    Raises:
        TrainingError: there are fewer than five problems.
        CheckerError: the first fifth holds no right or no wrong answers.
    """
    problems = by_problem(one for one in samples if one.correct is not None)
    if len(problems) < 5:
        raise TrainingError(
            f"a verifier is calibrated on at least 5 problems, got {len(problems)}: raise calibration_problems"
        )
    fifth = len(problems) // 5
    fitting = [one for group in problems[:fifth] for one in group]
    verifier.calibrate([(one.prompt, one.text) for one in fitting], [bool(one.correct) for one in fitting])
    verifier.save(folder)
    write_calibration(folder, Calibration(temperature, chosen_answers(verifier, problems[fifth:])))


def chosen_answers(verifier: ModelVerifier, problems: Sequence[Sequence[Sample]]) -> dict[str, Answers]:
    """(score, correct) of the first and of the best-scored answer to each problem; problems without any score are
    left out."""
    scored = verifier.score_all([(one.prompt, one.text) for group in problems for one in group])
    rest = iter(scored)
    groups = [[next(rest) for _ in group] for group in problems]
    first: list[tuple[float, bool]] = []
    best: list[tuple[float, bool]] = []
    for group, scores in zip(problems, groups, strict=True):
        for kept, chosen in ((first, 0), (best, pick_best(scores))):
            score = scores[chosen]
            if score is not None:
                kept.append((score, bool(group[chosen].correct)))
    sizes = {len(group) for group in problems}
    return {"attempt": first, f"best_of_{max(sizes)}": best} if max(sizes) > 1 else {"attempt": first}


def _different(samples: Sequence[Sample]) -> list[Sample]:
    """Every different text of a problem once."""
    return list({(one.prompt, one.text): replace(one, tokens=0) for one in samples}.values())
