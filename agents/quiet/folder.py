"""The folder of a model that thinks: a saved transformers model, `quiet.json` and `quiet.safetensors` beside it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from selfcorrect.agents.quiet.thinking import Thinking
from selfcorrect.errors import PolicyError

SETTINGS, WEIGHTS = "quiet.json", "quiet.safetensors"


def is_quiet_folder(folder: Path) -> bool:
    """Whether `folder` holds a model that thinks."""
    return (Path(folder) / SETTINGS).is_file()


def open_model(path_or_id: Path | str) -> tuple[Any, Any]:
    """A causal language model in float32 and its tokenizer. Raises a PolicyError if they cannot be loaded."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if isinstance(path_or_id, Path) and not (path_or_id / "config.json").is_file():
        raise PolicyError(f"{path_or_id} holds no saved transformers model: there is no config.json in it")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path_or_id)
        model = AutoModelForCausalLM.from_pretrained(path_or_id, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise PolicyError(f"cannot load model and tokenizer from {str(path_or_id)!r}: {error}") from error
    return model.eval(), tokenizer


def write_extras(folder: Path, thinking: Thinking, weights: Mapping[str, Tensor]) -> None:
    """Write how the model thinks, and the weights that thinking needs."""
    from safetensors.torch import save_file

    (folder / SETTINGS).write_text(json.dumps(asdict(thinking), indent=2) + "\n", encoding="utf-8")
    save_file({name: weight.detach().cpu().contiguous() for name, weight in weights.items()}, folder / WEIGHTS)


def read_extras(folder: Path) -> tuple[Thinking, dict[str, Tensor]]:
    """What `write_extras` wrote. Raises a PolicyError if it is not there or cannot be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not is_quiet_folder(folder):
        raise PolicyError(
            f"{folder} holds no model that thinks ({SETTINGS} is missing); make one with `selfcorrect train "
            "quiet-star`, or open the folder as a plain model with TransformersPolicy"
        )
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        options: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
        }
        return Thinking(**options), load_file(folder / WEIGHTS)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise PolicyError(f"{folder} cannot be read as a model that thinks: {error}") from error
