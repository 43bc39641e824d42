"""What an engine computes otherwise is measured and put right: by hand, and in training on a server that is off."""

import asyncio
import copy
import math
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from fake_vllm import FakeVLLM
from peft import LoraConfig
from small_models import WORDS, llama, word_tokenizer
from small_trainer import trainer_of

from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policies.vllm_server import VLLMServer
from selfcorrect.agents.policies.vllm_training import Alone, VLLMServedPolicy
from selfcorrect.agents.policy import GREEDY
from selfcorrect.agents.state import Message
from selfcorrect.errors import ConfigurationError, PolicyError
from selfcorrect.settings import combine
from selfcorrect.training.engines import MismatchSettings, VLLMEngine
from selfcorrect.training.ppo.loss import mismatch_weights_BT
from selfcorrect.training.ppo.metrics import mismatch_metrics
from selfcorrect.training.runs.opening import open_policy, refuse_best
from selfcorrect.training.settings import PolicySettings, RunSettings

RATIOS = [[1.5, 4.0, 9.0, 0.5, 0.5], [0.25, 1.0, 9.0, 1.75, 9.0]]
"""Trainer / engine; 9 stands on context."""
TURNS = [[0, 0, -1, 1, 1], [2, 2, -1, 3, -1]]


def weights(by: Literal["truncate", "mask"], level: Any, low: float = 0.0, high: float = 2.0) -> list[list[float]]:
    rule = MismatchSettings(by=by, level=level, low=low, high=high)
    found = mismatch_weights_BT(torch.tensor(RATIOS).log(), torch.tensor(TURNS), rule)
    return [[round(value, 5) for value in row] for row in found.tolist()]


@pytest.mark.parametrize(
    ("by", "level", "low", "expected"),
    [
        ("truncate", "token", 0.0, [[1.5, 2, 1, 0.5, 0.5], [0.25, 1, 1, 1.75, 1]]),
        ("truncate", "token", 0.4, [[1.5, 2, 1, 0.5, 0.5], [0.4, 1, 1, 1.75, 1]]),
        ("mask", "token", 0.4, [[1.5, 0, 1, 0.5, 0.5], [0, 1, 1, 1.75, 1]]),
        # turns: 1.5 x 4 = 6, 0.5 x 0.5 = 0.25, 0.25 x 1 = 0.25, 1.75
        ("truncate", "turn", 0.0, [[2, 2, 1, 0.25, 0.25], [0.25, 0.25, 1, 1.75, 1]]),
        ("mask", "turn", 0.3, [[0, 0, 1, 0, 0], [0, 0, 1, 1.75, 1]]),
        # rows: 6 x 0.25 = 1.5, 0.25 x 1.75 = 0.4375
        ("truncate", "sequence", 0.0, [[1.5, 1.5, 1, 1.5, 1.5], [0.4375, 0.4375, 1, 0.4375, 1]]),
        ("mask", "sequence", 0.6, [[1.5, 1.5, 1, 1.5, 1.5], [0, 0, 1, 0, 1]]),
    ],
)
def test_ratios_are_cut_token_by_token_turn_by_turn_and_row_by_row(
    by: Literal["truncate", "mask"], level: str, low: float, expected: list[list[float]]
) -> None:
    assert weights(by, level, low) == expected


def test_the_bounds_themselves_are_kept_and_weights_are_numbers_of_the_log_probabilities() -> None:
    alike, turns_BT = torch.zeros(1, 2), torch.tensor([[0, 0]])
    for low, high in ((1.0, 2.0), (0.5, 1.0)):
        found = mismatch_weights_BT(alike, turns_BT, MismatchSettings(by="mask", level="token", low=low, high=high))
        assert found.tolist() == [[1.0, 1.0]] and found.dtype == alike.dtype


def test_a_product_that_no_number_can_hold_is_truncated_or_masked() -> None:
    log_ratio_BT, turns_BT = torch.full((1, 1000), 5.0), torch.zeros(1, 1000, dtype=torch.long)
    cut = [
        mismatch_weights_BT(log_ratio_BT, turns_BT, MismatchSettings(by=by, level="turn")).unique().tolist()
        for by in ("truncate", "mask")
    ]
    assert cut == [[2.0], [0.0]]


def test_truncated_at_infinity_the_expectation_is_the_trainers() -> None:
    """sum over mu of mu * w * f = sum over pi of pi * f."""
    mu, pi = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6])
    value = torch.tensor([1.0, -2.0, 3.0])
    rule = MismatchSettings(high=100.0)
    weights_BT = mismatch_weights_BT((pi / mu).log()[None], torch.zeros(1, 3, dtype=torch.long), rule)
    assert float((mu * weights_BT[0] * value).sum()) == pytest.approx(float((pi * value).sum()), abs=1e-6)


def test_the_quantiles_of_the_ratio_are_measured() -> None:
    ratios = torch.tensor([[0.5, 1.0, 1.0, 2.0, 9.0], [1.0, 1.0, 1.0, 1.0, 4.0]])
    sampled = torch.tensor([[True, True, True, True, False], [True] * 5])
    cut = mismatch_weights_BT(ratios.log(), torch.where(sampled, 0, -1), MismatchSettings())
    figures = mismatch_metrics(ratios.log(), cut, sampled)
    assert figures["mismatch/min"] == pytest.approx(0.5) and figures["mismatch/max"] == pytest.approx(4.0)
    assert figures["mismatch/q50"] == pytest.approx(1.0) and figures["mismatch/q90"] == pytest.approx(2.0)
    assert figures["mismatch/kl"] == pytest.approx(-math.log(0.5 * 2 * 4) / 9)
    assert figures["mismatch/nats"] == pytest.approx((2 * math.log(2) + math.log(4)) / 9)
    assert figures["mismatch/cut"] == pytest.approx(1 / 9)  # the 4, which becomes 2


# What a trainer makes of it.


def served(tmp_path: Path, off_by: float, **settings: Any) -> tuple[Any, Any, FakeVLLM]:
    tokenizer = word_tokenizer([*WORDS, *map(str, range(30, 100))], pad_token="<pad>")
    model = llama(len(tokenizer))
    server = FakeVLLM(model, tokenizer, [{"id": "small"}], takes=["adapters"])
    policy = VLLMServedPolicy(
        copy.deepcopy(model),
        tokenizer,
        server=VLLMServer("http://server/v1", transport=server),
        adapters=True,
        max_new_tokens=3,
        concurrency=8,
    )
    with policy.pinned():  # the probe of the base wants it as it is
        server.off_by = off_by
    lora = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear")
    chosen = {"problems_per_step": 2, "episodes_per_problem": 2, **settings}
    trainer, log = trainer_of(policy, tmp_path, peft_config=lora, **chosen)
    return trainer, log, server


@pytest.mark.slow
def test_a_trainer_plays_on_the_server_with_the_weights_of_every_step(tmp_path: Path) -> None:
    trainer, log, server = served(tmp_path, 0.0, steps=3)
    trainer.train()
    played = [body for body in server.asked if body["temperature"] == 1.0]
    names = [body["model"] for body in played]
    assert sorted(names) == names and len(set(names)) == 3, "every update goes over before the next step is played"
    assert len(played) == sum(step["draws"] for step in log.steps)
    for step in log.steps:
        # Stale weights would be off by what the update moved, which here is much more than rounding.
        assert step["mismatch/nats"] < 1e-4 and step["mismatch/cut"] == 0.0
        assert step["ratio_deviation"] < 1e-4


@pytest.mark.slow
def test_an_update_moves_more_than_rounding_so_that_stale_weights_would_show(tmp_path: Path) -> None:
    trainer, log, _ = served(tmp_path, 0.0, steps=3, learning_rate=0.05)
    trainer._policy.settle()  # the server is given no update
    trainer.train()
    assert log.steps[-1]["mismatch/nats"] > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mismatch", "ratio", "cut"),
    [
        ("auto", math.exp(-0.4), 0.0),
        (MismatchSettings(by="mask", low=0.9, high=1.1), math.exp(-0.4), 1.0),
        (None, None, None),
    ],
)
def test_a_server_whose_log_probabilities_are_off_is_measured_and_put_right(
    tmp_path: Path, mismatch: Any, ratio: float | None, cut: float | None
) -> None:
    trainer, log, _ = served(tmp_path, 0.4, steps=1, mismatch=mismatch)
    trainer.train()
    (step,) = log.steps
    if ratio is None:  # the engine's are taken for the trainer's, and the ratio of the loss is off
        assert "mismatch/q50" not in step
        assert step["ratio_deviation"] == pytest.approx(1 - math.exp(-0.4), abs=1e-3)
        return
    assert step["mismatch/q50"] == pytest.approx(ratio, abs=1e-3) and step["mismatch/cut"] == cut
    assert step["ratio_deviation"] < 1e-4
    assert (step["grad_norm"] == 0) == (cut == 1.0), "all masked: nothing to learn"


@pytest.mark.slow
def test_the_next_batch_is_played_by_the_weights_before_this_ones_update(tmp_path: Path) -> None:
    trainer, log, server = served(tmp_path, 0.0, steps=4, learning_rate=0.02, play_ahead=True, shuffled=True)
    trainer.train()
    names = [body["model"] for body in server.asked if body["temperature"] == 1.0]
    ends = [sum(int(step["draws"]) for step in log.steps[: count + 1]) for count in range(4)]
    by_step = [set(names[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)]
    assert [{name.rpartition("-")[2] for name in used} for used in by_step] == [{"1"}, {"1"}, {"2"}, {"3"}]
    assert log.steps[0]["mismatch/nats"] < 1e-4, "the first batch is by its own weights"
    assert all(step["mismatch/nats"] > 1e-3 for step in log.steps[1:] if step["grad_norm"] > 0)
    assert all(step["ratio_deviation"] < 1e-4 for step in log.steps), "the clip is against the trainer's own"


@pytest.mark.slow
def test_what_is_played_ahead_is_what_would_have_been_played(tmp_path: Path) -> None:
    """Without a rate of learning the weights stay, and so does every token."""
    drawn = []
    for ahead in (False, True):
        trainer, log, server = served(
            tmp_path / str(ahead), 0.0, steps=3, learning_rate=1e-12, play_ahead=ahead, shuffled=True
        )
        trainer.train()
        asked = [body for body in server.asked if body["temperature"] == 1.0]
        drawn.append(sorted((body["seed"], body["prompt"]) for body in asked))
        assert len(log.steps) == 3
    assert drawn[0] == drawn[1]


def test_playing_ahead_without_a_server_that_keeps_older_weights_is_refused(tmp_path: Path) -> None:
    tokenizer = word_tokenizer(WORDS, pad_token="<pad>")
    policy = TransformersPolicy(llama(len(tokenizer)), tokenizer)
    with pytest.raises(ConfigurationError, match="play_ahead plays while the model is trained: it takes policy.engine"):
        trainer_of(policy, tmp_path, play_ahead=True)


def test_playing_ahead_of_an_order_that_is_not_known_is_refused(tmp_path: Path) -> None:
    trainer, _, _ = served(tmp_path, 0.0, play_ahead=True)
    with pytest.raises(ConfigurationError, match="in the order given: shuffled=True"):
        trainer.train()


# What has no effect is refused.


def test_a_correction_without_an_engine_of_its_own_is_refused(tmp_path: Path) -> None:
    tokenizer = word_tokenizer(WORDS, pad_token="<pad>")
    policy = TransformersPolicy(llama(len(tokenizer)), tokenizer)
    with pytest.raises(ConfigurationError, match="optimiser.mismatch corrects what an engine .* leave it away"):
        trainer_of(policy, tmp_path, mismatch=MismatchSettings())


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"optimiser": {"mismatch": {"by": "mask"}}}, "with policy.engine transformers the model that learns"),
        ({"policy": {"engine": "vllm", "decoding": "static"}}, "policy.decoding is how transformers decodes"),
        ({"policy": {"engine": "vllm"}, "optimiser": {"temperature": 0.7}}, "--logprobs-mode processed_logprobs"),
        ({"policy": {"engine": "vllm"}, "optimiser": {"mismatch": {"low": 1.5}}}, "the ratio 1"),
        ({"optimiser": {"play_ahead": True, "mismatch": None}}, "play_ahead needs `mismatch`"),
        ({"policy": {"engine": {"kind": "vllm-colocate", "url": "http://x"}}}, "url: unknown"),
        ({"policy": {"engine": "sglang"}}, "engine.kind: expected one of 'transformers', 'vllm', 'vllm-colocate'"),
    ],
)
def test_settings_that_do_not_go_with_the_engine_are_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        combine(RunSettings(), changes, {}, source="here")


def test_an_engine_can_be_named_by_its_kind_alone() -> None:
    assert PolicySettings(engine="vllm").engine == PolicySettings(engine={"kind": "vllm"}).engine


def test_arms_that_sample_with_transformers_refuse_an_engine() -> None:
    with pytest.raises(ConfigurationError, match="star samples with transformers: policy.engine vllm is for the arms"):
        refuse_best(RunSettings(policy=PolicySettings(engine="vllm")), "star")


def test_processes_take_turns_at_servers_and_the_first_of_each_gives_it_the_weights() -> None:
    one, two = VLLMEngine(url="http://a/v1"), VLLMEngine(url=["http://a/v1", "http://b/v1"])
    assert [one.asked_by(rank, 3) for rank in range(3)] == [
        ("http://a/v1", True), ("http://a/v1", False), ("http://a/v1", False)
    ]  # fmt: skip
    assert [two.asked_by(rank, 3) for rank in range(3)] == [
        ("http://a/v1", True), ("http://b/v1", True), ("http://a/v1", False)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (["http://a/v1", "http://b/v1"], "has 2 servers for 1 processes"),
        (["http://a/v1", "http://a/v1"], "names a server twice"),
    ],
)
def test_servers_that_nobody_would_ask_are_refused(monkeypatch: pytest.MonkeyPatch, url: list[str], words: str) -> None:
    if "twice" in words:
        monkeypatch.setenv("WORLD_SIZE", "2")
    settings = PolicySettings(engine=VLLMEngine(url=url))
    with pytest.raises(ConfigurationError, match=words):
        open_policy(settings, engine=settings.engine)


class TwoProcesses(Alone):
    def count(self) -> int:
        return 2


def test_weights_that_the_other_processes_were_not_told_of_play_nothing() -> None:
    tokenizer = word_tokenizer(WORDS, pad_token="<pad>")
    server = FakeVLLM(llama(len(tokenizer)), tokenizer, [{"id": "small"}])
    policy = VLLMServedPolicy(
        copy.deepcopy(server.model), tokenizer, server=VLLMServer("http://server/v1", transport=server), adapters=True,
        processes=TwoProcesses(),
    )  # fmt: skip
    ask = policy.generate([Message(role="user", content="3 5 get 8 :")], GREEDY)
    with pytest.raises(PolicyError, match=r"call policy.hand_over\(\) in every process"):
        asyncio.run(ask)
    policy.hand_over()
    assert asyncio.run(policy.generate([Message(role="user", content="3 5 get 8 :")], GREEDY))["completion_ids"]


def test_a_colocated_engine_without_vllm_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vllm", None)
    settings = PolicySettings(engine="vllm-colocate")
    with pytest.raises(PolicyError, match="pip install vllm"):
        open_policy(settings, engine=settings.engine)
