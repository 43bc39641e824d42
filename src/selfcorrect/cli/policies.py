"""The policy that a command names, and how to talk to it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selfcorrect.cli.console import loading
from selfcorrect.errors import ConfigurationError

if TYPE_CHECKING:
    from selfcorrect.agents.graph import CritiqueMode
    from selfcorrect.agents.policy import Policy
    from selfcorrect.agents.prompts import Prompts


@dataclass(frozen=True)
class NamedPolicy:
    """An opened policy.

    Attributes:
        name: as the user called it.
        policy: writes the turns.
        reads_english: False for the embedded policy and what was trained from it: they know numbers and a few words.
    """

    name: str
    policy: "Policy"
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


def open_policy(name: str, **options: Any) -> NamedPolicy:
    """The policy called `name`: "embedded", a folder, a Hugging Face id, or "provider:model" of LangChain.

    Args:
        name: as above.
        **options: of `TransformersPolicy`.

    Raises:
        PolicyError: it cannot be loaded.
    """
    with loading(f"policy {name}"):
        from selfcorrect.agents.named_policy import named_policy
        from selfcorrect.agents.prompts import COUNTDOWN

        policy, prompts = named_policy(name, **options)
    return NamedPolicy(name, policy, reads_english=prompts is not COUNTDOWN)


def _has_unknown(policy: "Policy", text: str) -> bool:
    tokenizer: Any = getattr(policy, "tokenizer", None)
    if tokenizer is None or tokenizer.unk_token_id is None:  # chat models have none, and read everything
        return False
    return tokenizer.unk_token_id in tokenizer(text, add_special_tokens=False)["input_ids"]
