"""A run of a graph of one's own has what every run has: a folder, evaluations, alarms, resume, a lock."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from word_game import config, graph_of, likes_plus, policy_from, problems, question

from selfcorrect.agents.playing import EpisodeRules
from selfcorrect.errors import ConfigurationError, TrainingError
from selfcorrect.training.own_graph import Trained, train
from selfcorrect.training.runs.fitting import is_whole, last_checkpoint
from selfcorrect.training.runs.run_directory import alone_in


def run(folder: Path, out: Path, *, resume: bool = False, **settings: Any) -> Trained:
    policy = policy_from(folder)
    chosen = {"steps": 4, "save_every": 1, "problems_per_step": 2, "episodes_per_problem": 2} | settings
    return train(
        graph_of(policy), problems(4), policy=policy, reward_fn=likes_plus, inputs=question,
        config=config(out, **chosen), held_out=problems(3), resume=resume, kl=0.0,
    )  # fmt: skip


def test_the_folder_holds_figures_evaluations_episodes_and_a_report(tiny_model_folder: Path, tmp_path: Path) -> None:
    trained = run(tiny_model_folder, tmp_path / "run")
    out = tmp_path / "run"
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4] == [step["step"] for step in trained.steps]
    final = json.loads((out / "metrics.json").read_text())
    assert final["before"]["n"] == final["after"]["n"] == 3
    assert final["after"]["reward/write_1"] == trained.after["reward/write_1"]
    assert final["budget"]["optimiser_steps"] == 4
    episodes = [json.loads(line) for line in (out / "episodes.jsonl").read_text().splitlines()]
    assert [row["policy"] for row in episodes] == ["after"] * 3 + ["before"] * 3
    assert [turn["role"] for turn in episodes[0]["turns"]] == ["write 1", "check 1", "rewrite 1"]
    assert "reward of write, call 1" in (out / "report.html").read_text()
    assert trained.model_path == out / "model"


def test_a_second_start_in_the_folder_is_refused(tiny_model_folder: Path, tmp_path: Path) -> None:
    run(tiny_model_folder, tmp_path, steps=1)
    with pytest.raises(TrainingError, match="already holds a run; give resume=True"):
        run(tiny_model_folder, tmp_path, steps=1)
    with pytest.raises(ConfigurationError, match="other settings of learning_rate"):
        run(tiny_model_folder, tmp_path, steps=2, learning_rate=0.5, resume=True)


def test_a_resumed_run_tells_all_its_steps_and_passes_over_a_torn_checkpoint(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    whole = run(tiny_model_folder, tmp_path / "whole")
    run(tiny_model_folder, tmp_path / "parts", steps=3)
    newest = last_checkpoint(tmp_path / "parts" / "checkpoints")
    assert newest is not None and newest.name == "checkpoint-3"
    weights = newest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    before = last_checkpoint(tmp_path / "parts" / "checkpoints")
    assert before is not None and before.name == "checkpoint-2"
    resumed = run(tiny_model_folder, tmp_path / "parts", resume=True)
    same = ("step", "tokens", "reward/write_1", "calls")
    assert [[step[name] for name in same] for step in resumed.steps] == [
        [step[name] for name in same] for step in whole.steps
    ]
    assert (resumed.before, resumed.after) == (whole.before, whole.after)


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    whole = run(tiny_model_folder, tmp_path / "whole")
    run(tiny_model_folder, tmp_path / "killed", steps=1)
    for checkpoint in (tmp_path / "killed" / "checkpoints").glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    resumed = run(tiny_model_folder, tmp_path / "killed", resume=True)
    assert [step["tokens"] for step in resumed.steps] == [step["tokens"] for step in whole.steps]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "trainer_state.json"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_torn_file_makes_a_checkpoint_torn(name: str, kept: float, tiny_model_folder: Path, tmp_path: Path) -> None:
    import torch

    checkpoint = tmp_path / "checkpoint-1"
    checkpoint.mkdir()
    (checkpoint / "model.safetensors").write_bytes((tiny_model_folder / "model.safetensors").read_bytes())
    torch.save({"state": torch.zeros(100)}, checkpoint / "optimizer.pt")
    (checkpoint / "trainer_state.json").write_text('{"global_step": 1}')
    assert is_whole(checkpoint)
    content = (checkpoint / name).read_bytes()
    (checkpoint / name).write_bytes(content[: int(len(content) * kept)])
    assert not is_whole(checkpoint)
    (checkpoint / name).unlink()
    assert name != "trainer_state.json" or not is_whole(checkpoint)


def test_a_folder_is_held_against_other_processes(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from selfcorrect.training.runs.run_directory import alone_in\n"
        "with alone_in(Path(sys.argv[1])): pass"
    )
    with alone_in(tmp_path), pytest.raises(TrainingError, match="in use by another run"), alone_in(tmp_path):
        pass
    with alone_in(tmp_path):
        other = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert other.returncode != 0 and "in use by another run" in other.stderr
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


class Asked(TypedDict, total=False):
    question: str


def test_the_graph_is_given_its_config(tiny_model_folder: Path, tmp_path: Path) -> None:
    policy, seen = policy_from(tiny_model_folder), []
    inner = graph_of(policy)

    async def look(state: Asked, config: RunnableConfig) -> Mapping[str, Any]:
        seen.append((config["configurable"]["tone"], config["metadata"]["problem"]))
        await inner.ainvoke({"question": state["question"]})
        return {}

    graph = StateGraph(Asked).add_node("look", look).add_edge(START, "look").add_edge("look", END).compile()
    train(
        graph, problems(2), policy=policy, reward_fn=likes_plus, inputs=question, kl=0.0,
        config=config(tmp_path, steps=1, problems_per_step=2, episodes_per_problem=2),
        rules=EpisodeRules(config={"configurable": {"tone": "dry"}}),
    )  # fmt: skip
    assert {tone for tone, _ in seen} == {"dry"}
    assert {name for _, name in seen} == {"p1", "p2"}
