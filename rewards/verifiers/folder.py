"""A verifier's folder: what it is, how to read with it, how far to trust it.

verifier.json       its kind, wording, calibration, and the fingerprint of its tokenizer
model/              weights (safetensors), or an adapter, or neither where the card names the base; and the tokenizer
head.safetensors    of the kinds with a head
reference/          of the likelihood kind: the model it is compared with
calibration.json    answers with known scores and outcomes, from which thresholds are chosen (see
agents/choosing/calibration.py)
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from selfcorrect.errors import CheckerError
from selfcorrect.rewards.verifiers.encoding import Wording, tokenizer_fingerprint

# From raw scores to probabilities: a logistic curve with two parameters.
#
# Platt, "Probabilistic outputs for support vector machines", 1999; with the smoothed targets of its section 2.2, so
# that the fit exists even where the scores separate the classes.

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
    """The curve of highest likelihood on pairs that the verifier was not trained on, among those that do not fall: a
    larger raw score means that an answer is more likely right. Where it looks the other way round, which is chance, the
    curve is flat: the verifier cannot tell, and does not choose the answers that it likes least.

    Raises:
        CheckerError: there are no right or no wrong answers among them, or a score is not finite.
    """
    rights = sum(correct)
    if not 0 < rights < len(correct) or len(raw) != len(correct):
        raise CheckerError(
            f"a verifier is calibrated on right and wrong answers; got {rights} right ones of {len(correct)} (and"
            f" {len(raw)} scores)"
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
    if slope < 0:  # the likelihood is concave: its highest point among slopes of 0 and more is at 0
        share = float(target.mean())
        slope, intercept = 0.0, math.log(share / (1 - share))
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


Kind = Literal["likelihood", "classifier", "stepwise"]
Measure = Literal["log_ratio", "log_likelihood"]
Reduction = Literal["last", "min", "product"]
_FORMAT = 1


@dataclass(frozen=True)
class VerifierCard:
    """The content of verifier.json.

    Attributes:
        kind: which class reads the folder.
        tokenizer: fingerprint of the tokenizer that it was trained with.
        wording: how problems and answers are shown to it.
        platt: from raw scores to probabilities.
        measure: of the likelihood kind.
        reduction: of the stepwise kind: the score of a response from those of its steps.
        trained: how it was made, for people.
        base: folder or id of the model that reads, where it was left as it was; "" where model/ holds it.
        dtype: what a base that was left as it was is read in, as `base_dtype` takes it; whole models are float32.
    """

    kind: Kind
    tokenizer: str
    wording: Wording = field(default_factory=Wording)
    platt: Platt = field(default_factory=Platt)
    measure: Measure = "log_ratio"
    reduction: Reduction = "last"
    trained: Mapping[str, Any] = field(default_factory=dict)
    base: str = ""
    dtype: str = "auto"


def write_card(folder: Path, card: VerifierCard) -> None:
    """Write verifier.json."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"format": _FORMAT, **asdict(card)}, indent=2, ensure_ascii=False)
    (folder / CARD_FILE).write_text(text + "\n", encoding="utf-8")


CARD_FILE = "verifier.json"
"""What tells the folder of a verifier from any other."""


def read_card(folder: Path) -> VerifierCard:
    """The card of a verifier's folder.

    Raises:
        CheckerError: `folder` is no verifier's, or of another version.
    """
    path = folder / CARD_FILE
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved.pop("format") != _FORMAT:
            raise CheckerError(f"{path} was written by another version of selfcorrect; train the verifier again")
        return VerifierCard(**saved | {"wording": Wording(**saved["wording"]), "platt": Platt(**saved["platt"])})
    except OSError as error:
        raise CheckerError(
            f"{folder} is no verifier's folder: verifier.json cannot be read ({error.strerror or error}); `selfcorrect"
            " train vstar` makes one"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise CheckerError(f"{path} is damaged: {error!r}; train the verifier again") from error


def open_tokenizer(folder: Path, card: VerifierCard, *, policy_tokenizer: Any = None) -> Any:
    """The verifier's tokenizer.

    Raises:
        CheckerError: the one in the folder, or the policy's, is not the one it was trained with.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    except (OSError, ValueError) as error:
        raise CheckerError(f"cannot load the verifier's tokenizer from {folder / 'model'}: {error}") from error
    refuse_other_tokenizer(tokenizer, card, whose=f"the tokenizer in {folder / 'model'}")
    if policy_tokenizer is not None:
        refuse_other_tokenizer(policy_tokenizer, card, whose="the policy's tokenizer")
    return tokenizer


def refuse_other_tokenizer(tokenizer: Any, card: VerifierCard, *, whose: str) -> None:
    """Raise a CheckerError unless `tokenizer` is the one of the card: other ids would give scores without meaning."""
    if tokenizer_fingerprint(tokenizer) != card.tokenizer:
        raise CheckerError(
            f"{whose} is not the one that this verifier was trained with; use a verifier that was trained on answers of"
            " this policy (`selfcorrect train vstar --set policy.model=...`)"
        )


@dataclass(frozen=True)
class Calibration:
    """Answers to problems that the verifier was not trained on, one to a problem.

    Attributes:
        temperature: at which they were sampled.
        answers: (score, correct) by how an answer was chosen: "attempt" is the first sample, "best_of_16" the
            best-scored of 16.
    """

    temperature: float
    answers: Mapping[str, Sequence[tuple[float, bool]]]


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Keep what thresholds are chosen from."""
    (folder / "calibration.json").write_text(json.dumps(asdict(calibration)) + "\n", encoding="utf-8")


def read_calibration(folder: Path) -> Calibration:
    """What `write_calibration` kept.

    Raises:
        CheckerError: the folder holds none, or it is damaged.
    """
    path = folder / "calibration.json"
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        answers = {
            how: [(float(score), bool(right)) for score, right in pairs] for how, pairs in saved["answers"].items()
        }
        return Calibration(float(saved["temperature"]), answers)
    except OSError as error:
        raise CheckerError(f"the verifier in {folder} was not calibrated: there is no calibration.json") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckerError(f"{path} is damaged: {error!r}; train the verifier again") from error
