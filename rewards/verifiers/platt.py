"""From raw scores to probabilities: a logistic curve with two parameters.

Platt, "Probabilistic outputs for support vector machines", 1999; with the smoothed targets of its section 2.2, so that the fit
exists even where the scores separate the classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from selfcorrect.errors import CheckerError

_STEPS = 100
_SMALLEST_STEP = 1e-10


@dataclass(frozen=True, slots=True)
class Platt:
    """probability = 1 / (1 + exp(-(slope * raw + intercept)))."""

    slope: float = 1.0
    intercept: float = 0.0

    def probability(self, raw: float) -> float:
        """In [0, 1]; never overflows."""
        logit = self.slope * raw + self.intercept
        if logit >= 0:
            return 1.0 / (1.0 + math.exp(-logit))
        odds = math.exp(logit)
        return odds / (1.0 + odds)


def fit_platt(raw: Sequence[float], correct: Sequence[bool]) -> Platt:
    """The curve of highest likelihood on pairs that the verifier was not trained on.

    Raises:
        CheckerError: there are no right or no wrong answers among them, or a score is not finite.
    """
    rights = sum(correct)
    if not 0 < rights < len(correct) or len(raw) != len(correct):
        raise CheckerError(
            f"a verifier is calibrated on right and wrong answers; got {rights} right ones of {len(correct)} (and {len(raw)} scores)"
        )
    if not all(map(math.isfinite, raw)):
        raise CheckerError("a verifier is calibrated on finite scores; leave out the answers on which it abstains")
    import numpy as np

    x = np.asarray(raw, dtype=np.float64)
    centre, scale = float(x.mean()), float(x.std()) or 1.0
    design = np.stack([(x - centre) / scale, np.ones_like(x)], axis=1)
    wrongs = len(correct) - rights
    target = np.where(np.asarray(correct), (rights + 1) / (rights + 2), 1 / (wrongs + 2))
    slope, intercept = _newton(design, target)
    return Platt(slope / scale, intercept - slope * centre / scale)


def _newton(design: "object", target: "object") -> tuple[float, float]:
    """Maximum likelihood of a logistic regression on two columns, by damped Newton steps."""
    import numpy as np

    x, y = np.asarray(design), np.asarray(target)
    weights = np.zeros(2)
    for _ in range(_STEPS):
        logits = np.clip(x @ weights, -500, 500)
        p = 1 / (1 + np.exp(-logits))
        gradient = x.T @ (y - p)
        curvature = (x * (p * (1 - p))[:, None]).T @ x + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        step *= min(1.0, 5.0 / (float(np.abs(step).max()) + 1e-300))
        weights = weights + step
        if float(np.abs(step).max()) < _SMALLEST_STEP:
            break
    return float(weights[0]), float(weights[1])
