"""Twelve structures that LangGraph's users build, after its public tutorials, each with what a policy would say in it.

Every graph is an application's own: it knows nothing of being trained. `said` is what the policy writes for the text of
a prompt; the number of "!" at the end of an answer is what a reward can pay.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypedDict

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelCallLimitMiddleware
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage
from langchain_core.messages import trim_messages as trim
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel
from typing_policy import typed_call

from selfcorrect.agents.plugins.chat_model import ChatSelfCorrect

Chat = ChatSelfCorrect
Said = Callable[[str, int], str]


@dataclass(frozen=True)
class Structure:
    """A graph, what the policy says in it, and how many calls and rows of tokens an episode has."""

    build: Callable[[Chat], Any]
    said: Said
    calls: int
    rows: int
    inputs: Callable[[str], dict[str, Any]] = lambda question: {"messages": [HumanMessage(question)]}
    options: dict[str, Any] = field(default_factory=dict)


def answer(text: str, seed: int) -> str:
    return text + "!" * (seed % 5)


@tool
def add(a: int, b: int) -> int:
    """The sum of two numbers."""
    return a + b


def uses_add(prompt: str, seed: int) -> str:
    if "<tool_response>" in prompt:
        return answer("It is 7", seed)
    return typed_call("add", '{"a": 3, "b": 4}')


def react_by_hand(chat: Chat) -> Any:
    model = chat.bind_tools([add])

    async def agent(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke([SystemMessage("Use tools."), *state["messages"]])]}

    graph = StateGraph(MessagesState).add_node("agent", agent).add_node("tools", ToolNode([add]))
    graph.add_edge(START, "agent").add_conditional_edges("agent", tools_condition).add_edge("tools", "agent")
    return graph.compile()


def agent_with_tool(chat: Chat) -> Any:
    return create_agent(chat, [add], system_prompt="Use tools.")


class Reminding(AgentMiddleware):
    """Adds a word to what the model is shown, as many middlewares do."""

    async def awrap_model_call(self, request: Any, handler: Any) -> Any:
        return await handler(request.override(system_message=SystemMessage("Think, then use tools.")))


def agent_with_middleware(chat: Chat) -> Any:
    return create_agent(chat, [add], middleware=[Reminding(), ModelCallLimitMiddleware(run_limit=5)])


# Retrieval: graders answer by a schema.


class Grade(BaseModel):
    """Whether it holds."""

    binary_score: Literal["yes", "no"]


class RagState(TypedDict, total=False):
    question: str
    documents: list[str]
    generation: str
    tries: int


def self_rag(chat: Chat) -> Any:
    grader = chat.with_structured_output(Grade)

    async def retrieve(state: RagState) -> RagState:
        return {"documents": ["cats purr", "dogs bark"], "tries": state.get("tries", 0) + 1}

    async def grade_documents(state: RagState) -> RagState:
        asked = [f"Is it of use? {document}" for document in state["documents"]]
        grades: Any = await grader.abatch(asked)
        kept = zip(state["documents"], grades, strict=True)
        return {"documents": [document for document, grade in kept if grade.binary_score == "yes"]}

    async def generate(state: RagState) -> RagState:
        shown = f"Answer {state['question']} from {state['documents']}"
        return {"generation": str((await chat.ainvoke(shown)).text)}

    async def transform(state: RagState) -> RagState:
        return {"question": str((await chat.ainvoke(f"Say it better: {state['question']}")).text)}

    async def grounded(state: RagState) -> str:
        grade: Any = await grader.ainvoke(f"Is it grounded? {state['generation']} try {state['tries']}")
        return END if grade.binary_score == "yes" else "transform"

    graph = StateGraph(RagState)
    for node in (retrieve, grade_documents, generate, transform):
        graph.add_node(node.__name__, node)
    graph.add_edge(START, "retrieve").add_edge("retrieve", "grade_documents").add_edge("grade_documents", "generate")
    graph.add_conditional_edges("generate", grounded, ["transform", END]).add_edge("transform", "retrieve")
    return graph.compile()


def grades(prompt: str, seed: int) -> str:
    if "Is it of use?" in prompt:
        return json.dumps({"binary_score": "yes" if "cats" in prompt else "no"})
    if "Is it grounded?" in prompt:
        return json.dumps({"binary_score": "no" if "try 1" in prompt else "yes"})
    return answer("Cats purr", seed)


def crag(chat: Chat) -> Any:
    grader = chat.with_structured_output(Grade, include_raw=True)

    def retrieve(state: RagState) -> RagState:
        return {"documents": ["dogs bark"]}

    def grade(state: RagState) -> RagState:
        found: Any = grader.invoke(f"Is it of use? {state['documents'][0]}")
        return {"documents": state["documents"] if found["parsed"].binary_score == "yes" else []}

    def search(state: RagState) -> RagState:
        asked = chat.invoke(f"A query for: {state['question']}").text
        return {"documents": [f"web: {asked}"]}

    def generate(state: RagState) -> RagState:
        return {"generation": str(chat.invoke(f"{state['question']} {state['documents']}").text)}

    graph = StateGraph(RagState)
    for node in (retrieve, grade, search, generate):
        graph.add_node(node.__name__, node)
    graph.add_edge(START, "retrieve").add_edge("retrieve", "grade").add_edge("search", "generate")
    graph.add_conditional_edges("grade", lambda state: "generate" if state["documents"] else "search")
    return graph.add_edge("generate", END).compile()


# Answers that look back at themselves.


class AnswerQuestion(BaseModel):
    """An answer, what is missing in it, and what to look up."""

    answer: str
    missing: str
    query: str


def reflexion(chat: Chat) -> Any:
    draft = chat.bind_tools([AnswerQuestion], tool_choice="AnswerQuestion")

    async def respond(state: MessagesState) -> Any:
        return {"messages": [await draft.ainvoke(state["messages"])]}

    def look_up(state: MessagesState) -> Any:
        calls = state["messages"][-1].tool_calls  # type: ignore[union-attr]
        found = [ToolMessage(f"found {call['args']['query']}", tool_call_id=call["id"]) for call in calls]
        return {"messages": [*found, HumanMessage("Revise your answer.")]}

    def enough(state: MessagesState) -> str:
        return END if sum(message.type == "ai" for message in state["messages"]) > 1 else "look_up"

    graph = StateGraph(MessagesState).add_node("respond", respond).add_node("look_up", look_up)
    graph.add_edge(START, "respond").add_conditional_edges("respond", enough).add_edge("look_up", "respond")
    return graph.compile()


def reflects(prompt: str, seed: int) -> str:
    said = {"answer": answer("7", seed), "missing": "proof", "query": "sum"}
    return typed_call("AnswerQuestion", json.dumps(said))


class Code(BaseModel):
    """A solution."""

    prefix: str
    code: str


class CodeState(TypedDict):
    messages: Annotated[list[BaseMessage], add_messages]
    error: str


def code_assistant(chat: Chat) -> Any:
    writer = chat.with_structured_output(Code, include_raw=True)

    async def generate(state: CodeState) -> Any:
        made: Any = await writer.ainvoke(state["messages"])
        return {"messages": [made["raw"]]}

    def check(state: CodeState) -> Any:
        try:
            compile(json.loads(str(state["messages"][-1].text))["code"], "answer", "exec")
        except SyntaxError as error:
            return {"error": "yes", "messages": [HumanMessage(f"Your code failed: {error.msg}. Again.")]}
        return {"error": "no"}

    graph = StateGraph(CodeState).add_node("generate", generate).add_node("check", check)
    graph.add_edge(START, "generate").add_edge("generate", "check")
    graph.add_conditional_edges("check", lambda state: END if state["error"] == "no" else "generate")
    return graph.compile()


def codes(prompt: str, seed: int) -> str:
    code = "x = 3 + 4" if "Your code failed" in prompt else "x = = 7"
    return json.dumps({"prefix": answer("Adds", seed), "code": code})


# Several minds: plans, supervisors, trees.


class Plan(BaseModel):
    """Steps, in order."""

    steps: list[str]


class PlanState(TypedDict, total=False):
    input: str
    plan: list[str]
    past: list[str]
    response: str


def plan_and_execute(chat: Chat) -> Any:
    planner = chat.with_structured_output(Plan)
    executor = create_agent(chat, [add], name="executor")

    async def plan(state: PlanState) -> PlanState:
        made: Any = await planner.ainvoke(f"Plan: {state['input']}")
        return {"plan": made.steps, "past": []}

    async def execute(state: PlanState) -> PlanState:
        done = await executor.ainvoke({"messages": [HumanMessage(state["plan"][0])]})
        return {"past": [*state["past"], done["messages"][-1].text], "plan": state["plan"][1:]}

    async def replan(state: PlanState) -> Command[Literal["execute", "__end__"]]:
        if state["plan"]:
            return Command(goto="execute")
        said = (await chat.ainvoke(f"Tell the result of {state['past']}")).text
        return Command(goto=END, update={"response": str(said)})

    graph = StateGraph(PlanState)
    for node in (plan, execute, replan):
        graph.add_node(node.__name__, node)
    return graph.add_edge(START, "plan").add_edge("plan", "execute").add_edge("execute", "replan").compile()


def plans(prompt: str, seed: int) -> str:
    if "Plan:" in prompt:
        return json.dumps({"steps": ["add 3 and 4", "add 3 and 4 once more"]})
    return uses_add(prompt, seed)


class Route(BaseModel):
    """Who works next."""

    next: Literal["adder", "teller", "FINISH"]


def supervisor(chat: Chat) -> Any:
    router = chat.with_structured_output(Route)

    async def lead(state: MessagesState) -> Command[Literal["adder", "teller", "__end__"]]:
        chosen: Any = await router.ainvoke([SystemMessage("Who is next?"), *state["messages"]])
        return Command(goto=END if chosen.next == "FINISH" else chosen.next)

    def worker(name: str, tools: list[Any]) -> Any:
        agent = create_agent(chat, tools, name=name, system_prompt=f"You are the {name}.")

        async def work(state: MessagesState) -> Command[Literal["lead"]]:
            done = await agent.ainvoke({"messages": state["messages"]})
            return Command(goto="lead", update={"messages": [HumanMessage(done["messages"][-1].text, name=name)]})

        return work

    graph = StateGraph(MessagesState).add_node("lead", lead)
    graph.add_node("adder", worker("adder", [add])).add_node("teller", worker("teller", []))
    return graph.add_edge(START, "lead").compile()


def leads(prompt: str, seed: int) -> str:
    if "Who is next?" in prompt:
        return json.dumps({"next": "FINISH" if "Told" in prompt else "teller" if "It is 7" in prompt else "adder"})
    if "You are the teller" in prompt:
        return answer("Told", seed)
    return uses_add(prompt, seed)


class TreeState(TypedDict, total=False):
    question: str
    candidates: list[str]
    scored: Annotated[list[tuple[float, str]], lambda old, new: [*old, *new]]
    best: str


class Score(BaseModel):
    """How good it is."""

    score: int


def lats(chat: Chat) -> Any:
    judge = chat.with_structured_output(Score)

    async def expand(state: TreeState) -> TreeState:
        tried = await chat.agenerate([[HumanMessage(f"Try: {state['question']}")]], n=3)
        return {"candidates": [generation.text for generation in tried.generations[0]]}

    def to_judges(state: TreeState) -> list[Send]:
        return [Send("reflect", {"candidate": text}) for text in state["candidates"]]

    async def reflect(state: Any) -> Any:
        grade: Any = await judge.ainvoke(f"Rate: {state['candidate']}")
        return {"scored": [(grade.score, state["candidate"])]}

    async def choose(state: TreeState) -> TreeState:
        best = max(state["scored"])[1]
        return {"best": str((await chat.ainvoke(f"Go on from: {best}")).text)}

    graph = StateGraph(TreeState)
    for node in (expand, reflect, choose):
        graph.add_node(node.__name__, node)
    graph.add_edge(START, "expand").add_conditional_edges("expand", to_judges, ["reflect"])
    return graph.add_edge("reflect", "choose").add_edge("choose", END).compile()


def searches(prompt: str, seed: int) -> str:
    return json.dumps({"score": 1 + seed % 2}) if "Rate:" in prompt else answer("7", seed)


# Long talks, and people in them.


class Talk(MessagesState):
    summary: str


def trim_and_summarise(chat: Chat) -> Any:
    async def talk(state: Talk) -> Any:
        shown = trim(state["messages"], token_counter=chat, max_tokens=120, strategy="last", start_on="human")
        return {"messages": [await chat.ainvoke([SystemMessage(state.get("summary") or "new"), *shown])]}

    async def summarise(state: Talk) -> Any:
        asked = [*state["messages"], HumanMessage("Summarise.")]
        said = await chat.ainvoke(asked)
        dropped = [RemoveMessage(id=str(message.id)) for message in state["messages"][:-2]]
        return {"summary": str(said.text), "messages": [*dropped, HumanMessage("And now?")]}

    async def close(state: Talk) -> Any:
        return {"messages": [await chat.ainvoke([SystemMessage(state["summary"]), *state["messages"]])]}

    graph = StateGraph(Talk)
    for node in (talk, summarise, close):
        graph.add_node(node.__name__, node)
    return graph.add_edge(START, "talk").add_edge("talk", "summarise").add_edge("summarise", "close").compile()


def long_talk(question: str) -> dict[str, Any]:
    told = [HumanMessage("x" * 200), AIMessage("y" * 50), HumanMessage(question)]
    return {"messages": told}


def human_in_the_loop(chat: Chat) -> Any:
    async def draft(state: MessagesState) -> Any:
        return {"messages": [await chat.ainvoke(state["messages"])]}

    async def review(state: MessagesState) -> Any:
        return {"messages": [HumanMessage(str(interrupt({"draft": state["messages"][-1].text})))]}

    async def final(state: MessagesState) -> Any:
        return {"messages": [await chat.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    for node in (draft, review, final):
        graph.add_node(node.__name__, node)
    return graph.add_edge(START, "draft").add_edge("draft", "review").add_edge("review", "final").compile()


def plain(prompt: str, seed: int) -> str:
    return answer("Fine", seed)


def rag_input(question: str) -> dict[str, Any]:
    return {"question": question}


STRUCTURES: dict[str, Structure] = {
    "ReAct by hand": Structure(react_by_hand, uses_add, calls=2, rows=1),
    "create_agent + tool": Structure(agent_with_tool, uses_add, calls=2, rows=1),
    "create_agent + middleware": Structure(agent_with_middleware, uses_add, calls=2, rows=1),
    "self-RAG": Structure(self_rag, grades, calls=9, rows=9, inputs=rag_input),
    "CRAG": Structure(crag, grades, calls=3, rows=3, inputs=rag_input),
    "reflexion": Structure(reflexion, reflects, calls=2, rows=1),
    "code assistant": Structure(code_assistant, codes, calls=2, rows=1),
    "plan-and-execute": Structure(plan_and_execute, plans, calls=6, rows=4, inputs=lambda asked: {"input": asked}),
    "supervisor": Structure(supervisor, leads, calls=6, rows=5),
    "LATS": Structure(lats, searches, calls=7, rows=7, inputs=rag_input),
    "trim + summarise": Structure(trim_and_summarise, plain, calls=3, rows=3, inputs=long_talk),
    "human in the loop": Structure(
        human_in_the_loop, plain, calls=2, rows=1, options={"replies": lambda asked, problem: "Shorter, please."}
    ),
}
