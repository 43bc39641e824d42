"""Weights that learn: float32 masters under bfloat16 autocast, or bfloat16 itself with stochastic rounding; and where.

A bfloat16 number has 8 significant bits: its neighbours lie 2^-8 of it apart. Adam moves a weight by about the learning
rate, and at 5e-6 that is less than half of this distance for all but the smallest weights: rounded to the nearest, such
steps vanish (measured: 3 % of the weights moved in 20 steps, against 99.9 % in float32).
"""

import math
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from selfcorrect.agents.policies.adapters import LOW, dtype_of, stochastically_rounded
from selfcorrect.errors import ConfigurationError


def prepare_weights(policy: Any, *, adapter: bool = False, pure_bf16: bool = False) -> bool:
    """Make the weights of `policy`'s model ones that learn, in place; whether it then computes in bfloat16.

    - All weights are trained: they become float32; a model that was in bfloat16 on an accelerator goes on computing in
      it, under autocast.
    - Only an adapter is (`adapter`): the base stays as it is, PEFT makes the adapter float32, and a bfloat16 base
      computes in bfloat16.
    - `pure_bf16`: they become bfloat16, for `StochasticAdamW`.

    Raises:
        ConfigurationError: the model computes in float16, which needs its loss scaled; or `pure_bf16` with an adapter.
    """
    model = policy.model
    dtype, place = dtype_of(model), next(model.parameters()).device
    if torch.float16 in (dtype, policy.compute_dtype):
        raise ConfigurationError(
            "float16 is for using a model: training in it would need its loss scaled; set policy.dtype to bfloat16 or "
            "float32"
        )
    if adapter:
        if pure_bf16:
            raise ConfigurationError(
                "optimiser.pure_bf16 is for training all weights: an adapter is small, and kept in float32"
            )
        if dtype is torch.bfloat16:
            policy.compute_dtype = torch.bfloat16
    elif pure_bf16:
        model.to(torch.bfloat16)
        policy.compute_dtype = torch.bfloat16
    elif dtype in LOW:
        model.float()
        policy.compute_dtype = dtype if place.type != "cpu" else policy.compute_dtype
    return policy.compute_dtype is torch.bfloat16


def placed(arguments: Any, device: torch.device) -> Any:
    """`arguments` of a trainer of transformers, which then works on `device` and no other.

    By themselves they take the first accelerator, whichever is named, and in a process that sees several they spread
    the model over all of them (`nn.DataParallel`), which TRL refuses.

    Raises:
        ConfigurationError: several processes train, each on the accelerator of its number, and `device` is another.
    """
    if device.type == "cpu":
        return arguments
    if arguments.parallel_mode.value == "distributed":
        if device.index != arguments.device.index:
            raise ConfigurationError(
                f"policy.device {device} names one accelerator, and every process trains on its own, this one on "
                f"{arguments.device}: say auto, or {device.type} without a number"
            )
        return arguments
    arguments._n_gpu = 1
    arguments.__dict__["_setup_devices"] = device  # the cached property behind `arguments.device`
    arguments.distributed_state.device = device  # what accelerate asks
    if device.index is not None and torch.accelerator.is_available():
        torch.accelerator.set_device_index(device.index)
    return arguments


def load_stored_otherwise(folder: Path, held: Any) -> None:
    """Load the weights in `folder` once more if they have names that the model `held` does not: mixtures of experts,
    which are stored expert by expert and held together, come out of transformers' loading of a checkpoint with the
    weights that they had before, and a warning."""
    if hasattr(held, "peft_config"):
        return
    stored: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            stored.update(file.keys())
    if stored - set(held.state_dict()):
        held.load_state_dict(type(held).from_pretrained(folder, dtype=held.dtype).state_dict())


class StochasticAdamW(torch.optim.Optimizer):
    """AdamW on bfloat16 weights whose steps are rounded up or down by chance, so that on average none is lost.

    A step that is a tenth of the way to the next bfloat16 number gets there in one of ten updates: the expectation of
    the rounded weight is the unrounded one (stochastic rounding; Zamirai et al. 2020, "Revisiting BFloat16 Training",
    arXiv 2010.06192, section 3). The moments are float32, so the memory is 10 bytes a weight instead of 12, and no
    gradient is float32 (2 bytes instead of 4).

    Args:
        parameters: what is trained; weights of other dtypes are updated as AdamW does.
        lr: learning rate.
        betas, eps, weight_decay: as of `torch.optim.AdamW`.
        seed: of the rounding.
    """

    def __init__(
        self,
        parameters: Any,
        lr: float,
        *,
        betas: tuple[float, float],
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self._seed = seed

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of every parameter with a gradient."""
        for group in self.param_groups:
            for number, parameter in enumerate(group["params"]):
                if parameter.grad is not None:
                    updated = self._updated(parameter, group)
                    parameter.copy_(self._rounded(updated, parameter.dtype, number, self.state[parameter]["step"]))
        return None

    def _updated(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """The parameter after AdamW's step, in float32."""
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(parameter, dtype=torch.float32)
            state["exp_avg_sq"] = torch.zeros_like(parameter, dtype=torch.float32)
        state["step"] += 1
        assert parameter.grad is not None
        gradient, (beta1, beta2), step = parameter.grad.float(), group["betas"], state["step"]
        state["exp_avg"].lerp_(gradient, 1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        scale = state["exp_avg_sq"].sqrt().div_(math.sqrt(1 - beta2**step)).add_(group["eps"])
        moved: Tensor = parameter.float() * (1 - group["lr"] * group["weight_decay"])
        moved.addcdiv_(state["exp_avg"], scale, value=-group["lr"] / (1 - beta1**step))
        return moved

    def _rounded(self, values: Tensor, dtype: torch.dtype, number: int, step: int) -> Tensor:
        if dtype is not torch.bfloat16:
            return values.to(dtype)
        dice = torch.Generator(device=values.device).manual_seed(hash((self._seed, number, step)) % 2**63)
        return stochastically_rounded(values, dice)
