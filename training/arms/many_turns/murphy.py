"""MURPHY: failed answers branch into revisions, whose rewards flow back to them (Ekbote et al. 2025, arXiv
2511.07833)."""

from pathlib import Path

from selfcorrect.errors import ConfigurationError
from selfcorrect.training.arms.many_turns.playing import ManyTurns, train_many_turns
from selfcorrect.training.credit.settings import Tree
from selfcorrect.training.ppo.objectives import MultiTurn
from selfcorrect.training.runs.given import takes_objects
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.run_directory import RunResult
from selfcorrect.training.settings import RunSettings


@takes_objects
def murphy(
    settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """MURPHY with the mean-reward strategy (MeRS), on the tree of credit `tree`.

        answer 1     r_1 + decay mean over its branches of (r_2 + decay r_3 + ...)
        answer t     r_t + decay r_{t+1} + ...

    First answers are shared by `looks.branches` episodes, and are compared with the other first answers of the problem;
    revisions with their siblings. An episode ends with its first right answer, so only failed ones are revised.

    Not the paper's: its prompts pass on what the tests found, here only "try again" is said, so that all policies can
    be trained; every later answer branches there, here the first one; and nothing is pruned. Evaluation asks for all
    revisions, so that no verdict reaches the policy. The KL weight is `score.beta1`. Raises what `train_many_turns`
    raises.
    """
    episodes, branches = settings.optimiser.episodes_per_problem, settings.looks.branches
    if episodes % branches or episodes < 2 * branches:
        raise ConfigurationError(
            f"looks.branches is {branches}: optimiser.episodes_per_problem must be a multiple of it, and at least "
            f"twice it, so that first answers can be compared; got {episodes}"
        )
    if settings.optimiser.baseline != "leave_one_out":
        settings = settings.model_copy(
            update={"optimiser": settings.optimiser.model_copy(update={"baseline": "leave_one_out"})}
        )
    credit = Tree(branches=branches, gamma=settings.looks.decay)
    how = ManyTurns("murphy", "try-again", evaluated="instruction", credit=credit)
    return train_many_turns(how, MultiTurn(settings.score.beta1), settings, out=out, progress=progress, resume=resume)
