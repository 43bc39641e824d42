"""Tasks by name, by file and by address; a user's own of some fifteen lines, with a function as its checker."""

import json
import sys
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

from selfcorrect.cli.naming import task_options
from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.checker import Status
from selfcorrect.settings import combine, settings_as_yaml
from selfcorrect.tasks.countdown import CountdownTask
from selfcorrect.tasks.jsonl import JsonlTask
from selfcorrect.tasks.naming import open_task, problem_of_question, task_settings
from selfcorrect.tasks.problem import Problem
from selfcorrect.tasks.registry import TASKS, as_task
from selfcorrect.tasks.validate import validate_task
from selfcorrect.training.settings import RunSettings

OWN = dedent(
    '''
    from selfcorrect.tasks import Problem

    def is_double(response: str, reference: int) -> bool:
        return response.split()[-1] == str(2 * reference)

    class Doubling:
        """Double a number."""

        checker = is_double
        prompts = "plain"

        def __init__(self, largest: int = 50) -> None:
            self.largest = largest

        def problems(self, split, count, *, seed=0):
            first = 1 if split == "train" else self.largest + 1
            return [self.problem(n) for n in range(first, first + count)]

        def problem(self, n):
            return Problem(id=f"{n}", prompt=f"2 * {n}", reference=n, checker="own:is_double", gold=f"{2 * n}")
    '''
)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The name of a module with a task in it, one for each test."""
    name = f"own_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(OWN.replace("own:", f"{name}:"))
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_class_of_fifteen_lines_is_a_task(own: str) -> None:
    task = open_task(f"{own}:Doubling")
    assert task.name == "Doubling" and validate_task(task, procedural=5).passed
    verdict = task.checker.check_sync("it is 9", 4)
    assert (verdict.status, verdict.answer) == (Status.WRONG, "it is 9")
    assert task.checker.check_sync("", 4).status is Status.UNJUDGED  # the function raised


def test_the_parameters_of_the_class_are_its_settings(own: str) -> None:
    name = f"{own}:Doubling"
    settings = combine(RunSettings(), {"task": {"kind": name}}, ["task.largest=7"])
    assert settings.task.open().problems("test", 1)[0].prompt == "2 * 8"
    assert settings.task.prompts_name == "plain" and settings.task.title == name
    again = combine(RunSettings(), {"task": {"kind": name, "largest": 7}}, [])
    assert again == settings and f"kind: {name}" in settings_as_yaml(settings)
    with pytest.raises(ConfigurationError, match="task.larger: unknown; did you mean task.largest"):
        combine(RunSettings(), {"task": {"kind": name, "larger": 7}}, [])
    with pytest.raises(ConfigurationError, match="task.largest: .*integer, .*got 'many'"):
        combine(RunSettings(), {"task": {"kind": name}}, ["task.largest=many"])


def test_what_is_no_task_is_told(own: str) -> None:
    with pytest.raises(ConfigurationError, match="Doublin.*did you mean Doubling"):
        open_task(f"{own}:Doublin")
    with pytest.raises(ConfigurationError, match="the class Problem has no problems"):
        open_task(f"{own}:Problem")
    with pytest.raises(ConfigurationError, match="is no task: expected an object with problems"):
        as_task(3)
    with pytest.raises(ConfigurationError, match=r"no module 'no_such_thing'.*PYTHONPATH"):
        combine(RunSettings(), {"task": {"kind": "no_such_thing:Task"}}, [])


AMISS = """
from selfcorrect.tasks import Problem

def judge(response, reference):
    return True

class Amiss:
    checker = staticmethod(judge)

    def problems(self, split, count, *, seed=0):
        return [Problem(id="1", prompt="1", reference=1, checker="none")] * count

class Torn(Amiss):
    def __init__(self):
        raise OSError("no such disk")

class OfWords(Amiss):
    def problems(self, split, count, *, seed=0):
        return ["2 * 2"] * count

class Counted(Amiss):
    def problems(self, split, count, *, seed=0):
        return count

class Dropped(Amiss):
    def problems(self, split, count, *, seed=0):
        return {}["question"]

class Alone(Amiss):
    def problems(self, split):
        return []

class Sized(Amiss):
    def __init__(self, size, mood="calm"):
        self.size, self.mood = size, mood
"""


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Torn", r"amiss:Torn failed: OSError: no such disk \(.*amiss.py, line 15\)"),
        ("OfWords", r"amiss:OfWords: problems must return a list of selfcorrect.Problem\(.*, got a str in it"),
        ("Counted", r"amiss:Counted: problems must return a list of .*, got an int$"),
        ("Dropped", r"problems\('test', 2, seed=3\) failed: KeyError: 'question' \(.*amiss.py, line 27\)"),
        ("Alone", r"amiss:Alone: problems cannot be called as problems\(split, count, seed=0\): too many"),
        ("judge", r"task.response: missing; amiss:judge is the function judge, .* its 'response' and"),
        (
            "Sized",
            r"task.size: missing; amiss:Sized is the class Sized, .*: --task amiss:Sized,size=VALUE, or task.size",
        ),
        ("Sized,mood=odd", r"task.size: missing"),
        ("Sized,size", r"amiss:Sized,size: expected key=value after amiss:Sized, got 'size'"),
    ],
)
def test_a_task_that_is_amiss_teaches(name: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "amiss.py").write_text(AMISS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "amiss", raising=False)
    monkeypatch.setattr(TASKS, "_found", {})
    with pytest.raises(ConfigurationError, match=told):
        open_task(f"amiss:{name}").problems("test", 2, seed=3)


def test_parameters_of_a_class_can_stand_behind_its_name(own: str) -> None:
    task = open_task(f"{own}:Doubling,largest=7")
    assert task.problems("test", 2)[0].prompt == "2 * 8"
    assert task_options(task_settings(f"{own}:Doubling,largest=7")) == ["--task", f"{own}:Doubling,largest=7"]
    assert task_options(task_settings(f"{own}:Doubling")) == ["--task", f"{own}:Doubling"]


class OfAnyType:
    """Parameters without a type, or of one that no file of settings holds."""

    def __init__(self, largest=9, judge: "OfAnyType | None" = None, *, words: object = "few"):  # type: ignore[no-untyped-def]
        self.largest, self.judge, self.words = largest, judge, words

    def problems(self, split: str, count: int, *, seed: int = 0) -> list[Problem]:
        return [Problem(id="1", prompt=f"{self.largest} {self.words}", reference=1, checker="none")] * count

    def checker(self, response: str, reference: int) -> bool:
        return True


def test_a_parameter_may_be_of_any_type(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "of_any_type", ModuleType("of_any_type"))
    sys.modules["of_any_type"].OfAnyType = OfAnyType  # type: ignore[attr-defined]
    settings = combine(RunSettings(), {"task": {"kind": "of_any_type:OfAnyType"}}, ["task.largest=7"])
    assert settings.task.open().problems("test", 1)[0].prompt == "7 few"
    assert "largest: 7" in settings_as_yaml(settings)
    function = ModuleType("a_function")
    function.doubled = lambda width: width * 2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_function", function)
    with pytest.raises(ConfigurationError, match="task.width: missing; a_function:doubled is the function <lambda>"):
        combine(RunSettings(), {"task": {"kind": "a_function:doubled"}}, [])
    with pytest.raises(ConfigurationError, match="a_function:doubled is no task: expected an object with problems"):
        combine(RunSettings(), {"task": {"kind": "a_function:doubled"}}, ["task.width=3"]).task.open()
    function.sized = lambda number: number * 2  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="a_function:sized: call the parameter 'number' otherwise"):
        combine(RunSettings(), {"task": {"kind": "a_function:sized"}}, [])


def test_a_task_of_the_protocol_is_taken_as_it_is() -> None:
    task = CountdownTask(numbers=3)
    assert as_task(task) is task


def test_names_with_numbers_and_files(tmp_path: Path) -> None:
    assert open_task("countdown-5").name == "countdown-5"
    assert open_task("countdown", words=True).problems("test", 1)[0].prompt.startswith("Using the numbers")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"question": f"What is {n} + 1?", "gold": n + 1}) + "\n" for n in range(40)))
    columns = {"question": "prompt", "gold": "answer"}
    task = open_task(str(rows), columns=columns)
    assert isinstance(task, JsonlTask) and task.available("train") + task.available("test") == 40
    assert task_settings(f"jsonl:{rows}", columns=columns) == task_settings(str(rows), columns=columns)
    with pytest.raises(ConfigurationError, match="--map names columns of a file, but countdown has none"):
        task_settings("countdown", columns=columns)
    for wrong, told in {
        ("question", "prompts"): "no field of a problem is called 'prompts'; did you mean prompt?",
        ("question", "words"): "no field of a problem is called 'words'; a problem has prompt, answer, id, difficulty",
        ("prompt", "question"): "a file's column comes first, then what it is here: --map question=prompt",
    }.items():
        with pytest.raises(ConfigurationError, match=told.replace("?", r"\?")):
            task_settings(str(rows), columns=dict([wrong]))
    with pytest.raises(ConfigurationError, match="the columns 'question' and 'gold' cannot both be 'prompt'"):
        task_settings(str(rows), columns={"question": "prompt", "gold": "prompt"})
    with pytest.raises(ConfigurationError, match="named mine:NAME, by what the file calls it"):
        task_settings("folder/mine.py")
    with pytest.raises(ConfigurationError, match="countdown makes its problems up and reads no file"):
        task_settings("countdown:rows.jsonl")
    with pytest.raises(ConfigurationError, match="did you mean countdown"):
        task_settings("countdwn")


def test_the_problems_of_a_file_can_be_judged_by_a_checker_of_ones_own(own: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"Double {n}", "answer": n}) + "\n" for n in range(40)))
    task = open_task(str(rows), checker=f"{own}:is_double")
    problem = task.problems("train", 1)[0]
    assert problem.checker == f"{own}:is_double"
    assert task.checker.check_sync(str(2 * int(problem.reference)), int(problem.reference)).correct


def test_every_kind_can_be_opened_and_says_what_others_need_to_know() -> None:
    for name, kind in TASKS.items():
        assert kind.model_fields["kind"].default == name and kind.spellings(name).startswith(name)
        if kind.example:
            for words in (False, True):
                problem = problem_of_question(kind.example, words=words)
                assert problem is not None and problem.checker == name
            assert kind().example_of_size == kind.example
    assert problem_of_question("What is love?", words=True) is None


def test_an_example_is_given_for_problems_of_its_size_only() -> None:
    assert task_settings("countdown-4").example_of_size == "3 5 7 9 get 56"
    assert task_settings("countdown-5").example_of_size == task_settings("equations-2").example_of_size == ""
