"""lm-eval asks our server: with the harness itself, see .ci/doors."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selfcorrect import CountdownChecker, CountdownTask, TransformersPolicy, build_graph, evaluate
from selfcorrect.agents import COUNTDOWN, embedded_folder

lm_eval = pytest.importorskip("lm_eval", reason="lm-eval is not installed; see .ci/doors")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # the harness's own, and its libraries'
]

COUNT = 16
TASK = """
task: selfcorrect_countdown
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: ""
generation_kwargs: {{until: [], max_gen_toks: 64, do_sample: false}}
process_results: !function judge.judged
metric_list:
  - metric: correct
    aggregation: mean
    higher_is_better: true
"""
JUDGE = """
import json
from selfcorrect import CountdownChecker

def judged(doc, results):
    verdict = CountdownChecker().check_sync(results[0], json.loads(doc["reference"]))
    return {"correct": float(verdict.correct)}
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Our server, whose one model is the embedded policy with one revision."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serving = [sys.executable, "-m", "selfcorrect", "serve", "--model", "embedded", "--revisions", "1"]
    with subprocess.Popen(
        [*serving, "--port", str(port)], stderr=subprocess.PIPE, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    ) as server:
        try:
            assert server.stderr is not None
            while "/v1" not in (line := server.stderr.readline()):
                assert line, "the server did not start"
            yield f"http://127.0.0.1:{port}/v1/chat/completions"
        finally:
            server.terminate()


def local_task(folder: Path) -> list[Any]:
    """A task of the harness in `folder`: its problems, its settings, and our checker as its judge."""
    problems = list(CountdownTask(numbers=4).problems("test", COUNT))
    rows = [json.dumps({"prompt": one.prompt, "reference": json.dumps(one.reference)}) for one in problems]
    (folder / "problems.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (folder / "task.yaml").write_text(TASK.format(data=folder / "problems.jsonl"), encoding="utf-8")
    (folder / "judge.py").write_text(JUDGE, encoding="utf-8")
    return problems


def test_the_harness_measures_behind_our_server_what_we_measure(address: str, tmp_path: Path) -> None:
    problems = local_task(tmp_path)
    told = lm_eval.simple_evaluate(
        model="local-chat-completions",
        model_args={"model": "embedded", "base_url": address, "tokenizer_backend": None, "num_concurrent": 8},
        tasks=["selfcorrect_countdown"],
        task_manager=lm_eval.tasks.TaskManager(include_path=str(tmp_path)),
        apply_chat_template=True,
        log_samples=True,
    )
    answers = [sample["filtered_resps"][0] for sample in told["samples"]["selfcorrect_countdown"]]
    assert len(answers) == COUNT and all(answers)
    judged = [
        CountdownChecker().check_sync(text, one.reference).correct for text, one in zip(answers, problems, strict=True)
    ]
    measured = told["results"]["selfcorrect_countdown"]["correct,none"]
    assert measured == sum(judged) / COUNT
    policy = TransformersPolicy.from_pretrained(embedded_folder())
    _, states = evaluate(build_graph(policy, prompts=COUNTDOWN, revisions=1), problems, CountdownChecker())
    assert answers == [state["turns"][-1]["generation"]["text"] for state in states]
    assert measured > 0
