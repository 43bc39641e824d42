"""`selfcorrect solve`: one question, the turns as they happen."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from selfcorrect.cli.console import notes, reporting, results, write_json
from selfcorrect.cli.options import AsJson, Critique, ModelName, Revisions, Seed
from selfcorrect.cli.searches import AnswerLimit, PlanFile, StepVerifierFolder, VerifierFolder

if TYPE_CHECKING:
    from selfcorrect.agents.state import EpisodeState, Turn, VerdictRecord
    from selfcorrect.tasks.problem import Problem

_ROLES = {"attempt": "attempt", "critique": "critique", "revise": "revision"}
_STYLES = {"correct": "green", "wrong": "red", "unreadable": "red", "unjudged": "yellow"}
_MARKS = {"correct": "✓", "wrong": "✗", "unreadable": "✗", "unjudged": "?"}


def solve(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="Such as '3 5 7 9 get 56'.")],
    model: ModelName = "embedded",
    answer: Annotated[
        str | None, typer.Option(help="The right answer, to judge the turns by; never shown to the policy.")
    ] = None,
    revisions: Revisions = 1,
    critique: Critique = "instruction",
    temperature: Annotated[
        float | None, typer.Option(min=0, help="0 is greedy, the default; of a search it is 1.")
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            help="Search: majority:16, best_of_n:16, weighted:16, beam:4x4, revise:4, mixed:4x3, compute_optimal."
        ),
    ] = None,
    budget: Annotated[int | None, typer.Option(min=1, help="Of a search: generated tokens, in all.")] = None,
    verifier: VerifierFolder = None,
    step_verifier: StepVerifierFolder = None,
    plan: PlanFile = None,
    limit: AnswerLimit = None,
    max_risk: Annotated[
        float | None,
        typer.Option(
            help="With --verifier: the share of wrong answers to accept; answers 'I don't know' when less sure."
        ),
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Attempt QUESTION, revise the answer, and show the turns as they happen. Countdown questions are judged.

    With --strategy, --budget or --plan: search for the answer, and show the candidates as they come.
    """
    searches = strategy is not None or budget is not None or plan is not None
    if max_risk is not None:
        from selfcorrect.cli.solve_abstaining import CautiousRequest, solve_or_abstain

        cautious = CautiousRequest(question, answer, model, verifier, max_risk, limit, seed, searches)
        solve_or_abstain(cautious, as_json=as_json)
        return
    if searches:
        from selfcorrect.cli.solve_search import SearchRequest, solve_by_search

        name = strategy or ("majority" if plan is None else "compute_optimal")
        request = SearchRequest(question, answer, model, name, budget, verifier, step_verifier, plan, limit, seed)
        solve_by_search(request, 1.0 if temperature is None else temperature, as_json=as_json)
        return
    with reporting(as_json=as_json):
        _solve_by_correction(question, answer, model, revisions, critique, temperature or 0.0, seed, as_json=as_json)


def _solve_by_correction(
    question: str,
    answer: str | None,
    model: str,
    revisions: int,
    critique: Critique,
    temperature: float,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """The correction loop on one question."""
    import asyncio

    from selfcorrect.cli.policies import open_policy
    from selfcorrect.cli.questions import checker_of, problem_of_question

    named = open_policy(model)
    problem = problem_of_question(question, answer=answer, reads_english=named.reads_english)
    named.refuse_unreadable(problem.prompt)

    from selfcorrect.agents.graph import build_graph
    from selfcorrect.agents.policy import Sampling

    graph = build_graph(
        named.policy,
        checker=checker_of(problem),
        prompts=named.prompts(critique),
        revisions=revisions,
        critique=critique,
    )
    show = _nothing if as_json else TurnPrinter(problem).show
    state = asyncio.run(_play(graph, problem, seed, Sampling(temperature=temperature), show))
    if as_json:
        from selfcorrect.training.readable import readable_episode

        write_json(readable_episode(state, policy=model))


class TurnPrinter:
    """Prints each turn when it is written and its verdict when it is known."""

    def __init__(self, problem: "Problem") -> None:
        self._shown = 0
        self._judged = 0
        results.print(Text(problem.prompt, style="bold"))

    def show(self, state: "EpisodeState") -> None:
        """Print what is new in `state`."""
        for index, turn in enumerate(state.get("turns", [])):
            if index >= self._shown:
                self._print_turn(turn)
                self._shown = index + 1
            if index >= self._judged and turn["verdict"] is not None:
                self._print_verdict(turn["verdict"])
                self._judged = index + 1

    def _print_turn(self, turn: "Turn") -> None:
        results.print(Text(f"\n{_ROLES[turn['role']]}", style="cyan"))
        results.print(Text(turn["generation"]["text"]))
        if turn["generation"]["finish_reason"] == "length":
            results.print(Text("cut off at the token limit", style="yellow"))

    def _print_verdict(self, verdict: "VerdictRecord") -> None:
        status = verdict["status"]
        results.print(Text(f"{_MARKS[status]} {status}: {verdict['reason']}".removesuffix(": "), style=_STYLES[status]))


async def _play(
    graph: Any, problem: "Problem", seed: int, sampling: Any, show: Callable[["EpisodeState"], None]
) -> "EpisodeState":
    from selfcorrect.agents.episodes import opening
    from selfcorrect.agents.nodes import EpisodeContext

    last = opening(problem, seed)
    with notes.status("thinking ..."):
        async for state in graph.astream(last, context=EpisodeContext(sampling), stream_mode="values"):
            show(state)
            last = state
    return last


def _nothing(state: "EpisodeState") -> None: ...
