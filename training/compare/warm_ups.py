"""Fine-tunings that come before all arms of a comparison, one after the other, each in a folder of its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from selfcorrect.settings import combine
from selfcorrect.training.arms.supervised.settings import Form
from selfcorrect.training.runs.run_directory import RunDirectory
from selfcorrect.training.settings import RunSettings

if TYPE_CHECKING:
    from selfcorrect.training.compare.comparison import ComparisonProgress

WARM_UP = "warm-up"
"""The folder of the first one, on gold solutions; of further ones it is the beginning of the name."""


def after_warm_ups(
    settings: RunSettings, forms: Sequence[Form], changes: Mapping[str, Sequence[str]], out: Path
) -> tuple[RunSettings, dict[str, RunSettings]]:
    """The settings of the arms, which begin with what the last warm-up leaves in `out`, and those of each warm-up by
    the name of its folder.

    Args:
        settings: of the comparison, with the model that the first warm-up begins with.
        forms: of `train sft`, in their order.
        changes: what single warm-ups change, by the names of their folders.
        out: the comparison's folder.

    Raises:
        ConfigurationError: a change is unknown or ill-typed.
    """
    warm_ups: dict[str, RunSettings] = {}
    for form in forms:
        name = WARM_UP if form == "attempt" else f"{WARM_UP}-{form}"
        source = f"the warm-up {name}"
        warm_ups[name] = combine(settings, {"sft": {"form": form}}, changes.get(name, []), source=source)
        policy = settings.policy.model_copy(update={"model": str(RunDirectory(out / name).model_path)})
        settings = settings.model_copy(update={"policy": policy})
    return settings, warm_ups


def warm_up(warm_ups: Mapping[str, RunSettings], out: Path, progress: "ComparisonProgress") -> None:
    """Fine-tune the policy that all arms begin with, as far as that is asked for and was not done."""
    from selfcorrect.training.arms.sft import sft

    for name, settings in warm_ups.items():
        run = RunDirectory(out / name)
        if run.read_final() is None:
            sink = progress.begin(name, settings.seed, 1, 1)
            sft(settings, out=run.path, progress=sink, resume=run.config_path.exists())
            progress.end()


def is_warm(warm_ups: Mapping[str, RunSettings], out: Path) -> bool:
    """Whether all of them are done."""
    return all(RunDirectory(out / name).read_final() is not None for name in warm_ups)
