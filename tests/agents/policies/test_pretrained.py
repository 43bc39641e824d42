"""The policy that ships must behave as a base model does, or training it would show nothing."""

import json

import pytest

from selfcorrect.agents.evaluation import evaluate
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.pretrained import EMBEDDED, embedded_folder, model_location
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.tasks.countdown import CountdownTask

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def policy() -> TransformersPolicy:
    return TransformersPolicy.from_pretrained(embedded_folder(), max_new_tokens=40)


def test_it_solves_about_half_of_the_problems_and_a_second_look_does_not_help(policy: TransformersPolicy) -> None:
    task = CountdownTask(4)
    report, _ = evaluate(build_graph(policy, prompts=COUNTDOWN), task.problems("test", 400), task.checker)
    assert 0.40 <= report.accuracy_t1 <= 0.65
    assert report.delta <= 0
    assert report.unjudged == 0 and report.truncated < 0.01


def test_sampled_it_breaks_more_answers_than_it_mends_but_mends_some(policy: TransformersPolicy) -> None:
    task = CountdownTask(4)
    report, _ = evaluate(
        build_graph(policy, prompts=COUNTDOWN), task.problems("test", 400), task.checker, sampling=Sampling(), seed=1
    )
    assert report.c_to_i > report.i_to_c
    assert report.i_to_c >= 0.02


def test_it_is_small_and_comes_with_its_card_and_recipe() -> None:
    files = {path.name: path.stat().st_size for path in embedded_folder().iterdir()}
    assert sum(files.values()) < 8 * 2**20
    assert {"model.safetensors", "tokenizer.json", "config.json", "README.md", "recipe.json"} <= set(files)
    assert json.loads((embedded_folder() / "recipe.json").read_text())["numbers"] == 4


def test_its_name_stands_for_its_folder_and_other_names_for_themselves() -> None:
    assert model_location(EMBEDDED) == str(embedded_folder())
    assert model_location("HuggingFaceTB/SmolLM2-135M-Instruct") == "HuggingFaceTB/SmolLM2-135M-Instruct"
