"""What commands that search share: their options, verifiers and plans by name, strategies by name and budget."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfcorrect.cli.console import loading
from selfcorrect.cli.naming import NamedPolicy, open_policy
from selfcorrect.cli.options import refuse_typed
from selfcorrect.errors import ConfigurationError
from selfcorrect.registry import is_address

if TYPE_CHECKING:
    from selfcorrect.agents.policy import Sampling
    from selfcorrect.agents.search.compute_optimal import SearchPlan
    from selfcorrect.agents.search.strategies import Strategy
    from selfcorrect.rewards.checker import Checker, Verifier


VerifierFolder = Annotated[
    Path | None,
    typer.Option(
        "--verifier",
        metavar="DIR|NAME",
        help="Scores answers: a folder of `selfcorrect train vstar`; 'examples' tries programs on those that the "
        "problem shows; or package.module:Name of your own.",
    ),
]
StepVerifierFolder = Annotated[
    Path | None,
    typer.Option("--step-verifier", metavar="DIR", help="One that scores unfinished answers, for beam search."),
]
PlanFile = Annotated[Path | None, typer.Option("--plan", metavar="FILE", help="A plan of `selfcorrect tune-budget`.")]
Budgets = Annotated[
    str, typer.Option(metavar="N,N,...", help="Budgets, in answers of mean length: 1,2,4 or 1,2,4,...,64.")
]
Strategies = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME,...",
        help="What is compared: majority, best_of_n, weighted, beam, revise, mixed, self_judged, compute_optimal.",
    ),
]


@dataclass(frozen=True)
class Searchers:
    """A policy and the verifiers that a command names."""

    named: NamedPolicy
    verifier: "Verifier | None"
    step_verifier: "Verifier | None"

    def refuse_unfit(self, checker: "Checker | None") -> None:
        """Raise a ConfigurationError if the verifier runs examples of code, and `checker` judges something else."""
        from selfcorrect.rewards.checkers import ExecutingChecker
        from selfcorrect.rewards.verifiers.examples import ExampleVerifier

        if isinstance(self.verifier, ExampleVerifier) and not isinstance(checker, ExecutingChecker):
            raise ConfigurationError(
                "--verifier examples tries programs on the examples that their problems show, and no programs are "
                "asked for here; name a verifier of `selfcorrect train vstar`, or leave it away"
            )

    def sampling(self, limit: int | None, temperature: float) -> "Sampling":
        from selfcorrect.agents.policy import Sampling

        if temperature == 0:
            raise ConfigurationError(
                "--temperature 0 draws the same answer again and again; search wants more, such as 1"
            )
        return Sampling(temperature=temperature, max_new_tokens=limit or self.named.answer_tokens)


def open_searchers(model: str, verifier: Path | None, step_verifier: Path | None) -> Searchers:
    """Load what is named.

    Raises:
        PolicyError, CheckerError: it cannot be loaded, or a verifier belongs to a policy with another tokenizer.
    """
    named = open_policy(model)
    return Searchers(named, _open_verifier(verifier, named), _open_verifier(step_verifier, named))


def _open_verifier(name: Path | None, named: NamedPolicy) -> Any:
    if name is None:
        return None
    with loading(f"verifier {name}"):
        from selfcorrect.rewards.verifiers.naming import verifier_named

        return verifier_named(name, policy_tokenizer=getattr(named.policy, "tokenizer", None))


def open_plan(path: Path | None) -> "SearchPlan | None":
    if path is None:
        return None
    from selfcorrect.agents.search.compute_optimal import SearchPlan

    return SearchPlan.load(path)


def refuse_idle(
    strategies: Sequence[str], *, verifier: Path | None, step_verifier: Path | None, plan: Path | None
) -> None:
    """Raise a ConfigurationError if none of `strategies` would use what is given."""
    named = ", ".join(strategies)
    if verifier is not None and not any(map(_asks_verifier, strategies)):
        raise ConfigurationError(
            f"--verifier: {named} chooses without one; take best_of_n, weighted, mixed or revise with it, as in "
            "--strategy best_of_n:16"
        )
    if step_verifier is not None and not any(_kind(name) in _STEPWISE for name in strategies):
        raise ConfigurationError(f"--step-verifier: only beam scores unfinished answers, and {named} does not")
    if plan is not None and not any(_kind(name) in ("compute_optimal", "own") for name in strategies):
        raise ConfigurationError(f"--plan: only compute_optimal follows a plan, and {named} does not")


_LOOP_ONLY = ("revisions", "critique", "think_tokens", "waits", "wait_word", "think_end")
_STORED = ("checkpoint", "thread")
MaxRisk = Annotated[
    float | None,
    typer.Option(
        "--max-risk",
        help="With --verifier: the share of wrong answers to accept; answers 'I don't know' when less sure.",
    ),
]
Checkpoint = Annotated[
    str | None,
    typer.Option(
        "--checkpoint",
        help="A sqlite file or postgresql:// address that keeps every turn or round: call again to go on.",
    ),
]
Thread = Annotated[
    str | None,
    typer.Option("--thread", help="The episode's or search's name in --checkpoint; the question by default."),
]


def refuse_idle_of_solve(ctx: typer.Context, strategy: str | None) -> None:
    """Raise a ConfigurationError if an option of `solve` was typed that its way to answer has no use for: a search by
    `strategy`, a choice with --max-risk, or else the correction loop."""
    given = ctx.params
    if given["max_risk"] is not None:
        refuse_typed(
            ctx, (*_LOOP_ONLY, *_STORED), "--max-risk samples answers and chooses one; nothing is revised or stored"
        )
        refuse_typed(ctx, ("temperature", "step_verifier"), "--max-risk samples as the verifier was calibrated")
    elif strategy is not None:
        reason = f"a search ({strategy}) has no such loop: leave --strategy, --budget and --plan away"
        refuse_typed(ctx, _LOOP_ONLY, reason)
        files = {name: given[name] for name in ("verifier", "step_verifier", "plan")}
        refuse_idle([strategy], **files)
    else:
        reason = "nothing is chosen: give --strategy best_of_n:16, or --max-risk"
        refuse_typed(ctx, ("verifier", "step_verifier"), reason)
        if not given["temperature"]:
            refuse_typed(ctx, ("seed",), "greedily every draw is the same: give --temperature 1, too")
    if not given["checkpoint"]:
        refuse_typed(ctx, ("thread",), "it names an episode in a store: give --checkpoint FILE, too")


_STEPWISE = ("beam", "compute_optimal", "own")


def _kind(name: str) -> str:
    return "own" if is_address(name) else name.partition(":")[0].strip()


def _asks_verifier(name: str) -> bool:
    kind = _kind(name)
    votes = kind in ("majority", "self_judged") or any(f"pick={other}" in name for other in ("majority", "last"))
    return kind == "own" or not votes


def strategy_of(name: str, plan: "SearchPlan | None", budget: int | None, limit: int) -> "Strategy":
    """The strategy called `name`. One without numbers takes as many answers of the longest kind as the budget allows.

    Raises:
        ConfigurationError: there is none, or "compute_optimal" comes without a plan.
    """
    from selfcorrect.agents.search.compute_optimal import ComputeOptimal
    from selfcorrect.agents.search.strategies import sized, strategy_named

    if name == "compute_optimal":
        if plan is None:
            raise ConfigurationError(
                "--strategy compute_optimal needs --plan FILE, a plan of `selfcorrect tune-budget`"
            )
        return ComputeOptimal(plan)
    if budget is None or any(part[:1].isdigit() for part in name.split(":")):
        return strategy_named(name)
    answers = max(1, budget // limit)
    strategy = sized(name, min(answers, 16) if name.startswith("revise") else answers)
    if strategy is None:
        raise ConfigurationError(f"a budget of {budget} tokens is too small for {name}: an answer may take {limit}")
    return strategy


def numbers_of(text: str) -> list[int]:
    """Budgets as written: "1,2,4" or, doubling in between, "1,2,4,...,64".

    Raises:
        ConfigurationError: they are not numbers of 1 or more.
    """
    numbers: list[int] = []
    parts = [part.strip() for part in text.split(",")]
    for place, part in enumerate(parts):
        if part == "...":
            numbers += _doubling(numbers, parts[place + 1 :], text)
        elif part.isdigit() and int(part) > 0:
            numbers.append(int(part))
        else:
            raise ConfigurationError(f"--budgets {text!r}: expected numbers of 1 or more, such as 1,2,4,...,64")
    return sorted(set(numbers))


def _doubling(before: Sequence[int], after: Sequence[str], text: str) -> list[int]:
    if not before or not after or not after[0].isdigit():
        raise ConfigurationError(f"--budgets {text!r}: '...' stands between two numbers")
    made, last = [], before[-1] * 2
    while last < int(after[0]):
        made.append(last)
        last *= 2
    return made
