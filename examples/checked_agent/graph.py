"""Questions about people whom only the tool knows. The agent calls `look_up`, reads, and answers with one word; the
middleware asks once more if that word was not in what the tool returned."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

from gallery import EOS, NAMES_OF_PEOPLE, Example, Trace
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, AgentState, ModelCallLimitMiddleware, hook_config
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.runtime import Runtime

from selfcorrect import ChatSelfCorrect, Policy, Problem
from selfcorrect.agents import PolicyCall

FIELDS = {
    "city": ("oslo", "rome", "lima", "kyoto", "cairo", "turin"),
    "food": ("soup", "rice", "bread", "fish", "cake", "plum"),
    "pet": ("cat", "dog", "horse", "goat", "owl", "hen"),
}
_DICE = random.Random(0)
PEOPLE = {name: {field: _DICE.choice(words) for field, words in FIELDS.items()} for name in NAMES_OF_PEOPLE}

TEMPLATE = (
    "{% for message in messages %}{{ message.role }} : "
    '{% for call in message.tool_calls or [] %}{"name": {{ call.function.name | tojson }}, '
    '"arguments": {{ call.function.arguments | tojson }}} {% endfor %}'
    "{{ message.content }} " + EOS + " {% endfor %}assistant :"
)
"""The chat template of the example's tokenizer: roles, calls as JSON, contents. Which tools there are, the warm-up has
shown; a model of 0.1 million parameters would not read their descriptions."""


@tool
def look_up(name: str) -> str:
    """All that is known of a person."""
    known = PEOPLE.get(name)
    return "nobody" if known is None else " ".join(f"{field} {word}" for field, word in known.items())


class Checked(AgentMiddleware):
    """Sends the first answer back that no tool has told."""

    @hook_config(can_jump_to=["model"])
    def after_model(self, state: AgentState[Any], runtime: Runtime[Any]) -> dict[str, Any] | None:
        messages = state["messages"]
        last = messages[-1]
        if not isinstance(last, AIMessage) or last.tool_calls or any(one.text == "check" for one in messages):
            return None
        told = {word for one in messages if one.type == "tool" for word in str(one.text).split()}
        if str(last.text).strip() in told:
            return None
        return {"messages": [HumanMessage("check")], "jump_to": "model"}


def build(policy: Policy) -> Any:
    """The agent, as LangChain compiles it; four calls of the model at most."""
    chat = ChatSelfCorrect(policy=policy, revisions=0, temperature=0.0)
    return create_agent(chat, [look_up], middleware=[Checked(), ModelCallLimitMiddleware(run_limit=4)])


def call_of(name: str) -> str:
    """The call of the tool, as the policy writes it."""
    return f'{{"name": "look_up", "arguments": {{"name": "{name}"}}}}'


def paid(state: Any, calls: Sequence[PolicyCall], problem: Problem) -> list[float | None]:
    """The call of the tool for asking about the right person, everything after it for being the answer."""
    wanted, rewards = call_of(problem.reference), []
    for call in calls:
        right = call.text.strip() == wanted
        rewards.append(float(right))
        if right:
            wanted = str(problem.gold)
    return rewards


def outcome(state: Any, problem: Problem) -> float:
    """Whether the last word is the answer."""
    return float(state["messages"][-1].text.strip() == problem.gold)


def problems() -> list[Problem]:
    """A question for each person and field, shuffled."""
    made = [
        Problem(id=f"{field}-{name}", prompt=f"{field} of {name}", reference=name, checker="none", gold=word)
        for name, known in PEOPLE.items()
        for field, word in known.items()
    ]
    random.Random(1).shuffle(made)
    return made


KNOWN, HELD_OUT = problems()[40:], problems()[:40]


def traces(seed: int, *, habit: float = 0.6, wrong: float = 0.1) -> Iterator[Trace]:
    """Calls, answers, and second answers, about the known questions, by one who mostly answers with the first thing
    that the tool told; a share of the calls is `wrong` by chance."""
    dice = random.Random(seed)
    while True:
        problem = dice.choice(KNOWN)
        name, told = problem.reference, str(look_up.invoke({"name": problem.reference}))
        asked = f"user : {problem.prompt} {EOS} assistant :"
        read = f"{asked} {call_of(name)} {EOS} tool : {told} {EOS} assistant :"
        yield asked, call_of(dice.choice(NAMES_OF_PEOPLE) if dice.random() < wrong else name)
        yield read, told.split()[1] if dice.random() < habit else str(problem.gold)
        first = dice.choice([word for words in FIELDS.values() for word in words])
        yield f"{read} {first} {EOS} user : check {EOS} assistant :", str(problem.gold)


EXAMPLE = Example(
    name="checked_agent",
    words=[
        *FIELDS, *(word for words in FIELDS.values() for word in words), *NAMES_OF_PEOPLE,
        *map(call_of, NAMES_OF_PEOPLE), "user assistant tool : of check nobody",
    ],
    traces=traces,
    build=build,
    known=KNOWN,
    held_out=HELD_OUT,
    inputs=lambda problem: {"messages": [HumanMessage(problem.prompt)]},
    paid=paid,
    outcome=outcome,
    max_new_tokens=8,
    warm_up_steps=250,
    warm_up_by="muon",
    batches=10,
    chat_template=TEMPLATE,
)  # fmt: skip
