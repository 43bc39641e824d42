"""Self-Refine: the policy writes a critique of its answer and then another answer, without any training."""

from pathlib import Path
from typing import Any

from selfcorrect.agents.graph import CorrectionGraph, build_graph
from selfcorrect.agents.stopping import FixedRevisions
from selfcorrect.training.arms.untrained import evaluate_untrained
from selfcorrect.training.opening import prompts_for
from selfcorrect.training.progress import ProgressSink
from selfcorrect.training.run_directory import RunResult
from selfcorrect.training.settings import RunSettings


def self_refine(
    settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """Self-Refine prompting (Madaan et al. 2023, arXiv 2303.17651) as a baseline: evaluation only; see `evaluate_untrained`."""
    return evaluate_untrained("self-refine", self_refine_loop, settings, out=out, progress=progress, resume=resume)


def self_refine_loop(settings: RunSettings, policy: Any) -> CorrectionGraph:
    """Answer, critique, revise; a revision follows whatever the critique says, and sees it."""
    return build_graph(
        policy,
        prompts=prompts_for(settings, policy),
        revisions=settings.graph.revisions,
        critique="self",
        stop=FixedRevisions(),
    )
