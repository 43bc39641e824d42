"""What `demo` and `train` make of their options, with a training that writes down what it was asked for."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from small_models import llama, word_tokenizer

from selfcorrect.agents.policies.pretrained import embedded_folder, load_tokenizer
from selfcorrect.agents.prompts import reads_english
from selfcorrect.cli.training_run import _is_ours
from selfcorrect.errors import DivergenceError
from selfcorrect.settings import value_of
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.run_directory import RunDirectory, RunResult
from selfcorrect.training.settings import RunSettings

FIGURES = {
    "n": 2000,
    "accuracy_t1": 0.5,
    "accuracy_t2": 0.55,
    "delta": 0.05,
    "delta_ci95": [0.04, 0.06],
    "i_to_c": 0.06,
    "c_to_i": 0.01,
    "unchanged": 0.8,
    "tokens_per_turn": [15.0, 15.5],
}


class ScriptedTraining:
    """Stands for an arm: makes the run's folder, tells two steps, and ends as told."""

    def __init__(self) -> None:
        self.settings: RunSettings | None = None
        self.out: Path | None = None
        self.resume: bool | None = None
        self.ends_with: BaseException | None = None

    def __call__(self, settings: RunSettings, *, out: Path, progress: ProgressSink, resume: bool = False) -> RunResult:
        self.settings, self.out, self.resume = settings, out, resume
        run = RunDirectory.create(out, settings, resume=resume)
        progress.start(2, "stage 1")
        for step in (1, 2):
            metrics: Mapping[str, float] = {"step": step, "stage": 1, "accuracy_t1": 0.5, "delta": 0.1}
            run.append_metrics(metrics)
            progress.step(metrics)
        if self.ends_with is not None:
            raise self.ends_with
        return RunResult(out, {**FIGURES, "delta": -0.02, "delta_ci95": [-0.03, -0.01]}, FIGURES)


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ScriptedTraining:
    scripted = ScriptedTraining()
    monkeypatch.setattr("selfcorrect.training.arms.reinforced.score", scripted)
    monkeypatch.chdir(tmp_path)
    return scripted


def test_the_demo_shows_the_figures_before_and_after(run: Any, training: ScriptedTraining) -> None:
    done = run("demo")
    assert done.status == 0
    assert training.out == Path("runs/demo") and training.resume is False
    for words in [
        "before",
        "after",
        "-0.020",
        "+0.050",
        "[+0.040, +0.060]",
        "runs/demo/report.html",
        "selfcorrect solve",
    ]:
        assert words in done.stdout
    assert "delta +0.100" in done.stderr


def test_a_second_demo_takes_a_new_folder(run: Any, training: ScriptedTraining) -> None:
    run("demo")
    run("demo")
    assert training.out == Path("runs/demo-2")


def test_json_is_all_that_standard_output_gets(run_json: Any, training: ScriptedTraining) -> None:
    result = run_json("demo", "--out", "here")
    assert result["directory"] == "here"
    assert result["before"]["delta"] == -0.02 and result["after"] == FIGURES


def test_overrides_win_over_the_file_and_the_file_over_the_preset(run: Any, training: ScriptedTraining) -> None:
    Path("run.yaml").write_text("score: {alpha: 7, beta1: 0.5}\n")
    run("train", "score", "--preset", "demo", "--config", "run.yaml", "--set", "score.alpha=9", "--set", "seed=4")
    assert training.settings is not None
    score = training.settings.score
    assert (score.alpha, score.beta1, score.stage_one_steps, training.settings.seed) == (9, 0.5, 30, 4)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--set", "score.alhpa=5"], "score.alhpa: unknown; did you mean score.alpha?"),
        (["--set", "score.alpha=much"], "score.alpha: expected a number, got 'much'"),
        (["--set", "score.alpha"], "expected NAME=VALUE"),
        (["--config", "nowhere.yaml"], "cannot read the settings file nowhere.yaml"),
        (["--resume", "x", "--out", "y"], "leave --config and --out away"),
    ],
)
def test_wrong_settings_end_with_status_2_and_words(
    run: Any, training: ScriptedTraining, arguments: list[str], expected: str
) -> None:
    done = run("train", "score", *arguments)
    assert done.status == 2
    assert expected in done.stderr and "Traceback" not in done.stderr
    assert training.settings is None


def test_wrong_settings_are_told_as_json_too(run_json: Any, training: ScriptedTraining) -> None:
    error = run_json("train", "score", "--set", "sede=1")["error"]
    assert error["kind"] == "ConfigurationError" and "did you mean seed?" in error["message"]


def test_a_folder_that_cannot_be_written_is_told_before_training(run: Any, training: ScriptedTraining) -> None:
    Path("file").write_text("")
    done = run("demo", "--out", "file/run")
    assert done.status == 1
    assert "cannot write the run to file/run" in done.stderr and "nothing was trained" in done.stderr


def test_ctrl_c_says_how_to_go_on_and_going_on_takes_the_same_settings(run: Any, training: ScriptedTraining) -> None:
    training.ends_with = KeyboardInterrupt()
    stopped = run("demo", "--out", "my run", "--set", "seed=5")
    assert stopped.status == 130
    assert "selfcorrect demo --resume 'my run'" in stopped.stderr
    training.ends_with = None
    done = run("demo", "--resume", "my run")
    assert done.status == 0
    assert training.resume is True and training.out == Path("my run")
    assert training.settings is not None and training.settings.seed == 5


def test_resuming_nothing_says_so(run: Any, training: ScriptedTraining) -> None:
    done = run("train", "score", "--resume", "nowhere")
    assert done.status == 1 and "nowhere holds no run to resume" in done.stderr


def test_resuming_with_other_settings_is_refused(run: Any, training: ScriptedTraining) -> None:
    run("demo", "--out", "run")
    done = run("demo", "--resume", "run", "--set", "score.alpha=99")
    assert done.status == 2 and "other settings of score.alpha" in done.stderr


def test_a_run_that_diverges_ends_in_words(run: Any, training: ScriptedTraining) -> None:
    training.ends_with = DivergenceError("the loss is not finite in step 3")
    done = run("demo")
    assert done.status == 1 and "not finite in step 3" in done.stderr and "Traceback" not in done.stderr


def english_folder(at: Path) -> Path:
    """A model whose tokenizer reads a plain sentence: that tells whose it is."""
    words = ["Using", "the", "numbers,", "each", "exactly", "once,", "reach", "a", "target"]
    word_tokenizer(words).save_pretrained(at)
    llama(len(words) + 3).save_pretrained(at)
    return at


@pytest.mark.parametrize("model", ["somebody/their-model", "mine"])
def test_a_language_model_is_trained_with_the_preset_for_it(run: Any, training: ScriptedTraining, model: str) -> None:
    english_folder(Path("mine"))
    done = run("train", "score", "--model", model)
    assert done.status == 0 and f"preset   lm, by default for {model}" in done.stderr
    settings = training.settings
    assert settings is not None and settings.policy.model == model
    assert (settings.policy.max_new_tokens, settings.optimiser.learning_rate) == (512, 1e-5)
    assert settings.task.model_dump()["words"] is True


RATES = (
    "optimiser.learning_rate",
    "star.learning_rate",
    "pair_sft.learning_rate",
    *(f"vstar.{fit}.learning_rate" for fit in ("generator", "likelihood", "classifier", "stepwise")),
)
"""Of what an adapter learns."""


@pytest.mark.parametrize(("options", "rate"), [([], 1e-5), (["--set", "policy.lora.rank=4"], 1e-4)])
def test_adapters_learn_at_ten_times_the_rate_of_all_weights(
    run: Any, training: ScriptedTraining, options: list[str], rate: float
) -> None:
    english_folder(Path("mine"))
    told = run("train", "score", "--model", "mine", *options).stderr
    assert ("rates    of adapters, 0.0001: ten times those of all weights" in told) == bool(options)
    assert training.settings is not None
    assert {value_of(training.settings, name) for name in RATES} == {rate}


def test_large_models_get_adapters_and_their_rate_by_themselves(
    run: Any, training: ScriptedTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    english_folder(Path("mine"))
    monkeypatch.setattr("selfcorrect.training.runs.opening._LORA_ABOVE", 10)
    assert "rates    of adapters" in run("train", "score", "--model", "mine").stderr
    assert training.settings is not None and training.settings.optimiser.learning_rate == 1e-4


def test_a_rate_that_was_chosen_stays_with_adapters_too(run: Any, training: ScriptedTraining) -> None:
    english_folder(Path("mine"))
    run("train", "score", "--model", "mine", "--set", "policy.lora.rank=4", "--set", "optimiser.learning_rate=1e-5")
    assert training.settings is not None
    assert (training.settings.optimiser.learning_rate, training.settings.star.learning_rate) == (1e-5, 1e-4)
    saved = training.out
    assert saved is not None
    run("train", "score", "--resume", saved)  # its rates are those of the run, whatever they were
    assert training.settings.optimiser.learning_rate == 1e-5
    Path("run.yaml").write_text("policy: {model: mine, lora: {rank: 4}}\nstar: {learning_rate: 0.0001}\n")
    assert run("train", "score", "--config", "run.yaml").status == 0  # as a config.yaml of such a run holds it
    run("train", "score", "--preset", "full", "--model", "embedded", "--set", "policy.lora.rank=4")
    assert training.settings.optimiser.learning_rate == 5e-4


def test_whose_model_a_folder_holds_is_read_from_its_tokenizer(tmp_path: Path) -> None:
    assert not _is_ours(str(english_folder(tmp_path / "theirs"))) and _is_ours(str(embedded_folder()))
    tokenizer = load_tokenizer(tmp_path / "theirs")  # it can be read: it is what its words say
    assert reads_english(tokenizer)


def test_policies_of_the_embedded_kind_keep_their_preset(run: Any, training: ScriptedTraining) -> None:
    for model in ("embedded", str(embedded_folder())):
        assert "preset   full, by default" in run("train", "score", "--model", model).stderr
        assert training.settings is not None and training.settings.policy.max_new_tokens == 40


def test_a_model_in_the_settings_file_counts_too(run: Any, training: ScriptedTraining) -> None:
    Path("run.yaml").write_text("policy: {model: somebody/their-model, max_new_tokens: 700}\n")
    run("train", "score", "--config", "run.yaml")
    assert training.settings is not None
    assert (training.settings.policy.max_new_tokens, training.settings.optimiser.learning_rate) == (700, 1e-5)


@pytest.mark.parametrize(("options", "words"), [([], True), (["--set", "task.words=false"], False)])
def test_another_procedural_task_is_asked_in_sentences_too(
    run: Any, training: ScriptedTraining, options: list[str], words: bool
) -> None:
    run("train", "score", "--model", "somebody/their-model", "--task", "equations", *options)
    assert training.settings is not None
    assert training.settings.task.kind == "equations" and training.settings.task.model_dump()["words"] is words


def test_a_preset_of_the_small_policy_is_for_a_language_model_only_by_name_and_with_a_warning(
    run: Any, training: ScriptedTraining
) -> None:
    done = run("train", "score", "--model", "somebody/their-model", "--preset", "demo")
    assert "warning: preset demo is made for the embedded policy" in done.stderr and "--preset lm" in done.stderr
    assert training.settings is not None and training.settings.policy.max_new_tokens == 40


@pytest.mark.parametrize("setting", ["learning_rate=1e-4", "epochs=2", "batch=8", "optimiser=muon", "warmup=0.1"])
def test_what_a_fitted_head_does_not_read_is_refused(
    run: Any, training: ScriptedTraining, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # by its module: the package has a function of that name
    monkeypatch.setattr(importlib.import_module("selfcorrect.training.vstar.rounds"), "vstar", training)
    english_folder(Path("mine"))
    name = setting.partition("=")[0]
    asked = ("train", "vstar", "--model", "mine", "--set", f"vstar.classifier.{setting}")
    refused = run(*asked).stderr
    assert f"vstar.classifier.{name} has no effect" in refused and "body=frozen" in refused
    assert training.settings is None
    run(*asked, "--set", "vstar.classifier.body=after_head")
    assert training.settings is not None and training.settings.vstar.classifier.body == "after_head"
