"""The weights of a verifier: a whole model, or an adapter on a base that lies where it lay in training."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from selfcorrect.devices import choose_device, choose_dtype
from selfcorrect.errors import CheckerError
from selfcorrect.rewards.verifiers.folder import CARD_FILE

_ADAPTER = "adapter_config.json"


def open_weights(opener: Any, folder: Path, device: str = "auto", dtype: str = "auto") -> Any:
    """The model in `folder`, ready to read on `device`.

    Whole models are float32, as they were trained. The base of an adapter is what `base_dtype` says, as in training.

    Args:
        opener: the class of transformers that opens the whole model.
        folder: of the model, or of the adapter, whose configuration names its base.
        device: as `choose_device` takes it.
        dtype: of an adapter's base, as `base_dtype` takes it.

    Raises:
        CheckerError: the folder, or the base of its adapter, cannot be loaded.
        ConfigurationError: the device is not there.
    """
    place = choose_device(device)
    if (folder / _ADAPTER).is_file():
        return _open_adapter(opener, folder, base_dtype(dtype, place)).to(place)
    with _told(f"the verifier's weights in {folder} cannot be loaded", "train it again"):
        return opener.from_pretrained(folder, dtype=torch.float32).eval().to(place)


def open_base(opener: Any, base: str, folder: Path, device: str = "auto", dtype: str = "auto") -> Any:
    """The model that the verifier in `folder` reads with as it is, named on its card.

    Raises:
        CheckerError: it cannot be loaded.
        ConfigurationError: the device is not there.
    """
    place = choose_device(device)
    with _told(
        f"the verifier in {folder} is a head on {base!r}, which cannot be loaded",
        f"put that model there, or name its place as base in {folder / CARD_FILE}",
    ):
        return opener.from_pretrained(base, dtype=base_dtype(dtype, place)).eval().to(place)


def _open_adapter(opener: Any, folder: Path, dtype: torch.dtype) -> Any:
    from peft import PeftConfig, PeftModel

    with _told(f"the verifier's adapter in {folder} cannot be loaded", "train it again"):
        base = PeftConfig.from_pretrained(folder).base_model_name_or_path
    if not base:
        raise CheckerError(
            f"{folder / _ADAPTER} does not name the model that the verifier's adapter goes on: set "
            "base_model_name_or_path in it"
        )
    with _told(
        f"the verifier in {folder.parent} is an adapter on {base!r}, which cannot be loaded",
        f"put that model there, or name its place as base_model_name_or_path in {folder / _ADAPTER}",
    ):
        whole = opener.from_pretrained(base, dtype=dtype)
    with _told(f"the verifier's adapter in {folder} does not fit {base!r}", "name the base it was trained on"):
        return PeftModel.from_pretrained(whole, folder).eval()


@contextmanager
def _told(what: str, advice: str) -> Iterator[None]:
    """Say what a failed loading of weights means.

    Raises:
        CheckerError: it failed.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise CheckerError(f"{what} ({error}): {advice}") from error


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
