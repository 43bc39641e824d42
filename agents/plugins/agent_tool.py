"""A policy or a correction graph as a tool of an agent."""

from typing import TYPE_CHECKING, Any

from langchain_core.messages import HumanMessage
from langchain_core.tools import BaseTool, StructuredTool
from pydantic import BaseModel, Field

if TYPE_CHECKING:
    from selfcorrect.agents.plugins.chat_model import ChatSelfCorrect

DESCRIPTION = (
    "Solves one self-contained problem: writes an answer, looks for mistakes in it, and gives the corrected answer."
)


class ProblemInput(BaseModel):
    """What the tool is called with."""

    problem: str = Field(description="The whole problem; nothing else of the conversation is seen.", min_length=1)


def as_tool(model: "ChatSelfCorrect", *, name: str = "solve_problem", description: str = DESCRIPTION) -> BaseTool:
    """`model` as a tool with one argument, `problem`.

    The agent sees the answer; the `artifact` of the tool message holds the turns. Make `model` of a policy or a graph:
    `as_tool(ChatSelfCorrect(policy=policy))`.
    """

    def solve_problem(problem: str) -> tuple[str, Any]:
        message = model.invoke([HumanMessage(problem)])
        return str(message.text), message.response_metadata["turns"]

    async def solve_problem_async(problem: str) -> tuple[str, Any]:
        message = await model.ainvoke([HumanMessage(problem)])
        return str(message.text), message.response_metadata["turns"]

    return StructuredTool.from_function(
        solve_problem,
        solve_problem_async,
        name=name,
        description=description,
        args_schema=ProblemInput,
        response_format="content_and_artifact",
    )
