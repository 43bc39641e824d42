"""The public names of a package, loaded when they are first used, and the old names that still work for a while.

A package's `__init__.pyi` is the only list of its public names: type checkers read it, and so does `public_names`.
`MOVED` is the only list of names that moved. Both grow by one line a name; CONTRIBUTING.md tells what they promise.
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import lazy_loader

if TYPE_CHECKING:
    from importlib.abc import Loader  # its import costs more than all of `import selfcorrect`


class Moved(NamedTuple):
    """Where a name that moved is now, and the version that forgets the old one."""

    new: str
    gone_in: str


MOVED: dict[str, Moved] = {
    "selfcorrect.AskPerson": Moved("selfcorrect.AskHuman", "0.2"),
    "selfcorrect.PPOConfig": Moved("selfcorrect.TurnPPOConfig", "0.2"),
    "selfcorrect.agents.best_of_k.best_of_k": Moved("selfcorrect.agents.best_of_k", "0.2"),
    "selfcorrect.agents.best_of_k.pass_at_k": Moved("selfcorrect.agents.pass_at_k", "0.2"),
    "selfcorrect.agents.best_of_k.vote": Moved("selfcorrect.agents.vote", "0.2"),
    "selfcorrect.agents.best_of_k.vote_accuracy": Moved("selfcorrect.agents.vote_accuracy", "0.2"),
    "selfcorrect.agents.calibration.brier": Moved("selfcorrect.agents.brier", "0.2"),
    "selfcorrect.agents.calibration.calibration_error": Moved("selfcorrect.agents.calibration_error", "0.2"),
    "selfcorrect.agents.calibration.reliability": Moved("selfcorrect.agents.reliability", "0.2"),
    "selfcorrect.agents.calibration.risk_coverage": Moved("selfcorrect.agents.risk_coverage", "0.2"),
    "selfcorrect.agents.calibration.threshold_for_risk": Moved("selfcorrect.agents.threshold_for_risk", "0.2"),
    "selfcorrect.agents.chat_model.ChatSelfCorrect": Moved("selfcorrect.agents.ChatSelfCorrect", "0.2"),
    "selfcorrect.agents.chat_model_policy.ChatModelPolicy": Moved("selfcorrect.agents.ChatModelPolicy", "0.2"),
    "selfcorrect.agents.embedded_policy.embedded_folder": Moved("selfcorrect.agents.embedded_folder", "0.2"),
    "selfcorrect.agents.middleware.SelfCorrectMiddleware": Moved("selfcorrect.agents.SelfCorrectMiddleware", "0.2"),
    "selfcorrect.agents.sample_again.build_sample_again": Moved("selfcorrect.agents.build_sample_again", "0.2"),
    "selfcorrect.training.advantages.leave_one_out": Moved("selfcorrect.training.leave_one_out", "0.2"),
    "selfcorrect.training.arms.multi_turn.multi_turn": Moved("selfcorrect.training.multi_turn", "0.2"),
    "selfcorrect.training.arms.pag.pag": Moved("selfcorrect.training.pag", "0.2"),
    "selfcorrect.training.arms.sample_again.sample_again": Moved("selfcorrect.training.sample_again", "0.2"),
    "selfcorrect.training.arms.score.score": Moved("selfcorrect.training.score", "0.2"),
    "selfcorrect.training.arms.score.score_no_shaping": Moved("selfcorrect.training.score_no_shaping", "0.2"),
    "selfcorrect.training.arms.score.score_no_stage1": Moved("selfcorrect.training.score_no_stage1", "0.2"),
    "selfcorrect.training.arms.self_refine.self_refine": Moved("selfcorrect.training.self_refine", "0.2"),
    "selfcorrect.training.arms.single_turn.single_turn": Moved("selfcorrect.training.single_turn", "0.2"),
    "selfcorrect.training.config.PPOConfig": Moved("selfcorrect.training.TurnPPOConfig", "0.2"),
    "selfcorrect.training.foreign.train": Moved("selfcorrect.training.train", "0.2"),
    "selfcorrect.training.ledger.rows_of": Moved("selfcorrect.training.rows_of", "0.2"),
    "selfcorrect.training.trainer.PPOTrainer": Moved("selfcorrect.training.TurnPPOTrainer", "0.2"),
}
for _name in (
    "AnswerKey",
    "Beam",
    "BestOfN",
    "Candidate",
    "ComputeOptimal",
    "Majority",
    "Mixed",
    "SearchContext",
    "SearchModels",
    "SearchPlan",
    "SearchResult",
    "SearchState",
    "Strategy",
    "WeightedBestOfN",
    "answer_key",
    "search_all",
    "search_sync",
    "strategy_named",
    "stream_candidates",
):
    MOVED[f"selfcorrect.agents.search.{_name}"] = Moved(f"selfcorrect.agents.{_name}", "0.2")

Names = tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]


def public_names(package: str, file: str) -> Names:
    """`__getattr__`, `__dir__` and `__all__` of a package whose `__init__.pyi` lists its public names.

    Args:
        package: its `__name__`.
        file: its `__file__`; the list lies beside it.
    """
    load, listed, names = lazy_loader.attach_stub(package, file)

    def get(name: str) -> Any:
        return _moved(package, name) if f"{package}.{name}" in MOVED else load(name)

    return get, listed, names


def moved_names(module: str) -> Callable[[str], Any]:
    """`__getattr__` of a module whose public names have all moved."""

    def get(name: str) -> Any:
        return _moved(module, name)

    return get


def _moved(module: str, name: str) -> Any:
    """The thing that used to be `module.name`.

    Raises:
        AttributeError: it never was there.
    """
    old = f"{module}.{name}"
    if old not in MOVED:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    new, gone_in = MOVED[old]
    home, new_name = new.rsplit(".", 1)
    warnings.warn(
        f"{old} has moved, and its old place goes in version {gone_in}: write `from {home} import {new_name}`",
        DeprecationWarning,
        stacklevel=3,  # the line that asked the module's `__getattr__`
    )
    return getattr(import_module(home), new_name)


class _MovedModules:
    """Finds modules that are no more, if names of theirs are in `MOVED`. It is asked after every other finder."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A module without a file."""
        if any(old.startswith(f"{fullname}.") for old in MOVED):
            return ModuleSpec(fullname, cast("Loader", self))
        return None

    def create_module(self, spec: ModuleSpec) -> None:
        """An ordinary module."""

    def exec_module(self, module: ModuleType) -> None:
        """Its names are looked up in `MOVED`, each with a warning."""
        module.__dict__["__getattr__"] = moved_names(module.__name__)


sys.meta_path.append(_MovedModules())
