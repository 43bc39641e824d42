"""Answer, or say that one does not know: a calibrated verifier decides, at a risk that was chosen beforehand."""

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfcorrect.agents.choosing.best_of_k import pick_best
from selfcorrect.agents.choosing.calibration import RiskThreshold, threshold_for_risk
from selfcorrect.agents.policy import Policy, Sampling, derive_seed
from selfcorrect.agents.prompts import PLAIN, Prompts
from selfcorrect.agents.state import Message, tokens_of
from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.checker import Verifier
from selfcorrect.tasks.problem import Problem

DONT_KNOW = "I don't know"


@dataclass(frozen=True)
class Decision:
    """What came of a question.

    Attributes:
        answer: the chosen answer, or None: "I don't know".
        score: of the best-scored answer; None if the verifier could read none of them.
        candidate: the best-scored answer, given or not.
        candidates: how many were sampled.
        tokens: generated in all.
    """

    answer: str | None
    score: float | None
    candidate: str
    candidates: int
    tokens: int

    def __str__(self) -> str:
        return DONT_KNOW if self.answer is None else self.answer


@dataclass(frozen=True)
class Abstaining:
    """Samples answers, lets a verifier choose, and gives the chosen one only if its score is high enough.

    Args:
        verifier: scores the answers.
        rule: from which score on they are given; its guarantee is for answers that are sampled and chosen as in the
            calibration.
        candidates: how many are sampled.
        temperature: at which.
        prompts: the words around the problem.
        max_new_tokens: of a candidate; None leaves it to the policy.
    """

    verifier: Verifier
    rule: RiskThreshold
    candidates: int = 1
    temperature: float = 1.0
    prompts: Prompts = PLAIN
    max_new_tokens: int | None = None

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        max_risk: float,
        *,
        confidence: float = 0.95,
        prompts: Prompts = PLAIN,
        policy_tokenizer: Any = None,
    ) -> "Abstaining":
        """With a trained verifier, sampling and choosing as its calibration did, with as many candidates as possible.

        Raises:
            CheckerError: the folder is no calibrated verifier's, or belongs to another tokenizer.
            ConfigurationError: the calibration answers cannot show such a low risk.
        """
        from selfcorrect.rewards.verifiers.folder import read_calibration
        from selfcorrect.rewards.verifiers.kinds import load_verifier

        calibration = read_calibration(Path(folder))
        how = max(calibration.answers, key=candidates_of)
        answers = calibration.answers[how]
        rule = threshold_for_risk(
            [score for score, _ in answers], [right for _, right in answers], max_risk, confidence=confidence
        )
        verifier = load_verifier(folder, policy_tokenizer=policy_tokenizer)
        return cls(verifier, rule, candidates_of(how), calibration.temperature, prompts)

    async def decide(self, problem: Problem, policy: Policy, *, seed: int = 0) -> Decision:
        """An answer of `policy` to `problem`, or none."""
        message = Message(role="user", content=self.prompts.attempt.replace("{problem}", problem.prompt))
        system = [Message(role="system", content=self.prompts.system)] if self.prompts.system else []
        draw = Sampling(temperature=self.temperature, max_new_tokens=self.max_new_tokens)
        draws = [draw.with_seed(derive_seed(seed, i)) for i in range(self.candidates)]
        written = await asyncio.gather(*(policy.generate([*system, message], draw) for draw in draws))
        texts = [generation["text"] for generation in written]
        scores = await self.verifier.scores(problem.prompt, texts)
        best = pick_best(scores)
        given = (score := scores[best]) is not None and score >= self.rule.threshold
        tokens = sum(map(tokens_of, written))
        return Decision(texts[best] if given else None, score, texts[best], len(texts), tokens)


def candidates_of(how: str) -> int:
    """How many candidates "attempt" or "best_of_16" chooses from.

    Raises:
        ConfigurationError: `how` is neither.
    """
    if how == "attempt":
        return 1
    match = re.fullmatch(r"best_of_(\d+)", how)
    if match is None:
        raise ConfigurationError(f"a calibration's answers are called 'attempt' or 'best_of_K', got {how!r}")
    return int(match[1])
