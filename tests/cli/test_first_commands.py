"""The commands that a researcher types first, as they are written: her model, her data, her checker."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from small_models import byte_chat_model
from trackio_double import installed_trackio

from selfcorrect.settings import combine
from selfcorrect.tasks.published import PublishedSettings
from selfcorrect.training.runs import opening
from selfcorrect.training.settings import LM

pytestmark = pytest.mark.slow

COMMANDS = """
selfcorrect train score --model Qwen/Qwen2.5-1.5B-Instruct --task math --preset lm              # Hub ids where there is a Hub; folders everywhere
selfcorrect train score --model ./my-model --task problems.jsonl --map question=prompt,gold=answer
selfcorrect train score --model ./my-model --task mbpp --prompts code --report-to trackio
selfcorrect train score --model ./my-model --task mbpp:data/mbpp.jsonl                        # FORMAT:FILE
selfcorrect eval --model ./my-model --task mypackage.tasks:MyTask -n 200 --prompts mine.yaml
"""  # noqa: E501
MATH, OWN_FILE, MBPP, MBPP_FILE, OWN_TASK = (
    shlex.split(line, comments=True)[1:] for line in COMMANDS.split("\n")[1:-1]
)

SMALL = [
    "policy.max_new_tokens=6",
    "score.stage_one_steps=1",
    "score.stage_two_steps=1",
    "optimiser.problems_per_step=2",
    "optimiser.episodes_per_problem=2",
    "optimiser.gradient_accumulation=1",
    "evaluation.problems=2",
]
"""The preset with so little of everything that it takes seconds: the commands say nothing of sizes."""

MY_TASK = """
from selfcorrect import Problem


def judge(response, reference):
    return response.strip().endswith(str(reference))


class MyTask:
    checker = judge

    def problems(self, split, count, *, seed=0):
        return [Problem(id=f"{split}-{n}", prompt=f"{n} + {seed}?", reference=n, checker="mine") for n in range(count)]
"""


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def mbpp_rows() -> list[dict[str, Any]]:
    return [
        {
            "text": f"Write a function to add {task}.",
            "code": f"def add(a):\n    return a + {task}",
            "task_id": task,
            "test_setup_code": "",
            "test_list": [f"assert add(1) == {task + 1}"],
            "challenge_test_list": [],
        }
        for task in [*range(11, 15), *range(601, 609)]
    ]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where she works: models and data in folders, and no Hub. `datasets` finds folders by the names of the Hub."""
    byte_chat_model(tmp_path / "my-model")
    byte_chat_model(tmp_path / "Qwen/Qwen2.5-1.5B-Instruct")
    (tmp_path / "problems.jsonl").write_text(lines([{"question": f"{n} + {n}?", "gold": 2 * n} for n in range(60)]))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mbpp.jsonl").write_text(lines(mbpp_rows()))
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage/__init__.py").touch()
    (tmp_path / "mypackage/tasks.py").write_text(MY_TASK)
    (tmp_path / "mine.yaml").write_text("attempt: 'Work out {problem}'\nrevise: 'Look again.'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(opening, "LM", combine(LM, {}, SMALL))
    monkeypatch.setattr(datasets, "load_dataset", of_the_hub)
    return tmp_path


def of_the_hub(name: str, config: str | None, *, split: str) -> list[dict[str, Any]]:
    """The Hub's two data sets, of which some rows are here."""
    if name == "DigitalLearningGmbH/MATH-lighteval":
        row = {"level": "Level 1", "type": "Algebra"}
        return [row | {"problem": f"{split}: {n} + 1?", "solution": f"\\boxed{{{n + 1}}}"} for n in range(8)]
    assert name == "google-research-datasets/mbpp"
    return [row for row in mbpp_rows() if (row["task_id"] > 600) == (split == "train")]


@pytest.mark.parametrize("command", [MATH, OWN_FILE, MBPP_FILE], ids=["math", "own-file", "mbpp-file"])
def test_a_model_of_ones_own_trains(command: list[str], run: Callable[..., Any], place: Path) -> None:
    done = run(*command)
    assert done.status == 0, done.stderr
    assert "preset   lm" in done.stderr
    assert (place / "runs/score/model/config.json").is_file() and (place / "runs/score/report.html").is_file()
    steps = [json.loads(line) for line in (place / "runs/score/metrics.jsonl").read_text().splitlines()]
    assert [step["stage"] for step in steps] == [1, 2] and all(step["unjudged"] == 0 for step in steps)


def test_code_trains_with_its_prompts_and_is_reported(
    run: Callable[..., Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trackio = installed_trackio(monkeypatch)
    done = run(*MBPP)
    assert done.status == 0, done.stderr
    episode = json.loads((place / "runs/score/episodes.jsonl").read_text().splitlines()[0])
    assert episode["reference"]["kind"] == "asserts" and "tests" in episode["turns"][0]["reason"]
    assert trackio.told["init"]["name"] == "score" and trackio.told["figures"]["train/accuracy_t1"] == 0.0


@pytest.mark.parametrize(
    "command",
    [["eval", "-n", "2"], ["scale", "-n", "2", "--budgets", "1,2", "--strategies", "majority"]],
    ids=["eval", "scale"],
)
def test_a_file_is_read_once(
    command: list[str], run: Callable[..., Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All tests of a file of programs are tried when it is read."""
    opened: list[str] = []
    read = PublishedSettings.open
    monkeypatch.setattr(PublishedSettings, "open", lambda asked: opened.append(asked.kind) or read(asked))
    model = ["--model", "./my-model", "--max-answer-tokens", "4", "--out", "played"]
    done = run(*command, "--task", "mbpp:data/mbpp.jsonl", *model)
    assert done.status == 0, done.stderr
    assert opened == ["mbpp"]


def test_a_task_and_prompts_of_ones_own_are_evaluated(run: Callable[..., Any], place: Path) -> None:
    done = run(*OWN_TASK, "--json")
    assert done.status == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["n"], figures["left_out"]) == (200, []) and 0.0 <= figures["accuracy_t1"] <= 1.0
