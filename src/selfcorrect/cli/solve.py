"""`selfcorrect solve`: one question, the turns as they happen."""

import re
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from selfcorrect.cli.console import loading, notes, reporting, results, tell_files, write_json
from selfcorrect.cli.naming import open_policy, steered
from selfcorrect.cli.options import (
    THINK_END,
    WAIT_WORD,
    AnswerLimit,
    AsJson,
    Critique,
    Device,
    Dtype,
    ModelName,
    PromptsName,
    Revisions,
    Seed,
    ThinkEnd,
    ThinkTokens,
    Waits,
    WaitWord,
)
from selfcorrect.cli.search_options import (
    Checkpoint,
    MaxRisk,
    PlanFile,
    StepVerifierFolder,
    Thread,
    VerifierFolder,
    open_plan,
    open_searchers,
    refuse_idle_of_solve,
    strategy_of,
)
from selfcorrect.cli.tables import candidate_line, search_lines, turn_lines
from selfcorrect.errors import ConfigurationError

if TYPE_CHECKING:
    from selfcorrect.agents.choosing.abstaining import Abstaining, Decision
    from selfcorrect.agents.search.state import Candidate, SearchResult
    from selfcorrect.agents.state import Turn


# `selfcorrect solve --verifier DIR --max-risk R`: one question, and an answer only if the risk is small enough.


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
    prompts: str | None
    searches: bool
    """Whether --strategy, --budget or --plan were given too."""


def solve_or_abstain(request: CautiousRequest, *, as_json: bool) -> None:
    """Sample and choose as the verifier was calibrated; give the answer, or say "I don't know"."""
    with reporting(as_json=as_json):
        import asyncio

        from selfcorrect.cli.naming import checker_of
        from selfcorrect.rewards.checker import judged_sync

        folder = _folder(request)
        named = open_policy(request.model)
        problem = named.problem_of(request.question, answer=request.answer)
        solver = _solver(folder, request, named)
        decision = asyncio.run(solver.decide(problem, named.policy, seed=request.seed))
        checker = checker_of(problem)
        text = decision.candidate
        verdict = None if checker is None else judged_sync(checker, text, problem.reference, problem.prompt)
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
            "--max-risk holds for answers that are sampled and chosen as in the verifier's calibration: leave "
            "--strategy, --budget and --plan away"
        )
    return request.verifier


def _solver(folder: Path, request: CautiousRequest, named: Any) -> "Abstaining":
    with loading(f"verifier {folder}"):
        from selfcorrect.agents.choosing.abstaining import Abstaining

        tokenizer = getattr(named.policy, "tokenizer", None)
        prompts = named.prompts(chosen=request.prompts)
        solver = Abstaining.from_folder(folder, request.max_risk, prompts=prompts, policy_tokenizer=tokenizer)
    return replace(solver, max_new_tokens=request.limit or named.answer_tokens)


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


# `selfcorrect solve --strategy NAME`: one question, the candidates as they come, and the choice.


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
    prompts: str | None
    checkpoint: str | None
    thread: str | None


def solve_by_search(request: SearchRequest, temperature: float, *, as_json: bool) -> None:
    """Search, show the candidates as they come, then the answer."""
    with reporting(as_json=as_json):
        from selfcorrect.cli.naming import checker_of, usual_words
        from selfcorrect.rewards.checker import judged_sync

        plan = open_plan(request.plan)
        searchers = open_searchers(request.model, request.verifier, request.step_verifier)
        named = searchers.named
        problem = named.problem_of(request.question, answer=request.answer)
        searchers.refuse_unfit(checker := checker_of(problem))
        sampling = searchers.sampling(request.limit, temperature)
        strategy = strategy_of(request.strategy, plan, request.budget, sampling.max_new_tokens or 1)

        from selfcorrect.agents.search.search import search_sync

        if not as_json:
            results.print(Text(problem.prompt, style="bold"))
        told: list[Candidate] = []

        def tell(candidate: "Candidate") -> None:
            told.append(candidate)
            if not as_json:
                results.print(candidate_line(candidate))

        result = search_sync(
            problem,
            strategy,
            named.policy,
            searchers.verifier,
            request.budget,
            prompts=named.prompts(usual=usual_words(problem), chosen=request.prompts),
            sampling=sampling,
            seed=request.seed,
            step_verifier=searchers.step_verifier,
            on_candidate=tell,
            checkpointer=request.checkpoint,
            thread_id=request.thread or request.question,
        )
        if result.chosen is None:
            raise ConfigurationError(_why_nothing(result, request))
        text = result.answer
        verdict = None if checker is None or not text else judged_sync(checker, text, problem.reference, problem.prompt)
        if as_json:
            status = None if verdict is None else verdict.status.value
            write_json(asdict(result) | {"prompt": problem.prompt, "verdict": status})
        else:
            for line in search_lines(result, verdict, earlier=len(result.candidates) - len(told)):
                results.print(line)
            for note in result.notes:
                notes.print(Text(note, style="yellow"))
            if request.checkpoint is not None:
                more = ", with a larger --budget from where it ended" if result.stop_reason == "budget" else ""
                _tell_thread(request.thread or request.question, request.checkpoint, f"goes on with it{more}")


def _why_nothing(result: "SearchResult", request: SearchRequest) -> str:
    longest = max((candidate["tokens"] for candidate in result.candidates), default=0)
    if result.stop_reason == "budget":
        return (
            f"the budget of {request.budget} tokens ended before one answer was complete (the longest attempt so far "
            f"has {longest}); give a larger --budget"
        )
    return (
        f"none of the {len(result.candidates)} answers could be read; try another --seed or a larger "
        "--max-answer-tokens"
    )


def solve(
    ctx: typer.Context,
    words: Annotated[list[str], typer.Argument(metavar="QUESTION", help="In quotes, such as '3 5 7 9 get 56'.")],
    model: ModelName = "embedded",
    device: Device = None,
    dtype: Dtype = None,
    answer: Annotated[
        str | None, typer.Option(help="The right answer, to judge the turns by; never shown to the policy.")
    ] = None,
    revisions: Revisions = None,
    critique: Critique = None,
    prompts: PromptsName = None,
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
    max_risk: MaxRisk = None,
    checkpoint: Checkpoint = None,
    thread: Thread = None,
    think_tokens: ThinkTokens = None,
    waits: Waits = 0,
    wait_word: WaitWord = WAIT_WORD,
    think_end: ThinkEnd = THINK_END,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Attempt QUESTION, revise the answer, and show the turns as they happen. Countdown questions are judged.

    With --strategy, --budget or --plan: search for the answer, and show the candidates as they come.
    """
    searches = strategy is not None or budget is not None or plan is not None
    name = strategy or ("majority" if plan is None else "compute_optimal")
    question = " ".join(words)
    with reporting(as_json=as_json):
        if len(words) > 1:
            raise ConfigurationError(f"put the question into quotes: selfcorrect solve {shlex.quote(question)}")
        refuse_idle_of_solve(ctx, name if searches else None)
    if max_risk is not None:
        cautious = CautiousRequest(question, answer, model, verifier, max_risk, limit, seed, prompts, searches)
        solve_or_abstain(cautious, as_json=as_json)
    elif searches:
        request = SearchRequest(
            question, answer, model, name, budget, verifier, step_verifier, plan, limit, seed, prompts, checkpoint,
            thread,
        )  # fmt: skip
        solve_by_search(request, 1.0 if temperature is None else temperature, as_json=as_json)
    else:
        loop = (revisions, critique, temperature or 0.0)
        asked = LoopRequest(question, answer, model, *loop, limit, seed, prompts, checkpoint, thread, ctx)
        solve_by_correction(asked, as_json=as_json)


# The correction loop on one question: the public `solve`, on a graph that ends after --revisions.


@dataclass(frozen=True)
class LoopRequest:
    """What the user asked; see the options of `selfcorrect solve`."""

    question: str
    answer: str | None
    model: str
    revisions: int | None
    critique: str | None
    temperature: float
    limit: int | None
    seed: int
    prompts: str | None
    checkpoint: str | None
    thread: str | None
    ctx: typer.Context


def solve_by_correction(request: LoopRequest, *, as_json: bool) -> None:
    """Attempt, revise, show the turns as they are written and judged."""
    with reporting(as_json=as_json):
        _corrected(request, as_json=as_json)


def _corrected(request: LoopRequest, *, as_json: bool) -> None:
    from selfcorrect.agents.critiques import CRITIQUES, has_findings
    from selfcorrect.cli.naming import checker_of, usual_words

    named = steered(open_policy(request.model), request.ctx)
    problem = named.problem_of(request.question, answer=request.answer)
    checker = checker_of(problem)
    loop = named.loop(request.critique, request.revisions, fits=lambda mode: has_findings(mode, checker))
    named.warn_beyond(loop.revisions)

    from selfcorrect.agents.graph import build_graph
    from selfcorrect.agents.policy import Sampling
    from selfcorrect.agents.solving.solve import solve_sync
    from selfcorrect.agents.stopping import Budget

    mode = CRITIQUES.find(loop.critique)
    named.refuse_critique(mode, checker)
    if mode.needs_checker and checker is None:
        raise ConfigurationError(
            f"--critique {loop.critique}: nothing judges this question, so there are no findings to pass on; give "
            "--answer, or use instruction or self"
        )
    graph = build_graph(
        named.policy,
        checker=checker,
        prompts=named.prompts(mode, usual=usual_words(problem), chosen=request.prompts),
        revisions=loop.revisions,
        critique=mode,
    )
    if not as_json:
        results.print(Text(problem.prompt, style="bold"))
    told: list[Turn] = []

    def tell(turn: "Turn") -> None:
        told.append(turn)
        if not as_json:
            spinner.stop()  # it is drawn on standard error, and would leave its line between the turns
            results.print(turn_lines(turn))
            spinner.start()

    with notes.status("thinking ...") as spinner:
        solution = solve_sync(
            problem,
            graph,
            budget=Budget(turns=2 + mode.turns * loop.revisions),  # the graph ends before
            sampling=Sampling(temperature=request.temperature, max_new_tokens=request.limit),
            seed=request.seed,
            on_turn=tell,
            checkpointer=request.checkpoint,
            thread_id=request.thread or request.question,
        )
    if not as_json and not told:
        notes.print(Text(f"thread {solution.thread_id!r} was finished before; its turns:", style="dim"))
        for turn in solution.turns:
            results.print(turn_lines(turn))
    if as_json:
        from selfcorrect.agents.plugins.replies import total_usage
        from selfcorrect.agents.state import EpisodeState, usage_of
        from selfcorrect.training.runs.run_directory import episode_record

        episode = EpisodeState(problem=problem.model_dump(), turns=solution.turns, stop_reason=solution.stop_reason)
        record = episode_record(episode, policy=request.model)
        for row, turn in zip(record["turns"], solution.turns, strict=True):
            row["usage"] = usage_of(turn["generation"])
        write_json(record | {"usage": total_usage(solution.turns)})
    elif request.checkpoint is not None:
        _tell_thread(solution.thread_id, request.checkpoint, "shows it again")


def _tell_thread(thread: str, store: str, again: str) -> None:
    """Where an episode or a search is kept, and what the same command does."""
    kept = f"{thread!r} in {_without_password(store)}"
    tell_files({"thread": kept, "next": f"the same command {again}; another --thread asks anew"})


def _without_password(store: str) -> str:
    """An address of a database as it may be shown."""
    return re.sub(r"//[^/@]*@", "//", store)
