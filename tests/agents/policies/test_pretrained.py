"""The policies that ship must behave as base models do, or training them would show nothing."""

import itertools
import json
from types import SimpleNamespace

import pytest

from selfcorrect.agents.evaluation import evaluate
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.pretrained import (
    EMBEDDED,
    EMBEDDED_LOOKS,
    embedded_folder,
    load_tokenizer,
    model_location,
)
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.prompts import COUNTDOWN, turns_made_for
from selfcorrect.errors import ConfigurationError
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


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_the_one_for_many_looks_answers_as_well_at_every_look(temperature: float) -> None:
    """A base: a further look breaks about as many answers as it mends, and does not teach itself to correct."""
    looks = TransformersPolicy.from_pretrained(embedded_folder(EMBEDDED_LOOKS), max_new_tokens=40)
    task, sampling = CountdownTask(4), Sampling(temperature=temperature)
    graph = build_graph(looks, prompts=COUNTDOWN, revisions=8)
    report, _ = evaluate(graph, task.problems("test", 100), task.checker, sampling=sampling, seed=1)
    accuracies = [accuracy for accuracy in report.accuracy if accuracy is not None]
    assert len(accuracies) == 9 and min(accuracies) > 0.40
    # three standard errors of 100 problems: a look changes at most 0.15 of the verdicts
    assert all(abs(later - before) < 0.12 for before, later in itertools.pairwise(accuracies))
    assert abs(accuracies[-1] - accuracies[0]) < 0.17


def test_they_are_small_and_come_with_their_cards_and_recipes() -> None:
    sizes = 0
    for name in (EMBEDDED, EMBEDDED_LOOKS):
        files = {path.name: path.stat().st_size for path in embedded_folder(name).iterdir()}
        assert {"model.safetensors", "tokenizer.json", "config.json", "README.md", "recipe.json"} <= set(files)
        assert json.loads((embedded_folder(name) / "recipe.json").read_text())["numbers"] == 4
        sizes += sum(files.values())
    assert sizes < 8 * 2**20


def test_the_one_for_many_looks_keeps_on_record_for_how_many() -> None:
    tokenizer = load_tokenizer(embedded_folder(EMBEDDED_LOOKS))
    assert turns_made_for(SimpleNamespace(tokenizer=tokenizer)) == 33
    assert tokenizer.model_max_length >= 18 + 32 * 33  # a first answer, and as many looks


def test_a_name_stands_for_its_folder_and_other_names_for_themselves() -> None:
    assert model_location(EMBEDDED) == str(embedded_folder())
    assert model_location(EMBEDDED_LOOKS) == str(embedded_folder(EMBEDDED_LOOKS)) != model_location(EMBEDDED)
    with pytest.raises(ConfigurationError, match="there are embedded, embedded-looks"):
        embedded_folder("embedded-look")
    assert model_location("HuggingFaceTB/SmolLM2-135M-Instruct") == "HuggingFaceTB/SmolLM2-135M-Instruct"
