"""The fixed reference model of the KL terms."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trl.models.utils import prepare_deepspeed, prepare_fsdp
from trl.trainer.utils import add_fused_lm_head

from selfcorrect.errors import PolicyError
from selfcorrect.training.ppo.config import TurnPPOConfig


@dataclass(frozen=True, slots=True)
class ReferenceModel:
    """A frozen model that is chosen explicitly, never looked up by the name in a config.

    Looked up by name, a policy that was loaded from its Stage I checkpoint would be anchored to Stage I in Stage II,
    and one built in memory to nothing at all.
    """

    model: Any

    @classmethod
    def of(cls, policy_model: Any, reference: Any, config: TurnPPOConfig) -> "ReferenceModel":
        """`reference` as a frozen model of the policy's dtype.

        Args:
            policy_model: copied as it is now when `reference` is None.
            reference: None, a folder, a Hub id, or a model.
            config: gives the temperature at which log-probabilities are taken.

        Raises:
            PolicyError: the folder does not exist or holds no model. The base model is never put in its place.
        """
        if reference is None:
            model = copy.deepcopy(policy_model)
        elif isinstance(reference, str | Path):
            model = _load(reference, policy_model)
        else:
            model = reference
        model.eval().requires_grad_(False)
        add_fused_lm_head(model, temperature=config.temperature)
        return cls(model)

    def prepare(self, trainer: Any) -> Any:
        """The model as the trainer's engine (DeepSpeed, FSDP or plain accelerate) wants it for scoring."""
        if trainer.is_deepspeed_enabled:
            return prepare_deepspeed(self.model, trainer.accelerator)
        if trainer.is_fsdp_enabled:
            return prepare_fsdp(self.model, trainer.accelerator)
        return trainer.accelerator.prepare_model(self.model, evaluation_mode=True)


def _load(reference: str | Path, policy_model: Any) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(str(reference), dtype=policy_model.dtype)
    except (OSError, ValueError) as error:
        raise PolicyError(f"the reference model '{reference}' cannot be loaded: {error}") from error
