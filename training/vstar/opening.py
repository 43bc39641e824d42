"""From settings to what V-STaR works with: wording, problems, seeds."""

from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.agents.transformers_policy import TransformersPolicy
from selfcorrect.errors import TrainingError
from selfcorrect.rewards.verifiers.encoding import Wording
from selfcorrect.tasks.problem import Problem, Task
from selfcorrect.training.opening import prompts_for
from selfcorrect.training.settings import RunSettings

_COUNTDOWN_REVIEW = "check : {last_step} right"
"""The policy's own verdict on a right answer, with the last step worked out once more."""


def wording_for(settings: RunSettings, policy: TransformersPolicy) -> Wording:
    """How the verifiers are shown problems and answers: as the policy is."""
    prompts, wanted = prompts_for(settings, policy), settings.policy.template
    chat = bool(getattr(policy.tokenizer, "chat_template", None)) and wanted != "plain"
    own_words = prompts == COUNTDOWN and not chat
    review = settings.vstar.review
    if review is None:
        review = _COUNTDOWN_REVIEW if own_words else ""
    separator = Wording().separator if settings.task.kind != "jsonl" else "\n"
    return Wording(attempt=prompts.attempt, template="chat" if chat else "plain", separator=separator, review=review)


def draw_problems(settings: RunSettings, task: Task) -> tuple[list[Problem], list[Problem]]:
    """The training problems, and those that are kept for calibration: none is in both.

    Raises:
        TaskError: the task has fewer problems.
        TrainingError: too few are left for calibration.
    """
    vstar = settings.vstar
    drawn = list(task.problems("train", vstar.problems + vstar.calibration_problems, seed=settings.seed))
    learnt, kept = drawn[: vstar.problems], drawn[vstar.problems :]
    if len(kept) < 5:
        raise TrainingError(
            f"only {len(kept)} problems are left for calibration: raise vstar.calibration_problems to 5 or more"
        )
    return learnt, kept
