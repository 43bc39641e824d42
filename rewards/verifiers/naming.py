"""Verifiers by name: those that need no training, a user's own, and trained ones by their folders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from selfcorrect.errors import CheckerError, ConfigurationError
from selfcorrect.registry import Registry, called, is_address, nearest, shown_kind
from selfcorrect.rewards.checker import Verifier
from selfcorrect.rewards.verifiers.folder import CARD_FILE

_EXPECTED = "a verifier: an object with `async scores(prompt, responses)`, or a class of them"


def _own(address: str, found: Any) -> Callable[[], Verifier]:
    def made() -> Verifier:
        verifier = called(address, found, expected=_EXPECTED) if isinstance(found, type) else found
        if not isinstance(verifier, Verifier):
            raise ConfigurationError(f"{address}: expected {_EXPECTED}, got {shown_kind(verifier)}")
        return verifier

    return made


VERIFIERS: Registry[Callable[[], Verifier]] = Registry(
    "verifier", {"examples": "selfcorrect.rewards.verifiers.examples:ExampleVerifier"}, accept=_own
)
"""What makes a verifier that needs no training, by its name.

examples: a program is tried on the examples that its problem shows.
"""


def verifier_named(name: str | Path, *, policy_tokenizer: Any = None) -> Verifier:
    """The verifier in the folder `name`; or of `VERIFIERS`; or a user's own, as `package.module:Name`.

    Args:
        name: the folder of a verifier goes before a name that is spelt like it.
        policy_tokenizer: of the policy whose answers are to be scored; a trained verifier must have the same.

    Raises:
        CheckerError: it is neither; or the folder is damaged, or belongs to another tokenizer.
        ConfigurationError: a user's own is no verifier.
    """
    text = str(name)
    if not (Path(name) / CARD_FILE).exists() and (text in VERIFIERS or is_address(text)):
        return VERIFIERS.find(text)()
    if not Path(name).exists():
        raise CheckerError(
            f"there is no verifier {text!r}{nearest(text, VERIFIERS)}; give a folder of `selfcorrect train vstar`, "
            f"{', '.join(VERIFIERS)}, or package.module:Name of your own"
        )

    from selfcorrect.rewards.verifiers.kinds import load_verifier

    return load_verifier(name, policy_tokenizer=policy_tokenizer)
