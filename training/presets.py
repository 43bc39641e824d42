"""Ready-made settings."""

from collections.abc import Mapping
from types import MappingProxyType

from selfcorrect.training.settings import EvaluationSettings, OptimiserSettings, RunSettings, ScoreSettings

DEMO = RunSettings(
    score=ScoreSettings(stage_one_steps=150, stage_two_steps=60, alpha=2.0, beta1=0.01, beta2=0.3),
    optimiser=OptimiserSettings(learning_rate=2e-4, problems_per_step=32, episodes_per_problem=8),
    evaluation=EvaluationSettings(problems=2000),
)
"""The embedded policy on Countdown with four numbers: minutes on two CPU cores."""

FULL = RunSettings(
    score=ScoreSettings(stage_one_steps=600, stage_two_steps=400, alpha=2.0, beta1=0.01, beta2=0.3),
    optimiser=OptimiserSettings(learning_rate=2e-4, problems_per_step=32, episodes_per_problem=8),
    evaluation=EvaluationSettings(problems=2000, every=100),
    save_every=50,
)
"""As `DEMO`, for longer."""

PRESETS: Mapping[str, RunSettings] = MappingProxyType({"demo": DEMO, "full": FULL})
