"""The same names everywhere: options of every command, help, completion, and `selfcorrect settings`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from selfcorrect.cli.app import app
from selfcorrect.cli.console import Results
from selfcorrect.setting_groups import dotted_names
from selfcorrect.training.settings import PRESETS, RunSettings


def commands(command: Any, name: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its name, groups opened."""
    for child_name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*name, child_name))
    if not getattr(command, "commands", None):
        yield name, command


COMMANDS = dict(commands(get_command(app)))
ARMS = [name for name in COMMANDS if name[0] == "train"]


def options_of(name: tuple[str, ...]) -> set[str]:
    return {option for parameter in COMMANDS[name].params for option in parameter.opts}


@pytest.mark.parametrize("name", [*ARMS, ("demo",)], ids=" ".join)
def test_every_way_to_train_knows_the_same_options(name: tuple[str, ...]) -> None:
    shared = {"--model", "--task", "--seed", "--device", "--dtype", "--out", "--max-answer-tokens", "--resume", "--set"}
    assert shared <= options_of(name)


def test_every_command_that_opens_a_model_can_place_it_and_every_one_that_draws_problems_counts_them_alike() -> None:
    for name, command in COMMANDS.items():
        options = options_of(name)
        if "--model" in options and name not in {("validate",), ("demo",)}:
            assert {"--device", "--dtype"} <= options, name
        counts = [set(parameter.opts) for parameter in command.params if parameter.name in ("n", "problems")]
        assert counts in ([], [{"-n", "--n", "--problems"}]), name
        words = {"--task", "--model"} <= options and name != ("demo",) or name[0] in ("solve", "serve")
        assert not words or "--prompts" in options, name


@pytest.mark.parametrize("name", [(), ("train",), ("train", "score"), ("eval",), ("check", "math")], ids=" ".join)
def test_h_is_help(run: Any, name: tuple[str, ...]) -> None:
    assert run(*name, "-h").stdout == run(*name, "--help").stdout != ""


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("selfcorrect tr", "train"),
        ("selfcorrect train sc", "score"),
        ("selfcorrect train score --pre", "--preset"),
        ("selfcorrect eval --task count", "countdown"),
        ("selfcorrect train score --set score.al", "score.alpha="),
        ("selfcorrect settings score-", "score-paper"),
    ],
)
def test_a_shell_completes_commands_options_and_values(typed: str, offered: str) -> None:
    asked = {"_SELFCORRECT_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    done = CliRunner().invoke(app, [], prog_name="selfcorrect", env=asked)
    assert offered in done.stdout.split()


def test_settings_tells_every_setting_with_type_default_and_meaning(run_json: Any, run: Any) -> None:
    rows = {row["name"]: row for row in run_json("settings", "demo")}
    assert rows["score.alpha"] == {
        "name": "score.alpha",
        "type": "float",
        "default": 1.0,
        "says": "Weight of the progress bonus r_2 - r_1 in Stage II.",
    }
    assert rows["policy.device"]["default"] == "auto" and rows["optimiser.clip_high"]["type"] == "float or None"
    shown = run("settings", "demo").stdout
    assert "score.alpha  float = 1.0\n    Weight of the progress bonus" in shown
    assert max(map(len, shown.splitlines())) < 400, "no line is padded to the width of a pipe"


@pytest.mark.parametrize("about", [[], ["lm"], ["train", "star"], ["quiet-star"], ["adapt"], ["compare"]], ids=" ".join)
def test_no_setting_is_without_a_meaning(run_json: Any, about: list[str]) -> None:
    rows = run_json("settings", *about)
    assert [row["name"] for row in rows if not row["says"] or not row["type"]] == []


def test_the_settings_of_a_preset_are_its_own(run_json: Any) -> None:
    for name in ("demo", "lm"):
        rows = {row["name"]: row["default"] for row in run_json("settings", name)}
        assert rows["optimiser.learning_rate"] == PRESETS[name].optimiser.learning_rate


def test_the_schema_of_settings_allows_every_group_of_a_registry(run: Any) -> None:
    schema = json.loads(run("settings", "--json-schema").stdout)
    assert set(schema["properties"]) == set(RunSettings.model_fields)
    kinds = [group["properties"]["kind"]["const"] for group in schema["properties"]["task"]["anyOf"]]
    assert {"countdown", "jsonl", "mbpp"} <= set(kinds)
    assert schema["$defs"]["ScoreSettings"]["properties"]["alpha"]["description"].startswith("Weight of the progress")


def test_what_settings_cannot_be_asked_about_is_told(run: Any) -> None:
    done = run("settings", "sore")
    assert done.status == 2 and "did you mean score?" in done.stderr
    assert run("settings", "--json-schema", "--json").status == 2


def test_dotted_names_are_those_that_set_takes() -> None:
    names = dotted_names(RunSettings)
    assert "score.alpha" in names and "score" not in names and "vstar.generator.batch" in names


def test_a_pipe_gets_lines_as_long_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    with (tmp_path / "piped").open("w", encoding="utf-8") as file:
        Results(file=file).print("long " * 100)
    assert len((tmp_path / "piped").read_text().splitlines()) == 1
    with (tmp_path / "screen").open("w", encoding="utf-8") as file:
        Results(file=file, force_terminal=True, width=40).print("long " * 100)
    assert len((tmp_path / "screen").read_text().splitlines()) > 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["demo", "--model", "x"], "selfcorrect train score --model x"),
        (["demo", "--task", "math"], "selfcorrect train score --task math"),
        (["train", "quiet-star", "--task", "math"], "name it with --text FILE"),
        (["train", "quiet-star", "--max-answer-tokens", "9"], "the length of a thought is --tokens"),
        (["train", "quiet-star", "--prompts", "math"], "learns from plain text"),
        (["train", "quiet-star", "--preset", "lm"], "selfcorrect settings quiet-star"),
        (["train", "quiet-star", "--dtype", "bfloat16"], "expected 'auto' or 'float32', got 'bfloat16'"),
        (["train", "quiet-star", "--device", "warp"], "'warp' is no device"),
    ],
)
def test_what_an_arm_has_no_use_for_is_refused_with_the_reason(
    run: Any, arguments: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.status == 2 and reason in done.stderr
