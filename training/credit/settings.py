"""Settings of credit: which turn is paid for what. One group for each way, told apart by `kind`; and
the recipes of papers."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from selfcorrect.setting_groups import NonNegative, Settings

Discount = Annotated[float, Field(ge=0, le=1)]
Baseline = Literal[
    "leave_one_out",
    "leave_one_out_given_previous",
    "leave_one_out_exact",
    "leave_one_out_same_state",
    "group_mean",
    "group_mean_std",
    "none",
]
"""What a turn's return is compared with, in the ways that leave the choice; see `training.credit.baselines`."""


class OwnCredit(Settings):
    """Each turn its own reward, nothing of any other turn (SCoRe, arXiv 2409.12917, appendix A.4)."""

    kind: Literal["own"] = "own"


class ReturnToGo(Settings):
    """Each turn the discounted sum of its own and all later rewards."""

    kind: Literal["return_to_go"] = "return_to_go"
    gamma: Discount = 1.0
    """Discount per turn. 0.8 is what the SCoRe paper's multi-turn RL collapsed with."""


class Outcome(Settings):
    """Every turn the last reward of the episode."""

    kind: Literal["outcome"] = "outcome"


class Progress(Settings):
    """Difference rewards r_t - r_{t-1}, summed from the turn on."""

    kind: Literal["progress"] = "progress"
    gamma: Discount = 1.0
    """Discount per turn; at 1 the differences telescope to the last reward minus what was reached before the turn."""


class AnchorGroups(Settings):
    """GiGPO (arXiv 2505.10978): the episode against the others of its problem, plus each turn against those that were
    shown the very same tokens."""

    kind: Literal["anchor_groups"] = "anchor_groups"
    gamma: Discount = 0.95
    """Discount per turn of the returns that turns are compared by."""
    weight: NonNegative = 1.0
    """Omega, of the second comparison."""
    divide_by_std: bool = False
    """The paper has both; with it, no objective has this gradient (docs/credit.md)."""
    leave_one_out: bool = False
    """Leave the episode out of what it is compared with, which the paper does not: exact for episodes of any number of
    turns."""


class TurnOutcome(Settings):
    """MT-GRPO (arXiv 2505.11821): a turn's own reward plus the episode's last one, each against the group's mean; the
    last turn is paid the last reward alone."""

    kind: Literal["mt_grpo"] = "mt_grpo"
    weight: NonNegative = 1.0
    """Lambda, of the last reward at the turns before the last."""
    divide_by_std: bool = True
    leave_one_out: bool = False
    """Leave the episode out of the means, which the paper does not."""


class Tree(Settings):
    """K revisions of one shared first answer: a revision is compared with its siblings alone, a first answer with the
    other first answers of its problem. Needs the graph of `build_graph`."""

    kind: Literal["tree"] = "tree"
    branches: int = Field(default=2, ge=2)
    """K; must divide `optimiser.episodes_per_problem`, and leave at least two first answers."""
    gamma: Discount = 0.0
    """Discount per turn; above 0 a first answer is paid the mean over its revisions of what came of it."""


class OwnEstimator(Settings):
    """A function of the user's own: `estimator(table: CallTable, settings: OwnEstimator) -> (C,) advantages`."""

    kind: Literal["custom"] = "custom"
    estimator: str = Field(min_length=1)
    """Its address, `package.module:name`."""


CreditSettings = Annotated[
    OwnCredit | ReturnToGo | Outcome | Progress | AnchorGroups | TurnOutcome | Tree | OwnEstimator,
    Field(discriminator="kind"),
]

COMPARED: Sequence[str] = ("own", "return_to_go", "outcome", "progress")
"""The kinds that are compared with `optimiser.baseline`; the others bring a comparison of their own."""


def refuse_idle_baseline(credits: Sequence[CreditSettings], baseline: Baseline, *, critic: bool) -> None:
    """Raise where a setting would have no effect.

    Raises:
        ValueError: a critic takes the place of a credit, or no credit is compared with the baseline.
    """
    kinds = [credit.kind for credit in credits]
    if critic and kinds != ["own"]:
        raise ValueError(
            f"a critic takes the place of credit {' and '.join(kinds)}; what flows between turns is then "
            "critic.turn_discount: leave credit or the critic out"
        )
    if baseline != "leave_one_out" and not critic and not set(kinds) & set(COMPARED):
        raise ValueError(
            f"credit {kinds[0]!r} brings a comparison of its own, and baseline {baseline!r} would have no effect; set "
            "the baseline to leave_one_out, the default"
        )


class GivenAnswers(Settings):
    """First answers that the policy does not draw itself."""

    offline_attempts: Annotated[float, Field(gt=0, lt=1)] | Annotated[str, Field(min_length=1)] | None = None
    """First answers in Stage II that the policy does not draw itself (section 5.3): a share of a problem's episodes,
    which begin with attempts that the base policy draws before the run; or a file of JSON Lines with a problem's id and
    the text of an attempt at it, with which up to half of the problem's episodes begin."""


def _refuse_given_answers_alone(given: float | str | None, credit: CreditSettings, episodes: int) -> None:
    """Raise where first answers that are given (`score.offline_attempts`) would begin none or all of a problem's
    `episodes`, or those of trees.

    Raises:
        ValueError: telling how many it would be.
    """
    if given is not None and isinstance(credit, Tree):
        raise ValueError("score.offline_attempts and credit 'tree' both decide how episodes begin: choose one")
    meant = round(given * episodes) if isinstance(given, float) else episodes // 2
    if given is not None and not 1 <= meant < episodes:
        raise ValueError(
            f"score.offline_attempts is {meant} of the {episodes} optimiser.episodes_per_problem: it must be at least "
            "one, and not all"
        )


def refuse_stunted_trees(
    credit: CreditSettings,
    by_role: Sequence[CreditSettings],
    episodes: int,
    given: float | str | None = None,
) -> None:
    """Raise where episodes cannot branch as a tree's settings say, or begin as `score.offline_attempts`, `given`, does.

    Raises:
        ValueError: `episodes`, those of a problem, are not at least two trees of `branches`; or single roles branch; or
            none or all of them would begin with given answers.
    """
    _refuse_given_answers_alone(given, credit, episodes)
    if any(isinstance(other, Tree) for other in by_role):
        raise ValueError("credit 'tree' decides how episodes are played: it cannot be that of single roles")
    if isinstance(credit, Tree) and (episodes % credit.branches or episodes < 2 * credit.branches):
        raise ValueError(
            f"credit.branches is {credit.branches}: optimiser.episodes_per_problem must be a multiple of it, and at "
            f"least twice it, so that first answers can be compared; got {episodes}"
        )


# The credit and the loss of published recipes, as names of settings and nothing else. Each is a preset of its own, over
# `demo`: `selfcorrect train multi-turn --preset dapo`. What a recipe says of models, batches and learning rates is not
# in it.

_WHOLE_EPISODE = ("credit={kind: outcome}",)

RECIPES: Mapping[str, Sequence[str]] = {
    # Shao et al. 2024, arXiv 2402.03300
    "grpo": (*_WHOLE_EPISODE, "optimiser.baseline=group_mean_std", "optimiser.normalise_loss=turn"),
    # Liu et al. 2025, arXiv 2503.20783
    "dr-grpo": (
        *_WHOLE_EPISODE,
        "optimiser.baseline=group_mean",
        "optimiser.normalise_loss=40",
    ),
    # Yu et al. 2025, arXiv 2503.14476
    "dapo": (
        *_WHOLE_EPISODE,
        "optimiser.baseline=group_mean_std",
        "optimiser.clip_high=0.28",
        "optimiser.no_spread=resample",
        "optimiser.overlong={limit: 40, buffer: 8}",
        "optimiser.kl=false",
    ),
    # Ahmadian et al. 2024, arXiv 2402.14740: one update a batch, no clip to reach
    "rloo": (
        *_WHOLE_EPISODE,
        "optimiser.baseline=leave_one_out",
        "optimiser.minibatches=1",
        "optimiser.ppo_epochs=1",
    ),
    # Schulman et al. 2017, arXiv 1707.06347, over whole episodes
    "ppo": ("optimiser.baseline=leave_one_out", "optimiser.critic={turn_discount: 1.0}"),
    # Kumar et al. 2024, arXiv 2409.12917, Table 8 (MATH); the KL between whole turns of Eq. 3
    "score-paper": (
        "score.alpha=10.0",
        "score.beta1=0.01",
        "score.beta2=0.1",
        "score.beta_first=null",
        "optimiser.baseline=leave_one_out",
        "optimiser.kl_over=turn",
        "optimiser.minibatches=1",
        "optimiser.ppo_epochs=1",
        "optimiser.learning_rate_decay=false",
    ),
    # Jiang et al. 2025, arXiv 2506.10406; with a baseline where the paper has a critic
    "pag-paper": (
        "score.alpha=1.0",
        "score.beta1=0.0",
        "score.beta_first=null",
        "optimiser.clip_high=0.28",
        "optimiser.normalise_by=role",
        "optimiser.kl=false",
    ),
}
"""By name: overrides such as `--set` takes, over the preset `demo`."""
