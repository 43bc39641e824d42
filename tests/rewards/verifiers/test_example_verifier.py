"""Programs scored by the examples that their problem shows, and verifiers by name."""

import asyncio
import sys
from pathlib import Path
from types import ModuleType

import pytest

from selfcorrect.errors import CheckerError, ConfigurationError
from selfcorrect.rewards import ScriptedVerifier, UnitTestChecker, Verifier
from selfcorrect.rewards.verifiers.examples import ExampleVerifier
from selfcorrect.rewards.verifiers.naming import VERIFIERS, verifier_named

PROBLEM = "Write f.\n\nassert f(2) == 4\nassert f(3) == 9\nassert f(0) == 0\nassert math.isclose(f(0.5), 0.25)"


def block(program: str) -> str:
    return f"```python\n{program}\n```"


def test_a_score_is_the_share_of_the_examples_that_hold() -> None:
    verifier = ExampleVerifier()
    asked = [
        block("def f(x): return x * x"),
        block("def f(x): return x + x"),  # 2, 0
        block("def f(x): return None"),
        block("def f(x): raise ValueError"),
        block("def g(x): return x"),
        "",
    ]
    assert isinstance(verifier, Verifier)
    assert asyncio.run(verifier.scores(PROBLEM, asked)) == [1.0, 0.5, 0.0, 0.0, 0.0, None]


def test_without_examples_it_abstains() -> None:
    assert asyncio.run(ExampleVerifier().scores("Write f.", [block("def f(x): return x")] * 2)) == [None, None]
    assert asyncio.run(ExampleVerifier().scores(PROBLEM, [])) == []


def test_shares_need_a_checker_that_pays_them() -> None:
    with pytest.raises(ConfigurationError, match="partial=True"):
        ExampleVerifier(UnitTestChecker())
    assert ExampleVerifier(UnitTestChecker(partial=True, deadline=1.0)).runner.checker.partial


def test_verifiers_have_names_and_one_of_ones_own_has_its_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = ModuleType("own_verifiers")
    own.made, own.Mine, own.nothing = ScriptedVerifier({}), lambda: 1, 3  # type: ignore[attr-defined]
    own.Class = type("Class", (ScriptedVerifier,), {"__init__": lambda self: None})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_verifiers", own)
    monkeypatch.chdir(tmp_path)
    assert isinstance(verifier_named("examples"), ExampleVerifier) and list(VERIFIERS) == ["examples"]
    assert verifier_named("own_verifiers:made") is own.made
    assert isinstance(verifier_named("own_verifiers:Class"), own.Class)
    with pytest.raises(ConfigurationError, match="own_verifiers:nothing: expected a verifier"):
        verifier_named("own_verifiers:nothing")
    with pytest.raises(
        CheckerError, match="no verifier 'example'; did you mean examples.*examples, or package.module:Name"
    ):
        verifier_named("example")


def test_a_verifier_s_folder_goes_before_a_name_and_no_other_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "examples").mkdir()
    monkeypatch.chdir(tmp_path)
    assert isinstance(verifier_named("examples"), ExampleVerifier)
    (tmp_path / "examples" / "verifier.json").write_text("{}")
    with pytest.raises(CheckerError, match="damaged"):
        verifier_named("examples")
