"""How policy calls become known to whoever trains: a recorder in a context variable, which LangGraph hands to its
nodes.

A policy that can be trained announces every call before it draws (`begin_call`) and hands over what it drew
(`OpenCall.finish`). Nothing of this is seen by the graph: it need not know that it is being trained.
"""

import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from selfcorrect.agents.policy import Sampling, derive_seed
from selfcorrect.agents.state import Generation, Message
from selfcorrect.agents.tracing import CallSpan, begin_span
from selfcorrect.errors import GraphError

# Where in a LangGraph run a policy is called, and in which order: the same in every run, whatever runs side by side.

_Rank = tuple[int, str, int, str, int]


def nodes_on(path: str, node: str) -> tuple[str, ...]:
    """The node names in LangGraph's namespace "outer:id|inner:id"; some of its parts are mere counters."""
    return tuple(part.partition(":")[0] for part in path.split("|") if ":" in part) or ((node,) if node else ())


@dataclass(frozen=True, slots=True)
class CallSite:
    """A task of a LangGraph run: one execution of a node.

    Attributes:
        node: its name, "" outside a graph.
        path: LangGraph's namespace "outer:id|node:id". The ids are random; everything else is the same in every run.
        step: LangGraph's step in the innermost graph.
        number: which of the `Send`s of its step it is; -1 if it was reached by an edge.
        attempt: 1, or more where a node failed and is tried again.
        checkpoints: LangGraph's checkpoint of each enclosing graph, by namespace: tasks that share it run side by side.
    """

    node: str = ""
    path: str = ""
    step: int = 0
    number: int = -1
    attempt: int = 1
    checkpoints: Mapping[str, str] = field(default_factory=dict)

    @property
    def lasting_name(self) -> str:
        return f"{'/'.join(nodes_on(self.path, self.node))} {self.step} {self.number}"

    def inside_tasks(self, ids: Collection[str]) -> bool:
        """Whether this is one of the tasks with these ids, or inside one."""
        return any(part.partition(":")[2] in ids for part in self.path.split("|") if ":" in part)

    @property
    def prefixes(self) -> list[str]:
        """The paths of the enclosing tasks, outermost first, and its own."""
        parts = self.path.split("|")
        return ["|".join(parts[: end + 1]) for end in range(len(parts))]


def order_of(sites: Sequence[CallSite], shown: Sequence[str]) -> list[int]:
    """Indices of call sites, which are listed as the calls began, in an order that only the graph decides.

    Step by step; each branch's calls together. Branches that run side by side come by node name, those of one name by
    the number of their `Send` or, inside subgraphs, which hide it, by what their first call was `shown`. Only branches
    that are alike even in that are left as they began. The calls of a task that failed and was tried again are left
    out: they reached nobody. (A whole subgraph that is tried again looks like one that is called twice.)
    """
    last_try: dict[str, int] = {}
    for site in sites:
        last_try[site.path] = max(site.attempt, last_try.get(site.path, 1))
    kept = [number for number, site in enumerate(sites) if site.attempt == last_try[site.path]]
    began: dict[str, int] = {}
    for number in kept:
        for group in (*sites[number].prefixes, *_steps(sites[number])):
            began.setdefault(group, number)

    def rank(number: int) -> list[_Rank]:
        site = sites[number]
        ranks: list[_Rank] = []
        for prefix, step in zip(site.prefixes, _steps(site), strict=True):
            sent = site.number if prefix == site.path else -1
            first = shown[began[prefix]] if sent < 0 else ""
            ranks.append((began[step], prefix.rpartition("|")[2].partition(":")[0], sent, first, began[prefix]))
        return [*ranks, (number, "", -1, "", number)]

    return sorted(kept, key=rank)


def _steps(site: CallSite) -> list[str]:
    """For each of the prefixes of a call site a name of its step: equal for tasks that ran side by side."""
    steps = []
    for prefix in site.prefixes:
        parent, _, task = prefix.rpartition("|")
        known = site.checkpoints.get(parent) if ":" in task else None
        steps.append(f"{parent}#{prefix if known is None else known}")
    return steps


def call_site() -> CallSite:
    """The LangGraph task this code runs in."""
    from langchain_core.runnables.config import var_child_runnable_config

    config = var_child_runnable_config.get() or {}
    metadata, configurable = config.get("metadata") or {}, config.get("configurable") or {}
    execution = getattr(configurable.get("__pregel_runtime"), "execution_info", None)
    task = metadata.get("langgraph_path", ())
    return CallSite(
        node=str(metadata.get("langgraph_node", "")),
        path=str(metadata.get("langgraph_checkpoint_ns", "")),
        step=int(metadata.get("langgraph_step", 0)),
        number=next((part for part in task if isinstance(part, int) and not isinstance(part, bool)), -1),
        attempt=int(getattr(execution, "node_attempt", 1)),
        checkpoints=dict(configurable.get("checkpoint_map") or {}),
    )


@dataclass(frozen=True, slots=True)
class PolicyCall:
    """One call of a trainable policy: its node ("" outside a graph), what was drawn, and how.

    `path` is LangGraph's checkpoint namespace: it tells parallel branches and subgraphs apart. `turn` counts the calls
    that the same node (under the same enclosing nodes) made in the episode, from 1.
    """

    node: str
    path: str
    generation: Generation
    sampling: Sampling
    turn: int = 1
    trace: Any = field(default=None, compare=False, repr=False)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes the call was made in, from the outermost graph's to `node`."""
        return nodes_on(self.path, self.node)

    @property
    def text(self) -> str:
        """What the policy wrote, decoded."""
        return self.generation["text"]

    def inside(self, names: Collection[str] | None) -> bool:
        """Whether one of its nodes has one of these names; True for None, which stands for all nodes."""
        return names is None or any(node in names for node in self.nodes)


@dataclass(frozen=True, slots=True)
class Draws:
    """How the calls of one episode are drawn, whatever the graph asks for.

    A graph in use may draw greedily, or with a seed of its own; to learn, its episodes must differ, at the one
    temperature at which log-probabilities are taken.

    Attributes:
        seed: of the episode; every call's seed is derived from it and from the call site.
        temperature: of the calls that learn; their top-p is 1. Other calls keep what the graph asks for, but for the
            seed.
        nodes: those whose calls learn; None is all.
    """

    seed: int
    temperature: float
    nodes: frozenset[str] | None = None

    def apply(self, sampling: Sampling, site: CallSite, shown: str, earlier: int) -> Sampling:
        """What to draw by, for the call after `earlier` others that were shown the same at the same call site."""
        seed = derive_seed(derive_seed(self.seed, zlib.crc32(f"{site.lasting_name} {shown}".encode())), earlier)
        if self.nodes is None or any(name in self.nodes for name in nodes_on(site.path, site.node)):
            _refuse_constrained(sampling, site)
            return replace(sampling, seed=seed, temperature=self.temperature, top_p=1.0)
        return sampling.with_seed(seed)


def _refuse_constrained(sampling: Sampling, site: CallSite) -> None:
    if sampling.json_schema is not None:
        raise GraphError(
            f"node {site.node!r} draws by a JSON schema: its log-probabilities are those of the constrained "
            "distribution, not the policy's, so it cannot learn from them; use constrained=False (the reply is parsed "
            "and validated all the same), or leave the node out of `trainable`"
        )


@dataclass(slots=True)
class OpenCall:
    """A call under way: draw by `sampling`, then `finish`."""

    sampling: Sampling
    site: CallSite = field(default_factory=CallSite)
    shown: str = ""
    generation: Generation | None = None
    span: CallSpan | None = None
    trace: Any = None
    """What a span of OpenTelemetry's links to, once the call is finished; None where nobody traces."""
    heard: "Callable[[OpenCall], None] | None" = None
    """Told of itself once it is finished."""
    begun: float = field(default_factory=time.perf_counter)
    over: float = 0.0

    def finish(self, generation: Generation) -> None:
        """Hand over what was drawn. A call that is never finished was cancelled, or failed, and is not recorded."""
        if self.span is not None:
            self.trace = self.span.end(generation)
        self.generation, self.over = generation, time.perf_counter()
        if self.heard is not None:
            self.heard(self)


@dataclass(slots=True)
class Recorder:
    """The calls of one episode.

    Attributes:
        policy: only this policy's calls are recorded; None records all.
        draws: overrules how the graph draws.
        others: how many calls other policies made.
        heard: told of every call that is finished, on the thread that finished it.
    """

    policy: Any = None
    draws: Draws | None = None
    heard: Callable[[OpenCall], None] | None = None
    others: int = 0
    _begun: list[OpenCall] = field(default_factory=list)
    _lock: Any = field(default_factory=Lock)

    def begin(self, sampling: Sampling, shown: str) -> OpenCall:
        """Note that a call begins, at the call site that is running; a policy calls it through `begin_call`.

        Args:
            sampling: as the call asks for.
            shown: the prompt, by which answers that must differ from each other are known.
        """
        site = call_site()
        with self._lock:  # synchronous nodes of one step run in threads
            if self.draws is not None:
                here = (site.lasting_name, shown)
                earlier = sum((call.site.lasting_name, call.shown) == here for call in self._begun)
                sampling = self.draws.apply(sampling, site, shown, earlier)
            call = OpenCall(sampling, site, shown, heard=self.heard)
            self._begun.append(call)
        return call

    @property
    def calls(self) -> list[PolicyCall]:
        """The finished calls; `order_of` tells in which order, and what is left out."""
        begun = [call for call in self._begun if call.generation is not None]
        turns: dict[tuple[str, ...], int] = {}
        calls = []
        for number in order_of([call.site for call in begun], [call.shown for call in begun]):
            call = begun[number]
            assert call.generation is not None
            nodes = nodes_on(call.site.path, call.site.node)
            turns[nodes] = turns.get(nodes, 0) + 1
            calls.append(
                PolicyCall(call.site.node, call.site.path, call.generation, call.sampling, turns[nodes], call.trace)
            )
        return calls

    @property
    def spans(self) -> list[tuple[float, float]]:
        """When the finished calls were under way: begin and end of each, by `time.perf_counter`."""
        return [(call.begun, call.over) for call in self._begun if call.generation is not None]

    @property
    def draws_made(self) -> int:
        """How many draws were finished, those included that `calls` leaves out."""
        return sum(call.generation is not None for call in self._begun)

    def forget_tasks(self, tasks: Collection[str]) -> None:
        """Leave out the calls of LangGraph tasks, by their ids: they will be made again."""
        with self._lock:
            self._begun = [call for call in self._begun if not call.site.inside_tasks(tasks)]


_recorder: ContextVar[Recorder | None] = ContextVar("selfcorrect_recorder", default=None)


@contextmanager
def recording(
    policy: Any = None, draws: Draws | None = None, heard: Callable[[OpenCall], None] | None = None
) -> Iterator[Recorder]:
    """Record every trainable policy call made inside the block, also from the nodes of a graph invoked in it.

    Args:
        policy: record this policy's calls only; None records those of all.
        draws: how its calls are drawn instead of how the graph asks for it.
        heard: told of every call that is finished.
    """
    recorder = Recorder(policy, draws, heard)
    token = _recorder.set(recorder)
    try:
        yield recorder
    finally:
        _recorder.reset(token)


def begin_call(
    policy: Any, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
) -> OpenCall:
    """Called by a trainable policy before it draws, with what it was given; the call is to be drawn by the `sampling`
    of the result.

    Where nobody records, that is the sampling that was asked for.
    """
    call = _begun(policy, messages, sampling, after)
    call.span = begin_span(policy, call.sampling, call_site().node)
    return call


def _begun(policy: Any, messages: Sequence[Message], sampling: Sampling, after: Generation | None) -> OpenCall:
    recorder = _recorder.get()
    if recorder is None:
        _unrecorded[policy] = _unrecorded.get(policy, 0) + 1
        return OpenCall(sampling)
    if recorder.policy is not None and recorder.policy is not policy:
        recorder.others += 1
        return OpenCall(sampling)
    return recorder.begin(sampling, _shown(messages, after))


_unrecorded: WeakKeyDictionary[Any, int] = WeakKeyDictionary()


def unrecorded_draws(policy: Any) -> int:
    """How often `policy` was called where nobody recorded, in this process: in use, or in a thread that a node started
    without its context."""
    return _unrecorded.get(policy, 0)


def is_recording() -> bool:
    """Whether calls made here are recorded."""
    return _recorder.get() is not None


def refuse_recording(policy: Any) -> None:
    """Raise where calls of `policy` are being recorded, for draws whose log-probabilities are not those to learn from.

    Raises:
        GraphError: they are.
    """
    recorder = _recorder.get()
    if recorder is not None and recorder.policy in (None, policy):
        raise GraphError(
            "answers drawn without replacement cannot be trained on: their probabilities are not the policy's; use "
            "`generate`, or a strategy without `distinct`, in graphs that are trained"
        )


def _shown(messages: Sequence[Message], after: Generation | None) -> str:
    """A text that differs where the policy is shown something else."""
    new = [_text_shown(message) for message in messages]
    return repr(new if after is None else (after["text"], after["prompt_ids"], after["completion_ids"], new))


def _text_shown(message: Message) -> str:
    """The content, and what else of the message a template shows."""
    more = [message[name] for name in ("tools", "tool_calls") if name in message]
    return f"{message['content']}{more}" if more else message["content"]


def calls_so_far() -> list[PolicyCall]:
    """The recorded calls of the episode that this code is part of, for nodes that want to look at their own past.

    Raises:
        GraphError: nobody records here: the code runs outside an episode, or in a thread that was started without its
            context.
    """
    recorder = _recorder.get()
    if recorder is None:
        raise GraphError(
            "no episode is being recorded here: call the policy from a node of the graph that is played; a thread of "
            "your own sees the episode only if it is started with contextvars.copy_context() or asyncio.to_thread"
        )
    return recorder.calls
