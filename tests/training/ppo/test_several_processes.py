"""Data-parallel training: what one process learns from a batch, two learn from its halves."""

import json
import math
import os
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import arms_of_many
import pytest
import train_as_one_of_many
from fake_vllm import FakeVLLM, over_http
from safetensors.torch import load_file

from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.verifiers.kinds import load_verifier
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.ppo.metrics import over_processes

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Together:
    """What two processes made of `train_as_one_of_many.everything`: its folder, and what each wrote."""

    folder: Path
    wrote: list[dict[str, Any]]
    servers: dict[str, list[FakeVLLM]]


@pytest.fixture(scope="module")
def two(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory, warm_python: str) -> Together:
    out = tmp_path_factory.mktemp("two")
    launcher = [warm_python, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    servers = {"shared": fakes("adapters", count=1), "apart": fakes("weights", count=2)}
    with ExitStack() as held:
        urls = {name: [held.enter_context(over_http(one)) for one in ones] for name, ones in servers.items()}
        support = str(Path(train_as_one_of_many.__file__).parent)
        paths = os.pathsep.join(filter(None, [support, os.environ.get("PYTHONPATH")]))
        done = subprocess.run(  # noqa: PLW1510
            [*launcher, train_as_one_of_many.__file__, str(tiny_model_folder), str(out)],
            env={**os.environ, "SERVERS": json.dumps(urls), "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=900,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    wrote = [json.loads((out / f"rank-{rank}.json").read_text("utf-8")) for rank in (0, 1)]
    return Together(out, wrote, servers)


def fakes(takes: str, *, count: int) -> list[FakeVLLM]:
    return [FakeVLLM(*arms_of_many.model_of_servers(), [{"id": "small"}], takes=[takes]) for _ in range(count)]


def test_two_processes_make_the_same_update_as_one(tiny_model_folder: Path, tmp_path: Path, two: Together) -> None:
    """Each plays its half of the problems; gradients meet over gloo. Episodes, rewards and so the weights are those
    of one process."""
    trained = train_as_one_of_many.train(tiny_model_folder, tmp_path / "alone")
    alone = {name: tensor.detach() for name, tensor in trained.model.named_parameters()}
    together = load_file(two.folder / "model.safetensors")
    start = load_file(tiny_model_folder / "model.safetensors")
    moved = max(float((alone[name] - start[name]).abs().max()) for name in start)
    apart = max(float((alone[name] - together[name]).abs().max()) for name in start)
    assert moved > 1e-3
    assert apart < 1e-3 * moved
    for mine, theirs in zip(
        trained.state.log_history, json.loads((two.folder / "log.json").read_text(encoding="utf-8")), strict=True
    ):
        for name in {"tokens", "calls", "draws", "no_baseline", "accuracy_t1", "accuracy_t2"} & set(mine):
            assert theirs[name] == pytest.approx(mine[name]), f"{name}, which budgets and tables are made of"


def test_all_processes_have_the_critic_of_one(tiny_model_folder: Path, tmp_path: Path, two: Together) -> None:
    trained: Any = train_as_one_of_many.train(tiny_model_folder, tmp_path / "alone", **train_as_one_of_many.CRITIC)
    alone = [parameter.flatten().tolist() for parameter in trained._critic._head.parameters()]
    first, second = (wrote["critic"] for wrote in two.wrote)
    assert first == second
    assert max(map(abs, alone[0])) > 0.1
    for mine, theirs in zip(alone, first, strict=True):
        flat = theirs[0] if isinstance(theirs[0], list) else theirs
        assert flat == pytest.approx(mine, abs=1e-3)


def test_verdicts_are_balanced_over_what_all_processes_play(
    tiny_model_folder: Path, tmp_path: Path, two: Together
) -> None:
    """Each process has its own share of right answers, and so would weigh verdicts on them by itself."""
    weights, *alone = train_as_one_of_many.judged_and_acted(tiny_model_folder, tmp_path)
    first, second = (wrote["judged and acted"] for wrote in two.wrote)
    assert len(set(weights)) == 2, "right and wrong answers are not equally many"
    assert first[0] == second[0] == pytest.approx(weights)
    for mine, ours, theirs in zip(alone, first[1:], second[1:], strict=True):
        assert ours == theirs == pytest.approx(mine, abs=1e-3)


def test_the_prior_of_given_previous_is_that_of_all_processes(two: Together) -> None:
    """The problem's own episodes are compared first; what is expected beside them comes from all problems played."""
    first, second = two.wrote[0]["advantages"]
    assert first + second == pytest.approx(train_as_one_of_many.advantages(slice(None)))
    assert train_as_one_of_many.advantages(slice(0, 4)) != pytest.approx(first), "one process alone expects otherwise"


def test_an_evaluation_is_shared_and_its_figures_are_those_of_one_process(
    tiny_model_folder: Path, two: Together
) -> None:
    alone = train_as_one_of_many.evaluated(tiny_model_folder)
    assert [wrote["evaluated"] for wrote in two.wrote] == [alone, alone]


def test_what_the_first_does_alone_the_others_get_and_an_error_in_one_ends_all(two: Together) -> None:
    assert [wrote["first alone"] for wrote in two.wrote] == ["rank 0", "rank 0"]
    assert {wrote["agreed"] for wrote in two.wrote} == {"TrainingError: no room on the second"}
    assert sorted(wrote["first to tell"] for wrote in two.wrote) == [False, True]


# Whole runs, and servers.


def same_run(one: Path, other: Path) -> None:
    """The runs have the same steps, figures and weights, up to rounding."""
    steps = [
        [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()] for run in (one, other)
    ]
    for mine, theirs in zip(*steps, strict=True):
        names = {name for name in mine if not any(part in name for part in ("second", "loss", "time", "share"))}
        assert {name: theirs[name] for name in names} == pytest.approx({name: mine[name] for name in names}, abs=1e-3)
    final = [json.loads((run / "metrics.json").read_text("utf-8")) for run in (one, other)]
    assert final[0]["budget"] == final[1]["budget"]
    assert final[1]["after"]["n"] == final[0]["after"]["n"]
    mine, theirs = (load_file(run / "model" / "model.safetensors") for run in (one, other))
    assert max(float((mine[name] - theirs[name]).abs().max()) for name in mine) < 1e-3


def test_a_supervised_arm_samples_and_learns_in_its_processes_as_in_one(tmp_path: Path, two: Together) -> None:
    alone = arms_of_many.self_taught(tmp_path / "alone")
    first, second = (wrote["arms"]["star"] for wrote in two.wrote)
    assert first == second and len(first) == 1, "the same weights in both"
    assert first == pytest.approx(alone, rel=1e-4)
    runs = tmp_path / "alone", two.folder / "star"
    learnt = [(run / "loops" / "loop-1" / "examples.jsonl").read_text("utf-8") for run in runs]
    assert learnt[0] == learnt[1] != ""
    same_run(tmp_path / "alone", two.folder / "star")


def test_v_stars_generator_and_verifiers_are_those_of_one_process(tmp_path: Path, two: Together) -> None:
    arms_of_many.verified(tmp_path / "alone")
    same_run(tmp_path / "alone", two.folder / "vstar")
    for name in ("rounds/1/samples.jsonl", "calibration.jsonl", "held_out.jsonl"):
        assert (tmp_path / "alone" / name).read_text() == (two.folder / "vstar" / name).read_text()
    for kind in ("likelihood", "stepwise"):
        ours, theirs = (load_verifier(run / "verifiers" / kind) for run in (tmp_path / "alone", two.folder / "vstar"))
        asked = [("3 5 7 9 get 56 :", "3 + 5 = 8 ; 8 * 7 = 56"), ("3 5 7 9 get 56 :", "3 + 5 = 8 ; 8 * 9 = 72")]
        # pairs and answers do not divide into batches, whose last one is filled up
        assert theirs.score_all(asked) == pytest.approx(ours.score_all(asked), abs=1e-2)


def test_score_turns_and_a_graph_of_ones_own_are_runs_of_one_process(
    tiny_model_folder: Path, tmp_path: Path, two: Together
) -> None:
    arms_of_many.answer_by_answer(tiny_model_folder, tmp_path / "score-turns")
    same_run(tmp_path / "score-turns", two.folder / "score-turns")
    alone = arms_of_many.own_graph(tiny_model_folder, tmp_path / "own")
    assert [wrote["arms"]["own graph"] for wrote in two.wrote] == pytest.approx([alone, alone], rel=1e-4)
    same_run(tmp_path / "own", two.folder / "own")


@pytest.mark.parametrize(("kind", "where"), [("adapters", "shared"), ("weights", "apart")])
def test_servers_are_given_every_update_once_and_play_for_all_processes(
    tmp_path: Path, two: Together, kind: str, where: str
) -> None:
    """One server for both processes, which ask it by the names of adapters; or one each, given all weights."""
    found = [wrote["arms"][kind] for wrote in two.wrote]
    assert found[0]["checksum"] == found[1]["checksum"]
    given = "/v1/load_lora_adapter" if kind == "adapters" else "/collective_rpc"
    for server in two.servers[where]:
        assert server.told.count(given) == 3
    drawn = [body for server in two.servers[where] for body in server.asked if body["temperature"] == 1.0]
    assert len(drawn) == sum(step["draws"] for step in found[0]["steps"])
    if kind == "adapters":
        versions = {body["model"].rpartition("-")[2] for body in drawn}
        assert versions == {"1", "2"}, "played ahead, so that the last batch is by the weights of one update before"
    else:
        assert all(step["mismatch/nats"] < 1e-4 for step in found[0]["steps"]), "none is of stale weights"
    with ExitStack() as held:
        urls = [held.enter_context(over_http(server)) for server in fakes(kind, count=1)]
        alone = arms_of_many.on_servers(urls, tmp_path, adapters=kind == "adapters")
    assert found[0]["checksum"] == pytest.approx(alone["checksum"], rel=1e-4)


def test_counts_of_processes_are_added_and_shares_averaged_over_those_that_have_them() -> None:
    """Tokens were averaged once, and the budget of a run on two processes was half of what it had cost."""
    first = {"tokens": 100.0, "calls": 8.0, "accuracy_t1": 0.25, "kl_t1": math.nan}
    second = {"tokens": 60.0, "calls": 8.0, "accuracy_t1": 0.75, "kl_t1": 0.5, "offline": 0.5, "entropy": math.nan}
    assert over_processes([first, second]) == {
        "tokens": 160.0, "calls": 16.0, "accuracy_t1": 0.5, "kl_t1": 0.5, "offline": 0.5
    }  # fmt: skip


def test_a_problem_is_never_split_over_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its episodes are each other's baseline."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigurationError, match="3 problems a step do not divide into 2 processes"):
        TurnPPOConfig(output_dir=tmp_path, steps=1, problems_per_step=3, episodes_per_problem=4)
