"""Where in a LangGraph run a policy is called, and in which order: the same in every run, whatever runs side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_Rank = tuple[int, str, int, str, int]


def nodes_on(path: str, node: str) -> tuple[str, ...]:
    """The node names in LangGraph's namespace "outer:id|inner:id"; some of its parts are mere counters."""
    return tuple(part.partition(":")[0] for part in path.split("|") if ":" in part) or ((node,) if node else ())


@dataclass(frozen=True, slots=True)
class Place:
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

    @property
    def prefixes(self) -> list[str]:
        """The paths of the enclosing tasks, outermost first, and its own."""
        parts = self.path.split("|")
        return ["|".join(parts[: end + 1]) for end in range(len(parts))]


def order_of(places: Sequence[Place], shown: Sequence[str]) -> list[int]:
    """Indices of `places`, which are listed as the calls began, in an order that only the graph decides.

    Step by step; each branch's calls together. Branches that run side by side come by node name, those of one name by the number of
    their `Send` or, inside subgraphs, which hide it, by what their first call was `shown`. Only branches that are alike even in
    that are left as they began. The calls of a task that failed and was tried again are left out: they reached nobody. (A whole
    subgraph that is tried again looks like one that is called twice.)
    """
    last_try: dict[str, int] = {}
    for place in places:
        last_try[place.path] = max(place.attempt, last_try.get(place.path, 1))
    kept = [number for number, place in enumerate(places) if place.attempt == last_try[place.path]]
    began: dict[str, int] = {}
    for number in kept:
        for group in (*places[number].prefixes, *_steps(places[number])):
            began.setdefault(group, number)

    def rank(number: int) -> list[_Rank]:
        place = places[number]
        ranks: list[_Rank] = []
        for prefix, step in zip(place.prefixes, _steps(place), strict=True):
            sent = place.number if prefix == place.path else -1
            first = shown[began[prefix]] if sent < 0 else ""
            ranks.append((began[step], prefix.rpartition("|")[2].partition(":")[0], sent, first, began[prefix]))
        return [*ranks, (number, "", -1, "", number)]

    return sorted(kept, key=rank)


def _steps(place: Place) -> list[str]:
    """For each of the place's prefixes a name of the step in which it ran: equal for tasks that ran side by side."""
    steps = []
    for prefix in place.prefixes:
        parent, _, task = prefix.rpartition("|")
        known = place.checkpoints.get(parent) if ":" in task else None
        steps.append(f"{parent}#{prefix if known is None else known}")
    return steps


def place_in_graph() -> Place:
    """The LangGraph task this code runs in."""
    from langchain_core.runnables.config import var_child_runnable_config

    config = var_child_runnable_config.get() or {}
    metadata, configurable = config.get("metadata") or {}, config.get("configurable") or {}
    execution = getattr(configurable.get("__pregel_runtime"), "execution_info", None)
    task = metadata.get("langgraph_path", ())
    return Place(
        node=str(metadata.get("langgraph_node", "")),
        path=str(metadata.get("langgraph_checkpoint_ns", "")),
        step=int(metadata.get("langgraph_step", 0)),
        number=next((part for part in task if isinstance(part, int) and not isinstance(part, bool)), -1),
        attempt=int(getattr(execution, "node_attempt", 1)),
        checkpoints=dict(configurable.get("checkpoint_map") or {}),
    )
