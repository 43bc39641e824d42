"""Where a model runs and in what precision: its device, and the dtype that it computes in.

"auto" is the accelerator where there is one, with bfloat16 and TF32 where it has them; else the CPU, with the weights
as they were saved. Everything that opens a model chooses by these functions.
"""

import os

import torch

from selfcorrect.errors import ConfigurationError

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
        if device.index is None and device.type not in ("cpu", "mps") and "LOCAL_RANK" in os.environ:
            device = torch.device(device.type, _own_number())
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
