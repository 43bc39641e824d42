"""What is to be compared, and who is told how it goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from selfcorrect.settings import combine
from selfcorrect.training.arms.budgets import Costs
from selfcorrect.training.arms.registry import ArmSpec
from selfcorrect.training.runs.progress import ProgressSink, SilentProgress
from selfcorrect.training.runs.run_directory import Budget
from selfcorrect.training.settings import RunSettings


@dataclass(frozen=True)
class Comparison:
    """Everything that decides a comparison.

    Args:
        arm_specs: the arms, in the order of the tables.
        settings: those of every arm before its budget is fitted; their seed is not used.
        seeds: of training. Every arm is trained once with each.
        problems: how many held-out problems; the same for all.
        temperature: of the second evaluation; the first is greedy.
        overrides: further settings of single arms, such as {"pag": ["score.alpha=1"]}.
        allow_unequal: compare arms that do not cost the same.
    """

    arm_specs: Sequence[ArmSpec]
    settings: RunSettings
    seeds: Sequence[int]
    problems: int = 2000
    temperature: float = 0.7
    overrides: Mapping[str, Sequence[str]] = field(default_factory=dict)
    allow_unequal: bool = False

    def settings_of(self, arm_spec: ArmSpec, costs: Costs) -> RunSettings:
        """The settings of an arm, of whatever seed."""
        return combine(
            arm_spec.fitted(self.settings, costs), {}, self.overrides.get(arm_spec.name, ()), source=arm_spec.name
        )


class ComparisonProgress(Protocol):
    """Is told how a comparison goes on."""

    def planned(self, budgets: Mapping[str, Budget]) -> None:
        """What the arms will cost."""
        ...

    def begin(self, arm: str, seed: int, part: int, parts: int) -> ProgressSink:
        """Part `part` of `parts` that are to be done, counted from 1: an arm and a seed. The sink is told of its
        steps."""
        ...

    def end(self) -> None:
        """The part is finished."""
        ...


class SilentComparison:
    """Shows nothing."""

    def planned(self, budgets: Mapping[str, Budget]) -> None: ...

    def begin(self, arm: str, seed: int, part: int, parts: int) -> ProgressSink:
        return SilentProgress()

    def end(self) -> None: ...
