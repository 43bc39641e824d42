"""The policy that a command names, and how to talk to it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from selfcorrect.cli.console import loading
from selfcorrect.errors import ConfigurationError

if TYPE_CHECKING:
    from selfcorrect.agents.graph import CritiqueMode
    from selfcorrect.agents.prompts import Prompts
    from selfcorrect.agents.transformers_policy import TransformersPolicy

_SOME_ENGLISH = "Using the numbers, each exactly once, reach a target"


@dataclass(frozen=True)
class NamedPolicy:
    """An opened policy.

    Attributes:
        name: as the user called it.
        policy: writes the turns.
        reads_english: False for the embedded policy and what was trained from it: they know numbers and a few words.
    """

    name: str
    policy: "TransformersPolicy"
    reads_english: bool

    def prompts(self, critique: "CritiqueMode") -> "Prompts":
        """The words of the loop for this policy."""
        from selfcorrect.agents.prompts import COUNTDOWN, PAG_MATH, SCORE_MATH

        if not self.reads_english:
            return COUNTDOWN
        return PAG_MATH if critique == "self" else SCORE_MATH

    def refuse_unreadable(self, prompt: str) -> None:
        """Raise a ConfigurationError if the policy's vocabulary lacks words of `prompt`."""
        if _has_unknown(self.policy, prompt):
            raise ConfigurationError(
                f"{self.name} cannot read {prompt!r}: its vocabulary is that of Countdown, such as '3 5 7 9 get 56' "
                "(3 to 6 numbers, whole and below 200). For other questions name another model with --model"
            )


def open_policy(name: str) -> NamedPolicy:
    """The policy called `name`: "embedded", a folder, or a Hugging Face id.

    Raises:
        PolicyError: it cannot be loaded.
    """
    with loading(f"policy {name}"):
        from selfcorrect.agents.embedded_policy import model_location
        from selfcorrect.agents.transformers_policy import TransformersPolicy

        policy = TransformersPolicy.from_pretrained(model_location(name))
    return NamedPolicy(name, policy, reads_english=not _has_unknown(policy, _SOME_ENGLISH))


def _has_unknown(policy: "TransformersPolicy", text: str) -> bool:
    unknown = policy.tokenizer.unk_token_id
    return unknown is not None and unknown in policy.tokenizer(text, add_special_tokens=False)["input_ids"]
