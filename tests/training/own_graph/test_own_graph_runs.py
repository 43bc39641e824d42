"""A run of a graph of one's own has what every run has: a folder, evaluations, alarms, resume, a lock."""

import errno
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
from safetensors import SafetensorError
from small_trainer import Easy
from word_game import config, graph_of, likes_plus, policy_from, problems, question

from selfcorrect.agents.playing import EpisodeRules
from selfcorrect.errors import ConfigurationError, TrainingError
from selfcorrect.settings import combine
from selfcorrect.training.arms.reinforced import train_score
from selfcorrect.training.own_graph import Trained, train
from selfcorrect.training.ppo.trainer import TurnPPOTrainer
from selfcorrect.training.runs.fitting import is_whole, last_checkpoint, resumable
from selfcorrect.training.runs.holding import alone_in
from selfcorrect.training.runs.progress import SilentProgress
from selfcorrect.training.settings import RunSettings


def run(folder: Path, out: Path, *, resume: bool = False, **settings: Any) -> Trained:
    policy = policy_from(folder)
    chosen = {"steps": 4, "save_every": 1, "problems_per_step": 2, "episodes_per_problem": 2} | settings
    return train(
        graph_of(policy), problems(4), policy=policy, reward_fn=likes_plus, inputs=question,
        config=config(out, **chosen), held_out=problems(3), resume=resume, kl=0.0,
    )  # fmt: skip


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_second_start_in_the_folder_is_refused(tiny_model_folder: Path, tmp_path: Path) -> None:
    run(tiny_model_folder, tmp_path, steps=1)
    with pytest.raises(TrainingError, match="already holds a run; give resume=True"):
        run(tiny_model_folder, tmp_path, steps=1)
    with pytest.raises(ConfigurationError, match="other settings of learning_rate"):
        run(tiny_model_folder, tmp_path, steps=2, learning_rate=0.5, resume=True)


@pytest.mark.slow
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


@pytest.mark.slow
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


TRIES_TWICE = """
import sys
from pathlib import Path
from selfcorrect.errors import TrainingError
from selfcorrect.training.runs.holding import alone_in
try:
    with alone_in(Path(sys.argv[1])):
        print("nobody holds it", flush=True)
except TrainingError as error:
    print(error, flush=True)
sys.stdin.read()
with alone_in(Path(sys.argv[1])):
    pass
"""


def test_a_folder_is_held_against_other_processes(tmp_path: Path) -> None:
    with alone_in(tmp_path), pytest.raises(TrainingError, match="in use by another run"), alone_in(tmp_path):
        pass
    command = [sys.executable, "-c", TRIES_TWICE, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        with alone_in(tmp_path):
            assert other.stdout is not None and "in use by another run" in other.stdout.readline()
        other.communicate("go on")
    assert other.returncode == 0


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


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "trainer_state.json"])
def test_a_checkpoint_without_one_of_its_files_is_torn(name: str, tiny_model_folder: Path, tmp_path: Path) -> None:
    import torch

    checkpoint = tmp_path / "checkpoint-1"
    checkpoint.mkdir()
    (checkpoint / "model.safetensors").write_bytes((tiny_model_folder / "model.safetensors").read_bytes())
    torch.save({"state": torch.zeros(100)}, checkpoint / "optimizer.pt")
    (checkpoint / "trainer_state.json").write_text("{}")
    assert is_whole(checkpoint)
    (checkpoint / name).unlink()
    assert not is_whole(checkpoint)


def test_a_checkpoint_that_lacks_a_shard_is_torn(tiny_model_folder: Path, tmp_path: Path) -> None:
    import torch

    (tmp_path / "trainer_state.json").write_text("{}")
    torch.save({}, tmp_path / "optimizer.pt")
    weights, index = tmp_path / "model-00001-of-00002.safetensors", tmp_path / "model.safetensors.index.json"
    weights.write_bytes((tiny_model_folder / "model.safetensors").read_bytes())
    index.write_text(json.dumps({"weight_map": {"a": weights.name}}))
    assert is_whole(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": weights.name, "b": "model-00002-of-00002.safetensors"}}))
    assert not is_whole(tmp_path)


def test_torn_checkpoints_are_told_by_name(tmp_path: Path) -> None:
    said: list[str] = []
    assert resumable(tmp_path, said.append) is None and not said
    (tmp_path / "checkpoint-9").mkdir()
    (tmp_path / "checkpoint-10").mkdir()
    assert resumable(tmp_path, said.append) is None
    assert len(said) == 1 and said[0].startswith("checkpoint-9, checkpoint-10 is torn")
    assert said[0].endswith("goes on from the beginning")


@pytest.mark.slow
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:664] . PytorchStreamWriter failed writing file data.pkl"),
    ],
    ids=["OSError", "safetensors", "torch"],
)
def test_a_disk_that_fills_up_leaves_the_checkpoint_before_and_says_so(
    error: Exception, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = TurnPPOTrainer.save_model

    def full(self: Any, output_dir: str | None = None, **how: Any) -> None:
        saved(self, output_dir, **how)
        if self.state.global_step == 3:
            weights = Path(output_dir or "") / "model.safetensors"
            weights.write_bytes(weights.read_bytes()[:-100])
            raise error

    with monkeypatch.context() as patched:
        patched.setattr(TurnPPOTrainer, "save_model", full)
        with pytest.raises(TrainingError, match=r"cannot write .*checkpoint-3: .*free some space and resume"):
            run(tiny_model_folder, tmp_path / "run")
    resumed = run(tiny_model_folder, tmp_path / "run", resume=True)
    assert [step["step"] for step in resumed.steps] == [1, 2, 3, 4]


# A run that is resumed with the very object that it has trained.


class Dies(SilentProgress):
    """Ends a run in its third step, after the checkpoint of the second."""

    def step(self, metrics: Mapping[str, float]) -> None:
        if metrics["step"] == 3:
            raise RuntimeError("the power went")


def adapter(lora: bool) -> Any:
    from peft import LoraConfig

    modules = ["q_proj", "down_proj"]
    return LoraConfig(r=4, target_modules=modules, task_type="CAUSAL_LM", init_lora_weights=True) if lora else None


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True], ids=["all weights", "LoRA"])
def test_a_run_resumed_with_the_same_policy_keeps_the_reference_of_its_beginning(
    lora: bool, tiny_model_folder: Path, tmp_path: Path
) -> None:
    def run(policy: Any, out: Path, **how: Any) -> Trained:
        chosen = {"steps": 5, "save_every": 1, "learning_rate": 0.05}
        return train(
            graph_of(policy), problems(4), policy=policy, reward_fn=likes_plus, inputs=question,
            config=config(out, **chosen), kl=1.0, peft_config=adapter(lora), **how,
        )  # fmt: skip

    whole, parts = policy_from(tiny_model_folder), policy_from(tiny_model_folder)
    expected = run(whole, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="power"):
        run(parts, tmp_path / "parts", progress=Dies())
    resumed = run(parts, tmp_path / "parts", resume=True)
    assert expected.steps[-1]["kl_t1"] != 0
    assert [step.get("kl_t1") for step in resumed.steps] == [step.get("kl_t1") for step in expected.steps]
    assert same_weights(parts, whole) and not same_weights(parts, policy_from(tiny_model_folder))


def same_weights(one: Any, other: Any) -> bool:
    import torch

    left, right = one.model.state_dict(), other.model.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, {"rank": 4}], ids=["all weights", "LoRA"])
def test_score_resumed_with_the_same_policy_keeps_the_reference_of_its_beginning(
    lora: dict[str, int] | None, tiny_model_folder: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    changes = {
        "policy": {"max_new_tokens": 5, "lora": lora},
        "score": {"stage_one_steps": 0, "stage_two_steps": 5, "beta1": 1.0},
        "optimiser": {"problems_per_step": 4, "episodes_per_problem": 4, "learning_rate": 0.05},
        "evaluation": {"problems": 2},
        "save_every": 1,
    }
    settings = combine(RunSettings(), changes, [])

    def weights_of(policy: Any, out: Path, **how: Any) -> dict[str, Any]:
        train_score(settings, out=out, policy=policy, task=Easy(3), **how)
        return dict(load_file(out / "model" / "model.safetensors"))

    expected = weights_of(policy_from(tiny_model_folder), tmp_path / "whole")
    policy = policy_from(tiny_model_folder)
    with pytest.raises(RuntimeError, match="power"):
        weights_of(policy, tmp_path / "parts", progress=Dies())
    found = weights_of(policy, tmp_path / "parts", resume=True)
    start = load_file(tiny_model_folder / "model.safetensors")
    assert all(bool((expected[name] == found[name]).all()) for name in expected)
    assert any(bool((expected[name] != start[name]).any()) for name in expected)
