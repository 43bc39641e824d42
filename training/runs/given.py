"""Objects in the place of names: a run whose task, policy, graph, prompts or objective was made in Python.

An arm takes them as arguments (`takes_objects`); they travel inside its settings, so that whatever opens a task, a
policy or a graph by the settings finds them. The run's config.yaml says "(given)" where it cannot describe one.
"""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack, cast

from pydantic import PrivateAttr

from selfcorrect.agents.graph import CorrectionGraph
from selfcorrect.agents.policies.rendering import PlainTemplate, TemplateName
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.prompts import Prompts, PromptSettings
from selfcorrect.errors import ConfigurationError
from selfcorrect.registry import shown_kind
from selfcorrect.tasks.problem import Task
from selfcorrect.tasks.registry import GivenTask
from selfcorrect.training.ppo.objectives import Objective
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.run_directory import RunResult
from selfcorrect.training.settings import GIVEN, GraphSettings, PolicySettings, RunSettings, ScoreSettings

if TYPE_CHECKING:
    from selfcorrect.training.arms import Arm, SettingsArm

GraphOf = Callable[[Any], CorrectionGraph]
"""Makes the graph of a policy."""


class Objects(TypedDict, total=False):
    """What an arm takes in the place of names.

    Keys:
        task: a task; its checker may be a function.
        policy: the policy to train. It is trained in place, except by arms that fine-tune the original again and again.
        graph: a function from a policy to its graph, or a compiled graph that holds `policy`.
        prompts: the words of the loop.
        objective: what the steps after Stage I pay, for SCoRe.
    """

    task: Task | None
    policy: TransformersPolicy | None
    graph: GraphOf | CorrectionGraph | None
    prompts: Prompts | None
    objective: Objective | None


class GivenPolicy(PolicySettings):
    """The settings of a policy that was made in Python."""

    _policy: TransformersPolicy | None = PrivateAttr(None)

    @classmethod
    def of(cls, policy: TransformersPolicy, settings: PolicySettings) -> Self:
        """`settings`, with `policy` in the place of the model."""
        if not isinstance(policy, TransformersPolicy):
            raise ConfigurationError(f"policy: expected a TransformersPolicy, got {shown_kind(policy)}")
        template: TemplateName = "plain" if isinstance(policy.template, PlainTemplate) else "chat"
        own = {"model": GIVEN, "template": template, "max_new_tokens": policy.max_new_tokens}
        given = cls(**{**dict(settings), **own})
        given._policy = policy
        return given

    def policy(self) -> TransformersPolicy | None:
        """The policy, unless another model has taken its place since."""
        return self._policy if self.model == GIVEN else None


class GivenGraph(GraphSettings):
    """The settings of a loop that was made in Python."""

    _graph: "GraphOf | CorrectionGraph | None" = PrivateAttr(None)
    _policy: TransformersPolicy | None = PrivateAttr(None)

    @classmethod
    def of(cls, graph: "GraphOf | CorrectionGraph", policy: TransformersPolicy | None) -> Self:
        """A function from a policy to its graph; or a graph, which holds `policy`."""
        given = cls(build=GIVEN)
        given._graph, given._policy = graph, policy
        return given

    def for_policy(self, policy: Any) -> CorrectionGraph:
        """The graph of `policy`.

        Raises:
            ConfigurationError: a compiled graph holds another one.
        """
        if not hasattr(self._graph, "ainvoke"):
            return cast(GraphOf, self._graph)(policy)
        if policy is not self._policy:
            raise ConfigurationError(
                "graph: a compiled graph plays the policy it was made with, and this arm trains another object: give "
                "policy=... too, or as graph a function from a policy to its graph (supervised arms need the function)"
            )
        return cast(CorrectionGraph, self._graph)


class GivenScore(ScoreSettings):
    """The settings of SCoRe with an objective that was made in Python."""

    _objective: Objective | None = PrivateAttr(None)

    @classmethod
    def of(cls, objective: Objective, settings: ScoreSettings) -> Self:
        """`settings`, with `objective` for the steps after Stage I."""
        given = cls(**{**dict(settings), "objective": GIVEN})
        given._objective = objective
        return given

    def given_objective(self) -> Objective | None:
        return self._objective


def with_objects(settings: RunSettings, given: Objects, *, saved_in: Path | None = None) -> RunSettings:
    """`settings` with objects in the place of names.

    Args:
        saved_in: arms that load their policy again and again find it there: a given one is saved to `saved_in`/policy.

    Raises:
        ConfigurationError: an object is none of its kind.
    """
    chosen: dict[str, Any] = {}
    policy = given.get("policy")
    if (task := given.get("task")) is not None:
        chosen["task"] = GivenTask.of(task)
    if policy is not None:
        chosen["policy"] = GivenPolicy.of(policy, settings.policy)
        if saved_in is not None:
            chosen["policy"] = _saved(policy, chosen["policy"], saved_in / "policy")
    if (graph := given.get("graph")) is not None:
        chosen["graph"] = GivenGraph.of(graph, policy)
    if (prompts := given.get("prompts")) is not None:
        chosen["prompts"] = PromptSettings.of(prompts)
    if (objective := given.get("objective")) is not None:
        chosen["score"] = GivenScore.of(objective, settings.score)
    return settings.model_copy(update=chosen)


def _saved(policy: TransformersPolicy, settings: GivenPolicy, folder: Path) -> PolicySettings:
    """`settings` of the policy as a folder; saved now unless an interrupted run has it already."""
    if not (folder / "config.json").exists():
        policy.model.save_pretrained(folder)
        policy.tokenizer.save_pretrained(folder)
    return PolicySettings(**{**dict(settings), "model": str(folder)})


def takes_objects(arm: "SettingsArm", *, reloads: bool = False, unused: Collection[str] = ()) -> "Arm":
    """`arm`, which then takes task, policy, graph, prompts and objective as arguments too; see `Objects`.

    Args:
        arm: trains by settings alone.
        reloads: whether it loads its policy again and again rather than train an object in place.
        unused: objects that have no effect on this arm; it refuses them.
    """

    def with_arguments(
        settings: RunSettings,
        *,
        out: Path,
        progress: ProgressSink | None = None,
        resume: bool = False,
        **given: Unpack[Objects],
    ) -> RunResult:
        _refuse_idle(given, unused, with_arguments.__name__)
        chosen = with_objects(settings, given, saved_in=Path(out) if reloads else None)
        return arm(chosen, out=out, progress=progress, resume=resume)

    with_arguments.__name__ = with_arguments.__qualname__ = getattr(arm, "__name__", "arm")
    with_arguments.__doc__, with_arguments.__module__ = arm.__doc__, arm.__module__
    return with_arguments


def _refuse_idle(given: Objects, unused: Collection[str], arm: str) -> None:
    """Raise a ConfigurationError if an object was given that has no effect on `arm`."""
    idle = [name for name in unused if given.get(name) is not None]
    if idle:
        raise ConfigurationError(f"{arm} does not use {' and '.join(idle)}: leave it away")
