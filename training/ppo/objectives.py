"""What an arm of training pays for, by name: small types that turn the scores of an episode into one signal a turn."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

from selfcorrect.errors import ConfigurationError
from selfcorrect.registry import Registry, called, shown_kind
from selfcorrect.rewards import shaping
from selfcorrect.rewards.shaping import Score


@dataclass(frozen=True, slots=True)
class TurnSignal:
    """What one policy call is trained on.

    Attributes:
        reward: None abstains: the call's tokens get advantage 0 (their KL still counts).
        kl_coefficient: weight of KL(policy || reference) on the call's tokens, in reward per nat.
        previous: score of the answer before this call, which a baseline may know; None if there is none.
        kind: calls are compared with calls of the same kind: "answer 1", "answer 2", "critique 1", ...
        learns: False takes the call's tokens out of the loss altogether (unjudged answers, nodes that are not to be
            trained).
        unjudged: whether the reward is None because a judge failed, rather than because the call earns nothing itself:
            then no return across turns that contains it is known.
        imitates: the reward is the weight, 0 or more, of a supervised loss on the call's tokens: no baseline is
            subtracted. So a stage of fine-tuning on chosen samples is a stage of the same run.
        has_verdict: of a critique by which the loop decides, whether it says in the loop's words that the answer is
            right or wrong; None of other calls.
    """

    reward: Score
    kl_coefficient: float
    previous: Score = None
    kind: str = "answer 1"
    learns: bool = True
    unjudged: bool = False
    imitates: bool = False
    has_verdict: bool | None = None

    @property
    def role(self) -> str:
        """ "answer", "critique", or the nodes of a graph."""
        return self.kind.partition(" ")[0]


class Objective(Protocol):
    """Rewards and KL weights of the answers of an episode, and of the policy's critiques where it writes any."""

    @property
    def name(self) -> str:
        """What metrics and progress call it, such as "stage 1"."""
        ...

    def answer_rewards(self, scores: Sequence[Score]) -> list[Score]:
        """One reward per answer, from the scores of all answers."""
        ...

    def critique_rewards(self, scores: Sequence[Score], says_wrong: Sequence[bool | None]) -> list[Score]:
        """One reward per critique; critique t judges answer t."""
        ...

    def kl_coefficient(self, answer: int, answers: int) -> float:
        """Weight of the KL on answer `answer` (from 0) of `answers`, and on the critique that follows it."""
        ...


@dataclass(frozen=True, slots=True)
class PlayedTurn:
    """What an objective may know of a turn.

    Attributes:
        is_critique: whether it judges the answer before it, or answers.
        text: the answer as its judge read it; the whole text where nobody read one.
        score: of the answer, or of the answer that is judged.
        says_wrong: whether a critique calls the answer wrong; None if it does not say, or is an answer.
    """

    is_critique: bool
    text: str
    score: Score
    says_wrong: bool | None = None


@runtime_checkable
class BatchObjective(Protocol):
    """An objective that pays by more than the scores of one episode: by its texts, or by the whole batch.

    It is an `Objective` too, whose `answer_rewards` and `critique_rewards` are not asked.
    """

    imitates: bool
    """Whether what it pays is the weight of a supervised loss; see `TurnSignal`."""

    def batch_rewards(self, episodes: Sequence[Sequence[PlayedTurn]]) -> list[list[Score]]:
        """One reward for each turn of each episode of the batch that all processes play, in order."""
        ...


@dataclass(frozen=True)
class _UnpaidCritiques:
    def critique_rewards(self, scores: Sequence[Score], says_wrong: Sequence[bool | None]) -> list[Score]:
        return [None] * len(says_wrong)


@dataclass(frozen=True)
class StageOne(_UnpaidCritiques):
    """SCoRe Stage I (arXiv 2409.12917, Eq. 3): one answer is paid, the ones before it are held to the reference by
    beta2.

    Args:
        beta1: KL weight of the paid answer.
        beta2: KL weight of the answers before it.
        learning_answer: which answer is paid, from 0; None is the last. Appendix A.1's I(a) is 1, I(b) is 2.
    """

    beta1: float = 0.01
    beta2: float = 0.1
    learning_answer: int | None = None
    name: str = "stage 1"

    def answer_rewards(self, scores: Sequence[Score]) -> list[Score]:
        return shaping.score_stage_one(scores, learning_turn=self.learning_answer)

    def kl_coefficient(self, answer: int, answers: int) -> float:
        paid = answers - 1 if self.learning_answer is None else self.learning_answer
        return self.beta2 if answer < paid else self.beta1


@dataclass(frozen=True)
class StageTwo(_UnpaidCritiques):
    """SCoRe Stage II (Eq. 4): r1 for the first answer, r_t + alpha (r_t - r_{t-1}) for the later ones, one small KL.

    Because turns do not share credit, the term -alpha r_{t-1} is a constant for answer t: the bonus multiplies the
    later turns' gradient by 1 + alpha, and a baseline that knows r_{t-1} (`leave_one_out_given_previous`) removes its
    noise.
    """

    alpha: float = 10.0
    beta1: float = StageOne.beta1
    beta_first: float | None = None
    """KL weight of the first answer, where it should differ from beta1 (a guard against a falling first turn)."""
    name: str = "stage 2"

    def answer_rewards(self, scores: Sequence[Score]) -> list[Score]:
        return shaping.score_stage_two(scores, alpha=self.alpha)

    def kl_coefficient(self, answer: int, answers: int) -> float:
        return self.beta_first if answer == 0 and self.beta_first is not None else self.beta1


@dataclass(frozen=True)
class MultiTurn(_UnpaidCritiques):
    """Every answer is paid its own score: direct multi-turn RL, without shaping and without Stage I."""

    beta1: float = StageOne.beta1
    name: str = "multi-turn"

    def answer_rewards(self, scores: Sequence[Score]) -> list[Score]:
        return shaping.per_turn(scores)

    def kl_coefficient(self, answer: int, answers: int) -> float:
        return self.beta1


@dataclass(frozen=True)
class SingleTurn(_UnpaidCritiques):
    """Only the first answer is paid: ordinary RL from checked answers."""

    beta1: float = StageOne.beta1
    name: str = "single-turn"

    def answer_rewards(self, scores: Sequence[Score]) -> list[Score]:
        return [scores[0]] + [None] * (len(scores) - 1)

    def kl_coefficient(self, answer: int, answers: int) -> float:
        return self.beta1


@dataclass(frozen=True)
class PAG:
    """PAG (arXiv 2506.10406): answers are paid as in Stage II, the policy's verdicts for agreeing with the checker."""

    alpha: float = shaping.PAG_ALPHA
    beta1: float = 0.0
    name: str = "pag"

    def answer_rewards(self, scores: Sequence[Score]) -> list[Score]:
        return shaping.score_stage_two(scores, alpha=self.alpha)

    def critique_rewards(self, scores: Sequence[Score], says_wrong: Sequence[bool | None]) -> list[Score]:
        return shaping.pag(scores, says_wrong, alpha=self.alpha)[1]

    def kl_coefficient(self, answer: int, answers: int) -> float:
        return self.beta1


@dataclass(frozen=True)
class Schedule:
    """Which objective holds at which batch of episodes; the position is the trainer's own step count, so that a resumed
    run goes on in the stage it was killed in.

    Args:
        stages: (objective, number of batches) in order.

    Raises:
        ConfigurationError: there is no batch to train on.
    """

    stages: tuple[tuple[Objective, int], ...]

    def __post_init__(self) -> None:
        if not self.stages or any(batches < 0 for _, batches in self.stages) or self.total_batches < 1:
            raise ConfigurationError("a training schedule needs at least one stage with at least one batch of episodes")

    @property
    def total_batches(self) -> int:
        """Batches of all stages."""
        return sum(batches for _, batches in self.stages)

    @property
    def lengths(self) -> list[int]:
        """Batches of the stages that have any."""
        return [batches for _, batches in self.stages if batches]

    def at(self, batch: int) -> Objective:
        """The objective of batch `batch`, from 0; past the end the last one."""
        for objective, batches in self.stages:
            if batch < batches:
                return objective
            batch -= batches
        return self.stages[-1][0]


# Objectives by name.


def objective_named(name: str, weights: Any) -> Objective:
    """The objective called `name`, or a user's own as `package.module:Name`.

    Args:
        name: of `OBJECTIVES`, or an address of a class, a function that returns an objective, or an objective.
        weights: whatever has the weights as attributes, such as `ScoreSettings`; a class gets those that its parameters
            name.

    Raises:
        ConfigurationError: there is none.
    """
    return OBJECTIVES.find(name)(weights)


def _weighted(made_by: Callable[..., Any]) -> Callable[[Any], Objective]:
    """Makes an objective with those weights that its parameters name."""
    names = inspect.signature(made_by).parameters

    def make(weights: Any) -> Objective:
        made: Objective = made_by(**{name: getattr(weights, name) for name in names if hasattr(weights, name)})
        return made

    return make


def _own(address: str, found: Any) -> Callable[[Any], Objective]:
    makes = isinstance(found, type) or inspect.isfunction(found)
    if not makes or (isinstance(found, type) and not callable(getattr(found, "answer_rewards", None))):
        if callable(getattr(found, "answer_rewards", None)) and not isinstance(found, type):
            return lambda weights: checked_objective(found, address)
        raise ConfigurationError(f"{address} is no objective: expected {_OBJECTIVE}, got {shown_kind(found)}")
    make = _weighted(found)
    return lambda weights: checked_objective(called(address, make, weights, expected=_OBJECTIVE), address)


def checked_objective(found: Any, what: str) -> Objective:
    """An objective as it is.

    Raises:
        ConfigurationError: it lacks something; `what` names it.
    """
    lacking = [
        name for name in ("answer_rewards", "critique_rewards", "kl_coefficient", "name") if not hasattr(found, name)
    ]
    if lacking:
        raise ConfigurationError(f"{what} is no objective: it lacks {', '.join(lacking)}; expected {_OBJECTIVE}")
    return cast(Objective, found)


_OBJECTIVE = "name, answer_rewards(scores), critique_rewards(scores, says_wrong) and kl_coefficient(answer, answers)"

OBJECTIVES: Registry[Callable[[Any], Objective]] = Registry(
    "objective",
    {
        "stage-1": _weighted(StageOne),
        "stage-2": _weighted(StageTwo),
        "multi-turn": _weighted(MultiTurn),
        "single-turn": _weighted(SingleTurn),
        "pag": _weighted(PAG),
    },
    accept=_own,
)
"""What a step can pay, by name: each makes an `Objective` of the weights in `ScoreSettings`."""
