"""A process verifier (PRM): a head that says after every step how often answers that begin so come out right."""

import math
from collections.abc import Sequence

from selfcorrect.rewards.verifier import VerifierScore
from selfcorrect.rewards.verifiers.encoding import Encoded
from selfcorrect.rewards.verifiers.folder import Reduction
from selfcorrect.rewards.verifiers.head_verifier import HeadVerifier
from selfcorrect.rewards.verifiers.model_verifier import padded, reading


class StepwiseVerifier(HeadVerifier):
    """Scores every step as Math-Shepherd does (Wang et al. 2024, arXiv 2312.08935): by the success frequency of continuations.

    A response's score is the last step's (Snell et al. 2024 found that best), the lowest or the product, as the card's `reduction`
    says. With "last", an unfinished response is scored by how promising it is, and a finished one by whether it is right.
    """

    async def step_scores(self, prompt: str, response: str) -> list[VerifierScore]:
        """See `StepVerifier.step_scores`; [] for a response without steps, [None, ...] for one that cannot be read."""
        encoded = self._encode(prompt, response)
        if encoded is None:
            steps = response.split(self.card.wording.separator.strip())
            return [self._counted(None) for step in steps if step.strip()]
        with reading(self._models()):
            logits = [self._counted(logit) for logit in self._step_logits([encoded])[0]]
        return [None if logit is None else self.platt.probability(logit) for logit in logits]

    def _encode(self, prompt: str, response: str) -> Encoded | None:
        return self.encoder.stepwise(prompt, response)

    def _read(self, batch: Sequence[Encoded]) -> list[float]:
        return [reduced(logits, self.card.reduction) for logits in self._step_logits(batch)]

    def _step_logits(self, batch: Sequence[Encoded]) -> list[list[float]]:
        ids, mask = padded([one.ids for one in batch], device=self.model.body.device)
        logits = self.model(ids, mask).tolist()
        return [[row[end] for end in one.step_ends] for row, one in zip(logits, batch, strict=True)]


def reduced(logits: Sequence[float], reduction: Reduction) -> float:
    """The logit of a whole response from those of its steps; nan if one of them is."""
    if any(map(math.isnan, logits)):
        return math.nan
    if reduction == "last":
        return logits[-1]
    if reduction == "min":
        return min(logits)
    # log of the product of the steps' probabilities, each -softplus(-logit)
    log_product = -sum(max(-logit, 0.0) + math.log1p(math.exp(-abs(logit))) for logit in logits)
    return log_product - math.log(-math.expm1(log_product)) if log_product < 0 else math.inf
