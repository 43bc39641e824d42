"""What a run of SCoRe's size needs, on paper: GPUs, hours, checker cores, disk, and what is the first bottleneck.

    python benchmarks/cluster.py                          # the table of docs/cluster.md
    python benchmarks/cluster.py --tokens 800 --judge 34  # other answers, another judge (ms of a core a verdict)

Arithmetic, not a measurement: a few costs that were measured on one GPU (`MEASURED`) are carried over to other sizes
by how they must grow, and what was never measured here is an assumption and named as one (`ASSUMED`). Hours are of
playing and learning; evaluations, starts and failures come on top.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

# Measured on one GPU, a learning step on an H100, decoding on an H200: see docs/cluster.md.


@dataclass(frozen=True)
class Costs:
    """What one GPU does.

    Attributes:
        layer_seconds: of a decoding step, one layer, beside reading the weights: launches and Python.
        flops: floating-point operations a second that a learning step reaches, everything in it counted.
        judge_seconds: of one core, a verdict.
        bandwidth: bytes a second that decoding reads weights and caches with.
        memory: bytes of one GPU that a process may fill.
        network: bytes a second in and out of a GPU, when gradients are added up.
        activations: bytes that a learning step takes beside weights and moments.
    """

    layer_seconds: float
    flops: float
    judge_seconds: float
    bandwidth: float = 3e12
    memory: float = 74 * 2**30
    network: float = 50e9
    activations: float = 12 * 2**30


MEASURED = Costs(layer_seconds=256 / 28_386 / 28, flops=1.6e14, judge_seconds=0.0061)
"""256 rows of 1.36 B parameters and 28 layers at 28,386 tokens a second; 128 episodes of some 150 tokens learnt from in
1.3 s; a program's tests in 6.1 ms of a core (answers in mathematics take 0.1 to 34)."""
ASSUMED = ("bandwidth", "memory", "network", "activations")
SERVER = 8
"""GPUs of one server, over which it divides a model (tensor parallelism)."""


@dataclass(frozen=True)
class Model:
    """Sizes of a dense model; `kv` is key/value heads x their width."""

    name: str
    parameters: float
    layers: int
    kv: int

    @property
    def cache_bytes(self) -> int:
        """Of one token, in bf16."""
        return 2 * 2 * self.layers * self.kv


MODELS = (
    Model("1.5 B", 1.54e9, 28, 2 * 128),  # Qwen2.5-1.5B
    Model("7 B", 7.62e9, 28, 4 * 128),  # Qwen2.5-7B
    Model("70 B", 70.6e9, 80, 8 * 128),  # Llama 3.1 70B
)


@dataclass(frozen=True)
class Load:
    """A run: SCoRe on MATH is 3,000 steps of 512 episodes (Table 8, v2). How long its prompts and answers are the paper
    does not say."""

    steps: int = 3000
    episodes: int = 512
    turns: int = 2
    prompt: int = 200
    tokens: int = 400
    kept_checkpoints: int = 3
    """Two of the newest, and one that is being written."""

    @property
    def row(self) -> int:
        """Tokens of an episode: each turn's prompt and answer."""
        return self.turns * (self.prompt + self.tokens)


@dataclass(frozen=True)
class Way:
    """How a model is trained, and on what.

    Attributes:
        gpus: all of them.
        lora: adapters on a bf16 base that every GPU has whole; else all weights, divided by FSDP2.
        served: half of the GPUs play, as servers of `SERVER` with the weights divided over them, and half learn, with
            weights that are divided from the beginning. Not built: it is what 70 B parameters would need.
    """

    gpus: int
    lora: bool = False
    served: bool = False

    @property
    def players(self) -> float:
        """Copies of the model that play."""
        return self.gpus / 2 / SERVER if self.served else self.gpus

    @property
    def learners(self) -> float:
        return self.gpus / 2 if self.served else self.gpus

    @property
    def words(self) -> str:
        return ("adapters" if self.lora else "all weights") + (", served" if self.served else "")


def memory_bytes(model: Model, load: Load, costs: Costs, way: Way) -> dict[str, float]:
    """What one GPU holds before the weights are divided, while playing, and while learning.

    All weights: float32 weights, gradients, two moments (16 bytes a parameter) and a float32 reference (4), divided by
    FSDP2; the weights are gathered in bf16 to play. Adapters: the bf16 base, which is the reference too.
    """
    held = 2 * model.parameters if way.lora else 20 * model.parameters / way.learners
    caches = load.episodes / way.players * load.row * model.cache_bytes
    if way.served:
        playing, loading = (2 * model.parameters + caches) / SERVER, 0.0
    else:
        gathered = 0.0 if way.lora or way.gpus == 1 else 2 * model.parameters
        playing, loading = held + gathered + caches, (2 if way.lora else 8) * model.parameters
    return {"loading": loading, "playing": playing, "learning": held + costs.activations}


def too_large(model: Model, load: Load, costs: Costs, way: Way) -> str:
    """ "" where it fits into the GPUs, else what does not."""
    needs = memory_bytes(model, load, costs, way)
    return next((f"{size / 2**30:.0f} GiB a GPU {name}" for name, size in needs.items() if size > costs.memory), "")


def step_seconds(model: Model, load: Load, costs: Costs, way: Way) -> dict[str, float]:
    """The parts of one training step, in seconds.

    Playing: every token of a turn is one decoding step for all rows of a player at once; it lasts as long as its
    launches or as reading the weights and, on average, half of the caches. Learning: 6 operations a parameter and token
    (4 with adapters, whose base gets no gradient), and 2 for the reference's scores. Network: gradients, added up
    around a ring.
    """
    rows = load.episodes / way.players
    read = (2 * model.parameters + rows * load.row / 2 * model.cache_bytes) / costs.bandwidth
    decoding = max(costs.layer_seconds * model.layers, read / (SERVER if way.served else 1))
    operations = (4 if way.lora else 6) + 2
    sent = 0.0 if way.lora or way.learners == 1 else 2 * 4 * model.parameters * (way.learners - 1) / way.learners
    return {
        "playing": load.turns * load.tokens * decoding,
        "learning": operations * model.parameters * load.episodes / way.learners * load.row / costs.flops,
        "network": sent / costs.network,
    }


def checker_cores(load: Load, costs: Costs, seconds: float) -> float:
    """Cores that judge as fast as a step of `seconds` asks, all GPUs' answers together."""
    return load.episodes * load.turns * costs.judge_seconds / seconds


def disk_bytes(model: Model, load: Load, *, lora: bool) -> float:
    """Of checkpoints (float32 weights and two moments, or adapters and theirs: 1 % of the weights) and the model."""
    learnt = 0.01 * model.parameters if lora else model.parameters
    return 12 * learnt * load.kept_checkpoints + (2 if lora else 4) * model.parameters


def row(model: Model, load: Load, costs: Costs, way: Way) -> Mapping[str, str]:
    """One line of the table."""
    parts = step_seconds(model, load, costs, way)
    seconds = sum(parts.values())
    hours = load.steps * seconds / 3600
    slowest = max(parts, key=lambda name: parts[name])
    line = {
        "model": model.name,
        "trained": way.words,
        "GPUs": str(way.gpus),
        "hours": f"{hours:,.0f}",
        "GPU hours": f"{hours * way.gpus:,.0f}",
        "cores": f"{math.ceil(checker_cores(load, costs, seconds))}",
        "disk, GB": f"{disk_bytes(model, load, lora=way.lora) / 1e9:,.0f}",
        "first bottleneck": f"{slowest}, {parts[slowest] / seconds:.0%} of a step",
    }
    if wrong := too_large(model, load, costs, way):
        line |= dict.fromkeys(("hours", "GPU hours", "cores", "disk, GB"), "-") | {
            "first bottleneck": f"memory, {wrong}"
        }
    return line


def ways(model: Model, gpus: Sequence[int]) -> list[Way]:
    """Those of the table: a model that no GPU can load is also reckoned as if it were served."""
    plain = [Way(count, lora=lora) for lora in (False, True) for count in gpus]
    return plain if model.parameters < 30e9 else [*plain, Way(64, served=True), Way(128, served=True)]


def table(load: Load, costs: Costs, gpus: Sequence[int]) -> str:
    """The whole table, in Markdown."""
    rows = [row(model, load, costs, way) for model in MODELS for way in ways(model, gpus)]
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(line.values()) for line in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--tokens", type=int, default=Load.tokens, help="of an answer")
    parser.add_argument("--prompt", type=int, default=Load.prompt, help="tokens that a turn is shown anew")
    parser.add_argument("--judge", type=float, default=1000 * MEASURED.judge_seconds, help="ms of a core, a verdict")
    parser.add_argument("--layer", type=float, default=1000 * MEASURED.layer_seconds, help="ms of a decoding step")
    asked = parser.parse_args()
    costs = replace(MEASURED, judge_seconds=asked.judge / 1000, layer_seconds=asked.layer / 1000)
    print(table(Load(tokens=asked.tokens, prompt=asked.prompt), costs, asked.gpus))


if __name__ == "__main__":
    main()
