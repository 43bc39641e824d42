"""How much the supervised arms sample, what they ask, and with which words."""

import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.pretrained import embedded_folder
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import GREEDY
from selfcorrect.agents.prompts import COUNTDOWN, SCORE_MATH
from selfcorrect.agents.state import EpisodeState, Generation, Message, Turn
from selfcorrect.errors import ConfigurationError
from selfcorrect.tasks.countdown import CountdownTask
from selfcorrect.tasks.jsonl import JsonlTask
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.arms.star import harvest_with
from selfcorrect.training.arms.supervised.examples import hinted
from selfcorrect.training.arms.supervised.sampling import Sampled, gather, problems_of, sampled_episodes
from selfcorrect.training.arms.supervised.writing import second_prompt
from selfcorrect.training.pretraining.corpus import Attempted, Mixture, mixed
from selfcorrect.training.pretraining.second_looks import make_tokenizer
from selfcorrect.training.runs.opening import open_graph
from selfcorrect.training.settings import GraphSettings, PairSftSettings, RunSettings, StarSettings, SupervisedSettings

TASK = CountdownTask()


class FixedCost:
    """A harvest of episodes that cost `tokens` each; remembers what it was asked."""

    def __init__(self, tokens: int) -> None:
        self.tokens, self.asked, self.seeds = tokens, list[str](), list[int]()

    def __call__(self, problems: Sequence[Problem], seed: int) -> Sampled:
        self.asked += [problem.id for problem in problems]
        self.seeds.append(seed)
        generation = Generation(
            text="",
            messages=[],
            prompt_ids=[1],
            completion_ids=[0] * self.tokens,
            logprobs=[],
            finish_reason="stop",
        )
        turn = Turn(role="attempt", generation=generation, verdict=None)
        return Sampled([EpisodeState(problem={"id": problem.id}, turns=[turn]) for problem in problems])


def test_without_a_token_budget_every_problem_is_sampled_equally_often() -> None:
    harvest = FixedCost(10)
    _, figures = gather(TASK, SupervisedSettings(problems=150, samples_per_problem=3), 5, harvest)
    assert figures["episodes"] == 450 and figures["problems"] == 150 and figures["tokens"] == 4500
    assert len(set(harvest.asked)) == 150 and all(harvest.asked.count(problem) == 3 for problem in set(harvest.asked))
    assert len(set(harvest.seeds)) == len(harvest.seeds)


@pytest.mark.parametrize("tokens", [1, 2_560, 10_000, 33_333])
def test_a_token_budget_is_met_but_for_the_samples_of_one_problem(tokens: int) -> None:
    settings = SupervisedSettings(tokens=tokens, samples_per_problem=4)
    _, figures = gather(TASK, settings, 5, FixedCost(10))
    first_batch = 2_560
    assert max(tokens, first_batch) <= figures["tokens"] < max(tokens, first_batch) + 40


def test_the_same_seed_asks_the_same_and_another_one_something_else() -> None:
    settings = SupervisedSettings(problems=40)
    asked = [[problem.id for problem in problems_of(TASK, settings, seed)] for seed in (1, 1, 2)]
    assert asked[0] == asked[1] and asked[0] != asked[2]


def test_a_small_file_is_asked_once_or_with_a_token_budget_epoch_after_epoch(tmp_path: Path) -> None:
    file = tmp_path / "sums.jsonl"
    file.write_text("".join(f'{{"prompt": "1 + {n} = ?", "answer": "{n + 1}"}}\n' for n in range(30)))
    task = JsonlTask(file, test_share=0.3)
    known = {problem.id for problem in task.problems("train", task.available("train"))}
    once = [problem.id for problem in problems_of(task, SupervisedSettings(problems=1000), 0)]
    assert set(once) == known and len(once) == len(known)
    again = [
        problem.id for problem in itertools.islice(problems_of(task, SupervisedSettings(tokens=1), 0), 2 * len(known))
    ]
    assert set(again[: len(known)]) == set(again[len(known) :]) == known
    assert again[: len(known)] != again[len(known) :]


def test_rationalisation_asks_unsolved_problems_once_more_and_hides_the_hint_from_what_is_learnt() -> None:
    problems = TASK.problems("train", 4)
    solved, unsolved = problems[:2], problems[2:]
    tokenizer = make_tokenizer()

    def script(conversation: Sequence[Message]) -> str:
        shown = conversation[0]["content"]
        known = next((problem.gold for problem in solved if problem.prompt == shown), None)
        told = next((problem.gold for problem in unsolved if shown.startswith(problem.prompt[:-2] + " hint")), None)
        return known or told or "1 + 1 = 2"

    settings = RunSettings(star=StarSettings(data="single+rationalised"))
    policy = ScriptedPolicy(script, tokenizer=tokenizer)
    repeated = [problem for problem in problems for _ in range(3)]
    sampled = harvest_with(settings)(policy, TASK)(repeated, 3)  # type: ignore[arg-type]
    assert [state["problem"]["id"] for state in sampled.hinted] == [problem.id for problem in unsolved]
    learnt = {example.problem: example for example in sampled.examples}
    assert len(sampled.examples) == 2 * 3 + 2 and learnt.keys() == {problem.id for problem in problems}
    for problem in problems:
        example = learnt[problem.id]
        assert list(example.context_ids) == tokenizer.encode(problem.prompt)
        assert tokenizer.decode(example.answer_ids) == f"{problem.gold} <eos>"
        assert example.kind == ("correct" if problem in solved else "rationalised")


def test_hints_are_shown_as_the_pre_training_corpus_shows_them() -> None:
    attempted = [Attempted(problem, "", correct=False) for problem in TASK.problems("train", 20)]
    documents = mixed(attempted, Mixture(retries=0, verdicts=0, hints=1), random.Random(0))
    for item, document in zip(attempted, documents, strict=True):
        shown = hinted(item.problem, COUNTDOWN)
        assert shown is not None and shown.prompt == document.context
        assert shown.id == item.problem.id and shown.reference == item.problem.reference


def test_other_models_are_told_the_answer_in_english_and_a_problem_without_one_has_no_hint() -> None:
    problem = Problem(id="a", prompt="What is 2 + 2?", reference="4", checker="math")
    shown = hinted(problem, SCORE_MATH)
    assert shown is not None and shown.prompt == "What is 2 + 2?\n\nHint: the correct answer is 4."
    assert hinted(problem, COUNTDOWN) is None
    assert hinted(problem.model_copy(update={"reference": {"tests": []}}), SCORE_MATH) is None


def test_a_pair_is_shown_token_for_token_as_the_graph_would_show_it() -> None:
    settings = RunSettings()
    policy = TransformersPolicy.from_pretrained(embedded_folder(), max_new_tokens=20)
    graph = open_graph(settings, policy, TASK.checker)
    from selfcorrect.agents.evaluation import evaluate

    _, states = evaluate(graph, TASK.problems("train", 8), TASK.checker, sampling=GREEDY)
    prompt_ids = second_prompt(settings, policy)
    for state in states:
        first, second = (turn["generation"] for turn in state["turns"])
        assert prompt_ids(first) == second["prompt_ids"]


def test_greedy_sampling_wants_one_sample_per_problem() -> None:
    with pytest.raises(ValidationError, match="all samples of a problem are the same"):
        StarSettings(temperature=0.0)
    StarSettings(temperature=0.0, samples_per_problem=1)
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        PairSftSettings(samples_per_problem=1)


@pytest.mark.parametrize("graph", [GraphSettings(revisions=2), GraphSettings(critique="self")])
def test_examples_of_two_turns_refuse_other_loops(graph: GraphSettings) -> None:
    with pytest.raises(ConfigurationError, match=r"star\.data makes examples of two turns"):
        harvest_with(RunSettings(graph=graph, star=StarSettings(data="multi")))
    harvest_with(RunSettings(graph=graph, star=StarSettings(data="single")))


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        ({"problems": 40}, [f"sampled {n} of 40 episodes ({n / 40:.0%})" for n in range(2, 41, 2)]),
        ({"tokens": 60}, ["of 60 tokens"]),
    ],
    ids=["episodes", "tokens"],
)
def test_sampling_tells_how_far_it_is_a_score_of_times(budget: dict[str, int], told: list[str]) -> None:
    policy = ScriptedPolicy(["1 + 1 = 2"], tokenizer=make_tokenizer())
    graph, task = build_graph(policy, revisions=0, prompts=COUNTDOWN), CountdownTask(3)
    said: list[str] = []

    def harvest(problems: Sequence[Problem], seed: int) -> Sampled:
        return Sampled(sampled_episodes(graph, problems, task.checker, temperature=1.0, seed=seed))

    gather(task, StarSettings(samples_per_problem=1, **budget), 0, harvest, said.append)
    if "problems" in budget:
        assert said == told
    else:
        assert 1 <= len(said) <= 20 and all(told[0] in text for text in said)
