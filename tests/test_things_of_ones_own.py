"""A toy of every kind from outside the package, as `package.module:Name`, and through the command line."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from selfcorrect.errors import ConfigurationError

TOYS = '''
"""One of each: none of the library's files knows it."""

from dataclasses import dataclass

from selfcorrect import Problem, ScriptedPolicy, build_graph
from selfcorrect.agents import CritiqueMode, Prompts
from selfcorrect.training import StageTwo

ANSWERS = ["3", "4"]


def judge(response, reference):
    return response.strip() == str(reference)


class Doubles:
    """A task."""

    checker = judge

    def __init__(self, largest: int = 50):
        self.largest = largest

    def problems(self, split, count, *, seed=0):
        return [Problem(id=f"{split}-{n}", prompt="2 + 2", reference=4, checker="toys:judge") for n in range(count)]


class Judge:
    """A checker that says which answers are the same."""

    def check_sync(self, response, reference, *, problem=None):
        raise NotImplementedError

    async def check(self, response, reference, *, problem=None):
        raise NotImplementedError

    def validate_reference(self, reference):
        return None

    def answer_key(self, response, problem):
        return response.lower().strip()

    def strict_answer_key(self, response, problem):
        return response.strip() + problem

    def final_answer(self, response, problem):
        return response.rpartition(";")[2].strip()


WORDS = Prompts("Sum: {problem}", "Again.", "Check.", "Found: {reason}", "wrong", "right")


def steps(policy, prompts):
    from selfcorrect.agents import Revise

    return [("revise", Revise(policy, prompts))]


def never(prompts):
    from selfcorrect.agents import FixedRevisions

    return FixedRevisions()


MODE = CritiqueMode("a toy", "toy correction", steps, never)


class Shaping(StageTwo):
    """An objective."""


def arm(settings, *, out, progress=None, resume=False):
    """A toy arm."""
    from selfcorrect.training import RunDirectory, RunResult

    run = RunDirectory.create(out, settings, resume=resume, arm="toy")
    figures = {"n": 1, "accuracy_t1": 0.5, "accuracy_t2": 0.5, "delta": 0.0, "i_to_c": 0.0, "c_to_i": 0.0}
    return RunResult(run.path, figures, figures)


@dataclass(frozen=True)
class Pick:
    """A strategy."""

    n: int = 2
    mood: str = "calm"

    @property
    def name(self):
        return f"pick:{self.n}"

    def graph(self, search_models):
        raise NotImplementedError


def policy():
    return ScriptedPolicy(ANSWERS)


class Torn(Judge):
    """Of every kind, and none can be made."""

    name = "torn"

    def __init__(self, alpha=1.0):
        raise OSError("no such disk")

    def graph(self, search_models): ...
    def answer_rewards(self, scores): ...
    def generate(self, messages, sampling, *, after=None): ...


class Nameless(Pick):
    """A strategy without a number of answers."""

    def __init__(self, mood="calm"): ...
'''


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "toybox"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "toys.py").write_text(TOYS.replace("toys:judge", "toybox.toys:judge"))
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("toybox", "toybox.toys"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_every_registry_finds_it(toys: Path) -> None:
    from selfcorrect.agents.critiques import CRITIQUES
    from selfcorrect.agents.loading import named_policy
    from selfcorrect.agents.policies.scripted import ScriptedPolicy
    from selfcorrect.agents.prompts import PROMPTS
    from selfcorrect.agents.search.state import answer_key, shown_to_verifier, strictly_counted_as
    from selfcorrect.agents.search.strategies import sized, strategy_named
    from selfcorrect.rewards.checkers import checker_named
    from selfcorrect.tasks.naming import open_task
    from selfcorrect.tasks.problem import Problem
    from selfcorrect.training.arms.registry import arm_specs
    from selfcorrect.training.ppo.objectives import objective_named
    from selfcorrect.training.settings import ScoreSettings

    assert open_task("toybox.toys:Doubles").name == "Doubles"
    assert checker_named("toybox.toys:judge").check_sync("4", 4).correct
    assert CRITIQUES.find("toybox.toys:MODE").setting == "toy correction"
    assert PROMPTS.find("toybox.toys:WORDS").revise == "Again."
    assert objective_named("toybox.toys:Shaping", ScoreSettings(alpha=3.0)).alpha == 3.0  # type: ignore[attr-defined]
    assert [spec.says for spec in arm_specs(["score", "toybox.toys:arm"])] == ["SCoRe", "A toy arm."]
    assert strategy_named("toybox.toys:Pick:4:mood=bold").mood == "bold"  # type: ignore[attr-defined]
    strategy = sized("toybox.toys:Pick", 8)
    assert strategy is not None and strategy.name == "pick:8"
    policy, _ = named_policy("toybox.toys:policy")
    assert isinstance(policy, ScriptedPolicy)
    problem = Problem(id="a", prompt="2 + 2", reference=4, checker="toybox.toys:Judge")
    assert answer_key(problem)(" Four ") == "four"
    assert asyncio.run(strictly_counted_as(problem, " Four ")) == "Four2 + 2"
    assert shown_to_verifier(problem, "three; no: four; Four") == "Four"


def test_what_cannot_be_made_is_told_with_the_line_that_failed(toys: Path) -> None:
    from selfcorrect.agents.loading import named_policy
    from selfcorrect.agents.search.strategies import strategy_named
    from selfcorrect.rewards.checkers import checker_named
    from selfcorrect.training.ppo.objectives import objective_named
    from selfcorrect.training.settings import ScoreSettings

    torn = "toybox.toys:Torn"
    line = next(n for n, text in enumerate(TOYS.splitlines(), start=1) if "no such disk" in text)
    told = rf"toybox.toys:Torn'? failed: OSError: no such disk \(.*toys.py, line {line}\)"
    with pytest.raises(ConfigurationError, match=told + "; expected generate"):
        named_policy(torn)
    with pytest.raises(ConfigurationError, match=told):
        strategy_named(torn)
    with pytest.raises(ConfigurationError, match=told + "; expected a checker"):
        checker_named(torn)
    with pytest.raises(ConfigurationError, match=told + "; expected name, answer_rewards"):
        objective_named(torn, ScoreSettings())
    with pytest.raises(ConfigurationError, match="it has no parameter n, so that no number can follow its name"):
        strategy_named("toybox.toys:Nameless:4")


def command(python: str, toys: Path, *arguments: str) -> Any:
    """What a command in a process of its own writes as JSON."""
    program = "from selfcorrect.cli.app import app; app()"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(toys), *(path for path in sys.path if path)])}
    done = subprocess.run(
        [python, "-c", program, *arguments, "--json"],
        cwd=toys,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_command_line_evaluates_a_task_policy_prompts_and_mode_of_ones_own(toys: Path, warm_python: str) -> None:
    own = {"--task": "Doubles", "--model": "policy", "--prompts": "WORDS", "--critique": "MODE"}
    options = [part for option, name in own.items() for part in (option, f"toybox.toys:{name}")]
    figures = command(warm_python, toys, "eval", *options, "-n", "3")
    assert (figures["task"], figures["n"]) == ("Doubles", 3)
    assert (figures["accuracy_t1"], figures["accuracy_t2"]) == (0.0, 1.0)


@pytest.mark.slow
def test_the_command_line_trains_an_arm_of_ones_own(toys: Path, warm_python: str) -> None:
    objective = "score.objective=toybox.toys:Shaping"
    task = ["--task", "toybox.toys:Doubles", "--set", "task.largest=9", "--seed", "4"]
    result = command(warm_python, toys, "train", "toybox.toys:arm", *task, "--set", objective, "--out", "run")
    assert result["directory"] == "run"
    written = (toys / "run" / "config.yaml").read_text()
    for line in ("kind: toybox.toys:Doubles", "largest: 9", "objective: toybox.toys:Shaping", "seed: 4"):
        assert line in written


def test_the_task_of_the_documentation_is_one(tmp_path: Path) -> None:
    page = Path(__file__).parents[1] / "docs" / "your-own.md"
    if not page.is_file():
        pytest.skip("tests run against an installed wheel")
    _, _, rest = page.read_text(encoding="utf-8").partition("```python\n# doubling.py\n")
    (tmp_path / "doubling.py").write_text(rest.partition("```")[0])
    report = command(sys.executable, tmp_path, "validate", "doubling:Doubling", "-n", "20")
    assert report["passed"] and report["checked"] == 40
