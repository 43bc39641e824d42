"""kill -9 at random moments of everything that runs for long: it goes on, and ends bit-equal to one that nobody killed.

    python benchmarks/kills.py --what score,own,sqlite,postgres --kills 50

`score` is a run of `train_score`, `own` one of `train` on a graph of one's own, `sqlite` and `postgres` are episodes of
`solve` in such a store (the Postgres server is started in a temporary folder; without one, `postgres` is skipped and
says so). Each is played by a child process, which is killed at a moment drawn from the whole length of an undisturbed
one, and started again, up to four times; then it is left to its end. The policy is a random model of 20,000 weights.
"""

import argparse
import hashlib
import importlib
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from local_server import postgres_server, why_no_postgres

KINDS = ("score", "own", "sqlite", "postgres")
TURNS, SEED, STEPS = 24, 5, 6
KILLS_OF_ONE = 4
_ROUNDING = 1e-4
_PATIENCE = 120.0
"""Seconds until what a killed process started has to be gone too."""


Outcome = tuple[Any, list[float]]
"""What must be equal to the bit, and log-probabilities: those of a prompt that is read anew, where the one that nobody
killed went on from its cache, are the same sums in another order."""


class Game(TypedDict, total=False):
    """The state of the graph of one's own."""

    question: str
    answer: str


def tiny_policy(folder: Path) -> None:
    """Write a random Llama with the Countdown tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from selfcorrect.training.pretraining.second_looks import make_tokenizer, vocabulary

    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary()), max_position_embeddings=256, tie_word_embeddings=True, **sizes, **ends
        )
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


# What is played, each to its end or from where it was killed, and what must not depend on kills.


def play_score(model: Path, out: Path, store: str) -> None:
    from selfcorrect.training.arms.reinforced import train_score
    from selfcorrect.training.settings import (
        EvaluationSettings,
        OptimiserSettings,
        PolicySettings,
        RunSettings,
        ScoreSettings,
    )

    settings = RunSettings(
        policy=PolicySettings(model=str(model), max_new_tokens=6),
        score=ScoreSettings(stage_one_steps=STEPS // 2, stage_two_steps=STEPS - STEPS // 2),
        optimiser=OptimiserSettings(problems_per_step=4, episodes_per_problem=2, learning_rate=1e-3),
        evaluation=EvaluationSettings(problems=8),
        save_every=1,
    )
    train_score(settings, out=out, resume=(out / "config.yaml").is_file())


def play_own(model: Path, out: Path, store: str) -> None:
    from langgraph.graph import END, START, StateGraph

    from selfcorrect.agents.policies.transformers import TransformersPolicy
    from selfcorrect.agents.policy import Sampling
    from selfcorrect.agents.state import Message
    from selfcorrect.tasks.countdown import CountdownTask
    from selfcorrect.training.own_graph import train
    from selfcorrect.training.ppo.config import TurnPPOConfig

    policy = TransformersPolicy.from_pretrained(model, max_new_tokens=12)

    async def write(state: Game) -> Game:
        generation = await policy.generate([Message(role="user", content=state["question"])], Sampling())
        return {"answer": generation["text"]}

    graph = StateGraph(Game).add_node("write", write).add_edge(START, "write").add_edge("write", END).compile()
    train(
        graph,
        CountdownTask(3),
        policy=policy,
        reward_fn=lambda state, calls: [float("=" in call.text) + len(call.text) / 100 for call in calls],
        inputs=lambda problem: {"question": problem.prompt},
        config=TurnPPOConfig(
            output_dir=out, steps=STEPS, save_every=1, problems_per_step=4, episodes_per_problem=4, learning_rate=1e-3
        ),
        held_out=list(CountdownTask(3).problems("test", 4, seed=0)),
        resume=(out / "config.yaml").is_file(),
    )


def trained(out: Path) -> Outcome:
    """The weights, and the figures but for times."""
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    timeless = [{name: value for name, value in step.items() if not _tells_time(name)} for step in steps]
    final = json.loads((out / "metrics.json").read_text())
    weights = hashlib.sha256((out / "model" / "model.safetensors").read_bytes()).hexdigest()
    return [weights, timeless, final["before"], final["after"]], []


def _tells_time(name: str) -> bool:
    return "second" in name or name in ("step_time", "judging_share", "peak_gib") or "memory" in name


def play_solve(model: Path, out: Path, store: str) -> None:
    from selfcorrect.agents.policies.transformers import TransformersPolicy
    from selfcorrect.agents.prompts import COUNTDOWN
    from selfcorrect.agents.solving.solve import policy_loop, solve_sync
    from selfcorrect.agents.stopping import Budget

    policy = TransformersPolicy.from_pretrained(model, max_new_tokens=8)
    loop = policy_loop(Noting(policy, out / "turns.txt"), critique="instruction", prompts=COUNTDOWN)
    address = store or str(out / "store.sqlite")
    with (out / "turns.txt").open("a") as file:
        file.write("run\n")
    budget = Budget(turns=TURNS)
    solution = solve_sync("3 5 7 get 56", loop, budget=budget, checkpointer=address, thread_id=out.name, seed=SEED)
    turns = [turn["generation"] for turn in solution.turns]
    told = [[turn["text"], turn["completion_ids"], turn["logprobs"]] for turn in turns]
    (out / "part.json").write_text(json.dumps([solution.answer, told]))
    (out / "part.json").rename(out / "solution.json")


class Noting:
    """Writes down which turn is being drawn, which its seed tells, before it is drawn."""

    def __init__(self, policy: Any, path: Path) -> None:
        from selfcorrect.agents.policy import derive_seed

        self._policy, self._path = policy, path
        self._turn_of = {derive_seed(SEED, turn): turn for turn in range(TURNS)}

    async def generate(self, messages: Any, sampling: Any, *, after: Any = None) -> Any:
        with self._path.open("a") as file:
            file.write(f"{self._turn_of[sampling.seed]}\n")
        return await self._policy.generate(messages, sampling, after=after)


def solved(out: Path) -> Outcome:
    """The answer, every turn's text and ids, and the log-probabilities; once it is sure that no stored turn was paid
    again."""
    last = -1
    for run in (out / "turns.txt").read_text().split("run\n")[1:]:
        drawn = [int(line) for line in run.split()]
        if drawn and (drawn[0] not in (last, last + 1) or drawn != list(range(drawn[0], drawn[-1] + 1))):
            raise RuntimeError(f"after turn {last} these were drawn: {drawn}")
        last = drawn[-1] if drawn else last
    answer, told = json.loads((out / "solution.json").read_text())
    return [answer, [turn[:2] for turn in told]], [logprob for turn in told for logprob in turn[2]]


# Killing.


@dataclass
class Tally:
    """What came of one kind."""

    kills: int = 0
    runs: int = 0
    bit_equal: bool = True
    """Texts and token ids, or weights and figures."""
    logprob_deviation: float = 0.0
    """The largest difference of a recorded log-probability."""
    seconds_undisturbed: float = 0.0
    killed_after: list[float] = field(default_factory=list)
    """Shares of an undisturbed run's length."""


@dataclass(frozen=True)
class Kind:
    """How one kind is played in a folder, and what its end is compared by."""

    play: Callable[[Path, Path, str], None]
    outcome: Callable[[Path], Outcome]
    store: str = ""


def played(kind: Kind, model: Path, out: Path, kill_after: float | None = None) -> bool:
    """Play in a child process; whether it came to its end before it was killed."""
    child = os.fork()
    if child == 0:
        _be_the_child(kind, model, out)
    try:
        end = None if kill_after is None else time.monotonic() + kill_after
        while True:
            done, status = os.waitpid(child, 0 if end is None else os.WNOHANG)
            if done:
                break
            if end is not None and time.monotonic() >= end:
                os.kill(child, signal.SIGKILL)
                end = None
            time.sleep(0.002)
    finally:
        _refuse_orphans(child)
    if not os.WIFSIGNALED(status) and status:
        raise RuntimeError(f"a run failed: {(out / 'said.txt').read_text()[-3000:]}")
    return not os.WIFSIGNALED(status)


def _be_the_child(kind: Kind, model: Path, out: Path) -> None:
    status = 1
    try:
        os.setsid()
        out.mkdir(exist_ok=True)
        said = os.open(out / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(said, 1)
        os.dup2(said, 2)
        kind.play(model, out, kind.store)
        status = 0
    finally:
        if status:
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(status)


def _refuse_orphans(session: int) -> None:
    """Wait until nothing is left of what a child has started."""
    end = time.monotonic() + _PATIENCE
    while left := [process for process in psutil.process_iter() if _session(process.pid) == session]:
        if time.monotonic() > end:
            raise RuntimeError(f"a killed run has left processes behind: {left}")
        time.sleep(0.02)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1


def killed(kind: Kind, model: Path, folder: Path, kills: int, dice: random.Random) -> Tally:
    """Kill `kills` times in as many runs as that takes, and compare each run's end with that of an undisturbed one."""
    folder.mkdir()
    began = time.monotonic()
    played(kind, model, folder / "whole")
    tally = Tally(seconds_undisturbed=round(time.monotonic() - began, 2))
    expected, logprobs = kind.outcome(folder / "whole")
    while tally.kills < kills:
        out = folder / f"run{tally.runs}"
        for _ in range(min(KILLS_OF_ONE, kills - tally.kills)):
            moment = dice.random()
            if played(kind, model, out, moment * tally.seconds_undisturbed):
                break
            tally.kills += 1
            tally.killed_after.append(round(moment, 2))
        else:
            played(kind, model, out)
        tally.runs += 1
        outcome, others = kind.outcome(out)
        apart = max((abs(one - other) for one, other in zip(logprobs, others, strict=False)), default=0.0)
        tally.logprob_deviation = max(tally.logprob_deviation, apart)
        if outcome != expected or apart > _ROUNDING:
            raise RuntimeError(f"{out} ended otherwise than the one that nobody killed: {outcome} is not {expected}")
    return tally


@contextmanager
def named(what: str) -> Iterator[Kind]:
    """The kind of that name, its server running."""
    with postgres_server() if what == "postgres" else nullcontext("") as store:
        kinds = {"score": (play_score, trained), "own": (play_own, trained)}
        play, outcome = kinds.get(what, (play_solve, solved))
        yield Kind(play, outcome, store)


_NEEDED = (
    "langgraph.checkpoint.postgres.aio",
    "langgraph.checkpoint.sqlite.aio",
    "trl",
    "selfcorrect.agents.solving.solve",
    "selfcorrect.training.arms.reinforced",
    "selfcorrect.training.own_graph_run",
)
"""What the children need, imported once before any of them is forked."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--what", default=",".join(KINDS), help="of " + ", ".join(KINDS))
    parser.add_argument("--kills", type=int, default=50, help="of each")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    asked = chosen.what.split(",")
    if unknown := set(asked) - set(KINDS):
        parser.error(f"--what knows {', '.join(KINDS)}, not {', '.join(sorted(unknown))}")
    for module in _NEEDED:
        importlib.import_module(module)
    dice = random.Random(chosen.seed)
    told: dict[str, Any] = {}
    with TemporaryDirectory() as made:
        model = Path(made) / "model"
        played(Kind(lambda to, out, store: tiny_policy(to), lambda out: (None, [])), model, Path(made) / "making")
        for what in asked:
            if what == "postgres" and (reason := why_no_postgres()):
                told[what] = {"skipped": reason}
                continue
            with named(what) as kind:
                told[what] = asdict(killed(kind, model, Path(made) / what, chosen.kills, dice))
            print(what, json.dumps(told[what]), file=sys.stderr, flush=True)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
