"""Sample again: the second attempt is a fresh first one. Evaluation only."""

from pathlib import Path
from typing import Any

from selfcorrect.agents.graph import CorrectionGraph
from selfcorrect.agents.sample_again import build_sample_again
from selfcorrect.training.arms.untrained import evaluate_untrained
from selfcorrect.training.opening import prompts_for
from selfcorrect.training.progress import ProgressSink
from selfcorrect.training.run_directory import RunResult
from selfcorrect.training.settings import RunSettings


def sample_again(
    settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """The base policy answers twice, the second time without seeing its first answer; see `evaluate_untrained`.

    Greedily both answers are the same; it is at a temperature that this tells a correction from a mere second draw.
    """
    return evaluate_untrained("sample-again", sample_again_loop, settings, out=out, progress=progress, resume=resume)


def sample_again_loop(settings: RunSettings, policy: Any) -> CorrectionGraph:
    """Attempt, and attempt anew."""
    return build_sample_again(policy, prompts=prompts_for(settings, policy))
