"""Weights that lie in parts in several processes (DeepSpeed ZeRO-3, FSDP2): whole again while the policy plays, and
where they are saved.

Episodes of different processes differ in length, so that no process can wait for the others at every token. The weights
are therefore gathered once for all episodes of a step, and given back before learning; meanwhile no process needs
another. It takes the room of the weights, in the dtype that they are computed in, on every accelerator. TRL gathers
those of ZeRO-3 so; those of FSDP2 it would gather layer by layer at every token, in step.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from trl.distributed import DistributedBackend
from trl.models.utils import unwrap_model_for_generation

from selfcorrect.agents.policies.adapters import merged
from selfcorrect.errors import ConfigurationError
from selfcorrect.files import told
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.processes import by_first, refuse_apart

# TRL 1.16 asks transformers 5.23 by an old name, of which whoever trains can change nothing.
warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)


def is_sharded(accelerator: Any) -> bool:
    """Whether no process has all weights."""
    backend = DistributedBackend(accelerator)
    return bool(backend.is_zero3 or backend.is_fsdp)


def refuse_with_shards(accelerator: Any, config: TurnPPOConfig, policy: Any) -> None:
    """Raise a ConfigurationError if the launcher's way to divide the weights does not go with the settings. What
    `policy.decoding` "auto" chose is chosen anew."""
    refuse_apart(accelerator)
    backend = DistributedBackend(accelerator)
    if backend.fsdp_version == 1:
        raise ConfigurationError(
            "FSDP of version 1 gathers no weights for playing: set fsdp_version to 2, as configs/fsdp2.yaml does"
        )
    if config.pure_bf16 and (is_sharded(accelerator) or backend.zero_stage):
        raise ConfigurationError(
            "optimiser.pure_bf16 has an optimiser of its own, which DeepSpeed and FSDP cannot divide: leave it out"
        )
    if is_sharded(accelerator) and policy.engine != "transformers":
        raise ConfigurationError(
            f"policy.engine {policy.engine} is given the weights by a process that has them all, and with ZeRO-3 and "
            "FSDP2 none has: use configs/ddp.yaml or configs/zero2.yaml, or policy.engine transformers"
        )
    if is_sharded(accelerator) and policy.captures and policy.decoding == "auto":
        policy.decode_in_batches()
    if is_sharded(accelerator) and policy.captures:
        raise ConfigurationError(
            "policy.decoding static captures where the weights lie, and gathered weights lie elsewhere at every step: "
            "use dynamic with ZeRO-3 and FSDP2"
        )


@contextmanager
def whole_model(model: Any, accelerator: Any) -> Iterator[Any]:
    """`model`, as accelerate prepared it, with all its weights in every process, for playing and scoring without the
    others. What is changed in it is lost afterwards."""
    with unwrap_model_for_generation(model, accelerator) as plain, _unsharded(plain, accelerator):
        yield plain


@contextmanager
def _unsharded(model: nn.Module, accelerator: Any) -> Iterator[None]:
    """FSDP2's modules keep their gathered weights until the block ends; nothing happens to other models."""
    parts = [part for part in model.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(bool(accelerator.state.fsdp_plugin.reshard_after_forward), recurse=False)


class WholeNorms:
    """A trainer whose gradient's norm is that of all processes' parts. FSDP2's is a DTensor, and torch 2.9 takes as its
    number the part of this process."""

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[misc]
        return norm.full_tensor() if isinstance(norm, DTensor) else norm


def save_whole(trainer: Any, tokenizer: Any, folder: Path) -> Any:
    """Write what `trainer` made as a plain model with its tokenizer to `folder`, and return it: an adapter is merged
    into its base, and is kept by itself in the folder `adapter` beside that. The first process writes, and the others
    wait.

    Of divided models the weights are gathered in the first process's memory, as they are trained (ZeRO-3: as they are
    computed with), and what is returned is as it was.
    """
    model, seed = trainer.accelerator.unwrap_model(trainer.model), trainer.args.seed
    if is_sharded(trainer.accelerator):
        weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        by_first(lambda: _write(_in_one_piece(model, weights), tokenizer, folder, seed))
        return model
    if not hasattr(model, "merge_and_unload"):
        by_first(lambda: _write(model, tokenizer, folder, seed))
        return model
    by_first(lambda: _write_adapter(model, tokenizer, folder))
    model = merged(model, seed=seed)
    by_first(lambda: _write(model, tokenizer, folder, seed))
    return model


def _in_one_piece(model: Any, weights: dict[str, Any]) -> Any:
    """A model like `model`, with its `weights`, that lies whole on the CPU."""
    adapted = hasattr(model, "peft_config")
    base = model.get_base_model() if adapted else model
    # by its constructor, as transformers' own ways would divide it again where ZeRO-3 is on
    whole = type(base)(base.config).to(next(iter(weights.values())).dtype)
    if adapted:
        from peft import get_peft_model

        whole = get_peft_model(whole, model.active_peft_config)
    whole.load_state_dict(weights, strict=False)  # tied weights stand there once, and stay tied
    return whole


def _write_adapter(model: Any, tokenizer: Any, folder: Path) -> None:
    with told(folder):
        model.save_pretrained(folder.parent / "adapter")
        tokenizer.save_pretrained(folder.parent / "adapter")  # the base's does not hold the run's words and loop


def _write(model: Any, tokenizer: Any, folder: Path, seed: int) -> None:
    if hasattr(model, "merge_and_unload"):
        _write_adapter(model, tokenizer, folder)
        model = merged(model, seed=seed)
    with told(folder):
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
