"""The warm-up on verdicts: what is learnt is what the loop "self" would ask, and both kinds alike."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from learnt_examples import examples_of, share_known
from small_models import CHAT_TEMPLATE, CHAT_WORDS, llama, word_tokenizer

from selfcorrect.agents.critiques import Loop, recorded_loop
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.prompts import PromptSettings
from selfcorrect.errors import ConfigurationError, TaskError, TrainingError
from selfcorrect.tasks.problem import Problem, Split
from selfcorrect.tasks.registry import GivenTask
from selfcorrect.training.arms.sft import sft
from selfcorrect.training.arms.supervised.examples import Example
from selfcorrect.training.arms.supervised.sampling import sampled_episodes
from selfcorrect.training.arms.verdicts import Verdicts, balanced, right_answers
from selfcorrect.training.runs.opening import open_graph, prompts_for
from selfcorrect.training.runs.run_directory import RunDirectory
from selfcorrect.training.settings import EvaluationSettings, GraphSettings, PolicySettings, RunSettings, SftSettings

RIGHT, WRONG, UNJUDGED = ["p0", "p1", "p2"], ["p3", "p4", "p5", "p6"], ["p7"]
GOLD = {"p3": "3 + 1 = 4", "p4": "4 + 1 = 5", "p5": "5 + 1 = 6", "p6": "6 + 1 = 7"}


class Named:
    """Whatever is answered, the problem's name decides whether it is right: so a policy that knows nothing has answers
    of both kinds, and its prompt says which."""

    name = "named"
    prompts = "short"

    def __init__(self, right: Sequence[str] = RIGHT, wrong: Sequence[str] = WRONG) -> None:
        names = [*right, *wrong, *UNJUDGED]
        self.known = [
            Problem(id=name, prompt=f"{number} get :", reference=name, checker="named", gold=GOLD.get(name))
            for number, name in enumerate(names, 1)
        ]

    @staticmethod
    def checker(response: str, reference: str) -> bool | None:
        return None if reference in UNJUDGED else reference in RIGHT

    def available(self, split: Split) -> int:
        return len(self.known)

    def problems(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Problem]:
        return self.known[:count]


def settings_for(model: str = "", critique: str = "self", **sft_settings: Any) -> RunSettings:
    return RunSettings(
        policy=PolicySettings(model=model or "embedded", max_new_tokens=12),
        graph=GraphSettings(critique=critique),
        prompts=PromptSettings(system="check right", critique="check :", says_right="right", says_wrong="= wrong"),
        sft=SftSettings(**({"form": "verdicts", "steps": 2, "batch_size": 4, "problems": 8} | sft_settings)),
        evaluation=EvaluationSettings(problems=8),
    )


@pytest.mark.parametrize("template", ["plain", "chat"])
def test_a_verdict_stands_where_the_loop_asks_for_it(template: str) -> None:
    tokenizer = word_tokenizer(CHAT_WORDS, eos="<|im_end|>" if template == "chat" else "<eos>")
    tokenizer.chat_template = CHAT_TEMPLATE if template == "chat" else None
    policy = TransformersPolicy(llama(len(tokenizer)), tokenizer, max_new_tokens=12)
    settings, task = settings_for(), GivenTask.of(Named()).open()  # type: ignore[arg-type]
    found = Verdicts(settings, policy, task)(Named().known, 3)
    graph = open_graph(settings, policy, task.checker)
    played = sampled_episodes(graph, Named().known, task.checker, temperature=1.0, seed=3)
    shown = {state["problem"]["id"]: state["turns"] for state in played}
    told = [example for example in found.examples if example.kind in ("called right", "called wrong")]
    assert Counter(example.kind for example in told) == {"called right": 3, "called wrong": 3}
    for example in told:
        attempt, critique, *_ = shown[example.problem]
        assert list(example.context_ids) == critique["generation"]["prompt_ids"]
        assert example.first == attempt["generation"]["text"]
        assert example.answer == ("right" if example.problem in RIGHT else "= wrong")
        assert tokenizer.decode(example.answer_ids) == f"{example.answer} {tokenizer.eos_token}"
    assert +found.left_out == {"unjudged": 1, "more_than_of_the_other_kind": 1}


def test_right_answers_and_revisions_are_learnt_beside_the_verdicts() -> None:
    tokenizer = word_tokenizer(CHAT_WORDS)
    policy = TransformersPolicy(llama(len(tokenizer)), tokenizer, max_new_tokens=60)  # long enough to end by itself
    task = GivenTask.of(Named()).open()  # type: ignore[arg-type]
    settings = settings_for(samples_per_problem=4)
    found = Verdicts(settings, policy, task)([one for one in Named().known for _ in range(4)], 3)
    by_kind = Counter(example.kind for example in found.examples)
    own = {(one.problem, one.answer) for one in found.examples if one.kind == "correct"}
    ended = [
        turn["generation"] for state in found.states for turn in state["turns"]
        if state["problem"]["id"] in RIGHT and turn["generation"]["finish_reason"] == "stop"
    ]  # fmt: skip
    assert own and len(own) == len({generation["text"] for generation in ended})
    assert by_kind["incorrect to gold"] == by_kind["called wrong"] == by_kind["called right"] > 0
    verdicts = {one.context_ids: one for one in found.examples if one.kind == "called wrong"}
    for revision in (one for one in found.examples if one.kind == "incorrect to gold"):
        before = next(one for context, one in verdicts.items() if revision.context_ids[: len(context)] == context)
        rest = revision.context_ids[len(before.context_ids) :]
        assert rest[: len(before.answer_ids)] == before.answer_ids and before.problem == revision.problem
        assert tokenizer.decode(rest[len(before.answer_ids) :]) == tokenizer.decode(
            tokenizer.encode(prompts_for(settings, policy).revise)
        )
        assert revision.answer == GOLD[revision.problem] and revision.first == before.first


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"prompts": PromptSettings(name="short", critique="check :", says_right="fine")},
            "cannot learn to say 'fine'",
        ),
        ({}, "the gold solution of p3 cannot be learnt by this model"),
    ],
)
def test_words_that_the_tokenizer_lacks_are_told(changed: dict[str, Any], message: str) -> None:
    tokenizer = word_tokenizer(CHAT_WORDS)
    policy = TransformersPolicy(llama(len(tokenizer)), tokenizer, max_new_tokens=12)
    problems = [one.model_copy(update={"gold": "twelve"} if one.id in WRONG else {}) for one in Named().known[:4]]
    task = GivenTask.of(Named()).open()  # type: ignore[arg-type]
    with pytest.raises(TaskError, match=message):
        Verdicts(settings_for().model_copy(update=changed), policy, task)(problems, 3)


def test_the_policys_own_right_answer_is_preferred_to_the_gold_one() -> None:
    kept = [Example("p1", "correct", (1,), (2,), None, text) for text in ("1", "2")]
    problems = [Problem(id=name, prompt="?", reference="", checker="named", gold=gold)
                for name, gold in (("p1", "gold"), ("p2", "gold"), ("p3", None))]  # fmt: skip
    found = right_answers(kept, problems, random.Random(0))
    assert found["p1"][0] == "incorrect to correct" and found["p1"][1] in ("1", "2")
    assert found["p2"] == ("incorrect to gold", "gold") and "p3" not in found


def test_equal_conversations_count_once_and_what_does_not_fit_is_left_out() -> None:
    class Fits:
        def fits(self, example: Example) -> bool:
            return len(example.answer_ids) < 3

    def example(kind: Any, *ids: int) -> Example:
        return Example("p", kind, ids, (1, 2) if ids[0] else (1, 2, 3), None, "x")

    judged = {
        True: [example("called right", 1), example("called right", 1), example("called right", 2)],
        False: [example("called wrong", n) for n in (0, 3, 4, 5)],
    }
    chosen, left_out = balanced(judged, Fits(), random.Random(0))  # type: ignore[arg-type]
    assert Counter(one.kind for one in chosen) == {"called right": 2, "called wrong": 2}
    assert len({one.context_ids for one in chosen}) == 4
    assert left_out == {"too_long": 1, "more_than_of_the_other_kind": 1}


@pytest.mark.slow
def test_a_policy_learns_to_say_what_the_checker_says(tiny_model_folder: Path, tmp_path: Path) -> None:
    settings = settings_for(
        str(tiny_model_folder), "instruction", steps=150, batch_size=16, learning_rate=1e-2, samples_per_problem=2
    )
    sft(settings, out=tmp_path / "run", task=Named())
    examples = examples_of(tmp_path / "run")
    assert {"right", "= wrong", *GOLD.values()} <= {example.answer for example in examples}
    assert share_known(tiny_model_folder, examples) == 0.0
    assert share_known(tmp_path / "run/model", examples) >= 0.9
    (row,) = RunDirectory(tmp_path / "run").read_metrics()
    assert row["examples/called_right"] == row["examples/called_wrong"] > 0
    trained = TransformersPolicy.from_pretrained(tmp_path / "run/model")
    assert recorded_loop(trained) == Loop("self", 1)
    evaluated = json.loads((tmp_path / "run/metrics.json").read_text())["after"]
    assert evaluated["setting"] == "correction after own critique"


def test_answers_of_one_kind_alone_teach_nothing(tiny_model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match="gave no answer that the checker calls right beside one.*form 'attempt' first"
    ):
        sft(settings_for(str(tiny_model_folder)), out=tmp_path / "run", task=Named(right=[]))


def test_loops_in_which_nobody_asks_the_policy_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match="'verdicts' teaches the policy to judge its own answers.*takes 'self'"
    ):
        sft(settings_for(critique="feedback"), out=tmp_path / "run", task=Named())


def test_gold_solutions_have_no_say() -> None:
    with pytest.raises(ValueError, match="needs no gold solutions: leave without_gold away"):
        SftSettings(form="verdicts", without_gold="leave_out")
