"""An option that cannot apply is refused with the reason, before anything is loaded: every such option of every
command."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from selfcorrect.cli.compare import _read_by_some
from selfcorrect.cli.naming import NamedPolicy
from selfcorrect.cli.training_run import RunRequest
from selfcorrect.settings import combine
from selfcorrect.training.arms.registry import ARMS, arm_specs
from selfcorrect.training.settings import FULL

ASK = ["solve", "3 5 7 9 get 56"]
QUIET = ["train", "quiet-star"]
REFUSED = [
    # solve: a loop, a search, or an answer only if it is sure enough; each has options of its own
    ([*ASK, "--verifier", "v"], "--verifier: nothing is chosen: give --strategy best_of_n:16, or --max-risk"),
    ([*ASK, "--step-verifier", "v"], "--step-verifier: nothing is chosen"),
    ([*ASK, "--thread", "one"], "--thread: it names an episode in a store: give --checkpoint FILE, too"),
    ([*ASK, "--seed", "3"], "--seed: greedily every draw is the same: give --temperature 1, too"),
    ([*ASK, "--strategy", "majority:4", "--revisions", "2"], "--revisions: a search (majority:4) has no such loop"),
    ([*ASK, "--budget", "90", "--critique", "self"], "--critique: a search (majority) has no such loop"),
    ([*ASK, "--strategy", "majority:4", "--thread", "s"], "--thread: it names an episode in a store"),
    ([*ASK, "--strategy", "majority:4", "--verifier", "v"], "majority:4 chooses without one; take best_of_n"),
    ([*ASK, "--budget", "90", "--verifier", "v"], "--verifier: majority chooses without one"),
    ([*ASK, "--strategy", "revise:4,pick=last", "--verifier", "v"], "chooses without one"),
    ([*ASK, "--strategy", "best_of_n:4", "--step-verifier", "v"], "only beam scores unfinished answers"),
    ([*ASK, "--strategy", "majority:4", "--plan", "p"], "--plan: only compute_optimal follows a plan"),
    ([*ASK, "--max-risk", "0.1"], "--max-risk needs a calibrated verifier"),
    ([*ASK, "--max-risk", "0.1", "--verifier", "v", "--revisions", "2"], "nothing is revised or stored"),
    ([*ASK, "--max-risk", "0.1", "--verifier", "v", "--checkpoint", "s"], "nothing is revised or stored"),
    ([*ASK, "--max-risk", "0.1", "--verifier", "v", "--temperature", "1"], "samples as the verifier was calibrated"),
    ([*ASK, "--max-risk", "0.1", "--verifier", "v", "--strategy", "majority:4"], "leave --strategy, --budget"),
    # scale, tune-budget
    (["scale", "--strategies", "majority", "--verifier", "v"], "--verifier: majority chooses without one"),
    (["scale", "--strategies", "majority", "--step-verifier", "v"], "only beam scores unfinished answers"),
    (["scale", "--strategies", "majority", "--plan", "p"], "only compute_optimal follows a plan"),
    (["tune-budget", "--strategies", "majority", "--verifier", "v"], "--verifier: majority chooses without one"),
    (["tune-budget", "--strategies", "revise", "--step-verifier", "v"], "only beam scores unfinished answers"),
    # files and made-up problems
    (["eval", "--map", "a=prompt"], "--map names columns of a file, but countdown has none"),
    (["eval", "--split", "all"], "--split all: countdown-4 makes its problems up"),
    (["validate", "rows.jsonl", "-n", "5"], "--problems: files and data sets are checked whole"),
    (["validate", "rows.jsonl", "--seed", "5"], "--seed: files and data sets are checked whole"),
    (["validate", "countdown", "--map", "a=prompt"], "--map names columns of a file"),
    (["adapt", "rows.jsonl", "-n", "5"], "--problems counts those of --task; a FILE is taken whole"),
    (["adapt", "rows.jsonl", "--task", "countdown"], "give either a FILE of problems or --task NAME"),
    (["adapt", "rows.jsonl", "--map", "gold=answer"], "of a FILE only the prompt is read"),
    (["train", "score", "--map", "a=prompt"], "--map names the columns of the file of --task: give --task FILE too"),
    (["compare", "--map", "a=prompt"], "--map names the columns of the file of --task: give --task FILE too"),
    # others
    (["compare", "--quick", "-n", "5"], "--problems: --quick evaluates on 100"),
    (["compare", "--arms", "base", "--reference", "score"], "it is none of the arms that are compared"),
    (["serve", "--revisions", "0", "--critique", "self"], "--critique: with --revisions 0 nothing is revised"),
    (["eval", "--revisions", "0", "--critique", "self"], "--critique: with --revisions 0 nothing is revised"),
    (["serve", "--critique", "feedback"], "nothing judges the answers of a conversation"),
    (["train", "score", "--stage2", "star", "--no-shaping"], "pays no rewards and needs Stage I"),
    (["train", "score", "--resume", "run", "--seed", "1"], "--resume goes on with a run's own settings"),
    (["train", "score", "--resume", "run", "--preset", "demo"], "--resume goes on with a run's own settings"),
    (["train", "star", "--resume", "run", "--data", "single"], "--resume goes on with a run's own settings"),
    (["train", "score", "--resume", "run", "--max-answer-tokens", "9"], "--resume goes on with a run's own settings"),
    ([*QUIET, "--resume", "run", "--tokens", "4"], "--resume goes on with a run's own settings"),
    # settings of one arm, set for another
    (["train", "star", "--set", "score.alpha=2"], "--set score.alpha: star does not read settings of score"),
    (["train", "star", "--set", "optimiser.clip=0.1"], "optimiser.clip: star does not read settings of optimiser"),
    (["train", "score", "--set", "star.loops=2"], "star.loops: score does not read settings of star"),
    (["train", "score", "--set", "looks.decay=0.5"], "looks.decay: score does not read settings of looks"),
    (["train", "sft", "--set", "pair_sft.steps=2"], "pair_sft.steps: sft does not read settings of pair_sft"),
    (["train", "vstar", "--set", "score.beta1=2"], "score.beta1: vstar does not read settings of score"),
    (["demo", "--set", "vstar.rounds=2"], "vstar.rounds: score does not read settings of vstar"),
    (["train", "star", "--set", "save_every=2"], "--set save_every: star writes no checkpoints"),
    (["compare", "--set", "vstar.rounds=2"], "a comparison of base, sample-again, self-refine, single-turn"),
    (["compare", "--set", "star.loops=2", "--arms", "base,score"], "does not read settings of star"),
    (["compare", "--arms", "star,score", "--set-arm", "star:score.alpha=2"], "--set-arm star: score.alpha: star"),
    (["compare", "--arms", "base,score", "--set-arm", "base:optimiser.clip=1"], "it reads those of no arm"),
    # in a file, too: it was made in `a_folder_with_a_file`
    (["train", "score", "--config", "both.yaml"], "both.yaml: star.loops: score does not read settings of star"),
    (["train", "star", "--config", "both.yaml"], "both.yaml: score.alpha: star does not read settings of score"),
    (["train", "star", "--config", "kept.yaml"], "--config kept.yaml: save_every: star writes no checkpoints"),
    (["compare", "--arms", "base,score", "--config", "both.yaml"], "a comparison of base, score does not read"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def a_folder_with_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"{n} {n + 1} get {2 * n + 1}", "answer": n} for n in range(1, 40)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("p").write_text("{}")
    Path("both.yaml").write_text("{score: {alpha: 3}, star: {loops: 2}}")
    Path("kept.yaml").write_text("save_every: 7")


@pytest.mark.parametrize(("arguments", "reason"), REFUSED, ids=[" ".join(arguments) for arguments, _ in REFUSED])
def test_an_option_that_cannot_apply_is_refused_with_the_reason(run: Any, arguments: list[str], reason: str) -> None:
    done = run(*arguments)
    assert (done.status, done.stdout) == (2, ""), done
    assert reason in " ".join(done.stderr.split()) and "Traceback" not in done.stderr
    assert not Path("runs").exists(), "nothing was begun"


def test_a_file_for_several_arms_serves_a_comparison_of_them() -> None:
    _, reads = _read_by_some(arm_specs(["score", "star"]))
    settings = RunRequest("compare", config=Path("both.yaml"), usual="demo", arm=("both", reads)).settings()
    assert (settings.score.alpha, settings.star.loops) == (3, 2)


def test_the_settings_that_a_run_has_written_down_are_a_file_of_settings_too(tmp_path: Path) -> None:
    """It holds all groups, as its preset has them."""
    before = combine(FULL, {"star": {"loops": 2}}, [])
    written = Path("config.yaml")
    written.write_text(yaml.safe_dump(before.model_dump(mode="json")))
    request = RunRequest("train star", config=written, arm=("star", ARMS["star"].reads))
    assert request.settings() == before


def test_feedback_without_anything_that_judges_is_refused(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfcorrect.cli.naming.NamedPolicy.refuse_critique", lambda *given: None)
    monkeypatch.setattr("selfcorrect.cli.solve.open_policy", lambda name: _Reader())
    done = run("solve", "Why?", "--critique", "feedback")
    assert done.status == 2 and "nothing judges this question" in done.stderr


class _Reader:
    """A policy that reads everything and is never asked."""

    name, policy, reads_english = "reader", None, True
    problem_of, loop = NamedPolicy.problem_of, NamedPolicy.loop

    def refuse_unreadable(self, prompt: str) -> None: ...
    def refuse_critique(self, mode: object, checker: object) -> None: ...
    def warn_beyond(self, revisions: int) -> None: ...
