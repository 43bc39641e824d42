"""An MCP server: checkers that cannot be talked round, and a policy that revises, as tools of any agent."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from typing import Any

from selfcorrect.agents.policy import GREEDY, Policy, Sampling
from selfcorrect.agents.prompts import PLAIN, Prompts
from selfcorrect.agents.state import Generation, Message
from selfcorrect.distribution import install_command
from selfcorrect.errors import ConfigurationError, PolicyError
from selfcorrect.rewards.checker import Checker, Verdict
from selfcorrect.rewards.code import UnitTestChecker
from selfcorrect.rewards.maths import MathChecker

INSTRUCTIONS = (
    "Tools that judge and mend answers. check_math compares a mathematical answer with the right one; check_code runs "
    "a Python program against tests in a jail without network or files. A status of 'unjudged' means that the judge "
    "failed: it says nothing about the answer."
)
Tool = Callable[..., Awaitable[dict[str, Any]]]


@dataclass(frozen=True)
class CheckTools:
    """The tools that judge.

    Args:
        maths: judges `check_math`.
        code: judges `check_code`.
    """

    maths: Checker
    code: Checker

    async def check_math(self, response: str, reference: str, problem: str | None = None) -> dict[str, Any]:
        """Judge a mathematical answer.

        Args:
            response: the whole answer; its last stated or boxed result counts.
            reference: the right result, plain or LaTeX.
            problem: what was asked: an answer that only repeats it is wrong.
        """
        return await self._judged(self.maths, response, reference, problem)

    async def check_code(self, program: str, tests: str) -> dict[str, Any]:
        """Run a Python program against tests, in a jail without network, files or other processes.

        Args:
            program: Python, or a Markdown answer that holds it in a fenced block.
            tests: Python: assert statements, or a function check(candidate).
        """
        return await self._judged(self.code, program, tests, None)

    async def _judged(self, checker: Checker, response: str, reference: str, problem: str | None) -> dict[str, Any]:
        fault = checker.validate_reference(reference)
        if fault is not None:
            raise ValueError(f"the checker cannot use this reference: {fault}")
        return _as_result(await checker.check(response, reference, problem=problem))


def _as_result(verdict: Verdict) -> dict[str, Any]:
    return {
        "status": verdict.status.value,
        "correct": verdict.correct,
        "answer": verdict.answer,
        "reason": verdict.reason,
    }


@dataclass(frozen=True)
class PolicyTools:
    """The tools that write.

    Args:
        policy: writes the answers.
        prompts: the words around a problem and of the request to revise.
        revisions: how often `solve` revises its answer.
        sampling: how answers are drawn.
    """

    policy: Policy
    prompts: Prompts
    revisions: int
    sampling: Sampling

    async def solve(self, problem: str) -> dict[str, Any]:
        """Solve one self-contained problem: write an answer, look for mistakes in it, give the corrected answer.

        Args:
            problem: the whole problem; nothing else is seen.
        """
        if not problem.strip():
            raise ValueError("the problem is blank")
        said = await self._next([*self._opening(problem)], None)
        answers = [said["text"]]
        for _ in range(self.revisions):
            said = await self._next([Message(role="user", content=self.prompts.revise)], said)
            answers.append(said["text"])
        return {"answer": answers[-1], "earlier_answers": answers[:-1]}

    async def revise(self, problem: str, answer: str, finding: str | None = None) -> dict[str, Any]:
        """Write an answer to a problem again, corrected.

        Args:
            problem: the whole problem.
            answer: the answer that may be wrong.
            finding: what is known to be wrong with it, such as the reason that a checker gave.
        """
        if not problem.strip() or not answer.strip():
            raise ValueError("the problem and the answer must not be blank")
        request = self.prompts.revise if not finding else self.prompts.feedback.replace("{reason}", finding)
        given = [Message(role="assistant", content=answer), Message(role="user", content=request)]
        return {"answer": (await self._next([*self._opening(problem), *given], None))["text"]}

    def _opening(self, problem: str) -> list[Message]:
        system = [Message(role="system", content=self.prompts.system)] if self.prompts.system else []
        return [*system, Message(role="user", content=self.prompts.attempt.replace("{problem}", problem))]

    async def _next(self, messages: list[Message], after: Generation | None) -> Generation:
        try:
            return await self.policy.generate(messages, self.sampling, after=after)
        except PolicyError as error:
            raise ValueError(str(error)) from error


def mcp_server(
    policy: Policy | None = None,
    *,
    prompts: Prompts = PLAIN,
    revisions: int = 1,
    sampling: Sampling = GREEDY,
    maths: Checker | None = None,
    code: Checker | None = None,
) -> Any:
    """A server of the official `mcp` package, with `run("stdio")` and `streamable_http_app()`.

    Its tools are `check_math` and `check_code`; with a policy `solve` and `revise` too.

    Args:
        policy, prompts, revisions, sampling: see `PolicyTools`.
        maths: judges `check_math`; by default `MathChecker()`.
        code: judges `check_code`; by default `UnitTestChecker()`.

    Raises:
        ConfigurationError: the package is not installed, or `revisions` is negative.
    """
    if revisions < 0:
        raise ConfigurationError(f"revisions must be 0 or more, got {revisions}")
    kind, tool_error = _server_classes()
    server = kind("selfcorrect", instructions=INSTRUCTIONS)
    checks = CheckTools(maths or MathChecker(), code or UnitTestChecker())
    tools: list[Tool] = [checks.check_math, checks.check_code]
    if policy is not None:
        writes = PolicyTools(policy, prompts, revisions, sampling)
        tools += [writes.solve, writes.revise]
    for tool in tools:
        server.tool()(_telling(tool, tool_error))
    return server


def _telling(tool: Tool, tool_error: type[Exception]) -> Tool:
    """`tool`, whose ValueErrors reach the agent with their words: version 2 of `mcp` keeps other errors to itself."""

    @wraps(tool)
    async def told(*values: Any, **named: Any) -> dict[str, Any]:
        try:
            return await tool(*values, **named)
        except ValueError as error:
            raise tool_error(str(error)) from error

    return told


def _server_classes() -> tuple[Any, type[Exception]]:
    """`MCPServer` of version 2, which was `FastMCP` in version 1, and the error whose words an agent is told."""
    try:
        import mcp.server as found
    except ImportError as error:
        raise ConfigurationError(f"an MCP server needs the package mcp: {install_command('mcp')}") from error
    if hasattr(found, "MCPServer"):
        return found.MCPServer, import_module("mcp.server.mcpserver.exceptions").ToolError
    from mcp.server.fastmcp import FastMCP
    from mcp.server.fastmcp.exceptions import ToolError

    return FastMCP, ToolError
