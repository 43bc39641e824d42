"""`selfcorrect solve --strategy NAME`: one question, the candidates as they come, and the choice."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from selfcorrect.cli.console import notes, reporting, results, write_json
from selfcorrect.cli.searches import open_plan, open_searchers, strategy_of
from selfcorrect.errors import ConfigurationError

if TYPE_CHECKING:
    from selfcorrect.agents.search.candidates import Candidate, SearchResult


@dataclass(frozen=True)
class SearchRequest:
    """What the user asked; see the options of `selfcorrect solve`."""

    question: str
    answer: str | None
    model: str
    strategy: str
    budget: int | None
    verifier: Path | None
    step_verifier: Path | None
    plan: Path | None
    limit: int | None
    seed: int


def solve_by_search(request: SearchRequest, temperature: float, *, as_json: bool) -> None:
    """Search, show the candidates as they come, then the answer."""
    with reporting(as_json=as_json):
        from selfcorrect.cli.questions import checker_of, problem_of_question

        plan = open_plan(request.plan)
        searchers = open_searchers(request.model, request.verifier, request.step_verifier)
        named = searchers.named
        problem = problem_of_question(request.question, answer=request.answer, reads_english=named.reads_english)
        named.refuse_unreadable(problem.prompt)
        sampling = searchers.sampling(request.limit, temperature)
        strategy = strategy_of(request.strategy, plan, request.budget, sampling.max_new_tokens or 1)

        from selfcorrect.agents.search.searching import search_sync

        if not as_json:
            results.print(Text(problem.prompt, style="bold"))
        result = search_sync(
            problem,
            strategy,
            named.policy,
            searchers.verifier,
            request.budget,
            prompts=named.prompts("instruction"),
            sampling=sampling,
            seed=request.seed,
            step_verifier=searchers.step_verifier,
            on_candidate=_nothing if as_json else _show_candidate,
        )
        if result.chosen is None:
            raise ConfigurationError(_why_nothing(result, request))
        checker = checker_of(problem)
        verdict = None if checker is None or not result.answer else checker.check_sync(result.answer, problem.reference)
        if as_json:
            write_json(
                _plain(result)
                | {"prompt": problem.prompt, "verdict": None if verdict is None else verdict.status.value}
            )
        else:
            _show_result(result, verdict)


def _show_candidate(candidate: "Candidate") -> None:
    score = "" if candidate["score"] is None else f"  {candidate['score']:.2f}"
    unread = "" if candidate["key"] is not None else "  (unreadable)"
    results.print(
        Text.assemble((f"{candidate['tokens']:>4} tokens{score}  ", "dim"), candidate["text"], (unread, "yellow"))
    )


def _show_result(result: "SearchResult", verdict: Any) -> None:
    if result.chosen is not None:
        results.print(Text.assemble(("\nanswer  ", "cyan"), result.answer))
    if verdict is not None:
        results.print(Text(f"{verdict.status.value}: {verdict.reason}", style="green" if verdict.correct else "red"))
    saved = f", about {result.saved_tokens} saved" if result.saved_tokens else ""
    results.print(
        Text(
            f"{result.strategy}: {len(result.candidates)} answers, {result.tokens} tokens{saved}; {result.stop_reason}",
            style="dim",
        )
    )
    for note in result.notes:
        notes.print(Text(note, style="yellow"))


def _why_nothing(result: "SearchResult", request: SearchRequest) -> str:
    longest = max((candidate["tokens"] for candidate in result.candidates), default=0)
    if result.stop_reason == "budget":
        return (
            f"the budget of {request.budget} tokens ended before one answer was complete (the longest attempt so far has {longest}); "
            "give a larger --budget"
        )
    return f"none of the {len(result.candidates)} answers could be read; try another --seed or a larger --max-answer-tokens"


def _plain(result: "SearchResult") -> dict[str, Any]:
    return asdict(result)


def _nothing(candidate: "Candidate") -> None: ...
