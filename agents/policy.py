"""The protocol of a policy, whatever writes the turns of an episode; and the seeds of what it draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw one completion.

    Args:
        temperature: 0 is greedy; otherwise logits are divided by it before sampling.
        top_p: nucleus mass in (0, 1]. Training wants 1: the recorded log-probabilities know of no cut.
        max_new_tokens: at most this many tokens; None leaves it to the policy's own default.
        seed: draws are a function of (policy, prompt, seed), whatever else shares the batch; None draws afresh.
        stop: texts that end the completion besides the policy's own stop tokens; left out of the text.
        json_schema: a JSON schema, as text, that the completion is made to follow while it is drawn; None is free.
            The recorded log-probabilities are then those of the constrained distribution.

    Raises:
        ConfigurationError: a number is outside its range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    json_schema: str | None = None

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise ConfigurationError(f"temperature must be 0 (greedy) or more, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ConfigurationError(f"top_p must be in (0, 1], got {self.top_p}")
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise ConfigurationError(f"max_new_tokens must be 1 or more, got {self.max_new_tokens}")

    def with_seed(self, seed: int | None) -> "Sampling":
        """The same with another seed; None draws as it comes."""
        return replace(self, seed=seed)


def sampling_from(given: Mapping[str, Any]) -> Sampling:
    """A `Sampling` of plain data, as a server's context brings it.

    Raises:
        ConfigurationError: a name or a value is none of a sampling.
    """
    known = {field.name for field in fields(Sampling)}
    unknown = sorted(set(given) - known)
    if unknown:
        raise ConfigurationError(f"sampling has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    try:
        return Sampling(**{**given, "stop": tuple(given.get("stop") or ())})
    except TypeError as error:
        raise ConfigurationError(f"sampling cannot be made of {dict(given)}: {error}") from error


GREEDY = Sampling(temperature=0.0)


@runtime_checkable
class Policy(Protocol):
    """Anything that continues a conversation."""

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        """Write the next assistant message.

        Args:
            messages: what to show. With `after`, only the new messages since then.
            sampling: how to draw.
            after: the generation this call continues. The new prompt ids are `after`'s prompt ids + its completion ids
                + the template's tokens for `messages`: appended, never rendered or tokenised again.

        Raises:
            PolicyError: the conversation cannot be rendered, or is longer than the model's context.
        """
        ...


@runtime_checkable
class ContinuingPolicy(Policy, Protocol):
    """A policy that can also go on with an answer it has not finished, which search over steps needs."""

    async def extend(self, partial: Generation, sampling: Sampling) -> Generation:
        """`partial` with more tokens.

        Args:
            partial: an answer that ended at one of `Sampling.stop` or at the token limit. Its token ids are taken over
                exactly.
            sampling: how to draw what follows; its `max_new_tokens` counts the new tokens alone.

        Returns:
            The whole answer: the same prompt, `partial`'s completion ids followed by the new ones, the text of both
            together.

        Raises:
            PolicyError: prompt and answer are longer than the model's context.
        """
        ...


@runtime_checkable
class RenewingPolicy(Policy, Protocol):
    """A policy that can also draw an answer it has not given before, which sampling without replacement needs."""

    async def generate_new(
        self, messages: Sequence[Message], sampling: Sampling, *, drawn: Sequence[Generation]
    ) -> Generation | None:
        """An answer that is none of `drawn`, from the policy's distribution without them.

        Args:
            messages: what to show.
            sampling: how to draw; above temperature 0, without a top-p cut, and as `drawn` was.
            drawn: earlier answers to the same messages.

        Returns:
            The answer, with its log-probabilities under the whole distribution; None if `drawn` is all that the policy
            can say.

        Raises:
            ConfigurationError: `sampling` is greedy or cuts by top-p.
            GraphError: the call is recorded for training, which wants plain draws.
            PolicyError: the conversation cannot be rendered, or is longer than the model's context.
        """
        ...


# Seeds without state: every draw is a function of (seed, position), never of what else shares a batch.
#
# The mixing function is the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
# generators", OOPSLA 2014).

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_MIX1 = 0xBF58476D1CE4E5B9
_MIX2 = 0x94D049BB133111EB
_UNIFORM_BITS = 48


def derive_seed(seed: int, index: int) -> int:
    """The `index`-th child of `seed`: a whole number in [0, 2**63), the same on every machine."""
    state = _finalise(_finalise(seed & _MASK) + (index + 1) * _GAMMA & _MASK)
    return state >> 1


def uniforms(seeds: "npt.NDArray[np.uint64]", position: int) -> "npt.NDArray[np.float64]":
    """One uniform number in [0, 1) for each of `seeds` (B,) at `position`, a multiple of 2**-48."""
    import numpy as np

    offset = np.uint64((position + 1) * _GAMMA & _MASK)
    state = seeds + offset  # unsigned arithmetic on arrays wraps, as SplitMix64 wants
    state = (state ^ (state >> np.uint64(30))) * np.uint64(_MIX1)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(_MIX2)
    state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(64 - _UNIFORM_BITS)).astype(np.float64) * 2.0**-_UNIFORM_BITS


def device_uniforms(seeds_R: "Tensor", position_R: "Tensor") -> "Tensor":
    """As `uniforms`, number for number, on the device of `seeds_R` (R,), for each its own position (R,).

    Both are int64 with the bits of unsigned numbers: torch's products and sums wrap as those do, and its shifts are
    made logical ones. The numbers are float64, on Apple's GPUs (which have none) float32.
    """
    import torch

    state_R = seeds_R + (position_R + 1) * _signed(_GAMMA)
    state_R = (state_R ^ _shifted(state_R, 30)) * _signed(_MIX1)
    state_R = (state_R ^ _shifted(state_R, 27)) * _signed(_MIX2)
    state_R = state_R ^ _shifted(state_R, 31)
    wide = torch.float32 if seeds_R.device.type == "mps" else torch.float64
    return _shifted(state_R, 64 - _UNIFORM_BITS).to(wide) * 2.0**-_UNIFORM_BITS


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _shifted(state_R: "Tensor", places: int) -> "Tensor":
    return (state_R >> places) & ((1 << (64 - places)) - 1)


def seed_array(seeds: Sequence[int]) -> "npt.NDArray[np.uint64]":
    """`seeds` as the array that `uniforms` takes; each is mixed first, so that neighbours do not resemble each
    other."""
    import numpy as np

    return np.array([_finalise(seed & _MASK) for seed in seeds], dtype=np.uint64)


def _finalise(state: int) -> int:
    state = (state ^ (state >> 30)) * _MIX1 & _MASK
    state = (state ^ (state >> 27)) * _MIX2 & _MASK
    return state ^ (state >> 31)
