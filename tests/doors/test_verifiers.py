"""Task sets of verifiers as tasks, and tasks as its task sets: with the library itself, see .ci/doors."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from selfcorrect.errors import ConfigurationError, TaskError
from selfcorrect.rewards import Status
from selfcorrect.rewards.taskset_rewards import TasksetChecker, weighted_mean
from selfcorrect.tasks import open_task, task_settings

HERE = Path(__file__).parent


@pytest.fixture
def verifiers(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    return pytest.importorskip("verifiers.v1", reason="the extra verifiers is not installed; see .ci/doors")


@pytest.mark.parametrize(
    ("rewards", "mean"),
    [
        ({"a": (1.0, 1.0)}, 1.0),
        ({"a": (1.0, 3.0), "b": (0.0, 1.0)}, 0.75),
        ({"a": (1.0, 1.0), "b": (9.0, 0.0)}, 1.0),
        ({"a": (1.0, 0.0)}, None),
        ({}, None),
    ],
)
def test_the_score_is_the_weighted_mean_of_the_rewards(rewards, mean):
    assert weighted_mean(rewards) == mean


def test_a_task_set_is_named_with_its_settings():
    settings = task_settings("verifiers:toy_sums,numbers=7,partial=true,most=5")
    assert (settings.taskset, settings.config, settings.partial, settings.most) == ("toy_sums", {"numbers": 7}, True, 5)
    with pytest.raises(ConfigurationError, match="taskset"):
        task_settings("verifiers")


def test_a_reference_must_name_a_task():
    assert "taskset" in TasksetChecker().validate_reference({"answer": 4})


def test_tasks_become_problems_of_two_splits(verifiers):
    task = open_task("verifiers:toy_sums")
    train, test = task.problems("train", 30), task.problems("test", 2)
    assert {problem.prompt for problem in train}.isdisjoint(problem.prompt for problem in test)
    assert train[0].prompt.startswith("What is ")
    with pytest.raises(TaskError, match="31 test problems were asked for"):
        task.problems("test", 31)


def test_a_prompt_in_messages_is_shown_as_one_text(verifiers):
    task = open_task("verifiers:toy_sums,kind=in_messages")
    (problem,) = [problem for split in task.splits.values() for problem in split]
    assert problem.prompt == "Add.\n\n1 + 1" and task.repeated == 39


@pytest.mark.slow
def test_rewards_are_verdicts(verifiers):
    problem = next(p for p in open_task("verifiers:toy_sums").problems("train", 30) if p.prompt == "What is 7 + 7?")
    checker, generous = TasksetChecker(workers=1), TasksetChecker(partial=True, workers=1)
    assert checker.check_sync("please: 14", problem.reference).status is Status.CORRECT
    half = checker.check_sync("14", problem.reference)
    assert half.status is Status.WRONG and half.score == 0.0 and half.reason == "its rewards: polite 0, right 1"
    assert generous.check_sync("14", problem.reference).score == 0.75
    moved = {**problem.reference, "key": "0" * 64}
    verdict = checker.check_sync("please: 14", moved)
    assert verdict.status is Status.UNJUDGED and "no longer the one it was" in verdict.reason


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("toy_sums,kind=runtime", "no task that can be judged here: its rewards file_is_there need a runtime"),
        ("toy_sums,kind=container", "no task that can be judged here: it needs a container"),
        ("toy_sums,kind=prepared", "no task that can be judged here: it needs a runtime for its setup"),
        ("toy_sums,kind=played", "no rewards of its own: what pays is its environment"),
        ("toy_sums,kind=judged", "scored by a judge, which needs a model and a key"),
        ("toy_sums,kind=tools", "it gives tools to who answers"),
        ("toy_sums,kind=pictured", "its prompt is not one text"),
        ("toy_sums,kind=begun", "its prompt is not one text"),
        ("toy_sums,kind=keyed", "cannot be loaded: KeyError: 'A_KEY_THAT_NOBODY_HAS'"),
        ("toy_sums,kind=docker", "cannot be loaded: RuntimeError: docker is not running"),
        ("toy_sums,number=3", "cannot be loaded"),
        ("not_there_at_all", "cannot be loaded"),
        ("toy_sums,numbers=0", "it is empty"),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_reason(verifiers, name, complaint):
    with pytest.raises(TaskError, match=complaint):
        open_task(f"verifiers:{name}")


def test_our_tasks_are_a_task_set_there(verifiers):
    from verifiers.v1.utils.loaders import load_taskset, taskset_class

    from selfcorrect.rewards.taskset_rewards import _trace_of
    from selfcorrect.tasks.as_taskset import SelfCorrectConfig, SelfCorrectTaskset

    name = "selfcorrect-taskset"
    assert taskset_class(name) is SelfCorrectTaskset
    tasks = list(load_taskset(SelfCorrectConfig(id=name, task_name="countdown-4", count=3)))
    problems = open_task("countdown-4", words=True).problems("test", 3)
    assert [task.data.prompt for task in tasks] == [problem.prompt for problem in problems]
    for answer, reward in ((problems[0].gold, 1.0), ("1 + 1 = 2", 0.0)):
        trace = _trace_of(tasks[0], answer)
        asyncio.run(tasks[0].score(trace, None))
        assert trace.reward == reward


@pytest.mark.slow
def test_verifiers_evaluates_a_correction_graph_behind_our_server(verifiers, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serving = [sys.executable, "-m", "selfcorrect", "serve", "--model", "embedded", "--port", str(port)]
    environment = {**os.environ, "KEY": "none"}
    with subprocess.Popen(serving, stderr=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stderr is not None
            while "/v1" not in (line := server.stderr.readline()):
                assert line, "the server did not start"
            subprocess.run(
                [Path(sys.executable).with_name("vf-eval"), "selfcorrect-taskset", "--model", "embedded", "--no-rich"]
                + ["--client.base-url", f"http://127.0.0.1:{port}/v1", "--client.api-key-var", "KEY"]
                + ["--env.taskset.task-name", "countdown-4", "--env.taskset.words", "False"]
                + ["--env.taskset.count", "4", "--env.agent.harness.id", "null"]
                + ["--env.agent.runtime.type", "subprocess", "--output-dir", str(tmp_path)],
                check=True,
                capture_output=True,
                env=environment,
                cwd=tmp_path,
            )
        finally:
            server.terminate()
    (written,) = tmp_path.glob("*/traces.jsonl")
    episodes = [json.loads(line) for line in written.read_text().splitlines()]
    assert len(episodes) == 4 and all(episode["ok"] for episode in episodes)
    scores = [trace["rewards"]["verdict"]["score"] for episode in episodes for trace in episode["traces"]]
    assert set(scores) <= {0.0, 1.0} and len(scores) == 4


def test_stored_episodes_are_its_traces_without_a_digit_lost(verifiers, tmp_path):
    from verifiers.v1.trace import WireTrace
    from verifiers.v1.utils.trace_store import read_episodes

    from selfcorrect.training.reporting.viewer import export

    first = {"role": "attempt", "node": "attempt", "path": ["attempt"], "text": "3 +", "verdict": "wrong"}
    first |= {"after": None, "prompt": "add", "reward": 0.25, "reason": "no"}
    first["tokens"] = {"prompt_ids": [7, 8], "ids": [1, 2], "pieces": ["3", " +"], "logprobs": [-1 / 3, -2e-7]}
    first["tokens"]["advantages"] = [0.30000001192092896, -0.5]
    then = {**first, "after": 0, "reward": 1 / 3, "tokens": {**first["tokens"], "prompt_ids": [9], "ids": [4, 5]}}
    apart = {**then, "after": None}
    row = {"step": 3, "policy": "training", "id": "p", "prompt": "add", "reference": 8, "turns": [first, then, apart]}
    (tmp_path / "training_episodes.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "traces.jsonl").write_text("".join(export("verifiers", [tmp_path])))
    (episode,) = read_episodes(tmp_path, WireTrace)
    (trace,) = episode.traces
    joined, alone = trace.branches
    assert joined.token_ids == [7, 8, 1, 2, 9, 4, 5] and alone.token_ids == [9, 4, 5]
    assert joined.sampled_mask == [False, False, True, True, False, True, True]
    assert joined.logprobs == [0.0, 0.0, -1 / 3, -2e-7, 0.0, -1 / 3, -2e-7]
    assert joined.advantages == [0.0, 0.0, 0.30000001192092896, -0.5, 0.0, 0.30000001192092896, -0.5]
    assert trace.reward == 1 / 3 and trace.info["selfcorrect"]["turns"][0]["verdict"] == "wrong"
    assert trace.num_turns == 3 and episode.ok and episode.task.data.prompt == "add"
