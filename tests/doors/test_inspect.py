"""Graphs and checkers in inspect_ai's evaluations: with the library itself, see .ci/doors."""

import pytest

from selfcorrect.agents import PLAIN, ChatSelfCorrect, ScriptedPolicy, build_graph
from selfcorrect.agents.plugins.evaluators import InspectPolicy, inspect_agent, inspect_samples, inspect_scorer
from selfcorrect.rewards import MathChecker, Status, Verdict
from selfcorrect.tasks import Problem

inspect_ai = pytest.importorskip("inspect_ai", reason="the extra inspect is not installed; see .ci/doors")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # streams that inspect leaves to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

PROBLEMS = [Problem(id=f"p{n}", prompt=f"What is {n} + {n}?", reference=str(2 * n), checker="math") for n in (2, 3, 4)]


def evaluated(agent, scorer, tmp_path, model="mockllm/model"):
    task = inspect_ai.Task(dataset=inspect_samples(PROBLEMS), solver=agent, scorer=scorer)
    (log,) = inspect_ai.eval(task, model=model, log_dir=str(tmp_path), display="none", log_format="json")
    assert log.status == "success", log.error
    return log


def mock(*answers):
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    outputs = [ModelOutput.from_content("mockllm/model", answer) for answer in answers]
    for output in outputs:  # else they are counted by a tokenizer from the network
        output.usage = ModelUsage(input_tokens=7, output_tokens=3, total_tokens=10)
    return get_model("mockllm/model", custom_outputs=outputs)


def test_a_graph_of_ours_is_evaluated_and_its_turns_are_in_the_log(tmp_path):
    policy = ScriptedPolicy(lambda conversation: r"\boxed{6}" if len(conversation) > 2 else r"\boxed{5}")
    log = evaluated(inspect_agent(ChatSelfCorrect(policy=policy, revisions=1)), inspect_scorer("math"), tmp_path)
    assert [sample.scores["selfcorrect_math"].value for sample in log.samples] == [0.0, 1.0, 0.0]
    turns = log.samples[1].messages[-1].metadata["turns"]
    assert [turn["text"] for turn in turns] == [r"\boxed{5}", r"\boxed{6}"]
    assert log.samples[1].scores["selfcorrect_math"].answer == "6"


def test_the_evaluated_model_plays_the_graph(tmp_path):
    graph = build_graph(InspectPolicy(), prompts=PLAIN, revisions=1)
    model = mock(*[r"\boxed{1}", r"\boxed{4}"] * 3)
    log = evaluated(inspect_agent(ChatSelfCorrect(graph=graph)), inspect_scorer(MathChecker()), tmp_path, model=model)
    assert sorted(sample.scores["selfcorrect_MathChecker"].value for sample in log.samples) == [0.0, 0.0, 1.0]
    calls = [event for event in log.samples[0].events if event.event == "model"]
    assert len(calls) == 2  # both turns are in inspect's own transcript
    assert [message.role for message in calls[1].input] == ["user", "assistant", "user"]


def test_what_cannot_be_judged_is_left_out_of_the_metrics(tmp_path):
    class Abstains(MathChecker):
        async def check(self, response, reference, *, problem=None):
            return Verdict(Status.UNJUDGED, None, "the judge was busy")

    log = evaluated(
        inspect_agent(ChatSelfCorrect(policy=ScriptedPolicy([r"\boxed{4}"]), revisions=0)),
        inspect_scorer(Abstains()),
        tmp_path,
    )
    score = log.samples[0].scores["selfcorrect_Abstains"]
    assert score.value != score.value and score.explanation == "the judge was busy"


def test_nodes_that_ask_openai_for_inspect_reach_the_evaluated_model(tmp_path):
    pytest.importorskip("langchain_openai")
    from langchain_openai import ChatOpenAI

    asked = ChatOpenAI(model="inspect", api_key="none")
    log = evaluated(
        inspect_agent(asked, bridge=True), inspect_scorer("math"), tmp_path, model=mock(*[r"\boxed{6}"] * 3)
    )
    assert [sample.scores["selfcorrect_math"].value for sample in log.samples] == [0.0, 1.0, 0.0]
