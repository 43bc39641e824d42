"""Graphs of twelve public structures train as they are: every sampled token is exact, and trained once."""

from pathlib import Path
from typing import Any

import pytest
from public_graphs import STRUCTURES
from typing_policy import TypingPolicy

from selfcorrect.agents.playing import EpisodeRules
from selfcorrect.agents.plugins.chat_model import ChatSelfCorrect
from selfcorrect.agents.recording import PolicyCall
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.own_graph import train
from selfcorrect.training.ppo.batching import rows_of
from selfcorrect.training.ppo.config import TurnPPOConfig

ASKED = [Problem(id=f"p{number}", prompt=f"3 + {number}?", reference=None, checker="none") for number in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("name", STRUCTURES)
def test_it_trains_unchanged_token_for_token(name: str, tmp_path: Path) -> None:
    structure = STRUCTURES[name]
    policy = TypingPolicy(structure.said, max_new_tokens=400)
    graph = structure.build(ChatSelfCorrect(policy=policy, revisions=0))
    episodes: list[list[PolicyCall]] = []

    def pays(state: Any, calls: list[PolicyCall]) -> list[float | None]:
        episodes.append(calls)
        return [float(call.text.count("!")) for call in calls]

    before = [weight.clone() for weight in policy.model.parameters()]
    trained = train(
        graph,
        ASKED,
        policy=policy,
        reward_fn=pays,
        inputs=lambda problem: structure.inputs(problem.prompt),
        config=TurnPPOConfig(
            output_dir=tmp_path, steps=1, problems_per_step=2, episodes_per_problem=4, learning_rate=1e-3
        ),
        kl=0.0,
        rules=EpisodeRules(**structure.options),
    )
    assert len(episodes) == 8
    for calls in episodes:
        assert_exact(policy, calls)
        assert (len(calls), len(rows_of(calls))) == (structure.calls, structure.rows)
    (step,) = trained.steps
    assert step["ratio_deviation"] < 1e-4  # the log-probabilities of what was sampled are those that are trained
    assert step["calls"] == step["draws"] == 8 * structure.calls
    assert any(not old.equal(new) for old, new in zip(before, policy.model.parameters(), strict=True))


def assert_exact(policy: TypingPolicy, calls: list[PolicyCall]) -> None:
    """Each sampled token is in one span of one row, after exactly the ids that it was sampled after."""
    rows = rows_of(calls)
    spans = [(span.call, row.ids[: span.start], row.ids[span.start : span.stop]) for row in rows for span in row.spans]
    assert sorted(number for number, _, _ in spans) == list(range(len(calls)))
    for number, prompt, completion in spans:
        generation = calls[number].generation
        assert (prompt, completion) == (generation["prompt_ids"], generation["completion_ids"])
        written = policy.tokenizer.decode(completion)
        assert written == f"{generation['text']}{policy.tokenizer.eos_token}"
        assert policy.tokenizer.decode(prompt).endswith("<|im_start|>assistant\n")
