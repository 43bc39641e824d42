"""`selfcorrect solve --verifier DIR --max-risk R`: one question, and an answer only if the risk is small enough."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from selfcorrect.cli.console import loading, notes, reporting, results, write_json
from selfcorrect.cli.policies import open_policy
from selfcorrect.errors import ConfigurationError

if TYPE_CHECKING:
    from selfcorrect.agents.abstaining import Abstaining, Decision

_SHORT, _LONG = 24, 512


@dataclass(frozen=True)
class CautiousRequest:
    """What the user asked; see the options of `selfcorrect solve`."""

    question: str
    answer: str | None
    model: str
    verifier: Path | None
    max_risk: float
    limit: int | None
    seed: int
    searches: bool
    """Whether --strategy, --budget or --plan were given too."""


def solve_or_abstain(request: CautiousRequest, *, as_json: bool) -> None:
    """Sample and choose as the verifier was calibrated; give the answer, or say "I don't know"."""
    with reporting(as_json=as_json):
        import asyncio

        from selfcorrect.cli.questions import checker_of, problem_of_question

        folder = _folder(request)
        named = open_policy(request.model)
        problem = problem_of_question(request.question, answer=request.answer, reads_english=named.reads_english)
        named.refuse_unreadable(problem.prompt)
        solver = _solver(folder, request, named)
        decision = asyncio.run(solver.decide(problem, named.policy, seed=request.seed))
        checker = checker_of(problem)
        verdict = None if checker is None else checker.check_sync(decision.candidate, problem.reference)
        if as_json:
            status = None if verdict is None else verdict.status.value
            write_json(asdict(decision) | {"prompt": problem.prompt, "rule": asdict(solver.rule), "verdict": status})
        else:
            _show(problem.prompt, decision, solver, verdict)


def _folder(request: CautiousRequest) -> Path:
    if request.verifier is None:
        raise ConfigurationError(
            "--max-risk needs a calibrated verifier: give --verifier DIR (`selfcorrect train vstar` makes them)"
        )
    if request.searches:
        raise ConfigurationError(
            "--max-risk holds for answers that are sampled and chosen as in the verifier's calibration: leave --strategy, --budget and "
            "--plan away"
        )
    return request.verifier


def _solver(folder: Path, request: CautiousRequest, named: Any) -> "Abstaining":
    with loading(f"verifier {folder}"):
        from selfcorrect.agents.abstaining import Abstaining

        tokenizer = getattr(named.policy, "tokenizer", None)
        prompts = named.prompts("instruction")
        solver = Abstaining.from_folder(folder, request.max_risk, prompts=prompts, policy_tokenizer=tokenizer)
    return replace(solver, max_new_tokens=request.limit or (_LONG if named.reads_english else _SHORT))


def _show(prompt: str, decision: "Decision", solver: "Abstaining", verdict: Any) -> None:
    results.print(Text(prompt, style="bold"))
    results.print(Text.assemble(("\nanswer  ", "cyan"), str(decision)))
    score = "unreadable" if decision.score is None else f"score {decision.score:.3f}"
    if decision.answer is None:
        results.print(Text(f"held back ({score}): {decision.candidate}", style="dim"))
    if verdict is not None:
        results.print(Text(f"{verdict.status.value}: {verdict.reason}", style="green" if verdict.correct else "red"))
    results.print(Text(f"best of {decision.candidates}, {score}, {decision.tokens} tokens", style="dim"))
    notes.print(Text(str(solver.rule), style="dim"))
