"""What models write may hold Unicode's own ends of lines, which JSON lets stand: a row of a file stays one line."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfcorrect.agents.choosing.sample_pool import Sample, read_pool, write_pool
from selfcorrect.agents.evaluation import evaluate
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.prompts import PLAIN
from selfcorrect.agents.unfinished import UnfinishedEvaluation
from selfcorrect.files import json_line
from selfcorrect.rewards.maths import MathChecker
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.reporting.viewer import export
from selfcorrect.training.runs.offline_attempts import _lines
from selfcorrect.training.runs.run_directory import RunDirectory
from selfcorrect.training.settings import RunSettings

ENDS = ["\n", "\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
"""What str.splitlines takes for the end of a line."""
SAID = "one" + "".join(f"{end}{number}" for number, end in enumerate(ENDS))


@given(st.text() | st.text(st.sampled_from([*ENDS, '"', "\\", "u", "x"])))
def test_a_row_is_one_line_for_every_reader(text: str) -> None:
    line = json_line({text: [text]})
    assert len(line.splitlines()) == 1 == line.count("\n") and line.endswith("\n")
    assert json.loads(line) == {text: [text]}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    problem = Problem(id="p", prompt=SAID, reference="1", checker="math")
    kept = UnfinishedEvaluation(tmp_path / "unfinished.jsonl", {"words": SAID})
    graph = build_graph(ScriptedPolicy([SAID, SAID]), prompts=PLAIN)
    first, states = evaluate(graph, [problem], MathChecker(), unfinished=kept)
    again, restored = evaluate(graph, [problem], MathChecker(), unfinished=kept)
    assert restored[0]["turns"][0]["generation"] == states[0]["turns"][0]["generation"]
    assert again.as_dict() == first.as_dict() and kept.count() == 1
    made = RunDirectory.create(tmp_path / "run", RunSettings())
    made.write_episodes(states, before=states)
    return made


def test_a_run_reads_what_it_wrote(run: RunDirectory) -> None:
    rows = run.read_episodes()
    assert [turn["text"] for row in rows for turn in row["turns"]] == [SAID] * 4


@pytest.mark.parametrize("kind", ["verifiers", "otel"])
def test_exports_have_as_many_lines_as_rows(run: RunDirectory, kind: str) -> None:
    for line in "".join(export(kind, [run.path])).splitlines():
        json.loads(line)


def test_pools_and_attempts_are_read_as_they_were_written(tmp_path: Path) -> None:
    sample = Sample(id="p", prompt=SAID, text=SAID, answer="1", correct=True, tokens=1, finish_reason="stop")
    write_pool(tmp_path / "pool.jsonl", [sample])
    assert len((tmp_path / "pool.jsonl").read_text(encoding="utf-8").splitlines()) == 1
    assert read_pool(tmp_path / "pool.jsonl") == [sample]
    foreign = json.dumps({"id": "p", "text": SAID}, ensure_ascii=False)  # as others write it
    (tmp_path / "attempts.jsonl").write_text(f"{foreign}\n\n{foreign}\n", encoding="utf-8")
    assert _lines(tmp_path / "attempts.jsonl") == [(1, {"id": "p", "text": SAID}), (3, {"id": "p", "text": SAID})]
