"""Policies and training at a service that speaks Tinker's API: with the real SDK, and SkyRL's server on the CPU where
SKYRL_PYTHON names an interpreter that has it, see .ci/doors."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypedDict

import pytest
import torch
from langgraph.graph import END, START, StateGraph

from selfcorrect.agents.loading import named_policy
from selfcorrect.agents.policies.tinker import ServiceAdapter, TinkerPolicy
from selfcorrect.agents.policy import GREEDY, Sampling
from selfcorrect.agents.recording import PolicyCall
from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import ConfigurationError, PolicyError
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.elsewhere import CreditedRow, Learner, credited_rows, datum, train_elsewhere
from selfcorrect.training.own_graph_run import OwnRunDirectory
from selfcorrect.training.ppo.batching import call_table, placed_rows, row_tensors, token_batch, trl_batch
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.ppo.loss import learning_items, ppo_loss, token_weights_BT
from selfcorrect.training.ppo.objectives import TurnSignal
from selfcorrect.training.ppo.rollouts import Episode

HERE = Path(__file__).parent
ANY = Problem(id="a", prompt="a", reference="a", checker="none")


def settings(path: Path, **options: Any) -> TurnPPOConfig:
    usual: dict[str, Any] = {"steps": 1, "problems_per_step": 1, "episodes_per_problem": 2, "save_every": 0}
    return TurnPPOConfig(output_dir=path, **{**usual, **options})


def call(node: str, prompt: list[int], drawn: list[int], turn: int = 1) -> PolicyCall:
    said = Generation(
        text="", messages=[], prompt_ids=prompt, completion_ids=drawn, logprobs=[-0.1 * one for one in drawn],
        finish_reason="stop",
    )  # fmt: skip
    return PolicyCall(node, node, said, Sampling())


def episode(rewards: tuple[float, float], *, kl: float = 0.0, learns: bool = True) -> Episode:
    """Two turns in one row: 1 2 | 3 4 | 5 | 6 7 8, of which the model drew 3 4 and 6 7 8."""
    calls = [call("write", [1, 2], [3, 4]), call("check", [1, 2, 3, 4, 5], [6, 7, 8])]
    signals = [
        TurnSignal(rewards[0], kl, kind="write 1", learns=learns), TurnSignal(rewards[1], 0.0, kind="check 1"),
    ]  # fmt: skip
    return Episode(ANY, {}, calls, signals, [])


def test_every_token_carries_the_advantage_of_its_own_turn_and_context_none(tmp_path: Path) -> None:
    rows = credited_rows([episode((1.0, 0.0)), episode((0.0, 0.5))], settings(tmp_path))
    assert [row.ids for row in rows] == [[1, 2, 3, 4, 5, 6, 7, 8]] * 2
    assert rows[0].logprobs == pytest.approx([0, 0, -0.3, -0.4, 0, -0.6, -0.7, -0.8])
    # ten tokens learn; of two episodes each is compared with the other
    assert rows[0].advantages == pytest.approx([0, 0, 0.1, 0.1, 0, -0.05, -0.05, -0.05])
    assert rows[1].advantages == pytest.approx([0, 0, -0.1, -0.1, 0, 0.05, 0.05, 0.05])


def test_a_turn_that_does_not_learn_is_context(tmp_path: Path) -> None:
    rows = credited_rows([episode((1.0, 0.0), learns=False), episode((0.0, 0.6))], settings(tmp_path))
    assert rows[0].advantages[2:4] == [0.0, 0.0] and rows[1].advantages[2:4] != [0.0, 0.0]
    assert rows[1].advantages[5] == pytest.approx(0.6 / 8)  # eight tokens learn


@pytest.mark.parametrize("by", ["token", "turn", 7])
def test_the_losses_of_the_tokens_add_up_to_what_train_minimises(tmp_path: Path, by: Any) -> None:
    played, config = [episode((1.0, 0.0)), episode((0.0, 0.5))], settings(tmp_path, normalise_loss=by)
    sent = credited_rows(played, config)
    table = call_table(played)
    rows = row_tensors(placed_rows(played, table), pad_id=0)
    advantages_RT = rows.spread(torch.tensor([1.0, -0.5, -1.0, 0.5]))
    batch = trl_batch(rows, table, advantages_RT, torch.zeros_like(advantages_RT))
    batch["weights"] = token_weights_BT(rows.calls_RT, by)
    normaliser = learning_items(batch["tool_mask"], batch["weights"], rows.calls_RT, by)
    moved_RT = rows.old_logprobs_RT + 0.3 * torch.randn(rows.old_logprobs_RT.shape, generator=torch.manual_seed(0))
    whole = ppo_loss(moved_RT, token_batch(batch, normaliser))
    total = 0.0
    for number, row in enumerate(sent):
        for place, (old, advantage) in enumerate(zip(row.logprobs, row.advantages, strict=True)):
            new = float(moved_RT[number, place - 2]) if place >= 2 else old
            ratio = torch.tensor(new - old).exp()
            total -= float(torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage))
    assert total == pytest.approx(float(whole.total), abs=1e-6)


@pytest.mark.parametrize(("over", "charged"), [("token", [0.1, 0.2]), ("turn", [0.3, 0.2])])
def test_a_kl_is_charged_to_the_tokens_of_the_turns_that_have_one(
    tmp_path: Path, over: Any, charged: list[float]
) -> None:
    """Each token its own, or for whole turns that of the turn's later ones too."""
    played = [episode((1.0, 0.0), kl=0.5), episode((0.0, 0.5), kl=0.5)]
    free = credited_rows(played, settings(tmp_path))
    theirs = [-9.0, -9.0, -0.5, -0.8, -9.0, -9.0, -9.0, -9.0]  # of 3 and 4 the policy has -0.3 and -0.4
    paid = credited_rows(played, settings(tmp_path, kl_over=over), reference=[theirs, theirs])
    for before, after in zip(free, paid, strict=True):
        less = [one - other for one, other in zip(before.advantages, after.advantages, strict=True)]
        assert less == pytest.approx([0, 0, charged[0] / 10, charged[1] / 10, 0, 0, 0, 0], abs=1e-6)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"surrogate": "gspo"}, "surrogate"), ({"dual_clip": 3.0}, "dual_clip"), ({"entropy": 0.1}, "entropy"),
        ({"temperature": 0.7}, "temperature"), ({"critic": {}}, "critic"), ({"no_spread": "resample"}, "no_spread"),
        ({"evaluate_every": 1}, "evaluate_every"), ({"kl_target": 0.1}, "kl_target"),
    ],
)  # fmt: skip
def test_what_the_protocol_has_no_room_for_is_refused(tmp_path: Path, words: Any, options: Any, name: str) -> None:
    policy = TinkerPolicy(None, words, learner=object())
    with pytest.raises(ConfigurationError, match=name):
        trained(policy, settings(tmp_path / "run", **options))
    assert not (tmp_path / "run").exists()


def test_a_policy_that_only_writes_is_not_trained(tmp_path: Path, words: Any) -> None:
    with pytest.raises(ConfigurationError, match="to_train"):
        trained(TinkerPolicy(None, words), settings(tmp_path))


@pytest.mark.parametrize("save_every", [None, 0], ids=["no run", "a run that kept nothing"])
def test_where_no_checkpoint_is_noted_nothing_can_be_resumed(
    tmp_path: Path, words: Any, save_every: int | None
) -> None:
    config = settings(tmp_path / "run")
    if save_every is not None:
        OwnRunDirectory.begin(config, resume=False)
    with pytest.raises(ConfigurationError, match="names no checkpoint of a service"):
        trained(TinkerPolicy(None, words, learner=object()), config, resume=True)


@pytest.mark.parametrize(("other", "said"), [({"rank": 16}, "rank 16"), ({"model": "small"}, "model 'small'")])
def test_a_run_is_not_resumed_with_another_adapter(tmp_path: Path, words: Any, other: Any, said: str) -> None:
    policy = TinkerPolicy(None, words, adapter=ServiceAdapter(None, "large", 8))
    learner = Learner(policy, settings(tmp_path), "sum")
    with pytest.raises(ConfigurationError, match=f"has {said}, the policy"):
        learner.take_up({"step": 2, "model": "large", "rank": 8, **other, "state": "tinker://a/weights/b"})


def test_a_policy_without_an_adapter_takes_up_none(words: Any) -> None:
    with pytest.raises(ConfigurationError, match="to_train"):
        TinkerPolicy(None, words, learner=object()).take_up("tinker://a/weights/b")


def test_without_the_sdk_a_name_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tinker", None)
    with pytest.raises(PolicyError, match="tinker"):
        named_policy("tinker:some/model@http://127.0.0.1:1")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "127.0.0.1:1", "http://"])
def test_where_nobody_answers_is_told_at_once(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setitem(sys.modules, "tinker", SimpleNamespace())
    with pytest.raises(PolicyError, match=f"no training service answers at {url}"):
        TinkerPolicy.to_train("some/model", url=url)


def test_a_name_with_an_option_that_a_service_lacks_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"Tinker service has no option 'concurrency'; it has tokenizer"):
        named_policy("tinker:some/model@http://127.0.0.1:1?concurrency=3")


def test_a_row_is_sent_as_ids_and_for_each_the_one_that_follows() -> None:
    pytest.importorskip("tinker", reason="the extra tinker is not installed; see .ci/doors")
    sent = datum(CreditedRow([5, 6, 7], [0.0, -0.5, -1.5], [0.0, 0.25, -1.0]), scale=2.0)
    assert sent.model_input.to_ints() == [5, 6]
    told = {name: (data.dtype, data.tolist()) for name, data in sent.loss_fn_inputs.items()}
    assert told == {
        "target_tokens": ("int64", [6, 7]), "logprobs": ("float32", [-0.5, -1.5]),
        "advantages": ("float32", [0.5, -2.0]),
    }  # fmt: skip


# With the server. All prompts and completions are short, since every other length is compiled anew.


class Said(TypedDict, total=False):
    word: str
    again: str


def graph_of(policy: Any) -> Any:
    async def write(state: Said) -> Said:
        return {"word": (await policy.generate([Message(role="user", content="a b c")], GREEDY))["text"]}

    async def check(state: Said) -> Said:
        return {"again": (await policy.generate([Message(role="user", content="c b a")], GREEDY))["text"]}

    graph = StateGraph(Said).add_node("write", write).add_node("check", check)
    return graph.add_edge(START, "write").add_edge("write", "check").add_edge("check", END).compile()


def place(text: str) -> float:
    """Of its first letter: 0.2 is "a", 1.2 is "f"; 0 where there is none."""
    return ("abcdef".find(text[:1] or "?") + 1) / 5


def paid(state: Said, calls: list[PolicyCall]) -> list[float]:
    """One node for late letters, the other for early ones."""
    return [place(one.text) if one.node == "write" else 1.4 - place(one.text) for one in calls]


def trained(policy: TinkerPolicy, config: TurnPPOConfig, **options: Any) -> Any:
    return train_elsewhere(
        graph_of(policy), [ANY], policy=policy, inputs=lambda problem: {}, config=config,
        **{"reward_fn": paid, **options},
    )  # fmt: skip


@pytest.fixture(scope="module")
def words() -> Any:
    from gallery import tokenizer

    return tokenizer(["a b c d e f"])


@pytest.fixture(scope="module")
def service(words: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The address of SkyRL's server of a random model, and the model's folder."""
    pytest.importorskip("tinker", reason="the extra tinker is not installed; see .ci/doors")
    python = os.environ.get("SKYRL_PYTHON")
    if python is None:
        pytest.skip("SKYRL_PYTHON names no interpreter with skyrl; see .ci/doors")
    from gallery import untrained

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("service")
    model = untrained(words, hidden=32, layers=1).model
    model.get_input_embeddings().weight.data *= 5  # they are the head, too: else no adapter can make a word likely
    model.save_pretrained(folder / "model")
    words.save_pretrained(folder / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONSAFEPATH": "1"}
    command = [python, str(HERE / "skyrl_server.py"), str(folder / "model"), str(port), str(folder)]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    os.environ.setdefault("TINKER_API_KEY", "tml-nobody-looks")
    os.environ["TINKER_TELEMETRY"] = "0"
    try:
        while server.poll() is None:
            with socket.socket() as there:
                if there.connect_ex(("127.0.0.1", port)) == 0:
                    break
        assert server.poll() is None, (folder / "log").read_text()
        yield f"http://127.0.0.1:{port}", folder / "model"
    finally:
        server.terminate()
        server.wait()


def to_train(url: str, model: str, rank: int = 8) -> TinkerPolicy:
    return TinkerPolicy.to_train(
        model, url=url, tokenizer=model, rank=rank, seed=0, max_new_tokens=4, template="plain"
    )  # fmt: skip


@pytest.fixture(scope="module")
def policy(service: Any) -> TinkerPolicy:
    return to_train(str(service[0]), str(service[1]))


@pytest.mark.slow
def test_at_a_service_turns_are_written_in_ids_with_their_log_probabilities(service: Any, policy: Any) -> None:
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(service[1])
    drawn = asyncio.run(policy.generate([Message(role="user", content="a b c")], Sampling(seed=3)))
    prompt, said = drawn["prompt_ids"], drawn["completion_ids"]
    assert prompt == policy.tokenizer.encode("a b c") and 1 <= len(said) <= 4
    assert said[-1] == policy.tokenizer.eos_token_id or drawn["finish_reason"] == "length"
    with torch.no_grad():  # the adapter is as good as none at the beginning
        logits = model(torch.tensor([[*prompt, *said]])).logits[0, len(prompt) - 1 : -1]
    right = logits.log_softmax(-1).gather(1, torch.tensor(said)[:, None])[:, 0]
    assert drawn["logprobs"] == pytest.approx(right.tolist(), abs=1e-4)
    again = asyncio.run(policy.generate([Message(role="user", content="a b c")], Sampling(seed=3)))
    assert again["completion_ids"] == said
    assert asyncio.run(policy.reference_logprobs([*prompt, *said]))[len(prompt) :] == pytest.approx(
        right.tolist(), abs=1e-4
    )


def said_to(policy: TinkerPolicy, text: str) -> Generation:
    return asyncio.run(policy.generate([Message(role="user", content=text)], Sampling(seed=1)))


@pytest.mark.slow
def test_at_a_service_the_advantage_of_a_turn_arrives_at_its_tokens(policy: Any) -> None:
    """The server says what each token's loss is: minus its advantage, where the policy is the one that drew."""
    policy.begin()
    played = []
    for rewards in ((1.0, 0.0), (0.0, 0.5)):
        calls = [
            PolicyCall(node, node, said_to(policy, text), Sampling())
            for node, text in (("write", "a b c"), ("check", "c b a"))
        ]
        signals = [TurnSignal(one, 0.0, kind=made.node) for one, made in zip(rewards, calls, strict=True)]
        played.append(Episode(ANY, {}, calls, signals, []))
    rows = credited_rows(played, settings(Path("unused")))
    assert len(rows) == 4 and len({abs(max(row.advantages, key=abs)) for row in rows}) == 2
    for loss in ("ppo", "importance_sampling", "cispo"):
        told = policy.learner.forward_backward([datum(row) for row in rows], loss).result().loss_fn_outputs
        for row, output in zip(rows, told, strict=True):
            factors = [1.0] * len(row.ids) if loss != "cispo" else row.logprobs  # cispo weighs log-probabilities
            wanted = [-one * factor for one, factor in zip(row.advantages, factors, strict=True)][1:]
            assert output["elementwise_loss"].tolist() == pytest.approx(wanted, abs=1e-5)
    policy.learner.optim_step(__import__("tinker").types.AdamParams(learning_rate=0.0)).result()


@pytest.mark.slow
def test_at_a_service_both_nodes_learn_what_each_of_them_is_paid_for(service: Any, tmp_path: Path) -> None:
    url, model = str(service[0]), str(service[1])
    policy = to_train(url, model)
    config = settings(tmp_path / "run", steps=12, episodes_per_problem=32, learning_rate=1e-2, save_every=12)
    done = trained(policy, config, reduction="mean")
    for node in ("write", "check"):
        rewards = [step[f"reward/{node}_1"] for step in done.steps]
        assert sum(rewards[-3:]) / 3 > sum(rewards[:2]) / 2 + 0.1, rewards  # by 0.2, when it was written
    assert done.steps[0]["logprob_gap"] < 1e-3 and done.steps[-1]["step"] == 12
    assert done.weights.startswith("tinker://")
    kept, _ = named_policy(f"tinker:{done.weights}@{url}?tokenizer={model}")
    greedy = Sampling(temperature=0, max_new_tokens=4)
    late, early = (
        asyncio.run(kept.generate([Message(role="user", content=text)], greedy))["text"] for text in ("a b c", "c b a")
    )
    assert place(late) > place(early)


KILLED = """
import os, runpy, signal, sys
from selfcorrect.files import StepLog
test = runpy.run_path(sys.argv[1])
url, model, out, file, step = sys.argv[2:]
append = StepLog.append
def dies(log, row):
    if (log.path.name, row["step"]) == (file, int(step)):
        os.kill(os.getpid(), signal.SIGKILL)
    append(log, row)
StepLog.append = dies
test["trained"](test["to_train"](url, model), test["resumable"](test["Path"](out)), reduction="mean")
"""


def resumable(path: Path) -> TurnPPOConfig:
    return settings(path, steps=4, episodes_per_problem=8, learning_rate=1e-2, save_every=2)


def told(steps: list[dict[str, float]]) -> list[dict[str, float]]:
    """The figures of steps without those of the clock."""
    return [{name: value for name, value in step.items() if "second" not in name} for step in steps]


@pytest.fixture(scope="module")
def uninterrupted(service: Any, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    url, model = str(service[0]), str(service[1])
    done = trained(to_train(url, model), resumable(tmp_path_factory.mktemp("whole") / "run"), reduction="mean")
    return told(done.steps)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "step"),
    [
        pytest.param("metrics.jsonl", 1, id="the first update is at the service, and not noted"),
        pytest.param("metrics.jsonl", 3, id="a later update is at the service, and not noted"),
        pytest.param("service.jsonl", 4, id="the service has saved, and its checkpoint is not noted"),
    ],
)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    service: Any, uninterrupted: list[dict[str, float]], tmp_path: Path, file: str, step: int
) -> None:
    url, model, out = str(service[0]), str(service[1]), tmp_path / "run"
    command = [sys.executable, "-c", KILLED, __file__, url, model, str(out), file, str(step)]
    support = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(HERE.parents[1] / "examples")])
    environment = {**os.environ, "PYTHONPATH": support}
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    policy = to_train(url, model)
    done = trained(policy, resumable(out), reduction="mean", resume=True)
    assert told(done.steps) == uninterrupted
    noted = [json.loads(line) for line in (out / "checkpoints" / "service.jsonl").read_text().splitlines()]
    assert [row["step"] for row in noted] == [0, 2, 4] and noted[0]["rank"] == 8
    assert all(row["state"].startswith("tinker://") for row in noted)


@pytest.mark.slow
def test_ctrl_c_finishes_the_step_and_the_same_policy_goes_on(
    service: Any, uninterrupted: list[dict[str, float]], tmp_path: Path
) -> None:
    def interrupting(state: Said, calls: list[PolicyCall]) -> list[float]:
        if not pressed:
            pressed.append(True)
            os.kill(os.getpid(), signal.SIGINT)
        return paid(state, calls)

    pressed: list[bool] = []
    policy, config = to_train(str(service[0]), str(service[1])), resumable(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        trained(policy, config, reduction="mean", reward_fn=interrupting)
    assert told(OwnRunDirectory(tmp_path / "run").read_metrics()) == uninterrupted[:1]
    done = trained(policy, config, reduction="mean", resume=True)
    assert told(done.steps) == uninterrupted
    again = trained(policy, config, reduction="mean", resume=True)  # there is nothing left to do
    assert told(again.steps) == uninterrupted
