"""First answers that the policy does not draw itself: where they come from, that they are context and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trainer import LikesPlus

from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.agents.state import Generation
from selfcorrect.errors import ConfigurationError, TaskError
from selfcorrect.settings import combine
from selfcorrect.tasks.countdown import CountdownTask
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.arms.reinforced import multi_turn, train_score
from selfcorrect.training.ppo.batching import call_table, placed_rows, row_tensors
from selfcorrect.training.ppo.metrics import rollout_metrics
from selfcorrect.training.ppo.objectives import StageTwo
from selfcorrect.training.ppo.rollouts import CheckerRewards, Episode
from selfcorrect.training.ppo.trainer import TurnPPOTrainer
from selfcorrect.training.runs.offline_attempts import OfflineAttempts, attempts_in
from selfcorrect.training.settings import (
    EvaluationSettings,
    OptimiserSettings,
    PolicySettings,
    RunSettings,
    ScoreSettings,
)

PROBLEMS = CountdownTask(3).problems("train", 4, seed=3)


def told(text: str) -> Generation:
    return Generation(text=text, messages=[], prompt_ids=[1], completion_ids=[2], logprobs=[0.0], finish_reason="stop")


def attempts_file(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# Which episodes begin with one.


def test_a_share_of_a_problems_episodes_begin_with_an_attempt_and_the_rest_do_not() -> None:
    known = {PROBLEMS[0].id: [told(name) for name in "abcd"], PROBLEMS[1].id: [told("only")]}
    rows = [problem for problem in PROBLEMS[:3] for _ in range(8)]
    given = OfflineAttempts(known, 0.25, first_batch=5).begin(rows, 8, 5)
    assert [attempt is not None for attempt in given] == [False] * 6 + [True] * 2 + [False] * 7 + [True] + [False] * 8
    begun = [episode for episode in given if episode is not None]
    assert all(episode.offline for episode in begun) and len({episode.calls[0].text for episode in begun}) == 3


def test_stage_one_has_none_and_a_resumed_run_has_the_same() -> None:
    attempts = OfflineAttempts({PROBLEMS[0].id: [told(name) for name in "abcdef"]}, 0.5, first_batch=5)
    rows = [PROBLEMS[0]] * 4
    assert attempts.begin(rows, 4, 4) == [None] * 4
    assert attempts.begin(rows, 4, 7) == attempts.begin(rows, 4, 7)
    drawn = {str(attempts.begin(rows, 4, batch)) for batch in range(5, 15)}
    assert len(drawn) > 3


# From a file.


def test_a_text_stands_where_the_policys_own_answer_would(tiny_model_folder: Path, tmp_path: Path) -> None:
    policy = TransformersPolicy.from_pretrained(str(tiny_model_folder), max_new_tokens=5)
    path = attempts_file(tmp_path / "a.jsonl", {"id": PROBLEMS[0].id, "text": "3 + 5 = 8"}, {"id": "?", "text": "1"})
    found = attempts_in(path, PROBLEMS, policy, COUNTDOWN)
    assert list(found) == [PROBLEMS[0].id]
    (attempt,) = found[PROBLEMS[0].id]
    decoded = policy.tokenizer.decode([*attempt["prompt_ids"], *attempt["completion_ids"]])
    assert decoded.split() == [*PROBLEMS[0].prompt.split(), "3", "+", "5", "=", "8"]
    assert attempt["completion_ids"] == policy.tokenizer.encode("3 + 5 = 8", add_special_tokens=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no attempt"),
        ("{", "line 1: expected .* no JSON"),
        ('{"id": "x"}', "line 1: expected"),
        ('{"id": "x", "text": "1", "score": 1}', "line 1: expected"),
        ('{"id": "x", "text": 3}', "line 1: expected"),
        ('{"id": "x", "text": " "}', "the attempt is empty"),
    ],
)
def test_a_file_that_is_none_is_told_by_its_line(
    text: str, words: str, tiny_model_folder: Path, tmp_path: Path
) -> None:
    policy = TransformersPolicy.from_pretrained(str(tiny_model_folder), max_new_tokens=5)
    (tmp_path / "a.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(TaskError, match=words):
        attempts_in(tmp_path / "a.jsonl", PROBLEMS, policy, COUNTDOWN)


def test_words_that_the_policy_lacks_and_problems_of_another_task_are_told(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    policy = TransformersPolicy.from_pretrained(str(tiny_model_folder), max_new_tokens=5)
    path = attempts_file(tmp_path / "a.jsonl", {"id": PROBLEMS[0].id, "text": "elephant"})
    with pytest.raises(TaskError, match="line 1: .*elephant"):
        attempts_in(path, PROBLEMS, policy, COUNTDOWN)
    path = attempts_file(tmp_path / "b.jsonl", {"id": "gsm8k-1", "text": "1"})
    with pytest.raises(ConfigurationError, match="'gsm8k-1'"):
        attempts_in(path, PROBLEMS, policy, COUNTDOWN)
    with pytest.raises(TaskError, match="cannot be read"):
        attempts_in(tmp_path / "none.jsonl", PROBLEMS, policy, COUNTDOWN)


# In training.


def settings_for(folder: Path, offline: float | str | None, **changes: Any) -> RunSettings:
    return RunSettings(
        **(
            {
                "policy": PolicySettings(model=str(folder), max_new_tokens=6),
                "score": ScoreSettings(stage_one_steps=1, stage_two_steps=2, offline_attempts=offline),
                "optimiser": OptimiserSettings(problems_per_step=4, episodes_per_problem=4, learning_rate=1e-3),
                "evaluation": EvaluationSettings(problems=6),
            }
            | changes
        )
    )


class Batches:
    """The episodes of every batch, and what was made of them for the loss."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.episodes: list[list[Episode]] = []
        self.tensors: list[dict[str, Any]] = []
        make = TurnPPOTrainer._tensors

        def watched(trainer: TurnPPOTrainer, episodes: list[Episode]) -> dict[str, Any]:
            batch = make(trainer, episodes)
            self.episodes.append(episodes)
            self.tensors.append(batch)
            return batch

        monkeypatch.setattr(TurnPPOTrainer, "_tensors", watched)


def steps_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_share_is_drawn_from_the_base_policy_once_counted_and_never_learnt(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, out = Batches(monkeypatch), tmp_path / "run"
    train_score(settings_for(tiny_model_folder, 0.25), out=out)
    rows = [json.loads(line) for line in (out / "offline_attempts.jsonl").read_text().splitlines()]
    assert len(rows) == len({row["id"] for row in rows}) == 8  # one for each problem of two steps of Stage II
    drawn = {row["id"]: row["completion_ids"] for row in rows}
    for number, (episodes, batch) in enumerate(zip(batches.episodes, batches.tensors, strict=True)):
        offline = [episode for episode in episodes if episode.offline]
        assert len(offline) == (4 if number else 0)
        for episode in offline:
            first, second = (call.generation for call in episode.calls)
            assert first["completion_ids"] == drawn[episode.problem.id]
            shown = [*first["prompt_ids"], *first["completion_ids"]]
            assert second["prompt_ids"][: len(shown)] == shown
            assert [signal.learns for signal in episode.signals] == [False, True]
            assert episode.signals[0].reward is None
        learning = sum(
            len(call.generation["completion_ids"]) for e in episodes for call in e.calls[1 if e.offline else 0 :]
        )
        assert int(batch["tool_mask"].sum()) == learning
    steps, final = steps_of(out), json.loads((out / "metrics.json").read_text())
    assert [step.get("offline") for step in steps] == [None, 0.25, 0.25]
    sampled = sum(len(row["completion_ids"]) for row in rows)
    assert final["budget"]["generated_tokens"] == sum(step["tokens"] for step in steps) + sampled


@pytest.mark.slow
def test_attempts_of_a_file_begin_half_of_their_problems_episodes(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, settings = Batches(monkeypatch), settings_for(tiny_model_folder, None)
    asked = settings.task.open().problems("train", 12, seed=settings.seed)
    rows = [{"id": problem.id, "text": text} for problem in asked for text in ("1 + 2 = 3", "2 + 2 = 4", "3 + 3 = 6")]
    path = attempts_file(tmp_path / "a.jsonl", *rows)
    train_score(settings_for(tiny_model_folder, str(path)), out=tmp_path / "run")
    assert [sum(episode.offline for episode in episodes) for episodes in batches.episodes] == [0, 8, 8]
    texts = [e.calls[0].text for episodes in batches.episodes for e in episodes if e.offline]
    assert set(texts) <= {"1 + 2 = 3", "2 + 2 = 4", "3 + 3 = 6"}
    assert not (tmp_path / "run" / "offline_attempts.jsonl").exists()


def episode(problem: Problem, scores: list[float], *, offline: bool) -> Episode:
    from toy_policy import call

    calls = [call([7], [1, 2], torch.zeros(2)), call([7, 1, 2, 8], [0], torch.zeros(1))]
    rewards = CheckerRewards(StageTwo(alpha=1.0), LikesPlus())
    signals = rewards._signals(
        [{"role": "attempt"}, {"role": "revise"}],  # type: ignore[list-item,typeddict-item]
        scores,  # type: ignore[arg-type]
    )
    if offline:
        import dataclasses

        signals[0] = dataclasses.replace(signals[0], reward=None, learns=False)
    state = {"turns": [{"role": role, "generation": one.generation, "verdict": None} for role, one in
                       zip(("attempt", "revise"), calls, strict=True)]}  # fmt: skip
    return Episode(problem, state, calls, signals, scores, offline=offline, copied_calls=int(offline))  # type: ignore[arg-type]


def test_figures_of_the_policy_leave_given_answers_out() -> None:
    played = [episode(PROBLEMS[0], [1.0, 1.0], offline=False), episode(PROBLEMS[0], [0.0, 1.0], offline=True)]
    figures = rollout_metrics(played, 1.0)
    assert (figures["accuracy_t1"], figures["delta"], figures["reward/answer_1"]) == (1.0, 0.0, 1.0)
    assert (figures["offline"], figures["offline_accuracy_t1"], figures["offline_accuracy_t2"]) == (0.5, 0.0, 1.0)
    assert figures["tokens"] == 3 + 1


def test_a_second_answer_after_a_given_one_is_paid_its_progress_over_it() -> None:
    """r2 + alpha (r2 - r1) with the given answer's r1, and compared with the other second answers; no first answer is
    compared with the given one."""
    from selfcorrect.training.credit.estimators import credited
    from selfcorrect.training.credit.settings import OwnCredit

    played = [episode(PROBLEMS[0], [1.0, 1.0], offline=False), episode(PROBLEMS[0], [0.0, 1.0], offline=True)]
    table = call_table(played)
    assert table.rewards_C.nan_to_num(-1.0).tolist() == [1.0, 1.0, -1.0, 2.0]
    assert credited(table, OwnCredit(), "leave_one_out").tolist() == [0.0, -1.0, 0.0, 1.0]
    rows = row_tensors(placed_rows(played, table), pad_id=0)
    assert rows.spread(table.learns_C).tolist() == [[1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]]


# What is refused.


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["score.offline_attempts=0.05"], "0 of the 8"),
        (["score.offline_attempts=0.95"], "8 of the 8"),
        (["score.offline_attempts=a.jsonl", "credit={kind: tree}", "optimiser.baseline=leave_one_out"], "choose one"),
        (["score.offline_attempts=1.0"], "offline_attempts"),
    ],
)
def test_shares_that_are_none_or_all_and_trees_are_refused(changes: list[str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        combine(RunSettings(), {}, changes)


def test_an_arm_without_a_second_stage_refuses_them(tmp_path: Path) -> None:
    settings = combine(RunSettings(), {}, ["score.offline_attempts=0.25"])
    with pytest.raises(ConfigurationError, match="has no Stage II"):
        multi_turn(settings, out=tmp_path / "run")
