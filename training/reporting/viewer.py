"""`selfcorrect view`: the stored episodes of one run or two as a page for reading, or as traces that others read.

The page needs no network. Whatever a model wrote is data in it, never markup: JSON whose "<", ">" and "&" are escaped,
which its script puts into the page as text.
"""

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from selfcorrect.bars import no_unseen_bars
from selfcorrect.errors import ConfigurationError
from selfcorrect.files import finite, json_line, row_or_none
from selfcorrect.training.reporting.rows import kind_of, render

Row = dict[str, Any]

_FILES = ("episodes.jsonl", "training_episodes.jsonl")
_OUTCOMES = {
    "fixed": "mended",
    "broken": "spoilt",
    "stayed correct": "unchanged",
    "stayed incorrect": "unchanged",
    "unjudged": "unjudged",
    "rewarded": "rewarded",
}
_DIGITS = 4
"""Of log-probabilities and advantages on the page; exports have all."""


def stored_rows(run: Path) -> list[Row]:
    """All episodes that a run's folder keeps, held-out ones first. Lines torn by a crash are left out.

    Raises:
        ConfigurationError: there are none.
    """
    rows: list[Row] = []
    for path in (run / name for name in _FILES):
        if path.is_file():
            lines = path.read_text(encoding="utf-8").split("\n")
            rows += [row for line in lines if (row := row_or_none(line, "turns")) is not None]
    if not run.is_dir():
        raise ConfigurationError(f"{run} is {'a file, no folder of a run' if run.exists() else 'not there'}")
    if not rows:
        raise ConfigurationError(
            f"{run} keeps no episodes: there is neither {_FILES[0]}, which a finished run and `selfcorrect eval --out` "
            f"write, nor {_FILES[1]}, which optimiser.store_episodes above 0 writes at every step"
        )
    return rows


def viewer_page(runs: Sequence[Path]) -> str:
    """One HTML page with the episodes of `runs`; raises as `stored_rows` does."""
    names = [_short(run) for run in runs]
    if len(set(names)) < len(names):
        names = [str(run) for run in runs]
    shown = [_shown(row, name) for run, name in zip(runs, names, strict=True) for row in stored_rows(run)]
    return render("viewer.html", title=" and ".join(names), episodes=script_json(shown))


def _short(run: Path) -> str:
    return run.resolve().name


def script_json(value: Any) -> Markup:
    """JSON that may stand in a script element: nothing in it can end the element or begin another."""
    text = json.dumps(finite(value), ensure_ascii=False, separators=(",", ":"))
    for character, escape in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(character, escape)
    return Markup(text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _shown(row: Mapping[str, Any], run: str) -> Row:
    """An episode as the page has it: short names, and of numbers as many digits as can be seen."""
    kind = kind_of(row)
    return {
        "run": run,
        "who": row.get("policy", ""),
        "step": row.get("step"),
        "id": str(row["id"]),
        "prompt": str(row["prompt"]),
        "reference": row.get("reference"),
        "outcome": _OUTCOMES[kind],
        "kind": kind,
        "reward": reward_of(row),
        "stop": row.get("stop_reason", ""),
        "turns": [_shown_turn(turn) for turn in row["turns"]],
    }


def reward_of(row: Mapping[str, Any]) -> float | None:
    """What the last paid call was paid; where nothing was paid, 1 or 0 by the last verdict, None if nobody judged."""
    for turn in reversed(row["turns"]):
        if turn.get("reward") is not None:
            return float(turn["reward"])
    scores = {"correct": 1.0, "wrong": 0.0, "unreadable": 0.0}
    verdicts = [turn["verdict"] for turn in row["turns"] if turn.get("verdict")]
    return scores.get(verdicts[-1]) if verdicts else None


def _shown_turn(turn: Mapping[str, Any]) -> Row:
    tokens = turn.get("tokens") or {}
    shown: Row = {
        "role": turn["role"],
        "path": turn.get("path") or [turn.get("node") or turn["role"]],
        "text": turn["text"],
        **{name: turn[name] for name in ("verdict", "reason", "reward", "prompt", "learns") if name in turn},
    }
    if tokens:
        shown |= {"pieces": tokens["pieces"], "ids": tokens["ids"], "lp": _rounded(tokens.get("logprobs"))}
        shown["adv"] = _rounded(tokens.get("advantages"))
    return shown


def _rounded(values: Sequence[float] | None) -> list[float] | None:
    return None if not values else [round(value, _DIGITS) for value in values]


# Exports.


def export(kind: str, runs: Sequence[Path]) -> Iterator[str]:
    """The lines of an export: "verifiers" is its traces.jsonl, "otel" spans by OpenTelemetry's GenAI conventions.

    Raises:
        ConfigurationError: there is no such export, or a run keeps no episodes.
    """
    if kind not in _EXPORTS:
        raise ConfigurationError(f"there is no export {kind!r}; there are {', '.join(_EXPORTS)} and datasets")
    for run in runs:
        for number, row in enumerate(stored_rows(run)):
            for record in _EXPORTS[kind](row, _short(run), number):
                yield json_line(record)


def save_dataset(runs: Sequence[Path], folder: Path) -> None:
    """Write all episodes of `runs` as a `datasets.Dataset`, one row each; `datasets.load_from_disk(folder)` reads it.

    The columns are those of `_columns`; a reference is JSON text, since tasks differ in what theirs are. Tokens keep
    every digit; a turn whose tokens were not stored has null there.

    Raises:
        ConfigurationError: `folder` holds something, or a run keeps no episodes.
    """
    from datasets import Dataset

    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ConfigurationError(f"{folder} is not empty; a data set has a folder of its own")
    rows = [_dataset_row(row, _short(run)) for run in runs for row in stored_rows(run)]
    with no_unseen_bars():
        Dataset.from_list(rows, features=_columns()).save_to_disk(str(folder))


_TURN_TEXTS = ("role", "node", "text", "verdict", "answer", "reason")
_TOKEN_NUMBERS = {"prompt_ids": "int64", "ids": "int64", "logprobs": "float64", "advantages": "float64"}


def _dataset_row(row: Row, run: str) -> Row:
    told: Row = {name: row.get(name) for name in ("policy", "step", "prompt", "stop_reason")}
    told |= {"id": str(row["id"]), "run": run, "outcome": kind_of(row), "reward": reward_of(row)}
    told["reference"] = json.dumps(row.get("reference"), ensure_ascii=False)
    return {**told, "turns": [_dataset_turn(turn) for turn in row["turns"]]}


def _dataset_turn(turn: Mapping[str, Any]) -> Row:
    tokens = turn.get("tokens") or {}
    texts = {name: None if turn.get(name) is None else str(turn[name]) for name in _TURN_TEXTS}
    numbers = {name: tokens.get(name) for name in _TOKEN_NUMBERS}
    return {**texts, "reward": turn.get("reward"), "after": turn.get("after"), **numbers}


def _columns() -> Any:
    """What a row of the data set holds; `after` is the turn whose tokens a turn's prompt goes on from, or null."""
    from datasets import Features, Value

    turn: Row = {name: Value("string") for name in _TURN_TEXTS}
    turn |= {"reward": Value("float64"), "after": Value("int64")}
    turn |= {name: [Value(kind)] for name, kind in _TOKEN_NUMBERS.items()}
    texts = ("run", "policy", "id", "prompt", "reference", "outcome", "stop_reason")
    whole: Row = {name: Value("string") for name in texts}
    return Features({**whole, "step": Value("int64"), "reward": Value("float64"), "turns": [turn]})


def _name(*parts: Any) -> str:
    """The same 32 hexadecimal digits for the same episode of the same run."""
    return uuid.UUID(bytes=hashlib.sha256(repr(parts).encode()).digest()[:16]).hex


def _verifiers_episode(row: Row, run: str, number: int) -> Iterator[Row]:
    """An `Episode` of verifiers 0.4 with its one `Trace`: every token with mask, log-probability and advantage, no
    digit less than was stored. Prompts are nodes of their own, as are answers; what a call saw again is its parent."""
    task = {
        "type": "SelfCorrectTask",
        "data": {"idx": number, "name": str(row["id"]), "prompt": row["prompt"], "answer": row.get("reference")},
    }
    nodes: list[Row] = []
    ends: list[int] = []
    calls: list[Row] = []
    for turn in row["turns"]:
        after = turn.get("after")
        parent = None if after is None else ends[after]
        tokens = turn.get("tokens") or {}
        prompt_ids, ids = tokens.get("prompt_ids", []), tokens.get("ids", [])
        asked = {"role": "user", "content": turn.get("prompt", row["prompt"])}
        nodes.append(_node(parent, asked, prompt_ids, [False] * len(prompt_ids)))
        said = _node(len(nodes) - 1, {"role": "assistant", "content": turn["text"]}, ids, [True] * len(ids))
        said |= {"sampled": True, "logprobs": tokens.get("logprobs", [])}
        if "advantages" in tokens:
            said["advantages"] = tokens["advantages"]
        nodes.append(said)
        ends.append(len(nodes) - 1)
        calls.append({"node": len(nodes) - 1})
    reward = reward_of(row)
    paid = {f"{at} {turn['role']}": turn.get("reward") for at, turn in enumerate(row["turns"], 1)}
    trace: Row = {
        "id": _name(run, number, row["id"], "trace"),
        "task": task,
        "agent": {"config": {}},
        "nodes": nodes,
        "calls": calls,
        "rewards": {} if reward is None else {"reward": {"score": reward}},
        "metrics": {name: value for name, value in paid.items() if value is not None},
        "info": {"selfcorrect": _told(row, run)},
        "is_completed": True,
        "ok": True,
        "stop_condition": row.get("stop_reason") or None,
    }
    yield {
        "id": _name(run, number, row["id"]),
        "env": {"id": "selfcorrect"},
        "task": task,
        "ok": True,
        "traces": [trace],
    }


def _node(parent: int | None, message: Row, ids: Sequence[int], mask: Sequence[bool]) -> Row:
    return {"parent": parent, "message": message, "token_ids": list(ids), "mask": list(mask), "timestamp": 0.0}


def _told(row: Mapping[str, Any], run: str) -> Row:
    """What verifiers has no place for: where the episode is from, and nodes, verdicts and reasons of its turns."""
    names = ("role", "node", "path", "verdict", "answer", "reason", "reward", "learns")
    turns = [{name: turn[name] for name in names if name in turn} for turn in row["turns"]]
    return {"run": run, "policy": row.get("policy"), "step": row.get("step"), "outcome": kind_of(row), "turns": turns}


def _spans(row: Row, run: str, number: int) -> Iterator[Row]:
    """A span "invoke_agent" of the episode, and a span "chat" of each of its calls. When they were is not stored: the
    n-th call takes the n-th second, so that viewers put them in order."""
    trace = _name(run, number, row["id"])
    root = _name(trace, "episode")[:16]
    shared = {"selfcorrect.problem": str(row["id"]), "selfcorrect.policy": row.get("policy"), "selfcorrect.run": run}
    shared |= {"selfcorrect.step": row.get("step"), "gen_ai.provider.name": "selfcorrect"}
    whole = {"gen_ai.operation.name": "invoke_agent", "selfcorrect.reward": reward_of(row)}
    whole |= {"selfcorrect.outcome": kind_of(row)}
    yield _span(trace, root, None, "invoke_agent selfcorrect", (0, len(row["turns"])), shared | whole)
    for at, turn in enumerate(row["turns"]):
        tokens = turn.get("tokens") or {}
        told = {f"selfcorrect.{name}": turn.get(name) for name in ("node", "verdict", "reason", "reward")}
        told |= {"gen_ai.operation.name": "chat", "selfcorrect.turn": at + 1}
        told["gen_ai.input.messages"] = _message("user", turn.get("prompt", row["prompt"]))
        told["gen_ai.output.messages"] = _message("assistant", turn["text"])
        if tokens:
            told["gen_ai.usage.output_tokens"] = len(tokens["ids"])
            told |= {f"selfcorrect.{name}": tokens.get(name) for name in ("logprobs", "advantages")}
        name = f"chat {turn.get('node') or turn['role']}"
        yield _span(trace, _name(trace, at)[:16], root, name, (at, at + 1), shared | told)


def _message(role: str, text: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}], ensure_ascii=False)


def _span(trace: str, span: str, parent: str | None, name: str, time: tuple[int, int], attributes: Row) -> Row:
    begin, end = (second * 1_000_000_000 for second in time)
    known = {key: value for key, value in attributes.items() if value is not None}
    ids = {"trace_id": trace, "span_id": span, "parent_id": parent}
    return {"name": name, **ids, "start_time_unix_nano": begin, "end_time_unix_nano": end, "attributes": known}


_EXPORTS = {"verifiers": _verifiers_episode, "otel": _spans}
