"""Where a model runs and in what precision: its device, the dtype that it computes in, its implementation of attention.

"auto" is the accelerator where there is one, with bfloat16 and TF32 where it has them; else the CPU, with the weights
as they were saved. Everything that opens a model chooses by these functions.
"""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from selfcorrect.errors import ConfigurationError

DtypeName = Literal["auto", "float32", "bfloat16", "float16"]
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """The device called `name`: "auto", "cpu", "cuda", "cuda:1", "mps", ...

    Of several processes, each takes the accelerator of its own number. Where the device is an NVIDIA GPU, products of
    float32 matrices are computed in TF32 from now on.

    Raises:
        ConfigurationError: there is no such device, here or at all.
    """
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto":
        device = torch.device("cpu") if accelerator is None else torch.device(accelerator.type, _own_number())
    else:
        device = _named(name)
        _refuse_absent(device, accelerator)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    return device


def _own_number() -> int:
    """The number of this process's accelerator (torchrun and accelerate say so in the environment)."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def _named(name: str | torch.device) -> torch.device:
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ConfigurationError(
            f"{str(name)!r} is no device; use auto, cpu, cuda, cuda:1, mps, ... as torch calls them"
        ) from error


def _refuse_absent(device: torch.device, accelerator: torch.device | None) -> None:
    if device.type == "cpu":
        return
    if accelerator is None or accelerator.type != device.type:
        found = "no accelerator that this torch can use" if accelerator is None else f"the accelerator {accelerator}"
        raise ConfigurationError(f"the device '{device}' is not there: this machine has {found}; use auto or cpu")
    count = torch.accelerator.device_count()
    if (device.index or 0) >= count:
        raise ConfigurationError(f"the device '{device}' is not there: there are {count} of its kind, counted from 0")


def choose_dtype(name: str, device: torch.device) -> torch.dtype | None:
    """What a model on `device` computes in. "auto" is bfloat16 on an accelerator that has it, float32 on one that has
    not, and None, the dtype that the weights were saved in, on the CPU.

    Raises:
        ConfigurationError: there is no such dtype, or the device lacks it.
    """
    if name == "auto":
        if device.type == "cpu":
            return None
        return torch.bfloat16 if _has_bfloat16(device) else torch.float32
    dtype = _DTYPES.get(name)
    if dtype is None:
        raise ConfigurationError(f"{name!r} is no dtype to compute in; use auto, {', '.join(_DTYPES)}")
    lacks = (dtype is torch.bfloat16 and not _has_bfloat16(device)) or (dtype is torch.float16 and device.type == "cpu")
    if lacks:
        raise ConfigurationError(f"the device '{device}' does not compute in {name}; use auto or float32")
    return dtype


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return True


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
