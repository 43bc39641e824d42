"""A whole run on a tiny policy: what it writes, and that interruptions of every kind lose nothing."""

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from selfcorrect.errors import DivergenceError, TrainingError
from selfcorrect.training.arms.reinforced import train_score
from selfcorrect.training.runs.progress import SilentProgress
from selfcorrect.training.settings import (
    EvaluationSettings,
    LoraSettings,
    OptimiserSettings,
    PolicySettings,
    RunSettings,
    ScoreSettings,
)

pytestmark = pytest.mark.slow


def settings_for(folder: Path, **changes: Any) -> RunSettings:
    return RunSettings(
        **(
            {
                "policy": PolicySettings(model=str(folder), max_new_tokens=6),
                "score": ScoreSettings(stage_one_steps=3, stage_two_steps=3),
                "optimiser": OptimiserSettings(problems_per_step=4, episodes_per_problem=2, learning_rate=1e-3),
                "evaluation": EvaluationSettings(problems=12),
                "save_every": 2,
            }
            | changes
        )
    )


def steps_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


TIMES = {"tokens_per_second", "rollout_seconds", "judging_seconds", "step_time", "step_seconds", "peak_gib"}
TIMES |= {"judging_alone_seconds", "judging_share"}


def without_times(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in step.items() if name not in TIMES} for step in steps]


def test_a_run_leaves_everything_a_person_and_a_program_need(tiny_model_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = tmp_path / "run"
    result = train_score(settings_for(tiny_model_folder), out=out)
    assert [step["step"] for step in steps_of(out)] == [1, 2, 3, 4, 5, 6]
    assert [step["stage"] for step in steps_of(out)] == [1, 1, 1, 2, 2, 2]
    final = json.loads((out / "metrics.json").read_text())
    wanted = {
        "n",
        "accuracy_t1",
        "accuracy_t2",
        "delta",
        "delta_ci95",
        "i_to_c",
        "c_to_i",
        "unchanged",
        "tokens_per_turn",
    }
    assert wanted <= set(final["before"]) and wanted <= set(final["after"])
    assert final["after"]["n"] == 12 == result.after["n"]
    assert (out / "report.html").stat().st_size > 10_000
    assert (out / "episodes.jsonl").read_text().count("\n") == 24
    assert AutoModelForCausalLM.from_pretrained(out / "model").num_parameters() > 0
    assert AutoTokenizer.from_pretrained(out / "model").eos_token == "<eos>"


def test_the_first_stage_pays_the_second_answer_only(tiny_model_folder: Path, tmp_path: Path) -> None:
    train_score(settings_for(tiny_model_folder), out=tmp_path / "run")
    steps = steps_of(tmp_path / "run")
    assert all("reward/answer_1" not in step for step in steps[:3])
    assert all("reward/answer_1" in step and "reward/answer_2" in step for step in steps[3:])


KILLED_AT_STEP_4 = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_score import settings_for
from selfcorrect.training.runs.progress import SilentProgress
from selfcorrect.training.arms.reinforced import train_score

class Killed(SilentProgress):
    def step(self, metrics):
        if metrics["step"] == 4:
            os.kill(os.getpid(), 9)

train_score(settings_for(Path({folder!r})), out=Path({out!r}), progress=Killed())
"""


def test_a_killed_run_resumes_as_if_nothing_had_happened(
    tiny_model_folder: Path, tmp_path: Path, warm_python: str
) -> None:
    """kill -9 in step 4, after the checkpoint of step 2 or 4: across the switch of stages, every figure must come
    out the same."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    settings = settings_for(tiny_model_folder)
    train_score(settings, out=whole)
    script = KILLED_AT_STEP_4.format(tests=str(Path(__file__).parent), folder=str(tiny_model_folder), out=str(killed))
    died = subprocess.run([warm_python, "-c", script], capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert not (killed / "metrics.json").exists()
    train_score(settings, out=killed, resume=True)
    assert without_times(steps_of(killed)) == without_times(steps_of(whole))
    from safetensors.torch import load_file

    one, other = load_file(whole / "model" / "model.safetensors"), load_file(killed / "model" / "model.safetensors")
    assert all(torch.equal(one[name], other[name]) for name in one)


class PressesCtrlC(SilentProgress):
    def step(self, metrics: Mapping[str, float]) -> None:
        if metrics["step"] == 3:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_finishes_the_step_saves_and_can_be_resumed(tiny_model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = settings_for(tiny_model_folder)
    with pytest.raises(KeyboardInterrupt):
        train_score(settings, out=out, progress=PressesCtrlC())
    done = len(steps_of(out))
    assert done < 6
    assert (out / "checkpoints" / f"checkpoint-{done}").is_dir()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    train_score(settings, out=out, resume=True)
    assert [step["step"] for step in steps_of(out)] == [1, 2, 3, 4, 5, 6]


def test_a_diverging_run_names_its_last_good_checkpoint(tiny_model_folder: Path, tmp_path: Path) -> None:
    class Poison(SilentProgress):
        def step(self, metrics: Mapping[str, float]) -> None:
            if metrics["step"] == 3:
                self.policy.model.model.embed_tokens.weight.data.fill_(float("nan"))

    from selfcorrect.training.runs import reinforced_run as session

    progress = Poison()
    opened = session.open_run_policy

    def remember(settings: RunSettings, **how: Any) -> Any:
        progress.policy = opened(settings, **how)
        return progress.policy

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "open_run_policy", remember)
        with pytest.raises(DivergenceError, match="checkpoint-2"):
            train_score(settings_for(tiny_model_folder), out=tmp_path / "run", progress=progress)


def test_an_adapter_run_saves_a_plain_model(tiny_model_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    policy = PolicySettings(
        model=str(tiny_model_folder), max_new_tokens=6, lora=LoraSettings(rank=2, target_modules=["q_proj"])
    )
    train_score(settings_for(tiny_model_folder, policy=policy), out=tmp_path / "run")
    trained = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    assert not any("lora" in name for name in trained.state_dict())


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(TrainingError, match="nothing was trained"):
        train_score(settings_for(tmp_path / "no-model"), out=blocked / "run")
