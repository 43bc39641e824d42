"""A plan: which strategy to use at which budget, for problems of which difficulty (Snell et al., arXiv 2408.03314,
section 3.2).

Plain JSON, so that it can be read, compared and changed by hand.
"""

import json
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from selfcorrect.agents.search.selection import groups
from selfcorrect.agents.search.state import Candidate
from selfcorrect.agents.search.strategies import strategy_named
from selfcorrect.errors import ConfigurationError

Measure = Literal["verifier", "agreement"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BudgetPlan(_Frozen):
    """What to do with one budget.

    Attributes:
        answers: the budget in answers of mean length.
        tokens: the budget.
        strategies: names, one for each bin of difficulty from easy to hard; a single one is for all problems, and then
            nothing is estimated.
        accuracy: of each on the problems it was fitted on; None where there were none.
        mean_tokens: what each used there on average, the estimate included.
    """

    answers: int = Field(ge=1)
    tokens: int = Field(ge=1)
    strategies: list[str] = Field(min_length=1)
    accuracy: list[float | None] = []
    mean_tokens: list[float | None] = []

    @property
    def estimates(self) -> bool:
        return len(self.strategies) > 1


class SearchPlan(_Frozen):
    """Which strategy to use at which budget, for problems of which difficulty.

    Attributes:
        task, policy: what it was fitted on, for people.
        measure: difficulty is 1 - the verifier's mean score ("verifier"), or 1 - the share of the most frequent answer
            ("agreement"), of the first `samples` answers. They count towards the budget, and are the strategy's first
            answers.
        edges: between the bins, ascending; a problem of difficulty d belongs to bin number bisect_right(edges, d).
        answer_tokens: mean tokens of an answer.
        budgets: by ascending tokens.
        fitted_on: how many problems.
    """

    task: str
    policy: str
    measure: Measure
    samples: int = Field(ge=1)
    edges: list[float]
    answer_tokens: float = Field(gt=0)
    budgets: list[BudgetPlan] = Field(min_length=1)
    fitted_on: int = 0

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.edges != sorted(self.edges):
            raise ValueError("edges must ascend")
        if [one.tokens for one in self.budgets] != sorted(one.tokens for one in self.budgets):
            raise ValueError("budgets must ascend")
        for one in self.budgets:
            if len(one.strategies) not in (1, len(self.edges) + 1):
                raise ValueError(
                    f"the budget of {one.tokens} tokens names {len(one.strategies)} strategies for "
                    f"{len(self.edges) + 1} bins"
                )
            for name in one.strategies:
                strategy_named(name)
        return self

    def at(self, tokens: int | None) -> BudgetPlan:
        """The plan of the largest budget within `tokens`; of the smallest one below all of them, of the largest one
        for None."""
        fitting = [one for one in self.budgets if tokens is None or one.tokens <= tokens]
        return fitting[-1] if fitting else self.budgets[0]

    def bin_of(self, difficulty: float) -> int:
        """The bin of a difficulty in [0, 1], from 0, the easiest; an edge belongs to the harder bin."""
        return bisect_right(self.edges, difficulty)

    def save(self, path: Path) -> None:
        """Write it as JSON; `load` reads it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.model_dump(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "SearchPlan":
        """The plan in a file.

        Raises:
            ConfigurationError: the file cannot be read or holds no plan.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(f"cannot read the plan {path}: {error.strerror or error}") from error
        except (ValidationError, ConfigurationError) as error:
            raise ConfigurationError(f"{path} holds no plan of `selfcorrect tune-budget`: {error}") from error


def difficulty_of(candidates: Sequence[Candidate], measure: Measure) -> float:
    """Estimated difficulty in [0, 1] from a problem's first answers; 1 if none can be read."""
    if not candidates:
        return 1.0
    if measure == "verifier":
        return 1.0 - sum(candidate["score"] or 0.0 for candidate in candidates) / len(candidates)
    ranked = groups(candidates)
    return 1.0 - (ranked[0].weight / len(candidates) if ranked else 0.0)
