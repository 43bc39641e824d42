"""The policy that a command names, and how to talk to it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selfcorrect.cli.console import loading

if TYPE_CHECKING:
    from selfcorrect.agents.graph import CritiqueMode
    from selfcorrect.agents.policy import Policy
    from selfcorrect.agents.prompts import Prompts


@dataclass(frozen=True)
class NamedPolicy:
    """An opened policy, as the user called it."""

    name: str
    policy: "Policy"

    @property
    def reads_english(self) -> bool:
        """False for the embedded policy and others with a small vocabulary: they know numbers and a few words."""
        from selfcorrect.agents.readable_words import reads_english

        return reads_english(getattr(self.policy, "tokenizer", None))

    def prompts(self, critique: "CritiqueMode") -> "Prompts":
        """The words of the loop for this policy."""
        from selfcorrect.agents.prompt_choice import math_prompts, prompts_of

        return prompts_of(self.policy, english=math_prompts(critique))

    def refuse_unreadable(self, prompt: str) -> None:
        """Raise a ConfigurationError if the policy's vocabulary lacks words of `prompt`."""
        from selfcorrect.agents.readable_words import refuse_unreadable

        refuse_unreadable(self.policy, [prompt], name=self.name)


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

        policy, _ = named_policy(name, **options)
    return NamedPolicy(name, policy)
