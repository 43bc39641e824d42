"""Ready-made settings."""

from collections.abc import Mapping
from types import MappingProxyType

from selfcorrect.training.settings import (
    EvaluationSettings,
    OptimiserSettings,
    PolicySettings,
    RunSettings,
    ScoreSettings,
)

_POLICY = PolicySettings(max_new_tokens=40)
_OPTIMISER = OptimiserSettings(
    learning_rate=5e-4,
    learning_rate_decay=True,
    problems_per_step=32,
    episodes_per_problem=8,
    minibatches=2,
    ppo_epochs=2,
    baseline="leave_one_out_given_previous",
)

DEMO = RunSettings(
    policy=_POLICY,
    score=ScoreSettings(stage_one_steps=120, stage_two_steps=40, alpha=1.0, beta1=0.05, beta2=0.1, beta_first=0.1),
    optimiser=_OPTIMISER,
    evaluation=EvaluationSettings(problems=2000),
)
"""The embedded policy on Countdown with four numbers: minutes on two CPU cores."""

FULL = RunSettings(
    policy=_POLICY,
    score=ScoreSettings(stage_one_steps=300, stage_two_steps=100, alpha=1.0, beta1=0.05, beta2=0.1, beta_first=0.1),
    optimiser=_OPTIMISER,
    evaluation=EvaluationSettings(problems=2000, every=100),
    save_every=50,
)
"""As `DEMO`, for longer."""

PRESETS: Mapping[str, RunSettings] = MappingProxyType({"demo": DEMO, "full": FULL})
