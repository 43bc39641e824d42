"""What training begins with: one whole model, which an adapter and its base are merged into."""

from pathlib import Path

from safetensors import SafetensorError

from selfcorrect.agents.policies.adapters import base_of_adapter, is_adapter, merged
from selfcorrect.agents.policies.model_cache import kept, place, save
from selfcorrect.agents.policies.pretrained import load_model_and_tokenizer, load_tokenizer, model_location
from selfcorrect.errors import PolicyError
from selfcorrect.undivided import undivided

_LAYOUT = 1
"""Of the merged folders; to be raised when they are written differently, so that old ones are left alone."""
_SEED = 0
"""Of the rounding, so that a model that is merged again is the same."""


def whole_location(name: str) -> str:
    """As `model_location`, of a model to begin training with: an adapter's folder becomes that of the model which the
    adapter makes of its base, since what is trained, and what its trainer compares it with, is one model.

    Raises:
        PolicyError: as `model_location`, or the adapter cannot be merged; see `merged_folder`.
    """
    location = model_location(name)
    return str(merged_folder(location)) if is_adapter(location) else location


def merged_folder(adapter: str | Path) -> Path:
    """The model that an adapter makes of its base, as a folder of its own, written now if it is not there yet.

    Weights keep the base's dtype; see `merged`. The folder is made anew when the adapter or its base has changed.

    Raises:
        PolicyError: the base cannot be found or loaded, the adapter is not of it or of a kind that cannot be merged, or
            the cache cannot be written.
    """
    source = Path(adapter).expanduser().resolve()
    base = whole_location(base_of_adapter(source))
    identity = (_LAYOUT, str(source), _state(source), base, _state(Path(base)))
    return kept(place("merged", source.name, identity), lambda folder: _write(source, base, folder))


def _state(folder: Path) -> list[tuple[str, int, int]]:
    """By which the model in `folder` is known again, its card left out; [] for one of the Hub."""
    files = sorted(path for path in folder.glob("*") if path.is_file() and path.suffix != ".md")
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def _write(source: Path, base: str, folder: Path) -> None:
    from peft import PeftModel

    model, _ = load_model_and_tokenizer(base, "auto")
    tokenizer = load_tokenizer(source)
    try:
        with undivided():
            whole = merged(PeftModel.from_pretrained(model, str(source)), seed=_SEED)
    except (OSError, ValueError, RuntimeError, AttributeError, KeyError, SafetensorError) as error:
        raise PolicyError(
            f"the adapter in {str(source)!r} cannot be merged into {base!r}, which training from it needs: {error}"
        ) from error
    save(whole, tokenizer, folder)
