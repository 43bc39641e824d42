"""A run from its settings to its report, interrupted and resumed; and what is refused before it starts."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from selfcorrect.agents.quiet.policy import QuietPolicy
from selfcorrect.errors import ConfigurationError, DivergenceError, PolicyError, TaskError, TrainingError
from selfcorrect.training.quiet_star.loop import warm_up
from selfcorrect.training.quiet_star.run import train_quiet_star
from selfcorrect.training.quiet_star.settings import (
    QuietRun,
    QuietSettings,
    StepSettings,
    ThoughtSettings,
    quiet_settings,
    saved_settings,
)


class Interrupting:
    """A progress sink that presses Ctrl-C after a step."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.steps: list[int] = []

    def start(self, total_steps: int, stage: str) -> None: ...

    def step(self, metrics: Any) -> None:
        self.steps.append(int(metrics["step"]))
        if len(self.steps) == self.after:
            os.kill(os.getpid(), signal.SIGINT)

    def message(self, text: str) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def small(tiny_model_folder: Path) -> QuietSettings:
    return QuietSettings(
        model=str(tiny_model_folder),
        steps=4,
        save_every=2,
        evaluation_texts=6,
        thought=ThoughtSettings(tokens=2, ahead=2),
        optimiser=StepSettings(texts=2, warm_up=2),
    )


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors") | load_file(run / "model" / "quiet.safetensors")


def without_times(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if "second" not in name} for row in rows]


@pytest.mark.slow
def test_a_run_leaves_a_model_figures_and_a_report(small: QuietSettings, tmp_path: Path) -> None:
    result = train_quiet_star(small, out=tmp_path / "run")
    final = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert final["after"] == dict(result.after) and final["before"]["all_n"] == result.after["all_n"]
    assert result.after["answer_n"] == 6
    after = result.after
    assert after["all_gain"] == pytest.approx(after["all_nll"] - after["all_nll_talk"])
    policy = QuietPolicy.from_pretrained(result.directory / "model")
    assert policy.model.thinking.tokens == 2 and policy.model.thinking.like == (":", ";")
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("<svg") == 4 and 'class="answer"' in page and "What the best thoughts say" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    steps = without_times(tmp_path / "run")
    assert [row["step"] for row in steps] == [1, 2, 3, 4]
    assert all(row["gain"] == pytest.approx(row["nll_base"] - row["nll"]) for row in steps)


@pytest.mark.slow
def test_an_interrupted_run_ends_as_one_that_was_not(small: QuietSettings, tmp_path: Path) -> None:
    train_quiet_star(small, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_quiet_star(small, out=tmp_path / "parts", progress=Interrupting(after=3))
    assert [row["step"] for row in without_times(tmp_path / "parts")] == [1, 2, 3]
    train_quiet_star(small, out=tmp_path / "parts", resume=True)
    assert without_times(tmp_path / "parts") == without_times(tmp_path / "whole")
    for name, weight in weights(tmp_path / "whole").items():
        torch.testing.assert_close(weights(tmp_path / "parts")[name], weight, atol=0, rtol=0)


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_last_checkpoint(small: QuietSettings, tmp_path: Path) -> None:
    class Killed(Interrupting):
        def step(self, metrics: Any) -> None:
            self.steps.append(int(metrics["step"]))
            if len(self.steps) == self.after:
                raise SystemExit  # as good as dead: nothing is saved on the way out

    with pytest.raises(SystemExit):
        train_quiet_star(small, out=tmp_path / "run", progress=Killed(after=3))
    told = Interrupting(after=99)
    train_quiet_star(small, out=tmp_path / "run", progress=told, resume=True)
    assert told.steps == [3, 4]  # the checkpoint was written after step 2
    assert [row["step"] for row in without_times(tmp_path / "run")] == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_run_is_resumed_with_its_own_settings_only(small: QuietSettings, tmp_path: Path) -> None:
    train_quiet_star(small.model_copy(update={"steps": 1}), out=tmp_path / "run")
    with pytest.raises(ConfigurationError, match="other settings of seed"):
        train_quiet_star(small.model_copy(update={"seed": 9}), out=tmp_path / "run", resume=True)
    train_quiet_star(
        small.model_copy(update={"steps": 2}), out=tmp_path / "run", resume=True
    )  # a longer one is no other
    assert [row["step"] for row in QuietRun(tmp_path / "run").read_metrics()] == [1, 2]
    assert "quiet-star (Quiet-STaR)" in (tmp_path / "run" / "model" / "README.md").read_text()
    with pytest.raises(TrainingError, match="already holds a run"):
        train_quiet_star(small, out=tmp_path / "run")
    with pytest.raises(TrainingError, match="no run to resume"):
        train_quiet_star(small, out=tmp_path / "nowhere", resume=True)
    (tmp_path / "run" / "arm.txt").write_text("score\n")
    with pytest.raises(ConfigurationError, match="a run of the arm 'score', not of 'quiet-star'"):
        saved_settings(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pause", "none"])
def test_the_baselines_are_trained_by_the_same_loop(small: QuietSettings, tmp_path: Path, kind: Any) -> None:
    settings = small.model_copy(update={"thought": ThoughtSettings(kind=kind, tokens=2, ahead=2), "steps": 2})
    result = train_quiet_star(settings, out=tmp_path / "run")
    assert (result.after["all_gain"] == 0) == (kind == "none")
    assert "What the best thoughts say" not in (tmp_path / "run" / "report.html").read_text()


def test_any_text_file_can_be_learnt_from(small: QuietSettings, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("3 + 4 = 7 ; 5 * 2 = 10 ;\n" * 12, encoding="utf-8")
    result = train_quiet_star(small.model_copy(update={"text": str(file), "span": 16}), out=tmp_path / "run")
    assert result.after["all_n"] == 15 and "answer_n" not in result.after  # 9 spans of 16, one of them held out
    assert len(result.after["gain_by_difficulty"]) == 4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("3 + 4 = 7", "too few for two spans"),
        ("once upon a time there was a rainy afternoon", "does not know 9 of the 9 words"),
        (None, "cannot read the text"),
    ],
)
def test_a_text_that_cannot_be_learnt_from_is_told_before_training(
    small: QuietSettings, tmp_path: Path, content: str | None, words: str
) -> None:
    file = tmp_path / "text.txt"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(TaskError, match=words):
        train_quiet_star(small.model_copy(update={"text": str(file)}), out=tmp_path / "run")


def test_tokens_ahead_beyond_every_text_are_refused(small: QuietSettings, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"thought.ahead = 9 looks beyond every span of 8"):
        quiet_settings(None, None, {"text": "some.txt"}, ["thought.ahead=9", "span=8"])
    file = tmp_path / "text.txt"
    file.write_text("3 + 4 = 7 ;", encoding="utf-8")
    far = small.model_copy(update={"text": str(file), "span": 8, "thought": ThoughtSettings(tokens=2, ahead=7)})
    with pytest.raises(TaskError, match="the 7 tokens ahead"):
        train_quiet_star(far, out=tmp_path / "run")


def test_texts_with_thoughts_beyond_the_context_are_refused_before_training(
    small: QuietSettings, tmp_path: Path
) -> None:
    settings = small.model_copy(update={"thought": ThoughtSettings(tokens=120)})
    with pytest.raises(PolicyError, match="but the model has 128"):
        train_quiet_star(settings, out=tmp_path / "run")


def test_a_run_that_diverges_stops_before_the_weights_are_lost(small: QuietSettings, tmp_path: Path) -> None:
    settings = small.model_copy(update={"optimiser": StepSettings(learning_rate=1e30, warm_up=0, texts=2)})
    with pytest.raises(DivergenceError, match="not finite"):
        train_quiet_star(settings, out=tmp_path / "run")


def test_one_thought_a_position_has_nothing_to_be_compared_with() -> None:
    with pytest.raises(ConfigurationError, match="per_position must be 2 or more"):
        quiet_settings(None, None, {}, ["thought.per_position=1"])
    assert quiet_settings(None, None, {}, ["thought.per_position=1", "thought.kind=pause"]).thought.per_position == 1


def test_unknown_settings_are_named_with_the_nearest_right_name() -> None:
    with pytest.raises(ConfigurationError, match=r"thought\.token: unknown.*tokens"):
        quiet_settings(None, None, {}, ["thought.token=4"])


def test_the_learning_rate_rises_over_the_warm_up_and_stays() -> None:
    settings = StepSettings(warm_up=4)
    assert [warm_up(settings, step) for step in (0, 1, 3, 4, 99)] == pytest.approx([0.25, 0.5, 1, 1, 1])
