from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from selfcorrect.errors import ConfigurationError
from selfcorrect.settings import combine, differing_fields, settings_as_yaml
from selfcorrect.tasks.countdown import CountdownSettings
from selfcorrect.tasks.jsonl import JsonlSettings
from selfcorrect.training.arms.specs import refuse_unread
from selfcorrect.training.credit.settings import Outcome, ReturnToGo
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.ppo.keeping import KeepingSettings
from selfcorrect.training.ppo.objectives import StageOne, StageTwo
from selfcorrect.training.runs.opening import ppo_config, score_schedule
from selfcorrect.training.settings import (
    DEMO,
    PRESETS,
    LoraSettings,
    OptimiserSettings,
    RunSettings,
    ScoreSettings,
    read_settings,
)


def fault_of(tree: dict[str, object], *overrides: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        combine(RunSettings(), tree, overrides, source="run.yaml")
    return str(caught.value)


@pytest.mark.parametrize("settings", PRESETS.values(), ids=PRESETS.keys())
def test_presets_survive_their_file(settings: RunSettings, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(settings_as_yaml(settings))
    assert read_settings(tmp_path / "config.yaml") == settings


@pytest.mark.slow
@given(
    rate=st.floats(1e-9, 10),
    steps=st.integers(1, 10**6),
    alpha=st.floats(0, 100),
    seed=st.integers(0, 2**32 - 1),
    path=st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1).filter(lambda text: "/" not in text),
)
def test_any_settings_survive_their_yaml(rate: float, steps: int, alpha: float, seed: int, path: str) -> None:
    settings = RunSettings(
        task=JsonlSettings(path=Path(path)),
        optimiser=OptimiserSettings(learning_rate=rate),
        score=ScoreSettings(stage_one_steps=steps, alpha=alpha),
        seed=seed,
    )
    assert combine(RunSettings(), yaml.safe_load(settings_as_yaml(settings)), []) == settings


def test_yaml_and_toml_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("seed: 3\noptimiser:\n  learning_rate: 2e-5\n")
    (tmp_path / "run.toml").write_text("seed = 3\n[optimiser]\nlearning_rate = 2e-5\n")
    settings = read_settings(tmp_path / "run.yaml")
    assert settings == read_settings(tmp_path / "run.toml")
    assert (settings.seed, settings.optimiser.learning_rate) == (3, 2e-5)


def test_a_file_changes_only_what_it_names_and_an_override_wins_over_it(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("score: {alpha: 7, beta1: 0.5}\n")
    settings = read_settings(tmp_path / "run.yaml", overrides=["score.alpha=9"], base=DEMO)
    assert (settings.score.alpha, settings.score.beta1) == (9, 0.5)
    assert settings.score.stage_one_steps == DEMO.score.stage_one_steps


def test_another_kind_of_task_replaces_the_fields_of_the_first() -> None:
    settings = combine(RunSettings(), {"task": {"kind": "jsonl", "path": "rows.jsonl"}}, [])
    assert settings.task == JsonlSettings(path=Path("rows.jsonl"))
    overrides = ["task.kind=jsonl", "task.path=rows.jsonl"]
    assert combine(RunSettings(), {}, overrides) == combine(RunSettings(), {}, overrides[::-1]) == settings


def test_an_override_makes_the_group_it_needs() -> None:
    assert combine(RunSettings(), {}, ["policy.lora.rank=4"]).policy.lora == LoraSettings(rank=4)


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"score": {"alhpa": 1}}, "score.alhpa: unknown; did you mean score.alpha?"),
        ({"alpha": 1}, "alpha: unknown; did you mean score.alpha?"),
        ({"task": {"numbrs": 3}}, "task.numbrs: unknown; did you mean task.numbers?"),
        ({"task": {"path": "x"}}, "task.path: unknown for kind 'countdown'; it needs task.kind: jsonl"),
        ({"task": {"split": "x"}}, "task.split: unknown; known here: task.kind, task.words, task.numbers"),
        ({"task": {"test_shar": 1}}, "did you mean task.test_share, of task.kind: jsonl?"),
        ({"credit": {"gama": 1}}, "did you mean credit.gamma, of credit.kind: return_to_go?"),
        ({"evaluation": {"problem": 3}}, "evaluation.problem: unknown; did you mean evaluation.problems?"),
        ({"optimiser": {"alpha": 3}}, "optimiser.alpha: unknown; did you mean score.alpha?"),
        ({"splits": 2}, "splits: unknown; known here: seed, "),
        ({"task": {"kind": "jsonl"}}, "task.path: missing"),
        (
            {"task": {"kind": "sudoku"}},
            ", package.module:Name, got 'sudoku'",
        ),
        ({"policy": {"lora": {"rnk": 3}}}, "policy.lora.rnk: unknown; did you mean policy.lora.rank?"),
        ({"seed": 1.5}, "seed: expected a whole number, got 1.5"),
        ({"score": {"alpha": True}}, "score.alpha: expected a number, got True"),
        ({"score": {"alpha": float("nan")}}, "score.alpha: expected a finite number, got nan"),
        ({"score": 3}, "score: expected a group of settings, got 3"),
        (
            {"graph": {"critique": "selff"}},
            "graph.critique: unknown critique mode 'selff'; did you mean self?",
        ),
        ({"task": {"numbers": 7}}, "task.numbers: expected less than or equal to 6, got 7"),
        ({"optimiser": {"minibatches": 7}}, "optimiser: minibatches x gradient_accumulation must divide"),
        ({"score": {"stage_one_steps": 0, "stage_two_steps": 0}}, "there is nothing to train"),
    ],
)
def test_a_wrong_field_is_named_with_its_path_and_the_right_name(tree: dict[str, object], expected: str) -> None:
    message = fault_of(tree)
    assert message.startswith("run.yaml: a setting is wrong\n")
    assert expected in message


def test_all_wrong_fields_are_told_at_once() -> None:
    message = fault_of({"score": {"alhpa": 1, "beta1": "much"}}, "seed=no")
    assert message.splitlines()[0] == "run.yaml: 3 settings are wrong"
    assert "score.beta1: expected a number, got 'much'" in message


@pytest.mark.parametrize("override", ["score.alpha", "=3", "score..alpha=3", ".=3"])
def test_an_override_without_name_or_value_is_refused(override: str) -> None:
    with pytest.raises(ConfigurationError, match="expected NAME=VALUE"):
        combine(RunSettings(), {}, [override])


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("run.yaml", "", "is empty"),
        ("run.yaml", "score: [1", "no valid YAML: line 1"),
        ("run.yaml", "- 1", "expected named settings"),
        ("run.toml", "score = ", "no valid TOML"),
        ("run.yaml", b"\xff\xfe\xff", "cannot read"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: str | bytes, expected: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigurationError, match=expected) as caught:
        read_settings(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml"):
        read_settings(tmp_path / "nowhere.yaml")


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        RunSettings().seed = 4  # type: ignore[misc]


def test_differing_fields_are_dotted_names() -> None:
    other = combine(DEMO, {}, ["score.alpha=3", "seed=9"])
    assert differing_fields(DEMO, other) == ["seed", "score.alpha"]


def test_the_countdown_group_opens_the_task_it_describes() -> None:
    assert CountdownSettings(numbers=5).open().name == "countdown-5"


OTHER_VALUES: dict[str, object] = {
    "store_episodes": 0,
    "learning_rate": 3e-6,
    "learning_rate_decay": False,
    "warmup_steps": 7,
    "problems_per_step": 12,
    "episodes_per_problem": 6,
    "ppo_epochs": 3,
    "minibatches": 4,
    "gradient_accumulation": 4,
    "clip": 0.3,
    "clip_high": 0.4,
    "surrogate": "gspo",
    "dual_clip": 3.0,
    "normalise_loss": 40,
    "truncated": "mask",
    "overlong": {"limit": 40, "buffer": 8, "penalty": 1.0},
    "no_spread": "drop",
    "resample_rounds": 5,
    "kl_target": 0.1,
    "max_kl": 0.7,
    "stop_after_idle": 3,
    "kl_gain": 0.2,
    "entropy_target": 1.0,
    "entropy_gain": 0.01,
    "stage_switch": "restart",
    "baseline": "none",
    "normalise_by": "role",
    "critic": {"learning_rate": 0.5},
    "kl": False,
    "kl_over": "turn",
    "entropy": 0.01,
    "log_entropy": False,
    "temperature": 0.7,
    "max_grad_norm": 0.5,
    "adam_beta2": 0.97,
    "activation_checkpointing": True,
    "score_rows": 5,
    "pure_bf16": True,
    "recompute_old_logprobs": True,
    "mismatch": None,
    "play_ahead": True,
    "trl": {"weight_decay": 0.1},
}


@pytest.mark.parametrize("name", OptimiserSettings.model_fields)
def test_every_setting_of_the_trainer_can_be_set_from_a_file_and_from_an_override(name: str, tmp_path: Path) -> None:
    value = OTHER_VALUES[name]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"optimiser": {name: value}}))
    from_file = read_settings(tmp_path / "run.yaml", base=DEMO)
    assert from_file == combine(DEMO, {}, [f"optimiser.{name}={yaml.safe_dump(value, default_flow_style=True)}"])
    assert differing_fields(DEMO, from_file)[0].startswith(f"optimiser.{name}")
    reached = ppo_config(from_file, tmp_path, 5, normalise_by="nothing", stages=[2, 3])
    assert getattr(reached, name) == getattr(from_file.optimiser, name) != getattr(ppo_config(DEMO, tmp_path, 5), name)


KEPT = {"report_to": ["tensorboard"], "best": {"metric": "episode_reward", "patience": 3}}
"""What every run keeps, where it is no whole number."""


@pytest.mark.parametrize("name", KeepingSettings.model_fields)
def test_what_every_run_keeps_reaches_the_trainer(name: str, tmp_path: Path) -> None:
    settings = combine(DEMO, {name: KEPT.get(name, 11)}, [])
    reached = getattr(ppo_config(settings, tmp_path, 5), name)
    assert reached == getattr(settings, name) != getattr(ppo_config(DEMO, tmp_path, 5), name)


def test_who_is_paid_for_what_and_how_often_it_is_measured_reach_the_trainer(tmp_path: Path) -> None:
    """With those of the two tests above, these are all that the trainer has, but what the run itself decides."""
    changed = ["credit.kind=outcome", "optimiser.baseline=leave_one_out", "evaluation.every=7"]
    settings = combine(DEMO, {}, [*changed, "credit_by_role.critique.kind=return_to_go"])
    reached = ppo_config(settings, tmp_path, 5)
    assert (reached.credit, reached.evaluate_every) == (Outcome(), 7)
    assert reached.credit_by_role == {"critique": ReturnToGo()}
    ours = {
        "credit",
        "credit_by_role",
        "evaluate_every",
        *OptimiserSettings.model_fields,
        *KeepingSettings.model_fields,
    }
    assert set(TurnPPOConfig.model_fields) - ours == {"output_dir", "steps", "stages"}


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("credit_by_role.critic.kind=outcome", "the calls are answer and critique, and none is 'critic'"),
        ("credit_by_role.critique.kind=tree", "it cannot be that of single roles"),
    ],
)
def test_a_credit_that_no_call_can_have_is_refused(override: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        combine(DEMO, {}, [override])


def test_an_arm_without_credit_reads_none_of_roles() -> None:
    with pytest.raises(ConfigurationError, match="star does not read settings of credit_by_role"):
        refuse_unread(["credit_by_role.critique.kind"], "star", ("star",), "--set")


def test_an_arm_normalises_where_the_settings_leave_it_open(tmp_path: Path) -> None:
    assert ppo_config(DEMO, tmp_path, 5, normalise_by="role").normalise_by == "role"
    closed = combine(DEMO, {}, ["optimiser.normalise_by=nothing"])
    assert ppo_config(closed, tmp_path, 5, normalise_by="role").normalise_by == "nothing"


def test_every_default_stands_once(tmp_path: Path) -> None:
    alone = TurnPPOConfig(output_dir=tmp_path, steps=5)
    assert ppo_config(RunSettings(), tmp_path, 5, normalise_by="nothing") == alone.model_copy(
        update={"normalise_by": "nothing"}
    )
    score = ScoreSettings()
    one, two = score_schedule(RunSettings()).stages
    assert one[0] == StageOne() and two[0] == StageTwo()
    assert (score.alpha, score.beta1, score.beta2) == (StageTwo().alpha, StageTwo().beta1, StageOne().beta2)


def test_what_the_trainer_cannot_do_is_told_as_errors_of_files_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TurnPPOConfig(output_dir=tmp_path, steps=0, problems_per_batch=4)  # type: ignore[call-arg]
    assert str(caught.value).splitlines() == [
        "TurnPPOConfig: 2 settings are wrong",
        "  steps: expected greater than 0, got 0",
        "  problems_per_batch: unknown; did you mean problems_per_step?",
    ]


BEFORE = """
task: {kind: countdown, numbers: 4, words: false}
policy: {model: embedded, template: auto, max_new_tokens: 40, lora: null}
graph: {revisions: 1, critique: instruction}
score: {stage_one_steps: 120, stage_two_steps: 40, alpha: 1.0, beta1: 0.05, beta2: 0.1, beta_first: 0.1}
optimiser:
  learning_rate: 0.0005
  learning_rate_decay: true
  problems_per_step: 32
  episodes_per_problem: 8
  ppo_epochs: 2
  minibatches: 2
  clip: 0.2
  baseline: leave_one_out_given_previous
  kl_over: token
  entropy: 0.0
  max_grad_norm: 1.0
  temperature: 1.0
evaluation: {problems: 2000, every: 0, seed: 0}
seed: 0
save_every: 20
"""


def test_the_settings_of_a_run_made_before_there_were_these_are_read_for_resuming_it(tmp_path: Path) -> None:
    """`config.yaml` as the first version wrote it, its supervised arms left out."""
    (tmp_path / "config.yaml").write_text(BEFORE)
    then = {"optimiser": {"adam_beta2": 0.999}, "score": {"stage_one_steps": 120, "stage_two_steps": 40}}
    changed = {"policy": {"lora": None}} | then
    assert read_settings(tmp_path / "config.yaml") == combine(DEMO, changed, [])


@pytest.mark.parametrize("fewest", [2, 3])
def test_a_range_of_revisions_that_is_none_is_told(fewest: int) -> None:
    assert "must be below revisions 2" in fault_of({"graph": {"revisions": 2, "fewest_revisions": fewest}})


def test_evaluation_plays_as_many_revisions_as_it_is_told_and_draws_none() -> None:
    drawn = combine(RunSettings(), {"graph": {"revisions": 8, "fewest_revisions": 1}}, (), source="run.yaml")
    assert (drawn.for_evaluation.graph.revisions, drawn.for_evaluation.graph.fewest_revisions) == (8, None)
    longer = combine(drawn, {"evaluation": {"revisions": 32}}, (), source="run.yaml")
    assert (longer.for_evaluation.graph.revisions, longer.graph.revisions) == (32, 8)


def test_the_demos_adam_follows_the_gradients_of_its_second_stage() -> None:
    """Stage II's gradients are about 2.3 times Stage I's, whose memory makes Adam's steps too large: at a
    beta2 of 0.999 they are 1.8 times as large five training steps after the switch, by which the KL doubled within a
    step in some runs and one never came back."""
    updates = DEMO.optimiser.minibatches * DEMO.optimiser.ppo_epochs
    weight = torch.nn.Parameter(torch.zeros(1))
    adam = torch.optim.AdamW([weight], lr=1.0, betas=(0.0, DEMO.optimiser.adam_beta2), weight_decay=0.0)
    steps = []
    for gradient in [1.0] * (DEMO.score.stage_one_steps * updates) + [2.3] * (5 * updates):
        before = weight.item()
        weight.grad = torch.full((1,), gradient)
        adam.step()
        steps.append(before - weight.item())
    assert steps[0] == pytest.approx(1.0)
    assert 1.0 < steps[-1] < 1.2
