"""Sampling again: the second attempt knows nothing of the first, and is another draw."""

from dice_policy import DicePolicy
from small_models import problem, roles, texts

from selfcorrect.agents.episodes import play_sync
from selfcorrect.agents.graph import SAMPLE_AGAIN, build_sample_again
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.agents.state import Message

PROBLEMS = [problem(f"1 2 {number}", id=f"p{number}") for number in range(30)]


def test_the_second_attempt_is_shown_the_problem_and_nothing_else() -> None:
    seen: list[list[Message]] = []

    def script(conversation: list[Message]) -> str:
        seen.append(conversation)
        return f"answer {len(seen)}"

    graph = build_sample_again(ScriptedPolicy(script), prompts=COUNTDOWN)  # type: ignore[arg-type]
    (state,) = play_sync(graph, PROBLEMS[:1])
    assert seen[0] == seen[1] == [{"role": "user", "content": "1 2 0"}]
    assert (texts(state), roles(state)) == (["answer 1", "answer 2"], ["attempt", "revise"])
    assert graph.get_name() == SAMPLE_AGAIN


def test_both_attempts_are_draws_of_their_own_and_can_be_replayed() -> None:
    graph = build_sample_again(DicePolicy(), prompts=COUNTDOWN)
    played = [texts(state) for state in play_sync(graph, PROBLEMS, seed=1)]
    assert sum(first == second for first, second in played) < len(played) / 2
    assert played == [texts(state) for state in play_sync(graph, PROBLEMS, seed=1)]
    again = [texts(state)[0] for state in play_sync(graph, PROBLEMS, seed=2)]
    assert again != [first for first, _ in played]
