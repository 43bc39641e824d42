"""Episodes as people read them: texts and verdicts, no token ids."""

from collections.abc import Mapping
from typing import Any

from selfcorrect.agents.state import EpisodeState, Turn


def readable_episode(state: EpisodeState, *, policy: str) -> dict[str, Any]:
    """One row of episodes.jsonl; `policy` says who played: "before" or "after"."""
    problem: Mapping[str, Any] = state["problem"]
    return {
        "id": problem["id"],
        "policy": policy,
        "prompt": problem["prompt"],
        "reference": problem["reference"],
        "turns": [_readable_turn(turn) for turn in state.get("turns", [])],
        "stop_reason": state.get("stop_reason", ""),
    }


def _readable_turn(turn: Turn) -> dict[str, Any]:
    verdict = turn["verdict"]
    row: dict[str, Any] = {"role": turn["role"], "text": turn["generation"]["text"]}
    if verdict is not None:
        row |= {"verdict": verdict["status"], "answer": verdict["answer"], "reason": verdict["reason"]}
    return row
