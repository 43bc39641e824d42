"""A policy is evaluated, asked and served in the loop that it was trained in, unless the options say another."""

import json
from pathlib import Path
from typing import Any

import pytest

from selfcorrect.agents.critiques import Loop, has_findings, record_loop, recorded_loop
from selfcorrect.agents.policies.pretrained import embedded_folder
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.cli.naming import NamedPolicy
from selfcorrect.errors import PolicyError
from selfcorrect.rewards import Checker, CountdownChecker, UnitTestChecker

SUMS = CountdownChecker()

TINY = (
    "optimiser.problems_per_step=2", "score.stage_one_steps=1", "score.stage_two_steps=1", "looks.warm_up_steps=1",
    "evaluation.problems=5",
)  # fmt: skip


class _Tokenizer:
    def __init__(self, **record: Any) -> None:
        self.init_kwargs = record


class _Policy:
    """As much of a policy as has a record."""

    def __init__(self, loop: Loop | None) -> None:
        self.tokenizer = _Tokenizer()
        if loop is not None:
            record_loop(self.tokenizer, loop)


def named(loop: Loop | None) -> NamedPolicy:
    return NamedPolicy("runs/mine", _Policy(loop))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("trained", "critique", "revisions", "checker", "played"),
    [
        (None, None, None, SUMS, Loop("instruction", 1)),
        (None, "self", 3, SUMS, Loop("self", 3)),
        (Loop("self", 8), None, None, None, Loop("self", 8)),
        (Loop("self", 8), None, 2, None, Loop("self", 2)),
        (Loop("self", 8), "self", None, None, Loop("self", 8)),
        (Loop("self", 8), "instruction", None, None, Loop("instruction", 1)),
        (Loop("self", 8), "refine", 2, None, Loop("refine", 2)),
        (Loop("feedback", 4), None, None, SUMS, Loop("feedback", 4)),
        (Loop("feedback", 4), None, None, None, Loop("instruction", 1)),
        (Loop("feedback", 4), "feedback", None, None, Loop("feedback", 4)),
        (Loop("examples", 4), None, None, UnitTestChecker(), Loop("examples", 4)),
        (Loop("examples", 4), None, None, SUMS, Loop("instruction", 1)),
        (Loop("examples", 4), None, None, None, Loop("instruction", 1)),
    ],
)
def test_options_come_before_the_record_and_the_record_before_the_default(
    trained: Loop | None, critique: str | None, revisions: int | None, checker: Checker | None, played: Loop
) -> None:
    assert named(trained).loop(critique, revisions, fits=lambda mode: has_findings(mode, checker)) == played


def test_a_loop_that_nobody_asked_for_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    named(Loop("self", 8)).loop(None, None)
    assert "loop     self, revisions: 8, as runs/mine was trained" in " ".join(capsys.readouterr().err.splitlines())


def test_what_is_played_as_usual_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    named(Loop("instruction", 1)).loop(None, None)
    named(Loop("self", 8)).loop("self", 8)
    assert capsys.readouterr().err == ""


def test_a_trained_loop_that_nobody_can_judge_is_left_and_that_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    named(Loop("feedback", 2)).loop(None, None, fits=lambda mode: has_findings(mode, None))
    assert "was trained in the loop feedback, which asks a checker" in capsys.readouterr().err
    named(Loop("examples", 2)).loop(None, None, fits=lambda mode: has_findings(mode, SUMS))
    assert "in the loop examples, which runs examples of code, and none are shown here" in capsys.readouterr().err


@pytest.mark.parametrize("kept", ["self", {"critique": "self"}, {"critique": "self", "revisions": 0}, {"revisions": 2}])
def test_a_record_that_is_no_loop_is_an_error_that_names_its_file(kept: object) -> None:
    policy = _Policy(None)
    policy.tokenizer.init_kwargs["selfcorrect_loop"] = kept
    with pytest.raises(PolicyError, match=r"tokenizer_config\.json must be a way to critique"):
        recorded_loop(policy)


def test_the_record_is_saved_and_read_with_the_tokenizer(tmp_path: Path) -> None:
    policy = TransformersPolicy.from_pretrained(embedded_folder())
    assert recorded_loop(policy) is None
    record_loop(policy.tokenizer, Loop("self", 3))
    policy.model.save_pretrained(tmp_path)
    policy.tokenizer.save_pretrained(tmp_path)
    assert recorded_loop(TransformersPolicy.from_pretrained(tmp_path)) == Loop("self", 3)


@pytest.mark.parametrize(
    ("options", "served"),
    [
        ({}, Loop("self", 8)),
        ({"revisions": 2}, Loop("self", 2)),
        ({"revisions": 0}, Loop("instruction", 0)),
        ({"critique": "refine"}, Loop("refine", 1)),
    ],
)
def test_a_server_plays_the_loop_too(options: dict[str, Any], served: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    from selfcorrect.cli.serve import _chat_model

    policy = TransformersPolicy.from_pretrained(embedded_folder())
    record_loop(policy.tokenizer, Loop("self", 8))
    monkeypatch.setattr("selfcorrect.cli.naming.open_policy", lambda *_, **__: NamedPolicy("mine", policy))
    chosen = {"revisions": None, "critique": None, "words": None, "constrained": False} | options
    chat = _chat_model("mine", **chosen)
    assert Loop(str(chat.critique), chat.revisions) == served


@pytest.mark.slow
def test_what_judge_then_act_trained_is_used_in_its_loop(run: Any, run_json: Any, tmp_path: Path) -> None:
    sets = [part for one in TINY for part in ("--set", one)]
    trained = run("train", "judge-then-act", "--preset", "looks", "--out", tmp_path / "run", *sets)
    assert trained.status == 0, trained.stderr
    model = tmp_path / "run" / "model"

    figures = run_json("eval", "--model", model, "-n", 5)
    assert figures["critique"] == "self"
    assert len(figures["accuracy"]) == 9
    assert figures["stopped"] is not None

    turns = run_json("solve", "3 5 7 9 get 56", "--model", model)["turns"]
    assert [turn["role"] for turn in turns[:2]] == ["attempt", "critique"]
    plain = run_json("solve", "3 5 7 9 get 56", "--model", model, "--critique", "instruction")["turns"]
    assert [turn["role"] for turn in plain] == ["attempt", "revise"]


@pytest.mark.slow
def test_training_anew_in_another_loop_writes_the_new_one(run: Any, tmp_path: Path) -> None:
    sets = [part for one in TINY[:3] + TINY[4:] for part in ("--set", one)]
    for arm, start in (("pag", "embedded"), ("multi-turn", tmp_path / "pag" / "model")):
        done = run("train", arm, "--preset", "demo", "--model", start, "--out", tmp_path / arm, *sets)
        assert done.status == 0, done.stderr
    kept = {
        arm: json.loads((tmp_path / arm / "model" / "tokenizer_config.json").read_text())["selfcorrect_loop"]
        for arm in ("pag", "multi-turn")
    }
    assert kept == {
        "pag": {"critique": "self", "revisions": 1},
        "multi-turn": {"critique": "instruction", "revisions": 1},
    }
