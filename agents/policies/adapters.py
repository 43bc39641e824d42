"""Adapters (LoRA and other kinds that PEFT merges): their folders, and what merging them changes of their base."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selfcorrect.errors import PolicyError

LOW = (torch.bfloat16, torch.float16)
"""Dtypes in which an adapter's change may be lost."""


def is_adapter(folder: str | Path) -> bool:
    """Whether transformers takes `folder` for an adapter's, with a base elsewhere."""
    return (Path(folder) / "adapter_config.json").is_file()


def base_of_adapter(folder: str | Path) -> str:
    """The name that an adapter's folder gives its base.

    Raises:
        PolicyError: it gives none, or itself.
    """
    path = Path(folder) / "adapter_config.json"
    try:
        base = json.loads(path.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise PolicyError(f"{path} cannot be read: {error}") from error
    if not isinstance(base, str) or not base:
        raise PolicyError(f"{path} does not name the model that the adapter goes on: set base_model_name_or_path in it")
    if Path(base).resolve() == Path(folder).resolve():
        raise PolicyError(f"{path} names its own folder as the model that the adapter goes on: give the base's there")
    return base


def merged(model: Any, *, seed: int) -> Any:
    """The base of a PEFT `model` with its adapter in its weights, in place.

    What an adapter adds to a bfloat16 weight is often less than half of the distance to the next bfloat16 number:
    rounded to the nearest, the sum is the weight as it was. The sums are made in float32 and rounded by chance instead,
    which keeps them on average.
    """
    layers = [layer for layer in model.modules() if hasattr(layer, "get_delta_weight")]
    plain = all(type(layer).__name__ == "Linear" and not any(layer.use_dora.values()) for layer in layers)
    if dtype_of(model) is not torch.bfloat16 or not plain:
        return model.merge_and_unload()
    with torch.no_grad():
        for number, layer in enumerate(layers):
            weight = layer.get_base_layer().weight
            added = sum(layer.get_delta_weight(name).float() for name in layer.active_adapters)
            dice = torch.Generator(device=weight.device).manual_seed(hash((seed, number)) % 2**63)
            weight.copy_(stochastically_rounded(weight.float() + added, dice))
    return model.unload()


def dtype_of(model: Any) -> torch.dtype:
    """The narrowest floating dtype of the weights."""
    found = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    return next((dtype for dtype in LOW if dtype in found), torch.float32)


def stochastically_rounded(values: Tensor, dice: torch.Generator) -> Tensor:
    """`values` (float32, finite) in bfloat16: each becomes one of its two neighbours, the nearer the likelier.

    A bfloat16 is the upper half of a float32: noise that is uniform in the lower half carries into the upper one as
    often as the lower half is large.
    """
    bits = values.contiguous().view(torch.int32)
    noise = torch.randint(0, 1 << 16, bits.shape, generator=dice, device=values.device, dtype=torch.int32)
    return ((bits + noise) & -65536).view(torch.float32).to(torch.bfloat16)
