"""Models that learn in this process while vLLM writes their turns: on a server, or in this process too.

The engine is given the weights whenever it is asked and the model has others than it holds; where several processes
train the model and play on servers that they share, all of them say when (`hand_over`). An adapter goes over as a
file under a name that is never used twice, and every request names the one it wants: a server that has not got it
refuses, so that no answer can be of stale weights. All weights have no name; there the engine's log-probabilities of a
few tokens are compared with the model's own after every update.
"""

import asyncio
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from threading import Event, Lock
from typing import Any, Protocol, TypeVar

import torch

from selfcorrect.agents.decoding.engine import Decoded
from selfcorrect.agents.decoding.turn_cache import Fingerprint, fingerprint
from selfcorrect.agents.listening import Tell
from selfcorrect.agents.policies.local_calls import LocalCall
from selfcorrect.agents.policies.ongoing import generating
from selfcorrect.agents.policies.rendering import room_in
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policies.vllm_server import VLLMServer
from selfcorrect.agents.policy import GREEDY
from selfcorrect.agents.state import Generation
from selfcorrect.errors import PolicyError

Thing = TypeVar("Thing")

_PROBE, PROBED = range(11, 19), 4
"""Ids that are continued greedily, and by how many tokens, to compare engine and model."""
_ROUNDING = {torch.float32: 0.01, torch.bfloat16: 0.25, torch.float16: 0.1}
"""Nats that log-probabilities of the same weights may differ by, in each dtype."""


class Together(Protocol):
    """The processes that train one model, each of which has it whole; see `selfcorrect.training.processes`."""

    def count(self) -> int: ...

    def rank(self) -> int: ...

    def by_first(self, action: Callable[[], Thing], /) -> Thing: ...

    def agreed(self, action: Callable[[], Thing], /) -> Thing: ...


class Alone:
    """One process."""

    def count(self) -> int:
        return 1

    def rank(self) -> int:
        return 0

    def by_first(self, action: Callable[[], Thing], /) -> Thing:
        return action()

    agreed = by_first


class HeldWeights:
    """Which weights an engine holds, against those that the model has.

    Args:
        give: gives the engine the model's weights, and returns the name by which they are asked for.
        in_step: several processes give them together, so that a request finds them given, or is refused.
    """

    def __init__(self, give: Callable[[], str], *, in_step: bool = False) -> None:
        self._give, self._lock, self._in_step = give, Lock(), in_step
        self._mark: Fingerprint | None = None
        self._name, self._under_way, self._settled = "", 0, False
        self._pinned: ContextVar[str | None] = ContextVar("selfcorrect_pinned_weights", default=None)

    def renew(self, model: Any, *, all_ask: bool = False) -> str:
        """The name of the model's weights, which the engine then holds. `all_ask`: all processes are here.

        Raises:
            PolicyError: the weights are new, and only `all_ask` together may give them.
        """
        mark = fingerprint(model)
        if mark != self._mark and not self._settled:
            if self._in_step and not all_ask:
                raise PolicyError(
                    "the weights were changed, and the engine that several processes share has those before: call "
                    "policy.hand_over() in every process before anything is played"
                )
            self._name, self._mark = self._give(), mark
        return self._name

    def hand_over(self, model: Any) -> None:
        """Give the engine the model's weights, if it has others. All processes call this."""
        with self._lock:
            self.renew(model, all_ask=True)

    @property
    def pinned(self) -> str | None:
        """What calls of this context are answered by, whatever the model has become; None is the model as it is."""
        return self._pinned.get()

    @contextmanager
    def pin(self, model: Any) -> Iterator[None]:
        """Calls made inside are answered by the weights that the model has now."""
        with self._lock:
            token = self._pinned.set(self.renew(model))
        try:
            yield
        finally:
            self._pinned.reset(token)

    @contextmanager
    def asked(self, model: Any, pinned: str | None) -> Iterator[str]:
        """Around a request: the name of the weights that answer it. Weights do not change while some are under way, so
        the first one looks."""
        with self._lock:
            if pinned is None and self._under_way == 0:
                self.renew(model)
            self._under_way += pinned is None
        try:
            yield pinned or self._name
        finally:
            with self._lock:
                self._under_way -= pinned is None

    def settle(self, model: Any) -> None:
        """Hold the weights as they are, and keep to them whatever becomes of the model."""
        with self._lock:
            self.renew(model, all_ask=True)
            self._settled = True


class Adapters(Protocol):
    """An engine that takes LoRA adapters."""

    def load_adapter(self, name: str, folder: Path) -> None: ...

    def unload_adapter(self, name: str) -> None: ...


class Handover:
    """Files of weights on their way to an engine. Of several processes the first one writes them.

    Args:
        folder: where they lie, which the engine sees under the same path; None is a temporary one, for an engine on
            this machine.
        processes: that train the model.
    """

    def __init__(self, folder: Path | None, processes: Together) -> None:
        self._processes = processes
        self._folder = Path(folder or tempfile.mkdtemp(prefix="selfcorrect-weights-")).absolute()
        if folder is None:
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._run, self._count = uuid.uuid4().hex[:8], 0
        self._adapters: list[str] = []

    def _next(self, kind: str) -> tuple[str, Path]:
        self._count += 1
        name = f"selfcorrect-{self._run}-{kind}-{self._count}"
        return name, self._folder / name

    def adapter(self, model: Any, engine: Adapters | None) -> str:
        """Give `engine` the adapter of `model`, and return the name it has there. The one before stays for those that
        still ask for it; older ones go. None is an engine that another process gives it."""
        name, folder = self._processes.by_first(lambda: self._saved(model, "adapter", save_embedding_layers=False))
        self._adapters.append(name)
        old = [self._adapters.pop(0) for _ in self._adapters[:-2]]
        self._processes.agreed(lambda: None if engine is None else self._swap(engine, name, folder, old))
        for name_before in old:
            shutil.rmtree(folder.parent / name_before, ignore_errors=True)
        return name

    def _swap(self, engine: Adapters, name: str, folder: Path, old: Sequence[str]) -> None:
        engine.load_adapter(name, folder)
        for name_before in old:
            engine.unload_adapter(name_before)

    def weights(self, model: Any, take: Callable[[Path], None]) -> None:
        """Have `take` read a folder with all weights of `model`, which is gone afterwards."""
        _, folder = self._processes.by_first(lambda: self._saved(model, "weights"))
        try:
            self._processes.agreed(lambda: take(folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _saved(self, model: Any, kind: str, **options: Any) -> tuple[str, Path]:
        name, folder = self._next(kind)
        model.save_pretrained(folder, **options)
        return name, folder


def has_adapter(model: Any) -> bool:
    """Whether `model` has a LoRA adapter of its own to hand over: one that was merged is none."""
    return hasattr(model, "get_base_model") and any("lora_" in name for name, _ in model.named_parameters())


class EnginePolicy(TransformersPolicy):
    """What the policies of both engines have in common.

    Args:
        model, tokenizer, options: see `TransformersPolicy`.
        adapters: what learns will be an adapter, so that the engine keeps the base it was started with.
        folder: see `Handover`.
        processes: that train the model and share the engine.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        adapters: bool,
        folder: Path | None,
        processes: Together | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model, tokenizer, **{**options, "decoding": "dynamic"})
        self._processes: Together = processes or Alone()
        self._adapters, self._handover = adapters, Handover(folder, self._processes)
        self._held = HeldWeights(self._give, in_step=self._processes.count() > 1)

    def hand_over(self) -> None:
        """See `TransformersPolicy.hand_over`."""
        self._held.hand_over(self.model)

    def settle(self) -> None:
        """See `TransformersPolicy.settle`."""
        self._held.settle(self.model)

    def pinned(self) -> AbstractContextManager[None]:
        """Calls made inside are answered by the weights that the model has now, however it is trained meanwhile. Of
        adapters only: other weights take the place of those before."""
        return self._held.pin(self.model)

    def _give(self) -> str:
        """Give the engine the model's weights, and return the name by which they are asked for."""
        raise NotImplementedError

    def refuse_other_weights(self, ids: Sequence[int], logprobs: Sequence[float]) -> None:
        """Raise a PolicyError if the engine's `logprobs` of what it drew after `_PROBE` are not the model's."""
        probe = self.probe
        device = next(self.model.parameters()).device
        with generating(self.model, self.compute_dtype):
            logits = self.model(torch.tensor([[*probe, *ids]], device=device)).logits[0, len(probe) - 1 : -1]
        own = logits.float().log_softmax(-1).gather(1, torch.tensor(list(ids), device=device)[:, None])[:, 0]
        worst = max(abs(mine - theirs) for mine, theirs in zip(own.tolist(), logprobs, strict=True))
        dtype = self.compute_dtype or next(self.model.parameters()).dtype
        if not worst <= _ROUNDING.get(dtype, _ROUNDING[torch.float16]):
            raise PolicyError(
                f"{self.where} has other weights than the model that is trained: their log-probabilities differ by "
                f"{worst:.3f} nats. Start it with the very model of policy.model, in the same dtype; or, if that is "
                "so, it did not take all weights that it was given (vLLM on a CPU keeps the output head of models that "
                "tie it to their embeddings): train an adapter (policy.lora) there"
            )

    @property
    def probe(self) -> list[int]:
        """What is continued to compare the engine with the model."""
        words = int(self.model.config.get_text_config().vocab_size)
        return [number % words for number in _PROBE]

    where = "the engine"


class VLLMServedPolicy(EnginePolicy):
    """A `TransformersPolicy` whose turns a vLLM server writes.

    Args:
        model, tokenizer, options: see `TransformersPolicy`.
        server: it serves that very model. Of several processes with servers of their own, or with fewer servers than
            there are processes, each has that which it asks.
        adapters: what learns will be an adapter; else all weights go over after every update.
        folder: for adapters and weights on their way, seen by the server under the same path; None is a temporary one,
            for a server on this machine.
        processed_logprobs: whether it was started with `--logprobs-mode processed_logprobs`, which temperatures other
            than 1 need.
        concurrency: requests at a time.
        leads: whether this process gives `server` the weights; of several that ask it one does.
        processes: that train the model. The first one writes the weights, those that lead have their servers read them,
            and all go on once every server has.
    """

    engine = "vllm"

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        server: VLLMServer,
        adapters: bool = False,
        folder: Path | None = None,
        processed_logprobs: bool = False,
        concurrency: int = 128,
        leads: bool = True,
        processes: Together | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model, tokenizer, adapters=adapters, folder=folder, processes=processes, **options)
        self._server, self._processed, self._leads, self.where = server, processed_logprobs, leads, server.url
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="selfcorrect-vllm")

    @property
    def keeps_older_weights(self) -> bool:
        """Whether calls can be answered by weights of a step ago while the model is trained."""
        return self._adapters

    async def _drawn(self, call: LocalCall, tell: Tell | None = None) -> Generation:
        """As of a `TransformersPolicy`. What draws without replacement is decoded in this process."""
        if call.drawn is not None:
            return await super()._drawn(call, tell)
        gone, pinned = Event(), self._held.pinned

        def ask() -> Generation:  # tokenising a long prompt would hold up the event loop
            return self._asked(call, tell, gone, pinned)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        except asyncio.CancelledError:
            gone.set()
            raise

    def _asked(self, call: LocalCall, tell: Tell | None, gone: Event, pinned: str | None) -> Generation:
        prompt, sampling = call.prompt(self.template, self._eos_ids), call.sampling
        wanted = sampling.max_new_tokens or self.max_new_tokens
        own: int | None = getattr(self.model.config, "max_position_embeddings", None)
        contexts = [context for context in (own, self._server.context) if context is not None]
        request = call.request(prompt, room_in(min(contexts, default=None), len(prompt.ids), wanted))
        with self._held.asked(self.model, pinned) as name:
            drawn = self._server.draw(
                prompt.ids,
                sampling.with_seed(request.seed),
                request.max_new_tokens,
                end_ids=frozenset(self._eos_ids),
                model=name,
                tell=tell,
                gone=gone,
            )
        if drawn.end_id is not None and drawn.end_id not in self._eos_ids:
            self._eos_ids.append(drawn.end_id)
        known = self._processed or sampling.temperature in (0.0, 1.0)
        decoded = Decoded(drawn.ids, drawn.logprobs if known else [], not drawn.cut_off)
        return self._completions.generation(request, decoded, call.conversation)

    def _give(self) -> str:
        """Called while nothing is under way, in any process."""
        if has_adapter(self.model):
            return self._handover.adapter(self.model, self._server if self._leads else None)
        if not self._adapters:
            self._handover.weights(self.model, self._server.load_weights if self._leads else _leave)
        self._processes.agreed(self._compare if self._leads else lambda: None)
        return self._server.model

    def _compare(self) -> None:
        drawn = self._server.draw(self.probe, GREEDY, PROBED)
        self.refuse_other_weights(drawn.ids, drawn.logprobs)


def _leave(folder: Path) -> None:
    """Another process has the server read the weights in `folder`."""
