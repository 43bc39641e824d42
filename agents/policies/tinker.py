"""A policy behind a service that speaks Tinker's training API: Thinking Machines' own, SkyRL's server, and others."""

import asyncio
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Self

import httpx

from selfcorrect.agents.policies.rendering import (
    TemplateName,
    before_stop,
    choose_template,
    conversation_after,
    count_tokens,
    prompt_after,
    room_in,
)
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.recording import begin_call
from selfcorrect.agents.state import Generation, Message
from selfcorrect.distribution import install_command
from selfcorrect.errors import ConfigurationError, PolicyError

_SEEDS = 2**31
"""SkyRL's server refuses larger ones."""
_PATIENCE = 20.0
"""Seconds in which a server of one's own must answer at all."""


class TinkerPolicy:
    """Writes turns with a model that a service holds, and with a training client can be given to `train_elsewhere`.

    Prompts are sent as ids, and ids come back with their log-probabilities: later turns are appended, never tokenised
    again. The service names no log-probabilities at other temperatures than 1; draws at those are recorded without any
    (greedy ones have those of the model). Stop texts cut the text; the service itself draws on to its end token.

    Args:
        sampler: the SDK's `SamplingClient`.
        tokenizer: the model's tokenizer, which renders the messages.
        learner: the SDK's `TrainingClient`, whose weights `sampler` has; None is none yet, and without `adapter` the
            policy cannot be trained.
        adapter: what `learner` trains, so that it can be made, or made again from a checkpoint; None, and a training
            of this policy cannot be resumed.
        reference: a `SamplingClient` of the weights that a KL is measured against; None is none.
        template: as for `TransformersPolicy`.
        max_new_tokens: the limit of a completion when `Sampling` sets none.
        max_model_length: the most tokens of a prompt with its completion; None is not known, and the service refuses.
        end_ids: tokens that end a turn, besides the tokenizer's EOS.

    Raises:
        PolicyError: the tokenizer has no EOS token, or the template cannot be had.
    """

    def __init__(
        self,
        sampler: Any,
        tokenizer: Any,
        *,
        learner: Any = None,
        adapter: "ServiceAdapter | None" = None,
        reference: Any = None,
        template: TemplateName = "auto",
        max_new_tokens: int = 512,
        max_model_length: int | None = None,
        end_ids: Collection[int] = (),
    ) -> None:
        self._sampler, self.tokenizer, self._reference = sampler, tokenizer, reference
        self.learner, self.adapter = learner, adapter
        self.max_new_tokens, self._context = max_new_tokens, max_model_length
        self.template = choose_template(tokenizer, template)
        self._end_ids = sorted({tokenizer.eos_token_id, *end_ids})

    @classmethod
    def from_service(cls, model: str, *, url: str | None = None, tokenizer: str | None = None, **options: Any) -> Self:
        """A policy that only writes.

        Args:
            model: a base model by the service's name, or weights by their path there, "tinker://...".
            url: of the service; None is what the environment says, and then Thinking Machines'. The key stands in the
                environment variable TINKER_API_KEY.
            tokenizer: a folder or Hugging Face id; None is what the service says belongs to the model.
            **options: of the policy.

        Raises:
            PolicyError: the SDK is not installed; the service cannot be reached, refuses, or has no such model; the
                tokenizer cannot be loaded.
        """
        named = {"model_path" if model.startswith("tinker://") else "base_model": model}
        service = _service(url)
        sampler = asked(lambda: service.create_sampling_client(**named))
        return cls(sampler, _tokenizer(tokenizer, sampler), **options)

    @classmethod
    def to_train(
        cls,
        model: str,
        *,
        url: str | None = None,
        tokenizer: str | None = None,
        rank: int = 32,
        seed: int | None = None,
        **options: Any,
    ) -> Self:
        """A policy with an adapter that `train_elsewhere` trains at the service, which makes it when the training
        begins; until then the policy writes with the base model.

        Args:
            model, url, tokenizer, **options: as of `from_service`; the model is a base model.
            rank: of the adapter.
            seed: of its first weights; None is chance.

        Raises:
            PolicyError: as of `from_service`.
        """
        service = _service(url)
        base = asked(lambda: service.create_sampling_client(base_model=model))
        adapter = ServiceAdapter(service, model, rank, seed)
        return cls(base, _tokenizer(tokenizer, base), adapter=adapter, reference=base, **options)

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        """See `Policy.generate`.

        Raises:
            ConfigurationError: the sampling has a JSON schema, which the protocol does not know.
            PolicyError: the service cannot be reached, refuses, or returns no log-probabilities.
        """
        if sampling.json_schema is not None:
            raise ConfigurationError("Tinker's protocol knows no JSON schema for what is drawn; leave json_schema out")
        call = begin_call(self, messages, sampling, after=after)
        ids = prompt_after(self.template, messages, after, self._end_ids).ids
        room = room_in(self._context, len(ids), call.sampling.max_new_tokens or self.max_new_tokens)
        drawn = await self._drawn(ids, call.sampling, room)
        generation = self._generation(drawn, ids, call.sampling, conversation_after(after, messages))
        call.finish(generation)
        return generation

    async def reference_logprobs(self, ids: Sequence[int]) -> list[float]:
        """For each id its log-probability under the reference, given those before; 0.0 for the first.

        Raises:
            ConfigurationError: there is no reference.
        """
        if self._reference is None:
            raise ConfigurationError("a KL needs a reference: TinkerPolicy.to_train has one, or give reference=")
        told = await _answer(self._reference.compute_logprobs(_input(ids)))
        first = [None] * (len(ids) - len(told))  # which SkyRL's server leaves out
        return [0.0 if one is None else float(one) for one in [*first, *told]]

    @property
    def is_trainable(self) -> bool:
        """Whether there is a training client, or one can be made."""
        return self.learner is not None or self.adapter is not None

    def begin(self) -> None:
        """Make the training client if there is none, and write with its weights.

        Raises:
            ConfigurationError: the policy only writes.
            PolicyError: the service refuses, or cannot be reached.
        """
        if self.learner is None:
            self.learner = self._adapter_of_ours().begun()
        self.renew()

    def take_up(self, state: str) -> None:
        """Train on, and write, with an earlier state of an adapter, optimiser and all, by a training client of its own:
        what another one has learnt meanwhile counts for nothing.

        Args:
            state: the service's path of what a training client saved by `save_state`, "tinker://...".

        Raises:
            ConfigurationError: the policy knows no service to ask.
            PolicyError: the service has no such state, refuses, or cannot be reached.
        """
        self.learner = self._adapter_of_ours().taken_up(state)
        self.renew()

    def renew(self) -> None:
        """Write with the weights that the training client has now."""
        self._sampler = asked(self.learner.save_weights_and_get_sampling_client)

    def _adapter_of_ours(self) -> "ServiceAdapter":
        if self.adapter is None:
            raise ConfigurationError("this policy has no adapter to make or take up: make it by TinkerPolicy.to_train")
        return self.adapter

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """How many token ids the model is shown of `messages`."""
        return count_tokens(self.template, messages)

    async def _drawn(self, ids: Sequence[int], sampling: Sampling, room: int) -> Any:
        from tinker import types

        parameters = types.SamplingParams(
            max_tokens=room, seed=None if sampling.seed is None else sampling.seed % _SEEDS, stop=self._end_ids,
            temperature=sampling.temperature, top_p=sampling.top_p,
        )  # fmt: skip
        return (await _answer(self._sampler.sample(_input(ids), 1, parameters))).sequences[0]

    def _generation(self, drawn: Any, ids: list[int], sampling: Sampling, messages: list[Message]) -> Generation:
        tokens, logprobs = list(drawn.tokens), drawn.logprobs
        if logprobs is None or len(logprobs) != len(tokens):
            raise PolicyError("the service returned no log-probability for each token that it drew")
        written = tokens[:-1] if tokens and tokens[-1] in self._end_ids else tokens
        text = self.tokenizer.decode(written, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return Generation(
            text=before_stop(str(text), sampling.stop),
            messages=messages,
            prompt_ids=ids,
            completion_ids=tokens,
            logprobs=list(logprobs) if sampling.temperature in (0.0, 1.0) else [],
            finish_reason="length" if drawn.stop_reason == "length" else "stop",
        )


@dataclass(frozen=True, slots=True)
class ServiceAdapter:
    """What a service trains.

    Attributes:
        service: the SDK's `ServiceClient`.
        model: the base model, by the service's name.
        rank: of the adapter.
        seed: of its first weights; None is chance.
    """

    service: Any
    model: str
    rank: int
    seed: int | None = None

    def begun(self) -> Any:
        """A training client of a new adapter."""
        return asked(
            lambda: self.service.create_lora_training_client(base_model=self.model, rank=self.rank, seed=self.seed)
        )

    def taken_up(self, state: str) -> Any:
        """A training client of a saved one."""
        return asked(lambda: self.service.create_training_client_from_state_with_optimizer(state))


def asked(ask: Any) -> Any:
    """What the service answers to `ask()`; newer versions of the SDK give a future.

    Raises:
        PolicyError: it refuses, or cannot be reached.
    """
    try:
        found = ask()
        return found.result() if hasattr(found, "result") else found
    except _refusals() as error:
        raise PolicyError(f"the training service: {type(error).__name__}: {error}") from error


async def _answer(future: Any) -> Any:
    try:
        return await (asyncio.wrap_future(future) if isinstance(future, Future) else future)
    except _refusals() as error:
        raise PolicyError(f"the training service: {type(error).__name__}: {error}") from error


def _refusals() -> tuple[type[Exception], ...]:
    """What the SDK raises where the service refuses; a ValueError is an answer with status 400."""
    import tinker

    return tinker.TinkerError, ValueError


def _input(ids: Sequence[int]) -> Any:
    from tinker import types

    return types.ModelInput.from_ints(list(ids))


def _service(url: str | None) -> Any:
    try:
        import tinker
    except ImportError as error:
        raise PolicyError(f"Tinker's SDK is not installed: {install_command('tinker')}") from error
    if url is not None:
        _refuse_nobody(url)
    try:
        return tinker.ServiceClient(**({} if url is None else {"base_url": url}))
    except (tinker.TinkerError, ValueError) as error:  # a key that is missing, or is none
        raise PolicyError(f"the training service: {error}. Its key stands in TINKER_API_KEY") from error


def _refuse_nobody(url: str) -> None:
    """Raise a PolicyError where nobody speaks HTTP: the SDK would try for minutes, and say nothing meanwhile."""
    try:
        httpx.get(url, timeout=_PATIENCE)
    except (httpx.TransportError, httpx.InvalidURL, ValueError) as error:
        raise PolicyError(f"no training service answers at {url}: {error}") from error


def _tokenizer(name: str | None, client: Any) -> Any:
    """The tokenizer called `name`, or the one that the service says belongs to the client's model."""
    if name is None:
        return asked(client.get_tokenizer)
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise PolicyError(f"cannot load the tokenizer {name!r}: {error}") from error
