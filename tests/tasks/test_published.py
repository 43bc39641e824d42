"""Published data sets as they are published: rows as their authors wrote them, read without code of the user's."""

import csv
import gzip
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from selfcorrect.cli.naming import task_options
from selfcorrect.errors import ConfigurationError, TaskError
from selfcorrect.tasks import open_task, tables, task_settings, validate_task
from selfcorrect.tasks.tables import read_table
from selfcorrect.tasks.validate import data_card

GSM8K = [
    {
        "question": "Tom has 3 bags of 4 apples and eats 2. How many are left?",
        "answer": "3*4=<<3*4=12>>12\n12-2=<<12-2=10>>10\n#### 10",
    },
    {
        "question": "A robe takes 1,000 stitches a day. How many in 2 days?",
        "answer": "2*1000=<<2*1000=2000>>2000\n#### 2,000",
    },
]
MATH = [
    {"problem": "What is $1+1$?", "level": "Level 1", "type": "Algebra", "solution": "It is $\\boxed{2}$.", "idx": 0},
    {
        "problem": "Halve $3$.",
        "level": "Level 5",
        "type": "Algebra",
        "solution": "So $\\boxed{\\frac{3}{2}}$.",
        "idx": 1,
    },
]


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def everything(task: Any) -> list[Any]:
    return [problem for split in ("train", "test") for problem in task.problems(split, task.available(split))]


def test_gsm8k_asks_the_question_and_compares_with_the_number_behind_the_marks(tmp_path: Path) -> None:
    task = open_task(f"gsm8k:{lines(tmp_path / 'gsm8k.jsonl', GSM8K)}")
    first, second = sorted(everything(task), key=lambda problem: problem.id)
    assert (first.reference, second.reference) == ("10", "2,000")
    assert first.prompt == GSM8K[0]["question"] and first.difficulty == 2.0
    assert validate_task(task).passed


def test_math_compares_with_the_worked_solution_and_grades_by_level(tmp_path: Path) -> None:
    task = open_task(f"math:{lines(tmp_path / 'math.json', MATH)}")
    by_id = {problem.id: problem for problem in everything(task)}
    assert by_id["math-1"].difficulty == 5.0 and by_id["math-0"].metadata["subject"] == "Algebra"
    assert task.checker.check_sync("\\boxed{1.5}", by_id["math-1"].reference).correct
    assert validate_task(task).passed


def test_a_second_file_is_held_out_as_a_whole(tmp_path: Path) -> None:
    train, test = lines(tmp_path / "a.jsonl", GSM8K[:1]), lines(tmp_path / "b.jsonl", GSM8K[1:])
    task = open_task(f"gsm8k:{train}", test_path=str(test))
    assert [problem.reference for problem in task.problems("train", 1)] == ["10"]
    assert [problem.reference for problem in task.problems("test", 1)] == ["2,000"]


def test_unusable_rows_are_left_out_counted_and_named(tmp_path: Path) -> None:
    rows = [*GSM8K, GSM8K[0], {"question": "No number?", "answer": "none"}]
    task: Any = open_task(f"gsm8k:{lines(tmp_path / 'g.jsonl', rows)}")
    assert len(everything(task)) == 2 and task.repeated == 1
    assert task.refused == ((4, "", "the answer holds no '####' with a number behind it"),)


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"is not of the format 'gsm8k'.*\n.*there is no 'answer'"):
        open_task(f"gsm8k:{lines(tmp_path / 'm.jsonl', MATH)}")


def test_more_than_there_is_says_what_there_is(tmp_path: Path) -> None:
    train, test = lines(tmp_path / "a.jsonl", GSM8K[:1]), lines(tmp_path / "b.jsonl", GSM8K[1:])
    with pytest.raises(TaskError, match="3 test problems were asked for, but there are 1 \\(train 1, test 1\\)"):
        open_task(f"gsm8k:{train}", test_path=str(test)).problems("test", 3)


def test_the_hubs_rows_are_read_from_a_folder_that_datasets_can_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "gsm8k"
    folder.mkdir()
    lines(folder / "train.jsonl", GSM8K[:1])
    lines(folder / "test.jsonl", GSM8K[1:])
    task: Any = open_task("gsm8k", dataset=str(folder), config=None)
    assert (task.available("train"), task.available("test")) == (1, 1)


def test_without_the_hub_the_error_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def gone(*arguments: Any, **options: Any) -> Any:
        raise ConnectionError("no route to the Hub")

    monkeypatch.setattr(datasets, "load_dataset", gone)
    with pytest.raises(TaskError, match=r"cannot load the train split of the data set 'openai/gsm8k'.*FORMAT:FILE"):
        open_task("gsm8k")


def test_where_the_hub_is_away_one_knock_tells_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    knocks: list[Any] = []

    def nobody(address: Any, timeout: float) -> socket.socket:
        knocks.append(address)
        raise OSError("Name or service not known")

    monkeypatch.setattr(socket, "create_connection", nobody)
    monkeypatch.setattr(tables, "getproxies", dict)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(TaskError, match=r"'openai/gsm8k': it is not in the cache, and the Hub cannot be .*FORMAT:FILE"):
        open_task("gsm8k")
    assert knocks == [("huggingface.co", 443)]
    from huggingface_hub import constants

    assert constants.HF_HUB_OFFLINE is False, "what the process may reach later it may ask"


# Any data set of the Hub, for which a folder stands that `datasets` loads the same way.


@pytest.fixture
def on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "sums").mkdir(parents=True)
    return tmp_path / "owner" / "sums"


def sums(*numbers: int) -> list[dict[str, Any]]:
    return [{"question": f"{n} + {n}?", "gold": 2 * n} for n in numbers]


def test_any_data_set_of_the_hub_is_read_by_its_id_with_its_columns_mapped(on_the_hub: Path) -> None:
    lines(on_the_hub / "train.jsonl", sums(1, 2, 3))
    lines(on_the_hub / "test.jsonl", sums(4, 5))
    asked = task_settings("owner/sums", columns={"question": "prompt", "gold": "answer"})
    task: Any = asked.open()
    assert (task.available("train"), task.available("test")) == (3, 2)
    problem = min(task.problems("test", 2), key=lambda problem: problem.prompt)
    assert (problem.prompt, problem.reference) == ("4 + 4?", "8")
    assert task.checker.check_sync("The final answer is $\\boxed{8}$.", problem.reference).correct
    typed = task_options(asked)
    assert typed == ["--task", "hub:owner/sums", "--map", "question=prompt,gold=answer"]
    fits = "owner/sums has nothing for 'prompt', 'answer'.* --map question=prompt,gold=answer"
    with pytest.raises(TaskError, match=fits):
        open_task("owner/sums")


def test_the_splits_of_a_data_set_of_the_hub_are_chosen_behind_its_name(on_the_hub: Path) -> None:
    lines(on_the_hub / "train.jsonl", [{"prompt": f"{n} + {n}?", "answer": 2 * n} for n in range(60)])
    lines(on_the_hub / "validation.jsonl", [{"prompt": "7 * 7?", "answer": 49}])
    by_hash: Any = open_task("hub:owner/sums,test_share=0.5")
    assert by_hash.available("train") + by_hash.available("test") == 60 and by_hash.available("test") > 15
    named = "hub:owner/sums,test_split=validation"
    chosen: Any = open_task(named)
    assert (chosen.available("train"), chosen.available("test")) == (60, 1)
    assert task_options(task_settings(named)) == ["--task", named]
    with pytest.raises(TaskError, match="owner/sums has no split 'dev'; it has 'train', 'validation': choose"):
        open_task("hub:owner/sums,test_split=dev")
    with pytest.raises(ConfigurationError, match="trian_split: unknown; did you mean train_split"):
        open_task("owner/sums,trian_split=train")
    with pytest.raises(ConfigurationError, match="the Hub is read, and no file"):
        open_task("owner/sums", path="rows.jsonl")


def test_a_data_set_of_the_hub_without_problems_tells_its_rows(on_the_hub: Path) -> None:
    lines(on_the_hub / "train.jsonl", [{"prompt": f"{n}?", "answer": ""} for n in range(3)])
    with pytest.raises(TaskError, match=r"owner/sums holds no problems for the checker math: 3.*\n.*answer: expected"):
        open_task("owner/sums")


# Files of one's own.


def test_tables_are_the_same_in_every_form(tmp_path: Path) -> None:
    rows = [{"prompt": 'A "b",\nc', "answer": "1"}, {"prompt": "d", "answer": "2"}]
    lines(tmp_path / "a.jsonl", rows)
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["prompt", "answer"])
        writer.writeheader()
        writer.writerows(rows)
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    for ending in ("jsonl", "json", "jsonl.gz", "csv", "parquet"):
        found, faults = read_table(tmp_path / f"a.{ending}")
        assert ([row for _, row in found], faults) == (rows, []), ending


def test_wrong_columns_show_the_mapping_that_would_fit(tmp_path: Path) -> None:
    path = lines(tmp_path / "own.jsonl", [{"question": f"{n}?", "gold": n} for n in range(5)])
    fits = "its columns are 'question', 'gold'. This would fit: --map question=prompt,gold=answer"
    with pytest.raises(TaskError, match=fits):
        open_task(str(path))
    with pytest.raises(TaskError, match="has no column 'qestion'"):
        open_task(str(path), columns={"qestion": "prompt", "gold": "answer"})
    task = open_task(str(path), columns={"question": "prompt", "gold": "answer"})
    assert len(everything(task)) == 5


def test_columns_of_which_nothing_tells_the_meaning_are_shown_too(tmp_path: Path) -> None:
    path = lines(tmp_path / "short.jsonl", [{"x": "1?", "y": 1}, {"x": "2?", "y": 2}])
    with pytest.raises(TaskError, match="its columns are 'x', 'y'. Name .*: --map COLUMN=prompt,COLUMN=answer$"):
        open_task(str(path))
    with pytest.raises(
        TaskError, match="has nothing for 'answer'; its columns are 'x', 'y'. .*x=prompt,COLUMN=answer$"
    ):
        open_task(str(path), columns={"x": "prompt"})
    without = lines(tmp_path / "unanswered.jsonl", [{"prompt": "1?"}, {"prompt": "2?"}])
    with pytest.raises(TaskError, match="line 1, answer: missing"):  # no other column that could hold it
        open_task(str(without))


@pytest.mark.parametrize("order", [("q", "prompt"), ("prompt", "q")])
def test_a_column_that_is_named_as_a_field_takes_the_place_of_one_that_has_its_name(
    order: tuple[str, str], tmp_path: Path
) -> None:
    row = {"q": "1 + 1?", "prompt": "Be kind.", "answer": 2}
    path = lines(tmp_path / "both.jsonl", [{name: row[name] for name in (*order, "answer")}])
    (problem,) = everything(open_task(str(path), columns={"q": "prompt"}))
    assert problem.prompt == "1 + 1?"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", "[1, 2]", "line 1: expected an object of named fields, got a JSON int"),
        ("a.json", "[{]", "a .json file holds one array, or one object a line"),
        ("a.csv", "prompt,answer\na\n", "line 2: fewer fields than there are columns"),
        ("a.csv", 'prompt,answer\n"a,1\n', "no valid CSV"),
        ("a.parquet", "no parquet", "as Parquet"),
        ("a.jsonl.gz", "no gzip", "cannot read"),
    ],
)
def test_bad_files_are_told_by_name_and_row(tmp_path: Path, name: str, content: str, words: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(TaskError, match=words) as caught:
        open_task(str(tmp_path / name))
    assert name in str(caught.value)


def test_a_card_tells_sizes_lengths_and_overlap(tmp_path: Path) -> None:
    long = "one two three four five six seven eight nine ten eleven twelve thirteen"
    asked = [f"{long} fourteen {n}" for n in range(40)] + ["short"]
    rows = [{"prompt": text, "answer": "1"} for text in asked]
    task = open_task(str(lines(tmp_path / "own.jsonl", rows)), test_share=0.2)
    card = data_card(task)
    assert card is not None and sum(card.problems.values()) == 41
    held_out = {problem.id for problem in task.problems("test", card.problems["test"]) if problem.prompt != "short"}
    assert set(card.overlapping) == held_out
    assert card.prompts is not None and (card.prompts.median, card.prompts.most) == (15, 15)
    assert data_card(open_task("countdown")) is None
    in_letters = data_card(task, len)
    assert in_letters is not None and in_letters.unit == "tokens" and in_letters.prompts is not None
    assert in_letters.prompts.most == len(f"{long} fourteen 39")


def test_a_format_reads_no_columns_of_ones_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--map names columns of a file"):
        open_task(f"gsm8k:{tmp_path / 'x.jsonl'}", columns={"a": "prompt"})
