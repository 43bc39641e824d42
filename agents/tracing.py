"""What traces are told: of every policy call as it ends, and of its reward and advantage once its batch is paid.

OpenTelemetry gets spans "chat MODEL" by its semantic conventions for generative AI
(https://opentelemetry.io/docs/specs/semconv/gen-ai/); LangSmith, and any other tracer of LangChain's, gets metadata and
runs. Nothing is done unless the program has set a tracer provider of OpenTelemetry's, or callbacks of LangChain's.

What is ours has names of its own: `selfcorrect.problem`, `.batch`, `.episode` (its seed), `.node`, `.turn`, `.reward`,
`.advantage`. Rewards are known only when an episode is over, and advantages when its batch is: a span "credit" then
tells them, with a link to the span of the call.
"""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.state import Generation, usage_of

_PREFIX = "selfcorrect."

_episode: ContextVar[Mapping[str, Any] | None] = ContextVar("selfcorrect_traced_episode", default=None)


@contextmanager
def episode_traced(problem: str, batch: int | None, seed: int) -> Iterator[None]:
    """Calls inside the block are those of this episode.

    Args:
        problem: its id.
        batch: number of the batch of episodes in the run, from 0; None outside training.
        seed: of the episode, by which it is known among those of its problem.
    """
    named = {"problem": problem, "batch": batch, "episode": seed}
    token = _episode.set({name: value for name, value in named.items() if value is not None})
    try:
        yield
    finally:
        _episode.reset(token)


def episode_metadata() -> dict[str, Any]:
    """What names the episode that this code is part of; {} outside one."""
    return dict(_episode.get() or {})


# OpenTelemetry: one span for each policy call.


@dataclass(frozen=True, slots=True)
class CallSpan:
    """A policy call under way. One that fails is never told: its error stands on the spans around it."""

    tracer: Any
    name: str
    began: int
    attributes: Mapping[str, Any]

    def end(self, generation: Generation) -> Any:
        """Tell the call; what a later span can link to."""
        usage = usage_of(generation)
        told: dict[str, Any] = {"gen_ai.response.finish_reasons": [generation["finish_reason"]]}
        if usage is not None:
            told["gen_ai.usage.input_tokens"] = usage["input_tokens"]
            told["gen_ai.usage.output_tokens"] = usage["output_tokens"]
        from opentelemetry.trace import SpanKind

        span = self.tracer.start_span(
            self.name, kind=SpanKind.CLIENT, start_time=self.began, attributes={**self.attributes, **told}
        )
        span.end()
        return span.get_span_context()


def begin_span(policy: Any, sampling: Sampling, node: str = "") -> CallSpan | None:
    """The span of a call that begins here; None where nobody traces."""
    tracer = _tracer()
    if tracer is None:
        return None
    model = _model_name(policy)
    asked = {
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.max_tokens": sampling.max_new_tokens,
        "gen_ai.request.seed": _signed(sampling.seed),
        "gen_ai.request.stop_sequences": list(sampling.stop) or None,
        f"{_PREFIX}node": node or None,
        **_prefixed(episode_metadata()),
    }
    attributes = {name: value for name, value in asked.items() if value is not None} | {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "selfcorrect",
        "gen_ai.request.model": model,
        "gen_ai.output.type": "text" if sampling.json_schema is None else "json",
    }
    return CallSpan(tracer, f"chat {model}", time.time_ns(), attributes)


def _tracer() -> Any:
    """Of the provider that the program has set; None if it has set none."""
    api: Any = sys.modules.get("opentelemetry.trace")
    if api is None:
        return None
    provider = api.get_tracer_provider()
    return None if isinstance(provider, api.ProxyTracerProvider) else provider.get_tracer("selfcorrect")


def _model_name(policy: Any) -> str:
    model = getattr(policy, "model", None)
    config = getattr(model, "config", None)
    names = (
        model,
        getattr(config, "name_or_path", None),
        getattr(model, "model_name", None),
        getattr(model, "model", None),
    )
    return next((name for name in names if isinstance(name, str) and name), type(policy).__name__)


def _prefixed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{_PREFIX}{name}": _signed(value) for name, value in values.items() if value is not None}


def _signed(value: Any) -> Any:
    """Attributes hold integers of 64 bits with a sign; seeds may have 64 without."""
    return value - 2**64 if isinstance(value, int) and value >= 2**63 else value


# Credit: what the calls of a batch were paid.


@dataclass(frozen=True, slots=True)
class Credit:
    """What one call of an episode was paid.

    Attributes:
        problem, batch: see `episode_traced`.
        node: in which the call was made, "" outside a graph.
        turn: which of the episode's calls it is, from 1.
        reward: None if it was not paid.
        advantage: mean over the call's tokens; None if none of them is among those that are learnt from.
        trace: what `CallSpan.end` gave; None if the call was not traced.
    """

    problem: str
    batch: int
    node: str
    turn: int
    reward: float | None
    advantage: float | None
    trace: Any = None

    @property
    def metadata(self) -> dict[str, Any]:
        """All but `trace`, without what is not known."""
        names = ("problem", "batch", "node", "turn", "reward", "advantage")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def is_traced(callbacks: Any) -> bool:
    """Whether somebody wants to be told of credit: OpenTelemetry, or LangChain's tracers."""
    return _tracer() is not None or bool(_langchain_handlers(callbacks))


def tell_credit(credits: Sequence[Credit], callbacks: Any) -> None:
    """Tell what the calls of a batch were paid.

    Args:
        credits: one for each call.
        callbacks: of the run config; LangSmith's own, where the environment asks for it, is told too.
    """
    tracer = _tracer()
    if tracer is not None and credits:
        from opentelemetry.trace import Link

        with tracer.start_as_current_span("credit of a batch", attributes={f"{_PREFIX}batch": credits[0].batch}):
            for credit in credits:
                links = [] if credit.trace is None else [Link(credit.trace)]
                tracer.start_span("credit", links=links, attributes=_prefixed(credit.metadata)).end()
    if _langchain_handlers(callbacks):
        from langchain_core.runnables import RunnableLambda

        same: RunnableLambda[Any, Any] = RunnableLambda(dict, name="credit")
        for credit in credits:
            same.invoke(credit.metadata, {"callbacks": callbacks, "metadata": credit.metadata, "tags": ["credit"]})


def _langchain_handlers(callbacks: Any) -> list[Any]:
    from langchain_core.callbacks import CallbackManager

    return list(CallbackManager.configure(callbacks).handlers)
