"""`eval --out` where it is stopped in the middle: what was played is kept, and the same command goes on."""

import json
import re
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from selfcorrect.agents.evaluation import evaluate
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.prompts import PLAIN
from selfcorrect.agents.state import Message
from selfcorrect.agents.unfinished import UnfinishedEvaluation, digest_of_problems, digest_of_weights
from selfcorrect.errors import ConfigurationError, SelfCorrectError
from selfcorrect.rewards.maths import MathChecker
from selfcorrect.tasks.problem import Problem

BROKEN = "the server is gone"


class Breaks:
    """Answers n + n for the prompt "n + n", right in the revisions of even n only; raises at prompts of `at`. What it
    was asked is in `asked`."""

    def __init__(self, at: frozenset[int] = frozenset()) -> None:
        self.at, self.asked = at, []  # type: ignore[var-annotated]

    async def generate(self, messages: Sequence[Message], sampling: Any, *, after: Any = None) -> Any:
        said = [message for message in (*(after["messages"] if after else ()), *messages) if message["role"] == "user"]
        number = int(re.findall(r"(\d+) \+", said[0]["content"])[-1])
        if number in self.at:
            raise ConnectionError(BROKEN)
        self.asked.append(number)
        right = after is not None and number % 2 == 0
        return {
            "text": str(2 * number if right else number + 1000),
            "messages": said, "prompt_ids": [], "completion_ids": [], "logprobs": [], "finish_reason": "stop",
            "usage": {"input_tokens": 3, "output_tokens": number + 1},
        }  # fmt: skip


POLICY = Breaks()
"""What the commands below name; each test says where it breaks."""


@pytest.fixture
def sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{n} + {n}", "answer": 2 * n}) + "\n" for n in range(1, 21)))
    monkeypatch.setattr(POLICY, "at", frozenset())
    monkeypatch.setattr(POLICY, "asked", [])
    return path


def command(sums: Path, out: Path, *more: str) -> list[Any]:
    model = "cli.test_eval_goes_on:POLICY"
    return ["eval", "--model", model, "--task", sums, "--split", "all", "--out", out, *more]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """This module under a name with a dot, as policies of a user's own have one."""
    monkeypatch.setitem(sys.modules, "cli", types.ModuleType("cli"))
    monkeypatch.setitem(sys.modules, "cli.test_eval_goes_on", sys.modules[__name__])


def test_an_evaluation_that_failed_goes_on_and_ends_like_one_that_did_not(sums: Path, run: Any, tmp_path: Path) -> None:
    whole = run(*command(sums, tmp_path / "whole"))
    assert whole.status == 0, whole.stderr
    assert sorted(POLICY.asked) == sorted([*range(1, 21)] * 2)

    POLICY.at, POLICY.asked[:] = frozenset({20}), []
    out = tmp_path / "out"
    failed = run(*command(sums, out))
    kept = [json.loads(line) for line in (out / "unfinished.jsonl").read_text().splitlines()][1:]
    assert failed.status == 1 and BROKEN in failed.stderr and not (out / "eval.json").exists()
    assert 0 < len(kept) < 20
    assert f"{len(kept)} of 20 episodes are kept in {out / 'unfinished.jsonl'}" in failed.stderr
    assert "the same command goes on with the rest" in failed.stderr

    POLICY.at, POLICY.asked[:] = frozenset(), []
    ended = run(*command(sums, out))
    assert ended.status == 0, ended.stderr
    assert f"{len(kept)} of 20 episodes are there already" in ended.stderr
    assert len(POLICY.asked) == 2 * (20 - len(kept)) and 20 in POLICY.asked
    assert not (out / "unfinished.jsonl").exists()
    for name in ("eval.json", "episodes.jsonl"):
        assert _without_seconds(out / name) == _without_seconds(tmp_path / "whole" / name)
    assert run(*command(sums, out)).status == 1  # it is finished: nothing is written over


def _without_seconds(path: Path) -> list[Any]:
    def stripped(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: stripped(item) for key, item in value.items() if key != "seconds"}
        return [stripped(item) for item in value] if isinstance(value, list) else value

    text = path.read_text()
    return (
        [stripped(json.loads(text))]
        if path.suffix == ".json"
        else [*map(stripped, map(json.loads, text.split("\n")[:-1]))]
    )


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--seed", "1"], "problems, seed"),  # the order of a whole file follows the seed
        (["--temperature", "0.5"], "temperature"),
        (["--max-answer-tokens", "9"], "max-answer-tokens"),
        (["--critique", "refine"], "loop, prompts"),
        (["--revisions", "2"], "loop"),
        (["--prompts", "plain"], "prompts"),
        (["-n", "3"], "problems"),
    ],
)
def test_episodes_of_another_evaluation_are_never_mixed_in(
    sums: Path, run: Any, tmp_path: Path, more: list[str], named: str
) -> None:
    POLICY.at = frozenset({20})
    assert run(*command(sums, tmp_path / "out")).status == 1
    before = (tmp_path / "out" / "unfinished.jsonl").read_text()
    POLICY.at, POLICY.asked[:] = frozenset(), []
    other = run(*command(sums, tmp_path / "out", *more))
    assert other.status == 2 and POLICY.asked == []
    assert f"asked otherwise ({named})" in " ".join(other.stderr.split())
    assert (tmp_path / "out" / "unfinished.jsonl").read_text() == before


def test_changed_problems_and_weights_are_other_ones(tmp_path: Path) -> None:
    two = [Problem(id=str(n), prompt="1?", reference=str(n), checker="math") for n in range(2)]
    assert digest_of_problems(two) == digest_of_problems(list(two)) != digest_of_problems(two[::-1])
    assert digest_of_problems(two) != digest_of_problems([two[0], two[1].model_copy(update={"reference": "7"})])
    assert digest_of_weights("openai:gpt") is None
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("1")
    first = digest_of_weights(str(tmp_path / "model"))
    assert first == digest_of_weights(str(tmp_path / "model")) is not None
    (tmp_path / "model" / "weights").write_text("12")
    assert digest_of_weights(str(tmp_path / "model")) != first


def problems(count: int) -> list[Problem]:
    return [Problem(id=f"p{n}", prompt=f"{n} + {n}", reference=(2 * n), checker="math") for n in range(1, count + 1)]


def test_a_torn_last_line_is_one_episode_less(tmp_path: Path) -> None:
    graph, path = build_graph(Breaks(), prompts=PLAIN), tmp_path / "unfinished.jsonl"
    whole, states = evaluate(graph, problems(4), MathChecker(), unfinished=UnfinishedEvaluation(path, {"a": 1}))
    path.write_text(path.read_text()[:-20])
    again = Breaks()
    graph = build_graph(again, prompts=PLAIN)
    torn = UnfinishedEvaluation(path, {"a": 1})
    assert torn.count() == 3
    report, restored = evaluate(graph, problems(4), MathChecker(), unfinished=torn)
    assert len(again.asked) == 2 and torn.count() == 4
    assert report.as_dict() == whole.as_dict() and report.accuracy_t2 == 0.5
    assert [state["problem"] for state in restored] == [state["problem"] for state in states]
    assert [state["turns"][1]["generation"] for state in restored] == [
        state["turns"][1]["generation"] for state in states
    ]
    torn.end()
    assert not path.exists() and torn.count() == 0


@pytest.mark.parametrize("left", ["", "{", "[1]\n", '{"seed": 1, "turns": []}\n'])
def test_a_file_without_a_first_line_begins_anew(tmp_path: Path, left: str) -> None:
    path = tmp_path / "unfinished.jsonl"
    path.write_text(left)
    assert UnfinishedEvaluation(path, {"a": 1}).begin() == {}
    other = UnfinishedEvaluation(path, {"b": 1})  # nothing was played for the first: nothing is lost
    evaluate(build_graph(Breaks(), prompts=PLAIN), problems(1), MathChecker(), unfinished=other)
    with pytest.raises(ConfigurationError, match=r"1 episode .* asked otherwise \(a, b\)"):
        UnfinishedEvaluation(path, {"a": 1}).begin()


def test_where_all_are_there_nothing_is_asked(tmp_path: Path) -> None:
    kept = UnfinishedEvaluation(tmp_path / "unfinished.jsonl", {})
    first, _ = evaluate(build_graph(Breaks(), prompts=PLAIN), problems(3), MathChecker(), unfinished=kept)
    silent = build_graph(Breaks(frozenset({1, 2, 3})), prompts=PLAIN)
    again, _ = evaluate(silent, problems(3), MathChecker(), unfinished=kept)
    assert again.as_dict() == first.as_dict()
    with pytest.raises(SelfCorrectError, match=BROKEN):
        evaluate(silent, problems(3), MathChecker(), seed=1, unfinished=kept)
