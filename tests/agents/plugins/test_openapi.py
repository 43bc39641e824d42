"""The server keeps to its own OpenAPI document, whatever of it schemathesis sends: no 5xx, answers of the told form."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from local_server import serving_app
from typing_policy import TypingPolicy, typed_call

from selfcorrect.agents.plugins.chat_model import ChatSelfCorrect
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.serving.limits import Limits
from selfcorrect.agents.serving.openai_app import openai_app

COMMAND = os.environ.get("SELFCORRECT_SCHEMATHESIS") or shutil.which("schemathesis")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        COMMAND is None,
        reason="schemathesis and langgraph-cli want other versions of jsonschema-rs: install schemathesis in an "
        "environment of its own and name its command in SELFCORRECT_SCHEMATHESIS",
    ),
]
EXAMPLES = 40


def says(prompt: str, seed: int) -> str:
    return typed_call("add", '{"a": 3}') if "# Tools" in prompt else '{"sum": 7}'


def test_a_schemathesis_run_finds_no_server_error_and_no_answer_of_another_form(tmp_path: Path) -> None:
    models = {
        "typist": ChatSelfCorrect(policy=TypingPolicy(says), revisions=0),
        "plain": ChatSelfCorrect(policy=ScriptedPolicy(["a", "b"])),
    }
    assert COMMAND is not None
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    with serving_app(openai_app(models, limits=Limits(seconds=20.0))) as address:
        done = subprocess.run(
            [COMMAND, "run", f"{address}/openapi.json", "--checks", checks, "--max-examples", str(EXAMPLES),
             "--seed", "1", "--no-color", "--workers", "1", "--request-timeout", "60"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "server error" not in done.stdout.lower()
