"""The words of a loop as settings: by name, from a file of one's own, with worked examples; and ways to critique."""

from pathlib import Path
from textwrap import dedent

import pytest

from selfcorrect.agents.critiques import CRITIQUES, CritiqueMode, Step
from selfcorrect.agents.episodes import play_sync
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.nodes import Critique, Revise
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.policy import Policy
from selfcorrect.agents.prompts import (
    PAG_MATH,
    PLAIN,
    PROMPTS,
    SCORE_CODE,
    SCORE_MATH,
    Prompts,
    PromptSettings,
    named_prompts,
    prompt_settings,
)
from selfcorrect.agents.stopping import FixedRevisions, OwnVerdict, Stop
from selfcorrect.errors import ConfigurationError, GraphError
from selfcorrect.tasks.problem import Problem

SUM = Problem(id="sum", prompt="2 + 3", reference="5", checker="math")


def test_prompts_have_names_and_a_mode_may_have_others_in_their_place() -> None:
    assert named_prompts("math") == SCORE_MATH and named_prompts("math", CRITIQUES["self"]) == PAG_MATH
    assert named_prompts("code", CRITIQUES["self"]) == SCORE_CODE
    assert all(isinstance(prompts, Prompts) for prompts in PROMPTS.values())
    with pytest.raises(ConfigurationError, match="unknown set of prompts 'maths'; did you mean math"):
        named_prompts("maths")


def test_a_file_changes_single_words_and_shows_examples(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        dedent(
            """\
            name: plain
            system: You add.
            attempt: "Q: {problem}"
            examples:
              - {problem: 1 + 1, answer: "A: 2"}
              - {problem: 1 + 2, answer: "A: 3"}
            """
        )
    )
    mine = prompt_settings(str(tmp_path / "mine.yaml")).applied(SCORE_MATH)
    (state,) = play_sync(build_graph(ScriptedPolicy(["A: 5", "A: 5"]), prompts=mine), [SUM])
    system, first = state["turns"][0]["generation"]["messages"]
    assert system["content"] == "You add." and first["content"].endswith("A: 3\n\nQ: 2 + 3")
    assert mine.attempt == "Q: 1 + 1\nA: 2\n\nQ: 1 + 2\nA: 3\n\nQ: {problem}"
    assert (mine.system, mine.revise) == ("You add.", PLAIN.revise)


def test_nothing_set_leaves_the_usual_words() -> None:
    assert prompt_settings(None).applied(PAG_MATH) == PAG_MATH
    assert PromptSettings.of(SCORE_CODE).applied(PLAIN) == SCORE_CODE
    assert prompt_settings("math").applied(PLAIN, CRITIQUES["self"]) == PAG_MATH


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("atempt: '{problem}'", "atempt: unknown; did you mean attempt?"),
        ("attempt: Solve it.", "the attempt template must hold {problem}"),
        ("feedback: Wrong.", "the feedback template must hold {reason}"),
        ("name: maths", "unknown set of prompts 'maths'"),
        ("examples: [{problem: '1 + 1'}]", "answer: missing"),
        ("examples: [{problem: '{problem}', answer: '2'}]", "an example of the prompts holds {problem}"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as error:
        prompt_settings(str(path))
    assert told in str(error.value)


# A way to critique of one's own: two critiques by the policy, then a revision, whatever they say.


def two_looks(policy: Policy, prompts: Prompts) -> list[Step]:
    look = Critique(policy, prompts)
    return [("first look", look), ("second look", look), ("revise", Revise(policy, prompts))]


def never(prompts: Prompts) -> Stop:
    return FixedRevisions()


TWO_LOOKS = CritiqueMode("two looks", "correction after two looks", two_looks, never, turns=3, judges_itself=True)


def test_a_mode_of_ones_own_is_a_value() -> None:
    graph = build_graph(ScriptedPolicy(["4", "hm", "hm", "5", "ah", "ah", "6"]), critique=TWO_LOOKS, revisions=2)
    (state,) = play_sync(graph, [SUM])
    assert [turn["role"] for turn in state["turns"]] == ["attempt", *["critique", "critique", "revise"] * 2]
    assert graph.name == "correction after two looks" and state["stop_reason"] == "revisions"


def test_its_own_verdict_can_end_it_early() -> None:
    policy = ScriptedPolicy(["5", "The answer is correct"])
    (state,) = play_sync(build_graph(policy, critique=TWO_LOOKS, prompts=PLAIN, stop=OwnVerdict()), [SUM])
    assert len(state["turns"]) == 2 and state["stop_reason"] == "accepted"


def test_modes_are_named_and_say_what_they_need() -> None:
    assert tuple(CRITIQUES) == ("instruction", "self", "feedback", "refine", "examples", "try-again", "reflect")
    with pytest.raises(GraphError, match="correction with checker feedback passes on what a checker found"):
        build_graph(ScriptedPolicy([]), critique="feedback")
    with pytest.raises(ConfigurationError, match="unknown critique mode 'selff'; did you mean self"):
        build_graph(ScriptedPolicy([]), critique="selff")
