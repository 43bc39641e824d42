"""`selfcorrect solve --max-risk`: an answer with a promise, or "I don't know"."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfcorrect.agents.policies.pretrained import embedded_folder
from selfcorrect.rewards.verifiers.encoding import Wording, tokenizer_fingerprint
from selfcorrect.rewards.verifiers.folder import Calibration, Platt, VerifierCard, write_calibration
from selfcorrect.rewards.verifiers.kinds import LikelihoodVerifier

QUESTION = "3 5 7 9 get 56"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded policy's own reviews as a verifier, with made-up calibration answers: scores of 0.5 and more are
    safe."""
    made = tmp_path_factory.mktemp("verifier")
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    wording, platt = Wording(review="check : {last_step} right"), Platt(26.0, 37.0)
    card = VerifierCard("likelihood", tokenizer_fingerprint(tokenizer), wording, platt, measure="log_likelihood")
    LikelihoodVerifier(AutoModelForCausalLM.from_pretrained(embedded_folder()), None, tokenizer, card).save(made)
    answers = [(0.9, True)] * 300 + [(0.1, False)] * 100
    write_calibration(made, Calibration(1.0, {"attempt": answers, "best_of_8": answers}))
    return made


def test_an_answer_comes_with_its_score_and_the_rule(run: Any, folder: Path) -> None:
    done = run("solve", QUESTION, "--verifier", str(folder), "--max-risk", "0.1", "--json")
    made = json.loads(done.stdout)
    assert done.status == 0 and made["candidates"] == 8 and made["rule"]["max_risk"] == 0.1
    assert (made["answer"] is None) == (made["score"] is None or made["score"] < made["rule"]["threshold"])


def test_it_says_when_it_does_not_know(run: Any, folder: Path) -> None:
    card = json.loads((folder / "verifier.json").read_text())
    (folder / "verifier.json").write_text(json.dumps(card | {"platt": {"slope": 26.0, "intercept": -900.0}}))
    done = run("solve", QUESTION, "--verifier", str(folder), "--max-risk", "0.1")
    (folder / "verifier.json").write_text(json.dumps(card))
    assert done.status == 0 and "I don't know" in done.stdout and "held back" in done.stdout


def test_a_risk_that_cannot_be_kept_and_missing_or_contrary_options_are_told(run: Any, folder: Path) -> None:
    done = run("solve", QUESTION, "--verifier", str(folder), "--max-risk", "0.001", "--json")
    assert done.status == 2 and "no score is known to keep the risk at 0.1%" in done.stdout
    done = run("solve", QUESTION, "--max-risk", "0.1", "--json")
    assert done.status == 2 and "needs a calibrated verifier" in done.stdout
    done = run("solve", QUESTION, "--verifier", str(folder), "--max-risk", "0.1", "--strategy", "majority:4", "--json")
    assert done.status == 2 and "leave --strategy, --budget and --plan away" in done.stdout
