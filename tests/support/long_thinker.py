"""A policy that thinks in numbered steps, for episodes that are killed and taken up again.

As a program (`python long_thinker.py FOLDER KILLS SEED`) it plays episodes in child processes and kills each with
SIGKILL at a random moment, until it has killed KILLS of them; an episode is started again until it ends. It prints what
came of every episode.
"""

import asyncio
import hashlib
import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfcorrect.agents.policy import Policy, Sampling
from selfcorrect.agents.solving.solve import Solution, policy_loop, solve
from selfcorrect.agents.state import Generation, Message
from selfcorrect.agents.stopping import Budget
from selfcorrect.rewards.checker import Status, Verdict

TURNS = 12
PROBLEM = "think"


class LongThinker(Policy):
    """Writes "step N HASH", where the hash is that of all it was shown and of its seed; notes every call in a file."""

    def __init__(self, notes: Path, *, seconds: float = 0.0) -> None:
        self.notes = notes
        self.seconds = seconds

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        assert after is None, "the window shows whole conversations to policies without token ids"
        said = [message["content"] for message in messages if message["role"] == "assistant"]
        number = int(re.findall(r"step (\d+)", said[-1])[0]) + 1 if said else 1
        self.note(f"call {number}")
        await asyncio.sleep(self.seconds)
        digest = hashlib.blake2b(f"{messages} {sampling.seed}".encode(), digest_size=6).hexdigest()
        return Generation(
            text=f"step {number} {digest}", messages=list(messages), prompt_ids=[], completion_ids=[], logprobs=[],
            finish_reason="stop",
        )  # fmt: skip

    def note(self, line: str) -> None:
        with self.notes.open("a") as file:
            file.write(f"{line}\n")


class NeverRight:
    """Judges every answer wrong, so that there is a step of the graph between two turns."""

    async def check(self, response: str, reference: Any) -> Verdict:
        return Verdict(Status.WRONG, reason=f"not {response}")

    def check_sync(self, response: str, reference: Any) -> Verdict:
        return Verdict(Status.WRONG)

    def validate_reference(self, reference: Any) -> str | None:
        return None


async def think(thinker: LongThinker, store: Path | None, *, turns: int = TURNS, thread: str = "t") -> Solution:
    graph = policy_loop(thinker, critique="feedback", checker=NeverRight())
    return await solve(PROBLEM, graph, budget=Budget(turns=turns), checkpointer=store, thread_id=thread)


def saved_turns(store: Path) -> int:
    """How many turns the file holds, read by LangGraph's own synchronous saver.

    Between two checkpoints a turn can be stored as the result of a node that is not yet part of the state.
    """
    import sqlite3

    from langgraph.checkpoint.sqlite import SqliteSaver

    if not store.exists():
        return 0
    connection = sqlite3.connect(store)
    try:
        found = SqliteSaver(connection).get_tuple({"configurable": {"thread_id": "t"}})
        if found is None:
            return 0
        results = [value for _, channel, value in found.pending_writes or [] if channel == "turns"]
        return len(found.checkpoint["channel_values"].get("turns", [])) + sum(
            len(value) for value in results if isinstance(value, list)
        )
    finally:
        connection.close()


def main(folder: Path, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    episodes: list[dict[str, Any]] = []
    killed = 0
    while killed < kills:
        place = folder / f"episode{len(episodes)}"
        place.mkdir()
        runs: list[int] = []
        while True:
            saved = saved_turns(place / "store.sqlite")
            runs.append(saved)
            delay = rng.uniform(0, 0.25) if killed < kills else None
            with (place / "notes").open("a") as file:
                file.write(f"run {saved}\n")
            if _play_and_kill(place, delay):
                killed += 1
            else:
                break
        notes = (place / "notes").read_text().splitlines()
        episodes.append({"solution": json.loads((place / "solution").read_text()), "notes": notes})
    print(json.dumps({"kills": killed, "episodes": episodes}))


def _play_and_kill(place: Path, delay: float | None) -> bool:
    """Play in a child; True if it was killed before it ended."""
    child = os.fork()
    if child == 0:
        solution = asyncio.run(think(LongThinker(place / "notes", seconds=0.003), place / "store.sqlite"))
        done = {"answer": solution.answer, "turns": [turn["generation"]["text"] for turn in solution.turns]}
        (place / "solution.part").write_text(json.dumps(done))
        (place / "solution.part").rename(place / "solution")
        os._exit(0)
    if delay is not None:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        assert status == 0, f"the child failed with status {status}"
    return os.WIFSIGNALED(status)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
