"""The weights of a verifier: a whole model, or an adapter on a base that lies where it lay in training."""

from pathlib import Path
from typing import Any

import torch

from selfcorrect.devices import choose_device, choose_dtype
from selfcorrect.errors import CheckerError

_ADAPTER = "adapter_config.json"


def open_weights(opener: Any, folder: Path, *, device: str = "auto") -> Any:
    """The model in `folder`, ready to read on `device`.

    Whole models are float32, as they were trained. The base of an adapter is what `base_dtype` says, as in training.

    Args:
        opener: the class of transformers that opens the whole model.
        folder: of the model, or of the adapter, whose configuration names its base.
        device: as `choose_device` takes it.

    Raises:
        CheckerError: the folder, or the base of its adapter, cannot be loaded.
        ConfigurationError: the device is not there.
    """
    place = choose_device(device)
    try:
        if not (folder / _ADAPTER).is_file():
            return opener.from_pretrained(folder, dtype=torch.float32).eval().to(place)
        return _open_adapter(opener, folder, place)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise CheckerError(f"cannot load the verifier's weights from {folder}: {error}") from error


def _open_adapter(opener: Any, folder: Path, place: torch.device) -> Any:
    from peft import PeftConfig, PeftModel

    named = PeftConfig.from_pretrained(folder).base_model_name_or_path
    if not named:
        raise CheckerError(
            f"{folder / _ADAPTER} does not name the model that the verifier's adapter goes on: set "
            "base_model_name_or_path in it"
        )
    try:
        base = opener.from_pretrained(named, dtype=base_dtype("auto", place))
    except (OSError, ValueError) as error:
        raise CheckerError(
            f"the verifier in {folder.parent} is an adapter on {named!r}, which cannot be loaded ({error}): put that "
            f"model there, or name its place as base_model_name_or_path in {folder / _ADAPTER}"
        ) from error
    return PeftModel.from_pretrained(base, folder).eval().to(place)


def base_dtype(name: str, device: torch.device) -> torch.dtype:
    """What the frozen base of an adapter is kept and computed in: as `choose_dtype` says, and float32 on a CPU."""
    return choose_dtype(name, device) or torch.float32


def save_weights(model: Any, folder: Path) -> None:
    """Write the model to `folder`; of an adapter, the adapter alone."""
    # the base's embeddings are never trained, and looking for them may ask the Hub
    options = {"save_embedding_layers": False} if is_adapted(model) else {}
    model.save_pretrained(folder, **options)


def is_adapted(model: Any) -> bool:
    """Whether `model` is a base with an adapter on it."""
    from peft import PeftModel

    return isinstance(model, PeftModel)
