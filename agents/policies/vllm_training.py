"""Models that learn in this process while vLLM writes their turns: on a server, or in this process too.

The engine is given the weights whenever it is asked and the model has others than it holds. An adapter goes over as a
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
from typing import Any, Protocol

import torch

from selfcorrect.agents.decoding.engine import Decoded
from selfcorrect.agents.decoding.turn_cache import Fingerprint, fingerprint
from selfcorrect.agents.listening import Tell
from selfcorrect.agents.policies.ongoing import generating
from selfcorrect.agents.policies.rendering import room_in
from selfcorrect.agents.policies.transformers import LocalCall, TransformersPolicy
from selfcorrect.agents.policies.vllm_server import VLLMServer
from selfcorrect.agents.policy import GREEDY
from selfcorrect.agents.state import Generation
from selfcorrect.errors import PolicyError

_PROBE, PROBED = range(11, 19), 4
"""Ids that are continued greedily, and by how many tokens, to compare engine and model."""
_ROUNDING = {torch.float32: 0.01, torch.bfloat16: 0.25, torch.float16: 0.1}
"""Nats that log-probabilities of the same weights may differ by, in each dtype."""


class HeldWeights:
    """Which weights an engine holds, against those that the model has.

    Args:
        give: gives the engine the model's weights, and returns the name by which they are asked for.
    """

    def __init__(self, give: Callable[[], str]) -> None:
        self._give, self._lock = give, Lock()
        self._mark: Fingerprint | None = None
        self._name, self._under_way, self._settled = "", 0, False
        self._pinned: ContextVar[str | None] = ContextVar("selfcorrect_pinned_weights", default=None)

    def renew(self, model: Any) -> str:
        """The name of the model's weights, which the engine then holds."""
        mark = fingerprint(model)
        if mark != self._mark and not self._settled:
            self._name, self._mark = self._give(), mark
        return self._name

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
            self.renew(model)
            self._settled = True


class Adapters(Protocol):
    """An engine that takes LoRA adapters."""

    def load_adapter(self, name: str, folder: Path) -> None: ...

    def unload_adapter(self, name: str) -> None: ...


class Handover:
    """Files of weights on their way to an engine.

    Args:
        folder: where they lie, which the engine sees under the same path; None is a temporary one, for an engine on
            this machine.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = Path(folder or tempfile.mkdtemp(prefix="selfcorrect-weights-")).absolute()
        if folder is None:
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._run, self._count = uuid.uuid4().hex[:8], 0
        self._adapters: list[str] = []

    def _next(self, kind: str) -> tuple[str, Path]:
        self._count += 1
        name = f"selfcorrect-{self._run}-{kind}-{self._count}"
        return name, self._folder / name

    def adapter(self, model: Any, engine: Adapters) -> str:
        """Give `engine` the adapter of `model`, and return the name it has there. The one before stays for those that
        still ask for it; older ones go."""
        name, folder = self._next("adapter")
        model.save_pretrained(folder, save_embedding_layers=False)
        engine.load_adapter(name, folder)
        self._adapters.append(name)
        while len(self._adapters) > 2:
            old = self._adapters.pop(0)
            engine.unload_adapter(old)
            shutil.rmtree(self._folder / old, ignore_errors=True)
        return name

    @contextmanager
    def model(self, model: Any) -> Iterator[Path]:
        """A folder with all weights of `model`, inside the block."""
        _, folder = self._next("weights")
        try:
            model.save_pretrained(folder)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def has_adapter(model: Any) -> bool:
    """Whether `model` has a LoRA adapter of its own to hand over: one that was merged is none."""
    return hasattr(model, "get_base_model") and any("lora_" in name for name, _ in model.named_parameters())


class EnginePolicy(TransformersPolicy):
    """What the policies of both engines have in common.

    Args:
        model, tokenizer, options: see `TransformersPolicy`.
        adapters: what learns will be an adapter, so that the engine keeps the base it was started with.
        folder: see `Handover`.
    """

    def __init__(self, model: Any, tokenizer: Any, *, adapters: bool, folder: Path | None, **options: Any) -> None:
        super().__init__(model, tokenizer, **{**options, "decoding": "dynamic"})
        self._adapters, self._handover = adapters, Handover(folder)
        self._held = HeldWeights(self._give)

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
        server: it serves that very model.
        adapters: what learns will be an adapter; else all weights go over after every update.
        folder: for adapters and weights on their way, seen by the server under the same path; None is a temporary one,
            for a server on this machine.
        processed_logprobs: whether it was started with `--logprobs-mode processed_logprobs`, which temperatures other
            than 1 need.
        concurrency: requests at a time.
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
        **options: Any,
    ) -> None:
        super().__init__(model, tokenizer, adapters=adapters, folder=folder, **options)
        self._server, self._processed, self.where = server, processed_logprobs, server.url
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
        """Called while nothing is under way."""
        if has_adapter(self.model):
            return self._handover.adapter(self.model, self._server)
        if not self._adapters:
            with self._handover.model(self.model) as folder:
                self._server.load_weights(folder)
        drawn = self._server.draw(self.probe, GREEDY, PROBED)
        self.refuse_other_weights(drawn.ids, drawn.logprobs)
        return self._server.model
