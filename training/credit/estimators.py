"""From a table of calls to their advantages, by the settings of credit."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor

from selfcorrect.errors import ConfigurationError
from selfcorrect.registry import Registry, called, load, nearest, shown_kind
from selfcorrect.training.credit import baselines, returns
from selfcorrect.training.credit.baselines import anchor_groups, tree, turn_outcome
from selfcorrect.training.credit.settings import COMPARED, Baseline, CreditSettings, OwnCredit, OwnEstimator
from selfcorrect.training.credit.table import CallTable
from selfcorrect.training.ppo.advantages import Gather, normalised_by_role
from selfcorrect.training.ppo.config import NormaliseBy
from selfcorrect.training.processes import together

Estimator = Callable[[CallTable, Any], Tensor]
"""From the calls of a batch and the credit's settings to one number a call, (C,)."""

RETURNS: Registry[Estimator] = Registry(
    "credit",
    {
        "own": lambda table, settings: returns.own(table),
        "return_to_go": lambda table, settings: returns.return_to_go(table, settings.gamma),
        "outcome": lambda table, settings: returns.outcome(table),
        "progress": lambda table, settings: returns.progress(table, settings.gamma),
    },
)
"""What a call is paid, NaN where it abstains; it is then compared with a baseline."""

COMPARISONS: Registry[Estimator] = Registry(
    "credit", {"anchor_groups": anchor_groups, "mt_grpo": turn_outcome, "tree": tree}
)
"""Ways that bring a comparison of their own: advantages, 0 where a call abstains."""

BASELINES: Mapping[Baseline, Callable[[Tensor, CallTable], Tensor]] = {
    "none": lambda returns_C, table: baselines.uncompared(returns_C),
    "leave_one_out": lambda returns_C, table: baselines.leave_one_out(returns_C, table.groups_C),
    "leave_one_out_given_previous": lambda returns_C, table: baselines.leave_one_out_by_kind(
        returns_C, table.groups_C, table.kinds_C, table.previous_C, names=table.kinds
    ),
    "leave_one_out_same_state": lambda returns_C, table: baselines.leave_one_out_same_state(
        returns_C, table.states_C, table.groups_C, table.episodes_C
    ),
    "leave_one_out_exact": lambda returns_C, table: baselines.leave_one_out_exact(
        returns_C, table.groups_C, table.episodes_C
    ),
    "group_mean": lambda returns_C, table: baselines.group_mean(returns_C, table.groups_C),
    "group_mean_std": lambda returns_C, table: baselines.group_mean(returns_C, table.groups_C, divide_by_std=True),
}


def credited(
    table: CallTable,
    credit: CreditSettings,
    baseline: Baseline = "leave_one_out",
    *,
    by_role: Mapping[str, CreditSettings] = MappingProxyType({}),
) -> Tensor:
    """(C,) advantage of every call; 0 where it abstains.

    Args:
        table: the calls of a batch.
        credit: what a call is paid for.
        baseline: what that is compared with; only for the kinds of credit that leave the choice.
        by_role: another credit for calls of these roles (nodes of a graph). Every way sees the whole table: a call's
            return may contain rewards of other nodes' calls. A batch need not have reached every node.

    Raises:
        ConfigurationError: an estimator of the user's own cannot be found, or does not return (C,) finite numbers.
    """
    advantages_C = _advantages(table, credit, baseline)
    for role, other in by_role.items():
        others_C = _advantages(table, other, baseline)  # by all processes, also where none of these calls was made
        if role in table.roles:
            advantages_C = torch.where(table.roles_C == table.roles.index(role), others_C, advantages_C)
    return advantages_C


def refuse_unknown_roles(by_role: Collection[str], known: Sequence[str]) -> None:
    """Raise a ConfigurationError if there is credit for a role that no call can have."""
    for role in by_role:
        if role not in known:
            raise ConfigurationError(
                f"credit_by_role names {role!r}{nearest(role, known)}: the calls are {', '.join(known)}"
            )


def refuse_missing_estimators(credits: Iterable[CreditSettings]) -> None:
    """Raise a ConfigurationError if one of `credits` is a user's own and not there: before anything is played."""
    for credit in credits:
        if isinstance(credit, OwnEstimator):
            own_estimator(credit)


def call_advantages(
    table: CallTable,
    baseline: Baseline = "leave_one_out",
    normalise_by: NormaliseBy = "nothing",
    *,
    credit: CreditSettings | None = None,
    by_role: Mapping[str, CreditSettings] = MappingProxyType({}),
    gather: Gather = together,
) -> Tensor:
    """As `credited`, by default each call its own reward; and normalised where that is asked for, with what `gather`
    brings from the other processes. Calls that are imitated get their weights as they are.

    Returns:
        (C,) advantages, one a row of `table`; in units of the reward, or of its deviation where that is divided by.
    """
    advantages_C = credited(table, credit or OwnCredit(), baseline, by_role=by_role)
    if any(
        together(bool(table.imitated_C.any()))
    ):  # the advantage is then the weight of a call's negative log-likelihood
        return torch.where(table.imitated_C, torch.nan_to_num(table.rewards_C, nan=0.0), advantages_C)
    if normalise_by == "nothing":
        return advantages_C
    counted_C = _counted(table, credit or OwnCredit()) & (table.learns_C > 0)
    return normalised_by_role(advantages_C, table.roles_C, counted_C, names=table.roles, gather=gather)


def _counted(table: CallTable, credit: CreditSettings) -> Tensor:
    """(C,) bool, where a call is paid anything, be it by later rewards."""
    return ~torch.isnan(RETURNS[credit.kind](table, credit)) if credit.kind in COMPARED else table.paid_C


def _advantages(table: CallTable, credit: CreditSettings, baseline: Baseline) -> Tensor:
    if isinstance(credit, OwnEstimator):
        return _of_the_users(table, credit)
    if credit.kind in COMPARED:
        return BASELINES[baseline](RETURNS[credit.kind](table, credit), table)
    return COMPARISONS[credit.kind](table, credit)


def own_estimator(credit: OwnEstimator) -> Estimator:
    """The function of the user's own.

    Raises:
        ConfigurationError: there is none.
    """
    estimate = load(credit.estimator)
    if isinstance(estimate, type) or not callable(estimate):
        raise ConfigurationError(
            f"credit.estimator {credit.estimator}: expected a function (table, settings) -> (C,) advantages, got "
            f"{shown_kind(estimate)}"
        )
    return cast(Estimator, estimate)


def _of_the_users(table: CallTable, credit: OwnEstimator) -> Tensor:
    estimate = own_estimator(credit)
    advantages_C = called(f"credit.estimator {credit.estimator}", estimate, table, credit)
    if not isinstance(advantages_C, Tensor) or advantages_C.shape != table.rewards_C.shape:
        got = tuple(advantages_C.shape) if isinstance(advantages_C, Tensor) else type(advantages_C).__name__
        raise ConfigurationError(
            f"credit.estimator {credit.estimator} must return one advantage a call, a tensor of shape "
            f"{tuple(table.rewards_C.shape)}; got {got}"
        )
    if not bool(torch.isfinite(advantages_C).all()):
        raise ConfigurationError(
            f"credit.estimator {credit.estimator} returned NaN or infinity; a call that abstains has advantage 0"
        )
    return advantages_C
