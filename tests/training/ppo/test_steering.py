"""What is steered while training: which calls learn, the KL and entropy coefficients, the optimiser between stages."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from small_trainer import LikesPlus, trainer_on, weights
from toy_policy import PROBLEM, call
from transformers import TrainerCallback

from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.checker import Status, Verdict
from selfcorrect.training.ppo.advantages import normalised_by_role
from selfcorrect.training.ppo.batching import call_table
from selfcorrect.training.ppo.config import CriticConfig, OptimiserSettings, OverlongSettings, TurnPPOConfig
from selfcorrect.training.ppo.controllers import Controllers, rate_of_stages
from selfcorrect.training.ppo.metrics import (
    calls_without_baseline,
    dropped,
    has_spread_C,
    share_without_spread,
    with_lengths,
)
from selfcorrect.training.ppo.objectives import StageOne, TurnSignal
from selfcorrect.training.ppo.rollouts import Episode

# Controllers.


def test_the_kl_factor_rises_above_the_target_and_falls_below_it() -> None:
    """Ziegler et al.: the relative error, clipped to a fifth, times the gain."""
    steering = Controllers(OptimiserSettings(kl_target=0.1, kl_gain=0.5))
    steering.observe_kl(0.11)
    assert steering.kl_factor == pytest.approx(1 + 0.5 * 0.1)
    steering.observe_kl(9.0)
    assert steering.kl_factor == pytest.approx(1.05 * 1.1)
    for _ in range(200):
        steering.observe_kl(0.0)
    assert 0 < steering.kl_factor < 1e-3


def test_a_loop_of_policy_and_controller_settles_at_the_target() -> None:
    """A policy whose KL is 1 / beta: the factor that holds it at the target is found from either side."""
    for start in (0.1, 10.0):
        steering = Controllers(OptimiserSettings(kl_target=0.5))
        steering.kl_factor = start
        for _ in range(1500):
            steering.observe_kl(1 / steering.kl_factor)
        assert 1 / steering.kl_factor == pytest.approx(0.5, rel=0.02)


def test_the_entropy_bonus_moves_towards_its_target_and_never_below_nothing() -> None:
    steering = Controllers(OptimiserSettings(entropy=0.01, entropy_target=1.0, entropy_gain=0.004))
    steering.observe_entropy(0.5)
    assert steering.entropy_coefficient == pytest.approx(0.014)
    for _ in range(5):
        steering.observe_entropy(2.0)
    assert steering.entropy_coefficient == 0.0


def test_without_targets_nothing_moves() -> None:
    steering = Controllers(OptimiserSettings(entropy=0.01))
    steering.observe_kl(99.0)
    steering.observe_entropy(0.0)
    assert (steering.kl_factor, steering.entropy_coefficient) == (1.0, 0.01)


@pytest.mark.slow
def test_an_entropy_target_keeps_a_policy_from_collapsing(tiny_model_folder: Path, tmp_path: Path) -> None:
    shared = {"steps": 20, "problems_per_step": 8, "episodes_per_problem": 4, "learning_rate": 2e-2}
    free, free_log = trainer_on(tiny_model_folder, tmp_path / "free", **shared)
    held, held_log = trainer_on(tiny_model_folder, tmp_path / "held", entropy_target=10.0, entropy_gain=0.2, **shared)
    free.train()
    held.train()
    assert held_log.steps[-1]["entropy"] > free_log.steps[-1]["entropy"] + 0.2
    assert held_log.steps[-1]["entropy_coefficient"] > 0


def test_a_kl_target_raises_the_kl_coefficients_of_a_policy_that_runs_away(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    trainer, log = trainer_on(tiny_model_folder, tmp_path, steps=6, learning_rate=2e-2, kl_target=1e-4, kl_gain=1.0)
    trainer.train()
    factors = [step["kl_factor"] for step in log.steps]
    assert factors[0] == 1.0 and factors[-1] > 1.5


@pytest.mark.slow
def test_controllers_are_kept_in_checkpoints(tiny_model_folder: Path, tmp_path: Path) -> None:
    settings = {"learning_rate": 2e-2, "kl_target": 1e-4, "kl_gain": 1.0, "save_every": 2}
    whole, whole_log = trainer_on(tiny_model_folder, tmp_path / "whole", steps=4, **settings)
    whole.train()
    again, again_log = trainer_on(tiny_model_folder, tmp_path / "whole", steps=4, **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert [step["kl_factor"] for step in again_log.steps] == [step["kl_factor"] for step in whole_log.steps[2:]]


# Stages.


def test_the_rate_begins_anew_with_every_stage_by_hand() -> None:
    rate = rate_of_stages([4, 5], warmup=1, decays=True)
    assert [rate(update) for update in range(9)] == pytest.approx([0, 1, 2 / 3, 1 / 3, 0, 1, 3 / 4, 2 / 4, 1 / 4])
    level = rate_of_stages([2, 2], warmup=0, decays=False)
    assert [level(update) for update in range(4)] == [1.0] * 4


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 3))
def test_the_rate_stays_between_nothing_and_its_highest(stages: list[int], warmup: int) -> None:
    rate = rate_of_stages(stages, warmup=warmup, decays=True)
    assert all(0 <= rate(update) <= 1 for update in range(sum(stages) + 2))


class Moments(TrainerCallback):  # type: ignore[misc]
    """How many steps Adam's oldest moment has seen, and the rate, at the end of each step."""

    def __init__(self) -> None:
        self.ages: list[int] = []
        self.rates: list[float] = []

    def on_step_end(
        self, args: Any, state: Any, control: Any, optimizer: Any = None, lr_scheduler: Any = None, **_: Any
    ) -> None:
        inner = getattr(optimizer, "optimizer", optimizer)
        self.ages.append(max(int(moments["step"]) for moments in inner.state.values()))
        self.rates.append(round(lr_scheduler.get_last_lr()[0], 9))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("switch", "ages", "rates"),
    [
        ("carry", [1, 2, 3, 4], [0.75, 0.5, 0.25, 0.0]),
        ("reset", [1, 2, 1, 2], [0.75, 0.5, 0.25, 0.0]),
        ("restart", [1, 2, 1, 2], [0.5, 1.0, 0.5, 0.0]),
    ],
)
def test_what_happens_to_the_optimiser_where_a_stage_begins(
    tiny_model_folder: Path, tmp_path: Path, switch: str, ages: list[int], rates: list[float]
) -> None:
    trainer, _ = trainer_on(
        tiny_model_folder, tmp_path, steps=4, stages=[2, 2], stage_switch=switch, learning_rate_decay=True
    )
    seen = Moments()
    trainer.add_callback(seen)
    trainer.train()
    assert seen.ages == ages
    assert seen.rates == pytest.approx([rate * 1e-3 for rate in rates])


# Which calls learn.


def episode_of(problem: str, rewards: list[float | None], *, cut: tuple[int, ...] = (), length: int = 2) -> Episode:
    tokens = [0] * length
    logprobs = torch.zeros(length)
    calls = [call([7], tokens, logprobs) for _ in rewards]
    for index in cut:
        calls[index].generation["finish_reason"] = "length"
    signals = [TurnSignal(reward, 0.1, kind=f"answer {k + 1}") for k, reward in enumerate(rewards)]
    return Episode(PROBLEM.model_copy(update={"id": problem}), {}, calls, signals, list(rewards))


def test_turns_that_were_cut_off_do_not_learn_but_are_compared_with() -> None:
    (masked,) = with_lengths([episode_of("a", [1.0, 0.0], cut=(1,))], truncated="mask", overlong=None)
    assert [signal.learns for signal in masked.signals] == [True, False]
    assert [signal.reward for signal in masked.signals] == [1.0, 0.0]
    (learnt,) = with_lengths([episode_of("a", [1.0, 0.0], cut=(1,))], truncated="learn", overlong=None)
    assert all(signal.learns for signal in learnt.signals)


def test_long_turns_are_paid_less_and_unpaid_ones_stay_unpaid() -> None:
    overlong = OverlongSettings(limit=4, buffer=4)
    (paid,) = with_lengths([episode_of("a", [1.0, None], length=3)], truncated="learn", overlong=overlong)
    assert [signal.reward for signal in paid.signals] == [0.25, None]


def test_a_problem_has_spread_where_any_turn_was_paid_differently() -> None:
    episodes = [
        *[episode_of("same", [1.0, 0.0]) for _ in range(2)],
        episode_of("second differs", [1.0, 0.0]),
        episode_of("second differs", [1.0, 1.0]),
        *[episode_of("unknown", [None, 1.0]) for _ in range(2)],
    ]
    table = call_table(episodes)
    assert has_spread_C(table).tolist() == [False] * 4 + [True] * 4 + [False] * 4
    assert share_without_spread(episodes) == pytest.approx(2 / 3)
    learns = [[signal.learns for signal in episode.signals] for episode in dropped(episodes, table)]
    assert learns == [[False, False]] * 2 + [[True, True]] * 2 + [[False, False]] * 2


def test_turns_differ_by_turn_not_within_an_episode() -> None:
    """1 for every first and 0 for every second answer is no spread: nothing is compared across turns."""
    assert not bool(has_spread_C(call_table([episode_of("a", [1.0, 0.0]), episode_of("a", [1.0, 0.0])])).any())


def test_what_is_imitated_teaches_without_comparison() -> None:
    """Equal weights for all right answers are not "all were paid the same"; a weight of 0 teaches nothing."""

    def imitated(problem: str, rewards: list[float | None]) -> Episode:
        episode = episode_of(problem, rewards)
        episode.signals = [replace(signal, imitates=True) for signal in episode.signals]
        return episode

    learnt = [imitated("learnt", [None, 1.0]) for _ in range(2)]
    others = [*[imitated("zero", [0.0, None]) for _ in range(2)], imitated("unknown", [None, None])]
    table = call_table(learnt + others)
    assert has_spread_C(table).tolist() == [True] * 4 + [False] * 6
    assert share_without_spread(learnt) == 0 and share_without_spread(others) == 1
    assert [signal.learns for episode in dropped(learnt, call_table(learnt)) for signal in episode.signals] == [
        True
    ] * 4
    assert calls_without_baseline(call_table(learnt[:1])) == 0
    assert calls_without_baseline(call_table([episode_of("a", [None, 1.0])])) == 1


@dataclass(frozen=True)
class LikesEasyProblems(LikesPlus):
    """Every answer to a problem whose target is even is right; others depend on the answer."""

    def check_sync(self, response: str, reference: Any, *, problem: Any = None) -> Verdict:
        return Verdict(Status.CORRECT) if reference["target"] % 2 == 0 else super().check_sync(response, reference)

    async def check(self, response: str, reference: Any, *, problem: Any = None) -> Verdict:
        return self.check_sync(response, reference)


def test_problems_without_spread_are_dropped_and_their_share_is_logged(tiny_model_folder: Path, tmp_path: Path) -> None:
    trainer, log = trainer_on(tiny_model_folder, tmp_path, steps=1, checker=LikesEasyProblems(), no_spread="drop")
    trainer.train()
    idle = {episode.problem.id for episode in trainer.last_episodes if not any(s.learns for s in episode.signals)}
    assert idle and log.steps[0]["dropped"] == len(idle) / 4


@pytest.mark.slow
def test_problems_without_spread_make_room_for_others(tiny_model_folder: Path, tmp_path: Path) -> None:
    shared = {"steps": 1, "checker": LikesEasyProblems()}
    plain, _ = trainer_on(tiny_model_folder, tmp_path / "plain", **shared)
    plain.train()
    trainer, log = trainer_on(tiny_model_folder, tmp_path / "again", no_spread="resample", resample_rounds=6, **shared)
    trainer.train()
    assert len(trainer.last_episodes) == len(plain.last_episodes) == 16
    assert share_without_spread(plain.last_episodes) == log.steps[0]["no_signal"] > 0
    assert share_without_spread(trainer.last_episodes) == 0
    assert log.steps[0]["resampled"] > 0
    kept = [
        episode
        for episode in trainer.last_episodes
        if episode.problem.id in {e.problem.id for e in plain.last_episodes}
    ]
    assert kept, "what had spread is still there"
    groups: dict[str, int] = {}
    for episode in trainer.last_episodes:
        groups[episode.problem.id] = groups.get(episode.problem.id, 0) + 1
    assert set(groups.values()) == {4}
    played = sum(len(c.generation["completion_ids"]) for e in trainer.last_episodes for c in e.calls)
    assert log.steps[0]["tokens"] > played, "what was thrown away was paid for too"


@pytest.mark.slow
def test_value_pretraining_moves_the_critic_alone(tiny_model_folder: Path, tmp_path: Path) -> None:
    critic = CriticConfig(learning_rate=1e-2, pretraining=2)
    trainer, log = trainer_on(tiny_model_folder, tmp_path, steps=2, critic=critic)
    before = weights(trainer)
    trainer.train()
    assert all(step["value_loss"] > 0 for step in log.steps)
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(trainer).items())
    longer, _ = trainer_on(tiny_model_folder, tmp_path / "longer", steps=3, critic=critic)
    before = weights(longer)
    longer.train()
    assert any(not torch.equal(before[name], tensor) for name, tensor in weights(longer).items())


@pytest.mark.slow
@pytest.mark.parametrize("level", ["token", "turn"])
def test_a_critic_across_turns_raises_what_comes_later(tiny_model_folder: Path, tmp_path: Path, level: Any) -> None:
    """Only the second answer is paid; the first turn learns of it by the discount between turns alone."""
    critic = CriticConfig(level=level, learning_rate=1e-2, turn_discount=1.0, turn_trace=1.0)
    trainer, log = trainer_on(
        tiny_model_folder,
        tmp_path,
        objective=StageOne(beta1=0.0, beta2=0.0),
        steps=20,
        problems_per_step=16,
        learning_rate=1e-2,
        critic=critic,
        kl=False,
    )
    trainer.train()
    assert log.steps[-1]["accuracy_t2"] > log.steps[0]["accuracy_t2"] + 0.2


# Normalising over all processes.


def test_roles_are_normalised_over_all_processes() -> None:
    """Two processes with half of the calls each get what one with all of them would, though they number roles
    differently."""
    advantages = torch.tensor([1.0, 2.0, 3.0, 7.0, 5.0, 0.0])
    names = ["answer", "critique", "answer", "critique", "answer", "critique"]
    numbers = torch.tensor([0, 1, 0, 1, 0, 1])
    counted = torch.tensor([True, True, True, True, True, False])
    whole = normalised_by_role(advantages, numbers, counted)
    halves = [slice(0, 3), slice(3, 6)]
    orders = [("answer", "critique"), ("critique", "answer")]
    told: list[Any] = []

    def normalised(number: int, gather: Any) -> torch.Tensor:
        half, roles = halves[number], orders[number]
        own = torch.tensor([roles.index(name) for name in names[half]])
        return normalised_by_role(advantages[half], own, counted[half], names=roles, gather=gather)

    def tell(mine: Any) -> Any:
        told.append(mine)
        return [mine]

    for number in range(2):
        normalised(number, tell)
    parts = [normalised(number, lambda mine: told) for number in range(2)]
    torch.testing.assert_close(torch.cat(parts), whole)


# Settings without effect.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dual_clip": 3.0, "surrogate": "cispo"}, "CISPO has no clip"),
        ({"kl_target": 0.1, "kl": False}, "needs kl"),
        ({"stage_switch": "reset"}, "one stage"),
        ({"dual_clip": 0.5}, "greater than 1"),
        ({"credit": {"kind": "outcome"}, "critic": CriticConfig()}, "takes the place of credit outcome"),
        ({"credit": {"kind": "mt_grpo"}, "baseline": "none"}, "would have no effect"),
    ],
)
def test_a_setting_without_effect_is_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigurationError, ValidationError), match=message):
        TurnPPOConfig(**({"output_dir": tmp_path, "steps": 1} | settings))
